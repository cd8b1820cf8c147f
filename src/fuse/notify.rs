//! Telling the kernel that what it remembers is no longer true.
//!
//! One thread takes what is queued and makes the calls. Such a call may wait inside the kernel for an answer of
//! this daemon (a directory is locked by a lookup in it, a page by a read), so that thread serves no request and
//! holds no lock meanwhile.
//!
//! The queue holds each inode and each name once: a second change before the first was told is one change. It
//! is bounded. What comes when it is full is dropped and counted: names and attributes are believed for their
//! time to live only, and cached pages are dropped at the next open of a new version, so a lost notice makes
//! the kernel late, not wrong for ever.
//!
//! Locks: the queue, held for a moment and never while calling the kernel.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use fuser::INodeNo;
use parking_lot::{Condvar, Mutex};
use tracing::{debug, warn};

use crate::fs::types::{Ino, KernelNotifier};

/// Inodes that wait: 16 bytes each.
const INODES_MAX: usize = 262_144;
/// Names that wait: about 300 bytes each at most.
const NAMES_MAX: usize = 65_536;

/// The queue. Made before the filesystem, attached to the kernel when the mount is up; what comes before is not
/// kept, because the kernel knows nothing yet.
#[derive(Debug, Default)]
pub struct QueuedNotifier {
    queue: Mutex<Queue>,
    wake: Condvar,
    told: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    phase: Phase,
    /// Inode to whether its pages go as well.
    inodes: HashMap<Ino, bool>,
    names: HashSet<(Ino, OsString)>,
    /// Taken from the queue and being told.
    in_hand: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Phase {
    #[default]
    Detached,
    Attached,
    Closed,
}

/// The calls; the kernel, or a test.
trait Kernel: Send + 'static {
    fn inode(&self, ino: Ino, data: bool) -> io::Result<()>;
    fn entry(&self, parent: Ino, name: &OsStr) -> io::Result<()>;
}

impl Kernel for fuser::Notifier {
    fn inode(&self, ino: Ino, data: bool) -> io::Result<()> {
        // A negative offset leaves the pages alone. See fuse_reverse_inval_inode in the kernel.
        let offset = if data { 0 } else { -1 };
        self.inval_inode(INodeNo(ino.0), offset, 0)
    }

    fn entry(&self, parent: Ino, name: &OsStr) -> io::Result<()> {
        self.inval_entry(INodeNo(parent.0), name)
    }
}

impl QueuedNotifier {
    /// A queue that is not attached yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Notices the kernel was told.
    pub fn told(&self) -> u64 {
        self.told.load(Relaxed)
    }

    /// Notices dropped because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Notices that wait or are being told.
    pub fn waiting(&self) -> usize {
        let queue = self.queue.lock();
        queue.inodes.len() + queue.names.len() + queue.in_hand
    }

    pub(super) fn attach(self: &Arc<Self>, notifier: fuser::Notifier) -> io::Result<()> {
        self.start(notifier)
    }

    fn start(self: &Arc<Self>, kernel: impl Kernel) -> io::Result<()> {
        {
            let mut queue = self.queue.lock();
            if queue.phase != Phase::Detached {
                return Err(io::Error::other("the notifier serves another mount"));
            }
            queue.phase = Phase::Attached;
        }
        let notifier = Arc::clone(self);
        std::thread::Builder::new().name("fuse-notify".to_owned()).spawn(move || notifier.work(&kernel))?;
        Ok(())
    }

    /// Ends the thread; what is queued is no longer of use.
    pub(super) fn close(&self) {
        let mut queue = self.queue.lock();
        *queue = Queue { phase: Phase::Closed, ..Queue::default() };
        self.wake.notify_all();
    }

    fn work(&self, kernel: &impl Kernel) {
        while let Some((inodes, names)) = self.next() {
            // Names first: a name that leads to another inode makes the old one's attributes uninteresting.
            for (parent, name) in names {
                self.done(kernel.entry(parent, &name), "entry", parent);
            }
            for (ino, data) in inodes {
                self.done(kernel.inode(ino, data), "inode", ino);
            }
        }
    }

    #[allow(clippy::type_complexity)]
    fn next(&self) -> Option<(HashMap<Ino, bool>, HashSet<(Ino, OsString)>)> {
        let mut queue = self.queue.lock();
        loop {
            if queue.phase == Phase::Closed {
                return None;
            }
            if !queue.inodes.is_empty() || !queue.names.is_empty() {
                let taken = (mem::take(&mut queue.inodes), mem::take(&mut queue.names));
                queue.in_hand = taken.0.len() + taken.1.len();
                return Some(taken);
            }
            self.wake.wait(&mut queue);
        }
    }

    fn done(&self, result: io::Result<()>, what: &'static str, ino: Ino) {
        {
            let mut queue = self.queue.lock();
            queue.in_hand = queue.in_hand.saturating_sub(1);
        }
        match result {
            Ok(()) => {
                self.told.fetch_add(1, Relaxed);
            }
            // The kernel does not know it (any more), or is not there: nothing it could believe.
            Err(error) => debug!(what, ino = ino.0, "the kernel did not take a notice: {error}"),
        }
    }

    fn push(&self, add: impl FnOnce(&mut Queue) -> bool) {
        let mut queue = self.queue.lock();
        if queue.phase != Phase::Attached {
            return;
        }
        if add(&mut queue) {
            self.wake.notify_one();
            return;
        }
        drop(queue);
        if self.dropped.fetch_add(1, Relaxed) == 0 {
            warn!(
                "more changes than the kernel can be told of: it may believe old names until their time is up"
            );
        }
    }
}

impl KernelNotifier for QueuedNotifier {
    fn inode_changed(&self, ino: Ino, data: bool) {
        self.push(|queue| {
            if let Some(known) = queue.inodes.get_mut(&ino) {
                *known |= data;
                return true;
            }
            let room = queue.inodes.len() < INODES_MAX;
            if room {
                queue.inodes.insert(ino, data);
            }
            room
        });
    }

    fn entry_changed(&self, parent: Ino, name: OsString) {
        self.push(|queue| {
            if queue.names.len() < NAMES_MAX {
                queue.names.insert((parent, name));
                return true;
            }
            queue.names.contains(&(parent, name))
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    #[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
    enum Told {
        Inode(u64, bool),
        Entry(u64, OsString),
    }

    /// Tells the test, and each call waits for the test's leave.
    struct Fake {
        told: Sender<Told>,
        leave: Receiver<()>,
    }

    impl Kernel for Fake {
        fn inode(&self, ino: Ino, data: bool) -> io::Result<()> {
            self.told.send(Told::Inode(ino.0, data)).unwrap();
            self.leave.recv().map_err(io::Error::other)
        }

        fn entry(&self, parent: Ino, name: &OsStr) -> io::Result<()> {
            self.told.send(Told::Entry(parent.0, name.to_owned())).unwrap();
            self.leave.recv().map_err(io::Error::other)
        }
    }

    #[test]
    fn changes_while_the_kernel_is_busy_become_one() {
        let (told, heard) = channel();
        let (allow, leave) = channel();
        let notifier = QueuedNotifier::new();
        notifier.inode_changed(Ino(1), true);
        assert_eq!(notifier.waiting(), 0, "before the mount the kernel knows nothing");
        notifier.start(Fake { told, leave }).unwrap();
        notifier.inode_changed(Ino(9), false);
        assert_eq!(heard.recv().unwrap(), Told::Inode(9, false));
        for _ in 0..100 {
            notifier.inode_changed(Ino(2), false);
            notifier.entry_changed(Ino(1), "a".into());
        }
        notifier.inode_changed(Ino(2), true);
        notifier.inode_changed(Ino(2), false);
        assert_eq!(notifier.waiting(), 3);
        for _ in 0..3 {
            allow.send(()).unwrap();
        }
        let mut rest = vec![heard.recv().unwrap(), heard.recv().unwrap()];
        rest.sort();
        assert_eq!(rest, [Told::Inode(2, true), Told::Entry(1, "a".into())]);
        notifier.close();
        notifier.inode_changed(Ino(3), true);
        assert_eq!(notifier.waiting(), 0);
        assert!(heard.recv().is_err(), "the thread ends");
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (told, heard) = channel();
        let (allow, leave) = channel();
        let notifier = QueuedNotifier::new();
        notifier.start(Fake { told, leave }).unwrap();
        notifier.inode_changed(Ino(1), false);
        heard.recv().unwrap();
        for n in 0..NAMES_MAX {
            notifier.entry_changed(Ino(1), n.to_string().into());
        }
        assert_eq!(notifier.dropped(), 0);
        notifier.entry_changed(Ino(1), "one more".into());
        notifier.entry_changed(Ino(1), "0".into());
        assert_eq!(notifier.dropped(), 1, "the one already there is not dropped");
        notifier.close();
        drop(allow);
    }
}
