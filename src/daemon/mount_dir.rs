//! The directory of one mount identity below the cache directory: who uses it, and what an earlier run left.
//!
//! Layout: `lock` (held by the daemon while it lives), `content/` (cached objects), `staging/` (bytes that
//! are not in S3 yet), `conflicts/` (bytes that lost against another client), `left-behind/TIME/` (staging
//! files of a run that ended before they were in S3), `pailfs.log`.
//!
//! Invariants: the directory is its owner's alone (0700); a file below `staging/` is never deleted here.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::failure::{Exit, Failure};

const TIME_FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour][minute][second]Z");

/// The directory, locked for as long as this lives.
#[derive(Debug)]
pub struct MountDir {
    path: PathBuf,
    /// Closing it gives the lock back.
    _lock: File,
    /// Staging files that an earlier run did not bring to S3, where they are now.
    pub left_behind: Option<LeftBehind>,
}

/// Files of an earlier run.
#[derive(Debug)]
pub struct LeftBehind {
    /// Where they were moved.
    pub dir: PathBuf,
    /// How many there are.
    pub files: usize,
    /// Their bytes together.
    pub bytes: u64,
}

impl MountDir {
    /// Makes the directory where needed, takes its lock and puts aside what an earlier run left in staging.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be made, is not ours, or another daemon has it.
    pub fn open(path: &Path, mountpoint: &Path) -> Result<Self, Failure> {
        let cannot = |error: io::Error| {
            Failure::new(Exit::CannotCreate, format!("the cache directory {} cannot be used", path.display()))
                .detail(error.to_string())
                .advise("name another one with --cache-dir")
        };
        make_private(path).map_err(cannot)?;
        let lock = take_lock(path, mountpoint).map_err(cannot)?;
        let lock = lock.map_err(|holder| in_use(path, &holder))?;
        let left_behind = put_aside(path).map_err(cannot)?;
        for name in ["content", "staging", "conflicts"] {
            make_private(&path.join(name)).map_err(cannot)?;
        }
        Ok(Self { path: path.to_owned(), _lock: lock, left_behind })
    }

    /// Cached objects.
    pub fn content(&self) -> PathBuf {
        self.path.join("content")
    }

    /// Bytes that are not in S3 yet.
    pub fn staging(&self) -> PathBuf {
        self.path.join("staging")
    }

    /// Bytes that lost against another client.
    pub fn conflicts(&self) -> PathBuf {
        self.path.join("conflicts")
    }
}

/// Makes `path` and its parents, `path` itself for the owner alone.
fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Err(io::Error::other("it is not a directory"));
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other(format!("it belongs to user {}", metadata.uid())));
    }
    if metadata.mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// The locked file, or what its holder wrote into it.
fn take_lock(dir: &Path, mountpoint: &Path) -> io::Result<Result<File, String>> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(dir.join("lock"))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            file.take(8192).read_to_string(&mut holder)?;
            return Ok(Err(holder));
        }
        Err(error) => return Err(error.into()),
    }
    file.set_len(0)?;
    writeln!(file, "{}\n{}", std::process::id(), mountpoint.display())?;
    Ok(Ok(file))
}

fn in_use(dir: &Path, holder: &str) -> Failure {
    let mut lines = holder.lines();
    let who = match (lines.next(), lines.next()) {
        (Some(pid), Some(mountpoint)) => format!("process {pid}, which has it mounted on {mountpoint}"),
        _ => "another process".into(),
    };
    Failure::new(Exit::Busy, format!("this bucket and prefix are in use by {who}"))
        .detail(format!("two daemons must not share {}", dir.display()))
        .advise("use that mount, or unmount it first with 'pailfs umount'")
        .advise("for a second mount of the same, give it a cache of its own with --cache-dir")
}

/// Moves a non-empty `staging/` to `left-behind/TIME/`.
fn put_aside(path: &Path) -> io::Result<Option<LeftBehind>> {
    let staging = path.join("staging");
    let (mut files, mut bytes) = (0, 0);
    match fs::read_dir(&staging) {
        Ok(entries) => {
            for entry in entries {
                files += 1;
                bytes += entry?.metadata()?.len();
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    if files == 0 {
        return Ok(None);
    }
    let home = path.join("left-behind");
    make_private(&home)?;
    let now = OffsetDateTime::now_utc().format(TIME_FORMAT).map_err(io::Error::other)?;
    // A rename replaces an empty directory only, so a name is tried until it is new.
    for attempt in 0..1_000 {
        let dir = match attempt {
            0 => home.join(&now),
            n => home.join(format!("{now}-{n}")),
        };
        if !dir.try_exists()? {
            fs::rename(&staging, &dir)?;
            return Ok(Some(LeftBehind { dir, files, bytes }));
        }
    }
    Err(io::Error::other("left-behind/ is full"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn open(path: &Path) -> Result<MountDir, Failure> {
        MountDir::open(path, Path::new("/mnt"))
    }

    #[test]
    fn is_made_for_the_owner_alone() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/b");
        let dir = open(&path).unwrap();
        for made in [&path, &dir.content(), &dir.staging(), &dir.conflicts()] {
            assert_eq!(fs::metadata(made).unwrap().mode() & 0o777, 0o700, "{}", made.display());
        }
        assert!(dir.left_behind.is_none());
    }

    #[test]
    fn loose_permissions_are_tightened() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let _dir = open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_second_daemon_is_refused_and_told_who_the_first_is() {
        let temp = tempfile::tempdir().unwrap();
        let first = open(temp.path()).unwrap();
        let refused = open(temp.path()).unwrap_err();
        assert_eq!(refused.exit, Exit::Busy);
        assert!(refused.what.contains(&std::process::id().to_string()), "{refused}");
        assert!(refused.what.contains("/mnt"));
        drop(first);
        open(temp.path()).unwrap();
    }

    #[test]
    fn staging_files_are_put_aside_not_deleted() {
        let temp = tempfile::tempdir().unwrap();
        for round in 0..3 {
            let dir = open(temp.path()).unwrap();
            if round > 0 {
                let left = dir.left_behind.as_ref().unwrap();
                assert_eq!((left.files, left.bytes), (1, 3));
                assert_eq!(fs::read(left.dir.join("f")).unwrap(), b"abc");
                assert!(!dir.staging().join("f").exists());
            }
            fs::write(dir.staging().join("f"), "abc").unwrap();
        }
        assert_eq!(fs::read_dir(temp.path().join("left-behind")).unwrap().count(), 2);
    }

    #[test]
    fn a_file_in_the_way_is_a_clear_error() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        fs::write(&path, "").unwrap();
        let refused = open(&path).unwrap_err();
        assert_eq!(refused.exit, Exit::CannotCreate);
        assert!(refused.to_string().contains("--cache-dir"));
    }
}
