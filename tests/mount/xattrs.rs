//! Extended attributes: the user's own, and what S3 says of the object.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use crate::support::{Object, World, errno, get_xattr, list_xattrs, place, remove_xattr, set_xattr};

#[test]
fn set_get_list_remove() {
    let place = place();
    let path = place.path("file");
    fs::write(&path, "x").unwrap();
    assert_eq!(errno(get_xattr(&path, "user.none")), libc::ENODATA);
    set_xattr(&path, "user.text", b"words", 0).unwrap();
    set_xattr(&path, "user.bytes", &[0, 255, 10, 34], 0).unwrap();
    set_xattr(&path, "user.empty", b"", 0).unwrap();
    assert_eq!(get_xattr(&path, "user.text").unwrap(), b"words");
    assert_eq!(get_xattr(&path, "user.bytes").unwrap(), [0, 255, 10, 34]);
    assert_eq!(get_xattr(&path, "user.empty").unwrap(), b"");
    assert_eq!(errno(set_xattr(&path, "user.text", b"x", libc::XATTR_CREATE)), libc::EEXIST);
    assert_eq!(errno(set_xattr(&path, "user.none", b"x", libc::XATTR_REPLACE)), libc::ENODATA);
    set_xattr(&path, "user.text", b"others", libc::XATTR_REPLACE).unwrap();
    let mut names = list_xattrs(&path).unwrap();
    names.retain(|name| !name.starts_with("user.s3.") && name.starts_with("user."));
    names.sort();
    assert_eq!(names, ["user.bytes", "user.empty", "user.text"]);
    remove_xattr(&path, "user.bytes").unwrap();
    assert_eq!(errno(remove_xattr(&path, "user.bytes")), libc::ENODATA);
    assert_eq!(errno(get_xattr(&path, "user.bytes")), libc::ENODATA);
    // Directories have them too.
    fs::create_dir(place.path("dir")).unwrap();
    set_xattr(&place.path("dir"), "user.text", b"on a directory", 0).unwrap();
    assert_eq!(get_xattr(&place.path("dir"), "user.text").unwrap(), b"on a directory");
}

#[test]
fn they_survive_a_remount_an_edit_and_a_rename() {
    let world = World::new();
    let mount = world.mount(&[]);
    let path = mount.path("file");
    fs::write(&path, "x").unwrap();
    set_xattr(&path, "user.text", b"words \xff", 0).unwrap();
    fs::write(&path, "edited").unwrap();
    fs::rename(&path, mount.path("moved")).unwrap();
    mount.stop();
    let mount = world.mount(&[]);
    assert_eq!(get_xattr(&mount.path("moved"), "user.text").unwrap(), b"words \xff");
    assert_eq!(fs::read(mount.path("moved")).unwrap(), b"edited");
}

#[test]
fn too_much_is_refused_at_once() {
    let world = World::new();
    let mount = world.mount(&[]);
    let path = mount.path("file");
    let file = File::create(&path).unwrap();
    let got = errno(set_xattr(&path, "user.big", &[7; 4000], 0));
    assert!(matches!(got, libc::E2BIG | libc::ENOSPC), "{got}");
    set_xattr(&path, "user.small", &[7; 500], 0).unwrap();
    drop(file);
    fs::write(&path, "still fine").unwrap();
    assert_eq!(world.bucket().get("file"), b"still fine");
    assert_eq!(get_xattr(&path, "user.small").unwrap(), [7; 500]);
}

#[test]
fn what_s3_says_of_the_object() {
    let world = World::new();
    let etag = world.bucket().put_object(
        "dir/photo.png",
        "x",
        &Object::with(|p| {
            p.content_type = Some("image/png".to_owned());
            p.storage_class = Some("STANDARD_IA".to_owned());
            p.metadata.insert("project".to_owned(), "apollo".to_owned());
        }),
    );
    let mount = world.mount(&[]);
    let path = mount.path("dir/photo.png");
    let get = |name: &str| {
        let value =
            get_xattr(&path, name).unwrap_or_else(|e| panic!("{name}: {e}; {:?}", list_xattrs(&path)));
        String::from_utf8(value).unwrap()
    };
    assert_eq!(get("user.s3.key"), "dir/photo.png");
    assert_eq!(get("user.s3.etag").trim_matches('"'), etag.unquoted());
    assert_eq!(get("user.s3.content-type"), "image/png");
    assert_eq!(get("user.s3.storage-class"), "STANDARD_IA");
    assert_eq!(get("user.s3.meta.project"), "apollo");
    assert_eq!(errno(set_xattr(&path, "user.s3.etag", b"mine", 0)), libc::EPERM);
    // rsync -X and cp -a read every listed name: each has to have a value.
    for name in list_xattrs(&path).unwrap() {
        get_xattr(&path, &name).unwrap_or_else(|e| panic!("{name} is listed and has no value: {e}"));
    }
    symlink("x", mount.path("link")).unwrap();
    list_xattrs(&mount.path("link")).unwrap();
}
