//! Files that are no regular files, and their attributes.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use crate::support::{Mount, World, errno, mknod, place, set_times, sync};

#[test]
fn fifos_and_sockets() {
    let place = place();
    let fifo = place.path("fifo");
    mknod(&fifo, libc::S_IFIFO | 0o640, 0).unwrap();
    assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
    let reader = {
        let fifo = fifo.clone();
        thread::spawn(move || {
            let mut text = String::new();
            File::open(fifo).unwrap().read_to_string(&mut text).unwrap();
            text
        })
    };
    OpenOptions::new().write(true).open(&fifo).unwrap().write_all(b"through the pipe").unwrap();
    assert_eq!(reader.join().unwrap(), "through the pipe");

    let socket = place.path("s");
    let listener = UnixListener::bind(&socket).unwrap();
    assert!(fs::symlink_metadata(&socket).unwrap().file_type().is_socket());
    let mut client = UnixStream::connect(&socket).unwrap();
    client.write_all(b"hello").unwrap();
    drop(client);
    let mut text = String::new();
    listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    fs::remove_file(&socket).unwrap();
    fs::remove_file(&fifo).unwrap();
    assert_eq!(fs::read_dir(place.dir()).unwrap().count(), 0);
}

#[test]
fn kinds_survive_a_remount() {
    let world = World::new();
    let mount = world.mount(&[]);
    mknod(&mount.path("fifo"), libc::S_IFIFO | 0o640, 0).unwrap();
    mknod(&mount.path("socket"), libc::S_IFSOCK | 0o600, 0).unwrap();
    symlink("no/such/target", mount.path("link")).unwrap();
    let root = rustix::process::geteuid().is_root();
    if root {
        mknod(&mount.path("char"), libc::S_IFCHR | 0o600, libc::makedev(1, 3)).unwrap();
        mknod(&mount.path("block"), libc::S_IFBLK | 0o600, libc::makedev(259, 70_000)).unwrap();
    }
    fs::create_dir(mount.path("empty")).unwrap();
    mount.stop();

    let mount = world.mount(&[]);
    let stat = |name: &str| fs::symlink_metadata(mount.path(name)).unwrap();
    assert!(stat("fifo").file_type().is_fifo());
    assert_eq!(stat("fifo").mode() & 0o7777, 0o640);
    assert!(stat("socket").file_type().is_socket());
    assert!(stat("link").is_symlink());
    assert_eq!(fs::read_link(mount.path("link")).unwrap().to_str(), Some("no/such/target"));
    assert!(stat("empty").is_dir());
    if root {
        assert!(stat("char").file_type().is_char_device());
        assert_eq!(stat("char").rdev(), libc::makedev(1, 3));
        assert!(stat("block").file_type().is_block_device());
        assert_eq!(stat("block").rdev(), libc::makedev(259, 70_000));
    }
}

#[test]
fn times_to_the_nanosecond() {
    let world = World::new();
    let mount = world.mount(&[]);
    fs::write(mount.path("file"), "x").unwrap();
    fs::create_dir(mount.path("dir")).unwrap();
    symlink("file", mount.path("link")).unwrap();
    let (atime, mtime) = ((1_000_000_000, 123_456_789), (-5, 999_999_999));
    for name in ["file", "dir", "link"] {
        set_times(&mount.path(name), atime, mtime).unwrap();
    }
    let check = |path: std::path::PathBuf| {
        let stat = fs::symlink_metadata(&path).unwrap();
        assert_eq!((stat.mtime(), stat.mtime_nsec()), mtime, "mtime of {path:?}");
        assert_eq!((stat.atime(), stat.atime_nsec()), atime, "atime of {path:?}");
    };
    ["file", "dir", "link"].into_iter().for_each(|name| check(mount.path(name)));
    sync(mount.path("file"));
    mount.stop();
    let mount = world.mount(&[]);
    ["file", "dir", "link"].into_iter().for_each(|name| check(mount.path(name)));
}

#[test]
fn long_links() {
    let place = place();
    let target = "t/".repeat(2000);
    symlink(&target, place.path("link")).unwrap();
    assert_eq!(fs::read_link(place.path("link")).unwrap().to_str(), Some(target.as_str()));
    assert_eq!(fs::symlink_metadata(place.path("link")).unwrap().len(), 4000);
    assert_eq!(errno(symlink("x", place.path("link"))), libc::EEXIST);
    symlink("link2", place.path("link1")).unwrap();
    symlink("link1", place.path("link2")).unwrap();
    assert_eq!(errno(File::open(place.path("link1"))), libc::ELOOP);
}

#[test]
fn empty_directories_last() {
    let world = World::new();
    let mount = world.mount(&[]);
    fs::create_dir_all(mount.path("a/b/c")).unwrap();
    fs::write(mount.path("a/b/c/file"), "x").unwrap();
    fs::remove_file(mount.path("a/b/c/file")).unwrap();
    assert!(mount.path("a/b/c").is_dir());
    assert_eq!(errno(fs::remove_dir(mount.path("a"))), libc::ENOTEMPTY);
    fs::remove_dir(mount.path("a/b/c")).unwrap();
    mount.stop();
    // Directories that are only common prefixes last as well when their last entry goes.
    world.bucket().put("implied/dir/only", "x");
    let mount = world.mount(&[]);
    assert!(mount.path("a/b").is_dir());
    fs::remove_file(mount.path("implied/dir/only")).unwrap();
    assert!(mount.path("implied/dir").is_dir(), "the parent stays");
    mount.stop();
    let mount = world.mount(&[]);
    assert!(mount.path("implied/dir").is_dir(), "the parent stays over a remount");
}

/// Attributes are sent a moment later; what is changed while they are on their way is not forgotten.
#[test]
fn attributes_changed_while_earlier_ones_are_sent() {
    let world = World::new();
    world.server.knobs().set_latency(Duration::from_millis(20));
    let mount = world.mount(&[]);
    let mut lost = Vec::new();
    let names: Vec<String> = (0..40).flat_map(|i| [format!("dir{i:02}"), format!("file{i:02}")]).collect();
    for (i, name) in names.iter().enumerate() {
        let path = mount.path(name);
        if name.starts_with("dir") {
            fs::create_dir(&path).unwrap();
        } else {
            fs::write(&path, "bytes").unwrap();
        }
        // The moments of the change are spread over all that goes on meanwhile.
        thread::sleep(Duration::from_millis(i as u64 * 5));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        set_times(&path, (1, 0), (i as i64 + 1000, 5)).unwrap();
    }
    let mut check = |mount: &Mount, when: &str| {
        for (i, name) in names.iter().enumerate() {
            let stat = fs::metadata(mount.path(name)).unwrap();
            let got = (stat.mode() & 0o7777, stat.mtime(), stat.mtime_nsec());
            let expected = (0o750, i as i64 + 1000, 5);
            if got != expected {
                lost.push(format!("{name} {when}: {got:?} for {expected:?}"));
            }
        }
    };
    check(&mount, "at once");
    sync(mount.dir());
    world.settle();
    check(&mount, "after a sync");
    mount.stop();
    check(&world.mount(&[]), "after a remount");
    assert_eq!(lost, [""; 0]);
}
