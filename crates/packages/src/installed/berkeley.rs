//! rpm's database as Berkeley DB's hash, the form of RHEL to 8 and of SLES to 12. Source: Berkeley DB's db_page.h (`_dbmeta33`,
//! `_db_page`, `HOFFPAGE`), versions 8 to 10 of the hash: 4.8 to 5.3.

use std::ops::Range;

const MAGIC: u32 = 0x0006_1561;
/// Types of pages: a hash's two, a part of what is too long for one.
const HASH_UNSORTED: u8 = 2;
const OVERFLOW: u8 = 7;
const HASH: u8 = 13;
/// Kinds of items: with their bytes, or where those are.
const KEY_DATA: u8 = 1;
const OFF_PAGE: u8 = 3;
/// Bytes of a page's head.
const HEAD: usize = 26;
/// Key of the row that counts packages.
const COUNTER: [u8; 4] = [0; 4];

struct File<'a> {
    bytes: &'a [u8],
    page_size: usize,
    is_big_endian: bool,
}

impl<'a> File<'a> {
    fn u32(&self, bytes: &[u8], at: usize) -> Option<u32> {
        let chunk = *bytes.get(at..)?.first_chunk()?;
        Some(if self.is_big_endian { u32::from_be_bytes(chunk) } else { u32::from_le_bytes(chunk) })
    }

    fn u16(&self, bytes: &[u8], at: usize) -> Option<usize> {
        let chunk = *bytes.get(at..)?.first_chunk()?;
        Some(usize::from(if self.is_big_endian { u16::from_be_bytes(chunk) } else { u16::from_le_bytes(chunk) }))
    }

    fn page(&self, number: usize) -> Option<&'a [u8]> {
        let start = number.checked_mul(self.page_size)?;
        self.bytes.get(start..start.checked_add(self.page_size)?)
    }

    /// Where that lies which has pages of its own, from one on.
    fn overflow(&self, first: u32, length: usize) -> Option<Place> {
        let mut place = Vec::new();
        let mut found = 0;
        let mut next = first;
        // No more pages than the file has: a circle ends too.
        let pages = self.bytes.len() / self.page_size;
        while found < length && place.len() <= pages {
            let page = self.page(next as usize).filter(|_| next != 0)?;
            if page.get(25) != Some(&OVERFLOW) {
                return None;
            }
            // The free area's offset of such a page is the number of its bytes.
            let here = self.u16(page, 22).filter(|here| *here > 0 && HEAD + here <= page.len())?;
            let start = next as usize * self.page_size + HEAD;
            place.push(start..start + here);
            found += here;
            next = self.u32(page, 16)?;
        }
        (found == length).then_some(place)
    }
}

/// Where a header lies in the file, piece by piece.
pub(super) type Place = Vec<Range<usize>>;

pub(super) fn headers(bytes: &[u8], take: &mut dyn FnMut(&[u8]) -> Result<(), String>) -> Result<(), String> {
    places(bytes, &mut |place| match &place[..] {
        [whole] => take(&bytes[whole.clone()]),
        pieces => take(&pieces.iter().flat_map(|piece| &bytes[piece.clone()]).copied().collect::<Vec<u8>>()),
    })
}

/// Says where each header lies; all of it is within the file.
pub fn places(bytes: &[u8], take: &mut dyn FnMut(Place) -> Result<(), String>) -> Result<(), String> {
    let mut file = File { bytes, page_size: 0, is_big_endian: false };
    if file.u32(bytes, 12) != Some(MAGIC) {
        file.is_big_endian = true;
    }
    if file.u32(bytes, 12) != Some(MAGIC) {
        return Err("is neither SQLite nor ndb nor Berkeley DB's hash".to_owned());
    }
    file.page_size = file.u32(bytes, 20).unwrap_or(0) as usize;
    let damaged = |what: String| format!("is damaged: {what}");
    // Source: Berkeley DB's reference guide, "Selecting a page size".
    if !(512..=65536).contains(&file.page_size) || !file.page_size.is_power_of_two() {
        return Err(damaged(format!("pages of {} bytes", file.page_size)));
    }
    if bytes.get(24) != Some(&0) {
        return Err("is encrypted".to_owned());
    }
    let last = file.u32(bytes, 32).unwrap_or(0) as usize;
    let mut sum = 0_usize;
    for number in 1..=last {
        let Some(page) = file.page(number) else {
            return Err(damaged(format!("it is truncated before page {number}")));
        };
        if !matches!(page[25], HASH_UNSORTED | HASH) {
            continue;
        }
        let items = file.u16(page, 20).unwrap_or(0);
        let at = |item: usize| file.u16(page, HEAD + item * 2).filter(|at| *at < page.len());
        let wrong = || damaged(format!("page {number} points outside itself"));
        // Keys and values by turns.
        for item in (0..items.saturating_sub(1)).step_by(2) {
            let (key, value) = (at(item).ok_or_else(wrong)?, at(item + 1).ok_or_else(wrong)?);
            // An item ends where the one before it begins; items fill a page from its end.
            if page.get(key + 1..key + 5) == Some(&COUNTER[..]) {
                continue;
            }
            match page[value] {
                KEY_DATA => {
                    page.get(value + 1..key).ok_or_else(wrong)?;
                    let start = number * file.page_size;
                    take(std::iter::once(start + value + 1..start + key).collect())?;
                }
                OFF_PAGE => {
                    let (first, length) = (file.u32(page, value + 4), file.u32(page, value + 8));
                    let (first, length) = first.zip(length).ok_or_else(wrong)?;
                    // No more than the file has: pages that lead in a circle would give anything.
                    sum = sum.saturating_add(length as usize);
                    let is_there = sum <= bytes.len();
                    let place = is_there.then(|| file.overflow(first, length as usize)).flatten();
                    take(place.ok_or_else(|| damaged(format!("the value that starts on page {first} is truncated")))?)?;
                }
                kind => return Err(damaged(format!("page {number} has an item of the unknown type {kind}"))),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hash with one value, whose pages are a circle of one: it gives a byte each time.
    fn circle(pages: usize) -> Vec<u8> {
        const SIZE: usize = 512;
        let mut bytes = vec![0; pages * SIZE];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(12, &MAGIC.to_le_bytes());
        put(20, &(SIZE as u32).to_le_bytes());
        put(32, &2_u32.to_le_bytes());
        let (key, value) = (500_u16, 480_u16);
        put(SIZE + 20, &2_u16.to_le_bytes());
        put(SIZE + 25, &[HASH]);
        put(SIZE + HEAD, &key.to_le_bytes());
        put(SIZE + HEAD + 2, &value.to_le_bytes());
        put(SIZE + usize::from(key), &[KEY_DATA, 5, 0, 0, 0]);
        put(SIZE + usize::from(value), &[OFF_PAGE]);
        put(SIZE + usize::from(value) + 4, &2_u32.to_le_bytes());
        put(SIZE + usize::from(value) + 8, &((pages * SIZE) as u32).to_le_bytes());
        put(2 * SIZE + 16, &2_u32.to_le_bytes());
        put(2 * SIZE + 22, &1_u16.to_le_bytes());
        put(2 * SIZE + 25, &[OVERFLOW]);
        bytes
    }

    #[test]
    fn pages_that_lead_in_a_circle_give_no_more_than_the_file_has_pages() {
        let bytes = circle(1000);
        assert_eq!(
            places(&bytes, &mut |_| Ok(())).unwrap_err(),
            "is damaged: the value that starts on page 2 is truncated"
        );
        let file = File { bytes: &bytes, page_size: 512, is_big_endian: false };
        // As long as what it says, it is believed.
        assert_eq!(file.overflow(2, 900).unwrap().len(), 900);
        assert_eq!(file.overflow(2, 1002), None);
    }
}
