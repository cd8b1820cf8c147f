//! Content of object versions on local disk, filled from S3 as it is read.
//!
//! Owns: one sparse file per object version under a hashed name ([`files`]); which of its bytes are there
//! ([`ranges`], [`object`]); fetching what is missing, each byte once however many readers want it ([`flight`],
//! [`fetch`]); what to fetch ahead ([`stream`]); the bound in bytes and who has to go ([`room`]). [`ContentStore`]
//! is the whole, [`Content`] one version in it.
//!
//! The way of a read: [`Content::read`] asks the [`Stream`] what the pattern calls for, splits its range by where
//! the bytes are, begins flights for what is nowhere, and waits. A flight is one GET pinned to the version; its
//! bytes answer the waiting readers from memory as they arrive and are written to the file from the blocking
//! pool.
//!
//! Invariants:
//! * Every GET carries the ETag of the version, and the answer is compared with it: bytes of two versions never
//!   meet.
//! * A byte is resident only after its write has succeeded. A full or failing disk costs residency, never a read:
//!   what could not be written stays in memory, oldest dropped first above 32 MiB.
//! * Allocated bytes of all files never exceed the bound; what is detached or kept counts but is not evicted.
//! * Memory: a flight holds at most about 1 MiB that is not written, besides what its waiters ask for. What is
//!   fetched ahead takes that from the [`Budget`](crate::runtime::budget::Budget) or does not start; a read never
//!   waits for the budget, so a holder of a permit may read.
//!
//! Locks, in order: `eviction` (room), an object's `gate`, `index`, an object's `state`, `overflow`, the table of
//! descriptors, a stream's pattern. None is held across an await. Only `eviction` and the gates are held over a
//! system call on a file.
//!
//! Deliberately does not: know inodes, names or dirty bytes; keep anything over a restart; verify bytes on disk;
//! retry a request (the store does).

mod fetch;
mod files;
mod flight;
mod handle;
mod object;
pub mod ranges;
mod room;
mod store;
mod stream;
#[cfg(test)]
mod tests;

pub use handle::Content;
pub use ranges::RangeSet;
pub use store::{ContentConfig, ContentStats, ContentStore};
pub use stream::Stream;

/// Unit of a random read from S3, in bytes.
pub const BLOCK_BYTES: u64 = 128 << 10;
/// First request of a sequential stream, and the size up to which an object is fetched whole, in bytes.
pub const GET_MIN_BYTES: u64 = 1 << 20;
/// Largest request, in bytes.
pub const GET_MAX_BYTES: u64 = 8 << 20;
/// Unit in which local disk allocates, in bytes.
const ALLOCATION_BYTES: u64 = 4096;
