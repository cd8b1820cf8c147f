//! Mounting and every way a mount ends.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use pailfs::fuse::mount::detach;
use pailfs::fuse::{MountError, MountOptions, QueuedNotifier, SessionEnd, mount};
use tokio::runtime::Runtime;

use crate::fixture::{Fixture, config, errno, kind_mounted_at, wait_until};
use crate::toy::Toy;

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
            .args(["--exact", "lifecycle::toy_process", "--ignored", "--nocapture"])
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
