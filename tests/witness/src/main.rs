//! The witness.
fn main() {}
