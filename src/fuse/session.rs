//! A mount from its beginning to its end.
//!
//! The threads that read the kernel's requests are fuser's. They end when the kernel closes the connection:
//! after an unmount from anywhere, once the last open file is closed. A thread here waits for that and says so.
//!
//! Deliberately does not: drain the filesystem at the end; the daemon does, before or after.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use fuser::{Config, InitFlags, KernelConfig, Session, SessionACL};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use super::adapter::Adapter;
use super::dispatch::Dispatcher;
use super::mount::{self, MountError, MountOptions, MountPoint};
use super::notify::QueuedNotifier;
use super::stats::OperationStats;
use crate::fs::operations::Operations;

/// How long dropping a [`Mounted`] waits for the kernel to take the mount off.
const DROP_WAIT: Duration = Duration::from_secs(5);

/// What is asked of the kernel when it offers it.
/// Neither EXPLICIT_INVAL_DATA, because a file whose size changed elsewhere would keep its old pages and show bytes
/// of two versions, nor AUTO_INVAL_DATA, because each upload of our own would empty the page cache.
/// Never: POSIX_LOCKS and FLOCK_LOCKS (a blocked lock request could not be killed; the kernel's own locks
/// serve one machine), WRITEBACK_CACHE (bytes would be committed after close), and OVER_IO_URING, SETXATTR_EXT,
/// ALLOW_IDMAP, which fuser 0.18 does not carry out.
const WANTED: &[InitFlags] = &[
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_ATOMIC_O_TRUNC,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
];

/// How the kernel's requests are served.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Threads that read requests, at least 1; each has a buffer of 16 MiB address space.
    pub threads: usize,
    /// Largest write request in bytes; also bounds reads.
    pub max_write_bytes: u32,
    /// Requests of the kernel's own (read-ahead, asynchronous I/O) at once.
    pub max_background: u16,
    /// How far the kernel reads ahead in bytes; as root only, 128 KiB otherwise. `None` leaves it.
    pub read_ahead_bytes: Option<u64>,
    /// How long an operation may take that commits nothing. Those that do are bounded by their requests to the
    /// store.
    pub deadline: Duration,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            threads: 2,
            max_write_bytes: 1024 * 1024,
            max_background: 128,
            read_ahead_bytes: Some(1024 * 1024),
            deadline: Duration::from_secs(120),
        }
    }
}

/// What is agreed on with the kernel when the mount begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    max_write_bytes: u32,
    max_background: u16,
}

impl Offer {
    pub(super) fn apply(self, config: &mut KernelConfig) {
        for flag in WANTED {
            if let Err(missing) = config.add_capabilities(*flag) {
                debug!("this kernel lacks {missing:?}");
            }
        }
        // Each answers the nearest value that is possible.
        if let Err(nearest) = config.set_max_write(self.max_write_bytes) {
            let _ = config.set_max_write(nearest);
        }
        if let Err(nearest) = config.set_max_background(self.max_background) {
            let _ = config.set_max_background(nearest);
        }
        let _ = config.set_time_granularity(Duration::from_nanos(1));
    }
}

/// How a session ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionEnd {
    /// The mount was taken off, by us or by someone else.
    Unmounted,
    /// The connection to the kernel broke.
    Failed(String),
}

/// A live mount. Dropping it takes the mount off.
#[derive(Debug)]
pub struct Mounted {
    point: MountPoint,
    stats: Arc<OperationStats>,
    end: watch::Receiver<Option<SessionEnd>>,
}

/// Mounts `operations` on the directory `mountpoint`, which has no symbolic links in it, and serves it until it
/// is taken off. When this returns, programs can use it.
///
/// Operations that have to wait run on `runtime`. `notifier` is attached, and closed at the end.
///
/// # Errors
/// [`MountError`]; nothing is mounted then.
pub fn mount<O: Operations>(
    mountpoint: &Path,
    options: &MountOptions,
    config: &SessionConfig,
    operations: Arc<O>,
    notifier: Arc<QueuedNotifier>,
    runtime: Handle,
) -> Result<Mounted, MountError> {
    let stats = Arc::new(OperationStats::default());
    let dispatcher = Dispatcher { runtime, deadline: config.deadline, stats: Arc::clone(&stats) };
    let offer = Offer { max_write_bytes: config.max_write_bytes, max_background: config.max_background };
    let adapter = Adapter { operations, dispatcher, offer };

    let device = mount::mount(mountpoint, options)?;
    let point = match mount::located(mountpoint) {
        Ok(point) => point,
        Err(error) => {
            drop(mount::detach(mountpoint));
            return Err(MountError::failed("the new mount cannot be found", error));
        }
    };
    let end = match serve(adapter, device, config, &notifier, &point) {
        Ok(end) => end,
        Err(error) => {
            notifier.close();
            drop(point.detach());
            return Err(error);
        }
    };
    if let Some(bytes) = config.read_ahead_bytes
        && let Err(error) = point.set_read_ahead(bytes)
    {
        debug!("the kernel's read-ahead stays as it is: {error}");
    }
    info!(mountpoint = %point.path.display(), "mounted");
    Ok(Mounted { point, stats, end })
}

/// Shakes hands with the kernel and starts the threads.
fn serve<O: Operations>(
    adapter: Adapter<O>,
    device: std::os::fd::OwnedFd,
    config: &SessionConfig,
    notifier: &Arc<QueuedNotifier>,
    point: &MountPoint,
) -> Result<watch::Receiver<Option<SessionEnd>>, MountError> {
    let mut fuser_config = Config::default();
    fuser_config.n_threads = Some(config.threads.max(1));
    // Without allow_other the kernel keeps other users out. fuser's own check would add to that a refusal of
    // close(2) by another user who was handed an open file.
    let session = Session::from_fd(adapter, device, SessionACL::All, fuser_config)
        .map_err(|error| MountError::failed("the kernel did not accept the session", error))?;
    notifier
        .attach(session.notifier())
        .map_err(|error| MountError::failed("starting the notifier", error))?;
    let (send, end) = watch::channel(None);
    let (notifier, point) = (Arc::clone(notifier), point.clone());
    std::thread::Builder::new()
        .name("fuse-session".to_owned())
        .spawn(move || {
            let outcome = session.run();
            notifier.close();
            send.send_replace(Some(ended(outcome, &point)));
        })
        .map_err(|error| MountError::failed("starting the session", error))?;
    Ok(end)
}

fn ended(outcome: io::Result<()>, point: &MountPoint) -> SessionEnd {
    let Err(error) = outcome else {
        info!(mountpoint = %point.path.display(), "unmounted");
        return SessionEnd::Unmounted;
    };
    error!(mountpoint = %point.path.display(), "the connection to the kernel broke: {error}");
    if let Err(error) = point.detach() {
        warn!(mountpoint = %point.path.display(), "cannot be unmounted: {error}");
    }
    SessionEnd::Failed(error.to_string())
}

impl Mounted {
    /// Where.
    pub fn mountpoint(&self) -> &Path {
        &self.point.path
    }

    /// Counters of the kernel's requests.
    pub fn stats(&self) -> &Arc<OperationStats> {
        &self.stats
    }

    /// Whether the kernel sends no more requests.
    pub fn is_ended(&self) -> bool {
        self.end.borrow().is_some()
    }

    /// Whether the mount is still at its path; it may have been taken off while files are open in it, which are
    /// served until they are closed.
    pub fn is_attached(&self) -> bool {
        !self.is_ended() && self.point.is_there()
    }

    /// Waits until the kernel sends no more requests: the mount was taken off and the last file closed.
    pub async fn ended(&self) -> SessionEnd {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(SessionEnd::Unmounted),
            Err(_) => SessionEnd::Failed("the session thread is gone".to_owned()),
        }
    }

    /// Takes the mount off its path at once; open files are served until they are closed, see [`Self::ended`].
    /// Nothing when it is off already, or something else is mounted over it.
    ///
    /// # Errors
    /// When the kernel or `fusermount3` refuses.
    pub async fn unmount(&self) -> io::Result<()> {
        if self.is_ended() {
            return Ok(());
        }
        let point = self.point.clone();
        // The kernel writes dirty pages of memory maps first, which are requests to this daemon.
        tokio::task::spawn_blocking(move || point.detach()).await.map_err(io::Error::other)?
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.is_ended() {
            return;
        }
        let point = self.point.clone();
        let (done, wait) = mpsc::channel();
        let spawned = std::thread::Builder::new().name("fuse-unmount".to_owned()).spawn(move || {
            if let Err(error) = point.detach() {
                warn!(mountpoint = %point.path.display(), "cannot be unmounted: {error}");
            }
            let _ = done.send(());
        });
        if spawned.is_ok() {
            let _ = wait.recv_timeout(DROP_WAIT);
        }
    }
}
