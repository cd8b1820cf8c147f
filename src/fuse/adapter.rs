//! The kernel's requests, decoded into calls of [`Operations`].
//!
//! Requests that are not for us are refused in the way the kernel remembers, so that it stops asking: ENOSYS
//! turns an operation off for the life of the mount. Which is also why no operation may ever answer ENOSYS by
//! accident: `fs::errno` has none.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, INodeNo, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags, ReplyAttr,
    ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry,
    ReplyIoctl, ReplyLock, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};

use super::convert;
use super::dispatch::{Dispatcher, Patience};
use super::respond::{Found, Made, OpenedDir, Plus, Refuse, Released, Sized as SizedReply};
use super::session::Offer;
use super::stats::Op;
use crate::fs::operations::Operations;
use crate::fs::types::{Created, Entry, SetAttr};

/// Serves one mount.
pub(super) struct Adapter<O> {
    pub(super) operations: Arc<O>,
    pub(super) dispatcher: Dispatcher,
    pub(super) offer: Offer,
}

impl Refuse for ReplyIoctl {
    fn refuse(self, errno: Errno) {
        self.error(errno);
    }
}

impl<O: Operations> Adapter<O> {
    fn fs(&self) -> Arc<O> {
        Arc::clone(&self.operations)
    }

    /// Forgets an entry the kernel was never told of.
    fn forget_late(&self) -> impl FnOnce(Entry) -> std::future::Ready<()> + Send + 'static {
        let fs = self.fs();
        move |entry| {
            if let Some(attr) = entry.attr {
                fs.forget(attr.ino, 1);
            }
            std::future::ready(())
        }
    }
}

impl<O: Operations> Filesystem for Adapter<O> {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        self.offer.apply(config);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let answer = self.dispatcher.accept(Op::Lookup, parent.0, Found(reply));
        let (fs, name) = (self.fs(), name.to_owned());
        self.dispatcher.run(answer, Patience::Drop, || fs.lookup(convert::ino(parent), name));
    }

    fn forget(&self, _: &Request, ino: INodeNo, count: u64) {
        self.dispatcher.tell(Op::Forget, ino.0, || self.operations.forget(convert::ino(ino), count));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        let answer = self.dispatcher.accept(Op::Getattr, ino.0, reply);
        let fs = self.fs();
        self.dispatcher.run(answer, Patience::Drop, || fs.getattr(convert::ino(ino), fh.map(convert::fh)));
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let answer = self.dispatcher.accept(Op::Setattr, ino.0, reply);
        let changes = SetAttr {
            mode: mode.map(|m| m & 0o7777),
            uid,
            gid,
            size,
            atime: atime.map(convert::set_time),
            mtime: mtime.map(convert::set_time),
            fh: fh.map(convert::fh),
        };
        let (fs, caller) = (self.fs(), convert::caller(request));
        self.dispatcher.run(answer, Patience::Unbounded, || fs.setattr(caller, convert::ino(ino), changes));
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        let answer = self.dispatcher.accept(Op::Readlink, ino.0, reply);
        let fs = self.fs();
        self.dispatcher.run(answer, Patience::Drop, || fs.readlink(convert::ino(ino)));
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let answer = self.dispatcher.accept(Op::Mknod, parent.0, Made(reply));
        let (fs, caller, name) = (self.fs(), convert::caller(request), name.to_owned());
        self.dispatcher.run_or_undo(
            answer,
            Patience::Leave,
            || fs.mknod(caller, convert::ino(parent), name, mode, umask, rdev),
            self.forget_late(),
        );
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let answer = self.dispatcher.accept(Op::Mkdir, parent.0, Made(reply));
        let (fs, caller, name) = (self.fs(), convert::caller(request), name.to_owned());
        self.dispatcher.run_or_undo(
            answer,
            Patience::Leave,
            || fs.mkdir(caller, convert::ino(parent), name, mode, umask),
            self.forget_late(),
        );
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let answer = self.dispatcher.accept(Op::Symlink, parent.0, Made(reply));
        let (fs, caller, name, target) =
            (self.fs(), convert::caller(request), name.to_owned(), target.to_owned());
        self.dispatcher.run_or_undo(
            answer,
            Patience::Leave,
            || fs.symlink(caller, convert::ino(parent), name, target),
            self.forget_late(),
        );
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let answer = self.dispatcher.accept(Op::Unlink, parent.0, reply);
        let (fs, name) = (self.fs(), name.to_owned());
        self.dispatcher.run(answer, Patience::Leave, || fs.unlink(convert::ino(parent), name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let answer = self.dispatcher.accept(Op::Rmdir, parent.0, reply);
        let (fs, name) = (self.fs(), name.to_owned());
        self.dispatcher.run(answer, Patience::Leave, || fs.rmdir(convert::ino(parent), name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let answer = self.dispatcher.accept(Op::Rename, parent.0, reply);
        let (fs, name, new_name) = (self.fs(), name.to_owned(), new_name.to_owned());
        let flags = convert::rename_flags(flags);
        self.dispatcher.run(answer, Patience::Unbounded, || {
            fs.rename(convert::ino(parent), name, convert::ino(new_parent), new_name, flags)
        });
    }

    /// Refused: one object is one file.
    fn link(&self, _: &Request, ino: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        self.dispatcher.accept(Op::Link, ino.0, Made(reply)).refuse(Errno::EOPNOTSUPP);
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let answer = self.dispatcher.accept(Op::Open, ino.0, reply);
        let (fs, late, caller) = (self.fs(), self.fs(), convert::caller(request));
        let (ino, flags) = (convert::ino(ino), convert::open_flags(flags.0));
        self.dispatcher.run_or_undo(
            answer,
            Patience::Leave,
            || fs.open(caller, ino, flags),
            move |opened| async move { drop(late.release(ino, opened.fh).await) },
        );
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let answer = self.dispatcher.accept(Op::Create, parent.0, reply);
        let (fs, late, caller, name) = (self.fs(), self.fs(), convert::caller(request), name.to_owned());
        let flags = convert::open_flags(flags);
        let undo = move |created: Created| async move {
            if let Some(attr) = created.entry.attr {
                drop(Arc::clone(&late).release(attr.ino, created.opened.fh).await);
                late.forget(attr.ino, 1);
            }
        };
        self.dispatcher.run_or_undo(
            answer,
            Patience::Leave,
            || fs.create(caller, convert::ino(parent), name, mode, umask, flags),
            undo,
        );
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let answer = self.dispatcher.accept(Op::Read, ino.0, reply);
        let fs = self.fs();
        self.dispatcher
            .run(answer, Patience::Drop, || fs.read(convert::ino(ino), convert::fh(fh), offset, size));
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let answer = self.dispatcher.accept(Op::Write, ino.0, reply);
        let (ino, fh, flags) =
            (convert::ino(ino), convert::fh(fh), convert::write_flags(write_flags, request.pid()));
        let now = || self.operations.write_now(ino, fh, offset, data, flags);
        match self.dispatcher.attempt(answer, now) {
            None => {}
            Some((answer, Some(result))) => answer.give(result),
            Some((answer, None)) => {
                let (fs, data) = (self.fs(), Bytes::copy_from_slice(data));
                self.dispatcher.run(answer, Patience::Leave, || fs.write(ino, fh, offset, data, flags));
            }
        }
    }

    fn flush(&self, request: &Request, ino: INodeNo, fh: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        let answer = self.dispatcher.accept(Op::Flush, ino.0, reply);
        let (fs, ino, fh, pid) = (self.fs(), convert::ino(ino), convert::fh(fh), request.pid());
        self.dispatcher.run(answer, Patience::Unbounded, || fs.flush(ino, fh, pid));
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let answer = self.dispatcher.accept(Op::Release, ino.0, Released(reply));
        let fs = self.fs();
        self.dispatcher.run(answer, Patience::Unbounded, || fs.release(convert::ino(ino), convert::fh(fh)));
    }

    fn fsync(&self, _: &Request, ino: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let answer = self.dispatcher.accept(Op::Fsync, ino.0, reply);
        let fs = self.fs();
        self.dispatcher
            .run(answer, Patience::Unbounded, || fs.fsync(convert::ino(ino), convert::fh(fh), datasync));
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let answer = self.dispatcher.accept(Op::Opendir, ino.0, OpenedDir(reply));
        let (fs, late, ino) = (self.fs(), self.fs(), convert::ino(ino));
        self.dispatcher.run_or_undo(
            answer,
            Patience::Leave,
            || fs.opendir(ino),
            move |opened| async move { drop(late.releasedir(ino, opened.fh).await) },
        );
    }

    fn readdir(&self, _: &Request, ino: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectory) {
        let answer = self.dispatcher.accept(Op::Readdir, ino.0, reply);
        let fs = self.fs();
        self.dispatcher
            .run(answer, Patience::Drop, || fs.readdir(convert::ino(ino), convert::fh(fh), offset));
    }

    fn readdirplus(&self, _: &Request, ino: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectoryPlus) {
        let reply = Plus { reply, operations: self.fs() };
        let answer = self.dispatcher.accept(Op::Readdirplus, ino.0, reply);
        let fs = self.fs();
        self.dispatcher
            .run(answer, Patience::Drop, || fs.readdirplus(convert::ino(ino), convert::fh(fh), offset));
    }

    fn releasedir(&self, _: &Request, ino: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        let answer = self.dispatcher.accept(Op::Releasedir, ino.0, Released(reply));
        let fs = self.fs();
        self.dispatcher
            .run(answer, Patience::Unbounded, || fs.releasedir(convert::ino(ino), convert::fh(fh)));
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, fh: FileHandle, _: bool, reply: ReplyEmpty) {
        let answer = self.dispatcher.accept(Op::Fsyncdir, ino.0, reply);
        let fs = self.fs();
        self.dispatcher.run(answer, Patience::Unbounded, || fs.fsyncdir(convert::ino(ino), convert::fh(fh)));
    }

    fn statfs(&self, _: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let answer = self.dispatcher.accept(Op::Statfs, ino.0, reply);
        let fs = self.fs();
        self.dispatcher.run(answer, Patience::Drop, || fs.statfs(convert::ino(ino)));
    }

    fn setxattr(
        &self,
        _: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let answer = self.dispatcher.accept(Op::Setxattr, ino.0, reply);
        let (fs, name, value) = (self.fs(), name.to_owned(), Bytes::copy_from_slice(value));
        let flags = convert::xattr_flags(flags);
        self.dispatcher.run(answer, Patience::Leave, || fs.setxattr(convert::ino(ino), name, value, flags));
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let answer = self.dispatcher.accept(Op::Getxattr, ino.0, SizedReply { reply, size_bytes: size });
        let (fs, name) = (self.fs(), name.to_owned());
        self.dispatcher.run(answer, Patience::Drop, || fs.getxattr(convert::ino(ino), name));
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let answer = self.dispatcher.accept(Op::Listxattr, ino.0, SizedReply { reply, size_bytes: size });
        let fs = self.fs();
        self.dispatcher.run(answer, Patience::Drop, || fs.listxattr(convert::ino(ino)));
    }

    fn removexattr(&self, _: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let answer = self.dispatcher.accept(Op::Removexattr, ino.0, reply);
        let (fs, name) = (self.fs(), name.to_owned());
        self.dispatcher.run(answer, Patience::Leave, || fs.removexattr(convert::ino(ino), name));
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let answer = self.dispatcher.accept(Op::Fallocate, ino.0, reply);
        // Not ENOSYS: that would turn the modes that are supported off as well.
        let Some(mode) = convert::allocate(mode) else { return answer.refuse(Errno::EOPNOTSUPP) };
        let fs = self.fs();
        self.dispatcher.run(answer, Patience::Leave, || {
            fs.fallocate(convert::ino(ino), convert::fh(fh), offset, length, mode)
        });
    }

    fn lseek(&self, _: &Request, ino: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let answer = self.dispatcher.accept(Op::Lseek, ino.0, reply);
        let Some(whence) = convert::whence(whence) else { return answer.refuse(Errno::EINVAL) };
        let Ok(offset) = u64::try_from(offset) else { return answer.refuse(Errno::ENXIO) };
        let fs = self.fs();
        self.dispatcher
            .run(answer, Patience::Drop, || fs.lseek(convert::ino(ino), convert::fh(fh), offset, whence));
    }

    fn copy_file_range(
        &self,
        _: &Request,
        ino_in: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let answer = self.dispatcher.accept(Op::CopyFileRange, ino_in.0, reply);
        let fs = self.fs();
        self.dispatcher.run(answer, Patience::Leave, || {
            fs.copy_file_range(
                convert::ino(ino_in),
                convert::fh(fh_in),
                offset_in,
                convert::ino(ino_out),
                convert::fh(fh_out),
                offset_out,
                len,
            )
        });
    }

    /// ENOTTY, which programs that ask whether a file is a terminal expect. ioctl(2).
    fn ioctl(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        self.dispatcher.accept(Op::Ioctl, ino.0, reply).refuse(Errno::ENOTTY);
    }

    /// Never asked under default_permissions.
    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    /// Locks are the kernel's own, within this machine: POSIX_LOCKS and FLOCK_LOCKS are not requested.
    fn getlk(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: LockOwner,
        _: u64,
        _: u64,
        _: i32,
        _: u32,
        reply: ReplyLock,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn setlk(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: LockOwner,
        _: u64,
        _: u64,
        _: i32,
        _: u32,
        _: bool,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn bmap(&self, _: &Request, _: INodeNo, _: u32, _: u64, reply: ReplyBmap) {
        reply.error(Errno::ENOSYS);
    }

    /// ENOSYS makes the kernel answer poll(2) itself: always ready.
    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: PollNotifier,
        _: PollEvents,
        _: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(Errno::ENOSYS);
    }
}
