#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mesh_store_fuzz::contract(bytes));
