//! What a command prints, kept in a file of bounded size: its beginning as it comes, and its end.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{PipeReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::failure::not_started;

/// How much of the beginning is kept, in bytes.
const HEAD: usize = 16 << 20;
/// How much of the end, in bytes.
const TAIL: usize = 1 << 20;

/// Takes what comes out of a pipe until its last writer is gone.
pub struct Pump(JoinHandle<()>);

impl Pump {
    /// Starts to write it to a log, and counts it.
    /// Errors: The thread cannot be started.
    pub fn start(from: PipeReader, log: File, count: Arc<AtomicU64>) -> std::io::Result<Self> {
        let work = move || pump(Counted { inner: from, count }, log, HEAD, TAIL);
        std::thread::Builder::new().spawn(work).map(Self).map_err(not_started)
    }

    /// Waits for the end; all that was printed is in the log then.
    pub fn wait(self) {
        let _ = self.0.join();
    }
}

struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

fn pump(mut from: impl Read, mut log: impl Write, head: usize, most: usize) {
    let mut buffer = vec![0u8; 1 << 16];
    let mut left = head;
    let mut tail: VecDeque<u8> = VecDeque::new();
    let mut dropped = 0u64;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let (first, rest) = buffer[..read].split_at(read.min(left));
        // A disk that is full loses the log, and the command says why it failed.
        let _ = log.write_all(first);
        left -= first.len();
        tail.extend(rest);
        let surplus = tail.len().saturating_sub(most);
        tail.drain(..surplus);
        dropped += surplus as u64;
    }
    if dropped > 0 {
        let _ = write!(log, "\n[imgbuild: {dropped} bytes are left out here]\n");
    }
    let (one, two) = tail.as_slices();
    let _ = log.write_all(one).and_then(|()| log.write_all(two));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_keeps_its_head_and_its_tail_and_says_what_is_left_out() {
        let text: Vec<u8> = (0..300_000u32).flat_map(|number| format!("{number}\n").into_bytes()).collect();
        let kept = |head, tail| {
            let mut log = Vec::new();
            pump(&text[..], &mut log, head, tail);
            log
        };
        assert!(kept(text.len(), 0) == text);
        assert!(kept(1000, text.len()) == text);
        let log = kept(1000, 500);
        assert_eq!(&log[..1000], &text[..1000]);
        assert_eq!(&log[log.len() - 500..], &text[text.len() - 500..]);
        let said = format!("\n[imgbuild: {} bytes are left out here]\n", text.len() - 1500);
        assert_eq!(&log[1000..log.len() - 500], said.as_bytes());
    }
}
