//! A packed image as a tree of the store's scratch directory. Runs inside the namespace.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use archive::{Extractor, Listed, Meta, Unlisted, list_packed};
use base::failure::Failure;
use node_words::name::bytes_of;

/// Attributes that say something to programs in the tree; others may not be set here, or are the host's.
const KEPT: [&str; 3] = ["security.capability", "system.posix_acl_access", "system.posix_acl_default"];

/// Longest target of a link, in bytes. Source: Linux, PATH_MAX.
const LONGEST_LINK: u64 = 4096;

/// Mode, owner and group of the root, where the file says them.
pub(crate) type Root = Option<(u32, u32, u32)>;

/// Unpacks a file into a directory, given relative to the working directory. Devices, pipes and sockets are left out: no one may
/// make devices here, and a tree that is only looked at needs none.
/// Errors: A text for the person.
pub(crate) fn unpack(packed: &Path, to: &str) -> Result<Root, String> {
    let said = |problem: &dyn std::fmt::Display| {
        let message = format!("cannot unpack `{}`: {problem}", packed.display());
        // A file that others made, and not this machine's disk or memory.
        if Failure::of(&message).is_some() { message } else { Failure::NotUnpacked.met(message) }
    };
    let file = File::open(packed).map_err(|error| said(&error))?;
    let mut unpacking = Unpacking { extractor: Extractor::new(to)?, names: BTreeMap::new(), root: None };
    list_packed(&file, &mut |listed, content| unpacking.take(listed, content).map_err(io::Error::other)).map_err(
        |error| match error {
            Unlisted::Io(error) => said(&error),
            Unlisted::FileSystem(kind) => said(&format!("it is a file system ({kind}), which only the kernel reads")),
            Unlisted::Unknown => said(&"it is neither an archive in cpio or tar, nor squashfs or erofs"),
        },
    )?;
    unpacking.extractor.finish()?;
    Ok(unpacking.root)
}

struct Unpacking {
    extractor: Extractor,
    /// Names of files of several names in cpio, by their numbers.
    names: BTreeMap<u64, Vec<String>>,
    root: Root,
}

impl Unpacking {
    fn take(&mut self, listed: &Listed, content: &mut dyn io::Read) -> Result<(), String> {
        let path = bytes_of(&listed.path);
        let xattrs = listed.xattrs.iter().filter(|(name, _)| KEPT.contains(&name.as_str())).cloned().collect();
        let meta = Meta { mode: listed.mode & 0o7777, uid: listed.uid, gid: listed.gid, mtime: listed.mtime, xattrs };
        if let Some(other) = &listed.same_as {
            return self.extractor.hard_link(&path, &bytes_of(other));
        }
        // Source: stat(2).
        match listed.mode & 0o170_000 {
            0o040_000 => {
                if listed.path.is_empty() {
                    self.root = Some((meta.mode, meta.uid, meta.gid));
                }
                self.extractor.directory(&path, &meta)
            }
            0o120_000 => {
                let mut target =
                    listed.target.as_deref().map(|target| bytes_of(target).into_owned()).unwrap_or_default();
                if listed.target.is_none() {
                    let mut content = io::Read::take(content, LONGEST_LINK);
                    io::Read::read_to_end(&mut content, &mut target).map_err(|error| error.to_string())?;
                    // Some writers of cpio end it as C does.
                    target.truncate(target.iter().position(|byte| *byte == 0).unwrap_or(target.len()));
                }
                self.extractor.symlink(&path, &target, &meta)
            }
            0o100_000 => {
                let Some((number, _)) = listed.file else { return self.extractor.file(&path, &meta, content) };
                // The content comes with one of the names, which is the last one where GNU cpio wrote it.
                let names = self.names.entry(number).or_default();
                match names.first() {
                    Some(first) if listed.size == 0 => self.extractor.hard_link(&path, &bytes_of(first))?,
                    _ => {
                        self.extractor.file(&path, &meta, content)?;
                        for name in &*names {
                            self.extractor.hard_link(&bytes_of(name), &path)?;
                        }
                    }
                }
                names.push(listed.path.clone());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use archive::{Body, Head, write_entry, write_trailer};

    #[test]
    fn names_of_one_file_are_one_file_wherever_its_content_comes() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let head = |inode, links, mode| Head { inode, links, mode, uid, gid, mtime: 7 };
        let mut packed = Vec::new();
        let file = |text: &'static [u8]| match text {
            [] => Body::File(0, None),
            text => Body::File(text.len() as u64, Some(Box::new(text))),
        };
        write_entry(&mut packed, ".", head(1, 2, 0o750), Body::Directory).unwrap();
        for (path, number, text) in [("a", 5, &b""[..]), ("b", 5, b"text"), ("c", 5, b""), ("d", 6, b"other")] {
            write_entry(&mut packed, path, head(number, 3, 0o640), file(text)).unwrap();
        }
        write_entry(&mut packed, "link", head(7, 1, 0o777), Body::Symlink("/etc/x")).unwrap();
        write_trailer(&mut packed).unwrap();
        let name = folder.path().join("packed");
        std::fs::write(&name, packed).unwrap();
        let tree = folder.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        assert_eq!(unpack(&name, tree.to_str().unwrap()).unwrap(), Some((0o750, uid, gid)));
        let number = |name: &str| std::fs::metadata(tree.join(name)).unwrap().ino();
        assert!(number("a") == number("b") && number("b") == number("c") && number("c") != number("d"));
        assert_eq!(std::fs::read(tree.join("c")).unwrap(), b"text");
        assert_eq!(std::fs::read_link(tree.join("link")).unwrap(), Path::new("/etc/x"));
        let said = unpack(&tree.join("a"), "/").unwrap_err();
        assert!(said.contains("neither an archive in cpio or tar"), "{said}");
    }
}
