//! pailfs mounts an S3 bucket as a directory. ARCHITECTURE.md is the map.

pub mod config;
pub mod failure;
pub mod fs;
pub mod store;
