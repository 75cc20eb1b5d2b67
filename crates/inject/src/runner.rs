//! See docs/decisions/0001-injection.md.
