//! See docs/ARCHITECTURE.md.
#![allow(unsafe_code)]
