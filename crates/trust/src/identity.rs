//! Identity: who somebody is, as their certificate says.
//!
//! ```text
//! spiffe://TRUST-DOMAIN/coordinator          spiffe://TRUST-DOMAIN/worker/NODE
//! spiffe://TRUST-DOMAIN/exchanger/NAME       spiffe://TRUST-DOMAIN/viewer[/NAME]
//! spiffe://TRUST-DOMAIN/desk[/NAME]          spiffe://TRUST-DOMAIN/operator/NAME
//! spiffe://TRUST-DOMAIN/approver/NAME
//! ```
//!
//! # Invariants
//!
//! * A certificate speaks for one: for a person with any of a person's roles, for a node's
//!   worker, for an exchanger, or for the coordinator.
//! * A URI of our trust domain that is not understood spoils the whole certificate.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, SystemTime};

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What begins the names of all who speak.
const SCHEME: &str = "spiffe://";

/// Names in certificates are at most as long as those of nodes and people elsewhere.
const NAME_BYTES_MAX: usize = 128;

/// What somebody may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The coordinator itself.
    Coordinator,
    /// The worker of one node.
    Worker,
    /// The program beside one mail exchanger.
    Exchanger,
    /// Reads how far it is; sees no addresses.
    Viewer,
    /// Answers users on the telephone: looks single mailboxes up.
    Desk,
    /// Moves the rollout.
    Operator,
    /// Is the second person for what an operator asks for.
    Approver,
}

impl Role {
    /// All there are.
    pub const ALL: [Self; 7] = [
        Self::Coordinator,
        Self::Worker,
        Self::Exchanger,
        Self::Viewer,
        Self::Desk,
        Self::Operator,
        Self::Approver,
    ];

    /// As in certificates.
    pub fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Worker => "worker",
            Self::Exchanger => "exchanger",
            Self::Viewer => "viewer",
            Self::Desk => "desk",
            Self::Operator => "operator",
            Self::Approver => "approver",
        }
    }

    /// Whether people have it.
    pub fn is_a_persons(self) -> bool {
        match self {
            Self::Coordinator | Self::Worker | Self::Exchanger => false,
            Self::Viewer | Self::Desk | Self::Operator | Self::Approver => true,
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Whether it is nothing without a name.
    fn needs_name(self) -> bool {
        match self {
            Self::Coordinator | Self::Viewer | Self::Desk => false,
            Self::Worker | Self::Exchanger | Self::Operator | Self::Approver => true,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Somebody who speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: String,
    roles: BTreeSet<Role>,
    trust_domain: String,
    ends: SystemTime,
}

/// Why a certificate tells nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It is no certificate.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// It names none of our roles.
    #[error(
        "the certificate names no role: it has no URI like `{SCHEME}{trust_domain}/operator/NAME`"
    )]
    NoRole {
        /// Ours.
        trust_domain: String,
    },
    /// A URI of ours is not understood.
    #[error("the certificate's URI `{uri}` names no role and its holder")]
    NotUnderstood {
        /// The URI.
        uri: String,
    },
    /// It is on the list of those that are believed no more.
    #[error("the certificate was revoked")]
    Revoked,
    /// Two names, or roles that no one person has together.
    #[error("the certificate speaks for more than one: {first} and {second}")]
    MoreThanOne {
        /// One of them.
        first: String,
        /// Another one.
        second: String,
    },
}

impl Identity {
    /// Who the certificate `der` speaks for, in `trust_domain`.
    ///
    /// # Errors
    ///
    /// [`IdentityError`], for one that speaks for nobody.
    pub fn of_certificate(der: &[u8], trust_domain: &str) -> Result<Self, IdentityError> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| IdentityError::Unreadable)?;
        let ends = certificate.validity().not_after.timestamp();
        let ends = Duration::from_secs(u64::try_from(ends).unwrap_or(0));
        let uris = uris(&certificate)?;
        Self::of_uris(&uris, trust_domain, SystemTime::UNIX_EPOCH + ends)
    }

    fn of_uris(
        uris: &[String],
        trust_domain: &str,
        ends: SystemTime,
    ) -> Result<Self, IdentityError> {
        let ours = format!("{SCHEME}{trust_domain}/");
        let mut found: Option<(Role, String)> = None;
        let mut roles = BTreeSet::new();
        for uri in uris {
            let Some(path) = uri.strip_prefix(&ours) else { continue };
            let not_understood = || IdentityError::NotUnderstood { uri: uri.clone() };
            let (role, name) = parse_path(path).ok_or_else(not_understood)?;
            if let Some((first, of)) = &found {
                let together = first.is_a_persons() && role.is_a_persons();
                if !together || *of != name {
                    let first = format!("{first} {of}");
                    let second = format!("{role} {name}");
                    return Err(IdentityError::MoreThanOne { first, second });
                }
            } else {
                found = Some((role, name));
            }
            roles.insert(role);
        }
        let trust_domain = trust_domain.to_owned();
        match found {
            Some((_, name)) => Ok(Self { name, roles, trust_domain, ends }),
            None => Err(IdentityError::NoRole { trust_domain }),
        }
    }

    /// Their name, for the record.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether they have this role.
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// All their roles, in order.
    pub fn roles(&self) -> impl Iterator<Item = Role> + '_ {
        self.roles.iter().copied()
    }

    /// Whose authority speaks for them.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// Whether their certificate has run out.
    pub fn has_ended(&self, now: SystemTime) -> bool {
        now >= self.ends
    }
}

/// The trust domain that the certificate `der` is of: that of its first URI with a role.
pub(crate) fn trust_domain_of(der: &[u8]) -> Result<Option<String>, IdentityError> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_| IdentityError::Unreadable)?;
    let uris = uris(&certificate)?;
    Ok(uris.iter().find_map(|uri| {
        let (domain, path) = uri.strip_prefix(SCHEME)?.split_once('/')?;
        parse_path(path).map(|_| domain.to_owned())
    }))
}

/// The URI by which `role` and its holder are known.
pub(crate) fn uri(trust_domain: &str, role: Role, name: &str) -> String {
    match (role, name) {
        (Role::Coordinator, _) | (_, "") => format!("{SCHEME}{trust_domain}/{role}"),
        (_, name) => format!("{SCHEME}{trust_domain}/{role}/{name}"),
    }
}

/// Whether `name` can stand in a certificate as it is.
pub fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@+".contains(&byte);
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.starts_with('.')
        && name.bytes().all(plain)
}

fn uris(certificate: &X509Certificate<'_>) -> Result<Vec<String>, IdentityError> {
    let names = certificate.subject_alternative_name();
    let Some(names) = names.map_err(|_| IdentityError::Unreadable)? else {
        return Ok(Vec::new());
    };
    let names = names.value.general_names.iter();
    let uris = names.filter_map(|name| {
        if let GeneralName::URI(uri) = name { Some((*uri).to_owned()) } else { None }
    });
    Ok(uris.collect())
}

fn parse_path(path: &str) -> Option<(Role, String)> {
    let (role, name) = match path.split_once('/') {
        Some((role, name)) => (role, Some(name)),
        None => (path, None),
    };
    let role = Role::parse(role)?;
    match name {
        Some(name) if is_name(name) && role != Role::Coordinator => {
            Some((role, name.to_owned()))
        }
        Some(_) => None,
        None if role.needs_name() => None,
        None => Some((role, role.name().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uris: &[&str]) -> Result<Identity, IdentityError> {
        let uris: Vec<String> = uris.iter().map(|uri| (*uri).to_owned()).collect();
        Identity::of_uris(&uris, "mail.example", SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn one_person_has_as_many_roles_as_their_certificate_names() {
        let anna = read(&[
            "spiffe://mail.example/operator/anna",
            "https://example.org/anna",
            "spiffe://mail.example/approver/anna",
        ])
        .unwrap();

        assert_eq!(anna.name(), "anna");
        assert_eq!(anna.roles().collect::<Vec<_>>(), [Role::Operator, Role::Approver]);
    }

    #[test]
    fn a_worker_is_bound_to_its_node_and_a_viewer_needs_no_name() {
        assert_eq!(
            read(&["spiffe://mail.example/worker/stor-01"]).unwrap().name(),
            "stor-01"
        );
        assert_eq!(read(&["spiffe://mail.example/viewer"]).unwrap().name(), "viewer");
        assert!(read(&["spiffe://mail.example/worker"]).is_err());
    }

    #[test]
    fn what_is_not_ours_or_not_understood_speaks_for_nobody() {
        for uris in [
            &[][..],
            &["spiffe://other.example/operator/anna"],
            &["spiffe://mail.example.org/operator/anna"],
            &["spiffe://mail.example/operator/"],
            &["spiffe://mail.example/operator/anna/more"],
            &["spiffe://mail.example/operator/an na"],
            &["spiffe://mail.example/Operator/anna"],
            &["spiffe://mail.example/root"],
            &["spiffe://mail.example/coordinator/anna"],
            &["spiffe://mail.example/operator/anna", "spiffe://mail.example/root/anna"],
        ] {
            assert!(read(uris).is_err(), "{uris:?}");
        }
    }

    #[test]
    fn a_certificate_for_two_is_refused() {
        for second in ["approver/berta", "worker/anna", "coordinator", "exchanger/anna"] {
            let second = format!("spiffe://mail.example/{second}");
            let both = read(&["spiffe://mail.example/operator/anna", &second]);
            assert!(matches!(both, Err(IdentityError::MoreThanOne { .. })), "{second}");
        }
    }
}
