//! Reads bytes as the head of a request.

#![no_main]
#![allow(dead_code)]

#[path = "../../src/http/head.rs"]
mod head;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    head::promise(bytes);
});
