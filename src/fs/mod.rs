//! The filesystem: what each operation means, in terms of names, content and commits.
//!
//! Owns the errors and their errno, the vocabulary, handles and the operations ([`ops`]). Decides; the layers
//! below do.
//!
//! Locks: none of its own but the handle maps, which are leaves.
//!
//! Deliberately does not: know the kernel's protocol (that is `fuse`) or S3's (that is `store`).

pub mod errno;
pub mod error;
pub mod filesystem;
pub mod handles;
mod lost_races;
pub mod operations;
pub mod ops;
mod owners;
mod serve;
pub mod types;
