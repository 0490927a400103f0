//! Server: who comes in shows a certificate first.
//!
//! # Invariants
//!
//! * TLS 1.3 and nothing older; without a certificate of our authority nobody comes in.
//! * A session is never resumed: every connection shows its certificate anew.
//! * A certificate that is denied meanwhile is believed no more on connections that are open.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::denied::{Denied, Marks};
use crate::files::{Files, Rotating, TrustError};
use crate::identity::{Identity, IdentityError};
use crate::provider;
use crate::stream::Stream;

/// The way in.
#[derive(Clone)]
pub struct Entrance {
    newest: Arc<Rotating<Newest>>,
}

struct Newest {
    config: Arc<ServerConfig>,
    trust_domain: String,
    denied: Denied,
}

/// Somebody who came in, with a certificate that may be denied or run out while they are here.
#[derive(Clone)]
pub struct Guest {
    identity: Identity,
    marks: Marks,
    entrance: Entrance,
}

impl Guest {
    /// Who they are.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether their certificate is believed no more. A small file is read here now and then.
    pub fn is_denied(&self) -> bool {
        self.entrance.newest.get().denied.has(&self.marks)
    }

    /// Whether their certificate has run out or is believed no more.
    pub fn must_go(&self, now: SystemTime) -> bool {
        self.identity.has_ended(now) || self.is_denied()
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guest").field(&self.identity).finish()
    }
}

impl Entrance {
    /// An entrance whose certificate lies in `files`.
    ///
    /// # Errors
    ///
    /// When they cannot be used.
    pub fn new(files: Files) -> Result<Self, TrustError> {
        Ok(Self { newest: Arc::new(Rotating::new(files, newest)?) })
    }

    /// Lets somebody in who has a certificate, and says who it is; or why their certificate
    /// speaks for nobody.
    ///
    /// # Errors
    ///
    /// When there is no certificate of our authority, or no TLS 1.3.
    pub async fn let_in(
        &self,
        tcp: TcpStream,
    ) -> io::Result<(Stream, Result<Guest, IdentityError>)> {
        let newest = self.newest.get();
        let acceptor = TlsAcceptor::from(Arc::clone(&newest.config));
        let tls = acceptor.accept(tcp).await?;
        let (_, session) = tls.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate.ok_or(io::ErrorKind::PermissionDenied)?;
        let marks = Marks::of(certificate);
        let guest = if newest.denied.has(&marks) {
            Err(IdentityError::Revoked)
        } else {
            let identity = Identity::of_certificate(certificate, &newest.trust_domain);
            let entrance = self.clone();
            identity.map(|identity| Guest { identity, marks, entrance })
        };
        Ok((Stream::Secure(Box::new(tls.into())), guest))
    }
}

fn newest(files: &Files) -> Result<Newest, TrustError> {
    let material = files.read()?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(material.authorities, provider())
            .build()
            .map_err(|source| TrustError::Authorities {
                path: files.ca.clone(),
                source,
            })?;
    let unfit = |source| TrustError::Unfit { path: files.certificate.clone(), source };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unfit)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(material.chain, material.key)
        .map_err(unfit)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let (trust_domain, denied) = (material.trust_domain, material.denied);
    Ok(Newest { config: Arc::new(config), trust_domain, denied })
}
