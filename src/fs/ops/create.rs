//! create, mkdir, symlink, mknod.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::commit::DIRECTORY_TYPE;
use crate::commit::claims::Scope;
use crate::commit::file::File;
use crate::fs::error::{Error, Result};
use crate::fs::filesystem::Filesystem;
use crate::fs::types::{Caller, Created, Entry, FileKind, Ino, OpenFlags, Opened};
use crate::namespace::node::{Child, Dir, Node, Stat};
use crate::namespace::{check_key, content_type, name_text};
use crate::store::error::ErrorKind;
use crate::store::types::{Body, ObjectPath, Version, Written};

/// Longest target of a symbolic link, in bytes: `PATH_MAX` less its terminator.
const TARGET_MAX_BYTES: usize = 4095;

impl Filesystem {
    /// Makes and opens a file. It is in S3 when it is first flushed; no request is sent before.
    pub async fn create(
        &self,
        caller: Caller,
        parent: Ino,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: OpenFlags,
    ) -> Result<Created> {
        self.writable()?;
        let name = name_text(name)?;
        if let Some(ino) = self.existing(parent, name) {
            if flags.exclusive {
                return Err(Error::Exists);
            }
            let opened = self.open(caller, ino, flags).await?;
            return Ok(Created { entry: self.entry(ino)?, opened });
        }
        let (component, _) = self.names.new_path(parent, name)?;
        let stat = self.new_stat(caller, parent, FileKind::Regular, mode & !umask)?;
        let (ino, file) = {
            let mut table = self.names.table();
            let ino = table.allocate();
            let file = Arc::new(File::created(ino));
            let mut node = Node::new(ino, parent, &component, name, FileKind::Regular, stat);
            node.opens = 1;
            node.writers = 1;
            node.file = Some(file.clone());
            node.changed = Some(Instant::now());
            node.pages_valid = true;
            table.insert(node);
            table.touch_dir(parent);
            (ino, file)
        };
        self.committer.note(ino, Some(&file));
        let fh = self.handles.add_file(ino, file, OpenFlags { write: true, ..flags });
        let opened = Opened { fh, keep_cache: false, direct_io: false, no_flush: false };
        Ok(Created { entry: self.entry(ino)?, opened })
    }

    /// Makes a directory: one PUT of its own object.
    pub async fn mkdir(
        &self,
        caller: Caller,
        parent: Ino,
        name: &OsStr,
        mode: u32,
        umask: u32,
    ) -> Result<Entry> {
        self.writable()?;
        let name = name_text(name)?;
        let _claim = self.committer.claims.claim(&self.names, &[Scope::One(parent)]).await;
        self.must_be_absent(parent, name)?;
        let (component, path) = self.names.new_path(parent, name)?;
        let path = ObjectPath::new(path.bucket, format!("{}/", path.key));
        check_key(&path)?;
        let stat = self.new_stat(caller, parent, FileKind::Directory, mode & !umask)?;
        let mut node = self.new_node(parent, &component, name, FileKind::Directory, stat);
        node.dir = Some(Box::new(Dir::fresh(Instant::now())));
        self.put_new(node, &path, Bytes::new(), DIRECTORY_TYPE).await
    }

    /// Makes a symbolic link: an object whose bytes are the target.
    pub async fn symlink(&self, caller: Caller, parent: Ino, name: &OsStr, target: &Path) -> Result<Entry> {
        self.writable()?;
        let name = name_text(name)?;
        let target = target.as_os_str().as_bytes();
        if target.len() > TARGET_MAX_BYTES {
            return Err(Error::NameTooLong);
        }
        let _claim = self.committer.claims.claim(&self.names, &[Scope::One(parent)]).await;
        self.must_be_absent(parent, name)?;
        let (component, path) = self.names.new_path(parent, name)?;
        let mut stat = self.new_stat(caller, parent, FileKind::Symlink, 0o777)?;
        stat.size = target.len() as u64;
        let node = self.new_node(parent, &component, name, FileKind::Symlink, stat);
        self.put_new(node, &path, Bytes::copy_from_slice(target), content_type::from_name("")).await
    }

    /// Makes a regular file, pipe, socket or device node: an object without bytes. `mode` has type bits.
    pub async fn mknod(
        &self,
        caller: Caller,
        parent: Ino,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
    ) -> Result<Entry> {
        self.writable()?;
        let name = name_text(name)?;
        let kind = match mode & libc::S_IFMT {
            libc::S_IFREG | 0 => FileKind::Regular,
            libc::S_IFIFO => FileKind::Fifo,
            libc::S_IFSOCK => FileKind::Socket,
            libc::S_IFCHR => FileKind::CharDevice,
            libc::S_IFBLK => FileKind::BlockDevice,
            _ => return Err(Error::Invalid("mknod makes files, pipes, sockets and devices")),
        };
        let _claim = self.committer.claims.claim(&self.names, &[Scope::One(parent)]).await;
        self.must_be_absent(parent, name)?;
        let (component, path) = self.names.new_path(parent, name)?;
        let mut stat = self.new_stat(caller, parent, kind, mode & !umask)?;
        if matches!(kind, FileKind::CharDevice | FileKind::BlockDevice) {
            stat.rdev = rdev;
        }
        let node = self.new_node(parent, &component, name, kind, stat);
        self.put_new(node, &path, Bytes::new(), content_type::from_name(&component)).await
    }

    fn existing(&self, parent: Ino, name: &str) -> Option<Ino> {
        match self.names.table().child(parent, name)? {
            Child::Node(ino) => Some(*ino),
            Child::Listed(_) | Child::Gone(_) => None,
        }
    }

    fn must_be_absent(&self, parent: Ino, name: &str) -> Result<()> {
        let table = self.names.table();
        let dir = table.get(parent).ok_or(Error::NotFound)?.dir.as_ref().ok_or(Error::NotDirectory)?;
        match dir.children.get(name) {
            Some(Child::Node(_) | Child::Listed(_)) => Err(Error::Exists),
            Some(Child::Gone(_)) | None => Ok(()),
        }
    }

    fn new_node(&self, parent: Ino, component: &str, name: &str, kind: FileKind, stat: Stat) -> Node {
        let ino = self.names.table().allocate();
        Node::new(ino, parent, component, name, kind, stat)
    }

    /// Puts a new object and gives it its name here.
    async fn put_new(
        &self,
        mut node: Node,
        path: &ObjectPath,
        body: Bytes,
        content_type: &str,
    ) -> Result<Entry> {
        let mut properties = node.properties_to_write();
        properties.content_type = Some(content_type.to_owned());
        if node.kind == FileKind::Regular {
            properties.storage_class.clone_from(&self.config.storage_class);
        }
        let size = body.len() as u64;
        let none = BTreeMap::new();
        let put = self.store.put(path, Body(body.clone()), &properties, &none, self.condition_new()).await;
        let written = match put {
            Err(e) if e.kind == ErrorKind::Precondition => {
                self.made_by_us(path, &properties.metadata, size).await?
            }
            put => put?,
        };
        let version = Version {
            etag: written.etag,
            last_modified: written.last_modified.unwrap_or(std::time::SystemTime::UNIX_EPOCH),
            size,
        };
        if size > 0 {
            self.content.object(path, &version).prime(0, &body);
        }
        self.names.unremember(path);
        let (ino, parent) = (node.ino, node.parent);
        node.properties = Some(Arc::new(properties));
        // Held until the entry is counted, or somebody's forget could take it.
        node.opens = 1;
        let mut table = self.names.table();
        table.insert(node);
        table.written(ino, version, written.last_modified.is_some());
        table.touch_dir(parent);
        drop(table);
        let entry = self.entry(ino);
        let _ = self.names.with(ino, |node| node.opens -= 1);
        entry
    }

    /// Something is there already: ours by a request whose answer was lost, or somebody else's.
    async fn made_by_us(
        &self,
        path: &ObjectPath,
        metadata: &BTreeMap<String, String>,
        size: u64,
    ) -> Result<Written> {
        let info = self.store.head(path).await?;
        if info.properties.metadata == *metadata && info.version.size == size {
            return Ok(Written {
                etag: info.version.etag,
                last_modified: Some(info.version.last_modified),
                version_id: info.version_id,
            });
        }
        Err(Error::Exists)
    }
}
