//! pailfs mounts an S3 bucket as a directory. ARCHITECTURE.md is the map.

pub mod fs;
pub mod fuse;
pub mod runtime;
pub mod store;
