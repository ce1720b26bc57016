//! A published image as a tree with its owners, modes and attributes.
//!
//! An image may come from elsewhere, and here root unpacks it: so the program that unpacks runs in a namespace whose root directory has
//! the new tree, the image and nothing else of this machine.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use archive::{Extractor, Meta};
use embedded::INIT;
use sandbox::helper::News;
use sandbox::{Confined, IdMap, Namespace, SandboxError, run_confined};

/// What is unpacked, and where.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TreeRequest {
    index: PathBuf,
    image: PathBuf,
    /// An empty directory, in which the operation runs.
    into: PathBuf,
    /// The list of paths that are a node's own, where the image has one.
    list: Option<PathBuf>,
}

/// Unpacks an image into an empty directory, by the program that does it on nodes; only root can.
/// Errors: What is wrong with the image, or what the kernel refused.
pub fn unpack_published(published: &Path, rootimg: &str, into: &Path) -> Result<(), SandboxError> {
    let list = published.join("statelite.json");
    let request = TreeRequest {
        index: published.join(format!("{rootimg}.index")),
        image: published.join(rootimg),
        into: into.to_owned(),
        list: list.is_file().then_some(list),
    };
    Namespace::new(into, IdMap::of_itself()).call("publish-tree", &request, &mut |_| {})
}

/// Runs the program, and adds what the tree has besides.
pub(crate) fn inside(request: TreeRequest, _: News<'_>) -> Result<(), String> {
    let TreeRequest { index, image, into, list } = request;
    // As the program sees it.
    let shown = |path: &Path| format!("/{}", path.file_name().unwrap_or_default().to_string_lossy());
    run_confined(&Confined {
        tree: &into,
        files: &[&index, &image],
        program: INIT,
        arguments: &["unpack", &shown(&index), &shown(&image), "/tree"],
    })
    .map_err(|said| format!("`{}` cannot be unpacked: {}", image.display(), said.trim_start_matches("imgbuild: ")))?;
    // The image may have links at these names: they are followed within the tree, as on a node.
    let mut tree = Extractor::new(".")?;
    let meta = |mode| Meta { mode, ..Meta::default() };
    tree.directory(b".statelite", &meta(0o755))?;
    if let Some(list) = list {
        let mut list = std::fs::File::open(&list).map_err(|error| format!("`{}`: {error}", list.display()))?;
        tree.file(b".statelite/statelite.json", &meta(0o644), &mut list)?;
    }
    Ok(())
}
