//! A file on its way to a client: read piece by piece, as fast as the client takes it.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::task::JoinHandle;

use crate::metrics::{Metrics, Transfer};

/// Bytes of a piece: what a connection holds in memory at most, besides the kernel's own buffers. Larger ones were not faster.
const PIECE: u64 = 128 << 10;

pub(crate) struct FileBody {
    file: Arc<File>,
    at: u64,
    end: u64,
    read: Option<JoinHandle<io::Result<Bytes>>>,
    /// The piece before. Once the connection has sent it its memory takes the next one: a new piece each time costs as much as
    /// the copying.
    sent: Bytes,
    metrics: Arc<Metrics>,
    /// Counts as long as the body lives.
    transfer: Transfer,
}

impl FileBody {
    pub(crate) fn new(file: Arc<File>, part: Range<u64>, metrics: &Arc<Metrics>, transfer: Transfer) -> Self {
        let metrics = Arc::clone(metrics);
        Self { file, at: part.start, end: part.end, read: None, sent: Bytes::new(), metrics, transfer }
    }

    /// The file, which part of it is left, and what counts as long as it is sent.
    pub(crate) fn into_parts(self) -> (Arc<File>, Range<u64>, Transfer) {
        (self.file, self.at..self.end, self.transfer)
    }

    fn next(&mut self, bytes: Bytes) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.at += bytes.len() as u64;
        self.metrics.sent(bytes.len() as u64);
        self.sent = bytes.clone();
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.at >= self.end {
            return Poll::Ready(None);
        }
        if self.read.is_none() {
            let length = (self.end - self.at).min(PIECE) as usize;
            // What the page cache has is read at once. A disk that has to be waited for must not hold up other clients.
            let memory = std::mem::take(&mut self.sent).try_into_mut().unwrap_or_default();
            match in_memory(&self.file, self.at, length, memory) {
                Some(bytes) => return self.next(bytes),
                None => {
                    let (file, at) = (Arc::clone(&self.file), self.at);
                    self.read = Some(tokio::task::spawn_blocking(move || from_disk(&file, at, length)));
                }
            }
        }
        let Some(read) = &mut self.read else { return Poll::Pending };
        match Pin::new(read).poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(done) => {
                self.read = None;
                match done.map_err(io::Error::other).and_then(|read| read) {
                    Ok(bytes) => self.next(bytes),
                    // The connection ends before all bytes that were promised came, so that the client knows.
                    Err(error) => Poll::Ready(Some(Err(error))),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.at >= self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end - self.at)
    }
}

/// Reads what is in the page cache; none where the disk has to be asked, or where the kernel cannot tell.
fn in_memory(file: &File, at: u64, length: usize, mut bytes: BytesMut) -> Option<Bytes> {
    // What is there already is overwritten, and not filled with zeros again.
    bytes.resize(length, 0);
    let place = &mut [io::IoSliceMut::new(&mut bytes)];
    let read = rustix::io::preadv2(file, place, at, rustix::io::ReadWriteFlags::NOWAIT).ok()?;
    bytes.truncate(read);
    (read > 0).then(|| bytes.freeze())
}

fn from_disk(file: &File, at: u64, length: usize) -> io::Result<Bytes> {
    let mut bytes = vec![0; length];
    let read = file.read_at(&mut bytes, at)?;
    if read == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was sent"));
    }
    bytes.truncate(read);
    Ok(bytes.into())
}
