//! What lies in the output directory: artefacts, layouts of other tools, and what drifted there.
//!
//! # The artefacts
//!
//! `out/<image>` is a link to an immutable directory `out/.builds/<image>/<digest>`; the two builds before are kept.
//!
//! | file | content |
//! |---|---|
//! | `kernel`, `initrd-stateless` | what the boot loader loads |
//! | `rootimg.cpio.zst` | cpio (`newc`) in independent zstd frames; `zstd -d \| cpio -idm` reads it |
//! | `rootimg.cpio.zst.index` | JSON: offset, size and SHA-256 of each frame, memory needed, xattrs and SELinux labels (cpio has no place for them) |
//! | `build.json` | what was built: no time, host, user, path or number of jobs |
//! | `initrd-kdump`, `kdump.json` | where the recipe has `[kdump]`: what nodes load for the moment at which their kernel crashes |
//! | `initrd-statelite`, `statelite.json` | where the recipe has `[statelite]`: the initrd with NFS and disks, and the list of paths that are a node's own |
//! | `SHA256SUMS` | for `sha256sum -c` |
//!
//! `published/layouts/` writes an xCAT osimage's rootimgdir. It cannot be exchanged as a whole, because it holds what is not ours, so
//! `published/layouts/swap.rs` leads the names through one link for a moment and turns that. The forms in gzip that it needs are actions of
//! their own (`Forms::AndGzip`).
//!
//! SELinux labels are not part of a layer: `actions/pack/selinux/` computes them from the merged tree and the policy in it when it is
//! packed, so that a change of the policy labels all layers again.
//!
//! The sync layer is written into bare directories that are made from the manifests (`inside/bare.rs`): nothing below is mounted for it. Where a link, an ACL or
//! a directory is in the way, the layers are mounted as for any other action.
//!
//! The first frame has all directories, so that a node can unpack the others in parallel; the last has them again, deepest
//! first, because GNU cpio sets a directory's time when it reads the entry. Between them files are sorted by path and cut
//! where a hash of a path says so: one file more or less changes one frame. In zstd each but the last is filled up to a multiple of 4 KiB with
//! what decoders skip (RFC 8878, skippable frames), in squashfs with zeros, so that file systems can share blocks between the store's frames and the image.

pub(crate) mod artefacts;
pub(crate) mod assemble;
pub(crate) mod copies;
pub(crate) mod drift;
pub(crate) mod earlier;
pub(crate) mod forms;
pub(crate) mod layouts;
pub(crate) mod oci;
pub(crate) mod otherwise;
pub(crate) mod unpacked;
