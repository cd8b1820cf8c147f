//! A filesystem in memory, as small as can be, that the adapter's tests mount for real. Names and files with a
//! certain name misbehave: see `Toy::misbehave`.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use pailfs::fs::error::{Error, Result};
use pailfs::fs::operations::Operations;
use pailfs::fs::types::*;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// Long, so that what the kernel believes is believed.
const TTL: Duration = Duration::from_secs(3600);
/// Entries answered at once, to see that a listing goes on.
const LIST_BATCH: usize = 1000;

struct Node {
    attr: Attr,
    parent: Ino,
    data: Vec<u8>,
    children: BTreeMap<OsString, Ino>,
    xattrs: BTreeMap<OsString, Bytes>,
    target: Bytes,
    rdev: u32,
}

#[derive(Default)]
struct Tree {
    nodes: HashMap<Ino, Node>,
    lookups: HashMap<Ino, u64>,
    last: u64,
}

pub struct Toy {
    tree: Mutex<Tree>,
    handles: AtomicU64,
    /// Handles open now.
    pub open: AtomicU64,
    /// A permit lets one operation on a file named `slow*` go on.
    pub gate: Semaphore,
    /// write_now answers `None`, so that writes are moved.
    pub copy_writes: bool,
    /// Lets the operations on `slow*` that were started be counted.
    pub waiting: AtomicU64,
    /// Flags of opened files, the last one.
    pub last_open: Mutex<Option<OpenFlags>>,
    /// The last rename's flags.
    pub last_rename: Mutex<Option<RenameFlags>>,
    /// The last setattr.
    pub last_setattr: Mutex<Option<SetAttr>>,
    /// Flags of writes.
    pub last_write: Mutex<Option<WriteFlags>>,
    /// The last fallocate.
    pub last_allocate: Mutex<Option<Allocate>>,
    /// Direct I/O and cache flags for files opened from now on.
    pub opened: Mutex<(bool, bool)>,
}

fn attr(ino: Ino, kind: FileKind, mode: u32, caller: (u32, u32)) -> Attr {
    let now = SystemTime::now();
    Attr {
        ino,
        size: 0,
        blocks: 0,
        atime: now,
        mtime: now,
        ctime: now,
        kind,
        mode: mode & 0o7777,
        nlink: if kind == FileKind::Directory { 2 } else { 1 },
        uid: caller.0,
        gid: caller.1,
        rdev: 0,
    }
}

fn node(attr: Attr, parent: Ino) -> Node {
    Node {
        attr,
        parent,
        data: Vec::new(),
        children: BTreeMap::new(),
        xattrs: BTreeMap::new(),
        target: Bytes::new(),
        rdev: 0,
    }
}

impl Tree {
    fn node(&mut self, ino: Ino) -> Result<&mut Node> {
        self.nodes.get_mut(&ino).ok_or(Error::NotFound)
    }

    fn attr(&mut self, ino: Ino) -> Result<Attr> {
        let node = self.node(ino)?;
        let mut attr = node.attr.clone();
        if attr.kind == FileKind::Regular {
            attr.size = node.data.len() as u64;
            attr.blocks = attr.size.div_ceil(512);
        }
        attr.rdev = node.rdev;
        Ok(attr)
    }

    fn count(&mut self, ino: Ino) {
        *self.lookups.entry(ino).or_default() += 1;
    }

    fn entry(&mut self, ino: Ino) -> Result<Entry> {
        let attr = self.attr(ino)?;
        self.count(ino);
        Ok(Entry { attr: Some(attr), ttl: TTL })
    }

    fn add(&mut self, caller: Caller, parent: Ino, name: OsString, kind: FileKind, mode: u32) -> Result<Ino> {
        if self.node(parent)?.children.contains_key(&name) {
            return Err(Error::Exists);
        }
        self.last += 1;
        let ino = Ino(self.last);
        self.nodes.insert(ino, node(attr(ino, kind, mode, (caller.uid, caller.gid)), parent));
        self.node(parent)?.children.insert(name, ino);
        Ok(ino)
    }
}

impl Toy {
    pub fn new() -> Self {
        let mut tree = Tree { last: 1, ..Tree::default() };
        tree.nodes.insert(Ino::ROOT, node(attr(Ino::ROOT, FileKind::Directory, 0o755, (0, 0)), Ino::ROOT));
        Self {
            tree: Mutex::new(tree),
            handles: AtomicU64::new(1),
            open: AtomicU64::new(0),
            gate: Semaphore::new(0),
            copy_writes: false,
            waiting: AtomicU64::new(0),
            last_open: Mutex::default(),
            last_rename: Mutex::default(),
            last_setattr: Mutex::default(),
            last_write: Mutex::default(),
            last_allocate: Mutex::default(),
            opened: Mutex::default(),
        }
    }

    /// Adds `count` empty files to the root.
    pub fn fill(&self, count: usize) {
        let mut tree = self.tree.lock();
        let caller = Caller { uid: 0, gid: 0, pid: 0 };
        for n in 0..count {
            let name = format!("file-{n:05}").into();
            tree.add(caller, Ino::ROOT, name, FileKind::Regular, 0o644).unwrap();
        }
    }

    /// Changes content and owner of a file behind the kernel's back.
    pub fn overwrite(&self, name: &str, data: &[u8]) -> Ino {
        let mut tree = self.tree.lock();
        let ino = tree.node(Ino::ROOT).unwrap().children[OsStr::new(name)];
        let node = tree.node(ino).unwrap();
        node.data = data.to_vec();
        node.attr.uid = 77;
        ino
    }

    /// Adds or removes a name behind the kernel's back.
    pub fn add(&self, name: &str) -> Ino {
        let caller = Caller { uid: 0, gid: 0, pid: 0 };
        self.tree.lock().add(caller, Ino::ROOT, name.into(), FileKind::Regular, 0o644).unwrap()
    }

    /// Names in the root.
    pub fn list_root(&self) -> Vec<OsString> {
        self.tree.lock().node(Ino::ROOT).unwrap().children.keys().cloned().collect()
    }

    /// What was looked up and not forgotten, without the root.
    pub fn lookups(&self) -> u64 {
        self.tree.lock().lookups.values().sum()
    }

    /// `panic*` panics, `hang*` never ends, `slow*` waits for the gate, `broken*` fails.
    async fn misbehave(&self, name: &OsStr) -> Result<()> {
        let name = name.as_bytes();
        if name.starts_with(b"panic-late") {
            tokio::task::yield_now().await;
        }
        assert!(!name.starts_with(b"panic"), "asked to");
        if name.starts_with(b"hang") {
            std::future::pending::<()>().await;
        }
        if name.starts_with(b"slow") {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            self.gate.acquire().await.unwrap().forget();
        }
        if name.starts_with(b"broken") {
            return Err(Error::Internal("asked to".to_owned()));
        }
        Ok(())
    }

    fn name_of(&self, ino: Ino) -> OsString {
        let mut tree = self.tree.lock();
        let Ok(parent) = tree.node(ino).map(|n| n.parent) else { return OsString::new() };
        let Ok(parent) = tree.node(parent) else { return OsString::new() };
        parent.children.iter().find(|(_, i)| **i == ino).map(|(n, _)| n.clone()).unwrap_or_default()
    }

    fn handle(&self) -> Opened {
        self.open.fetch_add(1, Ordering::SeqCst);
        let (keep_cache, direct_io) = *self.opened.lock();
        Opened { fh: Fh(self.handles.fetch_add(1, Ordering::SeqCst)), keep_cache, direct_io, no_flush: false }
    }

    fn put(&self, ino: Ino, offset: u64, data: &[u8], flags: WriteFlags) -> Result<u32> {
        *self.last_write.lock() = Some(flags);
        let mut tree = self.tree.lock();
        let file = &mut tree.node(ino)?.data;
        let offset = usize::try_from(offset).unwrap();
        if file.len() < offset + data.len() {
            file.resize(offset + data.len(), 0);
        }
        file[offset..offset + data.len()].copy_from_slice(data);
        Ok(data.len() as u32)
    }

    fn list(&self, ino: Ino, offset: u64) -> Result<Vec<DirEntryPlus>> {
        let mut tree = self.tree.lock();
        let parent = tree.node(ino)?.parent;
        let mut names: Vec<(OsString, Ino)> = vec![(".".into(), ino), ("..".into(), parent)];
        names.extend(tree.node(ino)?.children.iter().map(|(n, i)| (n.clone(), *i)));
        let mut entries = Vec::new();
        for (n, (name, ino)) in (1u64..).zip(names).skip(usize::try_from(offset).unwrap()).take(LIST_BATCH) {
            let attr = tree.attr(ino)?;
            let entry = DirEntry { ino, offset: n, kind: attr.kind, name };
            entries.push(DirEntryPlus { entry, attr, ttl: TTL });
        }
        Ok(entries)
    }
}

impl Operations for Toy {
    async fn lookup(self: Arc<Self>, parent: Ino, name: OsString) -> Result<Entry> {
        self.misbehave(&name).await?;
        let mut tree = self.tree.lock();
        match tree.node(parent)?.children.get(&name).copied() {
            Some(ino) => tree.entry(ino),
            None => Ok(Entry { attr: None, ttl: TTL }),
        }
    }

    fn forget(&self, ino: Ino, count: u64) {
        let mut tree = self.tree.lock();
        if let Some(n) = tree.lookups.get_mut(&ino) {
            assert!(*n >= count, "forgotten {count} times, looked up {n} times");
            *n -= count;
        }
    }

    async fn getattr(self: Arc<Self>, ino: Ino, _: Option<Fh>) -> Result<AttrReply> {
        Ok(AttrReply { attr: self.tree.lock().attr(ino)?, ttl: TTL })
    }

    async fn setattr(self: Arc<Self>, _: Caller, ino: Ino, changes: SetAttr) -> Result<AttrReply> {
        *self.last_setattr.lock() = Some(changes.clone());
        let mut tree = self.tree.lock();
        let node = tree.node(ino)?;
        node.attr.mode = changes.mode.unwrap_or(node.attr.mode);
        node.attr.uid = changes.uid.unwrap_or(node.attr.uid);
        node.attr.gid = changes.gid.unwrap_or(node.attr.gid);
        if let Some(size) = changes.size {
            node.data.resize(usize::try_from(size).unwrap(), 0);
        }
        let time = |t| match t {
            SetTime::Now => SystemTime::now(),
            SetTime::At(time) => time,
        };
        node.attr.atime = changes.atime.map_or(node.attr.atime, time);
        node.attr.mtime = changes.mtime.map_or(node.attr.mtime, time);
        Ok(AttrReply { attr: tree.attr(ino)?, ttl: TTL })
    }

    async fn readlink(self: Arc<Self>, ino: Ino) -> Result<Bytes> {
        Ok(self.tree.lock().node(ino)?.target.clone())
    }

    async fn mknod(
        self: Arc<Self>,
        caller: Caller,
        parent: Ino,
        name: OsString,
        mode: u32,
        _: u32,
        rdev: u32,
    ) -> Result<Entry> {
        let kind = match mode & libc::S_IFMT {
            libc::S_IFIFO => FileKind::Fifo,
            libc::S_IFSOCK => FileKind::Socket,
            libc::S_IFCHR => FileKind::CharDevice,
            libc::S_IFBLK => FileKind::BlockDevice,
            _ => FileKind::Regular,
        };
        let mut tree = self.tree.lock();
        let ino = tree.add(caller, parent, name, kind, mode)?;
        tree.node(ino)?.rdev = rdev;
        tree.entry(ino)
    }

    async fn mkdir(
        self: Arc<Self>,
        caller: Caller,
        parent: Ino,
        name: OsString,
        mode: u32,
        _: u32,
    ) -> Result<Entry> {
        if name.as_bytes().starts_with(b"made-slow") {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            self.gate.acquire().await.unwrap().forget();
        }
        let mut tree = self.tree.lock();
        let ino = tree.add(caller, parent, name, FileKind::Directory, mode)?;
        tree.entry(ino)
    }

    async fn symlink(
        self: Arc<Self>,
        caller: Caller,
        parent: Ino,
        name: OsString,
        target: PathBuf,
    ) -> Result<Entry> {
        let mut tree = self.tree.lock();
        let ino = tree.add(caller, parent, name, FileKind::Symlink, 0o777)?;
        tree.node(ino)?.target = Bytes::copy_from_slice(target.as_os_str().as_bytes());
        tree.node(ino)?.attr.size = target.as_os_str().len() as u64;
        tree.entry(ino)
    }

    async fn unlink(self: Arc<Self>, parent: Ino, name: OsString) -> Result<()> {
        self.tree.lock().node(parent)?.children.remove(&name).map(drop).ok_or(Error::NotFound)
    }

    async fn rmdir(self: Arc<Self>, parent: Ino, name: OsString) -> Result<()> {
        let mut tree = self.tree.lock();
        let ino = *tree.node(parent)?.children.get(&name).ok_or(Error::NotFound)?;
        if !tree.node(ino)?.children.is_empty() {
            return Err(Error::NotEmpty);
        }
        tree.node(parent)?.children.remove(&name);
        Ok(())
    }

    async fn rename(
        self: Arc<Self>,
        parent: Ino,
        name: OsString,
        new_parent: Ino,
        new_name: OsString,
        flags: RenameFlags,
    ) -> Result<()> {
        *self.last_rename.lock() = Some(flags);
        if flags.other {
            return Err(Error::Invalid("flags"));
        }
        let mut tree = self.tree.lock();
        let from = *tree.node(parent)?.children.get(&name).ok_or(Error::NotFound)?;
        let to = tree.node(new_parent)?.children.get(&new_name).copied();
        if flags.no_replace && to.is_some() {
            return Err(Error::Exists);
        }
        tree.node(parent)?.children.remove(&name);
        if flags.exchange {
            tree.node(parent)?.children.insert(name, to.ok_or(Error::NotFound)?);
        }
        tree.node(new_parent)?.children.insert(new_name, from);
        tree.node(from)?.parent = new_parent;
        Ok(())
    }

    async fn open(self: Arc<Self>, _: Caller, ino: Ino, flags: OpenFlags) -> Result<Opened> {
        *self.last_open.lock() = Some(flags);
        if flags.truncate {
            self.tree.lock().node(ino)?.data.clear();
        }
        Ok(self.handle())
    }

    async fn create(
        self: Arc<Self>,
        caller: Caller,
        parent: Ino,
        name: OsString,
        mode: u32,
        _: u32,
        flags: OpenFlags,
    ) -> Result<Created> {
        *self.last_open.lock() = Some(flags);
        let mut tree = self.tree.lock();
        let ino = tree.add(caller, parent, name, FileKind::Regular, mode)?;
        let entry = tree.entry(ino)?;
        Ok(Created { entry, opened: self.handle() })
    }

    async fn read(self: Arc<Self>, ino: Ino, _: Fh, offset: u64, len: u32) -> Result<ReadData> {
        let name = self.name_of(ino);
        if name.as_bytes().starts_with(b"read-") {
            self.misbehave(OsStr::from_bytes(&name.as_bytes()[5..])).await?;
        }
        let mut tree = self.tree.lock();
        let data = &tree.node(ino)?.data;
        let start = data.len().min(usize::try_from(offset).unwrap());
        let end = data.len().min(start + len as usize);
        Ok(Bytes::copy_from_slice(&data[start..end]))
    }

    fn write_now(&self, ino: Ino, _: Fh, offset: u64, data: &[u8], flags: WriteFlags) -> Option<Result<u32>> {
        assert!(!self.name_of(ino).as_bytes().starts_with(b"write-panic"), "asked to");
        (!self.copy_writes).then(|| self.put(ino, offset, data, flags))
    }

    async fn write(
        self: Arc<Self>,
        ino: Ino,
        _: Fh,
        offset: u64,
        data: Bytes,
        flags: WriteFlags,
    ) -> Result<u32> {
        tokio::task::yield_now().await;
        self.put(ino, offset, &data, flags)
    }

    async fn flush(self: Arc<Self>, ino: Ino, _: Fh, _: u32) -> Result<()> {
        match self.name_of(ino).as_bytes().starts_with(b"flush-fails") {
            true => Err(Error::NoSpace),
            false => Ok(()),
        }
    }

    async fn fsync(self: Arc<Self>, _: Ino, _: Fh, _: bool) -> Result<()> {
        Ok(())
    }

    async fn release(self: Arc<Self>, _: Ino, _: Fh) -> Result<()> {
        self.open.fetch_sub(1, Ordering::SeqCst);
        Err(Error::Internal("nobody hears of it".to_owned()))
    }

    async fn opendir(self: Arc<Self>, _: Ino) -> Result<Opened> {
        Ok(Opened { keep_cache: false, ..self.handle() })
    }

    async fn readdir(self: Arc<Self>, ino: Ino, _: Fh, offset: u64) -> Result<Vec<DirEntry>> {
        Ok(self.list(ino, offset)?.into_iter().map(|plus| plus.entry).collect())
    }

    async fn readdirplus(self: Arc<Self>, ino: Ino, _: Fh, offset: u64) -> Result<Vec<DirEntryPlus>> {
        self.list(ino, offset)
    }

    fn count_lookups(&self, inos: &[Ino]) {
        let mut tree = self.tree.lock();
        for ino in inos {
            tree.count(*ino);
        }
    }

    async fn releasedir(self: Arc<Self>, _: Ino, _: Fh) -> Result<()> {
        self.open.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    async fn fsyncdir(self: Arc<Self>, _: Ino, _: Fh) -> Result<()> {
        Ok(())
    }

    async fn statfs(self: Arc<Self>, _: Ino) -> Result<StatFs> {
        Ok(StatFs {
            blocks: 1 << 40,
            blocks_free: 1 << 39,
            files: 1000,
            files_free: 900,
            block_size_bytes: 4096,
            name_max_bytes: 255,
        })
    }

    async fn setxattr(
        self: Arc<Self>,
        ino: Ino,
        name: OsString,
        value: Bytes,
        flags: SetXattrFlags,
    ) -> Result<()> {
        let mut tree = self.tree.lock();
        let xattrs = &mut tree.node(ino)?.xattrs;
        match xattrs.contains_key(&name) {
            true if flags.create => return Err(Error::Exists),
            false if flags.replace => return Err(Error::NoAttribute),
            _ => {}
        }
        xattrs.insert(name, value);
        Ok(())
    }

    async fn getxattr(self: Arc<Self>, ino: Ino, name: OsString) -> Result<Bytes> {
        self.tree.lock().node(ino)?.xattrs.get(&name).cloned().ok_or(Error::NoAttribute)
    }

    async fn listxattr(self: Arc<Self>, ino: Ino) -> Result<Bytes> {
        let mut list = Vec::new();
        for name in self.tree.lock().node(ino)?.xattrs.keys() {
            list.extend_from_slice(name.as_bytes());
            list.push(0);
        }
        Ok(list.into())
    }

    async fn removexattr(self: Arc<Self>, ino: Ino, name: OsString) -> Result<()> {
        self.tree.lock().node(ino)?.xattrs.remove(&name).map(drop).ok_or(Error::NoAttribute)
    }

    async fn fallocate(
        self: Arc<Self>,
        ino: Ino,
        _: Fh,
        offset: u64,
        len: u64,
        mode: Allocate,
    ) -> Result<()> {
        *self.last_allocate.lock() = Some(mode);
        let mut tree = self.tree.lock();
        let data = &mut tree.node(ino)?.data;
        let end = usize::try_from(offset + len).unwrap();
        if mode == Allocate::Extend && data.len() < end {
            data.resize(end, 0);
        }
        Ok(())
    }

    async fn lseek(self: Arc<Self>, ino: Ino, _: Fh, offset: u64, whence: SeekWhence) -> Result<u64> {
        let size = self.tree.lock().node(ino)?.data.len() as u64;
        match whence {
            _ if offset >= size => Err(Error::NoSuchOffset),
            SeekWhence::Data => Ok(offset),
            SeekWhence::Hole => Ok(size),
        }
    }

    async fn copy_file_range(
        self: Arc<Self>,
        _: Ino,
        _: Fh,
        _: u64,
        _: Ino,
        _: Fh,
        _: u64,
        _: u64,
    ) -> Result<u32> {
        Err(Error::Unsupported("the kernel reads and writes"))
    }
}
