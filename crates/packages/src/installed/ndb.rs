//! rpm's own database, the form of SUSE. Source: rpm's lib/backend/ndb/rpmpkg.c.

use super::little;

/// `RpmP`, `Slot`, `BlbS`, little-endian.
const HEADER: u32 = u32::from_le_bytes(*b"RpmP");
const SLOT: u32 = u32::from_le_bytes(*b"Slot");
const BLOB: u32 = u32::from_le_bytes(*b"BlbS");

/// Bytes of a page, of a slot, of a block, and of what precedes a header in its blob.
const PAGE: usize = 4096;
const SLOT_SIZE: usize = 16;
const BLOCK: usize = 16;
const BLOB_HEAD: usize = 16;

pub(super) fn headers(bytes: &[u8], take: &mut dyn FnMut(&[u8]) -> Result<(), String>) -> Result<(), String> {
    if little(bytes, 0) != Some(HEADER) || little(bytes, 4) != Some(0) {
        return Err("is not an rpm database in ndb format".to_owned());
    }
    let pages = little(bytes, 12).unwrap_or(0) as usize;
    let damaged = |what: &str| format!("is damaged: {what}");
    let slots = pages.checked_mul(PAGE).and_then(|end| bytes.get(..end));
    let slots = slots.ok_or_else(|| damaged("its package table is truncated"))?;
    let mut sum = 0_usize;
    let mut seen = std::collections::HashSet::new();
    // The head of the file has the place of two slots.
    for slot in slots.chunks_exact(SLOT_SIZE).skip(2) {
        if little(slot, 0) != Some(SLOT) {
            return Err(damaged("its package table has an invalid entry"));
        }
        let (index, block) = (little(slot, 4).unwrap_or(0), little(slot, 8).unwrap_or(0) as usize);
        // Both are 0 where the slot is free.
        if block == 0 {
            continue;
        }
        if !seen.insert(block) {
            return Err(damaged("two packages overlap"));
        }
        let blob = block.checked_mul(BLOCK).and_then(|at| bytes.get(at..)).unwrap_or_default();
        if little(blob, 0) != Some(BLOB) || little(blob, 4) != Some(index) {
            return Err(damaged(&format!("package number {index} is missing")));
        }
        let length = little(blob, 12).unwrap_or(0) as usize;
        sum = sum.saturating_add(length);
        if sum > bytes.len() {
            return Err(damaged("two packages overlap"));
        }
        let header = BLOB_HEAD.checked_add(length).and_then(|end| blob.get(BLOB_HEAD..end));
        take(header.ok_or_else(|| damaged(&format!("package number {index} is truncated")))?)?;
    }
    Ok(())
}
