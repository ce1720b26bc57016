//! A server of Bazel's remote cache: bazel-remote, BuildGrid, NativeLink, Buildbarn.
//!
//! Source: bazelbuild/remote-apis, `remote_execution.proto` 2.3. An action of ours is an `Action` there whose salt is the key; its
//! result's output files are the entry, `entry.json`, and all files that it names. Servers that look (bazel-remote, Buildbarn) give
//! a result only while they have all of them.

mod client;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bazel_remote_apis::build::bazel::remote::execution::v2::{self as proto, digest_function};
use prost::Message;

use super::coming::{Coming, News, Notes, OTHER_LENGTH, Problems, Trouble, bring_each, too_slow};
use super::{ENTRY_LIMIT, Kept, Shelf, Unsent, Wanted};
use crate::entry::Object;
use crate::rate::Rate;
use crate::{Damage, Mended};
use base::digest::{Digest, Sha256};
use client::{Client, Refused};
use packages::Progress;
use store::StoreError;

const ENTRY: &str = "entry.json";
/// Files up to this size go several in one message; gRPC's usual limit for one is 4 MiB.
const SMALL: u64 = 1 << 20;
/// What one message has at most, with what stands beside each file in it: its digest, a status.
const BATCH: u64 = 3 << 20;
const BESIDE: u64 = 256;

/// How long the file of an entry may take.
const ENTRY_WITHIN: Duration = Duration::from_secs(30);

/// Up to which size files go several in one message of so many bytes.
fn small(most: u64) -> u64 {
    SMALL.min(most.saturating_sub(BESIDE))
}

/// How names of files begin in a result that was withdrawn: the server says that it has these, and they are to be sent again.
const DAMAGED: &str = "damaged/";

/// A server, and files that it is sent although it says that it has them.
#[derive(Debug)]
pub(super) struct Remote(Client, Mutex<BTreeSet<Sha256>>);

fn digest_of(object: &Object) -> proto::Digest {
    proto::Digest { hash: object.sha256.to_string(), size_bytes: i64::try_from(object.size).unwrap_or(i64::MAX) }
}

fn object_of(bytes: &[u8]) -> Object {
    Object { size: bytes.len() as u64, sha256: Sha256::of(bytes) }
}

/// The action of a key, and its digest. Its command and its directory are empty, and so is the file of both; those of imgbuild before
/// this one named none, which servers that look do not take.
fn action_of(key: &Digest, names_command: bool) -> (Vec<u8>, proto::Digest) {
    let empty = names_command.then(|| digest_of(&object_of(b"")));
    let action = proto::Action {
        command_digest: empty.clone(),
        input_root_digest: empty,
        salt: key.0.to_vec(),
        ..proto::Action::default()
    };
    let bytes = action.encode_to_vec();
    let digest = digest_of(&object_of(&bytes));
    (bytes, digest)
}

/// Groups of files that go in one message of `most` bytes each; a large one goes alone.
fn batches(wanted: &[Wanted], most: u64) -> Vec<Vec<&Wanted>> {
    let mut all: Vec<Vec<&Wanted>> = Vec::new();
    let mut room = 0;
    for one in wanted {
        if one.object.size > small(most) {
            all.insert(0, vec![one]);
            continue;
        }
        let size = one.object.size + BESIDE;
        match all.last_mut().filter(|_| room >= size) {
            Some(last) => last.push(one),
            None => {
                all.push(vec![one]);
                room = most;
            }
        }
        room = room.saturating_sub(size);
    }
    all
}

impl Remote {
    /// By its address: `grpc://HOST:PORT/INSTANCE`, or `grpcs://` with TLS.
    pub(super) fn of(text: &str, rate: Rate) -> Result<Self, String> {
        Client::of(text, rate).map(|client| Self(client, Mutex::default()))
    }

    fn damaged(&self) -> MutexGuard<'_, BTreeSet<Sha256>> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings one file by itself, as a stream.
    fn alone(&self, one: &Wanted) -> Result<(), Trouble> {
        let mut coming = Coming::of(one)?;
        let mut taken = Ok(());
        let read = self.0.read(&digest_of(&one.object), one.within, &mut |bytes| {
            taken = coming.take(bytes);
            taken.is_ok()
        });
        taken?;
        match read {
            Ok(true) => coming.end(),
            Ok(false) => Err(Trouble::Left(OTHER_LENGTH.to_owned())),
            Err(refused) if refused.is_slow => Err(too_slow(one)),
            Err(refused) => Err(Trouble::Lost(refused.problem)),
        }
    }

    /// Brings one large file, or several in one message: one that is missing costs no other.
    fn some(&self, wanted: &[&Wanted], notes: &Notes) -> Result<(), Trouble> {
        let each = || {
            let one = |one: &&Wanted| self.alone(one).or_else(|trouble| notes.note(one, trouble));
            wanted.iter().try_for_each(one)
        };
        if wanted.iter().any(|one| one.object.size > small(self.0.batch())) {
            return each();
        }
        let digests = wanted.iter().map(|one| digest_of(&one.object)).collect();
        let came = match self.0.read_small(digests) {
            Ok(came) => came,
            // It gives no messages of that size, or only one file at a time.
            Err(refused) if refused.is_of_call => return each(),
            Err(refused) => return Err(Trouble::Lost(refused.problem)),
        };
        for one in wanted {
            let taken = match came.get(&one.object.sha256.to_string()) {
                Some(bytes) => Coming::of(one).and_then(|mut coming| coming.take(bytes).and_then(|()| coming.end())),
                None => Err(Trouble::Left(OTHER_LENGTH.to_owned())),
            };
            taken.or_else(|trouble| notes.note(one, trouble))?;
        }
        Ok(())
    }

    fn send(&self, object: &Object, file: &Path, is_damaged: bool) -> Result<bool, Unsent> {
        let is_damaged = is_damaged || self.damaged().contains(&object.sha256);
        if !is_damaged && self.missing(&[object])?.is_empty() {
            return Ok(false);
        }
        if object.size > small(self.0.batch()) {
            let file = File::open(file).map_err(|error| error.to_string())?;
            self.0.write(&digest_of(object), file)?;
        } else {
            let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
            self.0.write_small(digest_of(object), bytes)?;
        }
        self.damaged().remove(&object.sha256);
        Ok(true)
    }

    /// Sets the result of an action. Strict servers refuse that of one that they do not have, or whose command they do not.
    fn set(&self, key: &Digest, files: impl Iterator<Item = (String, Object)>) -> Result<(), Unsent> {
        let (action, digest) = action_of(key, true);
        for bytes in [Vec::new(), action] {
            let object = object_of(&bytes);
            if !self.missing(&[&object])?.is_empty() {
                self.0.write_small(digest_of(&object), bytes)?;
            }
        }
        let file = |(path, object): (String, Object)| proto::OutputFile {
            path,
            digest: Some(digest_of(&object)),
            ..proto::OutputFile::default()
        };
        let result = proto::ActionResult { output_files: files.map(file).collect(), ..proto::ActionResult::default() };
        Ok(self.0.set_result(digest, result)?)
    }
}

impl From<Refused> for Unsent {
    fn from(refused: Refused) -> Self {
        Self { problem: refused.problem, is_of_one: refused.is_of_call }
    }
}

impl Shelf for Remote {
    fn entry(&self, key: &Digest) -> Result<Kept, String> {
        let odd = |problem: &str| Ok(Kept::Odd(problem.to_owned()));
        let mut result = self.0.result(action_of(key, true).1, ENTRY);
        if matches!(result, Ok(None)) {
            result = self.0.result(action_of(key, false).1, ENTRY);
        }
        let result = match result {
            Ok(Some(result)) => result,
            Ok(None) => return Ok(Kept::Nothing),
            // One that it does not give is one, and not all.
            Err(refused) if refused.is_of_call => return Ok(Kept::Odd(refused.problem)),
            Err(refused) => return Err(refused.problem),
        };
        let file = result.output_files.iter().find(|file| file.path == ENTRY).cloned();
        let Some(file) = file else {
            let hash = |name: &proto::OutputFile| Sha256::parse(name.path.strip_prefix(DAMAGED)?).ok();
            self.damaged().extend(result.output_files.iter().filter_map(hash));
            return odd("the result is not an action, or was withdrawn");
        };
        let is_small =
            |digest: &proto::Digest| u64::try_from(digest.size_bytes).is_ok_and(|size| size <= ENTRY_LIMIT && size > 0);
        let Some(digest) = file.digest.filter(is_small) else { return odd("it is empty or too large") };
        let mut bytes = file.contents;
        if bytes.is_empty() {
            let read = self.0.read(&digest, ENTRY_WITHIN, &mut |more| {
                bytes.extend_from_slice(more);
                true
            });
            match read {
                Ok(true) => {}
                Ok(false) => return odd("its file is missing"),
                Err(refused) if refused.is_of_call => return Ok(Kept::Odd(refused.problem)),
                Err(refused) => return Err(refused.problem),
            }
        }
        let is_whole = Sha256::of(&bytes).to_string() == digest.hash;
        if is_whole { Ok(Kept::Text(bytes)) } else { odd("its file does not match its digest") }
    }

    fn missing(&self, objects: &[&Object]) -> Result<Vec<Sha256>, String> {
        let found = self.0.missing(objects.iter().map(|object| digest_of(object)).collect());
        let found = found.map_err(|refused| refused.problem)?;
        Ok(found.iter().filter_map(|digest| Sha256::parse(&digest.hash).ok()).collect())
    }

    fn bring(&self, wanted: &[Wanted], progress: &dyn Progress) -> Result<Problems, StoreError> {
        let news = News::of(wanted, progress);
        bring_each(&batches(wanted, self.0.batch()), &|some, notes| {
            self.some(some, notes)?;
            some.iter().filter(|one| one.destination.is_file()).for_each(|one| news.done(one));
            Ok(())
        })
    }

    fn put(&self, object: &Object, file: &Path, is_damaged: bool) -> Result<bool, Unsent> {
        self.send(object, file, is_damaged)
    }

    fn put_entry(&self, key: &Digest, text: &Path, objects: &[Object]) -> Result<(), Unsent> {
        let entry = object_of(&std::fs::read(text).map_err(|error| error.to_string())?);
        self.send(&entry, text, false)?;
        let files = objects.iter().map(|object| (format!("files/{}", object.sha256), object.clone()));
        self.set(key, std::iter::once((ENTRY.to_owned(), entry)).chain(files))
    }

    /// Nothing can be removed by this protocol: a result without an entry takes the place of one that is damaged.
    fn mend(&self, damage: &Damage) -> Result<Mended, Unsent> {
        if let Damage::Entry(key, damaged) = damage {
            let files = damaged.iter().map(|object| (format!("{DAMAGED}{}", object.sha256), object.clone()));
            // Some take no result without files.
            self.set(key, std::iter::once(("withdrawn".to_owned(), object_of(b""))).chain(files))?;
        }
        Ok(Mended::SentAgain)
    }
}

/// The function of digests that all of this speaks of.
const SHA256: i32 = digest_function::Value::Sha256 as i32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_go_together_and_large_ones_alone() {
        let of = |size: u64| Wanted {
            object: Object { size, sha256: Sha256::of(&size.to_le_bytes()) },
            destination: std::path::PathBuf::new(),
            within: Duration::ZERO,
        };
        let wanted: Vec<Wanted> = [800 << 10, 5, 1 << 20, 9 << 20, 1 << 20, 1 << 20, 7].map(of).into();
        let sizes: Vec<Vec<u64>> =
            batches(&wanted, BATCH).iter().map(|some| some.iter().map(|one| one.object.size).collect()).collect();
        assert_eq!(sizes, [vec![9 << 20], vec![800 << 10, 5, 1 << 20, 1 << 20], vec![1 << 20, 7]]);
        // Many that are empty are as large a message.
        let tiny: Vec<Wanted> = (0..20_000).map(|_| of(0)).collect();
        assert!(batches(&tiny, BATCH).iter().all(|some| some.len() as u64 * BESIDE <= BATCH));
        // A server takes less than others in one message: what is larger than that goes alone.
        let less = batches(&wanted, 64 << 10);
        assert_eq!(less.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1, 1, 1, 2]);
        assert!(sizes.iter().all(|some| some.len() == 1 || some.iter().sum::<u64>() <= BATCH));
        // One takes less than what stands beside a file.
        for most in [0, 1, BESIDE - 1, BESIDE] {
            assert_eq!(batches(&[of(0), of(1), of(0)], most).iter().map(Vec::len).sum::<usize>(), 3, "{most}");
        }
    }

    #[test]
    fn the_key_of_an_action_is_its_salt() {
        let key = base::digest::Digest::of(b"key");
        let of = |names_command| action_of(&key, names_command).1;
        // Field 9, 32 bytes.
        let salt = [&[0x4a, 32], key.0.as_slice()].concat();
        let found = of(false);
        assert_eq!((found.hash, found.size_bytes), (Sha256::of(&salt).to_string(), 34));
        // Fields 1 and 2: a digest, whose field 1 is 64 digits; a size of 0 is left out.
        let digits = Sha256::of(b"").to_string();
        let empty = |field: u8| [&[field, 66, 0x0a, 64], digits.as_bytes()].concat();
        let bytes = [empty(0x0a), empty(0x12), salt].concat();
        let found = of(true);
        assert_eq!((found.hash, found.size_bytes), (Sha256::of(&bytes).to_string(), bytes.len() as i64));
    }
}
