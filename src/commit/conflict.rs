//! Bytes that lost against another client's change: kept in a file of their own, beside a description.

use std::fs::OpenOptions;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::file::{Capture, File};
use super::{Committer, Job};
use crate::content::Stream;
use crate::fs::error::{Error, Result};
use crate::runtime::disk::disk;

/// Bytes that are copied at a time.
const COPY_BYTES: u64 = 8 << 20;

/// Keeps what a file has here and S3 has not; says where, for the log and for the caller's error.
pub(crate) async fn keep(committer: &Arc<Committer>, job: &Job, file: &Arc<File>) -> Result<PathBuf> {
    copy_out(&committer.config.conflicts_dir, job, file).await
}

async fn copy_out(dir: &Path, job: &Job, file: &Arc<File>) -> Result<PathBuf> {
    let capture = file.capture();
    let target = target(dir, job);
    let path = target.clone();
    let out = disk(move || OpenOptions::new().write(true).create_new(true).mode(0o600).open(path))
        .await
        .map_err(|e| Error::local("creating a conflict file", e))?;
    let out = Arc::new(out);
    // What S3 no longer has may be in the cache still; what is not stays a hole and is named.
    let missing = copy_ranges(file, &capture, &out).await?;
    let description = describe(job, &capture, &missing);
    let note = target.with_extension("json");
    disk(move || {
        out.sync_all()?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(note)?;
        file.write_all(description.as_bytes())?;
        file.sync_all()
    })
    .await
    .map_err(|e| Error::local("writing a conflict file", e))?;
    Ok(target)
}

async fn copy_ranges(
    file: &Arc<File>,
    capture: &Capture,
    out: &Arc<std::fs::File>,
) -> Result<Vec<Range<u64>>> {
    let stream = Stream::default();
    let mut missing = Vec::new();
    for (range, _) in &capture.sources {
        let mut at = range.start;
        while at < range.end {
            let len = (range.end - at).min(COPY_BYTES);
            match file.read(&stream, at, len as usize).await {
                Ok(bytes) => {
                    let out = out.clone();
                    disk(move || out.write_all_at(&bytes, at))
                        .await
                        .map_err(|e| Error::local("writing a conflict file", e))?;
                }
                Err(Error::Stale(_) | Error::Store(_)) => missing.push(at..at + len),
                Err(e) => return Err(e),
            }
            at += len;
        }
    }
    let (out, size) = (out.clone(), capture.size);
    disk(move || out.set_len(size)).await.map_err(|e| Error::local("writing a conflict file", e))?;
    Ok(missing)
}

/// `<seconds>-<nanoseconds>-<last part of the key>.bytes`: sorts by time and says whose it is.
fn target(dir: &Path, job: &Job) -> PathBuf {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let last = job.path.key.rsplit('/').next().unwrap_or_default();
    let name: String = last
        .chars()
        .take(40)
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
        .collect();
    dir.join(format!("{}-{:09}-{name}.bytes", now.as_secs(), now.subsec_nanos()))
}

fn describe(job: &Job, capture: &Capture, missing: &[Range<u64>]) -> String {
    let base = job.version.as_ref().map(|v| v.etag.unquoted().to_owned());
    let missing: Vec<_> = missing.iter().map(|r| [r.start, r.end]).collect();
    serde_json::json!({
        "bucket": &*job.path.bucket,
        "key": &*job.path.key,
        "size": capture.size,
        "based_on_etag": base,
        "metadata": job.properties.metadata,
        "content_type": job.properties.content_type,
        "missing_ranges": missing,
    })
    .to_string()
}
