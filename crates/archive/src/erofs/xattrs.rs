//! Extended attributes: each once, in an area of their own; an inode has their numbers.

use std::collections::BTreeMap;

/// Kinds of attributes with their numbers. Source: erofs_fs.h, EROFS_XATTR_INDEX_.
const KINDS: [(&str, u8); 5] =
    [("system.posix_acl_access", 2), ("system.posix_acl_default", 3), ("user.", 1), ("trusted.", 4), ("security.", 6)];

/// The number of an attribute's kind, and what of its name is not said by that.
fn kind(name: &str) -> Option<(u8, &str)> {
    KINDS.iter().find_map(|(prefix, number)| {
        let rest = name.strip_prefix(prefix)?;
        let is_whole = !prefix.ends_with('.');
        (is_whole == rest.is_empty() && rest.len() <= 255).then_some((*number, rest))
    })
}

/// Whether the format can hold an attribute.
pub fn fits_erofs(name: &str) -> bool {
    kind(name).is_some()
}

#[derive(Default)]
pub(super) struct Shared {
    known: BTreeMap<(String, Vec<u8>), u32>,
    bytes: Vec<u8>,
}

impl Shared {
    /// What stands behind the inode: nothing, or a head and numbers. A number counts words of four bytes.
    pub(super) fn body(&mut self, all: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
        let mut numbers = Vec::new();
        for (name, value) in all {
            let Some((index, rest)) = kind(name) else { continue };
            let Ok(size) = u16::try_from(value.len()) else { continue };
            let number = *self.known.entry((name.clone(), value.clone())).or_insert_with(|| {
                let number = (self.bytes.len() / 4) as u32;
                self.bytes.extend_from_slice(&[rest.len() as u8, index]);
                self.bytes.extend_from_slice(&size.to_le_bytes());
                self.bytes.extend_from_slice(rest.as_bytes());
                self.bytes.extend_from_slice(value);
                self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
                number
            });
            numbers.push(number);
        }
        if numbers.is_empty() {
            return Vec::new();
        }
        // More than a byte counts no system has.
        numbers.truncate(255);
        let mut body = vec![0; 12];
        body[4] = numbers.len() as u8;
        body.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        body
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
