//! Which processes use a handle, so that a close by any other is not taken for theirs.
//!
//! The kernel sends a flush for every descriptor that is closed. A child that inherited a descriptor and never used
//! it closes it when it executes another program or ends; to put a half-written file into S3 then would cost a
//! request and show others what is not finished. What the kernel gives is the id of a thread, so threads of one
//! process are looked up. In doubt a close is an owner's.

use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

/// More writers of one handle than this are not told apart.
const PIDS_MAX: usize = 16;

/// Threads that opened or wrote through a handle.
#[derive(Debug)]
pub struct Owners {
    /// The last one that was noted: a writer's second write costs one comparison.
    last: AtomicU32,
    /// `None` when one of them is not known.
    pids: Mutex<Option<Vec<u32>>>,
}

impl Owners {
    /// A handle that `pid` opened; 0 when nobody knows who.
    pub fn opened_by(pid: u32) -> Self {
        Self { last: AtomicU32::new(pid), pids: Mutex::new((pid != 0).then(|| vec![pid])) }
    }

    /// `pid` wrote through the handle; 0 when nobody knows who.
    pub fn wrote(&self, pid: u32) {
        if pid != 0 && self.last.swap(pid, Ordering::Relaxed) == pid {
            return;
        }
        let mut pids = self.pids.lock();
        let Some(known) = pids.as_mut() else { return };
        if pid == 0 || known.len() >= PIDS_MAX {
            *pids = None;
        } else if !known.contains(&pid) {
            known.push(pid);
        }
    }

    /// Whether a flush by `pid` may be a close by somebody who opened or wrote.
    pub fn may_be(&self, pid: u32) -> bool {
        let Some(known) = self.pids.lock().clone() else { return true };
        if pid == 0 || known.contains(&pid) {
            return true;
        }
        let Some(process) = process_of(pid) else { return true };
        known.iter().any(|owner| process_of(*owner).is_none_or(|p| p == process))
    }
}

/// The process a thread belongs to; `None` when the thread is gone. See proc_pid_status(5).
fn process_of(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_an_owner_are_owners_and_other_processes_are_not() {
        let own = std::process::id();
        let owners = Owners::opened_by(own);
        assert!(owners.may_be(own) && owners.may_be(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let thread = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
                assert!(owners.may_be(thread));
            });
        });
        assert!(!owners.may_be(1), "init did not open it");
        owners.wrote(0);
        assert!(owners.may_be(1), "somebody unknown wrote");
    }
}
