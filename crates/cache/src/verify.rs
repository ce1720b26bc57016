//! Whether what a server keeps is as it was written: each entry, and each file that one names, is read once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::bring::worth_of_size;
use super::entry::{Entry, Object, SCHEME, Signed, signed};
use super::keep::Wrong;
use super::place::{CONNECTIONS, Kept, Place, Wanted};
use base::digest::{Digest, Sha256};
use packages::{Progress, side_by_side};
use store::StoreError;

/// So many bytes are here at once, of files that are read and not kept.
const AT_ONCE: u64 = 1 << 30;

/// What is wrong at a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// An entry, and those files that it names which are to be sent again.
    Entry(Digest, Vec<Object>),
    File(Object),
}

#[derive(Debug, Default)]
pub struct Checked {
    /// Entries that could be read.
    pub actions: usize,
    /// Bytes of the files that were read.
    pub bytes: u64,
    pub wrong: Vec<(Damage, Wrong)>,
    /// How many entries each key has signed, and how many no one has.
    pub signers: BTreeMap<String, usize>,
    pub unsigned: usize,
}

/// What became of something damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mended {
    Removed,
    /// It has no name any longer; a registry may keep its bytes until it collects what has none, and take no others before.
    Unlinked,
    /// The server removes nothing: builds that may write there send it again.
    SentAgain,
}

fn entry_name(key: &Digest) -> String {
    format!("the entry {key}")
}

impl Place {
    /// Reads entries, and all files that they name: what is damaged, and what could not be read. Nothing of it stays in `aside`.
    /// Errors: Why the server cannot be asked, in words; [`StoreError`] where there is no room for what is read.
    pub fn check(
        &self,
        keys: &[Digest],
        aside: &Path,
        progress: &dyn Progress,
    ) -> Result<Result<Checked, String>, StoreError> {
        let (mut checked, entries) = match self.entries(keys) {
            Ok(read) => read,
            Err(problem) => return Ok(Err(problem)),
        };
        let mut objects: BTreeMap<(Sha256, u64), Object> = BTreeMap::new();
        for object in entries.values().flat_map(Entry::objects) {
            objects.insert((object.sha256, object.size), object.clone());
        }
        let objects: Vec<Object> = objects.into_values().collect();
        let mut damaged: BTreeSet<Sha256> = BTreeSet::new();
        for some in chunks(&objects) {
            let wanted = |object: &Object| Wanted {
                object: object.clone(),
                destination: aside.join(object.sha256.to_string()),
                within: worth_of_size(object.size),
            };
            let wanted: Vec<Wanted> = some.iter().map(wanted).collect();
            let problems = self.bring(&wanted, progress)?;
            for one in &wanted {
                let (name, sha256) = (format!("the file {}", one.object.sha256), &one.object.sha256);
                let wrong = match (problems.of.get(sha256), problems.unread.get(sha256)) {
                    _ if one.destination.is_file() => {
                        checked.bytes = checked.bytes.saturating_add(one.object.size);
                        let _ = std::fs::remove_file(&one.destination);
                        continue;
                    }
                    (Some(problem), _) => Wrong::damaged(name, problem),
                    (None, Some(problem)) => Wrong::unread(name, problem),
                    (None, None) => Wrong::unread(name, "it was not asked for"),
                };
                if !wrong.is_unread {
                    damaged.insert(*sha256);
                }
                checked.wrong.push((Damage::File(one.object.clone()), wrong));
            }
            if let Some(problem) = problems.lost {
                return Ok(Err(problem));
            }
        }
        for (key, entry) in &entries {
            let lacks: Vec<Object> = entry.objects().filter(|one| damaged.contains(&one.sha256)).cloned().collect();
            if let Some(first) = lacks.first() {
                let problem = format!("it names the file {}, which is missing or damaged", first.sha256);
                checked.wrong.push((Damage::Entry(*key, lacks), Wrong::damaged(entry_name(key), problem)));
            }
        }
        Ok(Ok(checked))
    }

    /// Reads entries, several at a time; those that cannot be used are wrong.
    fn entries(&self, keys: &[Digest]) -> Result<(Checked, BTreeMap<Digest, Entry>), String> {
        let read = Mutex::new((Checked::default(), BTreeMap::new()));
        side_by_side(keys, CONNECTIONS, &|key, _| {
            let kept = self.entry(key)?;
            let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
            let (checked, entries) = &mut *read;
            let problem = match kept {
                Kept::Nothing => return Ok(()),
                Kept::Odd(problem) => problem,
                // A signature beside an entry, of which nothing but entries is known.
                Kept::Text(text) if text.starts_with(SCHEME.as_bytes()) => return Ok(()),
                Kept::Text(text) => match Entry::parse(&text, key, &[]) {
                    Err(problem) => problem,
                    Ok((entry, _)) => {
                        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
                        match signed(line, text.get(line.len() + 1..).unwrap_or_default()) {
                            Signed::Wrong => "its signature is not valid".to_owned(),
                            signer => {
                                match signer {
                                    Signed::By(name) => *checked.signers.entry(name).or_default() += 1,
                                    _ => checked.unsigned += 1,
                                }
                                checked.actions += 1;
                                entries.insert(*key, entry);
                                return Ok(());
                            }
                        }
                    }
                },
            };
            checked.wrong.push((Damage::Entry(*key, Vec::new()), Wrong::damaged(entry_name(key), problem)));
            Ok::<(), String>(())
        })?;
        Ok(read.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Files that are read together.
fn chunks(objects: &[Object]) -> Vec<&[Object]> {
    let (mut all, mut from, mut bytes) = (Vec::new(), 0, 0_u64);
    for (at, object) in objects.iter().enumerate() {
        if at > from && bytes.saturating_add(object.size) > AT_ONCE {
            all.push(&objects[from..at]);
            (from, bytes) = (at, 0);
        }
        bytes = bytes.saturating_add(object.size);
    }
    all.push(&objects[from..]);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_here_at_once_than_there_is_to_be_room_for() {
        let of = |sizes: &[u64]| -> Vec<usize> {
            let object = |size: &u64| Object { size: *size, sha256: Sha256::of(b"") };
            let objects: Vec<Object> = sizes.iter().map(object).collect();
            chunks(&objects).iter().map(|some| some.len()).collect()
        };
        assert_eq!(of(&[1, 2, 3]), [3]);
        assert_eq!(of(&[AT_ONCE, 1, AT_ONCE - 1, 1]), [1, 2, 1]);
        // A size is what an entry says.
        assert_eq!(of(&[u64::MAX, u64::MAX, 1]), [1, 1, 1]);
        assert_eq!(of(&[]), [0]);
    }
}
