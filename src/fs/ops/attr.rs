//! getattr, setattr.

use std::time::SystemTime;

use crate::fs::error::{Error, Result};
use crate::fs::filesystem::Filesystem;
use crate::fs::types::{AttrReply, Caller, Fh, FileKind, Ino, SetAttr, SetTime};
use crate::namespace::node::Node;

impl Filesystem {
    /// Attributes of an inode, asked from S3 when they are older than the mount's ttl.
    pub async fn getattr(&self, ino: Ino, _fh: Option<Fh>) -> Result<AttrReply> {
        let stale = {
            let table = self.names.table();
            let node = table.get(ino).ok_or(Error::NotFound)?;
            // An open file is the version it was opened as.
            let old = ino != Ino::ROOT && node.linked && node.opens == 0 && !node.fresh(self.config.ttl);
            old.then(|| (node.parent, node.shown.clone()))
        };
        if let Some((parent, name)) = stale {
            match self.names.child(parent, &name).await? {
                Some(found) if found == ino => {}
                _ => return Err(Error::Stale("the name means another file now".into())),
            }
        }
        self.attr_reply(ino)
    }

    /// Changes mode, owner, times or size. Size changes of a file that nobody has open for writing are in S3
    /// when this returns; attributes follow within a moment, or with the next close or fsync.
    pub async fn setattr(&self, caller: Caller, ino: Ino, changes: SetAttr) -> Result<AttrReply> {
        self.writable()?;
        self.names.ensure_properties(ino).await?;
        let resized = match changes.size {
            Some(size) => self.resize(caller, ino, size)?,
            None => false,
        };
        let attributes = changes.mode.is_some()
            || changes.uid.is_some()
            || changes.gid.is_some()
            || changes.atime.is_some()
            || changes.mtime.is_some();
        if attributes {
            let own_object = self.names.object_path(ino).is_some();
            let open_new = self.names.with(ino, |node| {
                apply(node, &changes);
                // The top of a bucket has no object to keep attributes in: they last as long as the mount.
                if own_object {
                    node.touch_meta();
                }
                node.version.is_none() && node.opens > 0
            })?;
            if own_object && !open_new && !resized {
                self.committer.commit_later(ino);
            }
        }
        if resized {
            self.committer.commit(ino).await?;
        }
        self.attr_reply(ino)
    }

    /// Changes the size; true when nobody else will commit it.
    fn resize(&self, caller: Caller, ino: Ino, size: u64) -> Result<bool> {
        if self.names.with(ino, |n| n.kind)? == FileKind::Directory {
            return Err(Error::IsDirectory);
        }
        // Attached for the moment: a file that nobody has open is not closed under the truncation.
        let file = self.attach(ino, false)?;
        let now = SystemTime::now();
        let done = file.truncate(size, |changes| {
            let _ = self.names.with(ino, |node| resized(node, caller, size, changes, now));
        });
        if done.is_ok() {
            self.committer.note(ino, Some(&file));
        }
        self.detach(ino, false);
        done?;
        self.names.with(ino, |node| node.writers == 0)
    }
}

fn apply(node: &mut Node, changes: &SetAttr) {
    let now = SystemTime::now();
    let time = |set: SetTime| match set {
        SetTime::Now => now,
        SetTime::At(at) => at,
    };
    if changes.uid.is_some() || changes.gid.is_some() {
        node.stat.uid = changes.uid.unwrap_or(node.stat.uid);
        node.stat.gid = changes.gid.unwrap_or(node.stat.gid);
        drop_set_id(node);
    }
    if let Some(mode) = changes.mode {
        node.stat.mode = mode & 0o7777;
    }
    if let Some(atime) = changes.atime {
        node.stat.atime = time(atime);
    }
    if let Some(mtime) = changes.mtime {
        node.stat.mtime = time(mtime);
    }
    node.stat.ctime = now;
}

/// Attributes after a truncation by `caller`. One that did not change the size is a change of the time alone,
/// which has to reach S3 as well.
pub(super) fn resized(node: &mut Node, caller: Caller, size: u64, changes: bool, now: SystemTime) {
    node.stat.size = size;
    node.stat.mtime = now;
    node.stat.ctime = now;
    node.changed = Some(std::time::Instant::now());
    if caller.uid != 0 {
        drop_set_id(node);
    }
    if !changes {
        node.touch_meta();
    }
}

/// Clears set-id bits as the kernel expects of a filesystem that says it does (`FUSE_HANDLE_KILLPRIV_V2`).
pub(super) fn drop_set_id(node: &mut Node) {
    if node.kind == FileKind::Directory {
        return;
    }
    node.stat.mode &= !libc::S_ISUID;
    if node.stat.mode & libc::S_IXGRP != 0 {
        node.stat.mode &= !libc::S_ISGID;
    }
}
