//! The vocabulary of the filesystem: no type of the kernel protocol and none of the S3 SDK appears here.

use std::ffi::OsString;
use std::time::SystemTime;

use bytes::Bytes;

/// Inode number; 1 is the root. Never used twice while the daemon lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ino(pub u64);

impl Ino {
    /// The root directory.
    pub const ROOT: Self = Self(1);
}

/// Handle of an open file or directory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Fh(pub u64);

/// What kind of file an inode is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FileKind {
    /// Regular file.
    Regular,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Named pipe.
    Fifo,
    /// Unix socket.
    Socket,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
}

/// Attributes of an inode. See stat(2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attr {
    /// Inode number.
    pub ino: Ino,
    /// Bytes.
    pub size: u64,
    /// Units of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub atime: SystemTime,
    /// Last change of the content.
    pub mtime: SystemTime,
    /// Last change of content or attributes.
    pub ctime: SystemTime,
    /// Kind.
    pub kind: FileKind,
    /// Permission bits with set-id and sticky bits (`0o7777`), without the type.
    pub mode: u32,
    /// Links: 1, for directories 2.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node, as makedev(3) packs it for the kernel protocol.
    pub rdev: u32,
}

/// A name that was resolved, with how long the kernel may believe it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Attributes; `None` is a negative entry (the name does not exist and the kernel may remember so).
    pub attr: Option<Attr>,
    /// How long the name and the attributes may be believed.
    pub ttl: std::time::Duration,
}

/// Attributes with how long the kernel may believe them.
#[derive(Clone, Debug)]
pub struct AttrReply {
    /// Attributes.
    pub attr: Attr,
    /// How long they may be believed.
    pub ttl: std::time::Duration,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Process (thread group may differ).
    pub pid: u32,
}

/// A time to set: see utimensat(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetTime {
    /// The time of the call.
    Now,
    /// This time.
    At(SystemTime),
}

/// What setattr changes; `None` leaves a field as it is.
#[derive(Clone, Default, Debug)]
pub struct SetAttr {
    /// Permission bits; type bits are ignored.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size: truncates or extends with zeros.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<SetTime>,
    /// Modification time.
    pub mtime: Option<SetTime>,
    /// The handle of ftruncate(2) and futimens(3) callers, when the kernel sent one.
    pub fh: Option<Fh>,
}

/// Flags of open(2) that a filesystem sees.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct OpenFlags {
    /// Reading is allowed.
    pub read: bool,
    /// Writing is allowed.
    pub write: bool,
    /// `O_TRUNC`: the file becomes empty at open.
    pub truncate: bool,
    /// `O_APPEND`.
    pub append: bool,
    /// `O_EXCL` of a create.
    pub exclusive: bool,
    /// `O_DIRECT`.
    pub direct: bool,
}

/// An opened file or directory.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// Its handle.
    pub fh: Fh,
    /// The kernel may keep what it has in its page cache: the version is the one it saw before.
    pub keep_cache: bool,
    /// Reads and writes bypass the kernel's page cache.
    pub direct_io: bool,
    /// flush need not be called at close: nothing can be dirty through this handle.
    pub no_flush: bool,
}

/// A created and opened file.
#[derive(Clone, Debug)]
pub struct Created {
    /// The new file.
    pub entry: Entry,
    /// Its handle.
    pub opened: Opened,
}

/// One directory entry. `offset` is the cookie a following readdir continues after.
#[derive(Clone, Debug)]
pub struct DirEntry {
    /// Inode number.
    pub ino: Ino,
    /// Cookie.
    pub offset: u64,
    /// Kind.
    pub kind: FileKind,
    /// Name.
    pub name: OsString,
}

/// One directory entry with its attributes. Each one that reaches the kernel counts as a lookup, but for
/// `.` and `..`.
#[derive(Clone, Debug)]
pub struct DirEntryPlus {
    /// Name and cookie.
    pub entry: DirEntry,
    /// Attributes.
    pub attr: Attr,
    /// How long they may be believed.
    pub ttl: std::time::Duration,
}

/// Flags of rename(2).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct RenameFlags {
    /// `RENAME_NOREPLACE`.
    pub no_replace: bool,
    /// `RENAME_EXCHANGE`.
    pub exchange: bool,
    /// A flag that is neither, such as `RENAME_WHITEOUT`.
    pub other: bool,
}

/// What statfs(2) tells.
#[derive(Clone, Copy, Debug)]
pub struct StatFs {
    /// Blocks of `block_size_bytes`.
    pub blocks: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Files.
    pub files: u64,
    /// Free files.
    pub files_free: u64,
    /// Bytes of a block.
    pub block_size_bytes: u32,
    /// Longest name in bytes.
    pub name_max_bytes: u32,
}

/// Whence of an lseek(2) that needs the filesystem.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SeekWhence {
    /// `SEEK_DATA`.
    Data,
    /// `SEEK_HOLE`.
    Hole,
}

/// Mode bits of fallocate(2), decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allocate {
    /// Mode 0: extends the file when the range ends past it.
    Extend,
    /// `FALLOC_FL_KEEP_SIZE`: space without a new size.
    KeepSize,
    /// `FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE`: zeros.
    PunchHole,
    /// `FALLOC_FL_ZERO_RANGE`, with or without keeping the size.
    ZeroRange {
        /// Whether the size stays.
        keep_size: bool,
    },
}

/// Flags of setxattr(2).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct SetXattrFlags {
    /// `XATTR_CREATE`: fails with EEXIST when it is there.
    pub create: bool,
    /// `XATTR_REPLACE`: fails with ENODATA when it is not.
    pub replace: bool,
}

/// Who caused a write.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct WriteFlags {
    /// The kernel writes back pages (a memory map): the writer is unknown.
    pub from_cache: bool,
    /// Set-id bits are to be cleared (`FUSE_WRITE_KILL_SUIDGID`).
    pub kill_suidgid: bool,
    /// The thread that writes; 0 when it is not known.
    pub pid: u32,
}

/// Bytes read. One contiguous piece, because the kernel protocol takes one.
pub type ReadData = Bytes;

/// Tells the kernel that what it remembers is no longer true. Implemented by `fuse::notify`; the filesystem
/// calls it without holding a lock. Both calls return at once: a thread of its own talks to the kernel.
pub trait KernelNotifier: Send + Sync + 'static {
    /// Attributes of `ino` changed; `data` also drops its cached pages.
    fn inode_changed(&self, ino: Ino, data: bool);
    /// The name no longer means what it did.
    fn entry_changed(&self, parent: Ino, name: OsString);
}
