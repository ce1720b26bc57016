//! Assigns inode offsets; small inodes fill gaps.

use std::collections::BTreeMap;

use super::BLOCK;

/// An inode begins at a multiple of so many bytes, so that none of the heads lies in two blocks.
const STEP: u64 = 64;

pub(super) struct Places {
    end: u64,
    /// By their bytes.
    holes: BTreeMap<u64, Vec<u64>>,
}

impl Places {
    /// An area whose first bytes no one gets: a number of 0 says that there is no inode.
    pub(super) fn new() -> Self {
        Self { end: STEP, holes: BTreeMap::new() }
    }

    /// A place for so many bytes; within one block where that is wanted.
    pub(super) fn take(&mut self, size: u64, within: bool) -> u64 {
        let size = size.next_multiple_of(STEP);
        if size <= BLOCK {
            let fitting = self.holes.range(size..).next().map(|(bytes, _)| *bytes);
            if let Some(bytes) = fitting {
                let places = self.holes.entry(bytes).or_default();
                let at = places.pop().unwrap_or_default();
                if places.is_empty() {
                    self.holes.remove(&bytes);
                }
                self.keep(at + size, bytes - size);
                return at;
            }
            let left = BLOCK - self.end % BLOCK;
            if within && left < size && !fault::planted("erofs-inode-over-block") {
                self.keep(self.end, left);
                self.end += left;
            }
        }
        let at = self.end;
        self.end += size;
        at
    }

    fn keep(&mut self, at: u64, bytes: u64) {
        if bytes > 0 {
            self.holes.entry(bytes).or_default().push(at);
        }
    }

    /// Bytes of the area.
    pub(super) fn end(&self) -> u64 {
        self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overlaps_and_what_must_lie_in_one_block_does() {
        let mut places = Places::new();
        let mut taken: Vec<(u64, u64)> = Vec::new();
        let mut seed = 7_u64;
        for _ in 0..3000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let size = 64 + (seed >> 33) % 4032;
            let at = places.take(size, true);
            assert_eq!(at % STEP, 0);
            assert!(at % BLOCK + size <= BLOCK);
            taken.push((at, at + size));
        }
        taken.sort_unstable();
        assert!(taken.windows(2).all(|two| two[0].1 <= two[1].0));
        let bytes: u64 = taken.iter().map(|(from, to)| to - from).sum();
        assert!(places.end() < bytes * 5 / 4, "{} for {bytes}", places.end());
    }
}
