//! S3 as a trait, and what implements or wraps it.
//!
//! Owns: the vocabulary of S3 ([`types`]), the errors ([`error`]), the boundary ([`object_store`]).
//! Deliberately does not: know files, inodes or paths; retry what the SDK retries already.

pub mod error;
pub mod memory;
pub mod object_store;
pub mod s3;
pub mod types;
pub mod validate;
