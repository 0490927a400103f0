//! Compiles the contracts in `proto/` without a system `protoc`.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message;

/// Where the contracts lie, seen from this crate.
const PROTO_ROOT: &str = "../../proto";

/// One file per audience, and what journals hold.
const PROTO_FILES: [&str; 8] = [
    "tidegate/v1/worker.proto",
    "tidegate/v1/operator.proto",
    "tidegate/v1/progress.proto",
    "tidegate/v1/exchanger.proto",
    "tidegate/v1/desk.proto",
    "tidegate/journal/v1/coordinator.proto",
    "tidegate/journal/v1/snapshot.proto",
    "tidegate/journal/v1/worker.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTO_ROOT}");
    let descriptors = protox::compile(PROTO_FILES, [PROTO_ROOT])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
