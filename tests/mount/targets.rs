//! What may be mounted: all buckets, a prefix, and without the right to write.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use crate::support::{World, bytes, errno, run, set_xattr};

#[test]
fn all_buckets() {
    let world = World::with(|config| config.buckets.push("other-bucket".to_owned()));
    world.bucket().put("here", "1");
    for flags in [&[][..], &["--all-buckets"][..]] {
        let mount = world.mounter().target("s3://").flags(flags).start();
        let mut names: Vec<_> = fs::read_dir(mount.dir()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["data", "other-bucket"]);
        assert_eq!(fs::read(mount.path("data/here")).unwrap(), b"1");
    }
    let mount = world.mounter().target("s3://").start();
    let other = world.bucket_named("other-bucket");
    let data = bytes(4, 9 << 20);
    fs::write(mount.path("data/file"), &data).unwrap();
    run(Command::new("cp").arg(mount.path("data/file")).arg(mount.path("other-bucket/copy")));
    assert_eq!(other.get("copy"), data);
    run(Command::new("mv").arg(mount.path("data/file")).arg(mount.path("other-bucket/moved")));
    assert_eq!(other.get("moved"), data);
    assert!(!world.bucket().exists("file"));
    fs::create_dir(mount.path("data/tree")).unwrap();
    for i in 0..12 {
        fs::write(mount.path(&format!("data/tree/{i}")), format!("{i}")).unwrap();
    }
    run(Command::new("mv").arg(mount.path("data/tree")).arg(mount.path("other-bucket/tree")));
    assert_eq!(world.bucket().keys("tree"), [""; 0]);
    assert_eq!(other.keys("tree/").len(), 13);
    run(Command::new("cp").arg("-a").arg(mount.path("other-bucket/tree")).arg(mount.path("data/back")));
    assert_eq!(fs::read(mount.path("data/back/7")).unwrap(), b"7");

    // Buckets are made and removed by other means.
    assert!(fs::write(mount.path("file-beside-buckets"), "x").is_err());
    assert!(fs::remove_dir(mount.path("data")).is_err());
    assert!(fs::rename(mount.path("data"), mount.path("renamed")).is_err());
    assert_eq!(fs::metadata(mount.path("no-such-bucket")).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    mount.stop();
}

#[test]
fn a_prefix() {
    let world = World::new();
    let bucket = world.bucket();
    bucket.put("team/blue/file", "inside");
    bucket.put("team/blue-outside", "outside");
    bucket.put("team/outside", "outside");
    for target in ["data/team/blue", "s3://data/team/blue/"] {
        let mount = world.mounter().target(target).start();
        let names: Vec<_> = fs::read_dir(mount.dir()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["file"], "{target}");
    }
    let mount = world.mounter().target("data/team/blue").start();
    fs::write(mount.path("new"), "x").unwrap();
    fs::create_dir(mount.path("dir")).unwrap();
    fs::write(mount.path("dir/below"), "y").unwrap();
    fs::rename(mount.path("file"), mount.path("dir/file")).unwrap();
    fs::remove_file(mount.path("new")).unwrap();
    mount.stop();
    let expected =
        ["team/blue-outside", "team/blue/dir/", "team/blue/dir/below", "team/blue/dir/file", "team/outside"];
    let keys: Vec<String> = bucket.keys("").into_iter().filter(|key| key != "team/blue/").collect();
    assert_eq!(keys, expected);
}

#[test]
fn a_prefix_that_is_not_there_yet() {
    let world = World::new();
    let mount = world.mounter().target("data/new/prefix").start();
    assert_eq!(fs::read_dir(mount.dir()).unwrap().count(), 0);
    fs::write(mount.path("first"), "x").unwrap();
    assert_eq!(world.bucket().get("new/prefix/first"), b"x");
}

#[test]
fn read_only() {
    let world = World::new();
    world.bucket().put("file", "bytes");
    world.bucket().put("dir/file", "bytes");
    for flag in [&["--read-only"][..], &["-o", "ro"][..]] {
        let mount = world.mount(flag);
        let path = mount.path("file");
        assert_eq!(fs::read(&path).unwrap(), b"bytes");
        let refused = [
            ("create", errno(File::create(mount.path("new")))),
            ("open for writing", errno(OpenOptions::new().write(true).open(&path))),
            ("mkdir", errno(fs::create_dir(mount.path("new")))),
            ("unlink", errno(fs::remove_file(&path))),
            ("rmdir", errno(fs::remove_dir(mount.path("dir")))),
            ("rename", errno(fs::rename(&path, mount.path("new")))),
            ("chmod", errno(fs::set_permissions(&path, fs::Permissions::from_mode(0o600)))),
            ("symlink", errno(std::os::unix::fs::symlink("x", mount.path("new")))),
            ("setxattr", errno(set_xattr(&path, "user.x", b"y", 0))),
        ];
        for (call, got) in refused {
            assert_eq!(got, libc::EROFS, "{call} with {flag:?}");
        }
        assert_eq!(world.bucket().keys(""), ["dir/file", "file"]);
    }
    let counted = world.count(|| {
        let mount = world.mount(&["--read-only"]);
        fs::read(mount.path("file")).unwrap();
        mount.stop();
    });
    for operation in counted.operations.keys() {
        assert!(
            !operation.starts_with("Put") && !operation.starts_with("Delete"),
            "{:?}",
            counted.operations
        );
    }
}

#[test]
fn owner_and_masks_of_objects_without_attributes() {
    let world = World::new();
    world.bucket().put("file", "x");
    world.bucket().put("dir/file", "x");
    let mount = world.mount(&["--uid", "1001", "--gid", "1002", "--fmask", "0137", "--dmask", "0027"]);
    let (file, dir) = (fs::metadata(mount.path("file")).unwrap(), fs::metadata(mount.path("dir")).unwrap());
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (1001, 1002, 0o640));
    assert_eq!((dir.uid(), dir.gid(), dir.mode() & 0o7777), (1001, 1002, 0o750));
}
