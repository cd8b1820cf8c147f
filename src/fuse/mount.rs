//! Mounting: the kernel's call when we may, `fusermount3` when we may not, and taking the mount off again.
//!
//! fuser could do this too, but what it does at unmounting (0.18) can hit another filesystem on the same path
//! and cannot be lazy; and an error of the kernel is a text there.
//!
//! Deliberately does not: look what is on the mountpoint before, or clear it; `daemon` does.

use std::ffi::{CString, OsStr};
use std::fmt::Write as _;
use std::io;
use std::io::{IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
};

/// The kernel's name of our mounts is `fuse.` and this.
pub const SUBTYPE: &str = "pailfs";

const DEVICE: &str = "/dev/fuse";

/// The longest source name that is passed on; the kernel's options have one page.
const SOURCE_MAX_BYTES: usize = 1024;

/// Why a mount failed. The message says what; advice belongs to the command line.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// There is no `/dev/fuse`.
    #[error("there is no /dev/fuse")]
    NoDevice,
    /// `/dev/fuse` cannot be opened.
    #[error("/dev/fuse cannot be opened: {0}")]
    Device(#[source] io::Error),
    /// The mountpoint does not exist.
    #[error("the mountpoint {0} does not exist")]
    Missing(PathBuf),
    /// The mountpoint is no directory.
    #[error("{0} is not a directory")]
    NotDirectory(PathBuf),
    /// The daemon of a mount on it is gone ("Transport endpoint is not connected").
    #[error("{0} holds a dead mount")]
    Stale(PathBuf),
    /// The mountpoint is in use.
    #[error("{0} is in use")]
    Busy(PathBuf),
    /// Not root, and `/etc/fuse.conf` lacks `user_allow_other`.
    #[error("allow_other is not allowed to users: {0}")]
    AllowOther(String),
    /// The kernel or `fusermount3` does not let this user mount there.
    #[error("not permitted to mount: {0}")]
    NotPermitted(String),
    /// Not root, and there is no `fusermount3`.
    #[error("fusermount3 cannot be run: {0}")]
    NoHelper(#[source] io::Error),
    /// Anything else.
    #[error("{context}: {source}")]
    Failed {
        /// What was being done.
        context: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl MountError {
    pub(super) fn failed(context: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Failed { context, source: source.into() }
    }
}

/// How the kernel is to mount.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// What `mount` and `df` show as the device: `pailfs#bucket/prefix`. Control characters are replaced.
    pub source: String,
    /// Other users may use the mount; permissions are still checked.
    pub allow_other: bool,
    /// Nothing can be changed.
    pub read_only: bool,
    /// Device nodes work. Root only; off, because a bucket is not to hand out devices unasked.
    pub dev: bool,
    /// Set-id bits work. Root only; off, for the same reason.
    pub suid: bool,
    /// Programs can be run.
    pub exec: bool,
    /// Access times are not kept.
    pub noatime: bool,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            source: SUBTYPE.to_owned(),
            allow_other: false,
            read_only: false,
            dev: false,
            suid: false,
            exec: true,
            noatime: false,
        }
    }
}

/// A mount as the kernel knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct MountPoint {
    /// Without symbolic links.
    pub(super) path: PathBuf,
    /// Device number: major, minor.
    pub(super) device: (u32, u32),
}

impl MountPoint {
    /// Whether the mount is what is at its path now: not taken off, and nothing mounted over it. Asks the
    /// kernel only.
    pub(super) fn is_there(&self) -> bool {
        device_of(&self.path).is_ok_and(|device| device == self.device)
    }

    /// Takes the mount off its path at once; who has files open keeps them. Nothing when it is not there.
    ///
    /// # Errors
    /// When the kernel or `fusermount3` refuses.
    pub(super) fn detach(&self) -> io::Result<()> {
        if self.is_there() { detach(&self.path) } else { Ok(()) }
    }

    /// Sets how far ahead the kernel reads. Root only: see /sys/class/bdi.
    pub(super) fn set_read_ahead(&self, bytes: u64) -> io::Result<()> {
        let (major, minor) = self.device;
        std::fs::write(format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"), (bytes / 1024).to_string())
    }
}

/// Takes whatever is mounted at `path` off it at once (umount2(2) with MNT_DETACH, `fusermount3 -u -z` for
/// users).
///
/// # Errors
/// When the kernel or `fusermount3` refuses.
pub fn detach(path: &Path) -> io::Result<()> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Err(Errno::PERM) => {}
        other => return Ok(other?),
    }
    let output = helper().args(["-u", "-z", "--"]).arg(path).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Mounts and answers the device the kernel's requests come from; it must be answered before anyone can use
/// the mount.
pub(super) fn mount(path: &Path, options: &MountOptions) -> Result<OwnedFd, MountError> {
    check_directory(path)?;
    let device = match rustix::fs::open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(device) => device,
        Err(Errno::NOENT | Errno::NODEV | Errno::NXIO) => return Err(MountError::NoDevice),
        // fusermount3 opens it as root.
        Err(Errno::ACCESS | Errno::PERM) if !rustix::process::geteuid().is_root() => {
            return mount_by_helper(path, options);
        }
        Err(errno) => return Err(MountError::Device(errno.into())),
    };
    match mount_directly(path, options, &device) {
        Ok(()) => Ok(device),
        Err(Errno::PERM) => mount_by_helper(path, options),
        Err(Errno::BUSY) => Err(MountError::Busy(path.to_owned())),
        Err(errno) => Err(MountError::failed("mount(2)", errno)),
    }
}

/// The device number of a mount just made. Does not ask the daemon, so it may be called before it answers.
pub(super) fn located(path: &Path) -> io::Result<MountPoint> {
    Ok(MountPoint { path: path.to_owned(), device: device_of(path)? })
}

fn device_of(path: &Path) -> io::Result<(u32, u32)> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT | AtFlags::SYMLINK_NOFOLLOW;
    let stat = rustix::fs::statx(rustix::fs::CWD, path, flags, StatxFlags::empty())?;
    Ok((stat.stx_dev_major, stat.stx_dev_minor))
}

fn check_directory(path: &Path) -> Result<(), MountError> {
    match rustix::fs::stat(path) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => Ok(()),
        Ok(_) | Err(Errno::NOTDIR) => Err(MountError::NotDirectory(path.to_owned())),
        Err(Errno::NOENT) => Err(MountError::Missing(path.to_owned())),
        Err(Errno::NOTCONN) => Err(MountError::Stale(path.to_owned())),
        Err(Errno::ACCESS) => {
            Err(MountError::NotPermitted(format!("{} cannot be looked at", path.display())))
        }
        Err(errno) => Err(MountError::failed("the mountpoint cannot be looked at", errno)),
    }
}

fn mount_directly(path: &Path, options: &MountOptions, device: &OwnedFd) -> Result<(), Errno> {
    let mut flags = MountFlags::empty();
    flags.set(MountFlags::NODEV, !options.dev);
    flags.set(MountFlags::NOSUID, !options.suid);
    flags.set(MountFlags::NOEXEC, !options.exec);
    flags.set(MountFlags::RDONLY, options.read_only);
    flags.set(MountFlags::NOATIME, options.noatime);
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions",
        device.as_raw_fd(),
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    if options.allow_other {
        data.push_str(",allow_other");
    }
    let data = CString::new(data).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount(
        plain_source(&options.source).as_str(),
        path,
        format!("fuse.{SUBTYPE}").as_str(),
        flags,
        data.as_c_str(),
    )
}

/// Asks the set-uid program to mount; it sends the opened device over a socket. Its protocol: the number of the
/// socket is in `_FUSE_COMMFD`, here the program's standard input. See fusermount.c in libfuse.
fn mount_by_helper(path: &Path, options: &MountOptions) -> Result<OwnedFd, MountError> {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(|errno| MountError::failed("socketpair", errno))?;
    let mut child = helper()
        .arg("-o")
        .arg(helper_options(options))
        .arg("--")
        .arg(path)
        .env("_FUSE_COMMFD", "0")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(MountError::NoHelper)?;
    let received = receive_descriptor(&ours);
    drop(ours);
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        // Whatever it says is for the message only.
        drop(stderr.read_to_string(&mut said));
    }
    let status = child.wait().map_err(|error| MountError::failed("waiting for fusermount3", error))?;
    match received {
        Ok(Some(device)) if status.success() => Ok(device),
        Ok(_) => Err(helper_refused(path, said.trim())),
        Err(errno) => Err(MountError::failed("receiving from fusermount3", errno)),
    }
}

/// fusermount3 has one exit code, so its words decide; when they are unknown the error is the general one.
fn helper_refused(path: &Path, said: &str) -> MountError {
    if said.contains("user_allow_other") {
        MountError::AllowOther(said.to_owned())
    } else if said.contains("Device or resource busy") {
        MountError::Busy(path.to_owned())
    } else {
        MountError::NotPermitted(said.to_owned())
    }
}

fn receive_descriptor(socket: &OwnedFd) -> Result<Option<OwnedFd>, Errno> {
    let mut byte = [0u8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut byte)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    let device = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(device)
}

fn helper_options(options: &MountOptions) -> String {
    let mut text = String::from("default_permissions,subtype=");
    text.push_str(SUBTYPE);
    // A backslash keeps a comma from ending the name.
    let name = plain_source(&options.source).replace('\\', "\\\\").replace(',', "\\,");
    // Writing to a String cannot fail.
    let _ = write!(text, ",fsname={name}");
    for (on, option) in [
        (options.allow_other, "allow_other"),
        (options.read_only, "ro"),
        (!options.exec, "noexec"),
        (options.noatime, "noatime"),
    ] {
        if on {
            text.push(',');
            text.push_str(option);
        }
    }
    text
}

/// A source name without what would break a table of mounts.
fn plain_source(source: &str) -> String {
    let mut plain: String = source.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    while plain.len() > SOURCE_MAX_BYTES {
        plain.pop();
    }
    plain
}

/// `fusermount3`, also where PATH is empty (systemd) or only the old name is there.
fn helper() -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let dirs: Vec<PathBuf> = std::env::split_paths(&path).chain(usual).collect();
    let found = ["fusermount3", "fusermount"]
        .iter()
        .flat_map(|name| dirs.iter().map(move |dir| dir.join(name)))
        .find(|candidate| candidate.is_file());
    Command::new(found.as_deref().map_or(OsStr::new("fusermount3"), Path::as_os_str))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_source_cannot_bring_options() {
        let options = MountOptions { source: "pailfs#b/a,suid\\x\ny".to_owned(), ..MountOptions::default() };
        assert_eq!(
            helper_options(&options),
            "default_permissions,subtype=pailfs,fsname=pailfs#b/a\\,suid\\\\x?y"
        );
    }

    #[test]
    fn options_that_are_on() {
        let options =
            MountOptions { allow_other: true, read_only: true, exec: false, ..MountOptions::default() };
        let text = helper_options(&options);
        assert!(text.ends_with(",fsname=pailfs,allow_other,ro,noexec"), "{text}");
    }

    #[test]
    fn a_long_source_is_cut_at_a_character() {
        let plain = plain_source(&"\u{e9}".repeat(1000));
        assert_eq!(plain.len(), SOURCE_MAX_BYTES);
    }

    #[test]
    fn what_cannot_be_mounted_on() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(check_directory(&file), Err(MountError::NotDirectory(_))));
        assert!(matches!(check_directory(&file.join("x")), Err(MountError::NotDirectory(_))));
        assert!(matches!(check_directory(&dir.path().join("x")), Err(MountError::Missing(_))));
        assert!(check_directory(dir.path()).is_ok());
    }
}
