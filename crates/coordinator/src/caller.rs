//! Caller: who asks, and what they may.
//!
//! # Invariants
//!
//! * Where certificates are shown, nobody is believed any other name than theirs says.
//! * Whoever's certificate is revoked while they are connected may do nothing more.
//! * Without certificates only this machine is served, and whoever is on it may do everything.

use std::sync::Arc;
use std::time::SystemTime;

use tidegate_trust::{
    Guest, Identity, IdentityError, Role, callers_of, may_call, may_see, seen_by,
};
use tonic::Request;
use tonic::codegen::http;

use crate::refused::Refused;
use crate::serve::Peer;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// Somebody on this machine, without a certificate.
    Local,
    /// The holder of a certificate.
    Known(Arc<Guest>),
    /// The holder of a certificate of our authority that gives no role.
    Nobody(Arc<IdentityError>),
}

/// Whose certificate a request shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The name under which they act.
    pub name: String,
    /// The names of their roles.
    pub roles: Vec<&'static str>,
}

impl Shown {
    /// What the sender of a request with these extensions has shown; nothing from this machine,
    /// where nobody shows any.
    pub fn by(sender: &http::Extensions) -> Option<Self> {
        match sender.get::<Peer>()?.caller() {
            Caller::Local => None,
            Caller::Known(guest) => Some(Self {
                name: guest.identity().name().to_owned(),
                roles: guest.identity().roles().map(Role::name).collect(),
            }),
            Caller::Nobody(_) => Some(Self { name: String::new(), roles: Vec::new() }),
        }
    }
}

impl Caller {
    /// Who sent `request`. Nobody comes to a service over the network without having been noted
    /// at its turnstile; whoever drives it without a network is on this machine.
    pub(crate) fn of<T>(request: &Request<T>) -> Self {
        let peer = request.extensions().get::<Peer>();
        peer.map_or(Self::Local, |peer| peer.caller().clone())
    }

    /// Whether the method with this path is for them.
    ///
    /// # Errors
    ///
    /// [`Refused::NotAllowed`].
    pub(crate) fn may_call(&self, path: &str) -> Result<(), Refused> {
        self.may(
            |identity| may_call(identity, path),
            || match callers_of(path) {
                roles if roles.is_empty() => "there is no such method".to_owned(),
                roles => format!("it is for: {roles}"),
            },
        )
    }

    /// Whether the page with this path is for them, to read it or to send something to it.
    ///
    /// # Errors
    ///
    /// [`Refused::NotAllowed`].
    pub(crate) fn may_see(&self, path: &str, sends: bool) -> Result<(), Refused> {
        let may = |identity: &Identity| may_see(identity, path, sends);
        self.may(may, || match seen_by(path, sends) {
            roles if roles.is_empty() => "the page is for others".to_owned(),
            roles => format!("it is for: {roles}"),
        })
    }

    /// Whether they are the worker of the node called `node`.
    ///
    /// # Errors
    ///
    /// [`Refused::NotAllowed`].
    pub(crate) fn works_for(&self, node: &str) -> Result<(), Refused> {
        self.may(
            |identity| identity.has(Role::Worker) && identity.name() == node,
            || "the certificate is another node's".to_owned(),
        )
    }

    /// Whether they are the exchanger called `name`.
    ///
    /// # Errors
    ///
    /// [`Refused::NotAllowed`].
    pub(crate) fn is_exchanger(&self, name: &str) -> Result<(), Refused> {
        self.may(
            |identity| identity.has(Role::Exchanger) && identity.name() == name,
            || "the certificate is another exchanger's".to_owned(),
        )
    }

    /// Under which name they act: that of their certificate, or the one they give where
    /// nobody shows any.
    pub(crate) fn acts_as(&self, given: String) -> String {
        match self {
            Self::Known(guest) => guest.identity().name().to_owned(),
            Self::Local | Self::Nobody(_) => given,
        }
    }

    /// Who they are and what they may, for the record.
    pub(crate) fn on_record(&self) -> (&str, Vec<&'static str>) {
        match self {
            Self::Local => ("local", Vec::new()),
            Self::Known(guest) => {
                let identity = guest.identity();
                (identity.name(), identity.roles().map(Role::name).collect())
            }
            Self::Nobody(_) => ("nobody", Vec::new()),
        }
    }

    /// Whether what is dear needs somebody else's leave besides: where certificates tell people
    /// apart.
    pub(crate) fn needs_second(&self) -> bool {
        match self {
            Self::Known(_) | Self::Nobody(_) => true,
            Self::Local => false,
        }
    }

    /// Whether their certificate has run out, or is believed no more.
    pub(crate) fn must_go(&self, now: SystemTime) -> bool {
        match self {
            Self::Known(guest) => guest.must_go(now),
            Self::Local | Self::Nobody(_) => false,
        }
    }

    fn may(
        &self,
        is_right: impl Fn(&Identity) -> bool,
        why: impl Fn() -> String,
    ) -> Result<(), Refused> {
        match self {
            Self::Local => Ok(()),
            Self::Known(guest) if guest.is_denied() => {
                let who = guest.identity().name().to_owned();
                let why = IdentityError::Revoked.to_string();
                Err(Refused::NotAllowed { who, why })
            }
            Self::Known(guest) if is_right(guest.identity()) => Ok(()),
            Self::Known(guest) => {
                let identity = guest.identity();
                let roles: Vec<&str> = identity.roles().map(Role::name).collect();
                let who = format!("{} ({})", identity.name(), roles.join(", "));
                Err(Refused::NotAllowed { who, why: why() })
            }
            Self::Nobody(error) => {
                let who = "whoever holds this certificate".to_owned();
                Err(Refused::NotAllowed { who, why: error.to_string() })
            }
        }
    }
}
