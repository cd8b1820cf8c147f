//! The program from the outside, as far as it goes without a mount: screens and exit codes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::{Command, Output};

/// Runs the program with nothing of the caller's settings or credentials.
fn pailfs(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pailfs"))
        .args(arguments)
        .env_clear()
        .env("HOME", home)
        .env("PATH", "/usr/bin:/bin")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("PAILFS_CACHE_DIR", home.join("cache"))
        .current_dir(home)
        .output()
        .unwrap()
}

#[track_caller]
fn check(arguments: &[&str], code: i32, words: &[&str]) {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("mnt")).unwrap();
    std::fs::write(home.path().join("file"), "").unwrap();
    let output = pailfs(home.path(), arguments);
    let screen =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {screen}");
    for word in words {
        assert!(screen.contains(word), "{arguments:?}: no '{word}' in: {screen}");
    }
    assert!(screen.lines().count() < 24 || code == 0, "more than a screen: {screen}");
}

#[test]
fn help_and_version() {
    check(&["--version"], 0, &["pailfs 0."]);
    check(&["--help"], 0, &["mount", "umount", "Exit codes:"]);
    check(&["mount", "--help"], 0, &["Connection:", "--cache-size", "PAILFS_", "Local data:", "Exit codes:"]);
}

#[test]
fn wrong_usage_is_64() {
    check(&["mont", "b", "mnt"], 64, &["mount"]);
    check(&["mount", "b"], 64, &["BUCKET[/PREFIX] DIR"]);
    check(&["mount", "b", "mnt", "--no-such-flag"], 64, &["--no-such-flag"]);
    check(&["mount", "b", "mnt", "--ttl", "soon"], 64, &["--ttl", "30s"]);
    check(&["mount", "b", "mnt", "-o", "cachesize=1G"], 64, &["cache-size"]);
    check(&["mount", "http://host/b", "mnt"], 64, &["--endpoint-url"]);
    check(&["b", "mnt", "-o", "ro,nonsense"], 64, &["nonsense"]);
    check(&["mount", "b", "mnt", "--log-level", "loud"], 64, &["loud"]);
}

#[test]
fn umount_of_what_is_no_mount() {
    check(&["umount", "mnt"], 66, &["nothing is mounted on"]);
    check(&["unmount", "nowhere"], 66, &["nowhere"]);
    check(&["umount", "/proc"], 66, &["no pailfs mount"]);
}

#[test]
fn mountpoints_that_will_not_do() {
    if !Path::new("/dev/fuse").exists() {
        check(&["mount", "b", "mnt"], 71, &["/dev/fuse", "modprobe"]);
        return;
    }
    for foreground in ["--foreground", "--foreground=false"] {
        check(&["mount", "b", "nowhere", foreground], 66, &["does not exist", "mkdir -p"]);
        check(&["mount", "b", "file", foreground], 66, &["not a directory"]);
    }
}
