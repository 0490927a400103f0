//! Answers mail servers whether a user may use a service now.
