//! What a command prints, kept in a file of bounded size: its beginning as it comes, and its end.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{PipeReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use base::failure::not_started;

/// How much of the beginning is kept, in bytes.
const HEAD: usize = 16 << 20;
/// How much of the end, in bytes.
const TAIL: usize = 1 << 20;
/// How much of what is left out is looked at as one line, in bytes, and how much of all such lines is kept.
const LINE: usize = 4 << 10;
const KEPT: usize = 256 << 10;

/// Takes what comes out of a pipe until its last writer is gone.
pub(crate) struct Pump(JoinHandle<()>);

impl Pump {
    /// Starts to write it to a log, and counts it. Lines with one of `words` stay, however long the log is.
    /// Errors: The thread cannot be started.
    pub(crate) fn start(
        from: PipeReader,
        log: File,
        count: Arc<AtomicU64>,
        words: Vec<String>,
    ) -> std::io::Result<Self> {
        let kept = Kept { words, ..Kept::default() };
        let work = move || pump(Counted { inner: from, count }, log, (HEAD, TAIL), kept);
        std::thread::Builder::new().spawn(work).map(Self).map_err(not_started)
    }

    /// Waits for the end; all that was printed is in the log then.
    pub(crate) fn wait(self) {
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

/// Lines of what is left out that stay all the same.
#[derive(Default)]
struct Kept {
    words: Vec<String>,
    /// The line that has not ended; of a long one the last part.
    line: Vec<u8>,
    lines: Vec<u8>,
}

impl Kept {
    fn take(&mut self, bytes: &[u8]) {
        if self.words.is_empty() {
            return;
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n').flat_map(|piece| piece.chunks(LINE / 2)) {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.end_line();
            } else if self.line.len() > LINE {
                if self.is_wanted() {
                    self.end_line();
                } else {
                    // What is looked for may stand across the cut.
                    self.line.drain(..self.line.len() - LINE / 4);
                }
            }
        }
    }

    fn is_wanted(&self) -> bool {
        self.words.iter().any(|words| memchr::memmem::find(&self.line, words.as_bytes()).is_some())
    }

    fn end_line(&mut self) {
        if self.lines.len() + self.line.len() < KEPT && self.is_wanted() {
            self.lines.extend_from_slice(self.line.trim_ascii_end());
            self.lines.push(b'\n');
        }
        self.line.clear();
    }
}

fn pump(mut from: impl Read, mut log: impl Write, (head, most): (usize, usize), mut kept: Kept) {
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
        if surplus > 0 {
            kept.take(&tail.drain(..surplus).collect::<Vec<_>>());
        }
        dropped += surplus as u64;
    }
    if dropped > 0 {
        // A line that begins among what is left out ends in the tail.
        let line_end = tail.iter().position(|byte| *byte == b'\n').map_or(tail.len(), |at| at + 1).min(LINE);
        kept.take(&tail.iter().copied().take(line_end).collect::<Vec<_>>());
        kept.end_line();
        let _ = write!(log, "\n[imgbuild: {dropped} bytes are left out here]\n");
        let _ = log.write_all(&kept.lines);
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
            pump(&text[..], &mut log, (head, tail), Kept::default());
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
    #[test]
    fn lines_with_words_that_are_looked_for_stay_wherever_they_are() {
        let failed = b"no end of line ... warning: %post(x-1-1.noarch) scriptlet failed, exit status 1\n";
        let filler = |count: usize| (0..count).flat_map(|number| format!("{number}\n").into_bytes());
        let long = || std::iter::repeat_n(b'.', 3 * LINE + 17);
        for (before, after) in [(0, 0), (0, 20_000), (20_000, 0), (20_000, 20_000), (180, 20_000)] {
            let text: Vec<u8> = filler(before).chain(long()).chain(*failed).chain(filler(after)).collect();
            for tail in [0, 1, 50, 500, 5000] {
                let words = vec!["lua script".to_owned(), " scriptlet failed".to_owned()];
                let mut log = Vec::new();
                pump(&text[..], &mut log, (1000, tail), Kept { words, ..Kept::default() });
                let said = String::from_utf8(log).unwrap();
                let found = "warning: %post(x-1-1.noarch) scriptlet failed, exit status 1\n";
                assert!(said.contains(found), "{before} {after} {tail}");
                assert!(said.len() < 1000 + tail + 3 * LINE, "{}", said.len());
            }
        }
        let flood = failed.repeat(100_000);
        let mut log = Vec::new();
        let words = vec![" scriptlet failed".to_owned()];
        pump(&flood[..], &mut log, (0, 0), Kept { words, ..Kept::default() });
        assert!(log.len() > KEPT / 2 && log.len() < 2 * KEPT, "{}", log.len());
    }
}
