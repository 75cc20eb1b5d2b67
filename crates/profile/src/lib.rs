//! Access samples from a live instance, at a bounded cost.
//!
//! Read next: [`decode`], which turns the registers of a sample into the memory it touches.
#![forbid(unsafe_code)]

pub mod decode;
