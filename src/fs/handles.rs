//! Open files and directories.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::error::{Error, Result};
use super::owners::Owners;
use super::types::{Fh, Ino, OpenFlags};
use crate::commit::file::File;
use crate::content::Stream;

/// An open file.
#[derive(Debug)]
pub struct FileHandle {
    /// Inode.
    pub ino: Ino,
    /// Its content, shared by all handles of the inode.
    pub file: Arc<File>,
    /// What it was opened for.
    pub flags: OpenFlags,
    /// The pattern of its reads.
    pub stream: Stream,
    /// Who uses it.
    pub owners: Owners,
    /// Something was written through it.
    pub wrote: AtomicBool,
}

/// An open directory: the names of one pass over it.
#[derive(Debug)]
pub struct DirHandle {
    /// Inode.
    pub ino: Ino,
    /// Names in order, taken when the pass began.
    pub names: Mutex<Option<Arc<[Box<str>]>>>,
    /// Inodes made for entries that may not have reached the kernel.
    pub offered: Mutex<Vec<Ino>>,
}

/// All handles of a mount.
#[derive(Debug, Default)]
pub struct Handles {
    files: RwLock<HashMap<Fh, Arc<FileHandle>>>,
    dirs: RwLock<HashMap<Fh, Arc<DirHandle>>>,
    last: AtomicU64,
}

impl Handles {
    fn next(&self) -> Fh {
        Fh(self.last.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// A handle of a file.
    pub fn add_file(&self, ino: Ino, file: Arc<File>, flags: OpenFlags, pid: u32) -> Fh {
        let fh = self.next();
        let (owners, wrote) = (Owners::opened_by(pid), AtomicBool::new(false));
        let handle = FileHandle { ino, file, flags, stream: Stream::default(), owners, wrote };
        self.files.write().insert(fh, Arc::new(handle));
        fh
    }

    /// A handle of a directory.
    pub fn add_dir(&self, ino: Ino) -> Fh {
        let fh = self.next();
        let handle = DirHandle { ino, names: Mutex::default(), offered: Mutex::default() };
        self.dirs.write().insert(fh, Arc::new(handle));
        fh
    }

    /// The open file.
    pub fn file(&self, fh: Fh) -> Result<Arc<FileHandle>> {
        self.files.read().get(&fh).cloned().ok_or(Error::BadHandle)
    }

    /// The open directory.
    pub fn dir(&self, fh: Fh) -> Result<Arc<DirHandle>> {
        self.dirs.read().get(&fh).cloned().ok_or(Error::BadHandle)
    }

    /// Closes a file.
    pub fn remove_file(&self, fh: Fh) -> Option<Arc<FileHandle>> {
        self.files.write().remove(&fh)
    }

    /// Closes a directory.
    pub fn remove_dir(&self, fh: Fh) -> Option<Arc<DirHandle>> {
        self.dirs.write().remove(&fh)
    }

    /// Open files.
    pub fn open_files(&self) -> usize {
        self.files.read().len()
    }
}
