//! Compiles the contracts in `proto/` without a system `protoc`.
fn main() {}
