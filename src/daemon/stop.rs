//! Stopping: signals, and bringing what is left to S3 while telling how far it is.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::count;
use crate::config::quantity::show_size;

/// Time between two progress lines.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Files named when somebody is impatient.
const NAMED_MAX: usize = 20;

/// A file that is not wholly in S3.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pending {
    /// Its path below the mountpoint.
    pub path: String,
    /// Bytes to upload.
    pub bytes: u64,
}

/// What has to be brought to S3 before the daemon may end.
pub trait Drains: Send + Sync {
    /// Files that are not in S3 yet.
    fn pending(&self) -> Vec<Pending>;
    /// Uploads all of them; returns path and reason of those that failed.
    fn drain(&self) -> BoxFuture<'_, Vec<(String, String)>>;
}

/// How a drain ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Drained {
    /// Everything is in S3.
    Clean,
    /// These are not, with the reason.
    Failed(Vec<(String, String)>),
    /// Told to give up; these were left.
    GaveUp(Vec<Pending>),
}

/// Requests to stop. The first one starts the stop, the second asks what is still in flight, the third gives
/// up waiting.
pub struct StopRequests(UnboundedReceiver<&'static str>);

impl StopRequests {
    /// Takes SIGTERM, SIGINT and SIGHUP from now on. To be called inside the runtime.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn install() -> std::io::Result<Self> {
        let (sender, requests) = unbounded_channel();
        let kinds = [
            ("SIGTERM", SignalKind::terminate()),
            ("SIGINT", SignalKind::interrupt()),
            ("SIGHUP", SignalKind::hangup()),
        ];
        for (name, kind) in kinds {
            let mut signals = signal(kind)?;
            let sender: UnboundedSender<&'static str> = sender.clone();
            tokio::spawn(async move { while signals.recv().await.is_some() && sender.send(name).is_ok() {} });
        }
        Ok(Self(requests))
    }

    /// The next request; waits for ever when none can come any more.
    pub async fn next(&mut self) -> &'static str {
        match self.0.recv().await {
            Some(name) => name,
            None => std::future::pending().await,
        }
    }
}

/// Uploads what is left. `tell` gets a line about once a second, and one that names files when a request
/// arrives; after the second request the wait is given up.
pub async fn drain(work: &dyn Drains, requests: &mut StopRequests, mut tell: impl FnMut(String)) -> Drained {
    let mut asked = 0;
    let mut ticks = interval_at(Instant::now() + TELL_EVERY, TELL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut uploads = work.drain();
    loop {
        tokio::select! {
            failed = &mut uploads => {
                return if failed.is_empty() { Drained::Clean } else { Drained::Failed(failed) };
            }
            _ = ticks.tick() => tell(Summary(&work.pending()).to_string()),
            name = requests.next() => {
                asked += 1;
                let pending = work.pending();
                if asked > 1 {
                    return Drained::GaveUp(pending);
                }
                tell(format!("{name}: {}; once more gives up", Named(&pending)));
            }
        }
    }
}

/// `3 files, 20.5 MiB left to upload`
pub struct Summary<'a>(pub &'a [Pending]);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.iter().map(|file| file.bytes).fold(0, u64::saturating_add);
        write!(f, "{}, {} left to upload", count(self.0.len(), "file"), show_size(bytes))
    }
}

/// The same with the files named.
pub struct Named<'a>(pub &'a [Pending]);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Summary(self.0).fmt(f)?;
        for file in self.0.iter().take(NAMED_MAX) {
            write!(f, "\n  {} ({})", file.path, show_size(file.bytes))?;
        }
        if self.0.len() > NAMED_MAX {
            write!(f, "\n  and {} more", self.0.len() - NAMED_MAX)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use tokio::sync::Notify;

    use super::*;

    #[derive(Default)]
    struct Work {
        done: Notify,
        failed: Vec<(String, String)>,
    }

    impl Drains for Work {
        fn pending(&self) -> Vec<Pending> {
            vec![Pending { path: "a/b".into(), bytes: 3 << 20 }]
        }

        fn drain(&self) -> BoxFuture<'_, Vec<(String, String)>> {
            Box::pin(async {
                self.done.notified().await;
                self.failed.clone()
            })
        }
    }

    fn requests() -> (UnboundedSender<&'static str>, StopRequests) {
        let (sender, receiver) = unbounded_channel();
        (sender, StopRequests(receiver))
    }

    #[tokio::test(start_paused = true)]
    async fn tells_once_a_second_until_done() {
        let (_sender, mut requests) = requests();
        let work = Work::default();
        let mut lines = Vec::new();
        let drained = drain(&work, &mut requests, |line| {
            lines.push(line);
            if lines.len() == 3 {
                work.done.notify_one();
            }
        });
        assert_eq!(drained.await, Drained::Clean);
        assert_eq!(lines, vec!["1 file, 3 MiB left to upload"; 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_names_files_and_the_next_gives_up() {
        let (sender, mut requests) = requests();
        let work = Work::default();
        sender.send("SIGINT").unwrap();
        sender.send("SIGINT").unwrap();
        let mut lines = Vec::new();
        let drained = drain(&work, &mut requests, |line| lines.push(line)).await;
        assert_eq!(drained, Drained::GaveUp(work.pending()));
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains("a/b (3 MiB)"), "{lines:?}");
    }

    #[tokio::test]
    async fn failures_are_handed_on() {
        let (_sender, mut requests) = requests();
        let work = Work { failed: vec![("a".into(), "no space".into())], ..Work::default() };
        work.done.notify_one();
        let drained = drain(&work, &mut requests, |_| {}).await;
        assert_eq!(drained, Drained::Failed(work.failed.clone()));
    }
}
