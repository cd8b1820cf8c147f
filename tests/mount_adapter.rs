//! The adapter under a real kernel: a toy filesystem mounted through /dev/fuse. Needs root and /dev/fuse.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "toy/mod.rs"]
#[allow(dead_code)]
mod toy;

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pailfs::fs::types::{Allocate, KernelNotifier as _};
use pailfs::fuse::mount::detach;
use pailfs::fuse::{
    MountError, MountOptions, Mounted, OperationSnapshot, QueuedNotifier, SessionConfig, SessionEnd, mount,
};
use rustix::fs::{AtFlags, FallocateFlags, RenameFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use toy::Toy;

/// Bound on waiting for something that has to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A mounted toy; the mount goes with it, also when a test fails.
struct Fixture {
    toy: Arc<Toy>,
    mounted: Option<Mounted>,
    notifier: Arc<QueuedNotifier>,
    runtime: Runtime,
    dir: TempDir,
}

fn config() -> SessionConfig {
    SessionConfig { deadline: PATIENCE, ..SessionConfig::default() }
}

impl Fixture {
    fn new() -> Self {
        Self::with(Toy::new(), &MountOptions::default(), &config())
    }

    fn with(toy: Toy, options: &MountOptions, config: &SessionConfig) -> Self {
        let toy = Arc::new(toy);
        let notifier = QueuedNotifier::new();
        let dir = tempfile::tempdir().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mounted = mount(
            dir.path(),
            options,
            config,
            Arc::clone(&toy),
            Arc::clone(&notifier),
            runtime.handle().clone(),
        )
        .unwrap();
        Self { toy, mounted: Some(mounted), notifier, runtime, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn mounted(&self) -> &Mounted {
        self.mounted.as_ref().unwrap()
    }

    fn ended(&self) -> SessionEnd {
        self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, self.mounted().ended()).await.expect("the session goes on")
        })
    }

    fn unmount(&self) -> io::Result<()> {
        self.runtime.block_on(self.mounted().unmount())
    }

    fn stat(&self, operation: &str) -> OperationSnapshot {
        let all = self.mounted().stats().snapshot();
        all.into_iter().find(|s| s.operation == operation).unwrap_or_else(|| panic!("no {operation} yet"))
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // Whoever still waits in the toy goes on, or the threads of a failed test would hang in the kernel.
        self.toy.gate.add_permits(1000);
        self.mounted = None;
        while kind_mounted_at(self.dir.path()).is_some() && detach(self.dir.path()).is_ok() {}
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The line of the mount table for a path.
fn kind_mounted_at(path: &Path) -> Option<String> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let found = table.lines().rfind(|line| line.split(' ').nth(1) == path.to_str());
    found.map(str::to_owned)
}

fn errno<T>(result: io::Result<T>) -> i32 {
    result.err().expect("an error").raw_os_error().unwrap()
}

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
fn a_panic_is_one_failed_request() {
    let f = Fixture::new();
    for _ in 0..5 {
        assert_eq!(errno(fs::metadata(f.path("panic"))), libc::EIO);
        assert_eq!(errno(fs::metadata(f.path("panic-late"))), libc::EIO);
    }
    let mut file = File::create(f.path("write-panic")).unwrap();
    assert_eq!(errno(file.write(b"x")), libc::EIO);
    let lookup = f.stat("lookup");
    assert_eq!((lookup.panics, lookup.moved), (10, 5));
    assert_eq!(lookup.errors, [(libc::EIO, 10)]);
    assert_eq!(f.stat("write").panics, 1);
    fs::write(f.path("alive"), "yes").unwrap();
    assert_eq!(fs::read_to_string(f.path("alive")).unwrap(), "yes");
    assert_eq!(f.mounted().stats().in_flight(), 0);
}

#[test]
fn what_never_ends_is_answered_at_its_deadline() {
    let short = SessionConfig { deadline: Duration::from_millis(50), ..config() };
    let f = Fixture::with(Toy::new(), &MountOptions::default(), &short);
    assert_eq!(errno(fs::metadata(f.path("hang"))), libc::EIO);
    fs::write(f.path("read-hang"), "x").unwrap();
    f.toy.opened.lock().1 = true;
    assert_eq!(errno(fs::read(f.path("read-hang"))), libc::EIO);
    assert_eq!((f.stat("lookup").deadlines, f.stat("read").deadlines), (1, 1));
    assert!(f.mounted().stats().in_flight() <= 1, "but for the release of the file just closed");
    assert_eq!(errno(fs::metadata(f.path("missing"))), libc::ENOENT);
}

#[test]
fn what_changes_something_is_not_stopped_half_way() {
    let short = SessionConfig { deadline: Duration::from_millis(50), ..config() };
    let f = Fixture::with(Toy::new(), &MountOptions::default(), &short);
    assert_eq!(errno(fs::create_dir(f.path("made-slow"))), libc::EIO);
    // The lookup before the mkdir ran into its deadline too or found nothing; either way nothing is counted.
    let before = f.toy.lookups();
    f.toy.gate.add_permits(10);
    let made = || f.toy.list_root().contains(&OsString::from("made-slow"));
    wait_until("the directory is made after all", made);
    wait_until("its lookup is taken back", || f.toy.lookups() == before);
}

#[test]
fn slow_operations_hold_up_nobody() {
    let f = Fixture::new();
    fs::write(f.path("other"), "x").unwrap();
    fs::create_dir(f.path("dir")).unwrap();
    thread::scope(|scope| {
        // More than there are threads that read requests.
        let slow: Vec<_> = (0..8)
            .map(|n| {
                let path = f.path(&format!("slow-{n}"));
                scope.spawn(move || errno(fs::metadata(path)))
            })
            .collect();
        wait_until("all wait", || f.toy.waiting.load(Ordering::SeqCst) == 8);
        assert_eq!(fs::read_to_string(f.path("other")).unwrap(), "x");
        assert_eq!(errno(fs::metadata(f.path("missing"))), libc::ENOENT);
        // Not in the same directory: there the kernel itself lets nobody change names during a lookup.
        fs::write(f.path("dir/new"), "x").unwrap();
        assert!(f.mounted().stats().in_flight() >= 8);
        assert!(slow.iter().all(|t| !t.is_finished()));
        f.toy.gate.add_permits(8);
        for thread in slow {
            assert_eq!(thread.join().unwrap(), libc::ENOENT);
        }
    });
    assert_eq!(f.stat("lookup").moved, 8);
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
fn the_kernel_is_told_what_changed() {
    let f = Fixture::new();
    let path = f.path("a");
    f.toy.opened.lock().0 = true; // pages are kept
    fs::write(&path, "old").unwrap();
    let mut reader = File::open(&path).unwrap();
    let mut read = || {
        reader.rewind().unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    };
    assert_eq!(read(), "old");
    assert_eq!(fs::metadata(&path).unwrap().uid(), 0);
    let ino = f.toy.overwrite("a", b"new");
    assert_eq!((read(), fs::metadata(&path).unwrap().uid()), ("old".to_owned(), 0), "it believes its cache");
    f.notifier.inode_changed(ino, false);
    wait_until("attributes are asked again", || fs::metadata(&path).unwrap().uid() == 77);
    assert_eq!(read(), "old", "pages stay");
    f.notifier.inode_changed(ino, true);
    wait_until("the pages are gone", || read() == "new");

    // A size that changed takes the pages with it even when nobody told: no bytes of two versions.
    f.toy.overwrite("a", b"newer!");
    f.notifier.inode_changed(ino, false);
    wait_until("attributes are asked again", || fs::metadata(&path).unwrap().len() == 6);
    assert_eq!(read(), "newer!");

    assert_eq!(errno(fs::metadata(f.path("b"))), libc::ENOENT);
    f.toy.add("b");
    assert_eq!(errno(fs::metadata(f.path("b"))), libc::ENOENT, "the missing name is remembered");
    f.notifier.entry_changed(pailfs::fs::types::Ino::ROOT, "b".into());
    wait_until("the name is asked again", || fs::metadata(f.path("b")).is_ok());
    // What the kernel does not know is no error.
    f.notifier.inode_changed(pailfs::fs::types::Ino(99_999), true);
    f.notifier.entry_changed(pailfs::fs::types::Ino::ROOT, "never heard of".into());
    wait_until("all is told", || f.notifier.waiting() == 0);
    assert_eq!(f.notifier.dropped(), 0);
}

#[test]
fn an_unmount_from_outside_is_noticed() {
    let f = Fixture::new();
    fs::write(f.path("a"), "x").unwrap();
    assert!(f.mounted().is_attached() && !f.mounted().is_ended());
    assert!(Command::new("umount").arg(f.dir.path()).status().unwrap().success());
    assert_eq!(f.ended(), SessionEnd::Unmounted);
    assert!(!f.mounted().is_attached());
    f.unmount().unwrap();
    // Our end must not take off what came after us.
    let next = Fixture::new();
    let over = rustix::mount::mount_bind(next.dir.path(), f.dir.path());
    over.unwrap();
    let path = f.dir.path().to_owned();
    drop(f.unmount());
    assert!(kind_mounted_at(&path).is_some());
    detach(&path).unwrap();
}

#[test]
fn fusermount_from_outside_is_noticed() {
    let f = Fixture::new();
    assert!(Command::new("fusermount3").arg("-u").arg(f.dir.path()).status().unwrap().success());
    assert_eq!(f.ended(), SessionEnd::Unmounted);
}

#[test]
fn unmounting_while_busy_serves_open_files_to_their_end() {
    let f = Fixture::new();
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(f.path("a")).unwrap();
    file.write_all(b"before").unwrap();
    f.unmount().unwrap();
    assert_eq!(kind_mounted_at(f.dir.path()), None);
    assert!(!f.mounted().is_attached());
    assert!(!f.mounted().is_ended());
    file.write_all(b" after").unwrap();
    let mut all = [0u8; 12];
    file.read_exact_at(&mut all, 0).unwrap();
    assert_eq!(&all, b"before after");
    f.unmount().unwrap();
    drop(file);
    assert_eq!(f.ended(), SessionEnd::Unmounted);
}

#[test]
fn what_is_mounted_over_us_stays() {
    let f = Fixture::new();
    let tmpfs = rustix::mount::MountFlags::empty();
    rustix::mount::mount("none", f.dir.path(), "tmpfs", tmpfs, None).unwrap();
    assert!(!f.mounted().is_attached());
    f.unmount().unwrap();
    assert!(kind_mounted_at(f.dir.path()).unwrap().contains(" tmpfs "));
    detach(f.dir.path()).unwrap();
    f.unmount().unwrap();
    assert_eq!(f.ended(), SessionEnd::Unmounted);
}

#[test]
fn dropping_takes_the_mount_off() {
    let mut f = Fixture::new();
    fs::write(f.path("a"), "x").unwrap();
    f.mounted = None;
    assert_eq!(kind_mounted_at(f.dir.path()), None);
}

#[test]
fn options_reach_the_kernel() {
    let options = MountOptions {
        source: "pailfs#bucket/with,comma and space".to_owned(),
        allow_other: true,
        read_only: true,
        ..MountOptions::default()
    };
    let f = Fixture::with(Toy::new(), &options, &config());
    let line = kind_mounted_at(f.dir.path()).unwrap();
    assert!(line.starts_with("pailfs\\043bucket/with,comma\\040and\\040space "), "{line}");
    assert!(line.contains("allow_other") && line.contains(" ro,"), "{line}");
    assert_eq!(errno(fs::write(f.path("a"), "")), libc::EROFS);
    let device = rustix::fs::stat(f.dir.path()).unwrap().st_dev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let ahead = fs::read_to_string(format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb")).unwrap();
    assert_eq!(ahead.trim(), "1024");
}

#[test]
fn device_nodes_work_on_request_only() {
    let make = |f: &Fixture| {
        let device = rustix::fs::makedev(1, 3);
        let kind = rustix::fs::FileType::CharacterDevice;
        let path = f.path("null");
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, 0o666.into(), device).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().rdev(), device);
        OpenOptions::new().write(true).open(path)
    };
    let f = Fixture::new();
    assert_eq!(errno(make(&f)), libc::EACCES);
    let f = Fixture::with(Toy::new(), &MountOptions { dev: true, ..MountOptions::default() }, &config());
    make(&f).unwrap().write_all(b"gone").unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, f.path("fifo"), 0o600.into()).unwrap();
    assert_eq!(fs::metadata(f.path("fifo")).unwrap().mode() & 0o170_000, 0o010_000);
}

#[test]
fn mountpoints_that_will_not_do() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = Runtime::new().unwrap();
    let refused = |path: &Path| {
        mount(
            path,
            &MountOptions::default(),
            &config(),
            Arc::new(Toy::new()),
            QueuedNotifier::new(),
            runtime.handle().clone(),
        )
        .unwrap_err()
    };
    assert!(matches!(refused(&dir.path().join("x")), MountError::Missing(_)));
    fs::write(dir.path().join("file"), "").unwrap();
    assert!(matches!(refused(&dir.path().join("file")), MountError::NotDirectory(_)));
}

/// A process of its own that mounts a toy on `PAILFS_TOY_DIR` until its standard input ends.
#[test]
#[ignore = "started by other tests"]
fn toy_process() {
    let Some(dir) = std::env::var_os("PAILFS_TOY_DIR") else { return };
    let runtime = Runtime::new().unwrap();
    let mounted = mount(
        Path::new(&dir),
        &MountOptions { source: "pailfs#a,b".to_owned(), ..MountOptions::default() },
        &config(),
        Arc::new(Toy::new()),
        QueuedNotifier::new(),
        runtime.handle().clone(),
    );
    let mounted = match mounted {
        Ok(mounted) => mounted,
        Err(error) => return println!("refused: {error:?}"),
    };
    println!("ready");
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
    runtime.block_on(mounted.unmount()).unwrap();
    assert_eq!(runtime.block_on(mounted.ended()), SessionEnd::Unmounted);
    println!("ended");
}

/// Ends its process and takes off what it mounted.
struct ToyProcess {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    dir: PathBuf,
}

impl ToyProcess {
    fn start(mut command: Command, dir: &Path) -> Self {
        let mut child = command
            .args(["--exact", "toy_process", "--ignored", "--nocapture"])
            .env("PAILFS_TOY_DIR", dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, dir: dir.to_owned() }
    }

    fn expect(&mut self, prefix: &str) -> String {
        self.lines.by_ref().map(Result::unwrap).find(|l| l.starts_with(prefix)).expect(prefix)
    }
}

impl Drop for ToyProcess {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        while kind_mounted_at(&self.dir).is_some() && detach(&self.dir).is_ok() {}
    }
}

#[test]
fn a_dead_mount_is_told_and_can_be_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = ToyProcess::start(Command::new(std::env::current_exe().unwrap()), dir.path());
    process.expect("ready");
    fs::write(dir.path().join("a"), "x").unwrap();
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    wait_until("the mount is dead", || {
        fs::metadata(dir.path()).is_err_and(|e| e.raw_os_error() == Some(libc::ENOTCONN))
    });
    let again = || {
        let runtime = Runtime::new().unwrap();
        let mounted = mount(
            dir.path(),
            &MountOptions::default(),
            &config(),
            Arc::new(Toy::new()),
            QueuedNotifier::new(),
            runtime.handle().clone(),
        );
        mounted.map(|mounted| (mounted, runtime))
    };
    assert!(matches!(again().unwrap_err(), MountError::Stale(_)));
    detach(dir.path()).unwrap();
    let (mounted, runtime) = again().unwrap();
    fs::write(dir.path().join("a"), "x").unwrap();
    runtime.block_on(mounted.unmount()).unwrap();
}

#[test]
fn a_user_mounts_through_fusermount() {
    const NOBODY: u32 = 65_534;
    let dir = tempfile::tempdir().unwrap();
    let point = dir.path().join("mnt");
    fs::create_dir(&point).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(&point, Some(NOBODY), Some(NOBODY)).unwrap();
    // Where /dev/fuse is root's alone, a node of the same device that is not is put over it, in a namespace of
    // mounts that ends with the process.
    let script = "mknod $PAILFS_TOY_DIR/../fuse c 10 229 && chmod 666 $PAILFS_TOY_DIR/../fuse \
         && mount --bind $PAILFS_TOY_DIR/../fuse /dev/fuse \
         && exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-ec", script, "sh"]).arg(std::env::current_exe().unwrap());
    let mut process = ToyProcess::start(command, &point);
    process.expect("ready");
    let table = fs::read_to_string(format!("/proc/{}/mounts", process.child.id())).unwrap();
    let line = table.lines().find(|line| line.contains(point.to_str().unwrap())).unwrap();
    assert!(line.starts_with("pailfs\\043a,b ") && line.contains(" fuse.pailfs "), "{line}");
    assert!(line.contains("user_id=65534") && !line.contains("allow_other"), "{line}");
    // Without allow_other nobody else may, root neither.
    let inside = format!("/proc/{}/root{}", process.child.id(), point.display());
    assert_eq!(errno(fs::metadata(Path::new(&inside).join("a"))), libc::EACCES);
    drop(process.child.stdin.take());
    process.expect("ended");
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
