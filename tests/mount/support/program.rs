//! Programs that have to succeed, and conditions that have to come true.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a program may take.
const TIME_MAX: Duration = Duration::from_secs(600);

/// Runs a program in a process group of its own; a group that is not done in time is killed. Returns what it
/// printed.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let group = rustix::process::Pid::from_child(&child);
    let (done, timer) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        let late = timer.recv_timeout(TIME_MAX) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        if late {
            // Gone already is as good.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        late
    });
    let mut errors = child.stderr.take().unwrap();
    let errors = std::thread::spawn(move || {
        let mut text = Vec::new();
        errors.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    let mut output = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut output).unwrap();
    let output = String::from_utf8_lossy(&output).into_owned();
    let errors = errors.join().unwrap().unwrap();
    let status = child.wait().unwrap();
    drop(done);
    let late = watch.join().unwrap();
    assert!(!late, "{command:?} was not done in {TIME_MAX:?}:\n{output}{errors}");
    assert!(status.success(), "{command:?} ended with {status}:\n{output}{errors}");
    output
}

/// Waits until `condition` holds; fails after a minute.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "waited a minute for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
