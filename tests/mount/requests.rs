//! The contract of docs and design: how many requests an action costs, counted at the server.
//!
//! Every test lists the directory first where the contract says "after a listing", so that what is counted is
//! the action alone. An open asks whether the version is still the one that is known unless that was learnt in
//! the last second; whether it has to is a matter of how fast the machine is, so [`asked`] allows for it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use pailfs_s3_server::Counters;

use crate::support::{Bucket, Mount, World, bytes, get_xattr, run, set_times, set_xattr, sync};

/// Exactly these requests and no others.
#[track_caller]
fn exactly(counters: &Counters, expected: &[(&str, u64)]) {
    let expected = expected.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
    assert_eq!(counters.operations, expected);
}

/// Exactly these requests, and perhaps one question for each of `opens`: a HEAD, or a GET answered without a body.
#[track_caller]
fn asked(counters: &Counters, opens: u64, expected: &[(&str, u64)]) {
    let mut operations = counters.operations.clone();
    for (name, n) in expected {
        let count = operations.entry((*name).to_owned()).or_default();
        *count = count.checked_sub(*n).unwrap_or_else(|| panic!("{expected:?} expected: {counters:?}"));
    }
    let questions =
        operations.remove("HeadObject").unwrap_or(0) + operations.remove("GetObject").unwrap_or(0);
    assert!(operations.values().all(|n| *n == 0), "{expected:?} expected: {counters:?}");
    assert!(questions <= opens, "{questions} questions for {opens} opens: {counters:?}");
}

/// At most this many requests in all.
#[track_caller]
fn at_most(counters: &Counters, limit: u64) {
    assert!(
        counters.total() <= limit,
        "{} requests, at most {limit}: {:?}",
        counters.total(),
        counters.operations
    );
}

fn fill(bucket: &Bucket, dir: &str, files: usize) {
    for i in 0..files {
        bucket.put(&format!("{dir}f{i:05}"), format!("bytes of {i}"));
    }
}

/// Names and attributes of the directory, as `ls -l` reads them.
fn list(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).collect::<Vec<_>>().len()
}

/// A mount of a bucket that `prepare` has filled, its root listed.
fn listed(world: &World, prepare: impl FnOnce(&Bucket)) -> Mount {
    prepare(&world.bucket());
    let mount = world.mount(&["--ttl", "1h", "--open-window", "1h"]);
    list(mount.dir());
    world.settle();
    mount
}

#[test]
fn stat_after_a_listing() {
    let world = World::new();
    let mount = listed(&world, |bucket| fill(bucket, "", 20));
    let counted = world.count(|| {
        for i in 0..20 {
            assert!(fs::metadata(mount.path(&format!("f{i:05}"))).unwrap().is_file());
        }
    });
    exactly(&counted, &[]);
}

#[test]
fn stat_cold() {
    let world = World::new();
    world.bucket().put("file", "x");
    world.bucket().put("dir/file", "x");
    let mount = world.mount(&["--ttl", "1h"]);
    at_most(&world.count(|| assert!(fs::metadata(mount.path("file")).unwrap().is_file())), 2);
    at_most(&world.count(|| assert!(fs::metadata(mount.path("dir")).unwrap().is_dir())), 2);
    at_most(&world.count(|| assert!(fs::metadata(mount.path("missing")).is_err())), 2);
    exactly(&world.count(|| assert!(fs::metadata(mount.path("missing")).is_err())), &[]);
    exactly(&world.count(|| assert!(fs::metadata(mount.path("file")).unwrap().is_file())), &[]);
}

#[test]
fn ls_of_many_entries() {
    let world = World::new();
    fill(&world.bucket(), "", 1200);
    let ttl = Duration::from_secs(15);
    let mount = world.mount(&["--ttl", "15s"]);
    let cold = world.count(|| assert_eq!(list(mount.dir()), 1200));
    exactly(&cold, &[("HeadObject", 1200), ("ListObjectsV2", 2)]);
    let fresh = world.count(|| assert_eq!(list(mount.dir()), 1200));
    assert_eq!(fresh.count("HeadObject"), 0, "objects are asked for once");
    std::thread::sleep(ttl + Duration::from_secs(1));
    let again = world.count(|| assert_eq!(list(mount.dir()), 1200));
    exactly(&again, &[("ListObjectsV2", 2)]);
}

#[test]
fn ls_with_attributes_of_the_listing() {
    let world = World::new();
    fill(&world.bucket(), "", 1200);
    let mount = world.mount(&["--attrs", "list"]);
    exactly(&world.count(|| assert_eq!(list(mount.dir()), 1200)), &[("ListObjectsV2", 2)]);
}

#[test]
fn find_in_many_directories() {
    let world = World::new();
    for dir in 0..60 {
        fill(&world.bucket(), &format!("d{dir:02}/"), 5);
    }
    let mount = world.mount(&["--attrs", "list", "--ttl", "1h"]);
    let counted = world.count(|| {
        let found = run(Command::new("find").arg(mount.dir()));
        assert_eq!(found.lines().count(), 1 + 60 + 300);
    });
    println!("find over 300 files in 60 directories: {:?}", counted.operations);
    assert_eq!(counted.count("HeadObject"), 0);
    // One listing for each directory and one for the root.
    at_most(&counted, 61);
}

#[test]
fn cat_a_small_file() {
    let world = World::new();
    let mount = listed(&world, |bucket| fill(bucket, "", 3));
    let cold = world.count(|| assert_eq!(fs::read(mount.path("f00001")).unwrap(), b"bytes of 1"));
    exactly(&cold, &[("GetObject", 1)]);

    let warm = world.count(|| assert_eq!(fs::read(mount.path("f00001")).unwrap(), b"bytes of 1"));
    asked(&warm, 1, &[]);
    assert_eq!(warm.bytes_out, 0, "the bytes are here already");
    // At most one question each second, however often it is read.
    let begin = Instant::now();
    let often = world.count(|| {
        for _ in 0..50 {
            assert_eq!(fs::read(mount.path("f00001")).unwrap(), b"bytes of 1");
        }
    });
    asked(&often, begin.elapsed().as_secs() + 1, &[]);
}

#[test]
fn create_a_small_file() {
    let world = World::new();
    let mount = listed(&world, |bucket| fill(bucket, "", 3));
    exactly(&world.count(|| fs::write(mount.path("new"), "bytes").unwrap()), &[("PutObject", 1)]);
    exactly(&world.count(|| drop(File::create(mount.path("empty")).unwrap())), &[("PutObject", 1)]);
    // The file just written is known: reading it asks for nothing.
    let read = world.count(|| assert_eq!(fs::read(mount.path("new")).unwrap(), b"bytes"));
    asked(&read, 1, &[]);
    assert_eq!(read.bytes_out, 0, "the bytes are here already");
}

#[test]
fn create_with_attributes_set_before_close() {
    let world = World::new();
    let mount = listed(&world, |bucket| fill(bucket, "", 3));
    let path = mount.path("new");
    let counted = world.count(|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        file.write_all(b"bytes").unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o640)).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::fchown(&file, Some(12), Some(34)).unwrap();
        }
        set_xattr(&path, "user.comment", b"words", 0).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    });
    exactly(&counted, &[("PutObject", 1)]);
    let metadata = world.bucket().head("new").properties.metadata;
    assert_eq!(metadata["mode"], "33184");
    assert_eq!(metadata["mtime"], "1000000000.000000000");
    assert!(metadata["xattr"].contains("user.comment"), "{metadata:?}");
}

#[test]
fn overwrite_and_append() {
    let world = World::new();
    let mount = listed(&world, |bucket| fill(bucket, "", 3));
    asked(&world.count(|| fs::write(mount.path("f00000"), "others").unwrap()), 1, &[("PutObject", 1)]);
    let append = |name: &str| {
        let mut file = OpenOptions::new().append(true).open(mount.path(name)).unwrap();
        file.write_all(b" and more").unwrap();
    };
    asked(&world.count(|| append("f00000")), 1, &[("PutObject", 1)]);
    asked(&world.count(|| append("f00001")), 1, &[("GetObject", 1), ("PutObject", 1)]);
    assert_eq!(world.bucket().get("f00000"), b"others and more");
    assert_eq!(world.bucket().get("f00001"), b"bytes of 1 and more");
    let begin = Instant::now();
    let often = world.count(|| {
        for _ in 0..20 {
            append("f00002");
        }
    });
    // The bytes it had are fetched once.
    asked(&often, begin.elapsed().as_secs() + 1, &[("GetObject", 1), ("PutObject", 20)]);
}

#[test]
fn change_attributes_of_a_committed_file() {
    let world = World::new();
    let mount = listed(&world, |bucket| fill(bucket, "", 4));
    let path = |i: usize| mount.path(&format!("f{i:05}"));
    let copy: &[(&str, u64)] = &[("CopyObject", 1)];
    let chmod = |i| fs::set_permissions(path(i), fs::Permissions::from_mode(0o600)).unwrap();
    let touch = |i| set_times(&path(i), (0, 0), (0, 0)).unwrap();
    let comment = |i| set_xattr(&path(i), "user.comment", b"words", 0).unwrap();
    exactly(
        &world.count(|| {
            chmod(0);
            sync(mount.dir());
        }),
        copy,
    );
    exactly(
        &world.count(|| {
            touch(1);
            sync(mount.dir());
        }),
        copy,
    );
    exactly(
        &world.count(|| {
            comment(2);
            sync(mount.dir());
        }),
        copy,
    );
    let together = world.count(|| {
        chmod(3);
        touch(3);
        comment(3);
        sync(mount.dir());
    });
    exactly(&together, copy);
    let metadata = world.bucket().head("f00003").properties.metadata;
    assert_eq!((metadata["mode"].as_str(), metadata["mtime"].as_str()), ("33152", "0.000000000"));
    assert_eq!(get_xattr(&path(3), "user.comment").unwrap(), b"words");
}

#[test]
fn move_a_file() {
    let world = World::new();
    let mount = listed(&world, |bucket| fill(bucket, "", 3));
    let counted = world.count(|| {
        fs::rename(mount.path("f00000"), mount.path("moved")).unwrap();
        sync(mount.dir());
    });
    exactly(&counted, &[("CopyObject", 1), ("DeleteObject", 1)]);
    assert_eq!(world.bucket().keys(""), ["f00001", "f00002", "moved"]);
}

#[test]
fn move_a_directory() {
    let world = World::new();
    let mount = listed(&world, |bucket| fill(bucket, "dir/", 50));
    list(&mount.path("dir"));
    let counted = world.count(|| {
        fs::rename(mount.path("dir"), mount.path("moved")).unwrap();
        sync(mount.dir());
    });
    println!("mv of a directory of 50: {:?}", counted.operations);
    assert!(counted.count("CopyObject") <= 51);
    assert!(counted.count("DeleteObjects") + counted.count("DeleteObject") <= 2);
    assert!(counted.count("ListObjectsV2") <= 2);
    at_most(&counted, 55);
    assert_eq!(world.bucket().keys("dir/"), [""; 0]);
    assert_eq!(list(&mount.path("moved")), 50);
}

#[test]
fn make_and_remove_a_directory() {
    let world = World::new();
    let mount = listed(&world, |bucket| fill(bucket, "", 1));
    let counted = world.count(|| {
        fs::create_dir(mount.path("dir")).unwrap();
        sync(mount.path("dir"));
        fs::remove_dir(mount.path("dir")).unwrap();
        sync(mount.dir());
    });
    println!("mkdir and rmdir: {:?}", counted.operations);
    assert!(counted.count("ListObjectsV2") <= 1);
    at_most(&counted, 3);
}

#[test]
fn write_a_file_in_parts() {
    let world = World::new();
    let mount = world.mount(&["--ttl", "1h", "--part-size", "8MiB", "--multipart-threshold", "16MiB"]);
    list(mount.dir());
    let data = bytes(1, 64 << 20);
    let counted = world.count(|| fs::write(mount.path("parts"), &data).unwrap());
    exactly(&counted, &[("CompleteMultipartUpload", 1), ("CreateMultipartUpload", 1), ("UploadPart", 8)]);
    assert_eq!(world.bucket().get("parts"), data);
}

#[test]
fn change_a_byte_of_a_large_object() {
    let world = World::new();
    let mut data = bytes(2, 200 << 20);
    let mount = listed(&world, |bucket| {
        bucket.put("large", data.clone());
    });
    let counted = world.count(|| {
        let mut file = OpenOptions::new().write(true).open(mount.path("large")).unwrap();
        file.seek(SeekFrom::Start(100 << 20)).unwrap();
        file.write_all(b"!").unwrap();
    });
    println!(
        "a byte of 200 MiB: {:?}, {} bytes in, {} out",
        counted.operations, counted.bytes_in, counted.bytes_out
    );
    // The part the byte is in: what is left and right of it is fetched; two ranges are copied on the server.
    let parts = [
        ("CompleteMultipartUpload", 1),
        ("CreateMultipartUpload", 1),
        ("GetObject", 1),
        ("UploadPart", 1),
        ("UploadPartCopy", 2),
    ];
    asked(&counted, 1, &parts);
    assert!(counted.bytes_in + counted.bytes_out < 24 << 20, "moved more than a part in and one out");
    data[100 << 20] = b'!';
    assert!(world.bucket().get("large") == data, "bytes after the change");
    let mut read = Vec::new();
    File::open(mount.path("large")).unwrap().read_to_end(&mut read).unwrap();
    assert!(read == data, "bytes through the mount");
}

#[test]
fn copy_within_the_mount() {
    let world = World::new();
    let data = bytes(3, 3 << 20);
    let mount = listed(&world, |bucket| {
        bucket.put("from", data.clone());
    });
    let counted = world.count(|| {
        run(Command::new("cp").arg(mount.path("from")).arg(mount.path("to")));
    });
    asked(&counted, 1, &[("CopyObject", 1)]);
    assert_eq!(counted.bytes_in, 0, "no bytes are sent");
    assert_eq!(world.bucket().get("to"), data);
}

#[test]
fn git_init_add_commit() {
    let world = World::new();
    let mount = world.mount(&[]);
    let script = "set -e; cd \"$1\"; git init -q -b main repo; cd repo
        for i in 1 2 3 4 5 6 7 8 9 10; do echo $i >file$i; done; git add --all; git commit -q -m first";
    let counted = world.count(|| {
        let mut git = Command::new("bash");
        git.args(["-c", script, "git"]).arg(mount.dir()).env("HOME", world.tmp.path());
        for who in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{who}_NAME"), "pail").env(format!("GIT_{who}_EMAIL"), "p@example.org");
        }
        run(git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null"));
    });
    println!("git init, add, commit of 10 files: {} requests {:?}", counted.total(), counted.operations);
    at_most(&counted, 149);
}

/// Shells open a redirection, duplicate it and close the first descriptor before anything is written.
#[test]
fn redirections_of_a_shell() {
    let world = World::new();
    let mount = listed(&world, |bucket| fill(bucket, "", 3));
    let shell = |script: &str| {
        run(Command::new("bash").args(["-c", script, "sh"]).arg(mount.dir()));
    };
    // A shell closes one descriptor of a new file before it runs the program, and close puts the name into S3:
    // that is the first of the two. A file that is there is replaced once.
    asked(&world.count(|| shell("echo bytes >\"$1/new\"")), 0, &[("PutObject", 2)]);
    asked(&world.count(|| shell("echo bytes >\"$1/f00000\"")), 1, &[("PutObject", 1)]);
    asked(&world.count(|| shell("cat /etc/hostname >\"$1/cat\"")), 0, &[("PutObject", 2)]);
    // The program at the end closes what the shell and it wrote.
    asked(
        &world.count(|| shell("{ echo a; echo b; cat /etc/hostname; } >\"$1/group\"")),
        0,
        &[("PutObject", 2)],
    );
    asked(&world.count(|| shell("printf '%s' x | tee \"$1/tee\" >/dev/null")), 0, &[("PutObject", 1)]);
    asked(&world.count(|| shell("cp /etc/hostname \"$1/cp\"")), 0, &[("PutObject", 1)]);
}

/// A program that starts others while it writes: each of them closes its copies of the descriptors.
#[test]
fn starting_programs_while_a_file_is_written() {
    let world = World::new();
    let mount = listed(&world, |bucket| fill(bucket, "", 1));
    let counted = world.count(|| {
        let mut file = File::create(mount.path("f00000")).unwrap();
        for i in 0..20 {
            writeln!(file, "line {i}").unwrap();
            run(&mut Command::new("true"));
        }
    });
    println!("20 programs started while a file was written: {:?}", counted.operations);
    asked(&counted, 1, &[("PutObject", 1)]);
}
