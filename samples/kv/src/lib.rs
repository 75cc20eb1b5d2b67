//! A small key-value service.
