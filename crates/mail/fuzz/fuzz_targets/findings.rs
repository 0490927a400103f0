//! Findings: lists of findings.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_mail::fuzz::findings(bytes));
