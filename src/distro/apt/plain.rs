//! Packages with uncompressed content, made by all threads before a package manager needs them.
//!
//! dpkg undoes compression with one thread, one package after another, and does so again for each root that a package
//! goes into. What is left of a package besides its compression stays byte for byte.

use std::fs::File;
use std::io::{BufWriter, Read, Write};

use serde::{Deserialize, Serialize};

use super::PinnedPackage;
use crate::archive::write_plain;
use crate::digest::Sha256;
use crate::distro::inside::side_by_side;
use crate::distro::{DistroError, ready_name};
use crate::fault;
use crate::sandbox::Namespace;
use crate::sandbox::helper::News;
use crate::store::Store;

/// What to make plain, and where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlainRequest {
    /// Directory for the results, relative to the store's; it is made.
    pub directory: String,
    /// Content of each package file, and its name for messages.
    pub packages: Vec<(Sha256, String)>,
}

/// Priority of the work: a package manager that runs at the same time comes first.
const NICENESS: i32 = 5;

/// Makes plain packages in a directory of the store; `done` is called for each, from the calling thread.
///
/// # Errors
/// [`DistroError`] when a file is not what its name says (it is removed, to be fetched again), is no package, or there
/// is no space.
pub fn make_plain(
    store: &Store,
    namespace: &Namespace,
    directory: &str,
    packages: &[PinnedPackage],
    done: &mut dyn FnMut(Sha256),
) -> Result<(), DistroError> {
    let named = packages.iter().map(|package| (package.sha256, package.name.clone())).collect();
    let request = PlainRequest { directory: directory.to_owned(), packages: named };
    let made: Result<usize, _> = namespace.call("apt-plain", &request, &mut |text| {
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

/// Hashes what is read.
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

fn one(directory: &str, digest: &Sha256, name: &str) -> Result<(), String> {
    let said = |error: std::io::Error| format!("cannot unpack the package `{name}`: {error}");
    let from = File::open(Store::package_name(digest)).map_err(said)?;
    let mut from = Hashed { inner: from, hasher: sha2::Digest::new() };
    let file = File::create(ready_name(directory, digest)).map_err(said)?;
    let mut file = BufWriter::with_capacity(1 << 18, file);
    fault::point("plain.writing");
    let written = write_plain(&mut from, &mut file);
    std::io::copy(&mut from, &mut std::io::sink()).map_err(said)?;
    if Sha256(sha2::Digest::finalize(from.hasher).into()) != *digest {
        return Err(format!("the store is damaged: the package `{name}` is not what its digest says"));
    }
    written.map_err(|error| format!("the package `{name}` {error}"))?;
    file.flush().map_err(said)
}

/// Runs inside.
pub fn inside(request: PlainRequest, news: News<'_>) -> Result<usize, String> {
    let _ = rustix::process::nice(NICENESS);
    std::fs::create_dir_all(&request.directory).map_err(|error| format!("{}: {error}", request.directory))?;
    side_by_side(&request.packages, news, &|digest, name| one(&request.directory, digest, name))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use crate::archive::{read_members, write_plain};

    /// An `ar` archive with members that have odd sizes.
    fn package(data: (&str, &[u8])) -> Vec<u8> {
        let mut bytes = b"!<arch>\n".to_vec();
        for (name, content) in [("debian-binary", &b"2.0\n"[..]), ("control.tar", &b"abc"[..]), data] {
            bytes.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len()).bytes());
            bytes.extend(content);
            if content.len() % 2 == 1 {
                bytes.push(b'\n');
            }
        }
        bytes
    }

    fn members(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        read_members::<crate::archive::DebError>(bytes, |name, content| {
            let mut all = Vec::new();
            content.read_to_end(&mut all)?;
            found.push((name.to_owned(), all));
            Ok(())
        })
        .unwrap();
        found
    }

    #[test]
    fn a_plain_package_has_the_same_members() {
        for text in [&b"odd"[..], b"even", b""] {
            let compressed = zstd::encode_all(text, 3).unwrap();
            let mut plain = Cursor::new(Vec::new());
            write_plain(&package(("data.tar.zst", &compressed))[..], &mut plain).unwrap();
            let expected = [("control.tar".to_owned(), b"abc".to_vec()), ("data.tar".to_owned(), text.to_vec())];
            assert_eq!(members(plain.get_ref()), expected);
            assert_eq!(plain.get_ref().len() % 2, 0);
        }
        assert!(write_plain(&package(("data.tar.lz", b"x"))[..], &mut Cursor::new(Vec::new())).is_err());
    }
}
