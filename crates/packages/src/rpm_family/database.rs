//! What rpm before 4.14 and Berkeley DB write into the package database of the moment at which they ran. It is replaced, so that
//! the same packages give the same bytes.
//!
//! Source: rpm's rpmtag.h and header.c: a header is the number of its entries, the length of its data, then entries of tag,
//! type, offset and count, all in network order.

use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::inside::berkeley::{self, is_berkeley};
use crate::installed::{LONGEST_DATABASE, RPM_PLACES, berkeley_places};
use store::TreeEditor;

/// Tags of a header: when a package was installed, and the number of the transaction, which is its time.
const TIMES: [u32; 2] = [1008, 1128];
const INT32: u32 = 4;

/// Sets the times at which packages were installed; says whether one was another. The index by transactions is wrong
/// afterwards.
/// Errors: A text that names the database, when it is damaged or cannot be written.
pub(super) fn settle_times(editor: &TreeEditor, epoch: i64) -> Result<bool, String> {
    let mut changed = false;
    for place in RPM_PLACES {
        let path = format!("{place}Packages");
        let Some(file) = editor.open_to_change(&path).filter(is_berkeley) else { continue };
        let said = |error: std::io::Error| format!("cannot change the package database /{path}: {error}");
        if file.metadata().map_err(said)?.len() > LONGEST_DATABASE {
            return Err(format!("the package database /{path} is too large for an rpm database"));
        }
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut &file, &mut bytes).map_err(said)?;
        let time = u32::try_from(epoch).unwrap_or(0).to_be_bytes();
        let mut others = Vec::new();
        berkeley_places(&bytes, &mut |place| {
            let found = times(&Scattered::new(place), &bytes).ok_or("is damaged: a header is truncated")?;
            others.extend(found.into_iter().filter(|at| at.iter().zip(time).any(|(at, byte)| bytes[*at] != byte)));
            Ok(())
        })
        .map_err(|problem| format!("the package database /{path} {problem}"))?;
        for at in &others {
            at.iter().zip(time).try_for_each(|(at, byte)| file.write_all_at(&[byte], *at as u64)).map_err(said)?;
        }
        changed |= !others.is_empty();
    }
    Ok(changed)
}

struct Scattered {
    /// Where each piece begins in the header, and its offset in the file.
    pieces: Vec<(usize, Range<usize>)>,
    length: usize,
}

impl Scattered {
    fn new(place: Vec<Range<usize>>) -> Self {
        let mut length = 0;
        let pieces = place.into_iter().map(|piece| {
            let start = length;
            length += piece.len();
            (start, piece)
        });
        let pieces = pieces.collect();
        Self { pieces, length }
    }

    /// Where four bytes of the header lie in the file.
    fn four(&self, at: usize) -> Option<[usize; 4]> {
        at.checked_add(4).filter(|end| *end <= self.length)?;
        let mut found = [0; 4];
        for (byte, found) in found.iter_mut().enumerate() {
            let after = self.pieces.partition_point(|(start, _)| *start <= at + byte);
            let (start, piece) = self.pieces.get(after.checked_sub(1)?)?;
            *found = piece.start + (at + byte - start);
        }
        Some(found)
    }
}

/// Where the times of a header lie in the file.
fn times(header: &Scattered, bytes: &[u8]) -> Option<Vec<[usize; 4]>> {
    let four = |at: usize| header.four(at);
    let number = |at: usize| Some(u32::from_be_bytes(four(at)?.map(|place| bytes[place])));
    let entries = number(0)? as usize;
    let data = entries.checked_mul(16)?.checked_add(8)?;
    // Entries that are not there are found missing at the first.
    (data <= header.length).then_some(())?;
    let mut found = Vec::new();
    for entry in (8..data).step_by(16) {
        if TIMES.contains(&number(entry)?) && number(entry + 4)? == INT32 {
            found.push(four(data.checked_add(number(entry + 8)? as usize)?)?);
        }
    }
    Some(found)
}

/// Takes out of each file of the database what differs from run to run.
pub(super) fn settle_files(editor: &TreeEditor) -> Result<(), String> {
    for place in RPM_PLACES {
        for name in editor.names(place.trim_end_matches('/')) {
            berkeley::settle(editor, &format!("{place}{name}"))?;
        }
    }
    Ok(())
}
