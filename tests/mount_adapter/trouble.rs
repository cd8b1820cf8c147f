//! Operations that panic, hang or take long, and changes behind the kernel's back.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use pailfs::fs::types::KernelNotifier as _;
use pailfs::fuse::{MountOptions, SessionConfig};

use crate::fixture::{Fixture, config, errno, wait_until};
use crate::toy::Toy;

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
