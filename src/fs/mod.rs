//! The filesystem: what each operation means, in terms of names, content and commits.

pub mod errno;
pub mod error;
pub mod types;
