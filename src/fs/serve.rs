//! The filesystem as the kernel side sees it: arguments are owned there, borrowed here.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::error::Result;
use super::filesystem::Filesystem;
use super::operations::Operations;
use super::types::{
    Allocate, AttrReply, Caller, Created, DirEntry, DirEntryPlus, Entry, Fh, Ino, OpenFlags, Opened,
    ReadData, RenameFlags, SeekWhence, SetAttr, SetXattrFlags, StatFs, WriteFlags,
};

impl Operations for Filesystem {
    async fn lookup(self: Arc<Self>, parent: Ino, name: OsString) -> Result<Entry> {
        Filesystem::lookup(&self, parent, &name).await
    }

    fn forget(&self, ino: Ino, count: u64) {
        Filesystem::forget(self, ino, count)
    }

    async fn getattr(self: Arc<Self>, ino: Ino, fh: Option<Fh>) -> Result<AttrReply> {
        Filesystem::getattr(&self, ino, fh).await
    }

    async fn setattr(self: Arc<Self>, caller: Caller, ino: Ino, changes: SetAttr) -> Result<AttrReply> {
        Filesystem::setattr(&self, caller, ino, changes).await
    }

    async fn readlink(self: Arc<Self>, ino: Ino) -> Result<Bytes> {
        Filesystem::readlink(&self, ino).await
    }

    async fn mknod(
        self: Arc<Self>,
        caller: Caller,
        parent: Ino,
        name: OsString,
        mode: u32,
        umask: u32,
        rdev: u32,
    ) -> Result<Entry> {
        Filesystem::mknod(&self, caller, parent, &name, mode, umask, rdev).await
    }

    async fn mkdir(
        self: Arc<Self>,
        caller: Caller,
        parent: Ino,
        name: OsString,
        mode: u32,
        umask: u32,
    ) -> Result<Entry> {
        Filesystem::mkdir(&self, caller, parent, &name, mode, umask).await
    }

    async fn symlink(
        self: Arc<Self>,
        caller: Caller,
        parent: Ino,
        name: OsString,
        target: PathBuf,
    ) -> Result<Entry> {
        Filesystem::symlink(&self, caller, parent, &name, &target).await
    }

    async fn unlink(self: Arc<Self>, parent: Ino, name: OsString) -> Result<()> {
        Filesystem::unlink(&self, parent, &name).await
    }

    async fn rmdir(self: Arc<Self>, parent: Ino, name: OsString) -> Result<()> {
        Filesystem::rmdir(&self, parent, &name).await
    }

    async fn rename(
        self: Arc<Self>,
        parent: Ino,
        name: OsString,
        new_parent: Ino,
        new_name: OsString,
        flags: RenameFlags,
    ) -> Result<()> {
        Filesystem::rename(&self, parent, &name, new_parent, &new_name, flags).await
    }

    async fn open(self: Arc<Self>, caller: Caller, ino: Ino, flags: OpenFlags) -> Result<Opened> {
        Filesystem::open(&self, caller, ino, flags).await
    }

    async fn create(
        self: Arc<Self>,
        caller: Caller,
        parent: Ino,
        name: OsString,
        mode: u32,
        umask: u32,
        flags: OpenFlags,
    ) -> Result<Created> {
        Filesystem::create(&self, caller, parent, &name, mode, umask, flags).await
    }

    async fn read(self: Arc<Self>, ino: Ino, fh: Fh, offset: u64, len: u32) -> Result<ReadData> {
        Filesystem::read(&self, ino, fh, offset, len).await
    }

    fn write_now(
        &self,
        ino: Ino,
        fh: Fh,
        offset: u64,
        data: &[u8],
        flags: WriteFlags,
    ) -> Option<Result<u32>> {
        Filesystem::write_now(self, ino, fh, offset, data, flags)
    }

    async fn write(
        self: Arc<Self>,
        ino: Ino,
        fh: Fh,
        offset: u64,
        data: Bytes,
        flags: WriteFlags,
    ) -> Result<u32> {
        Filesystem::write(&self, ino, fh, offset, data, flags).await
    }

    async fn flush(self: Arc<Self>, ino: Ino, fh: Fh, pid: u32) -> Result<()> {
        Filesystem::flush_by(&self, ino, fh, pid).await
    }

    async fn fsync(self: Arc<Self>, ino: Ino, fh: Fh, datasync: bool) -> Result<()> {
        Filesystem::fsync(&self, ino, fh, datasync).await
    }

    async fn release(self: Arc<Self>, ino: Ino, fh: Fh) -> Result<()> {
        Filesystem::release(&self, ino, fh).await
    }

    async fn opendir(self: Arc<Self>, ino: Ino) -> Result<Opened> {
        Filesystem::opendir(&self, ino).await
    }

    async fn readdir(self: Arc<Self>, ino: Ino, fh: Fh, offset: u64) -> Result<Vec<DirEntry>> {
        Filesystem::readdir(&self, ino, fh, offset).await
    }

    async fn readdirplus(self: Arc<Self>, ino: Ino, fh: Fh, offset: u64) -> Result<Vec<DirEntryPlus>> {
        Filesystem::readdirplus(&self, ino, fh, offset).await
    }

    fn count_lookups(&self, inos: &[Ino]) {
        Filesystem::count_lookups(self, inos)
    }

    async fn releasedir(self: Arc<Self>, ino: Ino, fh: Fh) -> Result<()> {
        Filesystem::releasedir(&self, ino, fh).await
    }

    async fn fsyncdir(self: Arc<Self>, ino: Ino, fh: Fh) -> Result<()> {
        Filesystem::fsyncdir(&self, ino, fh).await
    }

    async fn statfs(self: Arc<Self>, ino: Ino) -> Result<StatFs> {
        Filesystem::statfs(&self, ino).await
    }

    async fn setxattr(
        self: Arc<Self>,
        ino: Ino,
        name: OsString,
        value: Bytes,
        flags: SetXattrFlags,
    ) -> Result<()> {
        Filesystem::setxattr(&self, ino, &name, value, flags).await
    }

    async fn getxattr(self: Arc<Self>, ino: Ino, name: OsString) -> Result<Bytes> {
        Filesystem::getxattr(&self, ino, &name).await
    }

    async fn listxattr(self: Arc<Self>, ino: Ino) -> Result<Bytes> {
        Filesystem::listxattr(&self, ino).await
    }

    async fn removexattr(self: Arc<Self>, ino: Ino, name: OsString) -> Result<()> {
        Filesystem::removexattr(&self, ino, &name).await
    }

    async fn fallocate(
        self: Arc<Self>,
        ino: Ino,
        fh: Fh,
        offset: u64,
        len: u64,
        mode: Allocate,
    ) -> Result<()> {
        Filesystem::fallocate(&self, ino, fh, offset, len, mode).await
    }

    async fn lseek(self: Arc<Self>, ino: Ino, fh: Fh, offset: u64, whence: SeekWhence) -> Result<u64> {
        Filesystem::lseek(&self, ino, fh, offset, whence).await
    }

    async fn copy_file_range(
        self: Arc<Self>,
        ino_in: Ino,
        fh_in: Fh,
        offset_in: u64,
        ino_out: Ino,
        fh_out: Fh,
        offset_out: u64,
        len: u64,
    ) -> Result<u32> {
        Filesystem::copy_file_range(&self, ino_in, fh_in, offset_in, ino_out, fh_out, offset_out, len).await
    }
}
