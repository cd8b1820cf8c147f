//! How each result of an operation becomes an answer to the kernel.

use std::ffi::OsStr;
use std::sync::Arc;

use bytes::Bytes;
use fuser::{
    Errno, FileHandle, Generation, INodeNo, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
};

use super::convert;
use crate::fs::operations::Operations;
use crate::fs::types::{AttrReply, Created, DirEntry, DirEntryPlus, Entry, Opened, StatFs};

/// Inode numbers are never used twice, so their generation never changes.
const GENERATION: Generation = Generation(0);

/// A request that waits for its answer.
pub(super) trait Refuse: Send + 'static {
    /// Answers with an errno.
    fn refuse(self, errno: Errno);
}

/// A request that can be answered with a `T`.
pub(super) trait Respond<T>: Refuse {
    /// Answers. An errno comes back when it had to be answered instead.
    fn respond(self, value: T) -> Option<Errno>;
}

macro_rules! refuse {
    ($($reply:ty),+) => {
        $(impl Refuse for $reply {
            fn refuse(self, errno: Errno) {
                self.error(errno);
            }
        })+
    };
}

refuse!(ReplyAttr, ReplyCreate, ReplyData, ReplyEmpty, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite);

/// A lookup, where "there is no such name" is an answer.
pub(super) struct Found(pub(super) ReplyEntry);

impl Refuse for Found {
    fn refuse(self, errno: Errno) {
        self.0.error(errno);
    }
}

impl Respond<Entry> for Found {
    fn respond(self, entry: Entry) -> Option<Errno> {
        let attr = entry.attr.as_ref().map_or_else(convert::negative_attr, convert::file_attr);
        self.0.entry(&entry.ttl, &attr, GENERATION);
        None
    }
}

/// Something new, which has to have attributes.
pub(super) struct Made(pub(super) ReplyEntry);

impl Refuse for Made {
    fn refuse(self, errno: Errno) {
        self.0.error(errno);
    }
}

impl Respond<Entry> for Made {
    fn respond(self, entry: Entry) -> Option<Errno> {
        let Some(attr) = &entry.attr else {
            self.0.error(Errno::EIO);
            return Some(Errno::EIO);
        };
        self.0.entry(&entry.ttl, &convert::file_attr(attr), GENERATION);
        None
    }
}

impl Respond<Created> for ReplyCreate {
    fn respond(self, created: Created) -> Option<Errno> {
        let Some(attr) = &created.entry.attr else {
            self.error(Errno::EIO);
            return Some(Errno::EIO);
        };
        let flags = convert::fopen_file(&created.opened);
        let fh = FileHandle(created.opened.fh.0);
        self.created(&created.entry.ttl, &convert::file_attr(attr), GENERATION, fh, flags);
        None
    }
}

impl Respond<AttrReply> for ReplyAttr {
    fn respond(self, reply: AttrReply) -> Option<Errno> {
        self.attr(&reply.ttl, &convert::file_attr(&reply.attr));
        None
    }
}

impl Respond<Bytes> for ReplyData {
    fn respond(self, data: Bytes) -> Option<Errno> {
        self.data(&data);
        None
    }
}

impl Respond<Opened> for ReplyOpen {
    fn respond(self, opened: Opened) -> Option<Errno> {
        self.opened(FileHandle(opened.fh.0), convert::fopen_file(&opened));
        None
    }
}

/// An opened directory: its flags mean something else.
pub(super) struct OpenedDir(pub(super) ReplyOpen);

impl Refuse for OpenedDir {
    fn refuse(self, errno: Errno) {
        self.0.error(errno);
    }
}

impl Respond<Opened> for OpenedDir {
    fn respond(self, opened: Opened) -> Option<Errno> {
        self.0.opened(FileHandle(opened.fh.0), convert::fopen_dir(&opened));
        None
    }
}

impl Respond<u32> for ReplyWrite {
    fn respond(self, written: u32) -> Option<Errno> {
        self.written(written);
        None
    }
}

impl Respond<()> for ReplyEmpty {
    fn respond(self, _: ()) -> Option<Errno> {
        self.ok();
        None
    }
}

/// release and releasedir: nobody can be told of an error, and the kernel would only log one.
pub(super) struct Released(pub(super) ReplyEmpty);

impl Refuse for Released {
    fn refuse(self, _: Errno) {
        self.0.ok();
    }
}

impl Respond<()> for Released {
    fn respond(self, _: ()) -> Option<Errno> {
        self.0.ok();
        None
    }
}

impl Respond<StatFs> for ReplyStatfs {
    fn respond(self, s: StatFs) -> Option<Errno> {
        self.statfs(
            s.blocks,
            s.blocks_free,
            s.blocks_free,
            s.files,
            s.files_free,
            s.block_size_bytes,
            s.name_max_bytes,
            s.block_size_bytes,
        );
        None
    }
}

impl Respond<u64> for ReplyLseek {
    fn respond(self, offset: u64) -> Option<Errno> {
        let Ok(offset) = i64::try_from(offset) else {
            self.error(Errno::EOVERFLOW);
            return Some(Errno::EOVERFLOW);
        };
        self.offset(offset);
        None
    }
}

/// getxattr and listxattr: the caller's buffer size comes with the request. 0 asks for the length; too small
/// is ERANGE. getxattr(2), listxattr(2).
pub(super) struct Sized {
    pub(super) reply: ReplyXattr,
    pub(super) size_bytes: u32,
}

impl Refuse for Sized {
    fn refuse(self, errno: Errno) {
        self.reply.error(errno);
    }
}

impl Respond<Bytes> for Sized {
    fn respond(self, value: Bytes) -> Option<Errno> {
        match u32::try_from(value.len()) {
            Ok(len) if self.size_bytes == 0 => self.reply.size(len),
            Ok(len) if len <= self.size_bytes => self.reply.data(&value),
            _ => {
                self.reply.error(Errno::ERANGE);
                return Some(Errno::ERANGE);
            }
        }
        None
    }
}

impl Refuse for ReplyDirectory {
    fn refuse(self, errno: Errno) {
        self.error(errno);
    }
}

impl Respond<Vec<DirEntry>> for ReplyDirectory {
    fn respond(mut self, entries: Vec<DirEntry>) -> Option<Errno> {
        for entry in &entries {
            let kind = convert::file_type(entry.kind);
            if self.add(INodeNo(entry.ino.0), entry.offset, kind, &entry.name) {
                break;
            }
        }
        self.ok();
        None
    }
}

/// readdirplus: the entries that fit are lookups, and the filesystem has to know before the kernel can forget
/// them.
pub(super) struct Plus<O> {
    pub(super) reply: ReplyDirectoryPlus,
    pub(super) operations: Arc<O>,
}

impl<O: Operations> Refuse for Plus<O> {
    fn refuse(self, errno: Errno) {
        self.reply.error(errno);
    }
}

impl<O: Operations> Respond<Vec<DirEntryPlus>> for Plus<O> {
    fn respond(mut self, entries: Vec<DirEntryPlus>) -> Option<Errno> {
        let mut counted = Vec::with_capacity(entries.len());
        for plus in &entries {
            let attr = convert::file_attr(&plus.attr);
            let full =
                self.reply.add(attr.ino, plus.entry.offset, &plus.entry.name, &plus.ttl, &attr, GENERATION);
            if full {
                break;
            }
            if !is_dot(&plus.entry.name) {
                counted.push(plus.attr.ino);
            }
        }
        self.operations.count_lookups(&counted);
        self.reply.ok();
        None
    }
}

/// The kernel makes no inode reference of these two. See fuse_direntplus_link in the kernel.
fn is_dot(name: &OsStr) -> bool {
    name == "." || name == ".."
}
