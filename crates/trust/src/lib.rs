//! Who speaks: certificates, roles, and what each role may ask for.
//!
//! ```text
//! certificate ─▶ identity: one name, its roles ─▶ methods: path x role ─▶ yes or no
//! ```
//!
//! # Invariants
//!
//! * It knows nothing of rollouts, and decides nothing but who may ask.
//! * Beyond one machine nothing is said without TLS 1.3 and a certificate on both sides.
//! * What is in no table is allowed to nobody.

mod authority;
mod client;
mod denied;
mod files;
mod identity;
mod methods;
mod server;
mod stream;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use authority::{Authority, AuthorityError, Holder, Issued};
pub use client::{Road, UrlError, check_url};
pub use files::{Files, TrustError};
pub use identity::{Identity, IdentityError, Role, is_name};
pub use methods::{METHODS, PAGES, asked_for, callers_of, may_call, may_see, seen_by};
pub use server::{Entrance, Guest};
pub use stream::Stream;

/// What computes for TLS.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
