//! Ends of files that are stored next to inodes. A large image has many: they are read again from what is known of their frame when
//! an inode is written, and what was read last is kept.

use std::collections::VecDeque;

/// Bytes of ends that are kept in memory.
const KEPT: usize = 16 << 20;

/// Gives the ends of all files of a frame, in order.
pub(super) type ReadTails<'a> = &'a dyn Fn(usize) -> Result<Vec<Vec<u8>>, String>;

pub(super) struct Tails<'a> {
    read: ReadTails<'a>,
    /// Frames with their ends, the one that was asked for last in front.
    kept: VecDeque<(usize, Vec<Vec<u8>>)>,
    bytes: usize,
}

fn bytes_of(tails: &[Vec<u8>]) -> usize {
    tails.iter().map(Vec::len).sum()
}

impl<'a> Tails<'a> {
    pub(super) fn new(read: ReadTails<'a>) -> Self {
        Self { read, kept: VecDeque::new(), bytes: 0 }
    }

    /// The end of a file, by frame and by place in it.
    /// Errors: A text where it cannot be read.
    pub(super) fn get(&mut self, (frame, file): (usize, usize)) -> Result<&[u8], String> {
        match self.kept.iter().position(|(known, _)| *known == frame) {
            Some(0) => {}
            Some(at) => {
                let found = self.kept.remove(at);
                self.kept.extend(found);
                if !fault::planted("erofs-tail-of-another") {
                    self.kept.rotate_right(1);
                }
            }
            None => {
                let tails = (self.read)(frame)?;
                self.bytes += bytes_of(&tails);
                self.kept.push_front((frame, tails));
                while self.bytes > KEPT && self.kept.len() > 1 {
                    let gone = self.kept.pop_back();
                    self.bytes -= gone.map_or(0, |(_, tails)| bytes_of(&tails));
                }
            }
        }
        let tail = self.kept.front().and_then(|(_, tails)| tails.get(file));
        tail.map(Vec::as_slice).ok_or_else(|| "a frame's files do not match its description".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn what_was_asked_for_last_is_kept_and_no_more_than_fits() {
        let asked = RefCell::new(Vec::new());
        let read = |frame: usize| {
            asked.borrow_mut().push(frame);
            Ok(vec![vec![frame as u8; KEPT / 2 - 1], vec![1]])
        };
        let mut tails = Tails::new(&read);
        for frame in [0, 1, 0, 2, 0, 1] {
            assert_eq!(tails.get((frame, 0)).unwrap()[0], frame as u8);
            assert_eq!(tails.get((frame, 1)).unwrap(), [1]);
        }
        assert_eq!(*asked.borrow(), [0, 1, 2, 1]);
        assert!(tails.get((1, 2)).is_err());
    }
}
