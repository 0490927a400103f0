//! The contracts only grow: what other programs, and journals that were written before, rely on stays.
//!
//! # Invariants
//!
//! * A field keeps its number, its name and its type; an enumeration keeps its values; a method keeps
//!   its messages.
#![expect(clippy::unwrap_used, reason = "a test may say no more than that it failed")]

use std::collections::BTreeSet;

use expect_test::expect_file;
use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
};

/// All that there has ever been, a line each.
const KEPT: &str = include_str!("contract.txt");

#[test]
fn nothing_of_a_contract_that_was_ever_there_is_gone_or_another() {
    let now = contract();

    let gone: Vec<&str> =
        KEPT.lines().filter(|line| !line.is_empty() && !now.contains(*line)).collect();
    assert!(
        gone.is_empty(),
        "programs and journals that were written before rely on {gone:#?}"
    );
    // What is new is kept from now on: UPDATE_EXPECT=1 cargo test -p tidegate-wire --test contract
    let lines: Vec<String> = now.into_iter().map(|line| line + "\n").collect();
    expect_file!["contract.txt"].assert_eq(&lines.concat());
}

fn contract() -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for file in FileDescriptorSet::decode(tidegate_wire::DESCRIPTORS).unwrap().file {
        let package = file.package();
        if !package.starts_with("tidegate.") {
            continue;
        }
        file.message_type.iter().for_each(|it| message(it, package, &mut lines));
        file.enum_type.iter().for_each(|it| enumeration(it, package, &mut lines));
        file.service.iter().for_each(|it| service(it, package, &mut lines));
    }
    lines
}

fn message(message: &DescriptorProto, above: &str, lines: &mut BTreeSet<String>) {
    let name = format!("{above}.{}", message.name());
    for field in &message.field {
        let (number, field_name) = (field.number(), field.name());
        lines.insert(format!("{name} {number} {field_name} {}", kind(field)));
    }
    message.nested_type.iter().for_each(|it| self::message(it, &name, lines));
    message.enum_type.iter().for_each(|it| enumeration(it, &name, lines));
}

/// A field's type as `optional string`, `repeated .tidegate.v1.Why`.
fn kind(field: &FieldDescriptorProto) -> String {
    let label = match (field.proto3_optional(), field.oneof_index) {
        (true, _) => "optional ",
        (false, Some(_)) => "oneof ",
        (false, None) if field.label().as_str_name() == "LABEL_REPEATED" => "repeated ",
        (false, None) => "",
    };
    let of = match field.type_name() {
        "" => field.r#type().as_str_name().trim_start_matches("TYPE_").to_lowercase(),
        named => named.to_owned(),
    };
    format!("{label}{of}")
}

fn enumeration(of: &EnumDescriptorProto, above: &str, lines: &mut BTreeSet<String>) {
    for value in &of.value {
        let (number, name) = (value.number(), value.name());
        lines.insert(format!("{above}.{} {number} {name}", of.name()));
    }
}

fn service(of: &ServiceDescriptorProto, package: &str, lines: &mut BTreeSet<String>) {
    for method in &of.method {
        let stream = |is: bool| if is { "stream " } else { "" };
        lines.insert(format!(
            "/{package}.{}/{} takes {}{} and returns {}{}",
            of.name(),
            method.name(),
            stream(method.client_streaming()),
            method.input_type(),
            stream(method.server_streaming()),
            method.output_type()
        ));
    }
}
