//! Going to the background: `pailfs mount` starts itself again with `--detached` and waits at a pipe until
//! that process says that the mount is live. Until then errors go straight to the user's terminal and
//! Ctrl-C reaches both; from then on the daemon has a session of its own and nothing of the terminal.
//!
//! A second start instead of fork(2), because a fork copies whatever threads held.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

use crate::failure::{Exit, Failure};

/// The flag that tells the second start what it is.
pub const DETACHED_FLAG: &str = "detached";

const LIVE: &str = "live";

/// Runs `pailfs mount --detached ARGUMENTS` and waits until it is live or has failed. `arguments` are those
/// after `mount`. Returns the exit code for this process; what went wrong was already printed by the other.
///
/// # Errors
/// [`Failure`] when the second start is not possible.
pub fn launch(program: &OsStr, arguments: &[OsString]) -> Result<u8, Failure> {
    let cannot = |error: io::Error| {
        Failure::new(Exit::Internal, "the background process cannot be started")
            .detail(error.to_string())
            .advise("try --foreground")
    };
    let mut child = Command::new("/proc/self/exe")
        .arg0(program)
        .args(["mount", "--detached"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(cannot)?;
    let mut line = String::new();
    if let Some(pipe) = child.stdout.take() {
        BufReader::new(pipe).read_line(&mut line).map_err(cannot)?;
    }
    if line.trim_end() == LIVE {
        // It lives on as a child of init once this process ends.
        return Ok(0);
    }
    let status = child.wait().map_err(cannot)?;
    if let Some(code) = status.code().and_then(|code| u8::try_from(code).ok()) {
        return Ok(if code == 0 { Exit::Internal.code() } else { code });
    }
    let signal = status.signal().unwrap_or_default();
    Err(Failure::new(Exit::Internal, format!("the background process was ended by signal {signal}")))
}

/// Says that the mount is live and lets go of the terminal: a session of its own, `/` as directory, null
/// as standard input and output, `log` (or null) as standard error.
///
/// # Errors
/// `BrokenPipe` when whoever waited for this is gone; the mount is then to be taken down again.
pub fn announce_live(log: Option<&File>) -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    // Not possible when this process already leads a group, which is as good.
    let _ = rustix::process::setsid();
    rustix::process::chdir("/")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stderr(log.unwrap_or(&null))?;
    let mut out = io::stdout();
    writeln!(out, "{LIVE}")?;
    out.flush()?;
    Ok(rustix::stdio::dup2_stdout(&null)?)
}
