//! The directory to mount on: what is there now, whether it will do, and taking a mount off it.
//!
//! A mount whose daemon died answers ENOTCONN to everything; one whose daemon hangs answers nothing. So the
//! kernel's table of mounts is read before the directory itself is touched.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::failure::{Exit, Failure};
pub use crate::fuse::mount::detach;

/// How the kernel names our mounts.
pub const FILESYSTEM_TYPE: &str = "fuse.pailfs";

/// Dead mounts on one directory, one above the other, that are cleared before giving up.
const STALE_MAX: usize = 16;

/// One line of the kernel's table of mounts. proc_pid_mountinfo(5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountEntry {
    /// Where.
    pub mountpoint: PathBuf,
    /// Type, such as `ext4` or `fuse.pailfs`.
    pub kind: String,
    /// What is mounted, in the words of who mounted it.
    pub source: String,
    /// User who mounted a FUSE filesystem.
    pub user: Option<u32>,
}

/// A directory that may be mounted on.
#[derive(Debug)]
pub struct Ready {
    /// Its path without symbolic links.
    pub path: PathBuf,
    /// Things to tell the user that are no errors.
    pub notices: Vec<String>,
}

/// Everything mounted in this process's namespace, in order of mounting.
pub fn mounts() -> io::Result<Vec<MountEntry>> {
    Ok(parse_mountinfo(&std::fs::read("/proc/self/mountinfo")?))
}

/// The uppermost mount at exactly `path`, which has no symbolic links.
pub fn mounted_at(path: &Path) -> io::Result<Option<MountEntry>> {
    Ok(mounts()?.into_iter().rev().find(|entry| entry.mountpoint == path))
}

/// `path` without symbolic links in its parents and, where it can be looked at, in itself. Does not touch
/// what is mounted on it.
pub fn canonical(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(path) };
    if name.as_bytes() == b".." {
        return path.canonicalize();
    }
    let plain = parent.canonicalize()?.join(name);
    if mounted_at(&plain)?.is_some() {
        return Ok(plain);
    }
    plain.canonicalize()
}

/// Whether the daemon of the mount at `path` is gone.
pub fn is_stale(path: &Path) -> bool {
    matches!(rustix::fs::stat(path), Err(rustix::io::Errno::NOTCONN))
}

/// Looks whether `path` will do for a mount and clears dead mounts of ours from it.
///
/// # Errors
/// [`Failure`] when it is missing, no directory, busy or not ours to mount on.
pub fn prepare(path: &Path, allow_other: bool) -> Result<Ready, Failure> {
    check_fuse()?;
    let mut notices = Vec::new();
    let path = canonical(path).map_err(|error| no_directory(path, &error))?;
    let mut cleared = 0;
    while let Some(entry) = mounted_at(&path).map_err(|e| cannot_look(&path, &e))? {
        if !entry.kind.starts_with("fuse") {
            break;
        }
        if entry.kind != FILESYSTEM_TYPE || !is_stale(&path) || cleared == STALE_MAX {
            return Err(busy(&path, &entry));
        }
        detach(&path).map_err(|error| {
            Failure::new(Exit::Busy, format!("{} holds a dead mount that cannot be cleared", path.display()))
                .detail(error.to_string())
                .advise(format!("clear it as root: umount -l {}", path.display()))
        })?;
        cleared += 1;
        notices.push(format!("cleared a dead mount of {} from {}", entry.source, path.display()));
    }
    let metadata = std::fs::metadata(&path).map_err(|error| no_directory(&path, &error))?;
    if !metadata.is_dir() {
        return Err(Failure::new(Exit::NoInput, format!("{} is not a directory", path.display()))
            .advise("name an empty directory to mount on"));
    }
    if std::fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some()) {
        notices.push(format!(
            "{} is not empty: what is in it cannot be seen while the bucket is mounted over it",
            path.display()
        ));
    }
    if !is_root() {
        check_unprivileged(&path, allow_other)?;
    }
    Ok(Ready { path, notices })
}

/// The program that mounts for users who are not root; PATH may be empty under systemd.
fn fusermount() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/bin", "/usr/bin", "/bin", "/sbin", "/usr/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).map(|dir| dir.join("fusermount3")).find(|p| p.is_file())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn check_fuse() -> Result<(), Failure> {
    let error = match std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    // fusermount3 opens it with the user's rights too, so it is of no help here.
    if error.kind() == io::ErrorKind::PermissionDenied && !is_root() {
        return Err(Failure::new(Exit::System, "you may not open /dev/fuse")
            .detail(error.to_string())
            .advise("it is open to everyone on most systems; as root: chmod 666 /dev/fuse"));
    }
    let what = if error.kind() == io::ErrorKind::NotFound {
        "there is no /dev/fuse: this system has no FUSE"
    } else {
        "/dev/fuse cannot be opened"
    };
    Err(Failure::new(Exit::System, what)
        .detail(error.to_string())
        .advise("on a machine of its own: load the module as root with 'modprobe fuse'")
        .advise("in a container: start it with --device /dev/fuse --cap-add SYS_ADMIN"))
}

fn check_unprivileged(path: &Path, allow_other: bool) -> Result<(), Failure> {
    if rustix::fs::access(path, Access::WRITE_OK).is_err() {
        return Err(Failure::new(Exit::Denied, format!("you may not write to {}", path.display()))
            .detail("only root mounts on a directory it cannot write to")
            .advise("mount on a directory of your own"));
    }
    if fusermount().is_none() {
        return Err(Failure::new(Exit::System, "fusermount3 is not installed")
            .advise("install it as root: apt-get install fuse3"));
    }
    if allow_other && !user_allow_other(&std::fs::read_to_string("/etc/fuse.conf").unwrap_or_default()) {
        return Err(Failure::new(Exit::Denied, "--allow-other is not allowed to users on this machine")
            .advise("as root, add the line 'user_allow_other' to /etc/fuse.conf"));
    }
    Ok(())
}

fn user_allow_other(fuse_conf: &str) -> bool {
    fuse_conf.lines().any(|line| line.trim() == "user_allow_other")
}

fn no_directory(path: &Path, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::NotFound {
        return Failure::new(Exit::NoInput, format!("the mountpoint {} does not exist", path.display()))
            .advise(format!("make it: mkdir -p {}", path.display()));
    }
    if error.kind() == io::ErrorKind::NotADirectory {
        return Failure::new(Exit::NoInput, format!("{} is not a directory", path.display()))
            .advise("name an empty directory to mount on");
    }
    cannot_look(path, error)
}

fn cannot_look(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Denied, format!("the mountpoint {} cannot be used", path.display()))
        .detail(error.to_string())
}

fn busy(path: &Path, entry: &MountEntry) -> Failure {
    let what = format!("{} is in use: {} is mounted there ({})", path.display(), entry.source, entry.kind);
    let failure = Failure::new(Exit::Busy, what);
    if entry.kind == FILESYSTEM_TYPE {
        failure.advise(format!("unmount it first: pailfs umount {}", path.display()))
    } else {
        failure.advise(format!("unmount it first: fusermount3 -u {}", path.display()))
    }
}

fn parse_mountinfo(table: &[u8]) -> Vec<MountEntry> {
    table.split(|b| *b == b'\n').filter_map(parse_line).collect()
}

/// `36 35 98:0 /root /mountpoint options [optional...] - type source super-options`
fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|b| *b == b' ');
    let mountpoint = unescape(fields.nth(4)?);
    fields.find(|field| *field == b"-")?;
    let kind = String::from_utf8_lossy(fields.next()?).into_owned();
    let source = String::from_utf8_lossy(&unescape(fields.next()?)).into_owned();
    let options = String::from_utf8_lossy(fields.next().unwrap_or_default()).into_owned();
    let user = options.split(',').find_map(|o| o.strip_prefix("user_id=")?.parse().ok());
    Some(MountEntry { mountpoint: PathBuf::from(OsString::from_vec(mountpoint)), kind, source, user })
}

/// Space, tab, newline and backslash are written as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let code = (byte == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match code {
            Some(code) => {
                plain.push(code);
                rest = &tail[3..];
            }
            None => {
                plain.push(byte);
                rest = tail;
            }
        }
    }
    plain
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo() {
        let table = b"22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n\
            90 22 0:50 / /mnt/my\\040data rw,nosuid shared:5 master:1 - fuse.pailfs s3://b/p rw,user_id=1000,group_id=0\n\
            broken\n";
        let entries = parse_mountinfo(table);
        assert_eq!(entries.len(), 2);
        assert_eq!(
            entries[1],
            MountEntry {
                mountpoint: "/mnt/my data".into(),
                kind: "fuse.pailfs".into(),
                source: "s3://b/p".into(),
                user: Some(1000),
            }
        );
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape(b"a\\040b\\134c"), b"a b\\c");
        assert_eq!(unescape(b"tail\\04"), b"tail\\04");
        assert_eq!(unescape(b"\\999\\"), b"\\999\\");
    }

    #[test]
    fn the_table_of_this_machine_has_a_root() {
        assert!(mounted_at(Path::new("/")).unwrap().is_some());
    }

    #[test]
    fn missing_directories_and_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let missing = no_directory(dir.path(), &canonical(&dir.path().join("x")).unwrap_err());
        assert_eq!(missing.exit, Exit::NoInput);
        assert!(missing.to_string().contains("mkdir -p"));
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let below = no_directory(&file, &canonical(&file.join("x")).unwrap_err());
        assert!(below.what.contains("not a directory"));
    }

    #[test]
    fn links_are_resolved() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("real");
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, dir.path().join("link")).unwrap();
        assert_eq!(canonical(&dir.path().join("link")).unwrap(), real);
        assert_eq!(canonical(&dir.path().join("link/../real/.")).unwrap(), real);
    }

    #[test]
    fn fuse_conf() {
        assert!(user_allow_other("# x\nuser_allow_other\n"));
        assert!(!user_allow_other("#user_allow_other\n"));
    }
}
