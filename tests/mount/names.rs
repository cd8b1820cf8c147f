//! Keys that are no paths, names that are no keys.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::support::{World, errno};

/// Keys of every odd kind, each with bytes of its own. Ordinary neighbours stand beside them.
fn odd_keys() -> Vec<String> {
    let long = "x".repeat(300);
    let mut keys: Vec<String> = [
        "ordinary",
        "dir/ordinary",
        "a//b",
        "a//",
        "a/b",
        "/leading",
        "//two",
        ".",
        "..",
        "d/.",
        "d/..",
        "d/./x",
        "d/../x",
        "d/ordinary",
        "x/",
        "x/ordinary",
        "foo",
        "foo/bar",
        "foo/bar/baz",
        "foo/bar//",
        "control\u{1}\u{7f}\n\ttail",
        "nul\u{0}tail",
        "%!x",
        "%!enc:",
        "%!enc:.",
        "%!dir:foo",
        "%!long:y~0123456789abcdef",
        "percent%41",
        "space ",
        " space",
        "plus+and&",
        "umlaut-\u{e4}",
        "umlaut-a\u{308}",
        "\u{1f600}/smile",
        "back\\slash",
        "a-b",
        "a.b",
        "dir_$folder$",
    ]
    .map(str::to_owned)
    .to_vec();
    keys.push(long.clone());
    keys.push(format!("{long}1"));
    keys.push(format!("{long}/below"));
    keys.push(format!("{long}/{long}"));
    keys.push("\u{20ac}".repeat(100));
    keys.push("k".repeat(1024));
    keys.push(format!("{}/{}", "p".repeat(250), "q".repeat(773)));
    keys.push(vec!["s"; 512].join("/") + "/");
    keys
}

/// Every file of the tree with what it holds.
fn tree(dir: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()).collect();
    let count = names.len();
    names.sort_by_key(|entry| entry.file_name());
    names.dedup_by_key(|entry| entry.file_name());
    assert_eq!(names.len(), count, "a name twice in {}", dir.display());
    for entry in names {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        let seen =
            fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("listed and not there: {path:?}: {e}"));
        assert_eq!(seen.file_type(), kind, "{path:?}");
        if kind.is_dir() {
            tree(&path, into);
        } else {
            into.insert(path.clone(), fs::read(&path).unwrap_or_else(|e| panic!("{path:?}: {e}")));
        }
    }
}

/// The body of an object says its key. Markers of directories without a file in them are empty.
fn body(key: &str) -> String {
    format!("body of {key}")
}

#[test]
fn every_key_is_reachable_and_writable() {
    let world = World::new();
    let bucket = world.bucket();
    for key in odd_keys() {
        bucket.put(&key, body(&key));
    }
    let mount = world.mount(&[]);
    let mut files = BTreeMap::new();
    tree(mount.dir(), &mut files);
    let mut found: Vec<&[u8]> = files.values().map(Vec::as_slice).collect();
    found.sort_unstable();
    let mut expected: Vec<String> = odd_keys().iter().map(|key| body(key)).collect();
    expected.sort_unstable();
    let missing: Vec<&String> =
        expected.iter().filter(|body| found.binary_search(&body.as_bytes()).is_err()).collect();
    assert!(missing.is_empty(), "not reachable: {missing:#?}\nshown: {:#?}", files.keys());
    assert_eq!(files.len(), expected.len(), "shown more than once: {:#?}", files.keys());

    // Writing through the shown name changes that very key and no other.
    for (path, body) in &files {
        let text = format!("new {}", String::from_utf8_lossy(body));
        fs::write(path, &text).unwrap_or_else(|e| panic!("writing {path:?}: {e}"));
    }
    let mut keys = odd_keys();
    for key in &keys {
        assert_eq!(String::from_utf8_lossy(&bucket.get(key)), format!("new {}", body(key)), "{key:?}");
    }
    keys.sort();
    assert_eq!(bucket.keys(""), keys);

    // Removing it removes that very key.
    for (path, _) in files {
        fs::remove_file(&path).unwrap_or_else(|e| panic!("removing {path:?}: {e}"));
    }
    let left: Vec<String> = bucket.keys("").into_iter().filter(|key| !key.ends_with('/')).collect();
    assert_eq!(left, [""; 0]);
}

#[test]
fn odd_keys_cold_by_their_names() {
    let world = World::new();
    let bucket = world.bucket();
    for (key, name) in [
        ("a//b", "a/%!enc:/b"),
        ("d/./x", "d/%!enc:./x"),
        ("d/..", "d/%!enc:.."),
        ("x/", "x/%!enc:"),
        ("foo", "foo"),
        ("foo/bar", "%!dir:foo/bar"),
        ("%!x", "%!x"),
        ("%!enc:.", "%!enc:%25!enc:."),
    ] {
        bucket.put(key, body(key));
        // A mount for each: nothing was listed before the name is asked for.
        let mount = world.mount(&[]);
        let read = fs::read(mount.path(name)).unwrap_or_else(|e| panic!("{key:?} as {name:?}: {e}"));
        assert_eq!(String::from_utf8(read).unwrap(), body(key));
    }
}

#[test]
fn names_beginning_with_the_escape_are_ordinary_names() {
    let world = World::new();
    let mount = world.mount(&[]);
    for name in ["%!x", "%!", "%!enc:abc", "%!dir:", "%!long:x~0", "%%!", "%25"] {
        fs::write(mount.path(name), name).unwrap();
        assert_eq!(world.bucket().get(name), name.as_bytes());
    }
    let mut listed: Vec<String> =
        fs::read_dir(mount.dir()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    listed.sort();
    assert_eq!(listed, ["%!", "%!dir:", "%!enc:abc", "%!long:x~0", "%!x", "%%!", "%25"]);
}

#[test]
fn names_that_cannot_be_keys_are_refused() {
    let world = World::new();
    let mount = world.mount(&[]);
    for name in [b"\xff".as_slice(), b"caf\xe9", b"a\xed\xa0\x80", b"\xc0\xaf"] {
        let path = mount.dir().join(OsStr::from_bytes(name));
        assert_eq!(errno(File::create(&path)), libc::EILSEQ, "create {name:?}");
        assert_eq!(errno(fs::create_dir(&path)), libc::EILSEQ, "mkdir {name:?}");
        assert_eq!(errno(std::os::unix::fs::symlink("x", &path)), libc::EILSEQ, "symlink {name:?}");
        fs::write(mount.path("ordinary"), "x").unwrap();
        assert_eq!(errno(fs::rename(mount.path("ordinary"), &path)), libc::EILSEQ, "rename {name:?}");
        let found = errno(fs::metadata(&path));
        assert!(matches!(found, libc::ENOENT | libc::EILSEQ), "stat {name:?}: {found}");
    }
    let longest = "n".repeat(255);
    fs::write(mount.path(&longest), "x").unwrap();
    assert_eq!(world.bucket().get(&longest), b"x");
    let too_long = mount.path(&"n".repeat(256));
    assert_eq!(errno(File::create(&too_long)), libc::ENAMETOOLONG);
    assert_eq!(errno(fs::create_dir(&too_long)), libc::ENAMETOOLONG);
    assert_eq!(errno(fs::metadata(&too_long)), libc::ENAMETOOLONG);
    assert_eq!(errno(fs::rename(mount.path(&longest), &too_long)), libc::ENAMETOOLONG);
    assert_eq!(errno(std::os::unix::fs::symlink("x", &too_long)), libc::ENAMETOOLONG);
    assert_eq!(errno(fs::remove_file(&too_long)), libc::ENAMETOOLONG);
}

#[test]
fn keys_have_1024_bytes_at_most() {
    let world = World::new();
    let mount = world.mount(&[]);
    // 4 directories of 250 bytes and their slashes: 1,004 bytes, so that 20 are left.
    let mut dir = mount.dir().to_owned();
    for c in ["a", "b", "c", "d"] {
        dir.push(c.repeat(250));
        fs::create_dir(&dir).unwrap();
    }
    fs::write(dir.join("f".repeat(20)), "the longest key").unwrap();
    let keys = world.bucket().keys("");
    let key = keys.iter().find(|key| key.ends_with('f')).unwrap();
    assert_eq!(key.len(), 1024);
    assert_eq!(world.bucket().get(key), b"the longest key");
    assert_eq!(errno(fs::write(dir.join("f".repeat(21)), "x")), libc::ENAMETOOLONG);
    assert_eq!(
        errno(fs::create_dir(dir.join("g".repeat(20)))),
        libc::ENAMETOOLONG,
        "its marker has one more"
    );
    assert_eq!(fs::read(dir.join("f".repeat(20))).unwrap(), b"the longest key");
}

/// LIST sorts `a-b` before `a/`, and a page may end between them.
#[test]
fn a_directory_is_found_past_its_neighbours() {
    let world = World::with(|config| config.page_size = 3);
    let bucket = world.bucket();
    for key in ["a", "a!", "a-1", "a-2", "a-3", "a-4", "a-5", "a.b", "a/b", "a0"] {
        bucket.put(key, body(key));
    }
    bucket.delete("a");
    let mount = world.mount(&[]);
    assert!(fs::metadata(mount.path("a")).unwrap().is_dir());
    assert_eq!(fs::read(mount.path("a/b")).unwrap(), body("a/b").as_bytes());
    assert_eq!(fs::read_dir(mount.dir()).unwrap().count(), 9);
}
