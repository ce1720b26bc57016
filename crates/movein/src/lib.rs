//! Image recipes of other provisioners, as recipes of this one: KIWI, OpenCHAMI, Warewulf, Confluent.
//!
//! Each format has a room (`kiwi`, `openchami`, `warewulf`, `confluent`), which turns its input into a [`plan::Plan`] and gives each key of it a
//! verdict; nothing is lost without a word. `input` reads YAML, XML, shell commands and trees, bounded and beneath their directories; `plan`
//! writes the recipe. Nothing here prints, runs a command, or asks a network. Begin with [`move_in`] and `kiwi`.

mod confluent;
mod input;
mod kiwi;
mod openchami;
mod plan;
#[cfg(test)]
mod public;
mod warewulf;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use recipe::{Arch, Distro};
use site::osimage::Release;

use input::roots::{Root, Roots};
use plan::Plan;

pub use plan::report::{MoveReport, MovedImage, REPORT_FORMAT, Row, State, Verdict};

/// What the input is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Kiwi,
    OpenChami,
    Warewulf,
    Confluent,
}

impl Source {
    /// As commands and reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kiwi => "kiwi",
            Self::OpenChami => "openchami",
            Self::Warewulf => "warewulf",
            Self::Confluent => "confluent",
        }
    }
}

/// What is to be imported, and what the administrator says of it.
#[derive(Debug, Clone)]
pub struct MoveRequest {
    pub source: Source,
    /// Files or directories; paths as they are opened.
    pub paths: Vec<PathBuf>,
    /// The same as reports name them.
    pub shown: Vec<String>,
    /// The workspace, created if missing.
    pub into: PathBuf,
    /// The image's name, if it is to be another one.
    pub name: Option<String>,
    pub distro: Option<Distro>,
    pub release: Option<String>,
    pub arch: Option<Arch>,
    /// Directory below which absolute paths of the input are found.
    pub files: Option<PathBuf>,
    /// KIWI's profiles.
    pub profiles: Vec<String>,
    /// Warewulf's overlays: directories of them, or one.
    pub overlays: Vec<PathBuf>,
    /// Warewulf's Containerfile.
    pub containerfile: Option<PathBuf>,
    /// Confluent's package lists.
    pub lists: Vec<PathBuf>,
    /// Whether nothing is written.
    pub dry_run: bool,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum MoveError {
    #[error("`{path}` cannot be read: {error}")]
    Read { path: PathBuf, error: std::io::Error },
    #[error("{place}: {problem}; nothing was written")]
    #[diagnostic(help("{help}"))]
    Input { place: String, problem: String, help: String },
    #[error("{place}: the release that the image is of is not named; nothing was written")]
    #[diagnostic(help("pass --distro NAME --release RELEASE, for instance --distro rocky --release 9"))]
    Release { place: String },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Workspace(site::workspace::ImportError),
    #[error("`{path}` cannot be written: {error}")]
    #[diagnostic(help("images reported as written are complete; correct this and run the import again"))]
    Unwritable { path: PathBuf, error: std::io::Error },
}

impl MoveError {
    fn input(place: impl Into<String>, problem: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Input { place: place.into(), problem: problem.into(), help: help.into() }
    }

    /// Whether the input is to blame, and not the machine.
    pub fn is_of_input(&self) -> bool {
        match self {
            Self::Unwritable { .. } => false,
            Self::Workspace(error) => !matches!(error, site::workspace::ImportError::Unwritable { .. }),
            _ => true,
        }
    }
}

/// Makes recipes of what another provisioner builds images from.
/// Errors: [`MoveError`]; images that were written before it are whole.
pub fn move_in(request: &MoveRequest) -> Result<MoveReport, MoveError> {
    plan::write(request.source.name(), plans(request)?, &request.into, request.dry_run)
}

fn plans(request: &MoveRequest) -> Result<Vec<Plan>, MoveError> {
    match request.source {
        Source::Kiwi => kiwi::plans(request),
        Source::OpenChami => openchami::plans(request),
        Source::Warewulf => warewulf::plans(request),
        Source::Confluent => confluent::plans(request),
    }
}

impl MoveRequest {
    /// The directory of a file, the file's name in it, and where absolute paths are.
    fn roots(&self, path: &Path) -> Result<(Roots, String), MoveError> {
        let read = |path: &Path| {
            let path = path.to_owned();
            move |error| MoveError::Read { path, error }
        };
        let real = path.canonicalize().map_err(read(path))?;
        let (folder, name) = match real.is_dir() {
            true => (real.clone(), String::new()),
            false => {
                let name = real.file_name().unwrap_or_default().to_string_lossy().into_owned();
                (real.parent().unwrap_or(&real).to_owned(), name)
            }
        };
        let own = Root::open(&folder).map_err(read(&folder))?;
        let files = match &self.files {
            Some(files) => {
                let real = files.canonicalize().map_err(read(files))?;
                Some(Root::open(&real).map_err(read(files))?)
            }
            None => None,
        };
        Ok((Roots { own, files }, name))
    }

    /// Reads a text of the input.
    fn text(&self, root: &Arc<Root>, name: &str) -> Result<String, MoveError> {
        root.text(name).map_err(|error| MoveError::Read { path: root.path.join(name), error })
    }

    /// The release of an image: what the administrator says, else what the input does.
    fn release(&self, place: &str, found: Option<Release>) -> Result<Release, MoveError> {
        let distro = self.distro.or(found.as_ref().map(|found| found.distro));
        let release =
            self.release.clone().or(found.filter(|found| Some(found.distro) == distro).map(|found| found.release));
        match (distro, release) {
            (Some(distro), Some(release)) => {
                let release = recipe::release_named(distro, &release).map_or(release.clone(), str::to_owned);
                Ok(Release { distro, release })
            }
            _ => Err(MoveError::Release { place: place.to_owned() }),
        }
    }

    fn plan(&self, tool: &'static str, source: &str, name: &str, release: Release, arch: Arch) -> Plan {
        Plan::new(tool, source, self.name.as_deref().unwrap_or(name), release, self.arch.unwrap_or(arch))
    }
}
