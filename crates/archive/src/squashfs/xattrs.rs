//! Extended attributes: each set of them once.

use std::collections::BTreeMap;
use std::io;

use super::encoder::Encoder;
use super::metadata::{Place, Table};

/// An entry without any. Source: squashfs_fs.h, SQUASHFS_INVALID_XATTR.
pub(super) const NONE: u32 = u32::MAX;

/// Kinds of attributes that the format has a place for, with their numbers.
const KINDS: [(&str, u16); 3] = [("user.", 0), ("trusted.", 1), ("security.", 2)];

/// Whether the format can hold an attribute; those of POSIX ACLs it cannot.
pub fn fits(name: &str) -> bool {
    KINDS.iter().any(|(prefix, _)| name.starts_with(prefix))
}

#[derive(Default)]
pub(super) struct Sets {
    numbers: BTreeMap<Vec<(String, Vec<u8>)>, u32>,
    order: Vec<Vec<(String, Vec<u8>)>>,
}

impl Sets {
    /// The number of a set; attributes that the format cannot hold are left out.
    pub(super) fn number(&mut self, all: &BTreeMap<String, Vec<u8>>) -> u32 {
        let set: Vec<(String, Vec<u8>)> =
            all.iter().filter(|(name, _)| fits(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
        if set.is_empty() {
            return NONE;
        }
        *self.numbers.entry(set.clone()).or_insert_with(|| {
            self.order.push(set);
            self.order.len() as u32 - 1
        })
    }

    /// Writes them behind what is written; gives the table's place, or the sign that it is absent.
    /// Errors: The compressor's.
    pub(super) fn write(&self, out: &mut Vec<u8>, start: u64, encoder: &mut Encoder) -> io::Result<u64> {
        if self.order.is_empty() {
            return Ok(u64::MAX);
        }
        let mut values = Table::new(encoder);
        let mut known: Vec<(Place, u32, u32)> = Vec::new();
        for set in &self.order {
            let place = values.place();
            let mut bytes = Vec::new();
            for (name, value) in set {
                let Some((prefix, kind)) = KINDS.iter().find(|(prefix, _)| name.starts_with(prefix)) else { continue };
                let rest = &name[prefix.len()..];
                bytes.extend_from_slice(&kind.to_le_bytes());
                bytes.extend_from_slice(&(rest.len() as u16).to_le_bytes());
                bytes.extend_from_slice(rest.as_bytes());
                bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
                bytes.extend_from_slice(value);
            }
            values.add(&bytes)?;
            known.push((place, set.len() as u32, bytes.len() as u32));
        }
        let (bytes, _) = values.finish()?;
        let values_at = start + out.len() as u64;
        out.extend_from_slice(&bytes);
        let mut table = Table::new(encoder);
        for (place, count, size) in &known {
            table.add(&place.reference().to_le_bytes())?;
            table.add(&count.to_le_bytes())?;
            table.add(&size.to_le_bytes())?;
        }
        let (bytes, starts) = table.finish()?;
        let base = start + out.len() as u64;
        out.extend_from_slice(&bytes);
        let at = start + out.len() as u64;
        out.extend_from_slice(&values_at.to_le_bytes());
        out.extend_from_slice(&(known.len() as u32).to_le_bytes());
        out.extend_from_slice(&0_u32.to_le_bytes());
        starts.iter().for_each(|one| out.extend_from_slice(&(base + one).to_le_bytes()));
        Ok(at)
    }
}
