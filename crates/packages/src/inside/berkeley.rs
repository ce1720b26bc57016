//! What differs from run to run in a file of Berkeley DB: its number, which is made of inode, time and process, the bytes that
//! belong to nothing (what lay in memory where a page was made), and the time that NIS wants in a map.
//!
//! Source: Berkeley DB's db_page.h, versions 4.8 to 5.3: `_dbmeta33`, `_db_page`, `HKEYDATA`, `HOFFPAGE`, `BKEYDATA`,
//! `BOVERFLOW`, `BINTERNAL`, `DBMETASIZE`.

use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::installed::LONGEST_DATABASE;
use store::TreeEditor;

const MAGIC: [u32; 2] = [0x0006_1561, 0x0005_3162];
/// Where a file's own number lies, and its length.
const UID: u64 = 52;
const UID_LENGTH: usize = 20;
/// Bytes of a page's head, and those of a file's first page that say anything.
const HEAD: usize = 26;
const META: usize = 512;

/// Key of the time at which a NIS map was made, in seconds as text; postfix writes it into its hashes (dict_db.c), where the
/// value lies before its key. Nothing on a node reads it but a server of NIS.
const MADE_AT: &[u8] = b"\x01YP_LAST_MODIFIED";

const INVALID: u8 = 0;
const HASH_UNSORTED: u8 = 2;
const TREE_INNER: u8 = 3;
const TREE_LEAF: u8 = 5;
const OVERFLOW: u8 = 7;
const HASH_META: u8 = 8;
const TREE_META: u8 = 9;
const HASH: u8 = 13;

/// Kinds of items; in a tree the highest bit says that one was deleted.
const DATA: u8 = 1;
const OFF_PAGE: u8 = 3;

struct Pages<'a> {
    bytes: &'a [u8],
    size: usize,
    is_big_endian: bool,
}

impl<'a> Pages<'a> {
    /// Reads the head; none if it is no file of Berkeley DB, or one with sums or encrypted, whose pages are other ones.
    fn open(bytes: &'a [u8]) -> Option<Self> {
        let mut file = Self { bytes, size: 0, is_big_endian: false };
        if !MAGIC.contains(&file.u32(12)?) {
            file.is_big_endian = true;
        }
        file.size = file.u32(20)? as usize;
        let is_plain = *bytes.get(24)? == 0 && *bytes.get(26)? & 1 == 0;
        let is_whole = (META..=1 << 16).contains(&file.size) && bytes.len().is_multiple_of(file.size);
        (MAGIC.contains(&file.u32(12)?) && is_plain && is_whole).then_some(file)
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let chunk = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.is_big_endian { u32::from_be_bytes(chunk) } else { u32::from_le_bytes(chunk) })
    }

    fn u16(&self, at: usize) -> Option<usize> {
        let chunk = *self.bytes.get(at..)?.first_chunk()?;
        Some(usize::from(if self.is_big_endian { u16::from_be_bytes(chunk) } else { u16::from_le_bytes(chunk) }))
    }

    /// Which bytes of a page's items and of the room between them are used; none for a page that is not understood.
    fn used(&self, start: usize) -> Option<Vec<Range<usize>>> {
        let kind = self.bytes[start + 25];
        let end = start + self.size;
        let head = start..start + HEAD;
        let mut used = vec![head];
        match kind {
            INVALID => {}
            HASH_META | TREE_META => used[0].end = start + META,
            // The free area's offset of such a page is the number of its bytes.
            OVERFLOW => used[0].end += self.u16(start + 22)?,
            HASH | HASH_UNSORTED | TREE_INNER | TREE_LEAF => {
                let items = self.u16(start + 20)?;
                used[0].end += items * 2;
                let mut before = end;
                for item in 0..items {
                    let at = start + self.u16(start + HEAD + item * 2)?;
                    if kind == HASH || kind == HASH_UNSORTED {
                        used.extend(self.hashed(at, before)?);
                        before = at;
                    } else {
                        used.extend(self.of_tree(at, kind)?);
                    }
                }
            }
            _ => return None,
        }
        used.iter().all(|range| range.start <= range.end && range.end <= end).then_some(used)
    }

    /// An item of a hash, which ends where the one before it begins.
    fn hashed(&self, at: usize, end: usize) -> Option<Vec<Range<usize>>> {
        match *self.bytes.get(at)? {
            DATA => Some(std::iter::once(at..end).collect()),
            OFF_PAGE => Some(vec![at..at + 1, at + 4..at + 12]),
            _ => None,
        }
    }

    /// An item of a tree; it is filled up to a multiple of four bytes.
    fn of_tree(&self, at: usize, kind: u8) -> Option<Vec<Range<usize>>> {
        let is_inner = kind == TREE_INNER;
        let length = self.u16(at)?;
        match (*self.bytes.get(at + 2)? & 0x7f, is_inner) {
            (DATA, false) => Some(std::iter::once(at..at + 3 + length).collect()),
            (OFF_PAGE, false) => Some(vec![at + 2..at + 3, at + 4..at + 12]),
            (DATA, true) => Some(vec![at..at + 3, at + 4..at + 12 + length]),
            (OFF_PAGE, true) => Some(vec![at..at + 3, at + 4..at + 12, at + 14..at + 15, at + 16..at + 24]),
            _ => None,
        }
    }
}

/// Whether a file is one of Berkeley DB's.
pub(crate) fn is_berkeley(file: &std::fs::File) -> bool {
    let mut head = [0; 16];
    let magic = file.read_exact_at(&mut head, 0).map(|()| [head[12], head[13], head[14], head[15]]);
    magic.is_ok_and(|magic| MAGIC.contains(&u32::from_le_bytes(magic)) || MAGIC.contains(&u32::from_be_bytes(magic)))
}

/// Gives a file a number that its name alone makes, as files of one database need different ones, and clears what belongs to
/// nothing in it. What is no file of Berkeley DB stays as it is.
pub(crate) fn settle(editor: &TreeEditor, path: &str) -> Result<(), String> {
    let Some(file) = editor.open_to_change(path).filter(is_berkeley) else { return Ok(()) };
    let said = |error: std::io::Error| format!("cannot change the database /{path}: {error}");
    if file.metadata().map_err(said)?.len() > LONGEST_DATABASE {
        return Ok(());
    }
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut &file, &mut bytes).map_err(said)?;
    // In one with checksums each change would be damage.
    if Pages::open(&bytes).is_none() {
        return Ok(());
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    file.write_all_at(&blake3::hash(name.as_bytes()).as_bytes()[..UID_LENGTH], UID).map_err(said)?;
    for range in unused(&bytes).unwrap_or_default() {
        file.write_all_at(&vec![0; range.len()], range.start as u64).map_err(said)?;
    }
    if let Some(range) = made_at(&bytes) {
        file.write_all_at(&vec![b'0'; range.len()], range.start as u64).map_err(said)?;
    }
    Ok(())
}

/// The digits of the time at which a NIS map was made, where a file has one.
fn made_at(bytes: &[u8]) -> Option<Range<usize>> {
    let end = bytes.windows(MADE_AT.len()).position(|window| window == MADE_AT)?;
    let digits = bytes[..end].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let start = end - digits;
    let is_item = digits > 0 && start.checked_sub(1).is_some_and(|before| bytes[before] == DATA);
    is_item.then_some(start..end)
}

/// Where bytes lie that belong to nothing and are not zero; none where the file is not understood.
fn unused(bytes: &[u8]) -> Option<Vec<Range<usize>>> {
    let file = Pages::open(bytes)?;
    let mut found = Vec::new();
    for start in (0..bytes.len()).step_by(file.size) {
        let mut used = file.used(start)?;
        used.sort_by_key(|range| range.start);
        let mut free = start;
        for range in used.into_iter().chain(std::iter::once(start + file.size..start + file.size)) {
            if bytes.get(free..range.start).is_some_and(|gap| gap.iter().any(|byte| *byte != 0)) {
                found.push(free..range.start);
            }
            free = free.max(range.end);
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page with a head: its kind, the offsets of its items, and what those are.
    fn page(kind: u8, items: &[(u16, &[u8])]) -> Vec<u8> {
        let mut page = vec![0xee; 512];
        page[..HEAD].fill(0);
        page[20..22].copy_from_slice(&(items.len() as u16).to_le_bytes());
        page[25] = kind;
        for (number, (at, item)) in items.iter().enumerate() {
            page[HEAD + number * 2..][..2].copy_from_slice(&at.to_le_bytes());
            page[usize::from(*at)..][..item.len()].copy_from_slice(item);
        }
        page
    }

    fn head(magic: u32) -> Vec<u8> {
        let mut head = vec![0; 512];
        head[12..16].copy_from_slice(&magic.to_le_bytes());
        head[20..24].copy_from_slice(&512_u32.to_le_bytes());
        head[25] = if magic == MAGIC[0] { HASH_META } else { TREE_META };
        head
    }

    fn left(mut bytes: Vec<u8>) -> Vec<usize> {
        for range in unused(&bytes).unwrap() {
            bytes[range].fill(0);
        }
        (0..bytes.len()).filter(|at| bytes[*at] == 0xee).collect()
    }

    #[test]
    fn items_stay_and_what_lies_between_them_goes() {
        let leaf = page(
            TREE_LEAF,
            &[(508, &[1, 0, 1, b'a']), (500, &[2, 0, 0x81, b'b', 0xee]), (480, &[0, 0, 3, 9, 1, 0, 0, 0, 2, 0, 0, 0])],
        );
        let inner = page(TREE_INNER, &[(480, &[2, 0, 1, 9, 1, 0, 0, 0, 2, 0, 0, 0, 0xee, 0xee])]);
        // What is left is the item's own.
        assert_eq!(left([head(MAGIC[1]), leaf, inner].concat()), [512 + 504, 1024 + 492, 1024 + 493]);
        let hash = page(HASH, &[(507, &[1, 0xee, 2, 3, 4]), (495, &[3, 9, 9, 9, 1, 0, 0, 0, 2, 0, 0, 0])]);
        let mut overflow = page(OVERFLOW, &[]);
        overflow[22] = 3;
        assert_eq!(
            left([head(MAGIC[0]), hash, overflow, page(INVALID, &[])].concat()),
            [512 + 508, 1024 + 26, 1024 + 27, 1024 + 28]
        );
    }

    #[test]
    fn the_time_of_a_map_is_found_by_its_key() {
        assert_eq!(made_at(b"\x011795434621\x01YP_LAST_MODIFIED\x01@\0"), Some(1..11));
        for other in [
            &b"1795434621\x01YP_LAST_MODIFIED"[..],
            b"\x01\x01YP_LAST_MODIFIED",
            b"\x0117YP_LAST_MODIFIED",
            b"\x01YP_LAST_MODIFIED",
            b"",
        ] {
            assert_eq!(made_at(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_file_with_sums_stays_as_it_is() {
        let tree = tempfile::tempdir().unwrap();
        let path = tree.path().join("a.db");
        let editor = TreeEditor::open(tree.path().to_str().unwrap()).unwrap();
        let plain = [head(MAGIC[0]), page(INVALID, &[])].concat();
        let mut sums = plain.clone();
        sums[26] = 1;
        for (bytes, is_changed) in [(plain, true), (sums, false)] {
            std::fs::write(&path, &bytes).unwrap();
            settle(&editor, "a.db").unwrap();
            assert_eq!(std::fs::read(&path).unwrap() != bytes, is_changed);
        }
    }

    #[test]
    fn what_is_not_understood_is_left_alone() {
        assert_eq!(unused(b""), None);
        assert_eq!(unused(&[head(MAGIC[1]), page(4, &[])].concat()), None);
        let mut outside = page(TREE_LEAF, &[(500, &[1, 0, 1])]);
        outside[HEAD..HEAD + 2].copy_from_slice(&600_u16.to_le_bytes());
        assert_eq!(unused(&[head(MAGIC[1]), outside].concat()), None);
        let mut sums = head(MAGIC[1]);
        sums[26] = 1;
        assert_eq!(unused(&sums), None);
        // Nothing ends this, whatever stands there.
        let mut seed = 7_u32;
        for _ in 0..2000 {
            let mut bytes = [head(MAGIC[0]), page(HASH, &[(507, &[1])]), page(TREE_LEAF, &[(500, &[1])])].concat();
            for _ in 0..20 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (seed >> 8) as usize % bytes.len();
                bytes[at] = seed as u8;
            }
            let _ = unused(&bytes);
        }
    }
}
