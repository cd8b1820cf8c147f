//! A request body on its way into storage: received, counted, hashed, and put into memory or a file.
//!
//! In memory the chunks are kept as they arrive; small bodies are copied into a buffer of their size, because a
//! chunk keeps the whole receive buffer alive that it was cut from. Nothing is visible before the caller commits
//! the content; a body that breaks off leaves nothing behind.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::StatusCode;
use s3s::dto::StreamingBlob;
use s3s::{S3Error, S3Result, s3_error};

use crate::api;
use crate::checksums::{Announced, Digests, StoredChecksum};
use crate::content::{BodyFile, Content, Source};
use crate::storage::Storage;

/// Bodies up to this size are copied together.
const COMPACT_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes collected before they are written to a body file.
const WRITE_BYTES: usize = 1024 * 1024;

/// A body that has arrived whole and matched its digests.
pub(crate) struct Received {
    pub(crate) content: Content,
    pub(crate) digests: Digests,
    pub(crate) checksum: Option<StoredChecksum>,
}

/// Receives a body of `expected_len` bytes (unknown: None).
///
/// # Errors
/// IncompleteBody when it breaks off, XAmzContentSHA256Mismatch when it came whole and its signed hash is wrong,
/// BadDigest, InternalError from the disk.
pub(crate) async fn receive(
    storage: &Storage,
    body: Option<StreamingBlob>,
    expected_len: Option<u64>,
    announced: &Announced,
    with_md5: bool,
) -> S3Result<Received> {
    let mut hasher = announced.hasher(with_md5);
    let mut sink = Sink::new(storage);
    let mut len = 0;
    if let Some(mut body) = body {
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| broken_body(error, len, expected_len))?;
            len += chunk.len() as u64;
            hasher.update(&chunk);
            sink.push(chunk).await.map_err(S3Error::internal_error)?;
        }
    }
    if expected_len.is_some_and(|expected| expected != len) {
        return Err(s3_error!(IncompleteBody));
    }
    let digests = hasher.finish();
    let checksum = announced.verify(&digests)?;
    let content = sink.finish(len).await.map_err(S3Error::internal_error)?;
    Ok(Received { content, digests, checksum })
}

fn broken_body(error: s3s::StdError, len: u64, expected_len: Option<u64>) -> S3Error {
    // The protocol layer keeps the type of its error to itself; a whole body can only fail by its hash.
    if expected_len == Some(len) {
        let message = "The provided 'x-amz-content-sha256' header does not match what was computed.";
        return api::error(StatusCode::BAD_REQUEST, "XAmzContentSHA256Mismatch", message);
    }
    S3Error::with_source(s3s::S3ErrorCode::IncompleteBody, error)
}

enum Sink {
    Memory(Vec<Bytes>),
    File { body: Arc<BodyFile>, file: Option<File>, pending: Vec<Bytes>, pending_bytes: usize },
}

fn append(file: Option<File>, body: &BodyFile, chunks: &[Bytes]) -> io::Result<File> {
    let mut file = match file {
        Some(file) => file,
        None => File::create_new(&body.path)?,
    };
    for chunk in chunks {
        file.write_all(chunk)?;
    }
    Ok(file)
}

impl Sink {
    fn new(storage: &Storage) -> Self {
        match storage.directory() {
            None => Sink::Memory(Vec::new()),
            Some(directory) => Sink::File {
                body: directory.body_file(storage.next_id()),
                file: None,
                pending: Vec::new(),
                pending_bytes: 0,
            },
        }
    }

    async fn push(&mut self, chunk: Bytes) -> io::Result<()> {
        match self {
            Sink::Memory(chunks) => {
                chunks.push(chunk);
                Ok(())
            }
            Sink::File { pending, pending_bytes, .. } => {
                *pending_bytes += chunk.len();
                pending.push(chunk);
                if *pending_bytes >= WRITE_BYTES { self.flush().await } else { Ok(()) }
            }
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        if let Sink::File { body, file, pending, pending_bytes } = self {
            let (body, opened) = (Arc::clone(body), file.take());
            let chunks = std::mem::take(pending);
            *pending_bytes = 0;
            let written = tokio::task::spawn_blocking(move || append(opened, &body, &chunks)).await;
            *file = Some(written.map_err(io::Error::other)??);
        }
        Ok(())
    }

    async fn finish(mut self, len: u64) -> io::Result<Content> {
        if len == 0 {
            return Ok(Content::default());
        }
        self.flush().await?;
        match self {
            Sink::Memory(chunks) if len <= COMPACT_BYTES_MAX => {
                let mut whole = BytesMut::with_capacity(len as usize);
                chunks.iter().for_each(|chunk| whole.extend_from_slice(chunk));
                Ok(Content::from_chunks(vec![whole.freeze()]))
            }
            Sink::Memory(chunks) => Ok(Content::from_chunks(chunks)),
            Sink::File { body, .. } => Ok(Content::from_sources([(Source::File { body, offset: 0 }, len)])),
        }
    }
}
