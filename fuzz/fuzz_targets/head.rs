//! Parses arbitrary bytes as the head of a request and checks the invariants of the parser.

#![no_main]
#![allow(dead_code)]

#[path = "../../src/http/head.rs"]
mod head;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    head::check_invariants(bytes);
});
