//! `imgbuild vendor`: all packages of a lock and the indices they came from, for builds without a network.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::StageError;
use super::places::{sources, unless_optional};
use super::run::Builder;
use super::vendored::{Contents, MARK, Suite, suite_directory};
use crate::distro::DistroError;
use crate::distro::apt::fetch_suite;
use crate::recipe::Lock;

impl Builder<'_> {
    /// Brings all packages of the lock, and today's indices of its suites, into a directory; what the directory has of an
    /// earlier lock goes. Gives the number of packages.
    ///
    /// # Errors
    /// [`StageError`]; a directory with other things in it is left alone.
    pub fn vendor(&self, lock: &Lock, directory: &Path) -> Result<usize, StageError> {
        let said = |path: &Path| {
            let path = path.display().to_string();
            move |source| StageError::Publish { intent: "write", path, source }
        };
        let is_ours = directory.join(MARK).is_file();
        let is_empty = std::fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none());
        if !is_ours && !is_empty {
            let problem = format!("`{}` is not empty, and `imgbuild vendor` did not make it", directory.display());
            let help = "name an empty or a new directory".to_owned();
            return Err(DistroError::NoSource { problem, help }.into());
        }
        std::fs::create_dir_all(directory).map_err(said(directory))?;
        let fetcher = self.fetcher()?;
        let supply = self.supply(&fetcher)?;
        let mut kept: BTreeSet<PathBuf> = BTreeSet::from([directory.join(MARK)]);
        let mut contents = Contents { format: 1, suite: Vec::new() };
        for (source, keyring) in sources(self.recipe, &self.options.places)? {
            for suite in &source.suites {
                self.report.progress(&format!("fetching the indices of {suite}"));
                let architecture = super::wish::debian_architecture(self.recipe);
                let found = fetch_suite(&fetcher, self.store, &source, suite, architecture, &keyring);
                let found = unless_optional(found, &source, self.recipe, self.report)?;
                let Some((release, downloads)) = found else { continue };
                fetcher.fetch_all(&downloads, &super::report::DownloadNews(self.report, "package indices"))?;
                let root = suite_directory(directory, suite);
                let place = root.join("dists").join(suite);
                let mut put = |path: PathBuf, bytes: &[u8]| -> Result<(), StageError> {
                    write(&path, bytes).map_err(said(&path))?;
                    kept.insert(path);
                    Ok(())
                };
                put(place.join("InRelease"), &release.signed)?;
                for (component, digest, path) in &release.indices {
                    let from = self.store.index(digest);
                    let bytes = std::fs::read(&from).map_err(said(&from))?;
                    put(place.join(path), &bytes)?;
                    let by_hash = place.join(component).join(format!("binary-{architecture}/by-hash/SHA256/{digest}"));
                    put(by_hash, &bytes)?;
                }
                contents.suite.push(Suite { name: suite.clone(), components: source.components.clone() });
            }
        }
        let packages: Vec<_> = lock.pass.iter().flat_map(|pass| pass.packages.clone()).collect();
        // Those of the otherpkgs directory are in the recipe's own directory.
        let is_own = |origin: &str| origin.starts_with("otherpkgs/") || super::kernel_dir::folder(origin).is_some();
        let packages: Vec<_> = packages.into_iter().filter(|one| !is_own(&one.origin)).collect();
        supply.download(&packages)?;
        for package in &packages {
            let to = suite_directory(directory, &package.origin).join(&package.file);
            let from = self.store.package(&package.sha256);
            self.store.check_package(&package.sha256)?;
            if !std::fs::read(&to).is_ok_and(|bytes| crate::digest::Sha256::of(&bytes) == package.sha256) {
                let bytes = std::fs::read(&from).map_err(said(&from))?;
                write(&to, &bytes).map_err(said(&to))?;
            }
            kept.insert(to);
        }
        let text = toml::to_string(&contents).unwrap_or_default();
        write(&directory.join(MARK), text.as_bytes()).map_err(said(directory))?;
        forget_others(directory, &kept);
        Ok(packages.iter().map(|package| package.sha256).collect::<BTreeSet<_>>().len())
    }
}

/// Writes a file aside and renames it into place.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent)?;
    let mut aside = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(parent)?;
    std::io::Write::write_all(&mut aside, bytes)?;
    aside.persist(path).map(drop).map_err(|error| error.error)
}

/// Removes files below `suites` that are not wanted any more.
fn forget_others(directory: &Path, kept: &BTreeSet<PathBuf>) {
    for entry in walkdir::WalkDir::new(directory.join("suites")).contents_first(true).into_iter().flatten() {
        if entry.file_type().is_dir() {
            // Only where it is empty.
            let _ = std::fs::remove_dir(entry.path());
        } else if !kept.contains(entry.path()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
