//! One program: the command line of Tidegate.
fn main() {}
