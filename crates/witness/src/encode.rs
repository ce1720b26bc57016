//! A witness and what was made of it, as one sequence of bytes.
//!
//! ```text
//! "imgbuild memo 1\n"
//! the program's stamp (52 bytes), the key (32 bytes)
//! began (8), number of variables (4), each: name, 0 or 1 and value
//! number of facts (4), each: bytes shared with the path before (2), the rest (2 and so many), parent or all ones (4),
//!   needs (1), which of the following are there (1), own stamp or error, stamp or error through a link, digest, SHA-256
//! length of the payload (4) and the payload
//! BLAKE3 of all before (32)
//! ```
//!
//! Numbers are little-endian. Texts are preceded by their length (4).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::facts::{Fact, Witness};
use super::stamp::{Seen, Stamp, own_program};
use base::digest::{Digest, Sha256};

const MAGIC: &[u8] = b"imgbuild memo 1\n";
const STAMP_BYTES: usize = 52;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    pub witness: Witness,
    pub payload: Vec<u8>,
}

/// Bytes that are no memo of this program with this key: cut off, changed, of another version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a memo of this program")]
pub struct NotAMemo;

const THROUGH: u8 = 1;
const DIGEST: u8 = 2;
const SHA256: u8 = 4;
const OWN_ERROR: u8 = 8;
const THROUGH_ERROR: u8 = 16;

impl Sealed {
    /// The bytes; none where a path is too long for them or there is no telling which program this is.
    pub fn encode(&self, key: &Digest) -> Option<Vec<u8>> {
        let mut to = Vec::with_capacity(self.witness.facts.len() * 128 + self.payload.len() + 256);
        to.extend_from_slice(MAGIC);
        put_stamp(&mut to, &own_program()?);
        to.extend_from_slice(&key.0);
        to.extend_from_slice(&self.witness.began.to_le_bytes());
        put_length(&mut to, self.witness.variables.len())?;
        for (name, value) in &self.witness.variables {
            put_bytes(&mut to, name.as_bytes())?;
            to.push(u8::from(value.is_some()));
            put_bytes(&mut to, value.as_deref().unwrap_or_default().as_bytes())?;
        }
        put_length(&mut to, self.witness.facts.len())?;
        let mut before: &[u8] = b"";
        for fact in &self.witness.facts {
            let path = fact.path.as_os_str().as_bytes();
            let shared = path.iter().zip(before).take_while(|(a, b)| a == b).count();
            let rest = path.get(shared..)?;
            to.extend_from_slice(&u16::try_from(shared).ok()?.to_le_bytes());
            to.extend_from_slice(&u16::try_from(rest.len()).ok()?.to_le_bytes());
            to.extend_from_slice(rest);
            before = path;
            to.extend_from_slice(&fact.parent.unwrap_or(u32::MAX).to_le_bytes());
            to.push(fact.needs);
            let flag = |there: bool, bit: u8| if there { bit } else { 0 };
            to.push(
                flag(fact.through.is_some(), THROUGH)
                    | flag(fact.digest.is_some(), DIGEST)
                    | flag(fact.sha256.is_some(), SHA256)
                    | flag(fact.own.is_err(), OWN_ERROR)
                    | flag(fact.through.is_some_and(|seen| seen.is_err()), THROUGH_ERROR),
            );
            put_seen(&mut to, fact.own);
            if let Some(seen) = fact.through {
                put_seen(&mut to, seen);
            }
            to.extend(fact.digest.iter().flat_map(|digest| digest.0));
            to.extend(fact.sha256.iter().flat_map(|digest| digest.0));
        }
        put_bytes(&mut to, &self.payload)?;
        let digest = Digest::of(&to);
        to.extend_from_slice(&digest.0);
        Some(to)
    }

    /// Reads them back.
    /// Errors: [`NotAMemo`] for anything that [`Sealed::encode`] of this very program did not give for this key.
    pub fn decode(bytes: &[u8], key: &Digest) -> Result<Self, NotAMemo> {
        Self::read(bytes, key).ok_or(NotAMemo)
    }

    fn read(bytes: &[u8], key: &Digest) -> Option<Self> {
        let end = bytes.len().checked_sub(32)?;
        let (body, digest) = bytes.split_at(end);
        if !body.starts_with(MAGIC) || Digest::of(body).0 != digest {
            return None;
        }
        let mut from = Reader(body.get(MAGIC.len()..)?);
        if from.stamp()? != own_program()? || from.take(32)? != key.0 {
            return None;
        }
        let mut witness = Witness { began: from.i64()?, ..Witness::default() };
        for _ in 0..from.u32()? {
            let name = from.text()?;
            let there = from.take(1)? == [1];
            let value = from.text()?;
            witness.variables.insert(name, there.then_some(value));
        }
        let count = from.u32()? as usize;
        witness.facts.reserve(count.min(body.len() / 16));
        let mut path: Vec<u8> = Vec::new();
        for _ in 0..count {
            let shared = usize::from(from.u16()?);
            let rest = usize::from(from.u16()?);
            if shared > path.len() {
                return None;
            }
            path.truncate(shared);
            path.extend_from_slice(from.take(rest)?);
            let parent = Some(from.u32()?).filter(|index| *index != u32::MAX);
            let [needs, flags] = from.take(2)?.try_into().ok()?;
            let own = from.seen(flags & OWN_ERROR != 0)?;
            let through = match flags & THROUGH {
                0 => None,
                _ => Some(from.seen(flags & THROUGH_ERROR != 0)?),
            };
            let digest = if flags & DIGEST != 0 { Some(Digest(from.take(32)?.try_into().ok()?)) } else { None };
            let sha256 = if flags & SHA256 != 0 { Some(Sha256(from.take(32)?.try_into().ok()?)) } else { None };
            let path = PathBuf::from(OsStr::from_bytes(&path));
            witness.facts.push(Fact { path, parent, needs, own, through, digest, sha256 });
        }
        let payload = from.bytes()?.to_vec();
        from.0.is_empty().then_some(Self { witness, payload })
    }
}

fn put_length(to: &mut Vec<u8>, length: usize) -> Option<()> {
    to.extend_from_slice(&u32::try_from(length).ok()?.to_le_bytes());
    Some(())
}

fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    put_length(to, bytes.len())?;
    to.extend_from_slice(bytes);
    Some(())
}

fn put_stamp(to: &mut Vec<u8>, stamp: &Stamp) {
    to.extend_from_slice(&stamp.device.to_le_bytes());
    to.extend_from_slice(&stamp.inode.to_le_bytes());
    to.extend_from_slice(&stamp.mode.to_le_bytes());
    to.extend_from_slice(&stamp.uid.to_le_bytes());
    to.extend_from_slice(&stamp.gid.to_le_bytes());
    to.extend_from_slice(&stamp.size.to_le_bytes());
    to.extend_from_slice(&stamp.modified.to_le_bytes());
    to.extend_from_slice(&stamp.changed.to_le_bytes());
}

fn put_seen(to: &mut Vec<u8>, seen: Seen) {
    match seen {
        Ok(stamp) => put_stamp(to, &stamp),
        Err(number) => to.extend_from_slice(&number.to_le_bytes()),
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn i64(&mut self) -> Option<i64> {
        Some(i64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.u32()? as usize;
        self.take(count)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    fn stamp(&mut self) -> Option<Stamp> {
        let mut from = Reader(self.take(STAMP_BYTES)?);
        Some(Stamp {
            device: from.u64()?,
            inode: from.u64()?,
            mode: from.u32()?,
            uid: from.u32()?,
            gid: from.u32()?,
            size: from.u64()?,
            modified: from.i64()?,
            changed: from.i64()?,
        })
    }

    fn seen(&mut self, is_error: bool) -> Option<Seen> {
        if is_error { Some(Err(self.u32()?.cast_signed())) } else { Some(Ok(self.stamp()?)) }
    }
}
