//! The bytes of objects and parts: immutable sequences of segments in memory or in files.
//!
//! Owns slicing, joining and streaming. A copy, a part copy and the completion of an upload share segments and
//! move no bytes. A file is deleted when the last content that refers to it is dropped, unless the server is
//! closing: what is on disk then stays, and [`crate::directory`] sorts out orphans at the next start.
//!
//! It does not know about keys, ETags or checksums.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use s3s::StdError;
use s3s::stream::{ByteStream, RemainingLength};
use tokio::task::JoinHandle;

/// Bytes read from a file at once while a body is streamed out.
const FILE_BLOCK_BYTES: u64 = 1024 * 1024;

/// A file with body bytes, deleted with its last user.
#[derive(Debug)]
pub(crate) struct BodyFile {
    pub(crate) id: u64,
    pub(crate) path: PathBuf,
    /// Set when the server closes: from then on nothing is deleted.
    pub(crate) closing: Arc<AtomicBool>,
}

impl Drop for BodyFile {
    fn drop(&mut self) {
        if self.closing.load(Ordering::Acquire) {
            return;
        }
        let path = std::mem::take(&mut self.path);
        // Failure leaves an orphan, which the next start removes.
        let remove = move || {
            let _ = std::fs::remove_file(path);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

/// Where a segment's bytes are.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Memory(Bytes),
    File { body: Arc<BodyFile>, offset: u64 },
}

#[derive(Debug, Clone)]
struct Segment {
    /// Position in the content.
    start: u64,
    len: u64,
    source: Source,
}

/// An immutable sequence of bytes; cloning shares them.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    segments: Arc<[Segment]>,
    len: u64,
}

impl Default for Content {
    fn default() -> Self {
        Self { segments: Arc::new([]), len: 0 }
    }
}

impl Content {
    /// Content from pieces in order; empty ones are left out.
    pub(crate) fn from_sources(sources: impl IntoIterator<Item = (Source, u64)>) -> Self {
        let mut start = 0;
        let mut segments = Vec::new();
        for (source, len) in sources {
            if len > 0 {
                segments.push(Segment { start, len, source });
                start += len;
            }
        }
        Self { segments: segments.into(), len: start }
    }

    /// Content in memory.
    pub(crate) fn from_chunks(chunks: Vec<Bytes>) -> Self {
        Self::from_sources(chunks.into_iter().map(|chunk| {
            let len = chunk.len() as u64;
            (Source::Memory(chunk), len)
        }))
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The pieces with their lengths, in order.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (&Source, u64)> {
        self.segments.iter().map(|segment| (&segment.source, segment.len))
    }

    /// The bytes `range`, which is cut at the end of the content.
    pub(crate) fn slice(&self, range: std::ops::Range<u64>) -> Content {
        let end = range.end.min(self.len);
        if range.start == 0 && end == self.len {
            return self.clone();
        }
        let first = self.segments.partition_point(|segment| segment.start + segment.len <= range.start);
        let inside = self.segments[first..].iter().take_while(|segment| segment.start < end);
        Self::from_sources(inside.map(|segment| {
            let skip = range.start.saturating_sub(segment.start);
            let len = (segment.start + segment.len).min(end) - (segment.start + skip);
            let source = match &segment.source {
                Source::Memory(bytes) => Source::Memory(bytes.slice(skip as usize..(skip + len) as usize)),
                Source::File { body, offset } => {
                    Source::File { body: Arc::clone(body), offset: offset + skip }
                }
            };
            (source, len)
        }))
    }

    /// Several contents one after the other.
    pub(crate) fn concat<'a>(parts: impl IntoIterator<Item = &'a Content>) -> Content {
        let pieces = parts.into_iter().flat_map(Content::sources);
        Self::from_sources(pieces.map(|(source, len)| (source.clone(), len)))
    }

    /// The bytes as a stream for an answer.
    pub(crate) fn stream(&self) -> ContentStream {
        ContentStream {
            content: self.clone(),
            index: 0,
            offset: 0,
            file: None,
            reading: None,
            left: self.len,
        }
    }

    /// Hands every byte to `visit` in order; blocks on files.
    ///
    /// # Errors
    /// What reading a body file answers.
    pub(crate) fn visit_blocking(&self, mut visit: impl FnMut(&[u8])) -> io::Result<()> {
        for (source, len) in self.sources() {
            match source {
                Source::Memory(bytes) => visit(bytes),
                Source::File { body, offset } => {
                    let file = File::open(&body.path)?;
                    let mut block = vec![0; len.min(FILE_BLOCK_BYTES) as usize];
                    let mut done = 0;
                    while done < len {
                        let take = (len - done).min(FILE_BLOCK_BYTES) as usize;
                        file.read_exact_at(&mut block[..take], offset + done)?;
                        visit(&block[..take]);
                        done += take as u64;
                    }
                }
            }
        }
        Ok(())
    }
}

type BlockRead = JoinHandle<io::Result<(Arc<File>, Bytes)>>;

/// Streams a content segment by segment; files are read in blocks on the blocking pool.
pub(crate) struct ContentStream {
    content: Content,
    index: usize,
    /// Position inside the current segment.
    offset: u64,
    /// The file of the current segment, once it has been opened.
    file: Option<Arc<File>>,
    reading: Option<BlockRead>,
    left: u64,
}

fn read_block(
    opened: Option<Arc<File>>,
    body: &BodyFile,
    offset: u64,
    len: u64,
) -> io::Result<(Arc<File>, Bytes)> {
    let file = match opened {
        Some(file) => file,
        None => Arc::new(File::open(&body.path)?),
    };
    let mut block = vec![0; len as usize];
    file.read_exact_at(&mut block, offset)?;
    Ok((file, block.into()))
}

impl ContentStream {
    /// Books `len` bytes of the current segment as delivered.
    fn advance(&mut self, len: u64, segment_len: u64) {
        self.left -= len;
        self.offset += len;
        if self.offset >= segment_len {
            self.index += 1;
            self.offset = 0;
            self.file = None;
        }
    }
}

impl Stream for ContentStream {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(segment) = this.content.segments.get(this.index) else {
            return Poll::Ready(None);
        };
        let segment_len = segment.len;
        let (body, offset) = match &segment.source {
            Source::Memory(bytes) => {
                let bytes = bytes.clone();
                this.advance(segment_len, segment_len);
                return Poll::Ready(Some(Ok(bytes)));
            }
            Source::File { body, offset } => (body, offset + this.offset),
        };
        let reading = this.reading.get_or_insert_with(|| {
            let opened = this.file.take();
            let body = Arc::clone(body);
            let len = (segment_len - this.offset).min(FILE_BLOCK_BYTES);
            tokio::task::spawn_blocking(move || read_block(opened, &body, offset, len))
        });
        let outcome = ready!(Pin::new(reading).poll(cx));
        this.reading = None;
        match outcome {
            Ok(Ok((file, bytes))) => {
                this.file = Some(file);
                this.advance(bytes.len() as u64, segment_len);
                Poll::Ready(Some(Ok(bytes)))
            }
            Ok(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            Err(error) => Poll::Ready(Some(Err(error.into()))),
        }
    }
}

impl ByteStream for ContentStream {
    fn remaining_length(&self) -> RemainingLength {
        RemainingLength::new_exact(self.left as usize)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn text(content: &Content) -> String {
        let mut all = Vec::new();
        content.visit_blocking(|bytes| all.extend_from_slice(bytes)).unwrap();
        String::from_utf8(all).unwrap()
    }

    fn sample() -> Content {
        Content::from_chunks(vec![Bytes::from_static(b"abc"), Bytes::new(), Bytes::from_static(b"defg")])
    }

    #[test]
    fn slices_cut_across_segments() {
        let content = sample();
        assert_eq!(content.len(), 7);
        for start in 0..=7u64 {
            for end in start..=9 {
                let expected = &"abcdefg"[start as usize..end.min(7) as usize];
                assert_eq!(text(&content.slice(start..end)), expected, "{start}..{end}");
            }
        }
    }

    #[test]
    fn concat_shares_segments() {
        let content = sample();
        let joined = Content::concat([&content.slice(1..4), &Content::default(), &content]);
        assert_eq!(text(&joined), "bcdabcdefg");
        assert_eq!(joined.len(), 10);
    }

    #[test]
    fn a_dropped_body_file_is_deleted_unless_closing() {
        let dir = tempfile::tempdir().unwrap();
        for closing in [false, true] {
            let path = dir.path().join("body");
            std::fs::write(&path, b"0123456789").unwrap();
            let body = BodyFile { id: 1, path: path.clone(), closing: Arc::new(AtomicBool::new(closing)) };
            let content = Content::from_sources([(Source::File { body: Arc::new(body), offset: 2 }, 6)]);
            let part = content.slice(1..3);
            drop(content);
            assert_eq!(text(&part), "34");
            drop(part);
            assert_eq!(path.exists(), closing);
        }
    }
}
