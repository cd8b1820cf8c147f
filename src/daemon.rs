//! The daemon: wires all layers, keeps them running, takes them down in order.
//!
//! Order of the start: mountpoint, the locked directory of the mount, the log, the store and one request to
//! it, content, filesystem, the mount itself, the word that it is live. Whatever fails before the mount leaves
//! nothing behind but the directory.
//!
//! Order of the stop: what is left goes to S3 while the mount still answers, the mount is taken off, the
//! kernel's connection ends, what came in meanwhile goes to S3. Bytes that could not be brought there stay in
//! `staging/`.
//!
//! Deliberately does not: know clap, S3's or FUSE's types.

pub mod background;
mod layers;
pub mod mount_dir;
pub mod mountpoint;
mod preflight;
mod reporter;
pub mod run_state;
mod stop;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Resource;
use tokio::runtime::Handle;

use self::mount_dir::MountDir;
use self::reporter::Reporter;
use self::stop::{Drained, StopRequests};
use crate::config::machine::Machine;
use crate::config::quantity::show_size;
use crate::config::resolve::Settings;
use crate::failure::{Exit, Failure};
use crate::fs::filesystem::Filesystem;
use crate::fuse::{Mounted, QueuedNotifier};
use crate::telemetry::logs::{self, Sink};

/// Where the daemon runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// In the user's terminal, or under a service manager.
    Foreground,
    /// Started by `background::launch`, which waits for the word that the mount is live.
    Background,
}

/// Exit code of a start that a signal cut short, as shells write SIGINT.
const INTERRUPTED: u8 = 130;
/// Wait, once the mount is off, for programs to close what they have open in it.
const LAST_CLOSE_WAIT: Duration = Duration::from_secs(5);
/// Wait at the very end for blocking calls to return.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(2);
/// Files named on the last screen.
const LEFT_SHOWN_MAX: usize = 20;

/// Mounts, serves until the mount is taken off or a signal comes, brings everything to S3. Returns the exit
/// code.
///
/// # Errors
/// The screen of what went wrong, before the mount was live or at the end.
pub fn run(settings: Settings, machine: &Machine, role: Role) -> Result<u8, Failure> {
    let filter = logs::parse_filter(&settings.logging.filter)
        .map_err(|why| Failure::new(Exit::Usage, format!("--log-level: {why}")))?;
    let ready = mountpoint::prepare(&settings.mountpoint, settings.access.allow_other)?;
    keep_apart(&settings.local.mount_dir, &ready.path)?;
    let dir = MountDir::open(&settings.local.mount_dir, &ready.path)?;
    let sink = sink(&settings, role);
    let log = logs::start(filter, &sink).map_err(|error| {
        let path = sink.path().unwrap_or(Path::new("stderr")).display().to_string();
        Failure::new(Exit::CannotCreate, format!("the log {path} cannot be written"))
            .detail(error.to_string())
    })?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "start");
    for notice in settings.warnings.iter().chain(&ready.notices) {
        tell_user(role, notice);
    }
    if let Some(left) = &dir.left_behind {
        let (files, dir) = (count(left.files, "file"), left.dir.display());
        let size = show_size(left.bytes);
        tell_user(
            role,
            &format!("an earlier run did not bring everything to S3: {files} ({size}) put aside in {dir}"),
        );
    }
    raise_open_files();
    // A start through /proc/self/exe would be called "exe" in lists of processes.
    if let Err(error) = rustix::thread::set_name(c"pailfs") {
        tracing::debug!(%error, "the process keeps its name");
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("pailfs").build().map_err(
            |error| Failure::new(Exit::Internal, "cannot start threads").detail(error.to_string()),
        )?;
    let daemon =
        Daemon { settings, role, dir, mountpoint: ready.path, log, log_path: sink.path().map(Into::into) };
    let ended = runtime.block_on(daemon.serve(machine));
    // What still runs has nobody left to answer to.
    runtime.shutdown_timeout(SHUTDOWN_WAIT);
    ended
}

/// What one run of the daemon has.
struct Daemon {
    settings: Settings,
    role: Role,
    dir: MountDir,
    mountpoint: PathBuf,
    log: Option<File>,
    log_path: Option<PathBuf>,
}

impl Daemon {
    async fn serve(&self, machine: &Machine) -> Result<u8, Failure> {
        let mut requests = StopRequests::install()
            .map_err(|error| Failure::new(Exit::Internal, "cannot take signals").detail(error.to_string()))?;
        let (store, metrics) = tokio::select! {
            opened = layers::open_store(&self.settings) => opened?,
            _ = requests.next() => return Ok(INTERRUPTED),
        };
        let notifier = QueuedNotifier::new();
        let filesystem = layers::filesystem(&self.settings, &self.dir, store, notifier.clone())?;
        let mounted = self.mount(&filesystem, notifier).await?;
        let mut state = Reporter::new(machine, &self.mountpoint, &self.settings, self.log_path.clone());
        if let Err(error) = self.announce() {
            // Whoever asked for the mount is gone and would not know of it.
            tracing::error!(%error, "nobody waits for this mount any more");
            self.take_off(&mounted).await;
            state.ended(&[], None);
            return Ok(INTERRUPTED);
        }
        tokio::select! {
            name = requests.next() => tracing::info!("{name}: stopping"),
            end = mounted.ended() => tracing::info!(?end, "the mount was taken off: stopping"),
        }
        let left = self.stop(&filesystem, &mounted, &mut requests, &mut state).await;
        for operation in metrics.snapshot() {
            tracing::info!(
                operation = operation.operation.name(),
                count = operation.count,
                failed = operation.count - operation.successes,
                bytes_in = operation.bytes_in,
                bytes_out = operation.bytes_out,
                "requests"
            );
        }
        state.ended(&left, (!left.is_empty()).then(|| self.dir.staging()));
        if left.is_empty() {
            tracing::info!("everything is in S3");
            return Ok(0);
        }
        let what = format!("stopped with {} that is not in S3", count(left.len(), "file"));
        let failure =
            left.iter().take(LEFT_SHOWN_MAX).fold(Failure::new(Exit::NotSaved, what), |f, l| f.detail(l));
        tracing::error!("{}", left.join("; "));
        Err(failure.advise(format!("the bytes are kept in {}", self.dir.staging().display())))
    }

    async fn mount(
        &self,
        filesystem: &Arc<Filesystem>,
        notifier: Arc<QueuedNotifier>,
    ) -> Result<Mounted, Failure> {
        let (settings, mountpoint) = (self.settings.clone(), self.mountpoint.clone());
        let (filesystem, runtime) = (filesystem.clone(), Handle::current());
        let mounting = tokio::task::spawn_blocking(move || {
            layers::mount(&settings, &mountpoint, filesystem, notifier, runtime)
        });
        mounting
            .await
            .map_err(|error| Failure::new(Exit::Internal, "cannot mount").detail(error.to_string()))?
    }

    fn announce(&self) -> std::io::Result<()> {
        match self.role {
            Role::Foreground => Ok(()),
            Role::Background => background::announce_live(self.log.as_ref()),
        }
    }

    /// Brings everything to S3 and takes the mount off; returns a line for each file that is not there.
    async fn stop(
        &self,
        filesystem: &Arc<Filesystem>,
        mounted: &Mounted,
        requests: &mut StopRequests,
        state: &mut Reporter,
    ) -> Vec<String> {
        state.stopping();
        // The mount answers meanwhile: what is being copied out of it or written to it can still end well.
        let mut drained = stop::drain(&**filesystem, requests, |line| state.progress(line)).await;
        self.take_off(mounted).await;
        // Programs that have files open may still write to them until they, or this process, end.
        let gave_up = matches!(drained, Drained::GaveUp(_));
        if !gave_up && tokio::time::timeout(LAST_CLOSE_WAIT, mounted.ended()).await.is_err() {
            tracing::warn!("files are still open in the mount; their programs will see errors");
        }
        if !gave_up {
            drained = stop::drain(&**filesystem, requests, |line| state.progress(line)).await;
        }
        match drained {
            Drained::Clean => Vec::new(),
            Drained::Failed(files) => files.into_iter().map(|(path, why)| format!("{path}: {why}")).collect(),
            Drained::GaveUp(files) => files
                .into_iter()
                .map(|file| format!("{}: {} not uploaded", file.path, show_size(file.bytes)))
                .collect(),
        }
    }

    async fn take_off(&self, mounted: &Mounted) {
        if let Err(error) = mounted.unmount().await {
            tracing::error!(%error, mountpoint = %self.mountpoint.display(), "cannot be unmounted");
        }
    }
}

/// A cache inside the mount would wait for itself.
fn keep_apart(mount_dir: &Path, mountpoint: &Path) -> Result<(), Failure> {
    let existing = mount_dir.ancestors().find_map(|dir| dir.canonicalize().ok());
    if existing.is_some_and(|dir| dir.starts_with(mountpoint)) || mount_dir.starts_with(mountpoint) {
        let what = format!("the cache directory {} is inside the mountpoint", mount_dir.display());
        return Err(Failure::new(Exit::Usage, what).advise("name another one with --cache-dir"));
    }
    Ok(())
}

fn sink(settings: &Settings, role: Role) -> Sink {
    match (&settings.logging.file, role) {
        (Some(path), _) => Sink::File(path.clone()),
        (None, Role::Foreground) => Sink::Terminal,
        (None, Role::Background) => Sink::Rotated(settings.local.mount_dir.join("pailfs.log")),
    }
}

/// Something the user should see although it is no error: in the log, and on the terminal where that is not
/// the log.
fn tell_user(role: Role, notice: &str) {
    tracing::warn!("{notice}");
    if role == Role::Background {
        eprintln!("pailfs: {notice}");
    }
}

/// One descriptor per cached file can be more than the usual soft limit of 1,024.
fn raise_open_files() {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// `1 file`, `2 files`
fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
