//! The operations the kernel asks for, as our own trait: nothing of the kernel protocol and nothing of its crate.
//!
//! `fuse/` drives whatever implements this; `Filesystem` does, and so do the toys its tests mount. Arguments
//! are owned because an operation may outlive the call that brought it: it is polled once on the thread that
//! read the request and moved to the runtime when it has to wait.
//!
//! Cancellation: an operation that only asks (`lookup`, `getattr`, `readlink`, `read`, `readdir`,
//! `readdirplus`, `statfs`, `getxattr`, `listxattr`, `lseek`) is dropped at its deadline, at an await of its
//! own. All others are run to their end whatever the kernel was told meanwhile.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::error::Result;
use super::types::{
    Allocate, AttrReply, Caller, Created, DirEntry, DirEntryPlus, Entry, Fh, Ino, OpenFlags, Opened,
    ReadData, RenameFlags, SeekWhence, SetAttr, SetXattrFlags, StatFs, WriteFlags,
};

/// A filesystem the kernel can be served from. Implementations write `async fn`.
pub trait Operations: Send + Sync + 'static {
    /// Finds `name`. An entry that is answered with attributes counts as one lookup until forgotten.
    fn lookup(self: Arc<Self>, parent: Ino, name: OsString) -> impl Future<Output = Result<Entry>> + Send;

    /// Takes back `count` lookups of `ino`.
    fn forget(&self, ino: Ino, count: u64);

    /// Attributes. See stat(2).
    fn getattr(self: Arc<Self>, ino: Ino, fh: Option<Fh>) -> impl Future<Output = Result<AttrReply>> + Send;

    /// Changes attributes. See chmod(2), chown(2), truncate(2), utimensat(2).
    fn setattr(
        self: Arc<Self>,
        caller: Caller,
        ino: Ino,
        changes: SetAttr,
    ) -> impl Future<Output = Result<AttrReply>> + Send;

    /// Target of a symbolic link.
    fn readlink(self: Arc<Self>, ino: Ino) -> impl Future<Output = Result<Bytes>> + Send;

    /// Makes a file of any kind but a directory. See mknod(2).
    fn mknod(
        self: Arc<Self>,
        caller: Caller,
        parent: Ino,
        name: OsString,
        mode: u32,
        umask: u32,
        rdev: u32,
    ) -> impl Future<Output = Result<Entry>> + Send;

    /// Makes a directory. See mkdir(2).
    fn mkdir(
        self: Arc<Self>,
        caller: Caller,
        parent: Ino,
        name: OsString,
        mode: u32,
        umask: u32,
    ) -> impl Future<Output = Result<Entry>> + Send;

    /// Makes a symbolic link. See symlink(2).
    fn symlink(
        self: Arc<Self>,
        caller: Caller,
        parent: Ino,
        name: OsString,
        target: PathBuf,
    ) -> impl Future<Output = Result<Entry>> + Send;

    /// Removes a name that is no directory. See unlink(2).
    fn unlink(self: Arc<Self>, parent: Ino, name: OsString) -> impl Future<Output = Result<()>> + Send;

    /// Removes an empty directory. See rmdir(2).
    fn rmdir(self: Arc<Self>, parent: Ino, name: OsString) -> impl Future<Output = Result<()>> + Send;

    /// Renames. See rename(2).
    fn rename(
        self: Arc<Self>,
        parent: Ino,
        name: OsString,
        new_parent: Ino,
        new_name: OsString,
        flags: RenameFlags,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Opens a file.
    fn open(
        self: Arc<Self>,
        caller: Caller,
        ino: Ino,
        flags: OpenFlags,
    ) -> impl Future<Output = Result<Opened>> + Send;

    /// Makes and opens a file; the entry counts as one lookup.
    fn create(
        self: Arc<Self>,
        caller: Caller,
        parent: Ino,
        name: OsString,
        mode: u32,
        umask: u32,
        flags: OpenFlags,
    ) -> impl Future<Output = Result<Created>> + Send;

    /// Reads up to `len` bytes; fewer only at the end of the file.
    fn read(
        self: Arc<Self>,
        ino: Ino,
        fh: Fh,
        offset: u64,
        len: u32,
    ) -> impl Future<Output = Result<ReadData>> + Send;

    /// Writes without copying when that needs no waiting but for local disk; `None` asks for [`Self::write`].
    fn write_now(&self, ino: Ino, fh: Fh, offset: u64, data: &[u8], flags: WriteFlags)
    -> Option<Result<u32>>;

    /// Writes; answers the number of bytes written.
    fn write(
        self: Arc<Self>,
        ino: Ino,
        fh: Fh,
        offset: u64,
        data: Bytes,
        flags: WriteFlags,
    ) -> impl Future<Output = Result<u32>> + Send;

    /// close(2) of one descriptor: commits.
    fn flush(self: Arc<Self>, ino: Ino, fh: Fh, pid: u32) -> impl Future<Output = Result<()>> + Send;

    /// fsync(2): commits.
    fn fsync(self: Arc<Self>, ino: Ino, fh: Fh, datasync: bool) -> impl Future<Output = Result<()>> + Send;

    /// The last descriptor and the last map are gone. An error is logged and nobody sees it.
    fn release(self: Arc<Self>, ino: Ino, fh: Fh) -> impl Future<Output = Result<()>> + Send;

    /// Opens a directory.
    fn opendir(self: Arc<Self>, ino: Ino) -> impl Future<Output = Result<Opened>> + Send;

    /// Entries after the cookie `offset` (0 is the beginning), `.` and `..` included; none is the end. More
    /// than the kernel has room for may be answered, the rest is asked again.
    fn readdir(
        self: Arc<Self>,
        ino: Ino,
        fh: Fh,
        offset: u64,
    ) -> impl Future<Output = Result<Vec<DirEntry>>> + Send;

    /// The same with attributes. Counts no lookups: see [`Self::count_lookups`].
    fn readdirplus(
        self: Arc<Self>,
        ino: Ino,
        fh: Fh,
        offset: u64,
    ) -> impl Future<Output = Result<Vec<DirEntryPlus>>> + Send;

    /// Counts one lookup for each: these entries of a [`Self::readdirplus`] are about to reach the kernel.
    fn count_lookups(&self, inos: &[Ino]);

    /// Closes a directory.
    fn releasedir(self: Arc<Self>, ino: Ino, fh: Fh) -> impl Future<Output = Result<()>> + Send;

    /// fsync(2) of a directory: commits changes of names in it.
    fn fsyncdir(self: Arc<Self>, ino: Ino, fh: Fh) -> impl Future<Output = Result<()>> + Send;

    /// Space. See statvfs(3).
    fn statfs(self: Arc<Self>, ino: Ino) -> impl Future<Output = Result<StatFs>> + Send;

    /// Sets an extended attribute. See setxattr(2).
    fn setxattr(
        self: Arc<Self>,
        ino: Ino,
        name: OsString,
        value: Bytes,
        flags: SetXattrFlags,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Value of an extended attribute. See getxattr(2).
    fn getxattr(self: Arc<Self>, ino: Ino, name: OsString) -> impl Future<Output = Result<Bytes>> + Send;

    /// Names of the extended attributes, each ended by a NUL. See listxattr(2).
    fn listxattr(self: Arc<Self>, ino: Ino) -> impl Future<Output = Result<Bytes>> + Send;

    /// Removes an extended attribute. See removexattr(2).
    fn removexattr(self: Arc<Self>, ino: Ino, name: OsString) -> impl Future<Output = Result<()>> + Send;

    /// Takes or gives back space. See fallocate(2).
    fn fallocate(
        self: Arc<Self>,
        ino: Ino,
        fh: Fh,
        offset: u64,
        len: u64,
        mode: Allocate,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Next data or hole at or after `offset`. See lseek(2).
    fn lseek(
        self: Arc<Self>,
        ino: Ino,
        fh: Fh,
        offset: u64,
        whence: SeekWhence,
    ) -> impl Future<Output = Result<u64>> + Send;

    /// Copies between files; `Unsupported` makes the kernel read and write instead. See copy_file_range(2).
    #[allow(clippy::too_many_arguments)]
    fn copy_file_range(
        self: Arc<Self>,
        ino_in: Ino,
        fh_in: Fh,
        offset_in: u64,
        ino_out: Ino,
        fh_out: Fh,
        offset_out: u64,
        len: u64,
    ) -> impl Future<Output = Result<u32>> + Send;
}
