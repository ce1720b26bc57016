//! Taking a bundle apart, in a directory of its own that no one else can write.

use std::collections::BTreeSet;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use super::BundleError;
use super::members::member_mode;

const MEMBERS_LIMIT: usize = 1_000_000;

/// Most bytes that a byte of the bundle may unpack to; packed images and kernels do not shrink again.
const RATIO_LIMIT: u64 = 50;

/// Bytes that any bundle may unpack to.
const FREE_BYTES: u64 = 64 << 20;

const MANIFEST: &str = "manifest.xml";

/// Folder for the files of an image that had none. Its name is refused for a member.
pub(super) const TOP: &str = "\\top";

/// A reader that counts no further than it may.
struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left =
            self.left.checked_sub(read as u64).or(fault::planted("bundle-bomb").then_some(0)).ok_or_else(|| {
                std::io::Error::other("it decompresses to far more than a bundle contains (a decompression bomb)")
            })?;
        Ok(read)
    }
}

/// A path in the archive as parts; none for the archive's top itself.
fn parts(path: &[u8]) -> Result<Vec<String>, String> {
    let shown = path.escape_ascii().to_string();
    let text = std::str::from_utf8(path).map_err(|_| format!("the name `{shown}` is not UTF-8"))?;
    if text.starts_with('/') {
        return Err(format!("it contains the absolute path `{shown}`"));
    }
    let mut parts = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." if !fault::planted("bundle-leads-out") => {
                return Err(format!("it contains the path `{shown}`, which points outside it"));
            }
            part if part.contains(['\0', '\n', '\\']) => return Err(format!("it contains the invalid name `{shown}`")),
            part => parts.push(part.to_owned()),
        }
    }
    Ok(parts)
}

#[derive(Debug)]
pub(super) struct Unpacked {
    pub images: Vec<PathBuf>,
    /// Links, which are not made.
    pub left_out: Vec<String>,
}

pub(super) fn unpack(bundle: &Path, into: &Path) -> Result<Unpacked, BundleError> {
    let refused = |problem: String| BundleError::Refused { path: bundle.to_owned(), problem };
    let io = |error: std::io::Error| BundleError::Io { path: bundle.to_owned(), error };
    let file = std::fs::File::open(bundle).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(refused("it is not a regular file".to_owned()));
    }
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let is_gzip = std::io::BufRead::fill_buf(&mut reader).map_err(io)?.starts_with(&[0x1f, 0x8b]);
    let stream: Box<dyn Read> = match is_gzip {
        true => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        false => Box::new(reader),
    };
    let left = metadata.len().saturating_mul(RATIO_LIMIT).saturating_add(FREE_BYTES);
    let mut archive = archive::open_tar(Limited { inner: stream, left });
    let mut seen = BTreeSet::new();
    let mut left_out = Vec::new();
    let damaged = |error: std::io::Error| refused(format!("it cannot be read as a tar archive: {error}"));
    for (count, entry) in archive.entries().map_err(damaged)?.enumerate() {
        let mut entry = entry.map_err(damaged)?;
        if count >= MEMBERS_LIMIT {
            return Err(refused(format!("it has more than {MEMBERS_LIMIT} members")));
        }
        let parts = parts(&entry.path_bytes()).map_err(refused)?;
        if parts.is_empty() {
            continue;
        }
        let path = parts.join("/");
        let kind = entry.header().entry_type();
        if !kind.is_dir() && !seen.insert(path.clone()) {
            return Err(refused(format!("`{path}` is in it twice")));
        }
        let target = into.join(&path);
        let written = |error: std::io::Error| match error.kind() {
            // A name that is a file and a folder: the bundle's own mistake.
            std::io::ErrorKind::AlreadyExists | std::io::ErrorKind::NotADirectory => {
                refused(format!("`{}` is a file and a folder in it", path.escape_debug()))
            }
            _ => BundleError::Io { path: target.clone(), error },
        };
        match kind {
            tar::EntryType::Directory => std::fs::create_dir_all(&target).map_err(written)?,
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                std::fs::create_dir_all(target.parent().unwrap_or(into)).map_err(written)?;
                let mut file = std::fs::File::options().write(true).create_new(true).open(&target).map_err(written)?;
                copy(&mut entry, &mut file).map_err(|failed| match failed {
                    Failed::Reading(error) => damaged(error),
                    Failed::Writing(error) => written(error),
                })?;
                let bits = member_mode(entry.header().mode().unwrap_or(0o644));
                let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(bits);
                file.set_permissions(mode).map_err(written)?;
            }
            // Where a link leads is not known before all others are made, and it is moved afterwards: none is.
            tar::EntryType::Symlink if parts[..parts.len() - 1].iter().take(2).any(|part| part == "extra") => {
                left_out.push(path);
            }
            tar::EntryType::Symlink | tar::EntryType::Link => {
                return Err(refused(format!("`{path}` is a link")));
            }
            tar::EntryType::XGlobalHeader => {}
            _ => return Err(refused(format!("`{path}` is neither a file nor a folder"))),
        }
    }
    if into.join(MANIFEST).is_file() {
        // One image without a folder around it: as documents of xCAT show it, and as people pack it again.
        let folder = into.join(TOP);
        let entries: Vec<_> = std::fs::read_dir(into).map_err(io)?.flatten().collect();
        std::fs::create_dir(&folder).map_err(io)?;
        for entry in entries {
            std::fs::rename(entry.path(), folder.join(entry.file_name())).map_err(io)?;
        }
        return Ok(Unpacked { images: vec![folder], left_out });
    }
    let folders = std::fs::read_dir(into).map_err(io)?.flatten().map(|entry| entry.path());
    let mut images: Vec<PathBuf> = folders.filter(|folder| folder.join(MANIFEST).is_file()).collect();
    images.sort();
    if images.is_empty() {
        return Err(refused(format!("neither its top nor a folder in it has a {MANIFEST}")));
    }
    Ok(Unpacked { images, left_out })
}

enum Failed {
    Reading(std::io::Error),
    Writing(std::io::Error),
}

fn copy(from: &mut dyn Read, to: &mut std::fs::File) -> Result<(), Failed> {
    let mut buffer = vec![0; 1 << 18];
    loop {
        let read = from.read(&mut buffer).map_err(Failed::Reading)?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read]).map_err(Failed::Writing)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(fill: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        fill(&mut builder);
        builder.into_inner().unwrap()
    }

    fn add(builder: &mut tar::Builder<Vec<u8>>, name: &str, kind: tar::EntryType, link: &str, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_entry_type(kind);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }

    fn unpacked(bytes: &[u8]) -> Result<Unpacked, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("into")).unwrap();
        let path = folder.path().join("b.tgz");
        std::fs::write(&path, bytes).unwrap();
        let done = unpack(&path, &folder.path().join("into")).map_err(|error| error.to_string());
        let around: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
        assert_eq!(around.len(), 2, "{around:?}");
        done
    }

    #[test]
    fn hostile_bundles_are_refused() {
        use tar::EntryType as Kind;
        let manifest =
            |builder: &mut tar::Builder<Vec<u8>>| add(builder, "./i/manifest.xml", Kind::Regular, "", b"<x/>");
        assert_eq!(unpacked(&bundle(manifest)).unwrap().images.len(), 1);
        let linked = bundle(|builder| {
            manifest(builder);
            add(builder, "i/extra/x", Kind::Symlink, "/etc", b"");
        });
        assert_eq!(unpacked(&linked).unwrap().left_out, ["i/extra/x"]);
        for (name, kind, link, said) in [
            ("../x", Kind::Regular, "", "points outside it"),
            ("/etc/x", Kind::Regular, "", "absolute path"),
            ("i/../../x", Kind::Regular, "", "points outside it"),
            ("i/x", Kind::Symlink, "/etc", "is a link"),
            ("i/x", Kind::Link, "i/manifest.xml", "is a link"),
            ("i/x", Kind::Block, "", "neither a file nor a folder"),
            ("i/x", Kind::Fifo, "", "neither a file nor a folder"),
            ("i/manifest.xml", Kind::Regular, "", "twice"),
            ("i/a\nb", Kind::Regular, "", "invalid name"),
        ] {
            let bytes = bundle(|builder| {
                manifest(builder);
                add(builder, name, kind, link, b"");
            });
            let problem = unpacked(&bytes).unwrap_err();
            assert!(problem.contains(said), "{name}: {problem}");
        }
        assert!(unpacked(b"").unwrap_err().contains("manifest.xml"));
        assert!(unpacked(&[7; 4000]).unwrap_err().contains("tar archive"));
        let mut short = bundle(|builder| add(builder, "i/manifest.xml", Kind::Regular, "", &[1; 5000]));
        short.truncate(2000);
        assert!(unpacked(&short).unwrap_err().contains("tar archive"));
    }

    #[test]
    fn a_bomb_is_refused() {
        let mut bytes = Vec::new();
        let mut gzip = flate2::write::GzEncoder::new(&mut bytes, flate2::Compression::fast());
        let mut header = tar::Header::new_gnu();
        header.set_path("i/zeros").unwrap();
        header.set_size(300 << 20);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        gzip.write_all(header.as_bytes()).unwrap();
        let zeros = vec![0; 1 << 20];
        for _ in 0..300 {
            gzip.write_all(&zeros).unwrap();
        }
        gzip.finish().unwrap();
        let problem = unpacked(&bytes).unwrap_err();
        assert!(problem.contains("bomb"), "{problem}");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(0u8..=255, 0..2048)) {
            let _ = unpacked(&bytes);
            bytes.splice(0..0, bundle(|builder| add(builder, "i/manifest.xml", tar::EntryType::Regular, "", b"<x/>")));
            let _ = unpacked(&bytes);
        }
    }
}
