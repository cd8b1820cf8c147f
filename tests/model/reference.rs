//! What a filesystem does, written as simply as can be: a tree in memory.

use std::collections::BTreeMap;
use std::time::SystemTime;

use libc::{EEXIST, EINVAL, EISDIR, ENODATA, ENOENT, ENOTDIR, ENOTEMPTY};

/// Index of a node.
pub type Id = usize;
pub const ROOT: Id = 0;

/// An errno.
pub type Errno = i32;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    File,
    Dir,
    Symlink,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// `None` where nobody promises one: directories.
    pub mtime: Option<SystemTime>,
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// A file's bytes, a symbolic link's target.
    pub data: Vec<u8>,
    pub children: BTreeMap<String, Id>,
    /// Where it is, or was when it was removed.
    pub parent: Id,
    pub linked: bool,
    /// Whether it surely has an object of its own.
    pub own_object: bool,
    /// Whether another tool made it: then its time may be that of the object, which a copy has not.
    pub foreign: bool,
}

impl Node {
    pub fn new(kind: Kind, parent: Id, mode: u32, owner: (u32, u32)) -> Self {
        Self {
            kind,
            mode,
            uid: owner.0,
            gid: owner.1,
            mtime: None,
            xattrs: BTreeMap::new(),
            data: Vec::new(),
            children: BTreeMap::new(),
            parent,
            linked: true,
            own_object: true,
            foreign: false,
        }
    }
}

/// What a rename has to do.
pub enum Rename {
    /// The kernel answers by itself.
    Kernel,
    /// The filesystem is asked and answers so.
    Asked(Result<(), Errno>),
}

#[derive(Clone)]
pub struct Tree {
    pub nodes: Vec<Node>,
}

impl Tree {
    pub fn new(root: Node) -> Self {
        Self { nodes: vec![root] }
    }

    pub fn child(&self, dir: Id, name: &str) -> Option<Id> {
        self.nodes[dir].children.get(name).copied()
    }

    pub fn add(&mut self, dir: Id, name: &str, node: Node) -> Id {
        let id = self.nodes.len();
        self.nodes.push(node);
        self.nodes[dir].children.insert(name.to_owned(), id);
        id
    }

    /// Every linked node with its path, parents first.
    pub fn walk(&self) -> Vec<(String, Id)> {
        let mut found = vec![(String::new(), ROOT)];
        let mut at = 0;
        while at < found.len() {
            let (path, id) = found[at].clone();
            for (name, child) in &self.nodes[id].children {
                let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                found.push((path, *child));
            }
            at += 1;
        }
        found
    }

    pub fn dirs(&self) -> Vec<Id> {
        let walk = self.walk().into_iter().map(|(_, id)| id);
        walk.filter(|id| self.nodes[*id].kind == Kind::Dir).collect()
    }

    pub fn is_within(&self, mut id: Id, above: Id) -> bool {
        while id != above && id != ROOT {
            id = self.nodes[id].parent;
        }
        id == above
    }

    pub fn depth(&self, mut id: Id) -> usize {
        let mut depth = 0;
        while id != ROOT {
            id = self.nodes[id].parent;
            depth += 1;
        }
        depth
    }

    /// The objects below a directory were copied.
    pub fn copied_below(&mut self, dir: Id) {
        for id in 0..self.nodes.len() {
            if self.nodes[id].foreign && self.nodes[id].linked && self.is_within(id, dir) {
                self.nodes[id].mtime = None;
            }
        }
    }

    pub fn unlink(&mut self, dir: Id, name: &str) -> Result<(), Errno> {
        let id = self.child(dir, name).ok_or(ENOENT)?;
        if self.nodes[id].kind == Kind::Dir {
            return Err(EISDIR);
        }
        self.detach(dir, name);
        Ok(())
    }

    pub fn rmdir(&mut self, dir: Id, name: &str) -> Result<(), Errno> {
        let id = self.child(dir, name).ok_or(ENOENT)?;
        match &self.nodes[id] {
            node if node.kind != Kind::Dir => Err(ENOTDIR),
            node if !node.children.is_empty() => Err(ENOTEMPTY),
            _ => {
                self.detach(dir, name);
                Ok(())
            }
        }
    }

    fn detach(&mut self, dir: Id, name: &str) {
        if let Some(id) = self.nodes[dir].children.remove(name) {
            self.nodes[id].linked = false;
        }
    }

    pub fn rename(&mut self, from: (Id, &str), to: (Id, &str), no_replace: bool) -> Rename {
        let Some(id) = self.child(from.0, from.1) else { return Rename::Asked(Err(ENOENT)) };
        let target = self.child(to.0, to.1);
        if self.is_within(from.0, target.unwrap_or(usize::MAX)) {
            return Rename::Kernel;
        }
        if no_replace && target.is_some() {
            return if target == Some(id) { Rename::Kernel } else { Rename::Asked(Err(EEXIST)) };
        }
        if target == Some(id) {
            return Rename::Asked(Ok(()));
        }
        let is_dir = self.nodes[id].kind == Kind::Dir;
        if is_dir && self.is_within(to.0, id) {
            return Rename::Asked(Err(EINVAL));
        }
        if let Some(target) = target {
            match (is_dir, self.nodes[target].kind == Kind::Dir) {
                (true, false) => return Rename::Asked(Err(ENOTDIR)),
                (false, true) => return Rename::Asked(Err(EISDIR)),
                (true, true) if !self.nodes[target].children.is_empty() => {
                    return Rename::Asked(Err(ENOTEMPTY));
                }
                _ => {}
            }
            let own = self.nodes[target].own_object;
            self.nodes[id].own_object |= is_dir && own;
            self.detach(to.0, to.1);
        }
        self.nodes[from.0].children.remove(from.1);
        self.nodes[to.0].children.insert(to.1.to_owned(), id);
        self.nodes[id].parent = to.0;
        Rename::Asked(Ok(()))
    }

    pub fn set_xattr(
        &mut self,
        id: Id,
        name: &str,
        value: &[u8],
        create: bool,
        replace: bool,
    ) -> Result<(), Errno> {
        let xattrs = &mut self.nodes[id].xattrs;
        match xattrs.contains_key(name) {
            true if create => Err(EEXIST),
            false if replace => Err(ENODATA),
            _ => {
                xattrs.insert(name.to_owned(), value.to_vec());
                Ok(())
            }
        }
    }

    pub fn write(&mut self, id: Id, offset: usize, bytes: &[u8]) {
        let data = &mut self.nodes[id].data;
        let end = offset + bytes.len();
        if data.len() < end {
            data.resize(end, 0);
        }
        data[offset..end].copy_from_slice(bytes);
    }

    pub fn truncate(&mut self, id: Id, size: usize) {
        self.nodes[id].data.resize(size, 0);
    }

    pub fn zero(&mut self, id: Id, from: usize, to: usize) {
        let data = &mut self.nodes[id].data;
        let end = to.min(data.len());
        if from < end {
            data[from..end].fill(0);
        }
    }
}
