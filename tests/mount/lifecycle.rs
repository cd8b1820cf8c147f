//! Starting, stopping, and what is said when it cannot be.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use rustix::process::Signal;

use crate::support::{World, bytes, is_mounted, run};

fn pailfs() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pailfs"))
}

#[test]
fn a_background_mount_is_live_when_the_command_returns() {
    let world = World::new();
    world.bucket().put("file", "bytes");
    let (mut command, dir, _) = world.mounter().command();
    run(&mut command);
    assert!(is_mounted(&dir));
    assert_eq!(fs::read(dir.join("file")).unwrap(), b"bytes");
    fs::write(dir.join("new"), "bytes").unwrap();
    run(pailfs().arg("umount").arg(&dir));
    assert!(!is_mounted(&dir));
    assert_eq!(world.bucket().get("new"), b"bytes");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}

#[test]
fn umount_uploads_what_is_open() {
    let world = World::new();
    let data = bytes(1, 3 << 20);
    let (mut command, dir, _) = world.mounter().command();
    run(&mut command);
    let mut file = File::create(dir.join("open")).unwrap();
    file.write_all(&data).unwrap();
    run(pailfs().arg("umount").arg(&dir));
    assert!(!is_mounted(&dir));
    assert_eq!(world.bucket().get("open"), data);
    drop(file);
}

#[test]
fn signals_drain() {
    for signal in [Signal::TERM, Signal::INT] {
        let world = World::new();
        let mut mount = world.mount(&[]);
        let data = bytes(2, 20 << 20);
        let mut file = File::create(mount.path("open")).unwrap();
        file.write_all(&data).unwrap();
        fs::write(mount.path("closed"), "x").unwrap();
        fs::create_dir(mount.path("dir")).unwrap();
        fs::write(mount.path("dir/file"), "x").unwrap();
        fs::rename(mount.path("dir"), mount.path("moved")).unwrap();
        mount.signal(signal);
        let status = mount.wait();
        assert!(status.success(), "{status}\n{}", mount.log_text());
        assert!(!is_mounted(mount.dir()));
        assert!(world.bucket().get("open") == data);
        assert_eq!(world.bucket().keys(""), ["closed", "moved/", "moved/file", "open"]);
        assert_eq!(world.bucket().uploads(), []);
    }
}

/// The screen of a command that has to fail.
#[track_caller]
fn screen(mut command: Command, code: i32, dir: &Path, words: &[&str]) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = String::from_utf8_lossy(&stderr).into_owned() + &String::from_utf8_lossy(&stdout);
    assert_eq!(status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "no '{word}' in:\n{text}");
    }
    assert!(text.lines().count() <= 20, "more than a screen:\n{text}");
    assert!(!text.contains("panicked") && !text.contains("pailfs-test-secret"), "{text}");
    assert!(!is_mounted(dir), "something was left mounted");
}

#[test]
fn no_such_bucket() {
    let world = World::new();
    for flag in [None, Some("--foreground")] {
        let (mut command, dir, _) = world.mounter().target("dat").command();
        command.args(flag);
        screen(command, 66, &dir, &["no bucket dat", "there are: data", "--endpoint-url"]);
    }
}

#[test]
fn wrong_keys() {
    let world = World::new();
    let (command, dir, _) = world.mounter().keys("pailfs-test", "wrong").command();
    screen(command, 77, &dir, &["does not accept these credentials", "SignatureDoesNotMatch"]);
    let (command, dir, _) = world.mounter().keys("nobody", "wrong").command();
    screen(command, 77, &dir, &["does not accept these credentials", "InvalidAccessKeyId"]);
    let (mut command, dir, _) = world.mounter().command();
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    screen(command, 77, &dir, &["no AWS credentials", "AWS_ACCESS_KEY_ID", "--no-sign-request"]);
}

#[test]
fn no_server() {
    let world = World::new();
    let (mut command, dir, _) = world.mounter().command();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    command.args(["--endpoint-url", &endpoint, "--max-attempts", "1"]);
    screen(command, 69, &dir, &["does not answer", &endpoint]);
}

#[test]
fn mountpoints_that_will_not_do() {
    let world = World::new();
    let missing = world.tmp.path().join("no/such/dir");
    let (command, _, _) = world.mounter().dir(&missing).command();
    screen(command, 66, &missing, &["mkdir -p"]);
    let file = world.tmp.path().join("file");
    fs::write(&file, "x").unwrap();
    let (command, _, _) = world.mounter().dir(&file).command();
    screen(command, 66, &file, &["not a directory"]);

    let mount = world.mount(&[]);
    let (mut command, _, _) = world.mounter().dir(mount.dir()).command();
    let Output { status, stderr, .. } = command.output().unwrap();
    let text = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(75), "{text}");
    assert!(text.contains("pailfs umount"), "{text}");
    assert!(is_mounted(mount.dir()), "the mount that was there goes on");
    fs::write(mount.path("file"), "x").unwrap();
}

#[test]
fn one_cache_directory_is_one_daemons() {
    let world = World::new();
    let mount = world.mount(&[]);
    let (command, dir, _) = world.mounter().cache(mount.cache()).command();
    screen(command, 75, &dir, &["cache"]);
    fs::write(mount.path("file"), "x").unwrap();
    mount.stop();
}

#[test]
fn umount_of_what_is_no_mount() {
    let world = World::new();
    let dir = world.tmp.path().to_owned();
    let mut command = pailfs();
    command.arg("umount").arg(&dir);
    screen(command, 66, &dir, &["pailfs"]);
}

#[test]
fn wrong_flags() {
    let world = World::new();
    for (flags, word) in [
        (&["--cache-size", "a lot"][..], "cache-size"),
        (&["--nonsense"][..], "--nonsense"),
        (&["-o", "cachesize=1G"][..], "cache-size"),
        (&["--part-size", "1KiB"][..], "part-size"),
    ] {
        let (mut command, dir, _) = world.mounter().command();
        command.args(flags);
        screen(command, 64, &dir, &[word]);
    }
}
