//! The frames of an image in memory, as they are packed: where bytes lie, which frames are here, and which go where there is no room.

use std::sync::Arc;

use crate::image::index::Frame;

/// A part of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// The frame's number.
    pub frame: usize,
    /// The first byte in it.
    pub from: usize,
    /// The byte behind the last one.
    pub to: usize,
}

/// A frame in memory.
struct Held {
    bytes: Arc<Vec<u8>>,
    /// When it was used last, in uses of any frame.
    used: u64,
}

/// Frames of an image. Only bytes that are those of the index are put here.
pub(super) struct Frames {
    all: Vec<Frame>,
    held: Vec<Option<Held>>,
    /// Bytes of those that are held.
    bytes: u64,
    /// Most bytes that are held; all where it says nothing.
    keep: Option<u64>,
    uses: u64,
}

impl Frames {
    /// None is held. The frames follow one another ([`crate::image::index::check_index`]).
    pub(super) fn new(all: Vec<Frame>, keep: Option<u64>) -> Self {
        let held = all.iter().map(|_| None).collect();
        Self { all, held, bytes: 0, keep, uses: 0 }
    }

    /// The frame with a number.
    pub(super) fn frame(&self, number: usize) -> Option<&Frame> {
        self.all.get(number)
    }

    /// How many frames there are.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Where bytes of the image lie, in order; what is behind its end lies nowhere.
    pub(super) fn pieces(&self, offset: u64, length: usize) -> Vec<Piece> {
        let end = offset.saturating_add(length as u64);
        let first = self.all.partition_point(|frame| frame.offset.saturating_add(frame.size) <= offset);
        let touched = self.all.iter().enumerate().skip(first).take_while(|(_, frame)| frame.offset < end);
        let within = |at: u64, frame: &Frame| usize::try_from(at.saturating_sub(frame.offset).min(frame.size)).ok();
        touched
            .filter_map(|(number, frame)| {
                Some(Piece { frame: number, from: within(offset, frame)?, to: within(end, frame)? })
            })
            .collect()
    }

    /// A frame that is held; it is used now.
    pub(super) fn get(&mut self, number: usize) -> Option<Arc<Vec<u8>>> {
        self.uses += 1;
        let held = self.held.get_mut(number)?.as_mut()?;
        held.used = self.uses;
        Some(Arc::clone(&held.bytes))
    }

    /// Holds a frame; where there is no room, those go that were not used for longest. One that is larger than all room is held alone.
    pub(super) fn put(&mut self, number: usize, bytes: Vec<u8>) -> Arc<Vec<u8>> {
        let bytes = Arc::new(bytes);
        let size = bytes.len() as u64;
        self.remove(number);
        while self.keep.is_some_and(|keep| self.bytes.saturating_add(size) > keep) {
            let of_held = self.held.iter().enumerate().filter_map(|(at, held)| Some((held.as_ref()?.used, at)));
            let Some((_, oldest)) = of_held.min() else { break };
            self.remove(oldest);
        }
        self.uses += 1;
        if let Some(place) = self.held.get_mut(number) {
            *place = Some(Held { bytes: Arc::clone(&bytes), used: self.uses });
            self.bytes = self.bytes.saturating_add(size);
        }
        bytes
    }

    fn remove(&mut self, number: usize) {
        if let Some(held) = self.held.get_mut(number).and_then(Option::take) {
            self.bytes = self.bytes.saturating_sub(held.bytes.len() as u64);
        }
    }

    /// The first frame that is not held, if there is room for it without another one going.
    pub(super) fn next_missing(&self) -> Option<usize> {
        let (number, frame) =
            self.all.iter().enumerate().find(|(at, _)| self.held.get(*at).is_some_and(Option::is_none))?;
        let fits = self.keep.is_none_or(|keep| self.bytes.saturating_add(frame.size) <= keep);
        fits.then_some(number)
    }

    /// Whether all are held.
    pub(super) fn is_whole(&self) -> bool {
        self.held.iter().all(Option::is_some)
    }

    /// Bytes that are held.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(sizes: &[u64], keep: Option<u64>) -> Frames {
        let mut offset = 0;
        let all = sizes.iter().map(|&size| {
            offset += size;
            Frame { offset: offset - size, size, sha256: String::new() }
        });
        Frames::new(all.collect(), keep)
    }

    #[test]
    fn bytes_lie_in_frames() {
        let frames = frames(&[4, 3, 5], None);
        let of = |offset, length| -> Vec<(usize, usize, usize)> {
            frames.pieces(offset, length).iter().map(|one| (one.frame, one.from, one.to)).collect()
        };
        for (offset, length, pieces) in [
            (0, 4, &[(0, 0, 4)][..]),
            (0, 5, &[(0, 0, 4), (1, 0, 1)]),
            (3, 9, &[(0, 3, 4), (1, 0, 3), (2, 0, 5)]),
            (4, 3, &[(1, 0, 3)]),
            (7, 1, &[(2, 0, 1)]),
            (11, 100, &[(2, 4, 5)]),
            (12, 8, &[]),
            (u64::MAX, 8, &[]),
            (5, 0, &[]),
        ] {
            let found = of(offset, length);
            let found: Vec<_> = found.into_iter().filter(|(_, from, to)| from < to).collect();
            assert_eq!(found, pieces, "{offset} {length}");
        }
    }

    #[test]
    fn what_was_not_used_for_longest_goes() {
        let mut frames = frames(&[4, 4, 4, 20], Some(9));
        frames.put(0, vec![0; 4]);
        frames.put(1, vec![1; 4]);
        assert!(frames.get(0).is_some() && frames.next_missing().is_none() && frames.bytes() == 8);
        frames.put(2, vec![2; 4]);
        assert!(frames.get(1).is_none() && frames.get(0).is_some() && frames.get(2).is_some());
        // The same again takes no more room.
        frames.put(2, vec![2; 4]);
        assert_eq!(frames.bytes(), 8);
        frames.put(3, vec![3; 20]);
        assert!(frames.get(0).is_none() && frames.get(2).is_none() && frames.get(3).is_some() && !frames.is_whole());
        assert!(frames.get(4).is_none());
    }

    #[test]
    fn without_a_limit_all_are_held() {
        let mut frames = frames(&[4, 3], None);
        assert_eq!(frames.next_missing(), Some(0));
        frames.put(0, vec![0; 4]);
        assert_eq!((frames.next_missing(), frames.is_whole()), (Some(1), false));
        frames.put(1, vec![0; 3]);
        assert_eq!((frames.next_missing(), frames.is_whole(), frames.bytes()), (None, true, 7));
    }
}
