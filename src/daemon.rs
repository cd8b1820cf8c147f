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
pub mod run_state;
mod stop;

use std::path::Path;

use rustix::process::Resource;

use self::mount_dir::MountDir;
use self::stop::StopRequests;
use crate::config::machine::Machine;
use crate::config::quantity::show_size;
use crate::config::resolve::Settings;
use crate::failure::{Exit, Failure};
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
        tell_user(
            role,
            &format!(
                "an earlier run ended before everything was in S3: {} files ({}) were put aside in {}",
                left.files,
                show_size(left.bytes),
                left.dir.display()
            ),
        );
    }
    raise_open_files();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("pailfs").build().map_err(
            |error| Failure::new(Exit::Internal, "cannot start threads").detail(error.to_string()),
        )?;
    let _ = (machine, log);
    runtime.block_on(serve(&settings))
}

async fn serve(settings: &Settings) -> Result<u8, Failure> {
    let mut requests = StopRequests::install()
        .map_err(|error| Failure::new(Exit::Internal, "cannot take signals").detail(error.to_string()))?;
    let (_store, _metrics) = tokio::select! {
        opened = layers::open_store(settings) => opened?,
        _ = requests.next() => return Ok(INTERRUPTED),
    };
    Err(Failure::new(Exit::Internal, "not wired yet"))
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
