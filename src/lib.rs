//! pailfs mounts an S3 bucket as a directory. ARCHITECTURE.md is the map.

pub mod cli;
pub mod commit;
pub mod config;
pub mod content;
pub mod daemon;
pub mod failure;
pub mod fs;
pub mod fuse;
pub mod namespace;
pub mod runtime;
pub mod store;
pub mod telemetry;
