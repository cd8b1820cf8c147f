//! `pailfs umount`: asks the daemon of a mount to stop, shows what it still uploads, waits for its end.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ArgMatches;

use crate::config::machine::Machine;
use crate::daemon::mountpoint::{self, FILESYSTEM_TYPE, MountEntry};
use crate::daemon::run_state::{Process, RunState, StateFile};
use crate::failure::{Exit, Failure};

/// How often the daemon's progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Unmounts the directory that `matches` names.
pub fn run(matches: &ArgMatches) -> Result<u8, Failure> {
    let machine = Machine::detect();
    let given = matches.get_one::<PathBuf>("dir").map(PathBuf::as_path).unwrap_or(Path::new(""));
    let dir = mountpoint::canonical(given).map_err(|error| {
        Failure::new(Exit::NoInput, format!("{} cannot be looked at", given.display()))
            .detail(error.to_string())
    })?;
    let entry = mountpoint::mounted_at(&dir).map_err(internal)?;
    if let Some(other) = entry.as_ref().filter(|entry| entry.kind != FILESYSTEM_TYPE) {
        let what = format!("{} is no pailfs mount: {} ({})", dir.display(), other.source, other.kind);
        return Err(Failure::new(Exit::NoInput, what).advise(format!("umount {}", dir.display())));
    }
    let found = StateFile::find(&machine, &dir, entry.as_ref().and_then(|entry| entry.user));
    let running = found.as_ref().and_then(|(_, state)| state.process());
    match (found, running, entry) {
        (Some((file, state)), Some(process), _) => stop(&dir, &file, &state, &process),
        (found, None, Some(entry)) => without_daemon(&dir, &entry, found.map(|(file, _)| file)),
        (Some((file, state)), None, None) => {
            // Ended since: what it left unsaved is told once.
            let outcome = outcome(&dir, &file, Some(state));
            if outcome.is_ok() { Err(not_mounted(&dir)) } else { outcome }
        }
        (None, _, None) => Err(not_mounted(&dir)),
        (None, Some(_), Some(_)) => Err(internal(io::Error::other("a process without a state"))),
    }
}

fn stop(dir: &Path, file: &StateFile, state: &RunState, process: &Process) -> Result<u8, Failure> {
    // A daemon that is stopping already would take another signal for impatience.
    if !state.stopping {
        process.terminate().map_err(|error| {
            let what =
                format!("the daemon of {} (process {}) may not be stopped by you", dir.display(), state.pid);
            Failure::new(Exit::Denied, what)
                .detail(error.to_string())
                .advise("run this as the user who mounted it, or as root")
        })?;
    }
    let mut last = state.clone();
    let mut shown = String::new();
    while !process.wait(LOOK_EVERY).map_err(internal)? {
        let Some(now) = file.read() else { continue };
        if now.progress != shown && !now.progress.is_empty() {
            eprintln!("{}", now.progress);
            shown.clone_from(&now.progress);
        }
        last = now;
    }
    if mountpoint::mounted_at(dir).map_err(internal)?.is_some_and(|entry| is_dead(dir, &entry)) {
        mountpoint::detach(dir).map_err(internal)?;
    }
    let left = file.read().filter(|now| now.pid == last.pid);
    outcome(dir, file, left)
}

/// What the ended daemon's last word says; none means that everything is in S3.
fn outcome(dir: &Path, file: &StateFile, left: Option<RunState>) -> Result<u8, Failure> {
    let Some(state) = left else { return Ok(0) };
    file.remove();
    let mut failure = if state.left.is_empty() {
        Failure::new(Exit::NotSaved, format!("the daemon of {} ended before it was done", dir.display()))
            .advise("mount it again: what was not uploaded is put aside and named")
    } else {
        let what = format!("{} is unmounted, but not everything is in S3", dir.display());
        state.left.iter().take(20).fold(Failure::new(Exit::NotSaved, what), |f, line| f.detail(line))
    };
    if let Some(kept) = &state.kept_in {
        failure = failure.advise(format!("the bytes are kept in {}", kept.display()));
    }
    if let Some(log) = &state.log {
        failure = failure.advise(format!("the log tells why: {}", log.display()));
    }
    Err(failure)
}

fn is_dead(dir: &Path, entry: &MountEntry) -> bool {
    entry.kind == FILESYSTEM_TYPE && mountpoint::is_stale(dir)
}

fn without_daemon(dir: &Path, entry: &MountEntry, file: Option<StateFile>) -> Result<u8, Failure> {
    if !is_dead(dir, entry) {
        let what = format!("the daemon of {} is not to be found", dir.display());
        return Err(Failure::new(Exit::NoInput, what)
            .detail("it was started by another user, or in another container")
            .advise("run this as the user who mounted it")
            .advise(format!(
                "or: fusermount3 -u {}; the daemon uploads what is left, unseen",
                dir.display()
            )));
    }
    mountpoint::detach(dir).map_err(|error| {
        Failure::new(Exit::Denied, format!("the dead mount on {} cannot be cleared", dir.display()))
            .detail(error.to_string())
            .advise(format!("as root: umount -l {}", dir.display()))
    })?;
    if let Some(file) = file {
        file.remove();
    }
    eprintln!("the daemon of {} was dead; its mount is cleared", dir.display());
    eprintln!("what it had not uploaded is put aside and named at the next mount of {}", entry.source);
    Ok(0)
}

fn not_mounted(dir: &Path) -> Failure {
    Failure::new(Exit::NoInput, format!("nothing is mounted on {}", dir.display()))
}

fn internal(error: io::Error) -> Failure {
    Failure::new(Exit::Internal, "cannot unmount").detail(error.to_string())
}
