//! lookup, forget, readlink.

use std::ffi::OsStr;

use bytes::Bytes;

use crate::content::Stream;
use crate::fs::error::{Error, Result};
use crate::fs::filesystem::Filesystem;
use crate::fs::types::{Entry, FileKind, Ino};
use crate::namespace::name_text;

/// How often a lookup begins again when its inode is forgotten under it.
const LOOKUP_TRIES: usize = 8;

impl Filesystem {
    /// What `name` in `parent` means. A name that does not exist is an answer too, and may be remembered.
    pub async fn lookup(&self, parent: Ino, name: &OsStr) -> Result<Entry> {
        let name = match name_text(name) {
            // No key can be behind it; making it is what tells why.
            Err(Error::NotUtf8) => return Ok(Entry { attr: None, ttl: self.config.ttl }),
            name => name?,
        };
        for _ in 0..LOOKUP_TRIES {
            let Some(ino) = self.names.child(parent, name).await? else { break };
            match self.entry(ino) {
                // Dropped by somebody who forgot it, before it was counted for us.
                Err(Error::NotFound) => {}
                done => return done,
            }
        }
        Ok(Entry { attr: None, ttl: self.config.ttl })
    }

    /// The kernel gives `count` references back.
    pub fn forget(&self, ino: Ino, count: u64) {
        self.names.table().forget(ino, count);
    }

    /// References of readdirplus entries that reached the kernel.
    pub fn count_lookups(&self, inos: &[Ino]) {
        let mut table = self.names.table();
        for ino in inos {
            if let Some(node) = table.get_mut(*ino) {
                node.lookups += 1;
            }
        }
    }

    /// Where a symbolic link points.
    pub async fn readlink(&self, ino: Ino) -> Result<Bytes> {
        let (path, version) = {
            let table = self.names.table();
            let node = table.get(ino).ok_or(Error::NotFound)?;
            if node.kind != FileKind::Symlink {
                return Err(Error::Invalid("not a symbolic link"));
            }
            let version = node.version.clone().ok_or(Error::NotFound)?;
            (table.object_path(ino).ok_or(Error::NotFound)?, version)
        };
        let len = version.size as usize;
        let content = self.content.object(&path, &version);
        if let Some(bytes) = content.read_resident(0, len) {
            return Ok(bytes);
        }
        content.read(&Stream::default(), 0, len).await
    }
}
