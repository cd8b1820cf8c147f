//! What a test can turn while the server runs: latency, rate, faults.
//!
//! Locks: `faults`, held for a scan of the list.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// What happens to a request that a fault meets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultKind {
    /// 503 SlowDown; nothing is done.
    SlowDown,
    /// 500 InternalError; nothing is done.
    InternalError,
    /// The connection is reset without an answer; nothing is done.
    Reset,
    /// No answer. The request is served after all when the faults are cleared while the client still waits.
    Stall,
    /// The answer's Content-Length is right, the connection is closed after half of the body.
    TruncatedBody,
    /// One byte in the middle of the answer's body is wrong.
    CorruptBody,
    /// The request is carried out, and answered with 500 InternalError.
    DoneButError,
    /// An answer with this status and error code; nothing is done.
    Status {
        /// HTTP status, for example 409.
        code: u16,
        /// S3 error code, for example `ConditionalRequestConflict`.
        s3_code: String,
    },
}

/// A rule that meets requests by operation and key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Name of the S3 operation; None meets all.
    #[serde(default)]
    pub operation: Option<String>,
    /// Only requests whose key contains this; None meets all, also those without a key.
    #[serde(default)]
    pub key_contains: Option<String>,
    /// What happens.
    pub kind: FaultKind,
    /// How many requests are met before the rule is used up; None for ever.
    #[serde(default)]
    pub remaining: Option<u32>,
    /// How many matching requests pass before the first is met.
    #[serde(default)]
    pub skip: u32,
}

impl Fault {
    /// A rule for every request, for ever.
    pub fn new(kind: FaultKind) -> Self {
        Self { operation: None, key_contains: None, kind, remaining: None, skip: 0 }
    }

    /// Only requests of this operation.
    pub fn on(mut self, operation: &str) -> Self {
        self.operation = Some(operation.to_owned());
        self
    }

    /// Only requests whose key contains `part`.
    pub fn key(mut self, part: &str) -> Self {
        self.key_contains = Some(part.to_owned());
        self
    }

    /// Only the next `count` requests that match.
    pub fn times(mut self, count: u32) -> Self {
        self.remaining = Some(count);
        self
    }

    /// Lets `count` matching requests pass first.
    pub fn after(mut self, count: u32) -> Self {
        self.skip = count;
        self
    }

    fn matches(&self, operation: &str, key: Option<&str>) -> bool {
        self.operation.as_deref().is_none_or(|wanted| wanted == operation)
            && self.key_contains.as_deref().is_none_or(|part| key.is_some_and(|key| key.contains(part)))
    }
}

/// The settings that act on every request from the moment they are set.
#[derive(Debug)]
pub struct Knobs {
    latency_us: AtomicU64,
    /// 0 is no limit.
    rate_bytes_per_s: AtomicU64,
    faults: Mutex<Vec<Fault>>,
    hits: AtomicU64,
    /// Changes when faults are cleared, to wake what is stalled.
    cleared: watch::Sender<u64>,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            latency_us: AtomicU64::new(0),
            rate_bytes_per_s: AtomicU64::new(0),
            faults: Mutex::new(Vec::new()),
            hits: AtomicU64::new(0),
            cleared: watch::Sender::new(0),
        }
    }
}

impl Knobs {
    /// Delays the first byte of every answer by this much.
    pub fn set_latency(&self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latency_us.store(us, Ordering::Relaxed);
    }

    /// The delay of every answer.
    pub fn latency(&self) -> Duration {
        Duration::from_micros(self.latency_us.load(Ordering::Relaxed))
    }

    /// Limits the bodies of every request, each direction of each on its own, in bytes per second. None and 0
    /// are no limit. Requests that are being served keep the limit that they began with.
    pub fn set_rate(&self, bytes_per_s: Option<u64>) {
        self.rate_bytes_per_s.store(bytes_per_s.unwrap_or(0), Ordering::Relaxed);
    }

    /// The limit of each body in bytes per second.
    pub fn rate(&self) -> Option<u64> {
        Some(self.rate_bytes_per_s.load(Ordering::Relaxed)).filter(|rate| *rate > 0)
    }

    /// Adds a rule. Of several that match, the earliest that is not skipping meets the request.
    pub fn add_fault(&self, fault: Fault) {
        if fault.remaining != Some(0) {
            self.faults.lock().push(fault);
        }
    }

    /// Removes all rules and lets stalled requests go on.
    pub fn clear_faults(&self) {
        self.faults.lock().clear();
        self.cleared.send_modify(|times| *times += 1);
    }

    /// The rules that are not used up.
    pub fn faults(&self) -> Vec<Fault> {
        self.faults.lock().clone()
    }

    /// How many requests were met by a fault since the start.
    pub fn faults_hit(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// The fault that meets this request, if any, and uses it up by one.
    pub(crate) fn take_fault(&self, operation: &str, key: Option<&str>) -> Option<FaultKind> {
        let mut faults = self.faults.lock();
        for index in 0..faults.len() {
            let fault = &mut faults[index];
            if !fault.matches(operation, key) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            let kind = fault.kind.clone();
            if let Some(remaining) = &mut fault.remaining {
                *remaining -= 1;
                if *remaining == 0 {
                    faults.remove(index);
                }
            }
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Some(kind);
        }
        None
    }

    /// A receiver that changes with [`Self::clear_faults`].
    pub(crate) fn watch_cleared(&self) -> watch::Receiver<u64> {
        self.cleared.subscribe()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn rules_match_skip_and_run_out() {
        let knobs = Knobs::default();
        knobs.add_fault(Fault::new(FaultKind::SlowDown).on("PutObject").key("a/").times(2).after(1));
        knobs.add_fault(Fault::new(FaultKind::Reset).on("GetObject"));
        assert_eq!(knobs.take_fault("PutObject", Some("b")), None);
        assert_eq!(knobs.take_fault("PutObject", None), None);
        assert_eq!(knobs.take_fault("PutObject", Some("a/1")), None);
        assert_eq!(knobs.take_fault("PutObject", Some("a/1")), Some(FaultKind::SlowDown));
        assert_eq!(knobs.take_fault("GetObject", None), Some(FaultKind::Reset));
        assert_eq!(knobs.take_fault("PutObject", Some("x/a/2")), Some(FaultKind::SlowDown));
        assert_eq!(knobs.take_fault("PutObject", Some("a/1")), None);
        assert_eq!(knobs.faults().len(), 1);
        assert_eq!(knobs.faults_hit(), 3);
        knobs.clear_faults();
        assert_eq!(knobs.take_fault("GetObject", None), None);
    }

    #[test]
    fn faults_come_as_json() {
        let fault: Fault = serde_json::from_str(r#"{"kind":"SlowDown"}"#).unwrap();
        assert_eq!(fault, Fault::new(FaultKind::SlowDown));
        let text = r#"{"operation":"PutObject","remaining":3,"kind":{"Status":{"code":409,"s3_code":"X"}}}"#;
        let fault: Fault = serde_json::from_str(text).unwrap();
        let kind = FaultKind::Status { code: 409, s3_code: "X".into() };
        assert_eq!(fault, Fault::new(kind).on("PutObject").times(3));
    }
}
