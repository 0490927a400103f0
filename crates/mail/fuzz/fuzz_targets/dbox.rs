//! Dbox: dbox files.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_mail::fuzz::dbox(bytes));
