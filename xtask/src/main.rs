//! Tidiness checks.
fn main() {}
