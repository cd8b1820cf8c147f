//! Connections and bodies as faults and limits want them: a connection that can be reset or closed behind the
//! HTTP layer's back, request bodies that count and pace, answer bodies that also truncate and corrupt.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use s3s::StdError;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use crate::counters::{InFlight, Tally};

// 0 is an open connection.
const CLOSE_WHEN_FLUSHED: u8 = 1;
const RESET: u8 = 2;

/// The end of a connection, shared by the connection, its task and the requests on it.
#[derive(Debug, Default)]
pub(crate) struct Hangup {
    state: AtomicU8,
    notify: Notify,
}

impl Hangup {
    /// Ends the connection with a TCP reset, at once.
    pub(crate) fn reset(&self) {
        self.state.store(RESET, Ordering::Release);
        self.notify.notify_one();
    }

    /// Ends the connection when what was written so far has been handed to the kernel.
    pub(crate) fn close_when_flushed(&self) {
        self.state.store(CLOSE_WHEN_FLUSHED, Ordering::Release);
    }

    /// Returns when the connection has to be dropped.
    pub(crate) async fn demanded(&self) {
        self.notify.notified().await;
    }
}

/// A TCP stream that obeys a [`Hangup`].
pub(crate) struct Connection {
    stream: TcpStream,
    hangup: Arc<Hangup>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, hangup: Arc<Hangup>) -> Self {
        Self { stream, hangup }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.hangup.state.load(Ordering::Acquire) == RESET {
            // Without it the drop still closes, only politely.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// The HTTP layer comes here only when its own buffer is empty.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.hangup.state.load(Ordering::Acquire) == CLOSE_WHEN_FLUSHED {
            self.hangup.notify.notify_one();
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Lets bytes through at a rate.
struct Pace {
    bytes_per_s: u64,
    /// When the next piece may go.
    due: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s: bytes_per_s.max(1), due: None, sleep: None }
    }

    /// Bytes that may go in one piece: a hundredth of a second's worth.
    fn piece_len(&self) -> usize {
        (self.bytes_per_s / 100).clamp(1, 256 * 1024) as usize
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
        }
        Poll::Ready(())
    }

    /// Books a piece: the next waits until this one would have been transferred.
    fn book(&mut self, len: usize) {
        let due = self.due.unwrap_or_else(Instant::now)
            + Duration::from_secs_f64(len as f64 / self.bytes_per_s as f64);
        self.due = Some(due);
        if due > Instant::now() {
            self.sleep = Some(Box::pin(tokio::time::sleep_until(due)));
        }
    }
}

/// Where the bytes of a request come from; shared, so that the rest can be drained when nobody wanted it.
type SharedIncoming = Arc<Mutex<hyper::body::Incoming>>;

/// A request body that counts and paces.
pub(crate) struct RequestBody {
    incoming: SharedIncoming,
    counter: Arc<Tally>,
    pace: Option<Pace>,
}

/// The other end of a [`RequestBody`].
pub(crate) struct Remainder {
    incoming: SharedIncoming,
    counter: Arc<Tally>,
}

impl RequestBody {
    pub(crate) fn new(
        incoming: hyper::body::Incoming,
        counter: Arc<Tally>,
        rate: Option<u64>,
    ) -> (Self, Remainder) {
        let incoming = Arc::new(Mutex::new(incoming));
        let remainder = Remainder { incoming: Arc::clone(&incoming), counter: Arc::clone(&counter) };
        (Self { incoming, counter, pace: rate.map(Pace::new) }, remainder)
    }
}

fn poll_incoming(
    incoming: &SharedIncoming,
    counter: &Tally,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
    let polled = Pin::new(&mut *incoming.lock()).poll_frame(cx);
    if let Poll::Ready(Some(Ok(frame))) = &polled
        && let Some(data) = frame.data_ref()
    {
        counter.bytes_in.fetch_add(data.len() as u64, Ordering::Relaxed);
    }
    polled.map_err(StdError::from)
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let this = &mut *self;
        if let Some(pace) = &mut this.pace {
            ready!(pace.poll_ready(cx));
        }
        let polled = poll_incoming(&this.incoming, &this.counter, cx);
        if let (Some(pace), Poll::Ready(Some(Ok(frame)))) = (&mut this.pace, &polled) {
            pace.book(frame.data_ref().map_or(0, Bytes::len));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.lock().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.lock().size_hint()
    }
}

impl Remainder {
    /// Reads what is left of the body, so that an early answer finds a client that listens.
    pub(crate) async fn drain(&self) {
        loop {
            let frame = std::future::poll_fn(|cx| poll_incoming(&self.incoming, &self.counter, cx)).await;
            if !matches!(frame, Some(Ok(_))) {
                return;
            }
        }
    }
}

/// What is done to the body of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damage {
    Truncate,
    Corrupt,
}

/// An answer body that counts, paces and does damage.
pub(crate) struct ReplyBody {
    inner: s3s::Body,
    /// None for the control interface, which is not counted.
    request: Option<(Arc<Tally>, InFlight)>,
    pace: Option<Pace>,
    damage: Option<(Damage, Arc<Hangup>)>,
    /// Read from `inner`, not yet sent.
    held: Bytes,
    sent: u64,
    /// Where damage is done.
    middle: u64,
}

impl ReplyBody {
    /// Wraps `inner`, whose whole length is `len`, when it is known. The request counts as being served until the
    /// body is gone.
    pub(crate) fn new(
        inner: s3s::Body,
        len: Option<u64>,
        request: Option<(Arc<Tally>, InFlight)>,
        rate: Option<u64>,
        damage: Option<(Damage, Arc<Hangup>)>,
    ) -> Self {
        let middle = len.unwrap_or(0) / 2;
        let pace = rate.map(Pace::new);
        Self { inner, request, pace, damage, held: Bytes::new(), sent: 0, middle }
    }

    /// The next piece to send, cut from what is held.
    fn cut(&mut self) -> Option<Bytes> {
        let mut len = self.held.len();
        if let Some(pace) = &self.pace {
            len = len.min(pace.piece_len());
        }
        match &self.damage {
            Some((Damage::Truncate, hangup)) => {
                let left = self.middle.saturating_sub(self.sent);
                if left == 0 {
                    hangup.close_when_flushed();
                    return None;
                }
                len = len.min(usize::try_from(left).unwrap_or(usize::MAX));
                Some(self.held.split_to(len))
            }
            Some((Damage::Corrupt, _)) => {
                let piece = self.held.split_to(len);
                let position = self.middle.checked_sub(self.sent).filter(|p| *p < len as u64);
                Some(position.map_or(piece.clone(), |position| flipped(&piece, position as usize)))
            }
            None => Some(self.held.split_to(len)),
        }
    }
}

fn flipped(bytes: &Bytes, position: usize) -> Bytes {
    let mut copy = BytesMut::from(&bytes[..]);
    if let Some(byte) = copy.get_mut(position) {
        *byte = !*byte;
    }
    copy.freeze()
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let this = &mut *self;
        if let Some(pace) = &mut this.pace {
            ready!(pace.poll_ready(cx));
        }
        while this.held.is_empty() {
            match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.held = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let Some(piece) = this.cut() else {
            // The connection is dropped as soon as the first half is out.
            return Poll::Pending;
        };
        this.sent += piece.len() as u64;
        if let Some((tally, _)) = &this.request {
            tally.bytes_out.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        if let Some(pace) = &mut this.pace {
            pace.book(piece.len());
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.inner.size_hint();
        let held = self.held.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + held);
        }
        hint.set_lower(hint.lower() + held);
        hint
    }
}
