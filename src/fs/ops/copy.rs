//! copy_file_range: whole objects and beginnings of them are copied by the server.

use std::time::SystemTime;

use crate::fs::error::{Error, Result};
use crate::fs::filesystem::Filesystem;
use crate::fs::types::{Fh, Ino};

/// The kernel's answer counts in 32 bits; whole pages keep the next call aligned.
const COPY_MAX_BYTES: u64 = u32::MAX as u64 & !4095;

impl Filesystem {
    /// Makes the beginning of an empty file the beginning of another: no bytes move until the new file is
    /// committed, and then on the server. `Unsupported` for everything else: the kernel copies then.
    #[allow(clippy::too_many_arguments, reason = "the arguments of copy_file_range(2)")]
    pub async fn copy_file_range(
        &self,
        ino_in: Ino,
        fh_in: Fh,
        offset_in: u64,
        ino_out: Ino,
        fh_out: Fh,
        offset_out: u64,
        len: u64,
    ) -> Result<u32> {
        self.writable()?;
        let (from, to) = (self.handles.file(fh_in)?, self.handles.file(fh_out)?);
        const NO: Error =
            Error::Unsupported("only the beginning of a committed file is copied on the server");
        if ino_in == ino_out || offset_in != offset_out || from.file.dirty() {
            return Err(NO);
        }
        let Some(base) = from.file.base() else { return Err(NO) };
        let linked = self.names.with(ino_in, |n| n.linked)?;
        let size = base.version().size;
        if !linked || size != from.file.size() {
            return Err(NO);
        }
        let end = size.min(offset_in.saturating_add(len.min(COPY_MAX_BYTES)));
        if end <= offset_in {
            return Ok(0);
        }
        let now = SystemTime::now();
        let cloned = to.file.clone_base(&base, offset_out, end, |size| {
            let _ = self.names.with(ino_out, |node| {
                node.stat.size = size;
                node.stat.mtime = now;
                node.stat.ctime = now;
                node.changed = Some(std::time::Instant::now());
            });
        });
        if !cloned {
            return Err(NO);
        }
        self.committer.note(ino_out, Some(&to.file));
        self.committer.note_clone(base.path(), ino_out);
        u32::try_from(end - offset_in).map_err(|_| Error::Invalid("copy of more than 4 GiB"))
    }
}
