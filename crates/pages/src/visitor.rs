//! The visitor: who looks at a page, and what they may do there.
//!
//! # Invariants
//!
//! * What a visitor may not do is shown, with the reason, and refused again when it is asked for.

use axum::http::Extensions;

/// What somebody can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Looks.
    Viewer,
    /// Answers users.
    Desk,
    /// Moves the rollout.
    Operator,
    /// Is the second person for what is dear.
    Approver,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Desk, Self::Operator, Self::Approver];

    /// The role of this name, as certificates have it.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "viewer" => Some(Self::Viewer),
            "desk" => Some(Self::Desk),
            "operator" => Some(Self::Operator),
            "approver" => Some(Self::Approver),
            _ => None,
        }
    }

    /// Its text's name.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Viewer => "role-viewer",
            Self::Desk => "role-desk",
            Self::Operator => "role-operator",
            Self::Approver => "role-approver",
        }
    }
}

/// Who looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// The name under which they act; nothing where they say it themselves.
    pub name: Option<String>,
    /// What they are.
    pub roles: Vec<Role>,
}

/// Tells who sent a request.
pub type WhoSent = fn(&Extensions) -> Visitor;

impl Visitor {
    /// Whoever is on this machine may do everything, under a name of their own.
    pub fn local() -> Self {
        Self { name: None, roles: Role::ALL.to_vec() }
    }

    /// Whether they act under this name.
    pub fn is_called(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name)
    }

    /// Whether they have one of these roles.
    pub fn is_any(&self, roles: &[Role]) -> bool {
        self.roles.iter().any(|role| roles.contains(role))
    }
}
