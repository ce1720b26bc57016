//! The log of a script: its beginning and its end, whatever it prints.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Bytes of the beginning that are kept. /var/log is memory on a node.
const HEAD: usize = 512 << 10;
/// Bytes of the end.
const TAIL: usize = 128 << 10;
/// Lines that the server gets, and bytes of them at most.
const LAST_LINES: usize = 20;
const LAST_BYTES: usize = 2 << 10;

/// What a script prints.
pub(super) struct Log {
    file: Option<File>,
    written: usize,
    tail: VecDeque<u8>,
    left_out: u64,
}

impl Log {
    /// Opens the log of a script, in the place of that of an earlier run; root's alone. Where it cannot be written the end is
    /// still kept for the server.
    pub(super) fn open(directory: &Path, name: &str) -> (Self, Option<io::Error>) {
        let opened = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).and_then(|()| {
            let path = directory.join(format!("{name}.log"));
            let _ = std::fs::remove_file(&path);
            File::options()
                .write(true)
                .create_new(true)
                .mode(if fault::planted("node-log-readable") { 0o644 } else { 0o600 })
                .open(path)
        });
        let (file, problem) = match opened {
            Ok(file) => (Some(file), None),
            Err(error) => (None, Some(error)),
        };
        (Self { file, written: 0, tail: VecDeque::new(), left_out: 0 }, problem)
    }

    /// Takes what was printed.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let head = bytes.len().min(HEAD - self.written);
        let (head, rest) = bytes.split_at(head);
        self.write(head);
        self.written += head.len();
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..over);
        self.left_out += over as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        // A full disk ends the log, and no script.
        if let Some(file) = &mut self.file
            && file.write_all(bytes).is_err()
        {
            self.file = None;
        }
    }

    /// Writes the end; gives the last lines.
    pub(super) fn close(mut self, directory: &Path, name: &str) -> Vec<String> {
        let tail: Vec<u8> = self.tail.iter().copied().collect();
        if self.left_out > 0 {
            let text = format!("\n[imgbuild: {} bytes are left out here]\n", self.left_out);
            self.write(text.as_bytes());
        }
        self.write(&tail);
        let end = match tail.is_empty() {
            true => std::fs::read(directory.join(format!("{name}.log"))).unwrap_or_default(),
            false => tail,
        };
        last_lines(&end)
    }
}

fn last_lines(bytes: &[u8]) -> Vec<String> {
    let start = bytes.len().saturating_sub(LAST_BYTES);
    let text = String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let from = lines.len().saturating_sub(LAST_LINES);
    lines.iter().skip(from).map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_the_beginning_and_the_end() {
        let directory = std::env::temp_dir().join(format!("imgbuild-log-{}", std::process::id()));
        let (mut log, problem) = Log::open(&directory, "a");
        assert!(problem.is_none());
        let mode = std::fs::metadata(directory.join("a.log")).unwrap().permissions();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
        log.add(b"first\n");
        for _ in 0..4000 {
            log.add(&[b'x'; 1000]);
        }
        log.add(b"\nlast\n");
        assert_eq!(log.close(&directory, "a").last().map(String::as_str), Some("last"));
        let text = std::fs::read(directory.join("a.log")).unwrap();
        assert!(text.len() < HEAD + TAIL + 100 && text.starts_with(b"first\n") && text.ends_with(b"\nlast\n"));
        let (mut log, _) = Log::open(&directory, "a");
        log.add(b"one\n\ntwo");
        assert_eq!(log.close(&directory, "a"), ["one", "two"]);
        assert_eq!(std::fs::read(directory.join("a.log")).unwrap(), b"one\n\ntwo");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
