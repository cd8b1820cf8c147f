//! Does each operation on the filesystem and on the reference, the way the kernel would, and compares.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use libc::{EEXIST, EISDIR, ENODATA, ENOSPC, ENOTSUP, ENXIO};
use pailfs::fs::types::{
    Allocate, Attr, Fh, FileKind, Ino, OpenFlags, RenameFlags, SeekWhence, SetAttr, SetTime, SetXattrFlags,
    WriteFlags,
};
use pailfs::store::object_store::ObjectStore;

use crate::harness::{CALLER, Mount, Shape, mount, number, pattern};
use crate::operations::{NAMES, Op, Place};
use crate::reference::{Id, Kind, Node, ROOT, Rename, Tree};

const XATTRS: [&str; 3] = ["user.one", "user.two", "user.three"];
/// No deeper directories than this.
const DEPTH_MAX: usize = 3;
const OWNER: (u32, u32) = (CALLER.uid, CALLER.gid);

#[derive(Clone, Copy)]
pub struct Handle {
    pub fh: Fh,
    pub ino: Ino,
    pub id: Id,
    pub write: bool,
}

pub struct Runner {
    pub mount: Mount,
    pub store: Arc<dyn ObjectStore>,
    pub tree: Tree,
    pub handles: Vec<Handle>,
    /// Inodes the kernel knows.
    inos: HashMap<Id, Ino>,
    lookups: HashMap<Ino, u64>,
}

pub fn kind_of(kind: FileKind) -> Kind {
    match kind {
        FileKind::Directory => Kind::Dir,
        FileKind::Symlink => Kind::Symlink,
        _ => Kind::File,
    }
}

impl Runner {
    pub fn new(store: Arc<dyn ObjectStore>, shape: Shape, root: Tree) -> Self {
        let mount = mount(&store, shape);
        Self {
            mount,
            store,
            tree: root,
            handles: Vec::new(),
            inos: HashMap::from([(ROOT, Ino::ROOT)]),
            lookups: HashMap::new(),
        }
    }

    fn place(&self, at: Place) -> (Id, &'static str) {
        let dirs = self.tree.dirs();
        (dirs[at.dir as usize % dirs.len()], NAMES[at.name as usize])
    }

    fn handle(&self, number: u8) -> Option<Handle> {
        let count = self.handles.len();
        (count > 0).then(|| self.handles[number as usize % count])
    }

    fn writer(&self, number: u8) -> Option<Handle> {
        self.handle(number).filter(|h| h.write)
    }

    /// The name of a linked node.
    fn name_of(&self, id: Id) -> String {
        let parent = &self.tree.nodes[self.tree.nodes[id].parent];
        parent.children.iter().find(|(_, child)| **child == id).unwrap().0.clone()
    }

    /// The inode of a linked node, looked up name by name.
    pub async fn ino(&mut self, id: Id) -> Ino {
        if id == ROOT {
            return Ino::ROOT;
        }
        let mut names = Vec::new();
        let mut at = id;
        while at != ROOT {
            names.push((self.tree.nodes[at].parent, self.name_of(at)));
            at = self.tree.nodes[at].parent;
        }
        let mut ino = Ino::ROOT;
        for (dir, name) in names.into_iter().rev() {
            ino = self.look(dir, ino, &name).await.expect("a name that is there was not found");
        }
        ino
    }

    /// A lookup, compared with what the reference has.
    async fn look(&mut self, dir: Id, dir_ino: Ino, name: &str) -> Option<Ino> {
        let entry = self.mount.fs.lookup(dir_ino, name.as_ref()).await.expect("lookup");
        let expected = self.tree.child(dir, name);
        assert_eq!(entry.attr.is_some(), expected.is_some(), "whether {name:?} exists");
        let (attr, id) = (entry.attr?, expected?);
        self.count(id, attr.ino);
        self.compare_attr(id, &attr);
        Some(attr.ino)
    }

    /// Counts a reference. What the kernel knows keeps its number.
    fn count(&mut self, id: Id, ino: Ino) {
        let known = *self.inos.entry(id).or_insert(ino);
        assert_eq!(known, ino, "a known file got another inode number");
        *self.lookups.entry(ino).or_default() += 1;
    }

    pub fn compare_attr(&self, id: Id, attr: &Attr) {
        let node = &self.tree.nodes[id];
        assert_eq!(kind_of(attr.kind), node.kind, "kind of {id}");
        assert_eq!(attr.mode, node.mode, "mode {:o} of {id}", attr.mode);
        assert_eq!((attr.uid, attr.gid), (node.uid, node.gid), "owner of {id}");
        if node.kind != Kind::Dir {
            assert_eq!(attr.size, node.data.len() as u64, "size of {id}");
            assert_eq!(attr.nlink, u32::from(node.linked), "links of {id}");
        }
        if let Some(mtime) = node.mtime {
            assert_eq!(attr.mtime, mtime, "mtime of {id}");
        }
    }

    async fn verify(&self, id: Id, ino: Ino) {
        let reply = self.mount.fs.getattr(ino, None).await.expect("getattr");
        self.compare_attr(id, &reply.attr);
    }

    /// Something changed the content now: the reference takes the time over when it is right.
    async fn stamp(&mut self, id: Id, ino: Ino, before: SystemTime) {
        let attr = self.mount.fs.getattr(ino, None).await.expect("getattr").attr;
        assert!(attr.mtime >= before && attr.mtime <= SystemTime::now(), "mtime {:?}", attr.mtime);
        self.tree.nodes[id].mtime = Some(attr.mtime);
        self.compare_attr(id, &attr);
    }

    fn new_node(&self, kind: Kind, parent: Id, mode: u32) -> Node {
        let above = &self.tree.nodes[parent];
        let inherits = above.mode & libc::S_ISGID != 0;
        let gid = if inherits { above.gid } else { OWNER.1 };
        let mode = if inherits && kind == Kind::Dir { mode | libc::S_ISGID } else { mode };
        Node::new(kind, parent, mode, (OWNER.0, gid))
    }

    fn drop_set_id(&mut self, id: Id) {
        let node = &mut self.tree.nodes[id];
        if node.kind != Kind::Dir {
            node.mode &= !libc::S_ISUID;
            if node.mode & libc::S_IXGRP != 0 {
                node.mode &= !libc::S_ISGID;
            }
        }
    }

    pub async fn apply(&mut self, op: &Op) {
        match op.clone() {
            Op::Create { at, mode, exclusive } => self.create(at, mode, exclusive).await,
            Op::Open { at, write, truncate } => self.open(at, write, truncate && write).await,
            Op::Write { handle, offset, len, seed } => {
                if let Some(handle) = self.writer(handle) {
                    self.write(handle, offset as usize, &pattern(seed, len as usize)).await;
                }
            }
            Op::Read { handle, offset, len } => {
                if let Some(handle) = self.handle(handle) {
                    self.read(handle, offset as usize, len as usize).await;
                }
            }
            Op::Seek { handle, offset, data } => {
                if let Some(handle) = self.handle(handle) {
                    self.seek(handle, offset as usize, data).await;
                }
            }
            Op::Truncate { at, size } => self.truncate(at, size).await,
            Op::TruncateHandle { handle, size } => {
                if let Some(handle) = self.writer(handle) {
                    let changes = SetAttr { fh: Some(handle.fh), ..SetAttr::default() };
                    self.resize(handle.id, handle.ino, changes, size).await;
                }
            }
            Op::Allocate { handle, offset, len, mode } => {
                if let Some(handle) = self.writer(handle) {
                    self.allocate(handle, offset, len, mode).await;
                }
            }
            Op::Copy { from, to, offset, len } => {
                if let (Some(from), Some(to)) = (self.handle(from), self.writer(to)) {
                    self.copy(from, to, offset as usize, len as usize).await;
                }
            }
            Op::Flush { handle } => {
                if let Some(handle) = self.handle(handle) {
                    self.mount.fs.flush(handle.ino, handle.fh).await.expect("flush");
                    self.verify(handle.id, handle.ino).await;
                }
            }
            Op::Fsync { handle } => {
                if let Some(handle) = self.handle(handle) {
                    self.mount.fs.fsync(handle.ino, handle.fh, false).await.expect("fsync");
                    self.verify(handle.id, handle.ino).await;
                }
            }
            Op::Release { handle, flush } => {
                if !self.handles.is_empty() {
                    self.release(handle as usize % self.handles.len(), flush).await;
                }
            }
            Op::Unlink { at } => self.unlink(at).await,
            Op::Mkdir { at, mode } => self.mkdir(at, mode).await,
            Op::Rmdir { at } => self.rmdir(at).await,
            Op::Rename { from, to, no_replace } => self.rename(from, to, no_replace).await,
            Op::Symlink { at, seed } => self.symlink(at, seed).await,
            Op::Readlink { at } => {
                if let Some((id, ino)) = self.there(at).await
                    && self.tree.nodes[id].kind == Kind::Symlink
                {
                    let target = self.mount.fs.readlink(ino).await.expect("readlink");
                    assert_eq!(target, self.tree.nodes[id].data, "target of a symbolic link");
                }
            }
            Op::Chmod { at, mode } => {
                if let Some((id, ino)) = self.there(at).await
                    && self.tree.nodes[id].kind != Kind::Symlink
                {
                    self.chmod(id, ino, None, mode).await;
                }
            }
            Op::ChmodHandle { handle, mode } => {
                if let Some(handle) = self.handle(handle) {
                    self.chmod(handle.id, handle.ino, Some(handle.fh), mode).await;
                }
            }
            Op::Chown { at, uid, gid } => {
                if let Some((id, ino)) = self.there(at).await {
                    let changes = SetAttr { uid: Some(uid), gid: Some(gid), ..SetAttr::default() };
                    self.mount.fs.setattr(CALLER, ino, changes).await.expect("chown");
                    (self.tree.nodes[id].uid, self.tree.nodes[id].gid) = (uid, gid);
                    self.drop_set_id(id);
                    self.tree.nodes[id].own_object = true;
                    self.verify(id, ino).await;
                }
            }
            Op::Utimes { at, seconds, nanos } => self.utimes(at, seconds, nanos).await,
            Op::SetXattr { at, name, len, create, replace } => {
                self.set_xattr(at, XATTRS[name as usize], len, create, replace).await;
            }
            Op::RemoveXattr { at, name } => self.remove_xattr(at, XATTRS[name as usize]).await,
            Op::Readdir { dir, plus } => {
                let dirs = self.tree.dirs();
                self.list(dirs[dir as usize % dirs.len()], plus).await;
            }
            Op::Getattr { at } => {
                if let Some((id, ino)) = self.there(at).await {
                    self.verify(id, ino).await;
                }
            }
            Op::Forget => self.forget(),
            Op::Drain => {
                let report = self.mount.fs.drain().await;
                assert!(report.failed.is_empty(), "{report:?}");
                let pending = self.mount.fs.pending();
                assert!(pending.is_empty(), "pending after a drain: {pending:?}");
            }
            Op::Check => self.check().await,
        }
    }

    /// A place where there is something.
    async fn there(&mut self, at: Place) -> Option<(Id, Ino)> {
        let (dir, name) = self.place(at);
        let dir_ino = self.ino(dir).await;
        let ino = self.look(dir, dir_ino, name).await?;
        Some((self.tree.child(dir, name)?, ino))
    }

    async fn create(&mut self, at: Place, mode: u32, exclusive: bool) {
        let (dir, name) = self.place(at);
        let dir_ino = self.ino(dir).await;
        if self.look(dir, dir_ino, name).await.is_some() {
            if !exclusive {
                self.open(at, true, false).await;
            }
            return;
        }
        let before = SystemTime::now();
        let flags = OpenFlags { read: true, write: true, exclusive, ..OpenFlags::default() };
        let created = self.mount.fs.create(CALLER, dir_ino, name.as_ref(), mode, 0, flags).await;
        let created = created.expect("create");
        let ino = created.entry.attr.unwrap().ino;
        let node = self.new_node(Kind::File, dir, mode);
        let id = self.tree.add(dir, name, node);
        self.count(id, ino);
        self.handles.push(Handle { fh: created.opened.fh, ino, id, write: true });
        self.stamp(id, ino, before).await;
    }

    async fn open(&mut self, at: Place, write: bool, truncate: bool) {
        let Some((id, ino)) = self.there(at).await else { return };
        match self.tree.nodes[id].kind {
            Kind::Symlink => return,
            Kind::Dir => {
                let flags = OpenFlags { read: true, ..OpenFlags::default() };
                let opened = self.mount.fs.open(CALLER, ino, flags).await;
                assert_eq!(number(&opened.map(|_| ())), EISDIR);
                return;
            }
            Kind::File => {}
        }
        let before = SystemTime::now();
        let flags = OpenFlags { read: true, write, truncate, ..OpenFlags::default() };
        let opened = self.mount.fs.open(CALLER, ino, flags).await.expect("open");
        self.handles.push(Handle { fh: opened.fh, ino, id, write });
        if truncate {
            self.tree.truncate(id, 0);
            self.drop_set_id(id);
            self.stamp(id, ino, before).await;
        }
    }

    pub async fn write(&mut self, handle: Handle, offset: usize, bytes: &[u8]) {
        let before = SystemTime::now();
        let data = Bytes::copy_from_slice(bytes);
        let written =
            self.mount.fs.write(handle.ino, handle.fh, offset as u64, data, WriteFlags::default()).await;
        assert_eq!(written.expect("write") as usize, bytes.len());
        self.tree.write(handle.id, offset, bytes);
        self.stamp(handle.id, handle.ino, before).await;
    }

    async fn read(&self, handle: Handle, offset: usize, len: usize) {
        let found = self.mount.fs.read(handle.ino, handle.fh, offset as u64, len as u32).await.expect("read");
        let data = &self.tree.nodes[handle.id].data;
        let expected = &data[offset.min(data.len())..(offset + len).min(data.len())];
        same_bytes(&found, expected, "a read");
    }

    async fn seek(&self, handle: Handle, offset: usize, data: bool) {
        let whence = if data { SeekWhence::Data } else { SeekWhence::Hole };
        let found = self.mount.fs.lseek(handle.ino, handle.fh, offset as u64, whence).await;
        let bytes = &self.tree.nodes[handle.id].data;
        match found {
            Ok(at) => {
                let at = at as usize;
                assert!(at >= offset && at <= bytes.len() && offset < bytes.len());
                if data {
                    assert!(bytes[offset..at].iter().all(|b| *b == 0), "data was taken for a hole");
                } else {
                    assert!(at == bytes.len() || bytes[at] == 0, "data was taken for a hole");
                }
            }
            Err(error) => {
                assert_eq!(number::<()>(&Err(error)), ENXIO);
                let rest = bytes.get(offset..).unwrap_or_default();
                assert!(rest.is_empty() || data && rest.iter().all(|b| *b == 0));
            }
        }
    }

    async fn truncate(&mut self, at: Place, size: u32) {
        let Some((id, ino)) = self.there(at).await else { return };
        if self.tree.nodes[id].kind == Kind::File {
            self.resize(id, ino, SetAttr::default(), size).await;
        }
    }

    async fn resize(&mut self, id: Id, ino: Ino, changes: SetAttr, size: u32) {
        let before = SystemTime::now();
        let changes = SetAttr { size: Some(u64::from(size)), ..changes };
        self.mount.fs.setattr(CALLER, ino, changes).await.expect("truncate");
        self.tree.truncate(id, size as usize);
        self.drop_set_id(id);
        self.stamp(id, ino, before).await;
    }

    async fn allocate(&mut self, handle: Handle, offset: u32, len: u32, mode: Allocate) {
        let (from, to) = (offset as usize, (offset + len) as usize);
        let result = self.mount.fs.fallocate(handle.ino, handle.fh, offset.into(), len.into(), mode).await;
        result.expect("fallocate");
        if matches!(mode, Allocate::PunchHole | Allocate::ZeroRange { .. }) {
            self.tree.zero(handle.id, from, to);
        }
        let extends = matches!(mode, Allocate::Extend | Allocate::ZeroRange { keep_size: false });
        if extends && to > self.tree.nodes[handle.id].data.len() {
            self.tree.truncate(handle.id, to);
        }
        // Filesystems differ in when this changes the time.
        let attr = self.mount.fs.getattr(handle.ino, None).await.expect("getattr").attr;
        self.tree.nodes[handle.id].mtime = Some(attr.mtime);
        self.compare_attr(handle.id, &attr);
    }

    async fn copy(&mut self, from: Handle, to: Handle, offset: usize, len: usize) {
        let before = SystemTime::now();
        let at = offset as u64;
        let copied =
            self.mount.fs.copy_file_range(from.ino, from.fh, at, to.ino, to.fh, at, len as u64).await;
        let data = &self.tree.nodes[from.id].data;
        match copied {
            Ok(copied) => {
                let end = offset + copied as usize;
                assert!(end == offset || end <= data.len() && end <= offset + len);
                let piece = data.get(offset..end).unwrap_or_default().to_vec();
                if copied > 0 {
                    self.tree.write(to.id, offset, &piece);
                    self.stamp(to.id, to.ino, before).await;
                }
            }
            Err(error) => {
                assert_eq!(number::<()>(&Err(error)), ENOTSUP);
                let piece = data[offset.min(data.len())..(offset + len).min(data.len())].to_vec();
                self.read(from, offset, len).await;
                if !piece.is_empty() && from.id != to.id {
                    self.write(to, offset, &piece).await;
                }
            }
        }
    }

    pub async fn release(&mut self, at: usize, flush: bool) {
        let handle = self.handles.swap_remove(at);
        if flush {
            self.mount.fs.flush(handle.ino, handle.fh).await.expect("flush");
        }
        self.mount.fs.release(handle.ino, handle.fh).await.expect("release");
    }

    async fn unlink(&mut self, at: Place) {
        let (dir, name) = self.place(at);
        let dir_ino = self.ino(dir).await;
        self.look(dir, dir_ino, name).await;
        let done = self.mount.fs.unlink(dir_ino, name.as_ref()).await;
        // Somebody has it open, and it does not fit into the cache.
        if number(&done) == ENOSPC {
            return;
        }
        let expected = self.tree.unlink(dir, name);
        assert_eq!(number(&done), expected.err().unwrap_or(0), "unlink {done:?}");
        self.look(dir, dir_ino, name).await;
    }

    async fn mkdir(&mut self, at: Place, mode: u32) {
        let (dir, name) = self.place(at);
        if self.tree.depth(dir) >= DEPTH_MAX {
            return;
        }
        let dir_ino = self.ino(dir).await;
        let there = self.look(dir, dir_ino, name).await.is_some();
        let made = self.mount.fs.mkdir(CALLER, dir_ino, name.as_ref(), mode, 0).await;
        assert_eq!(number(&made.as_ref().map(|_| ()).map_err(Clone::clone)), if there { EEXIST } else { 0 });
        if let Ok(entry) = made {
            let node = self.new_node(Kind::Dir, dir, mode);
            let id = self.tree.add(dir, name, node);
            self.count(id, entry.attr.unwrap().ino);
        }
    }

    async fn rmdir(&mut self, at: Place) {
        let (dir, name) = self.place(at);
        let dir_ino = self.ino(dir).await;
        self.look(dir, dir_ino, name).await;
        let done = self.mount.fs.rmdir(dir_ino, name.as_ref()).await;
        let expected = self.tree.rmdir(dir, name);
        assert_eq!(number(&done), expected.err().unwrap_or(0), "rmdir {done:?}");
        self.look(dir, dir_ino, name).await;
    }

    async fn rename(&mut self, from: Place, to: Place, no_replace: bool) {
        let ((dir, name), (new_dir, new_name)) = (self.place(from), self.place(to));
        let moved = self.tree.child(dir, name);
        if moved.is_some_and(|id| self.tree.nodes[id].kind == Kind::Dir)
            && self.tree.depth(new_dir) >= DEPTH_MAX
        {
            return;
        }
        let (dir_ino, new_dir_ino) = (self.ino(dir).await, self.ino(new_dir).await);
        self.look(dir, dir_ino, name).await;
        self.look(new_dir, new_dir_ino, new_name).await;
        let before = self.tree.clone();
        let Rename::Asked(expected) = self.tree.rename((dir, name), (new_dir, new_name), no_replace) else {
            return;
        };
        let flags = RenameFlags { no_replace, ..RenameFlags::default() };
        let done = self.mount.fs.rename(dir_ino, name.as_ref(), new_dir_ino, new_name.as_ref(), flags).await;
        if number(&done) == ENOSPC {
            self.tree = before;
            return;
        }
        assert_eq!(number(&done), expected.err().unwrap_or(0), "rename {done:?}");
        if let Some(dir) = moved.filter(|id| self.tree.nodes[*id].kind == Kind::Dir) {
            self.tree.copied_below(dir);
        }
        self.look(dir, dir_ino, name).await;
        self.look(new_dir, new_dir_ino, new_name).await;
    }

    async fn symlink(&mut self, at: Place, seed: u32) {
        let (dir, name) = self.place(at);
        let dir_ino = self.ino(dir).await;
        if self.look(dir, dir_ino, name).await.is_some() {
            return;
        }
        let before = SystemTime::now();
        let target = format!("../somewhere/{seed}");
        let entry = self.mount.fs.symlink(CALLER, dir_ino, name.as_ref(), Path::new(&target)).await;
        let ino = entry.expect("symlink").attr.unwrap().ino;
        let mut node = self.new_node(Kind::Symlink, dir, 0o777);
        node.data = target.into_bytes();
        let id = self.tree.add(dir, name, node);
        self.count(id, ino);
        self.stamp(id, ino, before).await;
    }

    async fn chmod(&mut self, id: Id, ino: Ino, fh: Option<Fh>, mode: u32) {
        let changes = SetAttr { mode: Some(mode), fh, ..SetAttr::default() };
        self.mount.fs.setattr(CALLER, ino, changes).await.expect("chmod");
        self.tree.nodes[id].mode = mode;
        self.tree.nodes[id].own_object = true;
        self.verify(id, ino).await;
    }

    async fn utimes(&mut self, at: Place, seconds: i64, nanos: u32) {
        let Some((id, ino)) = self.there(at).await else { return };
        let whole = Duration::from_secs(seconds.unsigned_abs());
        let time = if seconds < 0 { SystemTime::UNIX_EPOCH - whole } else { SystemTime::UNIX_EPOCH + whole };
        let time = time + Duration::from_nanos(nanos.into());
        let changes = SetAttr { mtime: Some(SetTime::At(time)), ..SetAttr::default() };
        self.mount.fs.setattr(CALLER, ino, changes).await.expect("utimes");
        self.tree.nodes[id].own_object = true;
        // The time of a directory is its own only until a name in it changes.
        if self.tree.nodes[id].kind != Kind::Dir {
            self.tree.nodes[id].mtime = Some(time);
        }
        self.verify(id, ino).await;
    }

    async fn set_xattr(&mut self, at: Place, name: &str, len: u8, create: bool, replace: bool) {
        let Some((id, ino)) = self.there(at).await else { return };
        if self.tree.nodes[id].kind == Kind::Symlink {
            return;
        }
        let value = pattern(len.into(), len.into());
        let flags = SetXattrFlags { create, replace };
        let done = self.mount.fs.setxattr(ino, name.as_ref(), Bytes::from(value.clone()), flags).await;
        let expected = self.tree.set_xattr(id, name, &value, create, replace);
        assert_eq!(number(&done), expected.err().unwrap_or(0), "setxattr {done:?}");
        self.tree.nodes[id].own_object |= done.is_ok();
        self.compare_xattrs(id, ino).await;
    }

    async fn remove_xattr(&mut self, at: Place, name: &str) {
        let Some((id, ino)) = self.there(at).await else { return };
        let done = self.mount.fs.removexattr(ino, name.as_ref()).await;
        let there = self.tree.nodes[id].xattrs.remove(name).is_some();
        assert_eq!(number(&done), if there { 0 } else { ENODATA });
        self.compare_xattrs(id, ino).await;
    }

    async fn compare_xattrs(&self, id: Id, ino: Ino) {
        let names = self.mount.fs.listxattr(ino).await.expect("listxattr");
        let mut found = BTreeMap::new();
        for name in names.split(|b| *b == 0).filter(|n| !n.is_empty()) {
            let name = std::str::from_utf8(name).unwrap();
            let value = self.mount.fs.getxattr(ino, name.as_ref()).await.expect("getxattr");
            found.insert(name.to_owned(), value.to_vec());
        }
        assert_eq!(found, self.tree.nodes[id].xattrs, "extended attributes of {id}");
    }

    /// A whole pass over a directory.
    async fn list(&mut self, dir: Id, plus: bool) {
        let ino = self.ino(dir).await;
        let fh = self.mount.fs.opendir(ino).await.expect("opendir").fh;
        let mut found = BTreeMap::new();
        let mut offset = 0;
        loop {
            let mut entries = Vec::new();
            let mut attrs = Vec::new();
            if plus {
                for entry in self.mount.fs.readdirplus(ino, fh, offset).await.expect("readdirplus") {
                    attrs.push(entry.attr);
                    entries.push(entry.entry);
                }
            } else {
                entries = self.mount.fs.readdir(ino, fh, offset).await.expect("readdir");
            }
            let Some(last) = entries.last() else { break };
            offset = last.offset;
            for (at, entry) in entries.iter().enumerate() {
                let name = entry.name.to_str().unwrap().to_owned();
                if name == "." || name == ".." {
                    continue;
                }
                let Some(id) = self.tree.child(dir, &name) else {
                    panic!("{name:?} is listed and not there")
                };
                assert_eq!(kind_of(entry.kind), self.tree.nodes[id].kind, "kind of {name:?}");
                if let Some(attr) = attrs.get(at) {
                    self.mount.fs.count_lookups(&[attr.ino]);
                    self.count(id, attr.ino);
                    self.compare_attr(id, attr);
                }
                assert_eq!(found.insert(name, id), None, "a name is listed twice");
            }
        }
        assert_eq!(found, self.tree.nodes[dir].children, "names of a directory");
        self.mount.fs.releasedir(ino, fh).await.expect("releasedir");
    }

    /// The kernel drops everything but what is open and what is above that.
    pub fn forget(&mut self) {
        let mut kept = HashSet::from([ROOT]);
        for handle in &self.handles {
            let mut at = handle.id;
            while kept.insert(at) {
                at = self.tree.nodes[at].parent;
            }
        }
        let mut gone: Vec<_> = self.inos.keys().copied().filter(|id| !kept.contains(id)).collect();
        // Children before their parents.
        gone.sort_by_key(|id| std::cmp::Reverse(self.tree.depth(*id)));
        for id in gone {
            if let Some(ino) = self.inos.remove(&id)
                && let Some(count) = self.lookups.remove(&ino)
            {
                self.mount.fs.forget(ino, count);
            }
        }
    }

    /// Compares everything there is.
    pub async fn check(&mut self) {
        for (_, id) in self.tree.walk() {
            let ino = self.ino(id).await;
            if id != ROOT {
                self.verify(id, ino).await;
                self.compare_xattrs(id, ino).await;
            }
            match self.tree.nodes[id].kind {
                Kind::Dir => {
                    self.list(id, false).await;
                    self.list(id, true).await;
                }
                Kind::File => {
                    let flags = OpenFlags { read: true, ..OpenFlags::default() };
                    let fh = self.mount.fs.open(CALLER, ino, flags).await.expect("open").fh;
                    let handle = Handle { fh, ino, id, write: false };
                    self.read(handle, 0, self.tree.nodes[id].data.len() + 1).await;
                    self.mount.fs.release(ino, fh).await.expect("release");
                }
                Kind::Symlink => {
                    let target = self.mount.fs.readlink(ino).await.expect("readlink");
                    assert_eq!(target, self.tree.nodes[id].data);
                }
            }
        }
        for handle in self.handles.clone() {
            self.read(handle, 0, self.tree.nodes[handle.id].data.len() + 1).await;
        }
    }
}

/// Compares without printing half a megabyte.
pub fn same_bytes(found: &[u8], expected: &[u8], what: &str) {
    if found != expected {
        let at = found.iter().zip(expected).position(|(a, b)| a != b);
        panic!("{what}: {} bytes instead of {}, different from {at:?} on", found.len(), expected.len());
    }
}
