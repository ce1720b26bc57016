//! Changes to an image's tree that imgbuild itself makes, on the mounted layers.

use crate::archive::Extractor;
use crate::digest::Digest;
use crate::fault;
use crate::sandbox::{TreeMount, upper_is_whole};
use crate::store::scan;
use crate::store::{ScanAnswer, ScanRequest, lower_directories, root_of};

use crate::store::{in_scratch, make_directories};

/// Mounts layers, lets `work` change the tree through an extractor, and commits what changed as a layer.
///
/// # Errors
/// What `work` says, or a text about the mount or the scan.
pub fn layer_by_edit(
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
