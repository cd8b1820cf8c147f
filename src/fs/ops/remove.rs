//! unlink, rmdir.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::time::Instant;

use crate::commit::claims::Scope;
use crate::commit::{DIRECTORY_TYPE, is_conflict};
use crate::fs::error::{Error, Result};
use crate::fs::filesystem::Filesystem;
use crate::fs::types::{FileKind, Ino};
use crate::namespace::name_text;
use crate::namespace::node::{Child, Marker};
use crate::store::error::ErrorKind;
use crate::store::types::{Body, Condition};

impl Filesystem {
    /// Removes a file. Whoever has it open goes on reading it.
    pub async fn unlink(&self, parent: Ino, name: &OsStr) -> Result<()> {
        self.writable()?;
        let name = name_text(name)?;
        self.not_repeated(parent, name)?;
        let ino = self.names.child(parent, name).await?.ok_or(Error::NotFound)?;
        if self.names.with(ino, |n| n.kind)? == FileKind::Directory {
            return Err(Error::IsDirectory);
        }
        if let Some(path) = self.names.object_path(ino) {
            self.committer.settle_clones(&path).await?;
        }
        let _claim = self.committer.claims.claim(&self.names, &[Scope::One(ino), Scope::One(parent)]).await;
        // Another unlink or a rename may have been first.
        if self.names.table().child_ino(parent, name) != Some(ino) {
            return Err(Error::NotFound);
        }
        self.committer.settle_unanswered(ino).await?;
        self.hold_content(ino).await?;
        self.keep_alive(parent, name).await?;
        let (path, version) = {
            let table = self.names.table();
            let node = table.get(ino).ok_or(Error::NotFound)?;
            (table.object_path(ino), node.version.clone().or_else(|| node.replaces.clone()))
        };
        if let (Some(path), Some(version)) = (path, version)
            && let Err(error) = self.committer.delete(&path, Some(&version.etag)).await
        {
            return Err(self.lost_race(parent, name, error));
        }
        self.orphan(ino);
        let mut table = self.names.table();
        table.unlink(parent, name, Instant::now());
        table.touch_dir(parent);
        if let Some(node) = table.get_mut(ino) {
            node.stat.ctime = std::time::SystemTime::now();
        }
        drop(table);
        self.committer.forget_unlinked(ino);
        Ok(())
    }

    /// Removes an empty directory.
    pub async fn rmdir(&self, parent: Ino, name: &OsStr) -> Result<()> {
        self.writable()?;
        let name = name_text(name)?;
        let ino = self.names.child(parent, name).await?.ok_or(Error::NotFound)?;
        if self.names.with(ino, |n| n.kind)? != FileKind::Directory {
            return Err(Error::NotDirectory);
        }
        let _claim = self.committer.claims.claim(&self.names, &[Scope::Tree(ino), Scope::One(parent)]).await;
        let path = self.names.object_path(ino).ok_or(Error::NotPermitted("buckets stay"))?;
        if !self.names.is_empty(ino).await? {
            return Err(Error::NotEmpty);
        }
        self.keep_alive(parent, name).await?;
        // Also when it is thought to have no object of its own: an empty directory without one hardly exists.
        self.committer.delete(&path, None).await?;
        self.committer.forget_changes(ino);
        let mut table = self.names.table();
        table.unlink(parent, name, Instant::now());
        table.touch_dir(parent);
        Ok(())
    }

    /// A change of a name failed: the name has to be looked up again, since another client may have changed it,
    /// or the change may have been done without an answer. The kernel looks by itself on ESTALE.
    pub(super) fn lost_race(&self, parent: Ino, name: &str, error: Error) -> Error {
        self.names.table().doubt_name(parent, name);
        self.names.notifier().entry_changed(parent, name.into());
        let refused = matches!(&error, Error::Store(e) if is_conflict(e.kind));
        if !refused {
            return error;
        }
        self.lost_races.note(parent, name);
        Error::Stale("another client changed it meanwhile".into())
    }

    /// Refuses what the kernel repeats after [`Self::lost_race`].
    pub(super) fn not_repeated(&self, parent: Ino, name: &str) -> Result<()> {
        if self.lost_races.is_repeated(parent, name) {
            return Err(Error::Stale("another client changed it a moment ago".into()));
        }
        Ok(())
    }

    /// Before an object goes away: those who have it open get all of it into the local store.
    pub(super) async fn hold_content(&self, ino: Ino) -> Result<()> {
        let file = self.names.with(ino, |n| if n.opens > 0 { n.file.clone() } else { None })?;
        let Some(base) = file.and_then(|f| f.base()) else { return Ok(()) };
        let size = base.version().size;
        base.keep(true);
        match base.make_resident(0..size).await {
            // Gone in S3 already: nothing can be saved, and removing it must still be possible.
            Err(Error::Stale(_)) => Ok(()),
            Err(error) => {
                base.keep(false);
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    /// The object is gone: what is open lives on locally.
    pub(super) fn orphan(&self, ino: Ino) {
        let file = self.names.with(ino, |n| n.file.clone()).ok().flatten();
        let path = self.names.object_path(ino);
        // The base of a clone that is not committed is another file's, and that one stays.
        if let Some(base) = file.and_then(|f| f.base()).filter(|base| Some(base.path()) == path) {
            base.detach();
        }
    }

    /// A directory that exists only through what is in it would vanish with its last name: it gets an
    /// object of its own first.
    pub(super) async fn keep_alive(&self, dir: Ino, leaving: &str) -> Result<()> {
        let (path, properties) = {
            let table = self.names.table();
            let Some(path) = table.dir_path(dir).and_then(|p| p.marker()) else { return Ok(()) };
            let node = table.get(dir).ok_or(Error::NotFound)?;
            let Some(data) = node.dir.as_ref() else { return Ok(()) };
            // Names that are in S3 keep it alive as well.
            let others = data.live().any(|(name, child)| {
                name != leaving
                    && match child {
                        Child::Listed(_) => table.complete(dir, self.config.ttl),
                        Child::Node(ino) => {
                            table.get(*ino).is_some_and(|n| n.version.is_some() && n.fresh(self.config.ttl))
                        }
                        Child::Gone(_) => false,
                    }
            });
            // The mount's own prefix is no name of anything.
            if data.marker == Marker::Present || others || dir == Ino::ROOT {
                return Ok(());
            }
            let mut properties = node.properties_to_write();
            properties.content_type = Some(DIRECTORY_TYPE.to_owned());
            (path, properties)
        };
        let put =
            self.store.put(&path, Body::default(), &properties, &BTreeMap::new(), Condition::Absent).await;
        match put {
            Ok(_) => {}
            Err(e) if e.kind == ErrorKind::Precondition => {}
            Err(e) => return Err(e.into()),
        }
        self.names.table().set_marker(dir, Marker::Present);
        Ok(())
    }
}
