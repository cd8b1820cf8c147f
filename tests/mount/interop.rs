//! Other tools on the same objects: what they wrote is seen, what is theirs survives.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use pailfs::store::types::Properties;

use crate::support::{Object, World, get_xattr, set_times, set_xattr, sync};

#[test]
fn attributes_of_other_tools_are_honoured() {
    let world = World::new();
    let bucket = world.bucket();
    let s3fs = [("mode", "33184"), ("uid", "1234"), ("gid", "4321"), ("mtime", "1704067201.000000005")];
    bucket.put_object("s3fs", "x", &Object::meta(&s3fs));
    bucket.put_object("rclone", "x", &Object::meta(&[("mode", "100751"), ("mtime", "1704067201.5")]));
    bucket.put_object("gateway", "x", &Object::meta(&[("file-permissions", "0100604"), ("file-owner", "7")]));
    bucket.put_object("link", "target", &Object::meta(&[("mode", "41471")]));
    bucket.put_object("s3fs-dir/", "", &Object::meta(&[("mode", "16832"), ("mtime", "1000000000")]));
    bucket.put_object(
        "broken",
        "x",
        &Object::meta(&[("mode", "abc"), ("mtime", "yesterday"), ("uid", "-1")]),
    );
    bucket.put("bare", "x");
    let mount = world.mount(&["--umask", "027"]);
    let stat = |name: &str| fs::symlink_metadata(mount.path(name)).unwrap();
    let s3fs = stat("s3fs");
    assert_eq!((s3fs.mode() & 0o7777, s3fs.uid(), s3fs.gid()), (0o640, 1234, 4321));
    assert_eq!((s3fs.mtime(), s3fs.mtime_nsec()), (1_704_067_201, 5));
    let rclone = stat("rclone");
    assert_eq!((rclone.mode() & 0o7777, rclone.mtime_nsec()), (0o751, 500_000_000));
    assert_eq!((stat("gateway").mode() & 0o7777, stat("gateway").uid()), (0o604, 7));
    assert!(stat("link").is_symlink());
    assert_eq!(fs::read_link(mount.path("link")).unwrap().to_str(), Some("target"));
    let dir = stat("s3fs-dir");
    assert!(dir.is_dir());
    assert_eq!((dir.mode() & 0o7777, dir.mtime()), (0o700, 1_000_000_000));
    for name in ["broken", "bare"] {
        assert_eq!(stat(name).mode() & 0o7777, 0o640, "{name}");
        assert!(stat(name).mtime() > 1_600_000_000, "{name} has the time of its object");
    }
}

#[test]
fn what_is_written_has_the_form_of_s3fs() {
    let world = World::new();
    let mount = world.mount(&[]);
    let path = mount.path("page.html");
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
    file.write_all(b"<html>").unwrap();
    file.set_permissions(fs::Permissions::from_mode(0o640)).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::new(1_704_067_201, 5)).unwrap();
    drop(file);
    let Properties { content_type, metadata, .. } = world.bucket().head("page.html").properties;
    assert_eq!(content_type.as_deref(), Some("text/html"));
    assert_eq!(metadata["mode"], "33184");
    assert_eq!(metadata["mtime"], "1704067201.000000005");
    let owner = fs::metadata(&path).unwrap();
    assert_eq!((&metadata["uid"], &metadata["gid"]), (&owner.uid().to_string(), &owner.gid().to_string()));

    fs::write(mount.path("no-extension"), "x").unwrap();
    let plain = world.bucket().head("no-extension").properties;
    assert_eq!(plain.content_type.as_deref(), Some("application/octet-stream"));

    fs::create_dir(mount.path("dir")).unwrap();
    sync(mount.path("dir"));
    let dir = world.bucket().head("dir/");
    assert_eq!(dir.properties.content_type.as_deref(), Some("application/x-directory"));
    assert_eq!((dir.version.size, dir.properties.metadata["mode"].as_str()), (0, "16877"));

    symlink("../some where/\u{e4}", mount.path("link")).unwrap();
    sync(mount.dir());
    assert_eq!(world.bucket().get("link"), "../some where/\u{e4}".as_bytes());
    assert_eq!(world.bucket().head("link").properties.metadata["mode"], "41471");
}

/// All that an object may have besides its bytes.
fn rich() -> Object {
    let mut object = Object::with(|p| {
        p.content_type = Some("application/x-special".to_owned());
        p.cache_control = Some("max-age=60".to_owned());
        p.content_disposition = Some("attachment; filename=\"x\"".to_owned());
        p.content_encoding = Some("identity".to_owned());
        p.content_language = Some("de".to_owned());
        p.storage_class = Some("STANDARD_IA".to_owned());
        p.metadata.insert("project".to_owned(), "apollo".to_owned());
        p.metadata.insert("btime".to_owned(), "2024-01-01T00:00:00Z".to_owned());
    });
    object.tags = [("team", "blue"), ("cost", "42")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    object
}

/// What of [`rich`] an object has lost.
fn lost(world: &World, key: &str, after: &str) -> Vec<String> {
    let info = world.bucket().head(key);
    let (got, expected) = (info.properties, rich().properties);
    let mut lost = Vec::new();
    let mut check = |what: &str, same: bool| {
        if !same {
            lost.push(format!("{what} after {after}"));
        }
    };
    check("Content-Type", got.content_type == expected.content_type);
    check("Cache-Control", got.cache_control == expected.cache_control);
    check("Content-Disposition", got.content_disposition == expected.content_disposition);
    check("Content-Encoding", got.content_encoding == expected.content_encoding);
    check("Content-Language", got.content_language == expected.content_language);
    check("storage class", got.storage_class == expected.storage_class);
    for (name, value) in expected.metadata {
        check(&format!("metadata {name}"), got.metadata.get(&name) == Some(&value));
    }
    check("tags", world.bucket().tags(key) == rich().tags);
    lost
}

#[test]
fn everything_of_an_object_survives_edit_chmod_and_rename() {
    let world = World::new();
    let bucket = world.bucket();
    let large = crate::support::bytes(9, 12 << 20);
    for name in
        ["overwritten", "appended", "chmodded", "touched", "commented", "renamed", "truncated", "dir/moved"]
    {
        bucket.put_object(name, "bytes", &rich());
    }
    bucket.put_object("parts", large, &rich());
    let mount = world.mount(&["--part-size", "5MiB", "--multipart-threshold", "5MiB"]);
    let mut all = lost(&world, "appended", "nothing");

    fs::write(mount.path("overwritten"), "others").unwrap();
    all.extend(lost(&world, "overwritten", "overwriting"));
    assert_eq!(bucket.get("overwritten"), b"others");
    OpenOptions::new().append(true).open(mount.path("appended")).unwrap().write_all(b"+").unwrap();
    all.extend(lost(&world, "appended", "appending"));
    assert_eq!(bucket.get("appended"), b"bytes+");
    OpenOptions::new().write(true).open(mount.path("truncated")).unwrap().set_len(2).unwrap();
    sync(mount.path("truncated"));
    all.extend(lost(&world, "truncated", "truncating"));
    assert_eq!(bucket.get("truncated"), b"by");
    fs::set_permissions(mount.path("chmodded"), fs::Permissions::from_mode(0o600)).unwrap();
    sync(mount.path("chmodded"));
    all.extend(lost(&world, "chmodded", "chmod"));
    assert_eq!(bucket.head("chmodded").properties.metadata["mode"], "33152");
    set_times(&mount.path("touched"), (1, 2), (3, 4)).unwrap();
    sync(mount.path("touched"));
    all.extend(lost(&world, "touched", "utimensat"));
    assert_eq!(bucket.head("touched").properties.metadata["mtime"], "3.000000004");
    set_xattr(&mount.path("commented"), "user.comment", b"words", 0).unwrap();
    sync(mount.path("commented"));
    all.extend(lost(&world, "commented", "setxattr"));
    fs::rename(mount.path("renamed"), mount.path("new-name")).unwrap();
    sync(mount.dir());
    all.extend(lost(&world, "new-name", "rename"));
    fs::rename(mount.path("dir"), mount.path("dir2")).unwrap();
    sync(mount.dir());
    all.extend(lost(&world, "dir2/moved", "rename of the directory"));
    let mut parts = OpenOptions::new().append(true).open(mount.path("parts")).unwrap();
    parts.write_all(b"+").unwrap();
    drop(parts);
    all.extend(lost(&world, "parts", "appending to a large object"));
    assert_eq!(bucket.head("parts").version.size, (12 << 20) + 1);
    assert_eq!(all, [""; 0]);
}

#[test]
fn content_type_can_be_set() {
    let world = World::new();
    let mount = world.mount(&[]);
    let path = mount.path("file.txt");
    fs::write(&path, "x").unwrap();
    assert_eq!(get_xattr(&path, "user.s3.content-type").unwrap(), b"text/plain");
    set_xattr(&path, "user.s3.content-type", b"text/x-mine", 0).unwrap();
    sync(&path);
    assert_eq!(world.bucket().head("file.txt").properties.content_type.as_deref(), Some("text/x-mine"));
    fs::write(&path, "y").unwrap();
    assert_eq!(world.bucket().head("file.txt").properties.content_type.as_deref(), Some("text/x-mine"));
}

/// Objects come and go behind the mount's back: after the TTL they are seen.
#[test]
fn changes_of_other_clients_are_seen() {
    let world = World::new();
    let bucket = world.bucket();
    bucket.put("stays", "old");
    bucket.put("goes", "old");
    let mount = world.mount(&["--ttl", "0s"]);
    assert_eq!(fs::read(mount.path("stays")).unwrap(), b"old");
    assert!(fs::metadata(mount.path("comes")).is_err());
    bucket.put("stays", "new bytes");
    bucket.put("comes", "x");
    bucket.put("dir/comes", "x");
    bucket.delete("goes");
    assert_eq!(fs::read(mount.path("stays")).unwrap(), b"new bytes", "close-to-open");
    assert_eq!(fs::read(mount.path("comes")).unwrap(), b"x");
    assert_eq!(fs::read(mount.path("dir/comes")).unwrap(), b"x");
    assert_eq!(File::open(mount.path("goes")).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    let mut names: Vec<_> = fs::read_dir(mount.dir()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["comes", "dir", "stays"]);
}
