//! `imgbuild vendor`: all packages of a lock and the indices they came from, for builds without a network.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::StageError;
use crate::actions::packages::container;
use crate::bench::report::ReportedNews;
use crate::builder::run::Builder;
use files::{self, Durability, Folders};
use packages::{DistroError, Gathering, VENDOR_MARK, manager};
use recipe::Lock;

/// Brings all packages of the lock, and today's indices of its suites, into a directory; what the directory has of an
/// earlier lock goes. Gives the number of packages.
/// Errors: [`StageError`]; a directory with other things in it is left alone, and an empty one is empty then.
pub fn vendor(builder: &Builder<'_>, lock: &Lock, directory: &Path) -> Result<usize, StageError> {
    let is_ours = directory.join(VENDOR_MARK).is_file();
    let is_empty = std::fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none());
    if !is_ours && !is_empty {
        let problem = format!("`{}` is not empty and was not made by `imgbuild vendor`", directory.display());
        let help = "name an empty or a new directory".to_owned();
        return Err(DistroError::NoSource { problem, help }.into());
    }
    // Files are written and removed below it: never through a link to another place.
    if let Some(link) = files::beside::first_link(directory) {
        let problem = format!("`{}` is a link, and `imgbuild vendor` makes none", link.display());
        let help = "remove the link, or name an empty or a new directory".to_owned();
        return Err(DistroError::NoSource { problem, help }.into());
    }
    let owner = std::fs::metadata(directory).map(|found| std::os::unix::fs::MetadataExt::uid(&found));
    if owner.is_ok_and(|owner| owner != rustix::process::geteuid().as_raw()) {
        let problem =
            format!("`{}` belongs to another user, who could change what is written there", directory.display());
        let help = "name a directory of your own, or run the command as that user".to_owned();
        return Err(DistroError::NoSource { problem, help }.into());
    }
    let folders = Folders::make(directory).map_err(unwritten(directory))?;
    if !is_ours {
        // First, so that the directory stays ours where this run is killed; what it has is written last.
        let mark = directory.join(VENDOR_MARK);
        std::fs::File::create_new(&mark).map_err(unwritten(&mark))?;
        fault::point("vendor.marked");
    }
    let filled = fill(builder, lock, directory);
    match filled {
        // There was nothing, and there is nothing: the store has what was downloaded.
        Err(_) if !is_ours => empty(directory),
        _ => folders.keep(),
    }
    filled
}

fn unwritten(path: &Path) -> impl FnOnce(std::io::Error) -> StageError {
    let path = path.display().to_string();
    move |source| StageError::Publish { intent: "write", path, source }
}

/// Removes all that is in a directory of this command's own.
fn empty(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let _ = if is_folder { std::fs::remove_dir_all(entry.path()) } else { std::fs::remove_file(entry.path()) };
    }
}

fn fill(builder: &Builder<'_>, lock: &Lock, directory: &Path) -> Result<usize, StageError> {
    let fetcher = builder.fetcher()?;
    let supply = builder.supply(&fetcher);
    let manager = manager(builder.recipe);
    let (recipe, places, store) = (builder.recipe, &builder.options.places, builder.store);
    let news = &ReportedNews(builder.report);
    let mut kept = manager.vendor(&Gathering { recipe, places, fetcher: &fetcher, store, news }, directory)?;
    let packages: Vec<_> = lock.pass.iter().flat_map(|pass| pass.packages.clone()).collect();
    // Those of the otherpkgs directory are in the recipe's own directory.
    let is_own =
        |origin: &str| origin.starts_with("otherpkgs/") || crate::supply::origin::kernel_folder(origin).is_some();
    let packages: Vec<_> = packages.into_iter().filter(|one| !is_own(&one.origin)).collect();
    supply.download(&packages)?;
    for package in &packages {
        let to = manager.vendored(directory, &package.origin).join(&package.file);
        let from = builder.store.package(&package.sha256);
        builder.store.check_package(&package.sha256)?;
        if !std::fs::read(&to).is_ok_and(|bytes| base::digest::Sha256::of(&bytes) == package.sha256) {
            let bytes = std::fs::read(&from).map_err(unwritten(&from))?;
            files::replace(&to, &bytes, 0o644, Durability::Kill).map_err(unwritten(&to))?;
        }
        kept.insert(to);
    }
    let work = container::Work { recipe, store, namespace: builder.namespace, places, report: builder.report };
    container::bring::vendor(&work, lock.base.as_ref(), directory)?;
    forget_others(directory, &kept);
    Ok(packages.iter().map(|package| package.sha256).collect::<BTreeSet<_>>().len())
}

/// Removes files of suites and repositories that are no longer needed.
fn forget_others(directory: &Path, kept: &BTreeSet<PathBuf>) {
    let below = ["suites", "repositories"].map(|name| directory.join(name)).into_iter();
    for entry in below.flat_map(|path| walkdir::WalkDir::new(path).contents_first(true)).flatten() {
        if entry.file_type().is_dir() {
            // Only where it is empty.
            let _ = std::fs::remove_dir(entry.path());
        } else if !kept.contains(entry.path()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
