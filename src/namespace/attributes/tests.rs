//! Tests of the attribute codec: every form in the table of the module head, and what breaks them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;

fn metadata(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn time(seconds: i64, nanos: u32) -> Option<SystemTime> {
    Some(at(seconds, nanos).unwrap())
}

#[test]
fn the_form_of_s3fs_is_read() {
    let attrs = decode(&metadata(&[
        ("mode", "33188"),
        ("uid", "1000"),
        ("gid", "100"),
        ("mtime", "1704067201.000000005"),
        ("atime", "1704067202"),
        ("ctime", "1704067203.250000000"),
        ("xattr", "%7B%22user.a%22%3A%22aGVsbG8%3D%22%2C%22user.e%22%3A%22%22%7D"),
    ]));
    assert_eq!(attrs.kind, Some(FileKind::Regular));
    assert_eq!(attrs.mode, Some(0o644));
    assert_eq!((attrs.uid, attrs.gid), (Some(1000), Some(100)));
    assert_eq!(attrs.mtime, time(1_704_067_201, 5));
    assert_eq!(attrs.atime, time(1_704_067_202, 0));
    assert_eq!(attrs.ctime, time(1_704_067_203, 250_000_000));
    assert_eq!(attrs.xattrs["user.a"], b"hello");
    assert_eq!(attrs.xattrs["user.e"], b"");
}

#[test]
fn the_form_of_rclone_is_read() {
    let attrs = decode(&metadata(&[
        ("mode", "100640"),
        ("mtime", "1704067201.5"),
        ("atime", "2024-01-01T00:00:02.25Z"),
        ("btime", "2024-01-01T01:00:03+01:00"),
    ]));
    assert_eq!(attrs.kind, Some(FileKind::Regular));
    assert_eq!(attrs.mode, Some(0o640));
    assert_eq!(attrs.mtime, time(1_704_067_201, 500_000_000));
    assert_eq!(attrs.atime, time(1_704_067_202, 250_000_000));
    let zoned = decode(&metadata(&[("mtime", "2024-01-01T01:00:03+01:00")]));
    assert_eq!(zoned.mtime, time(1_704_067_203, 0));
}

#[test]
fn the_form_of_the_gateways_is_read() {
    let attrs = decode(&metadata(&[
        ("file-permissions", "0100755"),
        ("file-owner", "7"),
        ("file-group", "8"),
        ("file-mtime", "1704067201000000005ns"),
        ("file-atime", "1704067202250"),
        ("file-ctime", "1704067203"),
    ]));
    assert_eq!((attrs.kind, attrs.mode), (Some(FileKind::Regular), Some(0o755)));
    assert_eq!((attrs.uid, attrs.gid), (Some(7), Some(8)));
    assert_eq!(attrs.mtime, time(1_704_067_201, 5));
    assert_eq!(attrs.atime, time(1_704_067_202, 250_000_000));
    assert_eq!(attrs.ctime, time(1_704_067_203, 0));
    let plain = decode(&metadata(&[("file-permissions", "0666"), ("file-mtime", "1541796450784ms")]));
    assert_eq!((plain.kind, plain.mode), (None, Some(0o666)));
    assert_eq!(plain.mtime, time(1_541_796_450, 784_000_000));
    let before = decode(&metadata(&[("file-mtime", "-1500000000ns")]));
    assert_eq!(before.mtime, time(-2, 500_000_000));
}

#[test]
fn the_own_form_wins_over_a_foreign_one() {
    let attrs =
        decode(&metadata(&[("uid", "1"), ("file-owner", "2"), ("mode", "x"), ("file-permissions", "600")]));
    assert_eq!(attrs.uid, Some(1));
    assert_eq!(attrs.mode, Some(0o600));
}

#[test]
fn modes_in_decimal_and_octal() {
    for (text, kind, mode) in [
        ("33188", Some(FileKind::Regular), 0o644),
        ("16877", Some(FileKind::Directory), 0o755),
        ("41471", Some(FileKind::Symlink), 0o777),
        ("4516", Some(FileKind::Fifo), 0o644),
        ("49645", Some(FileKind::Socket), 0o755),
        ("8630", Some(FileKind::CharDevice), 0o666),
        ("25008", Some(FileKind::BlockDevice), 0o660),
        ("36333", Some(FileKind::Regular), 0o6755),
        ("100644", Some(FileKind::Regular), 0o644),
        ("40755", Some(FileKind::Directory), 0o755),
        ("120777", Some(FileKind::Symlink), 0o777),
        ("60660", Some(FileKind::BlockDevice), 0o660),
        ("20666", Some(FileKind::CharDevice), 0o666),
        ("140755", Some(FileKind::Socket), 0o755),
        ("0100644", Some(FileKind::Regular), 0o644),
        ("0o100644", Some(FileKind::Regular), 0o644),
        ("644", None, 0o644),
        ("0644", None, 0o644),
        ("1777", None, 0o1777),
        ("0", None, 0),
    ] {
        let attrs = decode(&metadata(&[("mode", text)]));
        assert_eq!((attrs.kind, attrs.mode), (kind, Some(mode)), "{text}");
    }
    for text in
        ["", "-33188", "+33188", "rw-r--r--", "99999", "1000000", "4294967296", "0x1ff", "33188.5", "888"]
    {
        let attrs = decode(&metadata(&[("mode", text)]));
        assert_eq!((attrs.kind, attrs.mode), (None, None), "{text}");
    }
}

#[test]
fn times_before_1970() {
    for (text, seconds, nanos) in [
        ("-1", -1, 0),
        ("-1.5", -2, 500_000_000),
        ("-0.5", -1, 500_000_000),
        ("-2.500000000", -2, 500_000_000),
        ("-62135596800", -62_135_596_800, 0),
        ("1969-12-31T23:59:58.5Z", -2, 500_000_000),
    ] {
        assert_eq!(decode(&metadata(&[("mtime", text)])).mtime, time(seconds, nanos), "{text}");
    }
}

#[test]
fn garbage_is_as_if_it_were_not_there() {
    for text in [
        "",
        " ",
        "abc",
        "1.2.3",
        "1.-5",
        "+1",
        ".5",
        "-",
        "1e9",
        "9223372036854775808",
        "-99999999999999999999",
        "2024-01-01",
        "2024-13-01T00:00:00Z",
        "\u{e9}",
    ] {
        let attrs = decode(&metadata(&[
            ("mtime", text),
            ("file-mtime", text),
            ("uid", text),
            ("rdev", text),
            ("xattr", text),
            ("mode", text),
        ]));
        assert_eq!(attrs.mtime, None, "{text}");
        assert_eq!((attrs.mode, attrs.rdev), (None, None), "{text}");
        assert!(attrs.xattrs.is_empty());
    }
    let uids = metadata(&[("uid", "-1"), ("gid", "4294967296")]);
    assert_eq!((decode(&uids).uid, decode(&uids).gid), (None, None));
    let some = metadata(&[("xattr", "%7B%22a%22%3A%22!%22%2C%22b%22%3A%22eA%3D%3D%22%2C%22c%22%3A3%7D")]);
    assert_eq!(decode(&some).xattrs, BTreeMap::from([("b".to_owned(), b"x".to_vec())]));
}

#[test]
fn what_is_written_has_the_form_of_s3fs() {
    let mut written = metadata(&[
        ("project", "apollo"),
        ("note", "caf\u{e9}"),
        ("btime", "2024-01-01T00:00:00Z"),
        ("mode", "100600"),
        ("file-permissions", "0600"),
        ("file-owner", "5"),
        ("file-group", "5"),
        ("file-mtime", "1ns"),
        ("file-atime", "1ns"),
        ("file-acl", "x"),
    ]);
    let attrs = PosixAttrs {
        kind: Some(FileKind::Regular),
        mode: Some(0o640),
        uid: Some(0),
        gid: Some(10),
        mtime: time(1_704_067_201, 5),
        ctime: time(-2, 500_000_000),
        xattrs: BTreeMap::from([("user.a\"b".to_owned(), b"hello".to_vec())]),
        ..PosixAttrs::default()
    };
    encode(&attrs, &mut written);
    let expected = metadata(&[
        ("project", "apollo"),
        ("note", "caf\u{e9}"),
        ("btime", "2024-01-01T00:00:00Z"),
        ("mode", "33184"),
        ("uid", "0"),
        ("gid", "10"),
        ("mtime", "1704067201.000000005"),
        ("ctime", "-2.500000000"),
        ("file-atime", "1ns"),
        ("file-acl", "x"),
        ("xattr", "%7B%22user.a%5C%22b%22%3A%22aGVsbG8%3D%22%7D"),
    ]);
    assert_eq!(written, expected);
}

#[test]
fn what_is_not_given_stays() {
    let mut written =
        metadata(&[("mode", "100600"), ("uid", "3"), ("xattr", "%7B%7D"), ("file-mtime", "5ns")]);
    encode(&PosixAttrs { kind: Some(FileKind::Symlink), ..PosixAttrs::default() }, &mut written);
    assert_eq!(written, metadata(&[("mode", "41344"), ("uid", "3"), ("file-mtime", "5ns")]));
    let mut bare = BTreeMap::new();
    encode(&PosixAttrs { kind: Some(FileKind::Directory), ..PosixAttrs::default() }, &mut bare);
    assert_eq!(bare, metadata(&[("mode", "16877")]));
}

#[test]
fn metadata_is_counted_as_s3_counts_it() {
    assert_eq!(metadata_bytes(&BTreeMap::new()), 0);
    assert_eq!(metadata_bytes(&metadata(&[("ab", "caf\u{e9}"), ("c", "")])), 2 + 5 + 1);
}

#[test]
fn only_a_trailing_slash_makes_a_marker() {
    assert!(is_directory_marker("a/"));
    assert!(is_directory_marker("a//"));
    assert!(!is_directory_marker("a"));
    assert!(!is_directory_marker(""));
}

fn any_kind() -> impl Strategy<Value = FileKind> {
    prop_oneof![
        Just(FileKind::Regular),
        Just(FileKind::Directory),
        Just(FileKind::Symlink),
        Just(FileKind::Fifo),
        Just(FileKind::Socket),
        Just(FileKind::CharDevice),
        Just(FileKind::BlockDevice),
    ]
}

fn any_time() -> impl Strategy<Value = SystemTime> {
    (-100_000_000_000..100_000_000_000_i64, 0..NANOS_PER_SECOND).prop_map(|(s, n)| at(s, n).unwrap())
}

fn any_attrs() -> impl Strategy<Value = PosixAttrs> {
    let who = (any_kind(), 0..=PERMISSION_MASK, any::<u32>(), any::<u32>(), any::<u32>());
    let times = (any_time(), any_time(), any_time());
    let xattrs =
        prop::collection::btree_map(any::<String>(), prop::collection::vec(any::<u8>(), 0..40), 0..4);
    (who, times, xattrs).prop_map(|((kind, mode, uid, gid, rdev), (atime, mtime, ctime), xattrs)| {
        PosixAttrs {
            kind: Some(kind),
            mode: Some(mode),
            uid: Some(uid),
            gid: Some(gid),
            rdev: Some(rdev),
            atime: Some(atime),
            mtime: Some(mtime),
            ctime: Some(ctime),
            xattrs,
        }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(attrs in any_attrs()) {
        let mut written = BTreeMap::new();
        encode(&attrs, &mut written);
        prop_assert_eq!(decode(&written), attrs);
        for (name, value) in &written {
            prop_assert!(value.bytes().all(|b| b.is_ascii_graphic()), "{}: {}", name, value);
        }
    }

    #[test]
    fn nothing_makes_it_fail(values in prop::collection::vec("[-+.0-9a-zTZ:%{}\"]{0,24}|.{0,8}", 14)) {
        let names = [MODE, UID, GID, MTIME, ATIME, CTIME, XATTR, RDEV, FILE_PERMISSIONS, FILE_OWNER, FILE_GROUP,
            FILE_MTIME, FILE_ATIME, FILE_CTIME];
        let mut garbage: BTreeMap<String, String> = names.iter().map(|n| (*n).to_owned()).zip(values).collect();
        garbage.insert("other".to_owned(), "kept".to_owned());
        let attrs = decode(&garbage);
        encode(&attrs, &mut garbage);
        prop_assert_eq!(&garbage["other"], "kept");
        prop_assert_eq!(decode(&garbage).mode, attrs.mode);
    }
}
