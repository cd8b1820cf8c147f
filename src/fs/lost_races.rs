//! Names whose removal or move lost against another client a moment ago.
//!
//! On ESTALE the kernel looks the name up again and repeats the call once, with what it finds then. For a lookup or
//! an open that is right; an unlink or a rename would take the version that nobody here has seen. So the repeated
//! call is refused as well, and the caller gets its ESTALE. See `retry_estale` in the kernel's fs/namei.c.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::types::Ino;

/// The kernel repeats at once; a person who tries again is slower.
const REPEATED_WITHIN: Duration = Duration::from_millis(500);

/// See the module head.
#[derive(Debug, Default)]
pub struct LostRaces {
    lost: Mutex<HashMap<(Ino, Box<str>), Instant>>,
}

impl LostRaces {
    /// The call on this name was answered with ESTALE.
    pub fn note(&self, parent: Ino, name: &str) {
        let mut lost = self.lost.lock();
        lost.retain(|_, at| at.elapsed() <= REPEATED_WITHIN);
        lost.insert((parent, name.into()), Instant::now());
    }

    /// Whether this call is the kernel's repetition of one that lost. True once.
    pub fn is_repeated(&self, parent: Ino, name: &str) -> bool {
        let mut lost = self.lost.lock();
        if lost.is_empty() {
            return false;
        }
        lost.remove(&(parent, name.into())).is_some_and(|at| at.elapsed() <= REPEATED_WITHIN)
    }
}
