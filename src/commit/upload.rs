//! The requests that put a file's content into S3: one PutObject, a server-side copy, or parts.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::file::{Capture, File};
use super::plan::{self, PlannedPart};
use super::{Committer, Job, is_conflict, store_kind};
use crate::content::Stream;
use crate::fs::error::{Error, Result};
use crate::runtime::budget::Permit;
use crate::runtime::disk::disk;
use crate::store::error::ErrorKind;
use crate::store::types::{Body, Condition, ObjectPath, Part, Properties, UploadId, Version, Written};

/// From this many bytes on that S3 has already, an edited file goes up in parts even below the threshold:
/// the server copies them faster than we could send them.
const COPY_WORTH_BYTES: u64 = 32 << 20;

/// How often an upload that lost its parts or met a concurrent one is begun again.
const UPLOAD_ATTEMPTS: u32 = 3;

impl Committer {
    /// Sends the content of a file with its attributes.
    pub(crate) async fn send_content(&self, job: &Job, file: &Arc<File>, capture: &Capture) -> Result<()> {
        let sent = self.send_captured(job, file, capture).await;
        let (written, body) = match sent {
            Err(e) if store_kind(&e).is_some_and(is_conflict) => (self.was_ours(job).await?.ok_or(e)?, None),
            sent => sent?,
        };
        self.sent_content(job, file, capture, &written, body).await;
        Ok(())
    }

    /// The content is in S3: takes that over. `body` is all of it, if it is at hand.
    pub(crate) async fn sent_content(
        &self,
        job: &Job,
        file: &Arc<File>,
        capture: &Capture,
        written: &Written,
        body: Option<Bytes>,
    ) {
        let version = self.committed(job, written, capture.size);
        let (file, path, store) = (file.clone(), job.path.clone(), self.content.clone());
        let capture = capture.clone();
        disk(move || {
            file.finish(&capture, &path, &version, &store);
            // Pieces of the version before that were fetched for the upload belong to the new one as well.
            if let (Some(body), false, Some(base)) = (body, file.dirty(), file.base()) {
                base.prime(0, &body);
            }
        })
        .await;
    }

    /// Sends in the way that moves the fewest bytes; gives back those that went up in one piece.
    async fn send_captured(
        &self,
        job: &Job,
        file: &Arc<File>,
        capture: &Capture,
    ) -> Result<(Written, Option<Bytes>)> {
        if capture.is_base()
            && let Some(base) = &capture.base
        {
            // A clone of another object, or bytes that turned out to be what S3 has.
            let condition = job.condition.clone();
            let (from, version) = (base.path(), base.version());
            let copied = self.copy(&from, &version, &job.path, condition, &job.properties).await?;
            return Ok((copied, None));
        }
        let copyable = if capture.base.is_some() { plan::copyable_bytes(&capture.sources) } else { 0 };
        if capture.size <= self.config.multipart_threshold_bytes && copyable < COPY_WORTH_BYTES {
            let (written, body) = self.send_whole(job, file, capture).await?;
            return Ok((written, Some(body)));
        }
        Ok((self.send_parts(job, file, capture).await?, None))
    }

    /// One PutObject with the bytes of one moment, which are known from then on.
    async fn send_whole(&self, job: &Job, file: &Arc<File>, capture: &Capture) -> Result<(Written, Bytes)> {
        let tags = self.tags(job).await?;
        let (body, _permit) = self.assemble(file, capture, 0..capture.size).await?;
        let sent = Body(body.clone());
        let written = self.store.put(&job.path, sent, &job.properties, &tags, job.condition.clone()).await?;
        Ok((written, body))
    }

    /// The bytes of a range for an upload, with the memory they take.
    async fn assemble(
        &self,
        file: &Arc<File>,
        capture: &Capture,
        range: Range<u64>,
    ) -> Result<(Bytes, Permit)> {
        let permit = self.budget.acquire(range.end - range.start).await;
        let mut pieces = Vec::new();
        if let Some(base) = &capture.base {
            let stream = Stream::default();
            for piece in File::base_pieces(capture, &range) {
                let bytes = base.read(&stream, piece.start, (piece.end - piece.start) as usize).await?;
                pieces.push((piece, bytes));
            }
        }
        let file = file.clone();
        let body = disk(move || file.body(range, &pieces)).await?;
        Ok((body, permit))
    }

    async fn send_parts(&self, job: &Job, file: &Arc<File>, capture: &Capture) -> Result<Written> {
        let part_size = plan::part_size_bytes(self.config.part_size_bytes, capture.size);
        let parts = plan::plan(&capture.sources, capture.base.is_some(), part_size);
        let parts = &parts;
        let make = |upload: UploadId| async move {
            stream::iter(parts.iter().cloned())
                .map(|part| self.send_part(job, file, capture, &upload, part))
                .buffered(self.config.upload_concurrency)
                .try_collect::<Vec<Part>>()
                .await
                .map(|parts| (upload.clone(), parts))
        };
        let tags = self.tags(job).await?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let done = self.upload(&job.path, &job.properties, &tags, job.condition.clone(), &make).await;
            match done {
                Err(Error::Store(e))
                    if attempt < UPLOAD_ATTEMPTS
                        && matches!(e.kind, ErrorKind::Conflict | ErrorKind::UploadGone) =>
                {
                    // 409 at completion means to begin again; an upload that is gone may have been completed
                    // by a request whose answer was lost.
                    if let Some(written) = self.was_ours(job).await? {
                        return Ok(written);
                    }
                }
                done => return done,
            }
        }
    }

    async fn send_part(
        &self,
        job: &Job,
        file: &Arc<File>,
        capture: &Capture,
        upload: &UploadId,
        part: PlannedPart,
    ) -> Result<Part> {
        if part.copy
            && let Some(base) = &capture.base
        {
            let (from, version) = (base.path(), base.version());
            let range = (part.range.start, part.range.end - part.range.start);
            let copied =
                self.store.copy_part(&job.path, upload, part.number, &from, &version.etag, range).await;
            return Ok(copied?);
        }
        let (body, _permit) = self.assemble(file, capture, part.range).await?;
        Ok(self.store.upload_part(&job.path, upload, part.number, Body(body)).await?)
    }

    /// One multipart upload: begun, filled by `make`, completed; given up when any of it fails.
    async fn upload<F>(
        &self,
        path: &ObjectPath,
        properties: &Properties,
        tags: &BTreeMap<String, String>,
        condition: Condition,
        make: impl Fn(UploadId) -> F,
    ) -> Result<Written>
    where
        F: Future<Output = Result<(UploadId, Vec<Part>)>>,
    {
        let upload = self.store.create_upload(path, properties, tags).await?;
        let done = match make(upload.clone()).await {
            Ok((_, parts)) => {
                self.store.complete_upload(path, &upload, &parts, condition).await.map_err(Error::from)
            }
            Err(e) => Err(e),
        };
        if done.is_err()
            && let Err(error) = self.store.abort_upload(path, &upload).await
        {
            tracing::warn!(%path, %error, "an unfinished multipart upload could not be aborted");
        }
        done
    }

    /// A server-side copy of an object that is too large for CopyObject.
    pub(crate) async fn copy_in_parts(
        &self,
        from: &ObjectPath,
        version: &Version,
        to: &ObjectPath,
        condition: Condition,
        properties: &Properties,
    ) -> Result<Written> {
        let parts = plan::plan(&[(0..version.size, super::extents::Source::Base)], true, 0);
        let tags = self.store.tags(from).await?;
        let parts = &parts;
        let make = |upload: UploadId| async move {
            stream::iter(parts.iter().cloned())
                .map(|part| {
                    let upload = upload.clone();
                    async move {
                        let range = (part.range.start, part.range.end - part.range.start);
                        let copied =
                            self.store.copy_part(to, &upload, part.number, from, &version.etag, range).await;
                        copied.map_err(Error::from)
                    }
                })
                .buffered(self.config.upload_concurrency)
                .try_collect::<Vec<Part>>()
                .await
                .map(|parts| (upload.clone(), parts))
        };
        self.upload(to, properties, &tags, condition, make).await
    }
}
