//! The directory that jobs share with the machine that submits them.

use std::cell::Cell;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::{Jobs, real};
use crate::Exit;
use base::digest::Digest;
use files::shared::{self, open_to_others};
use files::{self, Durability};
use recipe::Workspace;
use remote::away::parcel::remove;
use remote::slurm::SlurmError;
use remote::slurm::queue::{cancel, marked};
use store::FileLock;

/// Where it is, below the workspace, if nothing else is named.
const USUAL: &str = ".imgbuild-slurm";
const SUBMITTED: &str = "submitted";
/// Bytes of that file that are read.
const MOST_IDS: u64 = 16 << 20;

/// The part of it that is one build's. It goes when it is dropped, unless the program was killed: then the next build takes it.
pub(super) struct Place {
    pub directory: PathBuf,
    pub program: PathBuf,
    /// Directories with results of builds that were killed.
    left: Vec<(PathBuf, FileLock)>,
    results: Vec<PathBuf>,
    held: Option<FileLock>,
    /// Jobs that could not be ended write here: the next build ends them.
    is_kept: Cell<bool>,
}

impl Drop for Place {
    fn drop(&mut self) {
        for (directory, held) in self.left.drain(..) {
            let _ = remove(&directory);
            held.remove();
        }
        if self.is_kept.get() {
            return;
        }
        let _ = remove(&self.directory);
        if let Some(held) = self.held.take() {
            held.remove();
        }
    }
}

impl Place {
    pub(super) fn make(jobs: &Jobs<'_>) -> Result<Self, Exit> {
        let shared = jobs.shared_directory();
        let refused =
            |problem: String| jobs.failed(SlurmError::Directory { directory: shared.display().to_string(), problem });
        let said = |error: std::io::Error| refused(error.to_string());
        let mut private = std::fs::DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(&shared).map_err(said)?;
        let shared = real(&shared);
        if shared.to_str().is_none_or(|text| text.chars().any(char::is_control) || text.contains('\\')) {
            return Err(refused(
                "its name contains control characters or backslashes, which Slurm does not accept".to_owned(),
            ));
        }
        // Jobs run a program from there as this user.
        if let Some(open) = open_to_others(&shared).map_err(said)? {
            return Err(refused(format!("others can replace what is in `{}`", open.display())));
        }
        // One user cannot be in another one's way.
        let own = format!("runs-{}", rustix::process::getuid().as_raw());
        let runs = shared.join(own);
        private.create(&runs).map_err(said)?;
        let found = std::fs::symlink_metadata(&runs).map_err(said)?;
        if !found.is_dir() || found.uid() != rustix::process::getuid().as_raw() {
            return Err(refused(format!("`{}` in it belongs to another user or is a symbolic link", runs.display())));
        }
        // It may have been opened since.
        if let Some(open) = open_to_others(&runs).map_err(said)? {
            return Err(refused(format!("others can replace what is in `{}`", open.display())));
        }
        let program = program(&runs).map_err(said)?;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let (left, results) = left(&runs, &host);
        let name = format!(
            "{host}-{}-{}",
            std::process::id(),
            Digest::of(format!("{:?}", std::time::SystemTime::now()).as_bytes()).short()
        );
        let held = FileLock::take(&runs.join(format!("{name}.held"))).map_err(|error| refused(error.to_string()))?;
        let directory = runs.join(&name);
        private.create(directory.join("results")).map_err(said)?;
        private.create(directory.join("packages")).map_err(said)?;
        Ok(Self { directory, program, left, results, held: Some(held), is_kept: Cell::new(false) })
    }

    pub(super) fn results(&self) -> PathBuf {
        self.directory.join("results")
    }

    pub(super) fn earlier(&self) -> &[PathBuf] {
        &self.results
    }

    pub(super) fn had_earlier(&self) -> bool {
        !self.results.is_empty()
    }

    pub(super) fn keep(&self) {
        self.is_kept.set(true);
    }

    /// Notes the id of a job, before anything else happens.
    pub(super) fn submitted(&self, job: &str) {
        let file = std::fs::File::options().append(true).create(true).open(self.directory.join(SUBMITTED));
        let _ = file.and_then(|mut file| writeln!(file, "{job}"));
    }
}

/// A copy of this program there, under the name of its content.
fn program(shared: &Path) -> std::io::Result<PathBuf> {
    let bytes = std::fs::read(std::env::current_exe()?)?;
    let name = format!("imgbuild-{}", Digest::of(&bytes).short());
    let path = shared.join(&name);
    let there = shared::Shared::open(shared)?.read(&name, bytes.len() as u64);
    if !there.is_ok_and(|there| there.as_deref() == Some(&bytes[..])) {
        files::replace(&path, &bytes, 0o755, Durability::PowerCut)?;
    }
    Ok(path)
}

/// What builds of this host that were killed left: their jobs are ended, and what they made is used.
fn left(runs: &Path, host: &str) -> (Vec<(PathBuf, FileLock)>, Vec<PathBuf>) {
    let (mut left, mut results) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(runs).into_iter().flatten().flatten() {
        let directory = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        // HOST-PID-DIGEST: a host's name may have such a line, too.
        if name.rsplitn(3, '-').nth(2) != Some(host) || !directory.is_dir() {
            continue;
        }
        let Ok(Some(held)) = FileLock::try_take(&runs.join(format!("{name}.held"))) else { continue };
        let ids = shared::Shared::open(&directory).and_then(|shared| shared.read(SUBMITTED, MOST_IDS));
        let ids = String::from_utf8_lossy(&ids.ok().flatten().unwrap_or_default()).into_owned();
        let ids: Vec<String> = ids.lines().map(str::to_owned).collect();
        let _ = marked(&ids, &format!("imgbuild-{name}-")).and_then(|ids| cancel(&ids));
        results.push(directory.join("results"));
        left.push((directory, held));
    }
    (left, results)
}

impl Jobs<'_> {
    fn shared_directory(&self) -> PathBuf {
        if let Some(shared) = &self.settings.shared {
            return self.site().join(shared);
        }
        let named = self.own.caches.named().cloned();
        let of_workspace = Workspace::above(&self.arguments.directory).ok().flatten();
        let of_workspace = of_workspace.into_iter().flat_map(|workspace| {
            workspace.model.cache.urls.into_iter().map(move |url| match url.contains("://") {
                true => url,
                false => workspace.root.join(url).display().to_string(),
            })
        });
        let directory = |url: &String| !url.contains("://") && !url.starts_with("file:") && Path::new(url).is_dir();
        match named.chain(of_workspace).find(directory) {
            Some(cache) => real(Path::new(&cache)).join("slurm"),
            None => self.site().join(USUAL),
        }
    }
}
