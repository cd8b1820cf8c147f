//! Counters of the kernel's requests, by operation: how many, how long, which errors.
//!
//! Lock-free: plain atomics, each right by itself; a snapshot taken under load may be a request apart between
//! two numbers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The largest errno of Linux (EHWPOISON).
const ERRNO_MAX: usize = 133;

macro_rules! operations {
    ($($variant:ident = $name:literal),+ $(,)?) => {
        /// An operation the kernel asks for.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(super) enum Op { $($variant),+ }

        impl Op {
            const ALL: &[Self] = &[$(Self::$variant),+];

            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

operations! {
    Lookup = "lookup", Forget = "forget", Getattr = "getattr", Setattr = "setattr", Readlink = "readlink",
    Mknod = "mknod", Mkdir = "mkdir", Symlink = "symlink", Unlink = "unlink", Rmdir = "rmdir",
    Rename = "rename", Link = "link", Open = "open", Create = "create", Read = "read", Write = "write",
    Flush = "flush", Fsync = "fsync", Release = "release", Opendir = "opendir", Readdir = "readdir",
    Readdirplus = "readdirplus", Releasedir = "releasedir", Fsyncdir = "fsyncdir", Statfs = "statfs",
    Setxattr = "setxattr", Getxattr = "getxattr", Listxattr = "listxattr", Removexattr = "removexattr",
    Fallocate = "fallocate", Lseek = "lseek", CopyFileRange = "copy_file_range", Ioctl = "ioctl",
}

/// Counters of one mount since it began.
#[derive(Debug)]
pub struct OperationStats {
    rows: Vec<Row>,
    in_flight: AtomicU64,
}

#[derive(Debug)]
struct Row {
    count: AtomicU64,
    moved: AtomicU64,
    panics: AtomicU64,
    deadlines: AtomicU64,
    time_total_ns: AtomicU64,
    time_max_ns: AtomicU64,
    errors: Vec<AtomicU64>,
}

/// Counters of one operation at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OperationSnapshot {
    /// Its name (`lookup`).
    pub operation: &'static str,
    /// Requests answered.
    pub count: u64,
    /// Of these, how many had to wait and were moved to the runtime.
    pub moved: u64,
    /// Panics caught.
    pub panics: u64,
    /// Requests answered EIO because their deadline passed.
    pub deadlines: u64,
    /// From the arrival of each request to its answer, all together.
    pub time_total: Duration,
    /// The longest.
    pub time_max: Duration,
    /// Requests answered with an errno: (errno, count), only those that happened.
    pub errors: Vec<(i32, u64)>,
}

impl Default for OperationStats {
    fn default() -> Self {
        Self { rows: Op::ALL.iter().map(|_| Row::default()).collect(), in_flight: AtomicU64::new(0) }
    }
}

impl Default for Row {
    fn default() -> Self {
        Self {
            count: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            deadlines: AtomicU64::new(0),
            time_total_ns: AtomicU64::new(0),
            time_max_ns: AtomicU64::new(0),
            errors: (0..=ERRNO_MAX).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl OperationStats {
    /// Requests that wait for their answer now.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    /// All operations that were asked for at least once.
    pub fn snapshot(&self) -> Vec<OperationSnapshot> {
        Op::ALL.iter().zip(&self.rows).map(|(op, row)| row.snapshot(*op)).filter(|s| s.count > 0).collect()
    }

    /// Requests of `operation` (`lookup`) answered so far; 0 for a name that is none.
    pub fn count(&self, operation: &str) -> u64 {
        Op::ALL
            .iter()
            .zip(&self.rows)
            .find(|(op, _)| op.name() == operation)
            .map_or(0, |(_, row)| row.count.load(Relaxed))
    }

    pub(super) fn began(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    pub(super) fn ended(&self, op: Op, time: Duration, errno: Option<i32>) {
        self.in_flight.fetch_sub(1, Relaxed);
        let row = self.row(op);
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        row.count.fetch_add(1, Relaxed);
        row.time_total_ns.fetch_add(ns, Relaxed);
        row.time_max_ns.fetch_max(ns, Relaxed);
        let slot = errno.and_then(|e| usize::try_from(e).ok()).and_then(|e| row.errors.get(e));
        if let Some(slot) = slot {
            slot.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn moved(&self, op: Op) {
        self.row(op).moved.fetch_add(1, Relaxed);
    }

    pub(super) fn panicked(&self, op: Op) {
        self.row(op).panics.fetch_add(1, Relaxed);
    }

    pub(super) fn deadline_passed(&self, op: Op) {
        self.row(op).deadlines.fetch_add(1, Relaxed);
    }

    fn row(&self, op: Op) -> &Row {
        &self.rows[op as usize]
    }
}

impl Row {
    fn snapshot(&self, op: Op) -> OperationSnapshot {
        let errors = (0i32..).zip(&self.errors).map(|(errno, n)| (errno, n.load(Relaxed)));
        OperationSnapshot {
            operation: op.name(),
            count: self.count.load(Relaxed),
            moved: self.moved.load(Relaxed),
            panics: self.panics.load(Relaxed),
            deadlines: self.deadlines.load(Relaxed),
            time_total: Duration::from_nanos(self.time_total_ns.load(Relaxed)),
            time_max: Duration::from_nanos(self.time_max_ns.load(Relaxed)),
            errors: errors.filter(|(_, n)| *n > 0).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_operation_and_errno() {
        let stats = OperationStats::default();
        stats.began();
        stats.began();
        assert_eq!(stats.in_flight(), 2);
        stats.ended(Op::Lookup, Duration::from_millis(3), Some(libc::ENOENT));
        stats.ended(Op::Ioctl, Duration::from_millis(1), None);
        assert_eq!(stats.in_flight(), 0);
        let all = stats.snapshot();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].operation, all[0].count, all[0].errors.clone()), ("lookup", 1, vec![(2, 1)]));
        assert_eq!((all[1].operation, all[1].errors.is_empty()), ("ioctl", true));
        assert_eq!((stats.count("lookup"), stats.count("nothing")), (1, 0));
    }
}
