//! pailfs mounts an S3 bucket as a directory. ARCHITECTURE.md is the map.

pub mod commit;
pub mod content;
pub mod fs;
pub mod namespace;
pub mod runtime;
pub mod store;
