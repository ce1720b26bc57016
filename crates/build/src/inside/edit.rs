//! Changes to an image's tree that imgbuild itself makes: on the mounted layers, or in bare directories where that is enough.

use std::os::unix::ffi::OsStrExt;

use super::bare::Bare;
use archive::Extractor;
use base::digest::Digest;
use node_words::name::{shown, text_of};
use sandbox::{TreeMount, set_owner_and_mode, upper_is_whole};
use store::{ScanAnswer, ScanRequest, lower_directories, merged_of, root_of};
use store::{scan, scan_knowing};

use store::{in_scratch, make_directories};

/// Mounts layers, lets `work` change the tree through an extractor, and commits what changed as a layer.
/// Errors: What `work` says, or a text about the mount or the scan.
pub(crate) fn layer_by_edit(
    scratch: &str,
    base: &[Digest],
    epoch: i64,
    work: impl FnOnce(&mut Extractor) -> Result<(), String>,
) -> Result<ScanAnswer, String> {
    in_scratch(scratch, || {
        make_directories(scratch, &["tree", "work", "mount"])?;
        let at = |name: &str| format!("{scratch}/{name}");
        let tree =
            TreeMount { lower: lower_directories(base)?, upper: at("tree"), work: at("work"), root: root_of(base)? };
        let mount = at("mount");
        tree.mount(std::path::Path::new(&mount))?;
        fault::point("edit.mounted");
        let mut extractor = Extractor::new(&mount)?;
        let worked = work(&mut extractor).and_then(|()| extractor.finish());
        drop(extractor);
        rustix::mount::unmount(mount.as_str(), rustix::mount::UnmountFlags::DETACH)
            .map_err(|error| format!("cannot unmount the layers: {error}"))?;
        worked?;
        fault::point("edit.done");
        scan(&ScanRequest { tree: at("tree"), base: base.to_vec(), epoch, whole: upper_is_whole() })
    })
}

/// The same for work that writes to known paths: where plain directories are above them, nothing is mounted, and the layers below
/// need not be looked at for it.
/// Errors: As [`layer_by_edit`].
pub(crate) fn layer_by_writing<'p>(
    scratch: &str,
    base: &[Digest],
    epoch: i64,
    paths: impl Iterator<Item = &'p str>,
    work: impl FnOnce(&mut Extractor) -> Result<(), String>,
) -> Result<ScanAnswer, String> {
    let below = merged_of(base)?;
    let Some(bare) = Bare::above(&below, paths) else { return layer_by_edit(scratch, base, epoch, work) };
    in_scratch(scratch, || {
        make_directories(scratch, &["tree"])?;
        let tree = format!("{scratch}/tree");
        if let Some(root) = root_of(base)? {
            set_owner_and_mode(&tree, root).map_err(|error| format!("{tree}: {error}"))?;
        }
        bare.make(&tree)?;
        fault::point("edit.mounted");
        let mut extractor = Extractor::new(&tree)?;
        work(&mut extractor)?;
        // No path leads through a link here, so that these are the files' own.
        let known = extractor.known().clone();
        extractor.finish()?;
        fault::point("edit.done");
        let made: Vec<String> = walkdir::WalkDir::new(&tree)
            .min_depth(1)
            .into_iter()
            .filter_map(|entry| entry.ok().filter(|entry| entry.file_type().is_dir()))
            .filter_map(|entry| {
                Some(text_of(entry.path().strip_prefix(&tree).ok()?.as_os_str().as_bytes()).into_owned())
            })
            .collect();
        if let Some(path) = bare.forgot(&below, made.iter().map(String::as_str)) {
            return Err(format!("`{}` was written without being declared: this is a bug in imgbuild", shown(path)));
        }
        scan_knowing(&ScanRequest { tree, base: base.to_vec(), epoch, whole: false }, &known)
    })
}
