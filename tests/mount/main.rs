//! The filesystem on a real FUSE mount over the embedded S3 server.
//!
//! Each test starts a server and a daemon of its own and ends both, also when it fails. The tests that need no
//! more than a directory also run on a local one, which tells a fault of a test from one of the filesystem:
//! `PAILFS_TEST_ON=DIR cargo test --test mount -- apps suites`, with `--include-ignored` for the suites.
// What pauses here polls for a condition, or lets a time to live run out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod support;

mod apps;
mod conflicts;
mod crash;
mod interop;
mod large;
mod lifecycle;
mod listing;
mod names;
mod open_files;
mod requests;
mod space;
mod special;
mod suites;
mod targets;
mod xattrs;
