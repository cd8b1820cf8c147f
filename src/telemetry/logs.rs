//! The log: to the terminal in the foreground, else to a file that is kept within bounds.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;

/// Bytes after which our own log file is put aside as `NAME.1`.
pub const ROTATE_AT_BYTES: u64 = 16 << 20;

/// Where the log goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sink {
    /// Standard error.
    Terminal,
    /// A file that is appended to for ever; somebody else rotates it.
    File(PathBuf),
    /// A file that is put aside as `NAME.1` when it has grown to [`ROTATE_AT_BYTES`].
    Rotated(PathBuf),
}

impl Sink {
    /// The file, when it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Terminal => None,
            Self::File(path) | Self::Rotated(path) => Some(path),
        }
    }
}

/// Reads a filter: one of the five levels, which then holds for pailfs while libraries stay quiet, or
/// directives like `pailfs::store=debug,hyper=info`.
///
/// # Errors
/// The reason why it is none.
pub fn parse_filter(text: &str) -> Result<EnvFilter, String> {
    let directives = match text.to_ascii_lowercase().as_str() {
        level @ ("error" | "warn") => level.to_owned(),
        "info" => "warn,pailfs=info".to_owned(),
        // Libraries below stay at info: at debug the SDK writes whole requests.
        level @ ("debug" | "trace") => format!("info,pailfs={level}"),
        _ if text.contains(['=', ',']) => text.to_owned(),
        _ => return Err(format!("'{text}' is no level: error, warn, info, debug or trace")),
    };
    EnvFilter::try_new(directives).map_err(|error| error.to_string())
}

/// Sets up the log of this process, panics included. To be called once. Returns a handle of the file that
/// standard error may be joined to.
///
/// # Errors
/// When the file cannot be opened, or the log was set up before.
pub fn start(filter: EnvFilter, sink: &Sink) -> io::Result<Option<File>> {
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    let joined = match sink {
        Sink::Terminal => {
            let colour = io::stderr().is_terminal();
            builder.with_ansi(colour).with_writer(io::stderr).try_init().map_err(io::Error::other)?;
            None
        }
        Sink::File(path) | Sink::Rotated(path) => {
            let limit = matches!(sink, Sink::Rotated(_)).then_some(ROTATE_AT_BYTES);
            let log = LogFile::open(path, limit)?;
            let joined = log.file.try_clone()?;
            builder.with_ansi(false).with_writer(Mutex::new(log)).try_init().map_err(io::Error::other)?;
            Some(joined)
        }
    };
    std::panic::set_hook(Box::new(|info| tracing::error!("{info}")));
    Ok(joined)
}

/// A log file that knows its size.
struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    limit: Option<u64>,
}

impl LogFile {
    fn open(path: &Path, limit: Option<u64>) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, bytes, limit })
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        fs::rename(&self.path, old)?;
        *self = Self::open(&self.path, self.limit)?;
        Ok(())
    }
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.limit.is_some_and(|limit| self.bytes >= limit) {
            self.rotate()?;
        }
        let written = self.file.write(line)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        for text in ["info", "WARN", "trace", "pailfs::store=debug", "warn,pailfs=trace"] {
            assert!(parse_filter(text).is_ok(), "{text}");
        }
        for text in ["", "loud", "pailfs=loud"] {
            assert!(parse_filter(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_full_file_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogFile::open(&path, Some(8)).unwrap();
        for line in ["one\n", "two\n", "three\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
        assert_eq!(fs::read_to_string(dir.path().join("log.1")).unwrap(), "one\ntwo\n");
        let again = LogFile::open(&path, Some(8)).unwrap();
        assert_eq!(again.bytes, 6);
    }
}
