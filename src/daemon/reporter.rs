//! Tells how the daemon fares: in the log, and in the state file for `pailfs umount`.

use std::path::{Path, PathBuf};

use super::run_state::{RunState, StateFile};
use crate::config::machine::Machine;
use crate::config::resolve::Settings;

/// The daemon's state and the file it is in. A file that cannot be written costs `pailfs umount` its sight,
/// never the mount.
pub struct Reporter {
    file: Option<StateFile>,
    state: RunState,
}

impl Reporter {
    /// Writes the state of this process, which has just mounted.
    pub fn new(machine: &Machine, mountpoint: &Path, settings: &Settings, log: Option<PathBuf>) -> Self {
        let file = StateFile::own(machine, mountpoint);
        if file.is_none() {
            tracing::warn!("no place for the state file: 'pailfs umount' will not find this daemon");
        }
        let reporter =
            Self { file, state: RunState::of_this_process(mountpoint, settings.target.to_string(), log) };
        reporter.write();
        reporter
    }

    /// The daemon has begun to stop.
    pub fn stopping(&mut self) {
        self.state.stopping = true;
        self.write();
    }

    /// How far the stop is.
    pub fn progress(&mut self, line: String) {
        tracing::info!("{line}");
        self.state.progress = line;
        self.write();
    }

    /// The last word: `left` are the files that are not in S3, `kept_in` is where their bytes are.
    pub fn ended(&mut self, left: &[String], kept_in: Option<PathBuf>) {
        let Some(file) = &self.file else { return };
        if left.is_empty() {
            file.remove();
            return;
        }
        self.state.finish(left, kept_in);
        self.write();
    }

    fn write(&self) {
        let Some(file) = &self.file else { return };
        if let Err(error) = file.write(&self.state) {
            tracing::warn!(%error, "the state file cannot be written");
        }
    }
}
