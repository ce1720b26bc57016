//! The layer that an earlier build made of the same action: what did not change is neither read nor written again.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};

use archive::{Extractor, Meta};
use base::digest::Digest;
use node_words::name::bytes_of;
use store::{Kind, Manifest, Store, manifest_of};

pub(super) struct Earlier {
    manifest: Manifest,
    root: OwnedFd,
    /// When the manifest got its name: what was touched later may be damaged.
    sealed: (i64, i64),
}

impl Earlier {
    /// Opens it; none where it is gone or damaged.
    pub(super) fn open(layer: &Digest) -> Option<Self> {
        let manifest = manifest_of(layer).ok()?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(Store::tree_name(layer).as_str(), flags, Mode::empty()).ok()?;
        let sealed = rustix::fs::stat(Store::manifest_name(layer).as_str()).ok()?;
        Some(Self { manifest, root, sealed: (sealed.st_ctime, sealed.st_ctime_nsec.cast_signed()) })
    }

    /// Gives its file at the same place a further name in a tree, if it has this content, owner, mode and time, and nothing touched it
    /// since. Gives whether that was done.
    pub(super) fn name_in(
        &self,
        tree: &mut Extractor,
        place: &str,
        digest: Digest,
        meta: &Meta,
    ) -> Result<bool, String> {
        let Some(size) = self.size_of(place, &digest, meta) else { return Ok(false) };
        let (parent, name) = place.rsplit_once('/').unwrap_or((".", place));
        let name = bytes_of(name);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let Ok(parent) = rustix::fs::openat2(&self.root, &*bytes_of(parent), flags, Mode::empty(), resolve) else {
            return Ok(false);
        };
        let Ok(stat) = rustix::fs::statat(&parent, &*name, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(false) };
        let is_same = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_size as u64 == size
            && stat.st_mode & 0o7777 == meta.mode
            && (stat.st_uid, stat.st_gid) == (meta.uid, meta.gid)
            && (stat.st_mtime, stat.st_mtime_nsec) == (meta.mtime, 0)
            && (stat.st_ctime, stat.st_ctime_nsec.cast_signed()) <= self.sealed;
        Ok(is_same && tree.further_name(place.as_bytes(), (&parent, &name), digest)?)
    }

    fn size_of(&self, place: &str, digest: &Digest, meta: &Meta) -> Option<u64> {
        let entry = self.manifest.0.get(place)?;
        let is_plain = entry.xattrs.is_empty() && entry.link_group.is_none() && entry.mtime == meta.mtime;
        match entry.kind {
            Kind::File { size, digest: known }
                if (known == *digest || fault::planted("earlier-by-name")) && is_plain =>
            {
                Some(size)
            }
            _ => None,
        }
    }
}
