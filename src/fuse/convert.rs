//! Numbers and flags of the kernel protocol into the filesystem's vocabulary and back. Pure functions.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileHandle, FileType, FopenFlags, INodeNo, OpenAccMode, Request, TimeOrNow};

use crate::fs::types::{
    Allocate, Attr, Caller, Fh, FileKind, Ino, OpenFlags, Opened, RenameFlags, SeekWhence, SetTime,
    SetXattrFlags, WriteFlags,
};

/// What st_blksize says: how much a program reads at once when it asks. The kernel reads ahead on its own.
const BLOCK_SIZE_BYTES: u32 = 128 * 1024;

/// Sizes above this are refused by the kernel, which then fails the whole request with EIO.
const SIZE_MAX: u64 = i64::MAX as u64;

pub(super) fn ino(ino: INodeNo) -> Ino {
    Ino(ino.0)
}

pub(super) fn fh(fh: FileHandle) -> Fh {
    Fh(fh.0)
}

pub(super) fn caller(request: &Request) -> Caller {
    Caller { uid: request.uid(), gid: request.gid(), pid: request.pid() }
}

pub(super) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Regular => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

pub(super) fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size.min(SIZE_MAX),
        blocks: attr.blocks,
        atime: attr.atime,
        mtime: attr.mtime,
        ctime: attr.ctime,
        crtime: UNIX_EPOCH,
        kind: file_type(attr.kind),
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: BLOCK_SIZE_BYTES,
        flags: 0,
    }
}

/// The answer "no such name" that the kernel may remember: inode 0. See fuse_lookup_name in the kernel.
pub(super) fn negative_attr() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_SIZE_BYTES,
        flags: 0,
    }
}

/// Flags of open(2) and of create, which brings the same bits.
pub(super) fn open_flags(bits: i32) -> OpenFlags {
    let mode = fuser::OpenFlags(bits).acc_mode();
    OpenFlags {
        read: matches!(mode, OpenAccMode::O_RDONLY | OpenAccMode::O_RDWR),
        write: matches!(mode, OpenAccMode::O_WRONLY | OpenAccMode::O_RDWR),
        truncate: bits & libc::O_TRUNC != 0,
        append: bits & libc::O_APPEND != 0,
        exclusive: bits & libc::O_EXCL != 0,
        direct: bits & libc::O_DIRECT != 0,
    }
}

pub(super) fn fopen_file(opened: &Opened) -> FopenFlags {
    let mut flags = FopenFlags::empty();
    flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep_cache);
    flags.set(FopenFlags::FOPEN_DIRECT_IO, opened.direct_io);
    flags.set(FopenFlags::FOPEN_NOFLUSH, opened.no_flush);
    flags
}

/// For a directory `keep_cache` lets the kernel answer the listing from its own cache.
pub(super) fn fopen_dir(opened: &Opened) -> FopenFlags {
    let mut flags = FopenFlags::empty();
    flags.set(FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR, opened.keep_cache);
    flags
}

pub(super) fn rename_flags(flags: fuser::RenameFlags) -> RenameFlags {
    let known = fuser::RenameFlags::RENAME_NOREPLACE | fuser::RenameFlags::RENAME_EXCHANGE;
    RenameFlags {
        no_replace: flags.contains(fuser::RenameFlags::RENAME_NOREPLACE),
        exchange: flags.contains(fuser::RenameFlags::RENAME_EXCHANGE),
        other: flags.bits() & !known.bits() != 0,
    }
}

pub(super) fn write_flags(flags: fuser::WriteFlags, pid: u32) -> WriteFlags {
    WriteFlags {
        from_cache: flags.contains(fuser::WriteFlags::FUSE_WRITE_CACHE),
        kill_suidgid: flags.contains(fuser::WriteFlags::FUSE_WRITE_KILL_SUIDGID),
        pid,
    }
}

pub(super) fn xattr_flags(bits: i32) -> SetXattrFlags {
    SetXattrFlags { create: bits & libc::XATTR_CREATE != 0, replace: bits & libc::XATTR_REPLACE != 0 }
}

/// `None`: a mode that is not supported.
pub(super) fn allocate(mode: i32) -> Option<Allocate> {
    const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | KEEP;
    const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;
    const ZERO_KEEP: i32 = ZERO | KEEP;
    match mode {
        0 => Some(Allocate::Extend),
        KEEP => Some(Allocate::KeepSize),
        PUNCH => Some(Allocate::PunchHole),
        ZERO => Some(Allocate::ZeroRange { keep_size: false }),
        ZERO_KEEP => Some(Allocate::ZeroRange { keep_size: true }),
        _ => None,
    }
}

/// `None`: a whence the kernel answers itself.
pub(super) fn whence(whence: i32) -> Option<SeekWhence> {
    match whence {
        libc::SEEK_DATA => Some(SeekWhence::Data),
        libc::SEEK_HOLE => Some(SeekWhence::Hole),
        _ => None,
    }
}

pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::At(before_epoch_repaired(time)),
    }
}

/// fuser 0.18 decodes `seconds + nanoseconds` of a time before 1970 as `seconds - nanoseconds`. Seconds and
/// nanoseconds are still both there, so the time meant can be told.
fn before_epoch_repaired(time: SystemTime) -> SystemTime {
    let Err(before) = time.duration_since(UNIX_EPOCH) else { return time };
    let wrong = before.duration();
    UNIX_EPOCH
        .checked_sub(Duration::from_secs(wrong.as_secs()))
        .and_then(|seconds| seconds.checked_add(Duration::from_nanos(u64::from(wrong.subsec_nanos()))))
        .unwrap_or(time)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_keep_their_nanoseconds() {
        // -1.2 s is sent as (-2 s, 800,000,000 ns) and arrives as 2.8 s before the epoch.
        let decoded = UNIX_EPOCH - Duration::new(2, 800_000_000);
        assert_eq!(before_epoch_repaired(decoded), UNIX_EPOCH - Duration::new(1, 200_000_000));
        let whole = UNIX_EPOCH - Duration::from_secs(5);
        assert_eq!(before_epoch_repaired(whole), whole);
        let later = UNIX_EPOCH + Duration::new(7, 9);
        assert_eq!(before_epoch_repaired(later), later);
    }

    #[test]
    fn open_flags_by_bit() {
        let flags = open_flags(libc::O_RDWR | libc::O_TRUNC | libc::O_APPEND);
        assert!(flags.read && flags.write && flags.truncate && flags.append);
        assert!(!flags.exclusive && !flags.direct);
        let flags = open_flags(libc::O_WRONLY | libc::O_EXCL | libc::O_DIRECT);
        assert!(!flags.read && flags.write && flags.exclusive && flags.direct);
    }

    #[test]
    fn rename_flags_that_are_not_known_are_told() {
        let whiteout = rename_flags(fuser::RenameFlags::RENAME_WHITEOUT);
        assert!(whiteout.other && !whiteout.no_replace && !whiteout.exchange);
        let unknown = rename_flags(fuser::RenameFlags::from_bits_retain(1 << 20));
        assert!(unknown.other);
        let both = rename_flags(fuser::RenameFlags::from_bits_retain(3));
        assert!(both.no_replace && both.exchange && !both.other);
    }

    #[test]
    fn allocate_modes() {
        assert_eq!(allocate(0), Some(Allocate::Extend));
        assert_eq!(allocate(1), Some(Allocate::KeepSize));
        assert_eq!(allocate(3), Some(Allocate::PunchHole));
        assert_eq!(allocate(0x10), Some(Allocate::ZeroRange { keep_size: false }));
        assert_eq!(allocate(0x11), Some(Allocate::ZeroRange { keep_size: true }));
        assert_eq!(allocate(2), None, "a hole that changes the size");
        assert_eq!(allocate(0x08), None, "collapse");
    }
}
