//! A part of a rollout, as operators name it.
//!
//! # Invariants
//!
//! * A scope that came in names something; whether it exists is for the plan to say.

use crate::protocol::{ProtocolError, present};
use crate::v1;

/// A part of a rollout by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScopeName {
    /// A wave, by name or number.
    Wave(String),
    /// A node, by name.
    Node(String),
    /// A mailbox, by address.
    Mailbox(String),
}

impl From<ScopeName> for v1::Scope {
    fn from(scope: ScopeName) -> Self {
        let part = match scope {
            ScopeName::Wave(wave) => v1::scope::Part::Wave(wave),
            ScopeName::Node(node) => v1::scope::Part::Node(node),
            ScopeName::Mailbox(address) => v1::scope::Part::Mailbox(address),
        };
        Self { part: Some(part) }
    }
}

impl TryFrom<v1::Scope> for ScopeName {
    type Error = ProtocolError;

    fn try_from(message: v1::Scope) -> Result<Self, Self::Error> {
        let (field, name, scope): (_, _, fn(String) -> Self) =
            match present("scope.part", message.part)? {
                v1::scope::Part::Wave(wave) => ("scope.wave", wave, Self::Wave),
                v1::scope::Part::Node(node) => ("scope.node", node, Self::Node),
                v1::scope::Part::Mailbox(address) => {
                    ("scope.mailbox", address, Self::Mailbox)
                }
            };
        if name.is_empty() {
            return Err(ProtocolError::missing(field));
        }
        Ok(scope(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_survives_the_way_and_an_empty_one_is_refused() {
        let scope = ScopeName::Node("mail-3".to_owned());

        let arrived = ScopeName::try_from(v1::Scope::from(scope.clone()));
        let empty = ScopeName::try_from(v1::Scope::from(ScopeName::Wave(String::new())));

        assert_eq!(arrived, Ok(scope));
        assert_eq!(empty, Err(ProtocolError::missing("scope.wave")));
    }
}
