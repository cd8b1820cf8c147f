//! The kernel's side: the only place that knows the `fuser` crate.
//!
//! A request takes this way: `adapter` decodes it, `dispatch` polls the operation once on the thread that read
//! the request and moves it to the runtime when it has to wait, `respond` encodes the answer. Everything that
//! concerns all operations alike (deadlines, panics, counters, log lines) is in `dispatch` and nowhere else.
//!
//! Invariants:
//! - every request is answered exactly once, also when the operation panics, hangs or is dropped;
//! - nothing here waits on the network on a thread that reads requests;
//! - the kernel is told about changes (`notify`) by one thread that holds no lock and serves no request, because
//!   such a call may wait for an answer of ours.
//!
//! Locks: the queue of `notify`; held for a moment, never with another one.
//!
//! Deliberately does not: decide what an operation means, check permissions (`default_permissions`: the kernel
//! does), use FUSE passthrough, the kernel's write-back cache or locks shared between machines.

mod adapter;
mod convert;
mod dispatch;
pub mod mount;
pub mod notify;
mod respond;
pub mod session;
pub mod stats;

pub use mount::{MountError, MountOptions};
pub use notify::QueuedNotifier;
pub use session::{Mounted, SessionConfig, SessionEnd, mount};
pub use stats::{OperationSnapshot, OperationStats};
