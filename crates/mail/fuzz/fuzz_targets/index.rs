//! Index: indexes and their logs.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_mail::fuzz::index(bytes));
