//! Frames of an image, in order: from the node's own cache where that has them, else from the server. Each is checked.

use std::io::Read;

use super::fetch::{Client, brisk};
use super::index::{Frame, INDEX_LIMIT, Index, sha256};
use super::packed::Server;
use super::servers::Servers;
use crate::cmdline::origin;
use crate::image::cache::Cache;
use crate::{Pause, say};

/// How often a broken download is taken up again before the whole attempt starts over.
const RESUMES: u32 = 20;

/// Takes a frame, which is what the index says.
pub(crate) type Take<'a> = &'a mut dyn FnMut(&Frame, Vec<u8>) -> Result<(), String>;

/// Where the frames of an image come from.
pub(crate) struct Download<'a> {
    /// Asks the server.
    pub client: &'a Client,
    /// Where the image is.
    servers: &'a Servers,
    /// What it must be.
    pub index: &'a Index,
    /// Hears how many bytes of it were fetched and checked.
    moved: &'a dyn Fn(u64),
    /// A disk of the node that has some of it.
    pub cache: Option<&'a mut Cache>,
    /// The next frame.
    next: usize,
    /// Tenths of the image that were said to be there.
    shown: u64,
    /// Bytes that the server sent.
    fetched: u64,
}

enum Trouble {
    Broken(String),
    Final(String),
}

impl<'a> Download<'a> {
    /// Nothing is asked for yet.
    pub(crate) fn new(server: &Server<'a>, cache: Option<&'a mut Cache>) -> Self {
        let Server { client, servers, index, moved } = *server;
        Self { client, servers, index, moved, cache, next: 0, shown: 0, fetched: 0 }
    }

    /// Gives all frames in their order; a broken stream is taken up at its frame.
    ///
    /// # Errors
    /// A text: what the server does wrong, or what `take` says.
    pub(crate) fn run(mut self, take: Take<'_>) -> Result<(), String> {
        let Self { servers, index, .. } = self;
        let (mut resumes, mut replaced) = (0, 0);
        let mut pause = Pause::new();
        say!("fetching {}: {} MiB", servers.url(), index.size >> 20);
        while let Some(frame) = index.frames.get(self.next) {
            if let Some(bytes) = self.cache.as_mut().and_then(|cache| cache.read(frame)) {
                take(frame, bytes)?;
                self.passed(frame);
                continue;
            }
            let began_at = self.next;
            let problem = match self.stream(take) {
                Ok(()) => continue,
                Err(Trouble::Final(problem)) => return Err(problem),
                Err(Trouble::Broken(problem)) => problem,
            };
            // Another server may have the image still.
            replaced = if self.is_replaced() { replaced + 1 } else { 0 };
            if replaced >= servers.count() {
                return Err(format!(
                    "{} was replaced on the server while it was fetched: starting over with the new one",
                    servers.url()
                ));
            }
            if self.next > began_at {
                // It goes forward: patience starts again.
                resumes = 0;
                pause = Pause::new();
            }
            resumes += 1;
            if resumes > RESUMES {
                return Err(problem);
            }
            servers.next();
            let place = if servers.count() > 1 { format!(" from {}", origin(servers.url())) } else { String::new() };
            say!(
                "{problem}; resuming at {} of {} MiB{place}",
                index.frames.get(self.next).map_or(0, |frame| frame.offset) >> 20,
                index.size >> 20
            );
            // When each has had its turn.
            if (resumes as usize).is_multiple_of(servers.count().max(1)) {
                pause.wait();
            }
        }
        if self.cache.is_some() {
            say!("{} of {} KiB came from the server, the others from the cache", self.fetched >> 10, index.size >> 10);
        }
        Ok(())
    }

    /// Counts a frame that was given.
    fn passed(&mut self, frame: &Frame) {
        self.next += 1;
        let end = frame.offset.saturating_add(frame.size);
        (self.moved)(end);
        let tenth = u64::try_from(u128::from(end) * 10 / u128::from(self.index.size.max(1))).unwrap_or(10);
        if tenth > self.shown {
            self.shown = tenth;
            say!("{} of {} MiB", end >> 20, self.index.size >> 20);
        }
    }

    /// Whether the server has another index by now: then no resuming helps.
    fn is_replaced(&self) -> bool {
        let found = self.client.read(&format!("{}.index", self.servers.url()), INDEX_LIMIT);
        found.is_ok_and(|bytes| sha256(&bytes) != self.index.digest)
    }

    /// The first frame behind the next one that the cache claims to have.
    fn until(&self) -> usize {
        let frames = &self.index.frames;
        let Some(cache) = &self.cache else { return frames.len() };
        let behind = frames.iter().enumerate().skip(self.next + 1).find(|(_, frame)| cache.claims(frame));
        behind.map_or(frames.len(), |(at, _)| at)
    }

    /// Streams neighbours that the cache lacks, the next frame the first.
    fn stream(&mut self, take: Take<'_>) -> Result<(), Trouble> {
        let Self { client, servers, index, .. } = *self;
        let url = servers.url();
        let (start, mut until) = (index.frames[self.next].offset, self.until());
        let end = index.frames.get(until).map(|frame| frame.offset);
        let mut body = client.open(url, start, end).map_err(Trouble::Broken)?;
        let broken = |error: std::io::Error| Trouble::Broken(format!("{url}: {error}"));
        if !body.resumed {
            // The server knows no ranges: what already exists is read over, and all that follows is taken at once.
            let mut over = std::io::sink();
            std::io::copy(&mut brisk(&mut body.reader).take(start), &mut over).map_err(broken)?;
            until = index.frames.len();
        }
        while self.next < until {
            let Some(frame) = index.frames.get(self.next) else { break };
            // It grows with what comes: how much that will be is the server's word.
            let mut bytes = Vec::new();
            let read = brisk(&mut body.reader).take(frame.size).read_to_end(&mut bytes);
            if (bytes.len() as u64) < frame.size {
                let why = read.err().map(|error| format!(" ({error})")).unwrap_or_default();
                let got = frame.offset.saturating_add(bytes.len() as u64);
                return Err(Trouble::Broken(format!(
                    "{url} ends after {got} of {} bytes: it is truncated, or the connection broke{why}",
                    index.size
                )));
            }
            let found = sha256(&bytes);
            if found != frame.sha256 && !fault::planted("node-frame-unchecked") {
                return Err(Trouble::Broken(format!(
                    "wrong digest: bytes {} to {} of {url} have the SHA-256 {found}, but the index lists {}",
                    frame.offset,
                    frame.offset.saturating_add(frame.size),
                    frame.sha256
                )));
            }
            self.fetched = self.fetched.saturating_add(frame.size);
            if let Some(cache) = &mut self.cache {
                cache.keep(frame, &bytes);
            }
            take(frame, bytes).map_err(Trouble::Final)?;
            self.passed(frame);
        }
        Ok(())
    }
}
