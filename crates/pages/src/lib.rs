//! What people see in a browser: the public status page, the operations page, the desk.
//!
//! # Invariants
//!
//! * A page is made of the contracts alone, and asks for nothing that whoever looks may not have.
//! * Nothing public depends on which addresses there are: whoever looks at it cannot tell one
//!   that exists from one that does not.
//! * No text claims what the evidence does not support.
//! * Every text exists in every language.

pub mod claims;
pub mod desk;
pub mod operations;
pub mod public;
pub mod texts;
pub mod visitor;
pub mod windows;
