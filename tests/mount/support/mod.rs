//! What every test stands on: a server with a bucket, a daemon with a mount, a client beside it.

mod bucket;
mod mounted;
mod place;
mod program;
mod sys;
mod world;

pub use bucket::{Bucket, Object};
pub use mounted::{Mount, is_mounted};
pub use place::place;
pub use program::run;
pub use sys::*;
pub use world::World;

/// Bytes that differ from place to place and from seed to seed.
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        // xorshift64: https://www.jstatsoft.org/article/view/v008i14
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Fails without printing megabytes.
#[track_caller]
pub fn assert_same(got: &[u8], expected: &[u8], what: &str) {
    if got != expected {
        let at = got.iter().zip(expected).position(|(a, b)| a != b).unwrap_or(got.len().min(expected.len()));
        panic!("{what}: {} bytes for {}, first difference at {at}", got.len(), expected.len());
    }
}
