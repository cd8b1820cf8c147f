//! One inode: what is known of a file or directory, and what of that is not in S3 yet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::commit::file::File;
use crate::fs::types::{Attr, FileKind, Ino};
use crate::namespace::attributes::{self, PosixAttrs};
use crate::store::types::{Condition, ObjectInfo, Properties, Version};

/// What the names of a directory are known to mean.
#[derive(Debug)]
pub enum Child {
    /// An inode.
    Node(Ino),
    /// Seen in a listing, not looked up yet.
    Listed(ListedChild),
    /// Known not to exist since then.
    Gone(Instant),
}

/// A name that only a listing told about.
#[derive(Clone, Debug)]
pub struct ListedChild {
    /// The number it will have.
    pub ino: Ino,
    /// The key's part behind the name, where the name is an escape of it.
    pub component: Option<Box<str>>,
    /// What it is.
    pub what: Listed,
}

/// What a listing tells of a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listed {
    /// An object with its version.
    Object(Version),
    /// A common prefix.
    Prefix,
}

/// Whether a directory has an object of its own (`dir/`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Marker {
    /// Not asked yet.
    Unknown,
    /// It has one.
    Present,
    /// It exists only through what is in it.
    Absent,
}

/// What only directories have.
#[derive(Debug)]
pub struct Dir {
    /// Names (as shown) and what they mean.
    pub children: BTreeMap<Box<str>, Child>,
    /// When every name was known: then an unknown name does not exist.
    pub complete: Option<Instant>,
    /// Its own object.
    pub marker: Marker,
}

impl Dir {
    /// A directory of which nothing is known.
    pub fn unknown() -> Self {
        Self { children: BTreeMap::new(), complete: None, marker: Marker::Unknown }
    }

    /// A directory that was just made here: empty, with a marker.
    pub fn fresh(now: Instant) -> Self {
        Self { children: BTreeMap::new(), complete: Some(now), marker: Marker::Present }
    }

    /// Names that exist, as far as is known here.
    pub fn live(&self) -> impl Iterator<Item = (&str, &Child)> {
        self.children.iter().filter(|(_, c)| !matches!(c, Child::Gone(_))).map(|(n, c)| (&**n, c))
    }
}

/// Mode, owner and times: what chmod, chown and utimensat change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stat {
    /// `0o7777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number.
    pub rdev: u32,
    /// Last access.
    pub atime: SystemTime,
    /// Last change of the content.
    pub mtime: SystemTime,
    /// Last change of anything.
    pub ctime: SystemTime,
    /// Bytes.
    pub size: u64,
}

/// Owner and permissions of objects that carry none.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permissions of files.
    pub file_mode: u32,
    /// Permissions of directories.
    pub dir_mode: u32,
}

/// An inode.
#[derive(Debug)]
pub struct Node {
    /// Its number.
    pub ino: Ino,
    /// The directory it is in.
    pub parent: Ino,
    /// Its part of the key, without a slash; for a bucket its name.
    pub component: Box<str>,
    /// The name it is shown under in `parent`.
    pub shown: Box<str>,
    /// Whether the name still leads here; false after unlink and rename over it.
    pub linked: bool,
    /// Another client removed or replaced what this is: changes made here have no place to go, but somebody
    /// made them and has to be told.
    pub lost: bool,
    /// A refused condition says that another client was here: ask again, whatever the time.
    pub doubted: bool,
    /// References the kernel holds.
    pub lookups: u64,
    /// Open handles.
    pub opens: u32,
    /// Open handles that may write.
    pub writers: u32,
    /// Kind.
    pub kind: FileKind,
    /// Attributes.
    pub stat: Stat,
    /// Extended attributes by name.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// Headers and user metadata as S3 has them; `None` when only a listing was seen.
    pub properties: Option<Arc<Properties>>,
    /// How many tags the object has.
    pub tag_count: u32,
    /// The version in S3; `None` when there is none (new file, implied directory).
    pub version: Option<Version>,
    /// Our own write, whose time in S3 is not known yet: the local time of it.
    pub written: Option<SystemTime>,
    /// When the above was last known to be so.
    pub proved: Instant,
    /// When a conditional GET last said that the bytes are the same.
    pub same_content: Option<Instant>,
    /// When this host last changed it; a listing begun earlier does not speak of it.
    pub changed: Option<Instant>,
    /// Counts changes of attributes; what is above `meta_committed` is not in S3.
    pub meta_generation: u64,
    /// See `meta_generation`.
    pub meta_committed: u64,
    /// The object that the first commit under this name replaces: the rename of an uncommitted file.
    pub replaces: Option<Version>,
    /// Directories only.
    pub dir: Option<Box<Dir>>,
    /// Content while it is open or not in S3 yet.
    pub file: Option<Arc<File>>,
    /// The kernel's pages of this inode are those of `version`.
    pub pages_valid: bool,
}

impl Node {
    /// A node with the attributes that an object without any has.
    pub fn new(ino: Ino, parent: Ino, component: &str, shown: &str, kind: FileKind, stat: Stat) -> Self {
        Self {
            ino,
            parent,
            component: component.into(),
            shown: shown.into(),
            linked: true,
            lost: false,
            doubted: false,
            lookups: 0,
            opens: 0,
            writers: 0,
            kind,
            stat,
            xattrs: BTreeMap::new(),
            properties: None,
            tag_count: 0,
            version: None,
            written: None,
            proved: Instant::now(),
            same_content: None,
            changed: None,
            meta_generation: 0,
            meta_committed: 0,
            replaces: None,
            dir: (kind == FileKind::Directory).then(|| Box::new(Dir::unknown())),
            file: None,
            pages_valid: false,
        }
    }

    /// Whether attributes are not in S3 yet.
    pub fn meta_dirty(&self) -> bool {
        self.meta_generation != self.meta_committed
    }

    /// Whether anything is not in S3 yet.
    pub fn dirty(&self) -> bool {
        self.meta_dirty() || self.file.as_ref().is_some_and(|f| f.dirty())
    }

    /// Notes a change of attributes made here.
    pub fn touch_meta(&mut self) {
        self.meta_generation += 1;
        self.changed = Some(Instant::now());
    }

    /// When the bytes were last known to be those of `version`.
    pub fn content_proved(&self) -> Instant {
        self.same_content.map_or(self.proved, |at| at.max(self.proved))
    }

    /// Whether what is known may still be believed.
    pub fn fresh(&self, ttl: Duration) -> bool {
        self.dirty() || self.opens_dirty() || (!self.doubted && self.proved.elapsed() <= ttl)
    }

    /// What is known was true at that moment.
    pub fn prove(&mut self, at: Instant) {
        self.proved = at;
        self.doubted = false;
    }

    /// The name is another client's now.
    pub fn lose(&mut self) {
        self.linked = false;
        self.lost = true;
    }

    /// Whether something changed here that is not in S3 and that somebody waits for.
    pub fn wants_commit(&self) -> bool {
        self.dirty() && (self.linked || self.lost)
    }

    /// A new file that is open and was never committed exists nowhere but here.
    fn opens_dirty(&self) -> bool {
        self.version.is_none() && self.file.is_some()
    }

    /// The condition for the next write of this object.
    pub fn condition(&self) -> Condition {
        match self.version.as_ref().or(self.replaces.as_ref()) {
            Some(version) => Condition::Match(version.etag.clone()),
            None => Condition::Absent,
        }
    }

    /// Attributes as stat(2) shows them.
    pub fn attr(&self) -> Attr {
        Attr {
            ino: self.ino,
            size: self.stat.size,
            blocks: self.stat.size.div_ceil(512),
            atime: self.stat.atime,
            mtime: self.stat.mtime,
            ctime: self.stat.ctime,
            kind: self.kind,
            mode: self.stat.mode,
            nlink: match (self.linked, self.kind) {
                (false, _) => 0,
                (true, FileKind::Directory) => 2,
                (true, _) => 1,
            },
            uid: self.stat.uid,
            gid: self.stat.gid,
            rdev: self.stat.rdev,
        }
    }

    /// Whether `version` of a listing or a HEAD is the one this node knows. Learns the time of our own
    /// write when the store's is close to ours; otherwise somebody may have changed the attributes since.
    pub fn is_version(&mut self, version: &Version) -> bool {
        let Some(own) = &mut self.version else { return false };
        if own.etag != version.etag || own.size != version.size {
            return false;
        }
        if let Some(written) = self.written {
            let apart = written
                .duration_since(version.last_modified)
                .or_else(|_| version.last_modified.duration_since(written));
            if apart.is_ok_and(|d| d <= WRITE_TIME_SLACK) {
                own.last_modified = version.last_modified;
                self.written = None;
                return true;
            }
            return false;
        }
        own.last_modified == version.last_modified
    }

    /// Takes over what HEAD or GET told.
    pub fn learn(&mut self, known: &Known, defaults: &Defaults) {
        let (kind, stat, xattrs) = describe(known, self.kind, defaults);
        self.kind = kind;
        self.stat = stat;
        self.xattrs = xattrs;
        self.properties = Some(known.properties.clone());
        self.tag_count = known.tag_count;
        self.version = Some(known.version.clone());
        self.written = None;
        self.prove(Instant::now());
    }

    /// What a later HEAD of the version of this node would tell.
    pub fn known(&self) -> Option<Known> {
        Some(Known {
            version: self.version.clone()?,
            properties: self.properties.clone()?,
            tag_count: self.tag_count,
        })
    }

    /// Properties for the next write: what the object has, with the attributes of this node.
    pub fn properties_to_write(&self) -> Properties {
        let mut properties = self.properties.as_deref().cloned().unwrap_or_default();
        let posix = PosixAttrs {
            kind: Some(self.kind),
            mode: Some(self.stat.mode),
            uid: Some(self.stat.uid),
            gid: Some(self.stat.gid),
            rdev: (self.stat.rdev != 0).then_some(self.stat.rdev),
            atime: Some(self.stat.atime),
            mtime: Some(self.stat.mtime),
            ctime: Some(self.stat.ctime),
            xattrs: self.xattrs.clone(),
        };
        attributes::encode(&posix, &mut properties.metadata);
        properties
    }
}

/// How far the store's clock may be from ours for a version to pass as our own write.
const WRITE_TIME_SLACK: Duration = Duration::from_secs(2);

/// What HEAD told of one version of an object.
#[derive(Clone, Debug)]
pub struct Known {
    /// The version.
    pub version: Version,
    /// Headers and user metadata.
    pub properties: Arc<Properties>,
    /// How many tags it has.
    pub tag_count: u32,
}

impl From<ObjectInfo> for Known {
    fn from(info: ObjectInfo) -> Self {
        Self { version: info.version, properties: Arc::new(info.properties), tag_count: info.tag_count }
    }
}

/// Attributes of an object: its own where it has them, the defaults elsewhere.
pub fn describe(
    info: &Known,
    assumed: FileKind,
    defaults: &Defaults,
) -> (FileKind, Stat, BTreeMap<String, Vec<u8>>) {
    let posix = attributes::decode(&info.properties.metadata);
    // A directory is one by its key, whatever its mode says, and an object without a slash never is.
    let kind = match (assumed, posix.kind) {
        (FileKind::Directory, _) => FileKind::Directory,
        (_, Some(FileKind::Directory) | None) => FileKind::Regular,
        (_, Some(kind)) => kind,
    };
    let default_mode = match kind {
        FileKind::Directory => defaults.dir_mode,
        FileKind::Symlink => 0o777,
        _ => defaults.file_mode,
    };
    let mtime = posix.mtime.unwrap_or(info.version.last_modified);
    let stat = Stat {
        mode: posix.mode.unwrap_or(default_mode) & 0o7777,
        uid: posix.uid.unwrap_or(defaults.uid),
        gid: posix.gid.unwrap_or(defaults.gid),
        rdev: posix.rdev.unwrap_or(0),
        atime: posix.atime.unwrap_or(mtime),
        mtime,
        ctime: posix.ctime.unwrap_or(info.version.last_modified),
        size: if kind == FileKind::Directory { 0 } else { info.version.size },
    };
    (kind, stat, posix.xattrs)
}

/// Attributes of what only a listing told about.
pub fn describe_listed(listed: &Listed, defaults: &Defaults, now: SystemTime) -> (FileKind, Stat) {
    match listed {
        Listed::Object(version) => (
            FileKind::Regular,
            Stat {
                mode: defaults.file_mode,
                uid: defaults.uid,
                gid: defaults.gid,
                rdev: 0,
                atime: version.last_modified,
                mtime: version.last_modified,
                ctime: version.last_modified,
                size: version.size,
            },
        ),
        Listed::Prefix => (
            FileKind::Directory,
            Stat {
                mode: defaults.dir_mode,
                uid: defaults.uid,
                gid: defaults.gid,
                rdev: 0,
                atime: now,
                mtime: now,
                ctime: now,
                size: 0,
            },
        ),
    }
}
