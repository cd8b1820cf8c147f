//! The adapter under a real kernel: a toy filesystem mounted through /dev/fuse. Needs root and /dev/fuse.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod files;
mod fixture;
mod lifecycle;
mod toy;
mod trouble;
