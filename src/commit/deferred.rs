//! Changes that wait a moment for others of the same file, and commits that failed and are tried again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::Committer;
use crate::fs::error::Error;
use crate::fs::types::Ino;

/// First and longest pause between two tries of a commit that nobody waits for.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(60);

/// Inodes that have a timer running.
#[derive(Default)]
pub struct Deferred {
    scheduled: Arc<Mutex<HashSet<Ino>>>,
}

impl Deferred {
    /// Has `ino` committed after `delay`, and again with growing pauses until S3 takes it. One timer per
    /// inode: what changes while it runs goes along.
    pub fn schedule(&self, committer: Arc<Committer>, ino: Ino, delay: Duration) {
        if !self.scheduled.lock().insert(ino) {
            return;
        }
        let scheduled = Arc::clone(&self.scheduled);
        tokio::spawn(async move {
            let mut pause = RETRY_FIRST;
            tokio::time::sleep(delay).await;
            loop {
                // Whatever changes from here on starts a timer of its own.
                scheduled.lock().remove(&ino);
                let Err(error) = committer.commit_deferred(ino).await else { return };
                let transient = match &error {
                    Error::Store(e) => e.kind.is_transient(),
                    Error::NoSpace | Error::Local { .. } => true,
                    _ => false,
                };
                let path = committer.names.table().display_path(ino);
                tracing::error!(path, %error, retry = transient, "a change is not in S3");
                if !transient {
                    committer.give_up_attributes(ino);
                    return;
                }
                if !scheduled.lock().insert(ino) {
                    return;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_LONGEST);
            }
        });
    }
}
