//! The inode table: numbers, names and keys. Plain data under one lock; nothing here waits.
//!
//! Invariants: every linked node but the root is `Child::Node` of its parent under `shown`; the parent of a
//! node is in the table as long as the node is; a node that the kernel, a handle or a pending change
//! refers to is never dropped.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::node::{Child, Defaults, Dir, Listed, ListedChild, Marker, Node, describe_listed};
use crate::fs::types::{FileKind, Ino};
use crate::store::types::{ObjectPath, Version};

/// From this many names on a directory forgets names that were missing long ago.
const GONE_SWEEP: usize = 4_096;
/// Longer than any time to live that makes sense for a missing name, and than any listing takes.
const GONE_KEPT: Duration = Duration::from_secs(600);

/// What the root of the mount stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MountTarget {
    /// One bucket, or the keys below a prefix of it.
    Bucket {
        /// Bucket.
        bucket: String,
        /// Empty or ending in `/`.
        prefix: String,
    },
    /// Every bucket is a directory of the root.
    AllBuckets,
}

/// A bucket and a key prefix that is empty or ends in `/`: where a directory's objects are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirPath {
    /// Bucket.
    pub bucket: Arc<str>,
    /// Prefix.
    pub prefix: String,
}

impl DirPath {
    /// The object `component` in this directory.
    pub fn object(&self, component: &str) -> ObjectPath {
        ObjectPath::new(self.bucket.clone(), format!("{}{component}", self.prefix))
    }

    /// The directory's own object; `None` for the top of a bucket, which has none.
    pub fn marker(&self) -> Option<ObjectPath> {
        (!self.prefix.is_empty()).then(|| ObjectPath::new(self.bucket.clone(), self.prefix.as_str()))
    }
}

/// All inodes.
#[derive(Debug)]
pub struct Table {
    target: MountTarget,
    /// The bucket's name once, shared by every path.
    bucket: Arc<str>,
    nodes: HashMap<Ino, Node>,
    next: u64,
    /// Directories that are being moved in S3 right now.
    moving: Vec<Ino>,
    /// Time that directories without an object of their own show.
    pub started: SystemTime,
}

impl Table {
    /// A table that holds the root only.
    pub fn new(target: MountTarget, defaults: &Defaults) -> Self {
        let started = SystemTime::now();
        let (kind, stat) = describe_listed(&Listed::Prefix, defaults, started);
        let mut root = Node::new(Ino::ROOT, Ino::ROOT, "", "", kind, stat);
        root.lookups = 1;
        let bucket = match &target {
            MountTarget::Bucket { bucket, .. } => bucket.as_str(),
            MountTarget::AllBuckets => "",
        };
        Self {
            bucket: bucket.into(),
            target,
            nodes: HashMap::from([(Ino::ROOT, root)]),
            next: 2,
            moving: Vec::new(),
            started,
        }
    }

    /// What the root stands for.
    pub fn target(&self) -> &MountTarget {
        &self.target
    }

    /// Inodes in memory.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never true: there is a root.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The node, if it is still known.
    pub fn get(&self, ino: Ino) -> Option<&Node> {
        self.nodes.get(&ino)
    }

    /// The node, to change it.
    pub fn get_mut(&mut self, ino: Ino) -> Option<&mut Node> {
        self.nodes.get_mut(&ino)
    }

    /// Every node.
    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// A number nobody has had.
    pub fn allocate(&mut self) -> Ino {
        let ino = Ino(self.next);
        self.next += 1;
        ino
    }

    /// Where the objects of directory `ino` are; `None` for the root of all buckets and unknown numbers.
    pub fn dir_path(&self, ino: Ino) -> Option<DirPath> {
        let mut components = Vec::new();
        let mut at = ino;
        while at != Ino::ROOT {
            let node = self.nodes.get(&at)?;
            components.push(&*node.component);
            at = node.parent;
        }
        let (bucket, mut prefix) = match &self.target {
            MountTarget::Bucket { prefix, .. } => (self.bucket.clone(), prefix.clone()),
            MountTarget::AllBuckets => (Arc::from(components.pop()?), String::new()),
        };
        for component in components.iter().rev() {
            prefix.push_str(component);
            prefix.push('/');
        }
        Some(DirPath { bucket, prefix })
    }

    /// The object of `ino`: a directory's is its marker, which the top of a bucket has not.
    pub fn object_path(&self, ino: Ino) -> Option<ObjectPath> {
        let node = self.nodes.get(&ino)?;
        if node.kind == FileKind::Directory {
            return self.dir_path(ino)?.marker();
        }
        Some(self.dir_path(node.parent)?.object(&node.component))
    }

    /// The path below the mount, for people.
    pub fn display_path(&self, ino: Ino) -> String {
        let mut names = Vec::new();
        let mut at = ino;
        while at != Ino::ROOT {
            let Some(node) = self.nodes.get(&at) else { break };
            names.push(&*node.shown);
            at = node.parent;
        }
        names.reverse();
        names.join("/")
    }

    /// Whether `ino` is a bucket of a mount of all buckets, or that mount's root.
    pub fn is_bucket_level(&self, ino: Ino) -> bool {
        self.target == MountTarget::AllBuckets
            && (ino == Ino::ROOT || self.nodes.get(&ino).is_some_and(|n| n.parent == Ino::ROOT))
    }

    /// Begins and ends a move of a directory: what S3 lists of it meanwhile is neither here nor there.
    pub fn set_moving(&mut self, ino: Ino, moving: bool) {
        if moving {
            self.moving.push(ino);
        } else if let Some(at) = self.moving.iter().position(|i| *i == ino) {
            self.moving.swap_remove(at);
        }
    }

    /// Whether `ino` or a directory above it is being moved.
    pub fn is_moving(&self, ino: Ino) -> bool {
        self.moving.iter().any(|top| self.is_within(ino, *top))
    }

    /// Whether `ancestor` is `ino` or above it.
    pub fn is_within(&self, ino: Ino, ancestor: Ino) -> bool {
        let mut at = ino;
        loop {
            if at == ancestor {
                return true;
            }
            match self.nodes.get(&at) {
                Some(node) if at != Ino::ROOT => at = node.parent,
                _ => return false,
            }
        }
    }

    /// What `name` in `parent` is known to mean.
    pub fn child(&self, parent: Ino, name: &str) -> Option<&Child> {
        self.nodes.get(&parent)?.dir.as_ref()?.children.get(name)
    }

    /// The inode of `name`, if it has one.
    pub fn child_ino(&self, parent: Ino, name: &str) -> Option<Ino> {
        match self.child(parent, name)? {
            Child::Node(ino) => Some(*ino),
            Child::Listed(_) | Child::Gone(_) => None,
        }
    }

    /// Puts a node under its parent, replacing what the name meant: a node that had it lost it to another
    /// client.
    pub fn insert(&mut self, node: Node) {
        let (parent, shown, ino) = (node.parent, node.shown.clone(), node.ino);
        self.nodes.insert(ino, node);
        let Some(dir) = self.nodes.get_mut(&parent).and_then(|n| n.dir.as_mut()) else { return };
        if let Some(Child::Node(old)) = dir.children.insert(shown, Child::Node(ino))
            && old != ino
            && let Some(old) = self.nodes.get_mut(&old)
        {
            old.lose();
        }
    }

    /// Gives an inode to what a listing told of.
    pub fn materialise(&mut self, parent: Ino, name: &str, defaults: &Defaults) -> Option<Ino> {
        let started = self.started;
        let proved = self.nodes.get(&parent)?.dir.as_ref()?.complete.unwrap_or_else(Instant::now);
        let ListedChild { ino, component, what } = match self.child(parent, name)? {
            Child::Node(ino) => return Some(*ino),
            Child::Listed(listed) => listed.clone(),
            Child::Gone(_) => return None,
        };
        let (kind, stat) = describe_listed(&what, defaults, started);
        let component = component.as_deref().unwrap_or(name);
        let mut node = Node::new(ino, parent, component, name, kind, stat);
        node.proved = proved;
        if let Listed::Object(version) = what {
            node.version = Some(version);
        }
        self.insert(node);
        Some(ino)
    }

    /// The name leads nowhere from now on. The node lives until nobody refers to it.
    pub fn unlink(&mut self, parent: Ino, name: &str, now: Instant) {
        let Some(dir) = self.nodes.get_mut(&parent).and_then(|n| n.dir.as_mut()) else { return };
        if dir.children.len() >= GONE_SWEEP && dir.children.len().is_power_of_two() {
            dir.children.retain(|_, child| !matches!(child, Child::Gone(at) if at.elapsed() > GONE_KEPT));
        }
        let old = dir.children.insert(name.into(), Child::Gone(now));
        if let Some(Child::Node(ino)) = old {
            if let Some(node) = self.nodes.get_mut(&ino) {
                node.linked = false;
            }
            self.reclaim(ino);
        }
    }

    /// Another client removed what the name meant.
    pub fn lose(&mut self, parent: Ino, name: &str) {
        if let Some(node) = self.child_ino(parent, name).and_then(|ino| self.nodes.get_mut(&ino)) {
            node.lose();
        }
        self.unlink(parent, name, Instant::now());
    }

    /// The name has to be asked for again; the node, which lost it, goes on without.
    pub fn forget_name(&mut self, parent: Ino, name: &str) {
        let Some(dir) = self.nodes.get_mut(&parent).and_then(|n| n.dir.as_mut()) else { return };
        dir.complete = None;
        if let Some(Child::Node(ino)) = dir.children.remove(name) {
            if let Some(node) = self.nodes.get_mut(&ino) {
                node.lose();
            }
            self.reclaim(ino);
        }
    }

    /// The name has to be asked for again: it may have another version now, or be gone. What changed here
    /// and is not in S3 stays.
    pub fn doubt_name(&mut self, parent: Ino, name: &str) {
        let Some(dir) = self.nodes.get_mut(&parent).and_then(|n| n.dir.as_mut()) else { return };
        dir.complete = None;
        match dir.children.get(name) {
            Some(Child::Node(ino)) => {
                let ino = *ino;
                if let Some(node) = self.nodes.get_mut(&ino) {
                    node.doubted = true;
                }
            }
            _ => {
                dir.children.remove(name);
            }
        }
    }

    /// Moves a node to another name; what had that name is unlinked.
    pub fn rename(&mut self, ino: Ino, parent: Ino, component: &str, shown: &str, now: Instant) {
        let Some(node) = self.nodes.get_mut(&ino) else { return };
        let (old_parent, old_name) = (node.parent, std::mem::replace(&mut node.shown, shown.into()));
        node.parent = parent;
        node.linked = true;
        node.component = component.into();
        node.changed = Some(now);
        if let Some(dir) = self.nodes.get_mut(&old_parent).and_then(|n| n.dir.as_mut()) {
            dir.children.insert(old_name, Child::Gone(now));
        }
        let Some(dir) = self.nodes.get_mut(&parent).and_then(|n| n.dir.as_mut()) else { return };
        if let Some(Child::Node(old)) = dir.children.insert(shown.into(), Child::Node(ino))
            && old != ino
        {
            if let Some(old) = self.nodes.get_mut(&old) {
                old.linked = false;
            }
            self.reclaim(old);
        }
    }

    /// The kernel gave `count` references back.
    pub fn forget(&mut self, ino: Ino, count: u64) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.lookups = node.lookups.saturating_sub(count);
            self.reclaim(ino);
        }
    }

    /// Drops a node that nobody refers to, and then its parent when it stayed for the node's sake. A linked
    /// one leaves behind what a listing would tell.
    pub fn reclaim(&mut self, ino: Ino) {
        let mut next = Some(ino);
        // A directory that was kept for the last inode in it goes with that.
        while let Some(ino) = next {
            next = self.reclaim_one(ino);
        }
    }

    /// The parent of the node that was dropped.
    fn reclaim_one(&mut self, ino: Ino) -> Option<Ino> {
        let node = self.nodes.get(&ino)?;
        let has_inodes = |dir: &Dir| dir.children.values().any(|c| matches!(c, Child::Node(_)));
        if ino == Ino::ROOT
            || node.lookups > 0
            || node.opens > 0
            || node.dirty()
            || node.dir.as_ref().is_some_and(|d| has_inodes(d))
        {
            return None;
        }
        let node = self.nodes.remove(&ino)?;
        let parent = Some(node.parent);
        if !node.linked {
            return parent;
        }
        let proved = node.proved;
        let left = match (&node.version, node.kind) {
            (_, FileKind::Directory) => Some(Listed::Prefix),
            (version, _) => version.clone().map(Listed::Object),
        };
        if let Some(dir) = self.nodes.get_mut(&node.parent).and_then(|n| n.dir.as_mut()) {
            // Without a whole listing behind it the entry would be believed for ever.
            match left {
                Some(what) if node.written.is_none() && dir.complete.is_some_and(|at| at <= proved) => {
                    let component = (node.component != node.shown).then_some(node.component);
                    dir.children.insert(node.shown, Child::Listed(ListedChild { ino, component, what }));
                }
                _ => {
                    dir.children.remove(&node.shown);
                    dir.complete = None;
                }
            }
        }
        parent
    }

    /// Nodes within `top`, itself included.
    pub fn subtree(&self, top: Ino) -> Vec<Ino> {
        let mut found = vec![top];
        let mut at = 0;
        while let Some(ino) = found.get(at).copied() {
            at += 1;
            if let Some(dir) = self.nodes.get(&ino).and_then(|n| n.dir.as_ref()) {
                found.extend(dir.children.values().filter_map(|c| match c {
                    Child::Node(ino) => Some(*ino),
                    Child::Listed(_) | Child::Gone(_) => None,
                }));
            }
        }
        found
    }

    /// Everything that only listings told about below `top` has to be asked for again.
    pub fn expire_below(&mut self, top: Ino) {
        for ino in self.subtree(top) {
            if let Some(dir) = self.nodes.get_mut(&ino).and_then(|n| n.dir.as_mut())
                && dir.children.values().any(|c| matches!(c, Child::Listed(_)))
            {
                dir.children.retain(|_, child| matches!(child, Child::Node(_)));
                dir.complete = None;
            }
        }
    }

    /// Directory times after a name in it changed here. They stay in memory: one request per created file
    /// to store them would be the wrong trade.
    pub fn touch_dir(&mut self, ino: Ino) {
        let now = SystemTime::now();
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.stat.mtime = now;
            node.stat.ctime = now;
            node.changed = Some(Instant::now());
        }
    }

    /// Whether a directory may still be believed to have the names it is known to have, and no others.
    pub fn complete(&self, ino: Ino, ttl: Duration) -> bool {
        self.nodes
            .get(&ino)
            .and_then(|n| n.dir.as_ref())
            .and_then(|d| d.complete)
            .is_some_and(|at| at.elapsed() <= ttl)
    }

    /// Sets what is known of a directory's own object.
    pub fn set_marker(&mut self, ino: Ino, marker: Marker) {
        if let Some(dir) = self.nodes.get_mut(&ino).and_then(|n| n.dir.as_mut()) {
            dir.marker = marker;
        }
    }

    /// Notes a version that was written here.
    pub fn written(&mut self, ino: Ino, version: Version, exact_time: bool) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.written = (!exact_time).then(SystemTime::now);
            node.version = Some(version);
            node.replaces = None;
            let now = Instant::now();
            node.prove(now);
            node.changed = Some(now);
        }
    }
}
