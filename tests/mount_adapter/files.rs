//! What programs do with files, and what of it reaches the filesystem.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use pailfs::fs::types::Allocate;
use pailfs::fuse::{MountOptions, SessionEnd};
use rustix::fs::{AtFlags, FallocateFlags, RenameFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use crate::fixture::{Fixture, config, errno, kind_mounted_at, wait_until};
use crate::toy::Toy;

#[test]
fn ordinary_use() {
    let f = Fixture::new();
    let options = MountOptions::default();
    let line = kind_mounted_at(f.dir.path()).unwrap();
    assert!(line.starts_with(&format!("{} ", options.source)) && line.contains(" fuse.pailfs "), "{line}");
    assert!(line.contains("nosuid,nodev") && line.contains("default_permissions"), "{line}");
    assert!(!line.contains("allow_other"), "{line}");

    let path = f.path("a");
    fs::write(&path, b"hello").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"hello");
    let stat = fs::metadata(&path).unwrap();
    assert_eq!((stat.len(), stat.mode() & 0o170_000, stat.nlink()), (5, 0o100_000, 1));
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b" there").unwrap();
    assert!(f.toy.last_open.lock().unwrap().append);
    assert_eq!(fs::read(&path).unwrap(), b"hello there");
    OpenOptions::new().write(true).open(&path).unwrap().set_len(3).unwrap();
    assert!(f.toy.last_setattr.lock().as_ref().unwrap().fh.is_some(), "ftruncate brings the handle");
    assert_eq!(fs::read(&path).unwrap(), b"hel");
    File::create(&path).unwrap();
    assert!(f.toy.last_open.lock().unwrap().truncate, "O_TRUNC comes with the open");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o4751)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o4751);
    std::os::unix::fs::chown(&path, Some(12), Some(34)).unwrap();
    let stat = fs::metadata(&path).unwrap();
    assert_eq!((stat.uid(), stat.gid()), (12, 34));

    std::os::unix::fs::symlink("some/where", f.path("link")).unwrap();
    assert_eq!(fs::read_link(f.path("link")).unwrap(), Path::new("some/where"));
    fs::create_dir(f.path("dir")).unwrap();
    fs::rename(&path, f.path("dir/b")).unwrap();
    assert_eq!(errno(fs::remove_dir(f.path("dir"))), libc::ENOTEMPTY);
    fs::remove_file(f.path("dir/b")).unwrap();
    fs::remove_dir(f.path("dir")).unwrap();
    fs::remove_file(f.path("link")).unwrap();
    assert_eq!(fs::read_dir(f.dir.path()).unwrap().count(), 0);
    let space = rustix::fs::statvfs(f.dir.path()).unwrap();
    assert_eq!((space.f_bsize, space.f_blocks, space.f_namemax), (4096, 1 << 40, 255));
    f.unmount().unwrap();
    assert_eq!(f.ended(), SessionEnd::Unmounted);
    assert_eq!(kind_mounted_at(f.dir.path()), None);
}

#[test]
fn a_missing_name_is_asked_for_once() {
    let f = Fixture::new();
    for _ in 0..50 {
        assert_eq!(errno(fs::metadata(f.path("missing"))), libc::ENOENT);
    }
    assert_eq!(f.stat("lookup").count, 1);
}

#[test]
fn a_large_directory_is_listed_whole_and_its_lookups_add_up() {
    let f = Fixture::new();
    f.toy.fill(3000);
    let mut names: Vec<OsString> =
        fs::read_dir(f.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3000);
    // The first READDIRs carry attributes, and each entry that was sent is a lookup.
    let plus = f.stat("readdirplus");
    assert!(plus.count > 0);
    assert!(f.toy.lookups() > 0);
    for name in &names {
        assert_eq!(fs::metadata(f.dir.path().join(name)).unwrap().len(), 0);
    }
    let lookups = f.mounted().stats().count("lookup");
    assert!(lookups <= 3000);
    for name in &names {
        fs::remove_file(f.dir.path().join(name)).unwrap();
    }
    // The kernel takes back exactly what was counted; the toy panics on more.
    wait_until("all is forgotten", || f.toy.lookups() == 0);
    assert_eq!(f.stat("forget").panics, 0);
}

#[test]
fn rename_flags() {
    let f = Fixture::new();
    let (a, b) = (f.path("a"), f.path("b"));
    fs::write(&a, "A").unwrap();
    fs::write(&b, "B").unwrap();
    let rename = |flags| rustix::fs::renameat_with(rustix::fs::CWD, &a, rustix::fs::CWD, &b, flags);
    // The kernel answers this one itself when it knows the name.
    assert_eq!(rename(RenameFlags::NOREPLACE), Err(Errno::EXIST));
    rename(RenameFlags::EXCHANGE).unwrap();
    assert!(f.toy.last_rename.lock().unwrap().exchange);
    assert_eq!((fs::read_to_string(&a).unwrap(), fs::read_to_string(&b).unwrap()), ("B".into(), "A".into()));
    assert_eq!(rename(RenameFlags::WHITEOUT), Err(Errno::INVAL));
    fs::remove_file(&b).unwrap();
    rename(RenameFlags::NOREPLACE).unwrap();
    assert!(f.toy.last_rename.lock().unwrap().no_replace);
    fs::rename(&b, &a).unwrap();
    assert_eq!(*f.toy.last_rename.lock(), Some(pailfs::fs::types::RenameFlags::default()));
}

#[test]
fn extended_attributes() {
    let f = Fixture::new();
    let path = f.path("a");
    fs::write(&path, "").unwrap();
    let value = vec![7u8; 1000];
    rustix::fs::setxattr(&path, "user.one", &value, XattrFlags::empty()).unwrap();
    let again = |flags| rustix::fs::setxattr(&path, "user.one", b"x", flags);
    assert_eq!(again(XattrFlags::CREATE), Err(Errno::EXIST));
    let missing = rustix::fs::setxattr(&path, "user.two", b"x", XattrFlags::REPLACE);
    assert_eq!(missing, Err(Errno::NODATA));
    assert_eq!(rustix::fs::getxattr_query(&path, "user.one"), Ok(1000));
    let mut small = [0u8; 999];
    assert_eq!(rustix::fs::getxattr(&path, "user.one", &mut small), Err(Errno::RANGE));
    let mut room = [0u8; 1500];
    assert_eq!(rustix::fs::getxattr(&path, "user.one", &mut room), Ok(1000));
    assert_eq!(&room[..1000], &value[..]);
    assert_eq!(rustix::fs::listxattr_query(&path), Ok(9));
    let mut names = [0u8; 9];
    rustix::fs::listxattr(&path, &mut names).unwrap();
    assert_eq!(&names, b"user.one\0");
    let mut short = [0u8; 8];
    assert_eq!(rustix::fs::listxattr(&path, &mut short), Err(Errno::RANGE));
    again(XattrFlags::REPLACE).unwrap();
    assert_eq!(rustix::fs::getxattr_query(&path, "user.one"), Ok(1));
    rustix::fs::removexattr(&path, "user.one").unwrap();
    assert_eq!(rustix::fs::removexattr(&path, "user.one"), Err(Errno::NODATA));
}

#[test]
fn not_every_write_asks_for_capabilities() {
    let f = Fixture::new();
    let mut file = File::create(f.path("a")).unwrap();
    for _ in 0..20 {
        file.write_all(&[1; 100]).unwrap();
    }
    // security.capability, once in the life of an inode and not for each write: HANDLE_KILLPRIV_V2.
    assert!(f.mounted().stats().count("getxattr") <= 1);
    assert_eq!(f.stat("write").count, 20);
}

#[test]
fn a_memory_map_is_written_back() {
    let f = Fixture::new();
    let path = f.path("a");
    fs::write(&path, vec![0u8; 8192]).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let flags = rustix::mm::MapFlags::SHARED;
    let prot = rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE;
    // SAFETY: a new mapping of a file nobody truncates, used within its 8,192 bytes and unmapped below.
    unsafe {
        let map = rustix::mm::mmap(std::ptr::null_mut(), 8192, prot, flags, &file, 0).unwrap();
        map.cast::<u8>().add(5000).copy_from_nonoverlapping(b"mapped".as_ptr(), 6);
        rustix::mm::msync(map, 8192, rustix::mm::MsyncFlags::SYNC).unwrap();
        rustix::mm::munmap(map, 8192).unwrap();
    }
    assert!(f.toy.last_write.lock().unwrap().from_cache);
    // Around the kernel's cache.
    f.toy.opened.lock().1 = true;
    let mut found = [0u8; 6];
    File::open(&path).unwrap().read_exact_at(&mut found, 5000).unwrap();
    assert_eq!(&found, b"mapped");
}

#[test]
fn direct_io() {
    let f = Fixture::new();
    let path = f.path("a");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(libc::O_DIRECT)
        .open(&path)
        .unwrap();
    assert!(f.toy.last_open.lock().unwrap().direct);
    let mut buffer = vec![0u8; 3 * 4096];
    let start = buffer.as_ptr().align_offset(4096);
    let page = &mut buffer[start..start + 8192];
    page.fill(9);
    file.write_all_at(page, 4096).unwrap();
    page.fill(0);
    assert_eq!(file.read_at(page, 4096).unwrap(), 8192);
    assert!(page.iter().all(|b| *b == 9));
    assert_eq!(file.read_at(page, 8192).unwrap(), 4096, "up to the end");
    assert_eq!(file.read_at(page, 12288).unwrap(), 0);
}

#[test]
fn large_writes_and_reads_in_large_requests() {
    let mut toy = Toy::new();
    toy.copy_writes = true;
    let f = Fixture::with(toy, &MountOptions::default(), &config());
    let data: Vec<u8> = (0..8 * 1024 * 1024u32).map(|n| (n / 7) as u8).collect();
    fs::write(f.path("a"), &data).unwrap();
    assert!(f.stat("write").count <= 16, "requests of up to 1 MiB: {:?}", f.stat("write"));
    assert_eq!(f.stat("write").moved, f.stat("write").count, "each had to wait once");
    assert!(fs::read(f.path("a")).unwrap() == data);
    assert!(f.stat("read").count <= 80, "{:?}", f.stat("read"));
}

#[test]
fn refusals_programs_understand() {
    let f = Fixture::new();
    let path = f.path("a");
    fs::write(&path, vec![1; 10_000]).unwrap();
    assert_eq!(errno(fs::hard_link(&path, f.path("b"))), libc::EOPNOTSUPP);
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    // An ioctl the kernel does not answer itself; what a program gets that asks for a terminal.
    // SAFETY: TCGETS writes a termios into memory large enough for one.
    let asked =
        unsafe { libc::ioctl(file.as_raw_fd(), libc::TCGETS, &mut std::mem::zeroed::<libc::termios>()) };
    assert_eq!((asked, io::Error::last_os_error().raw_os_error()), (-1, Some(libc::ENOTTY)));
    // Locks are the kernel's own.
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let other = File::open(&path).unwrap();
    let refused = rustix::fs::flock(&other, rustix::fs::FlockOperation::NonBlockingLockShared);
    assert_eq!(refused, Err(Errno::WOULDBLOCK));
    // poll(2) on a file is always ready.
    let mut polled = [rustix::event::PollFd::new(&file, rustix::event::PollFlags::IN)];
    assert_eq!(rustix::event::poll(&mut polled, None), Ok(1));
    rustix::fs::access(&path, rustix::fs::Access::READ_OK).unwrap();

    for (flags, mode) in [
        (FallocateFlags::empty(), Allocate::Extend),
        (FallocateFlags::KEEP_SIZE, Allocate::KeepSize),
        (FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, Allocate::PunchHole),
        (FallocateFlags::ZERO_RANGE, Allocate::ZeroRange { keep_size: false }),
        (FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, Allocate::ZeroRange { keep_size: true }),
    ] {
        rustix::fs::fallocate(&file, flags, 100, 50).unwrap();
        assert_eq!(*f.toy.last_allocate.lock(), Some(mode));
    }
    let collapse = rustix::fs::fallocate(&file, FallocateFlags::COLLAPSE_RANGE, 0, 4096);
    assert_eq!(collapse, Err(Errno::OPNOTSUPP));
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(5)), Ok(5));
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(5)), Ok(10_000));
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(10_000)), Err(Errno::NXIO));

    // copy_file_range is refused by the toy; the kernel then copies by itself.
    let copy = OpenOptions::new().read(true).write(true).create_new(true).open(f.path("copy")).unwrap();
    let (mut from, mut to) = (0, 0);
    let copied = rustix::fs::copy_file_range(&file, Some(&mut from), &copy, Some(&mut to), 10_000);
    assert_eq!(copied, Ok(10_000));
    assert!(f.stat("copy_file_range").errors.contains(&(libc::EOPNOTSUPP, 1)));
    assert_eq!(fs::read(f.path("copy")).unwrap(), vec![1; 10_000]);
}

#[test]
fn close_tells_of_a_failed_commit() {
    let f = Fixture::new();
    let file = File::create(f.path("flush-fails")).unwrap();
    let raw = std::os::fd::IntoRawFd::into_raw_fd(file);
    // SAFETY: the descriptor was just taken out of its owner and is closed once.
    let closed = unsafe { libc::close(raw) };
    assert_eq!((closed, io::Error::last_os_error().raw_os_error()), (-1, Some(libc::ENOSPC)));
    wait_until("the file is released", || f.toy.open.load(Ordering::SeqCst) == 0);
    assert_eq!(f.stat("flush").errors, [(libc::ENOSPC, 1)]);
}

#[test]
fn times_of_every_kind() {
    let f = Fixture::new();
    let path = f.path("a");
    fs::write(&path, "").unwrap();
    let set = |mtime| {
        let times = Timestamps { last_access: Timespec { tv_sec: 1, tv_nsec: 2 }, last_modification: mtime };
        rustix::fs::utimensat(rustix::fs::CWD, &path, &times, AtFlags::empty()).unwrap();
        let stat = fs::metadata(&path).unwrap();
        assert_eq!((stat.atime(), stat.atime_nsec()), (1, 2));
        (stat.mtime(), stat.mtime_nsec())
    };
    assert_eq!(set(Timespec { tv_sec: 1_700_000_000, tv_nsec: 123_456_789 }), (1_700_000_000, 123_456_789));
    assert_eq!(set(Timespec { tv_sec: -2, tv_nsec: 800_000_000 }), (-2, 800_000_000));
    assert_eq!(set(Timespec { tv_sec: -2_000_000_000, tv_nsec: 0 }), (-2_000_000_000, 0));
    for (far, nearest) in [(i64::MIN, i64::MIN), (i64::MAX, i64::MAX)] {
        assert_eq!(
            set(Timespec { tv_sec: far, tv_nsec: 5 }),
            (nearest, 0),
            "the kernel cuts nanoseconds there"
        );
    }
    let now = set(Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW });
    let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 - now.0;
    assert!((0..100).contains(&age), "{age}");
    assert_eq!(set(Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT }), now);
}

#[test]
fn a_file_handed_to_another_user_can_be_closed_by_them() {
    let f = Fixture::new();
    let file = File::create(f.path("a")).unwrap();
    let status = Command::new("sh")
        .args(["-c", "echo from nobody"])
        .uid(65_534)
        .gid(65_534)
        .stdout(Stdio::from(file.try_clone().unwrap()))
        .status()
        .unwrap();
    assert!(status.success());
    assert!(f.stat("flush").errors.is_empty());
    assert_eq!(fs::read_to_string(f.path("a")).unwrap(), "from nobody\n");
}
