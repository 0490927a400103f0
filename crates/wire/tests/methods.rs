//! The table of methods is complete: whatever can be called has those who may.
//!
//! # Invariants
//!
//! * The services are taken from their descriptors, as clients see them.
#![expect(clippy::unwrap_used, reason = "a test may say no more than that it failed")]
#![expect(clippy::print_stderr, reason = "whoever asks for it is shown the table")]

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::FileDescriptorSet;
use tidegate_trust::{METHODS, callers_of};

#[test]
fn every_method_there_is_stands_in_the_table_of_roles_and_no_other() {
    let mut served = BTreeSet::new();
    methods_in(tidegate_wire::DESCRIPTORS, &mut served);
    methods_in(tonic_health::pb::FILE_DESCRIPTOR_SET, &mut served);
    methods_in(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET, &mut served);
    methods_in(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET, &mut served);

    let allowed: BTreeSet<String> =
        METHODS.iter().map(|(path, _)| (*path).to_owned()).collect();

    // `cargo test -p tidegate-wire --test methods -- --nocapture` prints who may call what.
    for path in &allowed {
        eprintln!("| {path} | {} |", callers_of(path));
    }
    let missing: Vec<_> = served.difference(&allowed).collect();
    let superfluous: Vec<_> = allowed.difference(&served).collect();
    assert!(missing.is_empty() && superfluous.is_empty(), "{missing:?} {superfluous:?}");
}

fn methods_in(descriptors: &[u8], into: &mut BTreeSet<String>) {
    for file in FileDescriptorSet::decode(descriptors).unwrap().file {
        for service in &file.service {
            for method in &service.method {
                let (package, service) = (file.package(), service.name());
                into.insert(format!("/{package}.{service}/{}", method.name()));
            }
        }
    }
}
