//! From a name to an inode, asking S3 when nothing fresh is known.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join;

use super::escape::{self, Parsed};
use super::node::{Child, Defaults, Dir, Known, Listed, ListedChild, Marker, Node, describe_listed};
use super::table::{DirPath, Table};
use super::{AttrsMode, Namespace, check_key};
use crate::fs::error::{Error, Result};
use crate::fs::types::{FileKind, Ino};
use crate::store::error::ErrorKind;
use crate::store::types::{ListRequest, ObjectPath, Version};

/// What is known of a name without asking.
enum Local {
    Is(Ino),
    Missing,
    Unknown,
}

/// What S3 said of a name.
enum Remote {
    File {
        component: String,
        known: Known,
    },
    /// Known from a listing only.
    Listed {
        component: String,
        version: Version,
    },
    Directory {
        component: String,
        marker: Marker,
    },
    Missing,
}

impl Namespace {
    /// The inode of `name` in `parent` with its attributes known, or `None` when there is no such name.
    /// Costs nothing when fresh, else at most two requests at once (one more for a directory's attributes).
    pub async fn child(self: &Arc<Self>, parent: Ino, name: &str) -> Result<Option<Ino>> {
        match self.local(parent, name)? {
            Local::Missing => return Ok(None),
            Local::Is(ino) => match self.ensure_attrs(ino).await {
                Err(Error::NotFound) => return Ok(None),
                Ok(()) if self.table().get(ino).is_none() => {}
                done => return done.map(|()| Some(ino)),
            },
            Local::Unknown => {}
        }
        if self.table().is_bucket_level(parent) && self.table().dir_path(parent).is_none() {
            self.list(parent).await?;
            return Ok(self.materialise(parent, name));
        }
        let started = Instant::now();
        let remote = self.ask(&self.dir_path(parent)?, name).await?;
        let found = self.merge(parent, name, remote, started);
        if let Some(ino) = found {
            self.ensure_attrs(ino).await?;
        }
        Ok(found)
    }

    fn local(&self, parent: Ino, name: &str) -> Result<Local> {
        let ttl = self.config.ttl;
        let mut table = self.table();
        let dir = table.get(parent).ok_or(Error::NotFound)?.dir.as_ref().ok_or(Error::NotDirectory)?;
        let complete = table.complete(parent, ttl);
        Ok(match dir.children.get(name) {
            Some(Child::Node(ino)) if table.get(*ino).is_some_and(|n| n.fresh(ttl)) => Local::Is(*ino),
            Some(Child::Node(_)) => Local::Unknown,
            Some(Child::Listed(_)) if complete => {
                match table.materialise(parent, name, &self.config.defaults) {
                    Some(ino) => Local::Is(ino),
                    None => Local::Unknown,
                }
            }
            Some(Child::Listed(_)) => Local::Unknown,
            Some(Child::Gone(at)) if at.elapsed() <= ttl => Local::Missing,
            Some(Child::Gone(_)) | None if complete => Local::Missing,
            Some(Child::Gone(_)) | None => Local::Unknown,
        })
    }

    /// The inode of a name that a listing told of.
    pub fn materialise(&self, parent: Ino, name: &str) -> Option<Ino> {
        self.table().materialise(parent, name, &self.config.defaults)
    }

    async fn ask(&self, dir: &DirPath, name: &str) -> Result<Remote> {
        match escape::parse(name) {
            Parsed::Plain(component) => self.ask_plain(dir, component).await,
            Parsed::DirBeside(component) => {
                let marker = self.ask_prefix(dir, &component).await?;
                Ok(marker.map_or(Remote::Missing, |marker| Remote::Directory { component, marker }))
            }
            Parsed::Long { visible, .. } | Parsed::LongDirBeside { visible, .. } => {
                self.ask_long(dir, &visible, name).await
            }
        }
    }

    /// HEAD of the object and LIST below it at the same time; the object wins when there are both.
    async fn ask_plain(&self, dir: &DirPath, component: String) -> Result<Remote> {
        let path = dir.object(&component);
        check_key(&path)?;
        if self.config.attrs == AttrsMode::List {
            return self.ask_listings(dir, component, &path).await;
        }
        let (head, below) = join(self.store.head(&path), self.ask_prefix(dir, &component)).await;
        match head {
            // The empty component is the directory's own object: a file only when it has bytes.
            Ok(info) if component.is_empty() && info.version.size == 0 => {}
            Ok(info) => {
                let known = Known::from(info);
                self.remember(path, known.clone());
                return Ok(Remote::File { component, known });
            }
            Err(e) if e.kind == ErrorKind::NotFound => {}
            Err(e) => return Err(e.into()),
        }
        Ok(below?.map_or(Remote::Missing, |marker| Remote::Directory { component, marker }))
    }

    /// The same without a HEAD: the first key that begins with the path is the object itself, if it is there.
    async fn ask_listings(&self, dir: &DirPath, component: String, path: &ObjectPath) -> Result<Remote> {
        let request = ListRequest {
            bucket: dir.bucket.to_string(),
            prefix: path.key.to_string(),
            max_keys: 1,
            ..ListRequest::default()
        };
        let (first, below) = join(self.store.list(request), self.ask_prefix(dir, &component)).await;
        let object = first?.objects.into_iter().next().filter(|o| *o.key == *path.key);
        match object {
            Some(object) if !component.is_empty() || object.version.size > 0 => {
                Ok(Remote::Listed { component, version: object.version })
            }
            _ => Ok(below?.map_or(Remote::Missing, |marker| Remote::Directory { component, marker })),
        }
    }

    /// Whether there is anything below `component/`, and whether that begins with its own object.
    async fn ask_prefix(&self, dir: &DirPath, component: &str) -> Result<Option<Marker>> {
        let prefix = format!("{}{component}/", dir.prefix);
        if prefix.len() > crate::store::types::KEY_MAX_BYTES {
            return Ok(None);
        }
        let request = ListRequest {
            bucket: dir.bucket.to_string(),
            prefix: prefix.clone(),
            max_keys: 1,
            ..ListRequest::default()
        };
        let page = self.store.list(request).await?;
        Ok(page.objects.first().map(|o| if o.key == prefix { Marker::Present } else { Marker::Absent }))
    }

    /// A name that shows only the beginning of its component is found by listing what begins so.
    async fn ask_long(&self, dir: &DirPath, visible: &str, name: &str) -> Result<Remote> {
        let mut continuation = None;
        loop {
            let request = ListRequest {
                bucket: dir.bucket.to_string(),
                prefix: format!("{}{visible}", dir.prefix),
                delimited: true,
                continuation,
                ..ListRequest::default()
            };
            let page = self.store.list(request).await?;
            for object in &page.objects {
                let component = &object.key[dir.prefix.len()..];
                if escape::to_name(component) == name {
                    let path = dir.object(component);
                    let known = Known::from(self.store.head(&path).await?);
                    self.remember(path, known.clone());
                    return Ok(Remote::File { component: component.to_owned(), known });
                }
            }
            for prefix in &page.prefixes {
                let component = prefix[dir.prefix.len()..].trim_end_matches('/');
                if escape::to_name(component) == name || escape::dir_beside_file(component) == name {
                    return Ok(Remote::Directory {
                        component: component.to_owned(),
                        marker: Marker::Unknown,
                    });
                }
            }
            continuation = page.next;
            if continuation.is_none() {
                return Ok(Remote::Missing);
            }
        }
    }

    /// Takes over an answer that was asked for at `started`; what changed here since then wins.
    fn merge(&self, parent: Ino, name: &str, remote: Remote, started: Instant) -> Option<Ino> {
        let mut table = self.table();
        if let Some(Child::Node(ino)) = table.child(parent, name) {
            let ino = *ino;
            let node = table.get(ino)?;
            if node.dirty() || node.version.is_none() && node.file.is_some() {
                return Some(ino);
            }
            if node.changed.is_some_and(|at| at >= started) {
                return Some(ino);
            }
        }
        if let Some(Child::Gone(at)) = table.child(parent, name)
            && *at >= started
        {
            return None;
        }
        // Under the same lock as the look above: a commit must not come in between.
        match remote {
            Remote::Missing => {
                table.lose(parent, name);
                None
            }
            Remote::File { component, known } => {
                let seen = see_object(&mut table, &self.config.defaults, (parent, name, &component), &known);
                drop(table);
                Some(self.seen(seen))
            }
            Remote::Listed { component, version } => {
                let seen = self.see_listed(&mut table, (parent, name, &component), version);
                drop(table);
                Some(self.seen(seen))
            }
            Remote::Directory { component, marker } => {
                Some(self.saw_directory(&mut table, parent, name, &component, marker))
            }
        }
    }

    /// S3 no longer has this name.
    pub fn gone(&self, parent: Ino, name: &str) {
        self.table().lose(parent, name);
    }

    /// S3 has this object under the name: the inode that stands for this version of it.
    pub fn saw_object(&self, parent: Ino, name: &str, component: &str, known: &Known) -> Ino {
        let seen = see_object(&mut self.table(), &self.config.defaults, (parent, name, component), known);
        self.seen(seen)
    }

    /// Tells the kernel of an inode that stands for another version than before.
    fn seen(&self, (ino, changed): (Ino, bool)) -> Ino {
        if changed {
            self.notifier.inode_changed(ino, true);
        }
        ino
    }

    /// S3 has this version under the name, of which a listing told no more. The inode that stands for it, and
    /// whether it stood for another one before.
    fn see_listed(&self, table: &mut Table, at: (Ino, &str, &str), version: Version) -> (Ino, bool) {
        let (parent, name, component) = at;
        if let Some(ino) = table.child_ino(parent, name)
            && let Some(node) = table.get_mut(ino)
            && node.kind != FileKind::Directory
            && node.is_version(&version)
        {
            node.prove(Instant::now());
            return (ino, false);
        }
        let path = table.dir_path(parent).map(|dir| dir.object(component));
        if let Some(known) = path.and_then(|path| self.recall(&path, &version)) {
            return see_object(table, &self.config.defaults, at, &known);
        }
        let (kind, stat) =
            describe_listed(&Listed::Object(version.clone()), &self.config.defaults, table.started);
        if let Some(ino) = table.child_ino(parent, name)
            && let Some(node) = table.get_mut(ino)
            && node.kind != FileKind::Directory
            && node.opens == 0
        {
            node.kind = kind;
            node.stat = stat;
            node.xattrs.clear();
            node.properties = None;
            node.tag_count = 0;
            node.version = Some(version);
            node.written = None;
            node.file = None;
            node.pages_valid = false;
            node.prove(Instant::now());
            return (ino, true);
        }
        let ino = table.allocate();
        let mut node = Node::new(ino, parent, component, name, kind, stat);
        node.version = Some(version);
        table.insert(node);
        (ino, false)
    }

    fn saw_directory(
        &self,
        table: &mut Table,
        parent: Ino,
        name: &str,
        component: &str,
        marker: Marker,
    ) -> Ino {
        if let Some(ino) = table.child_ino(parent, name)
            && let Some(node) = table.get_mut(ino)
            && let Some(dir) = node.dir.as_mut()
        {
            if marker != Marker::Unknown {
                dir.marker = marker;
            }
            node.prove(Instant::now());
            return ino;
        }
        let ino = match table.child(parent, name) {
            Some(Child::Listed(ListedChild { ino, what: Listed::Prefix, .. })) => *ino,
            _ => table.allocate(),
        };
        let (kind, stat) = describe_listed(&Listed::Prefix, &self.config.defaults, table.started);
        let mut node = Node::new(ino, parent, component, name, kind, stat);
        node.dir = Some(Box::new(Dir { marker, ..Dir::unknown() }));
        table.insert(node);
        ino
    }

    /// Makes sure that mode, owner, times and kind are known, unless the mount goes without. One HEAD at
    /// most, none when this version's attributes were seen before.
    pub async fn ensure_attrs(&self, ino: Ino) -> Result<()> {
        if self.config.attrs == AttrsMode::List {
            return Ok(());
        }
        self.ensure_properties(ino).await
    }

    /// Makes sure that headers and user metadata are known, whatever the mode of the mount: before a write
    /// that has to carry them on.
    pub async fn ensure_properties(&self, ino: Ino) -> Result<()> {
        let (path, directory, version) = {
            let mut table = self.table();
            let Some(path) = table.object_path(ino) else { return Ok(()) };
            let node = table.get_mut(ino).ok_or(Error::NotFound)?;
            let absent = node.dir.as_ref().is_some_and(|d| d.marker == Marker::Absent);
            let new_file = node.dir.is_none() && node.version.is_none();
            if node.properties.is_some() || absent || new_file || !node.linked {
                return Ok(());
            }
            (path, node.dir.is_some(), node.version.clone())
        };
        if let Some(known) = version.as_ref().and_then(|v| self.recall(&path, v)) {
            return self.learn(ino, &known);
        }
        match self.store.head(&path).await {
            Ok(info) => {
                let known = Known::from(info);
                self.remember(path, known.clone());
                self.learn(ino, &known)
            }
            Err(e) if e.kind == ErrorKind::NotFound && directory => {
                self.table().set_marker(ino, Marker::Absent);
                Ok(())
            }
            Err(e) if e.kind == ErrorKind::NotFound => {
                let mut table = self.table();
                // Renamed or committed here meanwhile: the question was about another object.
                let moved = table.object_path(ino).as_ref() != Some(&path);
                let node = table.get(ino).ok_or(Error::NotFound)?;
                if moved || node.properties.is_some() {
                    return Ok(());
                }
                let at = (node.parent, node.shown.clone());
                if !node.dirty() {
                    table.lose(at.0, &at.1);
                }
                Err(Error::NotFound)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// A HEAD that was sent because a node's attributes were unknown.
    fn learn(&self, ino: Ino, known: &Known) -> Result<()> {
        let changed = self.with(ino, |node| {
            if let Some(dir) = node.dir.as_mut() {
                dir.marker = Marker::Present;
            }
            let same = node.version.as_ref().is_some_and(|v| v.etag == known.version.etag);
            if node.dirty() && node.properties.is_none() && same {
                // What the next write has to carry on; the attributes that were changed here stay.
                node.properties = Some(known.properties.clone());
                node.tag_count = known.tag_count;
            }
            if node.properties.is_some() || node.dirty() {
                return false;
            }
            let other = node.version.as_ref().is_some_and(|v| *v != known.version);
            if !(other && node.opens > 0) {
                node.learn(known, &self.config.defaults);
            }
            other && node.opens == 0
        });
        // Dropped by whoever forgot it meanwhile: nothing to learn.
        if changed.unwrap_or(false) {
            self.notifier.inode_changed(ino, true);
        }
        Ok(())
    }

    /// The key that a new name in a directory gets.
    pub fn new_component(name: &str) -> Result<String> {
        match escape::parse(name) {
            Parsed::Plain(component) if component.contains('/') || component.is_empty() => {
                Err(Error::Invalid("this name stands for a key that cannot be made through the mount"))
            }
            Parsed::Plain(component) => Ok(component),
            Parsed::DirBeside(_) | Parsed::Long { .. } | Parsed::LongDirBeside { .. } => {
                Err(Error::Invalid("escaped names of this kind only name what is there already"))
            }
        }
    }

    /// The path of the object that `name` in `parent` would be.
    pub fn new_path(&self, parent: Ino, name: &str) -> Result<(String, ObjectPath)> {
        let component = Self::new_component(name)?;
        let path = self.dir_path(parent)?.object(&component);
        check_key(&path)?;
        Ok((component, path))
    }
}

/// The inode that stands for this version of the object, and whether it stood for another one before.
fn see_object(table: &mut Table, defaults: &Defaults, at: (Ino, &str, &str), known: &Known) -> (Ino, bool) {
    let (parent, name, component) = at;
    if let Some(ino) = table.child_ino(parent, name)
        && let Some(node) = table.get_mut(ino)
        && node.kind != FileKind::Directory
    {
        if node.is_version(&known.version) {
            if node.properties.is_none() {
                node.learn(known, defaults);
            }
            node.prove(Instant::now());
            return (ino, false);
        }
        // Somebody rewrote the attributes, or it is our own write by a clock that is not ours.
        let same_bytes = node
            .version
            .as_ref()
            .is_some_and(|v| v.etag == known.version.etag && v.size == known.version.size);
        if same_bytes {
            if !node.dirty() {
                node.learn(known, defaults);
            }
            node.prove(Instant::now());
            return (ino, true);
        }
        if node.opens == 0 && !node.dirty() {
            node.learn(known, defaults);
            node.file = None;
            node.pages_valid = false;
            return (ino, true);
        }
        // Open handles keep the old version; the name gets a new inode.
    }
    let ino = match table.child(parent, name) {
        Some(Child::Listed(ListedChild { ino, what: Listed::Object(_), .. })) => *ino,
        _ => table.allocate(),
    };
    let (kind, stat) = describe_listed(&Listed::Object(known.version.clone()), defaults, table.started);
    let mut node = Node::new(ino, parent, component, name, kind, stat);
    node.learn(known, defaults);
    table.insert(node);
    (ino, false)
}
