//! POSIX attributes in user metadata.
//!
//! Written in the form of s3fs, and read in every form that other tools leave:
//!
//! | fact | s3fs | rclone | DataSync, File Gateway, FSx for Lustre |
//! |---|---|---|---|
//! | type and permissions | `mode`, decimal with type bits (`33188`) | `mode`, octal text (`100640`) | `file-permissions`, octal |
//! | owner, group | `uid`, `gid` | the same | `file-owner`, `file-group` |
//! | times | `mtime` `atime` `ctime`, `seconds.nanoseconds` | `mtime` a decimal fraction; `atime` RFC 3339 | `file-mtime` `file-atime` `file-ctime`, `...ns`, else milliseconds |
//! | extended attributes | `xattr`, URL-encoded JSON of name to base64 | | |
//!
//! The device number of a device node is in `rdev`, decimal, as GeeseFS has it; s3fs has no place for it.
//!
//! A fact present in both forms is read from the s3fs form. What cannot be understood is as if it were not
//! there. [`encode`] touches the names above and no other: metadata of other people stays as it is, also
//! when its value is not ASCII and could not be written by us. Everything written here is printable ASCII.
//!
//! Times before 1970: s3fs prints the two fields of a timespec, so `-2.500000000` is a second and a half
//! before the epoch; a fraction of any other length than nine digits is read as the decimal number it is
//! (rclone: `-1.5`). [`encode`] writes nine digits always, so what it writes is read back exactly.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::fs::types::FileKind;

/// User metadata an S3 object may have, in bytes of names and values together.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html>
pub const METADATA_MAX_BYTES: usize = 2_048;

const MODE: &str = "mode";
const UID: &str = "uid";
const GID: &str = "gid";
const MTIME: &str = "mtime";
const ATIME: &str = "atime";
const CTIME: &str = "ctime";
const XATTR: &str = "xattr";
const RDEV: &str = "rdev";
const FILE_PERMISSIONS: &str = "file-permissions";
const FILE_OWNER: &str = "file-owner";
const FILE_GROUP: &str = "file-group";
const FILE_MTIME: &str = "file-mtime";
const FILE_ATIME: &str = "file-atime";
const FILE_CTIME: &str = "file-ctime";

const TYPE_MASK: u32 = 0o170_000;
const PERMISSION_MASK: u32 = 0o7777;
const NANOS_PER_SECOND: u32 = 1_000_000_000;

/// Attributes that an object's user metadata holds; `None` where it says nothing.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PosixAttrs {
    /// Kind, from the type bits of the mode.
    pub kind: Option<FileKind>,
    /// Permission bits with set-id and sticky bits (`0o7777`), without the type.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Device number of a device node, in the packing of `fs::types::Attr::rdev`.
    pub rdev: Option<u32>,
    /// Last access.
    pub atime: Option<SystemTime>,
    /// Last change of the content.
    pub mtime: Option<SystemTime>,
    /// Last change of content or attributes.
    pub ctime: Option<SystemTime>,
    /// Extended attributes by their whole name (`user.comment`).
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// Whether the object with this key marks a directory (`dir/`), whatever its Content-Type. Such an object may
/// have data all the same; the data belongs to the file with the empty name in it.
pub fn is_directory_marker(key: &str) -> bool {
    key.ends_with('/')
}

/// The bytes S3 counts against [`METADATA_MAX_BYTES`]: UTF-8 of all names (without `x-amz-meta-`) and values.
pub fn metadata_bytes(metadata: &BTreeMap<String, String>) -> usize {
    metadata.iter().map(|(name, value)| name.len() + value.len()).sum()
}

/// Whether two objects have the same user metadata but for the time of the last change: what an operation
/// writes that is tried again.
pub fn same_but_ctime(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) -> bool {
    let rest = |metadata: &'_ BTreeMap<String, String>| {
        let names = metadata.iter().filter(|(name, _)| !matches!(name.as_str(), CTIME | FILE_CTIME));
        names.map(|(name, value)| (name.clone(), value.clone())).collect::<Vec<_>>()
    };
    rest(a) == rest(b)
}

/// Reads attributes in any known form. Never fails: what is not understood is not there.
pub fn decode(metadata: &BTreeMap<String, String>) -> PosixAttrs {
    let text = |name: &str| metadata.get(name).map(|value| value.trim());
    let digits = |name: &str| text(name).and_then(|t| parse_digits(t, 10));
    let number = |own: &str, foreign: &str| digits(own).or_else(|| digits(foreign));
    let time = |own: &str, foreign: &str| {
        text(own).and_then(parse_time).or_else(|| text(foreign).and_then(parse_lustre_time))
    };
    let st_mode =
        text(MODE).and_then(parse_mode).or_else(|| text(FILE_PERMISSIONS).and_then(parse_octal_mode));
    PosixAttrs {
        kind: st_mode.and_then(kind_of),
        mode: st_mode.map(|mode| mode & PERMISSION_MASK),
        uid: number(UID, FILE_OWNER),
        gid: number(GID, FILE_GROUP),
        rdev: digits(RDEV),
        atime: time(ATIME, FILE_ATIME),
        mtime: time(MTIME, FILE_MTIME),
        ctime: time(CTIME, FILE_CTIME),
        xattrs: text(XATTR).map(parse_xattrs).unwrap_or_default(),
    }
}

/// Writes `attrs` into `metadata` in s3fs's form and removes other forms of the same facts, which would
/// contradict from now on. A fact that is `None` is left as it is; the extended attributes are all there are:
/// an empty map removes them. A `kind` without a `mode` keeps the permissions that `metadata` has, else gets
/// usual ones.
pub fn encode(attrs: &PosixAttrs, metadata: &mut BTreeMap<String, String>) {
    if attrs.kind.is_some() || attrs.mode.is_some() {
        let before = decode(metadata);
        let kind = attrs.kind.or(before.kind).unwrap_or(FileKind::Regular);
        let mode = attrs.mode.or(before.mode).unwrap_or_else(|| usual_mode(kind));
        let st_mode = type_bits(kind) | (mode & PERMISSION_MASK);
        put(metadata, MODE, FILE_PERMISSIONS, st_mode.to_string());
    }
    if let Some(uid) = attrs.uid {
        put(metadata, UID, FILE_OWNER, uid.to_string());
    }
    if let Some(gid) = attrs.gid {
        put(metadata, GID, FILE_GROUP, gid.to_string());
    }
    if let Some(rdev) = attrs.rdev {
        metadata.insert(RDEV.to_owned(), rdev.to_string());
    }
    for (time, own, foreign) in
        [(attrs.atime, ATIME, FILE_ATIME), (attrs.mtime, MTIME, FILE_MTIME), (attrs.ctime, CTIME, FILE_CTIME)]
    {
        if let Some(time) = time {
            put(metadata, own, foreign, print_time(time));
        }
    }
    if attrs.xattrs.is_empty() {
        metadata.remove(XATTR);
    } else {
        metadata.insert(XATTR.to_owned(), print_xattrs(&attrs.xattrs));
    }
}

fn put(metadata: &mut BTreeMap<String, String>, own: &str, foreign: &str, value: String) {
    metadata.remove(foreign);
    metadata.insert(own.to_owned(), value);
}

/// A mode in decimal (s3fs) or octal (rclone). They are told apart by the type bits: read as decimal, an
/// octal text almost never has valid ones, and a leading zero is never decimal.
fn parse_mode(text: &str) -> Option<u32> {
    if !text.starts_with('0')
        && let Some(mode) = parse_digits(text, 10)
        && mode <= TYPE_MASK | PERMISSION_MASK
        && kind_of(mode).is_some()
    {
        return Some(mode);
    }
    parse_octal_mode(text)
}

/// Octal text with valid type bits or none.
fn parse_octal_mode(text: &str) -> Option<u32> {
    let mode = parse_digits(text.strip_prefix("0o").unwrap_or(text), 8)?;
    let known = mode & TYPE_MASK == 0 || kind_of(mode).is_some();
    (mode <= TYPE_MASK | PERMISSION_MASK && known).then_some(mode)
}

/// Digits only: `from_str_radix` would also take a sign.
fn parse_digits(text: &str, radix: u32) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| u32::from_str_radix(text, radix).ok())?
}

fn kind_of(st_mode: u32) -> Option<FileKind> {
    match st_mode & TYPE_MASK {
        0o100_000 => Some(FileKind::Regular),
        0o040_000 => Some(FileKind::Directory),
        0o120_000 => Some(FileKind::Symlink),
        0o010_000 => Some(FileKind::Fifo),
        0o140_000 => Some(FileKind::Socket),
        0o020_000 => Some(FileKind::CharDevice),
        0o060_000 => Some(FileKind::BlockDevice),
        _ => None,
    }
}

/// The type bits of `st_mode` for a kind. See inode(7).
pub fn type_bits(kind: FileKind) -> u32 {
    match kind {
        FileKind::Regular => 0o100_000,
        FileKind::Directory => 0o040_000,
        FileKind::Symlink => 0o120_000,
        FileKind::Fifo => 0o010_000,
        FileKind::Socket => 0o140_000,
        FileKind::CharDevice => 0o020_000,
        FileKind::BlockDevice => 0o060_000,
    }
}

fn usual_mode(kind: FileKind) -> u32 {
    match kind {
        FileKind::Directory => 0o755,
        FileKind::Symlink => 0o777,
        FileKind::Regular
        | FileKind::Fifo
        | FileKind::Socket
        | FileKind::CharDevice
        | FileKind::BlockDevice => 0o644,
    }
}

/// `seconds[.fraction]` or RFC 3339.
fn parse_time(text: &str) -> Option<SystemTime> {
    parse_seconds(text).or_else(|| {
        let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        at(time.unix_timestamp(), time.nanosecond())
    })
}

fn parse_seconds(text: &str) -> Option<SystemTime> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) || whole.starts_with('+') {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nanos = fraction_nanos(fraction);
    let decimal = fraction.len() != 9;
    if whole.starts_with('-') && decimal && nanos > 0 {
        return at(seconds.checked_sub(1)?, NANOS_PER_SECOND - nanos);
    }
    at(seconds, nanos)
}

/// Nanoseconds of the digits behind a decimal point; digits past the ninth are dropped.
fn fraction_nanos(digits: &str) -> u32 {
    let digits = digits.bytes().chain(std::iter::repeat(b'0')).take(9);
    digits.fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0'))
}

/// FSx for Lustre and the gateways: nanoseconds with the suffix `ns`, else milliseconds. A bare number too
/// small for milliseconds of any time after 1973 is taken for seconds, which older gateways wrote.
fn parse_lustre_time(text: &str) -> Option<SystemTime> {
    const SMALLEST_MILLISECONDS: u64 = 100_000_000_000;
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let per_second: i64 = match unit {
        "ns" => 1_000_000_000,
        "us" => 1_000_000,
        "ms" => 1_000,
        "s" => return parse_time(number),
        "" => match number.parse::<i64>() {
            Ok(value) if value.unsigned_abs() >= SMALLEST_MILLISECONDS => 1_000,
            _ => return parse_time(text),
        },
        _ => return parse_time(text),
    };
    let value: i64 = number.parse().ok()?;
    let nanos = value.rem_euclid(per_second) * (i64::from(NANOS_PER_SECOND) / per_second);
    at(value.div_euclid(per_second), u32::try_from(nanos).ok()?)
}

/// The time `nanos` after `seconds` after the epoch; `None` when the clock of this machine cannot hold it.
fn at(seconds: i64, nanos: u32) -> Option<SystemTime> {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(whole)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(whole)
    };
    base?.checked_add(Duration::from_nanos(u64::from(nanos)))
}

/// `seconds.nanoseconds` of a timespec, nine digits: nanoseconds count forward also before 1970.
fn print_time(time: SystemTime) -> String {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => format!("{}.{:09}", after.as_secs(), after.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            let (seconds, nanos) = match before.subsec_nanos() {
                0 => (u128::from(before.as_secs()), 0),
                nanos => (u128::from(before.as_secs()) + 1, NANOS_PER_SECOND - nanos),
            };
            format!("-{seconds}.{nanos:09}")
        }
    }
}

/// What s3fs leaves as it is in a URL-encoded value.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn parse_xattrs(text: &str) -> BTreeMap<String, Vec<u8>> {
    let json = percent_decode_str(text).decode_utf8_lossy();
    // Values of another type than text are dropped one by one, not all together.
    let Ok(values) = serde_json::from_str::<BTreeMap<String, serde_json::Value>>(&json) else {
        return BTreeMap::new();
    };
    let value = |v: serde_json::Value| BASE64.decode(v.as_str()?).ok();
    values.into_iter().filter_map(|(name, v)| Some((name, value(v)?))).collect()
}

fn print_xattrs(xattrs: &BTreeMap<String, Vec<u8>>) -> String {
    let text = |name: &str| serde_json::Value::from(name).to_string();
    let fields: Vec<String> =
        xattrs.iter().map(|(name, value)| format!("{}:\"{}\"", text(name), BASE64.encode(value))).collect();
    utf8_percent_encode(&format!("{{{}}}", fields.join(",")), UNRESERVED).to_string()
}

#[cfg(test)]
#[path = "attributes/tests.rs"]
mod tests;
