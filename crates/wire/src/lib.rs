//! The contracts between the programs, checked once at the border.
