//! Bytes of the image: from the frames in memory, else from the disk of the node, else from the servers. Each frame is checked before
//! any of its bytes is given out, and a read waits as long as no server gives the right one.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::frames::Frames;
use super::log;
use crate::Pause;
use crate::cmdline::origin;
use crate::image::cache::Cache;
use crate::image::fetch::{Client, brisk};
use crate::image::index::{Frame, sha256};
use crate::image::servers::Servers;

/// How often each server is asked for a frame before the node's init has started: then the whole attempt starts over.
const TRIES_BEFORE_INIT: usize = 20;

/// Asks a server once for a frame's bytes, whatever they are.
pub(super) type Ask = dyn Fn(&str, &Frame) -> Result<Vec<u8>, String> + Send + Sync;

/// Where bytes come from.
pub(super) struct Source {
    state: Mutex<State>,
    /// A frame came, or all ends.
    changed: Condvar,
    cache: Mutex<Option<Cache>>,
    servers: Servers,
    ask: Box<Ask>,
    /// Longest pause between two rounds of all servers, in seconds.
    longest_pause: f64,
    is_closed: AtomicBool,
    /// Whether the node's init runs from it, which finds no way back.
    is_root: AtomicBool,
}

struct State {
    frames: Frames,
    /// Frames that are on their way.
    fetched_now: BTreeSet<usize>,
    /// Reads that wait.
    waiting: usize,
    /// When the last read began or ended to wait.
    waited: Instant,
    /// Bytes that servers sent and that were right.
    from_servers: u64,
}

/// Who wants a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// The kernel, now.
    Kernel,
    /// No one yet.
    Background,
}

impl Source {
    /// Nothing is fetched yet.
    pub(super) fn new(
        frames: Frames,
        cache: Option<Cache>,
        servers: Servers,
        ask: Box<Ask>,
        longest_pause: f64,
    ) -> Self {
        let state = State { frames, fetched_now: BTreeSet::new(), waiting: 0, waited: Instant::now(), from_servers: 0 };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            cache: Mutex::new(cache),
            servers,
            ask,
            longest_pause,
            is_closed: AtomicBool::new(false),
            is_root: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all that waits.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.changed.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// From now on the node lives from it: servers are waited for without end.
    pub(super) fn is_root_now(&self) {
        self.is_root.store(true, Ordering::SeqCst);
    }

    /// Bytes, if all of them are in memory; behind the image's end are zeros.
    pub(super) fn read_held(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let mut state = self.state();
        let pieces = state.frames.pieces(offset, length);
        let mut bytes = Vec::with_capacity(length);
        for piece in pieces {
            bytes.extend_from_slice(state.frames.get(piece.frame)?.get(piece.from..piece.to)?);
        }
        bytes.resize(length, 0);
        Some(bytes)
    }

    /// Bytes; it waits until they are here. None only where all ends.
    pub(super) fn read(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let pieces = self.state().frames.pieces(offset, length);
        let mut bytes = Vec::with_capacity(length);
        for piece in pieces {
            bytes.extend_from_slice(self.frame(piece.frame, Who::Kernel)?.get(piece.from..piece.to)?);
        }
        bytes.resize(length, 0);
        Some(bytes)
    }

    /// A frame, held or fetched: by one thread, however many want it. None only where all ends.
    fn frame(&self, number: usize, who: Who) -> Option<Arc<Vec<u8>>> {
        let mut state = self.state();
        if let Some(held) = state.frames.get(number) {
            return Some(held);
        }
        if who == Who::Kernel {
            state.waiting += 1;
            state.waited = Instant::now();
        }
        let found = self.wait_for(state, number);
        if who == Who::Kernel {
            let mut state = self.state();
            state.waiting = state.waiting.saturating_sub(1);
            state.waited = Instant::now();
        }
        found
    }

    fn wait_for(&self, mut state: MutexGuard<'_, State>, number: usize) -> Option<Arc<Vec<u8>>> {
        while state.fetched_now.contains(&number) {
            if self.is_closed() {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            if let Some(held) = state.frames.get(number) {
                return Some(held);
            }
        }
        let frame = state.frames.frame(number)?.clone();
        state.fetched_now.insert(number);
        drop(state);
        let fetched = self.fetch(&frame);
        let mut state = self.state();
        state.fetched_now.remove(&number);
        let held = fetched.map(|bytes| state.frames.put(number, bytes));
        drop(state);
        self.changed.notify_all();
        held
    }

    /// The right bytes of a frame, from wherever they are.
    fn fetch(&self, frame: &Frame) -> Option<Vec<u8>> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = cache.as_mut().and_then(|cache| cache.read(frame)) {
            return Some(bytes);
        }
        drop(cache);
        let bytes = self.fetch_from_servers(frame)?;
        self.state().from_servers += frame.size;
        if let Some(cache) = self.cache.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            cache.keep(frame, &bytes);
        }
        Some(bytes)
    }

    fn fetch_from_servers(&self, frame: &Frame) -> Option<Vec<u8>> {
        let count = self.servers.count().max(1);
        let (mut pause, mut tries, mut logged) = (Pause::up_to(self.longest_pause), 0, BTreeSet::new());
        loop {
            if self.is_closed() {
                return None;
            }
            let url = self.servers.url();
            let problem = match (self.ask)(url, frame).and_then(|bytes| right(url, frame, bytes)) {
                Ok(bytes) => {
                    if !logged.is_empty() {
                        log(&format!("{} sends bytes from {} on: reads of the root go on", origin(url), frame.offset));
                    }
                    return Some(bytes);
                }
                Err(problem) => problem,
            };
            tries += 1;
            if logged.insert(problem.clone()) {
                let next = if count > 1 { "another server is asked" } else { "reads of the root wait for it" };
                log(&format!("{problem}; {next}"));
            }
            let waits = self.is_root.load(Ordering::SeqCst) && !fault::planted("node-lazy-gives-up");
            if tries >= TRIES_BEFORE_INIT * count && !waits {
                self.close();
                return None;
            }
            self.servers.leave(url);
            if tries.is_multiple_of(count) {
                pause.wait();
            }
        }
    }

    /// Fetches the first frame, which tells whether the image is there at all; false where all ends.
    pub(super) fn begin(&self) -> bool {
        self.frame(0, Who::Background).is_some()
    }

    /// Fetches what is not here, one frame at a time and never while a read waits. It begins when no read has waited for `quiet`, and
    /// after `latest` in any case. Gives whether all is here in the end.
    pub(super) fn hydrate(&self, quiet: Duration, latest: Duration) -> bool {
        let began = Instant::now();
        loop {
            let next = loop {
                if self.is_closed() {
                    return false;
                }
                let state = self.state();
                let is_quiet = state.waited.elapsed() >= quiet || began.elapsed() >= latest;
                if state.waiting == 0 && is_quiet {
                    break state.frames.next_missing();
                }
                let longest = quiet.clamp(Duration::from_millis(10), Duration::from_millis(500));
                drop(self.changed.wait_timeout(state, longest));
            };
            match next {
                None => return self.state().frames.is_whole(),
                Some(number) if self.frame(number, Who::Background).is_none() => return false,
                Some(_) => {}
            }
        }
    }

    /// Lets go of the disk of the node, which has the whole image now.
    pub(super) fn leave_cache(&self) {
        if let Some(cache) = self.cache.lock().unwrap_or_else(PoisonError::into_inner).take() {
            cache.close(true);
        }
    }

    /// Frames of the image; bytes in memory; bytes that servers sent.
    pub(super) fn figures(&self) -> (usize, u64, u64) {
        let state = self.state();
        (state.frames.count(), state.frames.bytes(), state.from_servers)
    }

    /// Where this node reports.
    pub(super) fn reports(&self) -> Vec<String> {
        self.servers.reports()
    }
}

/// Gives the bytes on if they are the frame's.
fn right(url: &str, frame: &Frame, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    let found = sha256(&bytes);
    if (bytes.len() as u64 == frame.size && found == frame.sha256) || fault::planted("node-lazy-frame-unchecked") {
        return Ok(bytes);
    }
    Err(format!(
        "wrong digest: bytes {} to {} of {url} have the SHA-256 {found}, but the index lists {}; nothing of them is used",
        frame.offset,
        frame.offset.saturating_add(frame.size),
        frame.sha256
    ))
}

/// Asks a server for a frame.
pub(super) fn ask(client: &Client, url: &str, frame: &Frame) -> Result<Vec<u8>, String> {
    let end = frame.offset.saturating_add(frame.size);
    let body = client.open(url, frame.offset, Some(end)).map_err(|problem| match problem.contains(" 404 ") {
        true => format!("{problem}: was the build that this node runs from removed there?"),
        false => problem,
    })?;
    if !body.resumed && frame.offset > 0 {
        return Err(format!("{url}: the server gives files only whole, and a lazy root needs parts of them (Range)"));
    }
    // It grows with what comes: how much that will be is the server's word.
    let mut bytes = Vec::new();
    let read = brisk(body.reader).take(frame.size).read_to_end(&mut bytes);
    if (bytes.len() as u64) < frame.size {
        let why = read.err().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(format!(
            "{url}: {} of {} bytes came from {} on: it is truncated, or the connection broke{why}",
            bytes.len(),
            frame.size,
            frame.offset
        ));
    }
    Ok(bytes)
}
