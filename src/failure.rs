//! What a command says when it cannot go on: one screen that names what is wrong and what to do, and an exit
//! code that scripts can tell apart.
//!
//! Deliberately does not: log. A failure is printed once, by `main`.

use std::fmt;

/// Exit codes, in the spirit of sysexits.h(3head). The numbers are part of the interface and are listed in
/// `pailfs --help`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Exit {
    /// The command line, a `-o` option or a `PAILFS_*` variable is wrong.
    Usage = 64,
    /// The bucket or the mountpoint is not there, or DIR is no pailfs mount.
    NoInput = 66,
    /// The endpoint does not answer.
    Unavailable = 69,
    /// A fault of pailfs itself.
    Internal = 70,
    /// FUSE is missing or refuses.
    System = 71,
    /// The cache directory or the log file cannot be made or used.
    CannotCreate = 73,
    /// Stopped with files that are not in S3; their bytes are kept on disk.
    NotSaved = 74,
    /// The mountpoint or the cache directory is in use.
    Busy = 75,
    /// Credentials are missing, wrong or not allowed to do this; or the mountpoint is not ours to use.
    Denied = 77,
    /// Something to set right outside pailfs: the wrong region, a clock that is off.
    Config = 78,
}

impl Exit {
    /// Every code with what it means, for `--help`.
    pub const TABLE: [(u8, &'static str); 11] = [
        (0, "done; for mount: the directory is live"),
        (Self::Usage as u8, "wrong command line, -o option or PAILFS_* variable"),
        (Self::NoInput as u8, "no such bucket or mountpoint, or DIR is no pailfs mount"),
        (Self::Unavailable as u8, "the endpoint does not answer"),
        (Self::Internal as u8, "a fault of pailfs itself"),
        (Self::System as u8, "FUSE is missing or refuses to mount"),
        (Self::CannotCreate as u8, "the cache directory or the log file cannot be used"),
        (Self::NotSaved as u8, "stopped with files that are not in S3; their bytes are kept on disk"),
        (Self::Busy as u8, "the mountpoint or the cache directory is in use"),
        (Self::Denied as u8, "credentials are missing or wrong, or access is denied"),
        (Self::Config as u8, "wrong region, or a clock that is off"),
    ];

    /// The number a shell sees.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// Why a command ends early.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Exit code.
    pub exit: Exit,
    /// What is wrong, one sentence.
    pub what: String,
    /// Details from below: the system's or the store's own words.
    pub details: Vec<String>,
    /// What to do, one line each.
    pub advice: Vec<String>,
}

impl Failure {
    /// A failure with nothing but its sentence.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), details: Vec::new(), advice: Vec::new() }
    }

    /// Adds a line of detail.
    #[must_use]
    pub fn detail(mut self, line: impl Into<String>) -> Self {
        self.details.push(line.into());
        self
    }

    /// Adds a line of advice.
    #[must_use]
    pub fn advise(mut self, line: impl Into<String>) -> Self {
        self.advice.push(line.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pailfs: {}", self.what)?;
        for line in &self.details {
            write!(f, "\n  {line}")?;
        }
        if !self.advice.is_empty() {
            write!(f, "\n\nWhat to do:")?;
            for line in &self.advice {
                write!(f, "\n  - {line}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn screen_has_what_details_and_advice() {
        let failure =
            Failure::new(Exit::NoInput, "bucket x does not exist").detail("NoSuchBucket").advise("look at y");
        let screen = failure.to_string();
        assert_eq!(screen, "pailfs: bucket x does not exist\n  NoSuchBucket\n\nWhat to do:\n  - look at y");
    }

    #[test]
    fn codes_are_distinct() {
        let mut codes: Vec<u8> = Exit::TABLE.iter().map(|(code, _)| *code).collect();
        codes.dedup();
        assert_eq!(codes.len(), Exit::TABLE.len());
    }
}
