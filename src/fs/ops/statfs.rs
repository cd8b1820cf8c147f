//! statfs.

use crate::fs::error::Result;
use crate::fs::filesystem::Filesystem;
use crate::fs::types::{Ino, StatFs};
use crate::namespace::NAME_MAX_BYTES;

/// Bytes of a block in what statfs tells.
const BLOCK_BYTES: u32 = 4096;
/// A bucket has no end; programs that compute with free space get 1 PiB of it.
const BLOCKS: u64 = (1 << 50) / BLOCK_BYTES as u64;
/// Nor has the number of objects; what still fits a 32-bit program.
const FILES: u64 = u32::MAX as u64;

impl Filesystem {
    /// Figures about the filesystem.
    pub async fn statfs(&self, _ino: Ino) -> Result<StatFs> {
        Ok(StatFs {
            blocks: BLOCKS,
            blocks_free: BLOCKS,
            files: FILES,
            files_free: FILES,
            block_size_bytes: BLOCK_BYTES,
            name_max_bytes: NAME_MAX_BYTES as u32,
        })
    }
}
