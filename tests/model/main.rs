//! Random operations on a `Filesystem` over an S3 in memory, compared with a small filesystem written for it;
//! the same with another client at work, with failing calls, and with many tasks at once.
//!
//! Seeds are fixed, so that a run means the same everywhere. `PROPTEST_CASES` and `PROPTEST_RNG_SEED` ask for
//! more.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod compare;
mod concurrency;
mod faults;
mod harness;
mod large;
mod operations;
mod others;
mod reference;
mod regressions;
mod runner;
mod sequences;
