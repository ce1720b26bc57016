//! A server of Bazel's remote cache: bazel-remote, BuildGrid, NativeLink, Buildbarn.
//!
//! Source: bazelbuild/remote-apis, `remote_execution.proto` 2.3. An action of ours is an `Action` there whose salt is the key; its
//! result's output files are the entry, `entry.json`, and all files that it names. Servers that look (bazel-remote, Buildbarn) give
//! a result only while they have all of them.

mod client;

use std::fs::File;
use std::io::Write;
use std::path::Path;

use bazel_remote_apis::build::bazel::remote::execution::v2::{self as proto, digest_function};
use prost::Message;
use sha2::Digest as _;

use super::{ENTRY_LIMIT, News, Shelf, Trouble, Wanted, aside_of, bring_each, keep};
use crate::cache::entry::Object;
use crate::cache::rate::Rate;
use crate::digest::{Digest, Sha256};
use crate::distro::Progress;
use crate::store::StoreError;
use client::{Client, Refused};

const ENTRY: &str = "entry.json";
/// Files up to this size go several in one message; gRPC's usual limit for one is 4 MiB.
const SMALL: u64 = 1 << 20;
/// What one message has at most, with what stands beside each file in it: its digest, a status.
const BATCH: u64 = 3 << 20;
const BESIDE: u64 = 256;

#[derive(Debug)]
pub(super) struct Remote(Client);

fn digest_of(object: &Object) -> proto::Digest {
    proto::Digest { hash: object.sha256.to_string(), size_bytes: i64::try_from(object.size).unwrap_or(i64::MAX) }
}

fn object_of(bytes: &[u8]) -> Object {
    Object { size: bytes.len() as u64, sha256: Sha256::of(bytes) }
}

fn action_of(key: &Digest) -> proto::Digest {
    let action = proto::Action { salt: key.0.to_vec(), ..proto::Action::default() };
    digest_of(&object_of(&action.encode_to_vec()))
}

/// Groups of files that go in one message each; a large one goes alone.
fn batches(wanted: &[Wanted]) -> Vec<Vec<&Wanted>> {
    let mut all: Vec<Vec<&Wanted>> = Vec::new();
    let mut room = 0;
    for one in wanted {
        if one.object.size > SMALL {
            all.insert(0, vec![one]);
            continue;
        }
        let size = one.object.size + BESIDE;
        match all.last_mut().filter(|_| room >= size) {
            Some(last) => last.push(one),
            None => {
                all.push(vec![one]);
                room = BATCH;
            }
        }
        room -= size;
    }
    all
}

impl Remote {
    /// By its address: `grpc://HOST:PORT/INSTANCE`, or `grpcs://` with TLS.
    pub fn of(text: &str, rate: Rate) -> Result<Self, String> {
        Client::of(text, rate).map(Self)
    }

    /// Brings one file by itself, or several in one message.
    fn some(&self, wanted: &[&Wanted]) -> Result<(), Trouble> {
        let lost = |refused: Refused| Trouble::Lost(refused.problem);
        if let [one] = wanted
            && one.object.size > SMALL
        {
            let aside = aside_of(one).map_err(Trouble::Store)?;
            let own = |error: std::io::Error| Trouble::Store(StoreError::io("keep the file", &one.destination, error));
            let mut file = File::create(&aside).map_err(own)?;
            let mut hasher = sha2::Sha256::new();
            let mut kept = Ok(());
            let read = self.0.read(&digest_of(&one.object), &mut |bytes| {
                hasher.update(bytes);
                kept = file.write_all(bytes);
                kept.is_ok()
            });
            kept.map_err(own)?;
            return match read {
                Ok(true) if Sha256(hasher.finalize().into()) == one.object.sha256 => {
                    keep(aside.path(), one).map_err(Trouble::Store)
                }
                // What is missing or damaged is left out.
                Ok(_) => Ok(()),
                Err(refused) => Err(lost(refused)),
            };
        }
        let digests = wanted.iter().map(|one| digest_of(&one.object)).collect();
        let came = self.0.read_small(digests).map_err(lost)?;
        for one in wanted {
            let name = one.object.sha256.to_string();
            let Some(bytes) = came.get(&name).filter(|bytes| object_of(bytes) == one.object) else { continue };
            let aside = aside_of(one).map_err(Trouble::Store)?;
            std::fs::write(&aside, bytes)
                .map_err(|error| Trouble::Store(StoreError::io("keep the file", &one.destination, error)))?;
            keep(aside.path(), one).map_err(Trouble::Store)?;
        }
        Ok(())
    }

    fn send(&self, object: &Object, file: &Path) -> Result<bool, String> {
        if self.missing(&[object])?.is_empty() {
            return Ok(false);
        }
        let said = |refused: Refused| refused.problem;
        if object.size > SMALL {
            let file = File::open(file).map_err(|error| error.to_string())?;
            self.0.write(&digest_of(object), file).map_err(said)?;
        } else {
            let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
            self.0.write_small(digest_of(object), bytes).map_err(said)?;
        }
        Ok(true)
    }
}

impl Shelf for Remote {
    fn entry(&self, key: &Digest) -> Result<Option<Vec<u8>>, String> {
        let result = match self.0.result(action_of(key), ENTRY) {
            Ok(Some(result)) => result,
            Ok(None) => return Ok(None),
            Err(refused) => return Err(refused.problem),
        };
        let Some(file) = result.output_files.into_iter().find(|file| file.path == ENTRY) else {
            return Ok(Some(Vec::new()));
        };
        let Some(digest) = file
            .digest
            .filter(|digest| u64::try_from(digest.size_bytes).is_ok_and(|size| size <= ENTRY_LIMIT && size > 0))
        else {
            return Ok(Some(Vec::new()));
        };
        let mut bytes = file.contents;
        if bytes.is_empty() {
            let read = self.0.read(&digest, &mut |more| {
                bytes.extend_from_slice(more);
                true
            });
            if !read.map_err(|refused| refused.problem)? {
                return Ok(Some(Vec::new()));
            }
        }
        let is_whole = Sha256::of(&bytes).to_string() == digest.hash;
        Ok(Some(if is_whole { bytes } else { Vec::new() }))
    }

    fn missing(&self, objects: &[&Object]) -> Result<Vec<Sha256>, String> {
        let found = self.0.missing(objects.iter().map(|object| digest_of(object)).collect());
        let found = found.map_err(|refused| refused.problem)?;
        Ok(found.iter().filter_map(|digest| Sha256::parse(&digest.hash).ok()).collect())
    }

    fn bring(&self, wanted: &[Wanted], progress: &dyn Progress) -> Result<Option<String>, StoreError> {
        let news = News::of(wanted, progress);
        bring_each(&batches(wanted), &|some| {
            self.some(some)?;
            some.iter().for_each(|one| news.done(one));
            Ok(())
        })
    }

    fn put(&self, object: &Object, file: &Path) -> Result<bool, String> {
        self.send(object, file)
    }

    fn put_entry(&self, key: &Digest, text: &Path, objects: &[Object]) -> Result<(), String> {
        let bytes = std::fs::read(text).map_err(|error| error.to_string())?;
        let entry = object_of(&bytes);
        self.send(&entry, text)?;
        let file = |path: String, object: &Object| proto::OutputFile {
            path,
            digest: Some(digest_of(object)),
            ..proto::OutputFile::default()
        };
        let files = objects.iter().map(|object| file(format!("files/{}", object.sha256), object));
        let output_files = std::iter::once(file(ENTRY.to_owned(), &entry)).chain(files).collect();
        let result = proto::ActionResult { output_files, ..proto::ActionResult::default() };
        self.0.set_result(action_of(key), result).map_err(|refused| refused.problem)
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
        };
        let wanted: Vec<Wanted> = [800 << 10, 5, 1 << 20, 9 << 20, 1 << 20, 1 << 20, 7].map(of).into();
        let sizes: Vec<Vec<u64>> =
            batches(&wanted).iter().map(|some| some.iter().map(|one| one.object.size).collect()).collect();
        assert_eq!(sizes, [vec![9 << 20], vec![800 << 10, 5, 1 << 20, 1 << 20], vec![1 << 20, 7]]);
        // Many that are empty are as large a message.
        let tiny: Vec<Wanted> = (0..20_000).map(|_| of(0)).collect();
        assert!(batches(&tiny).iter().all(|some| some.len() as u64 * BESIDE <= BATCH));
        assert!(sizes.iter().all(|some| some.len() == 1 || some.iter().sum::<u64>() <= BATCH));
    }

    #[test]
    fn the_key_of_an_action_is_its_salt() {
        let key = crate::digest::Digest::of(b"key");
        let digest = action_of(&key);
        // Field 9, 32 bytes.
        let bytes = [&[0x4a, 32], key.0.as_slice()].concat();
        assert_eq!((digest.hash, digest.size_bytes), (Sha256::of(&bytes).to_string(), 34));
    }
}
