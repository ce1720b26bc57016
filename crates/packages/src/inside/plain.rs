//! Packages without their compression, made by all threads before a package manager needs them.
//!
//! dpkg and rpm undo compression with one thread, one package after another, and do so again for each root that a package
//! goes into. What is left of a package besides its compression stays byte for byte.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::common::side_by_side;
use super::decompressed;
use crate::{DistroError, ready_name};
use base::digest::Sha256;
use base::failure::{DAMAGED, Failure};
use recipe::PinnedPackage;
use sandbox::Namespace;
use sandbox::helper::News;
use store::Store;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PlainRequest {
    /// Directory for the results, relative to the store's; it is made.
    pub directory: String,
    /// Content of each package file, and its name for messages.
    pub packages: Vec<(Sha256, String)>,
}

/// Writes one package without its compression, and gives whether undoing it was slow; says what is wrong with it otherwise.
pub(crate) type Rewrite = fn(&mut dyn Read, &mut BufWriter<File>) -> Result<bool, String>;

/// Priority of the work: a package manager that runs at the same time comes first.
const NICENESS: i32 = 5;

/// Makes plain packages in a directory of the store by an operation that calls [`inside`]; `done` is called for each, from
/// the calling thread.
/// Errors: [`DistroError`] when a file is not what its name says (it is removed, to be fetched again), is no package, or there
/// is no space.
pub(crate) fn make_plain(
    operation: &'static str,
    (store, namespace): (&Store, &Namespace),
    directory: &str,
    packages: &[PinnedPackage],
    done: &mut dyn FnMut(Sha256),
) -> Result<(), DistroError> {
    let named = packages.iter().map(|package| (package.sha256, package.name.clone())).collect();
    let request = PlainRequest { directory: directory.to_owned(), packages: named };
    let made: Result<usize, _> = namespace.call(operation, &request, &mut |text| {
        if let Ok(digest) = Sha256::parse(text) {
            done(digest);
        }
    });
    if made.is_err() {
        // A damaged file is removed and named better than from inside.
        for package in packages {
            store.check_package(&package.sha256)?;
        }
    }
    made?;
    Ok(())
}

struct Hashed<R> {
    inner: R,
    hasher: sha2::Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        sha2::Digest::update(&mut self.hasher, &buffer[..read]);
        Ok(read)
    }
}

/// Makes one package plain; gives whether it took long.
fn one(directory: &str, digest: &Sha256, name: &str, write: Rewrite) -> Result<bool, String> {
    if decompressed::take(digest, &ready_name(directory, digest)) {
        return Ok(false);
    }
    let said = |error: std::io::Error| format!("cannot unpack the package `{name}`: {error}");
    let from = File::open(Store::package_name(digest)).map_err(said)?;
    let mut from = Hashed { inner: from, hasher: sha2::Digest::new() };
    let file = File::create(ready_name(directory, digest)).map_err(said)?;
    let mut file = BufWriter::with_capacity(1 << 18, file);
    fault::point("plain.writing");
    let written = write(&mut from, &mut file);
    std::io::copy(&mut from, &mut std::io::sink()).map_err(said)?;
    if Sha256(sha2::Digest::finalize(from.hasher).into()) != *digest {
        return Err(Failure::Damaged.met(format!("{DAMAGED}: the package `{name}` does not match its digest")));
    }
    let is_slow = written.map_err(|error| format!("the package `{name}` {error}"))?;
    file.flush().map_err(said)?;
    Ok(is_slow)
}

pub(crate) fn inside(request: PlainRequest, news: News<'_>, write: Rewrite) -> Result<usize, String> {
    let _ = rustix::process::nice(NICENESS);
    std::fs::create_dir_all(&request.directory).map_err(|error| format!("{}: {error}", request.directory))?;
    let slow = Mutex::new(Vec::new());
    let made = side_by_side(&request.packages, news, &|digest, name| {
        if one(&request.directory, digest, name, write)? {
            slow.lock().unwrap_or_else(PoisonError::into_inner).push((*digest, name.to_owned()));
        }
        Ok(())
    })?;
    // Anyone who waits for them has them.
    let slow = slow.into_inner().unwrap_or_else(PoisonError::into_inner);
    side_by_side(&slow, &mut |_| {}, &|digest, _| {
        decompressed::keep(digest, &ready_name(&request.directory, digest));
        Ok(())
    })?;
    Ok(made)
}
