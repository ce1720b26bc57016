//! Errors of this module, each with its remedy.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

use base::digest::Sha256;

/// What a download failed by, for those who decide by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownloadFault {
    /// There is more of it than was announced, or than is read.
    Larger,
    /// It ended too early, each time.
    CutOff,
    /// The server does not give it to this user.
    Refused,
    /// All else: what is there is not known.
    Other,
}

/// What can go wrong between imgbuild and a distribution's archive.
#[derive(Debug, Error, Diagnostic)]
pub enum DistroError {
    /// Scripts of a transaction asked for the kernel's release, and its key does not have it; anyone who runs it knows what to do.
    #[error("package scripts ask for the kernel's release")]
    #[diagnostic(code(distro::asks_release))]
    AsksRelease,
    #[error("cannot download `{file}` from {place}: {problem}")]
    #[diagnostic(
        code(distro::download),
        help("check that the mirror can be reached from here; `--mirror URL` or IMGBUILD_MIRROR names another")
    )]
    Download { file: String, place: String, problem: String, fault: DownloadFault },
    #[error("`{file}` is not at {place}: {answer}")]
    #[diagnostic(
        code(distro::not_there),
        help(
            "check the uri, the suites and the components of ‹[[repo]]›, and whether the mirror is complete; releases that are no longer maintained move to an archive; `imgbuild vendor DIR` completes a vendored directory"
        )
    )]
    NotThere { file: String, place: String, answer: String },
    #[error("{lock} takes `{package}` {version} from {from} no longer has it")]
    #[diagnostic(
        code(distro::left_the_mirror),
        help(
            "`imgbuild update --package {package}` locks the version that the mirror has now; to keep this one, take the packages from a snapshot of the archive (‹[[repo]]› uri) or from a directory that `imgbuild vendor DIR` made; deleting {lock} resolves all packages again"
        )
    )]
    LeftMirror {
        package: String,
        version: String,
        /// From where, and the answer.
        from: String,
        lock: String,
    },
    #[error("{lock} lists `{package}` with {locked} bytes, but the file with its digest has {found}")]
    #[diagnostic(
        code(distro::locked_size),
        help(
            "the lock was edited or merged by hand: restore it from git (git checkout {lock}), or delete it to resolve all packages again"
        )
    )]
    LockedSize {
        package: String,
        lock: String,
        /// Bytes by the lock.
        locked: u64,
        /// Bytes.
        found: u64,
    },
    #[error("{uri} has no suite `{suite}`: {problem}")]
    #[diagnostic(
        code(distro::no_suite),
        help(
            "check `release` of ‹[image]› and `suites` of ‹[[repo]]›; releases that are no longer maintained move to an archive: give that as `uri` of a ‹[[repo]]›"
        )
    )]
    NoSuite { uri: String, suite: String, problem: String },
    #[error("`{file}` from {place} has the SHA-256 {found}, but {expected} was expected")]
    #[diagnostic(
        code(distro::digest),
        help(
            "the mirror may be half way through an update, or a proxy alters files; try again later or use another mirror"
        )
    )]
    Digest { file: String, place: String, expected: Sha256, found: Sha256 },
    #[error("the signature of `{file}` from {place} is not valid: {problem}")]
    #[diagnostic(code(distro::signature), help("{help}"))]
    Signature { file: String, place: String, problem: String, help: String },
    #[error("`{file}` from {place} was valid until {until}")]
    #[diagnostic(
        code(distro::expired),
        help(
            "the mirror is out of date, or this machine's clock is wrong; for an archived release set `‹check-valid-until = false›` in its ‹[[repo]]›"
        )
    )]
    Expired { file: String, place: String, until: String },
    #[error("`{file}` {problem}")]
    #[diagnostic(code(distro::format))]
    Format { file: String, problem: String },
    /// Files that the recipe asks for; each was reported where it does.
    #[error("{names}: not packages")]
    #[diagnostic(
        code(distro::package_file),
        help("copy them again, or remove them from the directory; `file` shows what they are")
    )]
    PackageFiles { names: String },
    #[error("the keyring `{}` cannot be used: {problem}", path.display())]
    #[diagnostic(code(distro::keyring), help("give a file of OpenPGP certificates, binary or ASCII-armored"))]
    Keyring { path: PathBuf, problem: String },
    #[error("{problem}")]
    #[diagnostic(code(distro::no_source), help("{help}"))]
    NoSource { problem: String, help: String },
    #[error("no repository has the package `{name}`, which {wanted_by} needs")]
    #[diagnostic(code(distro::closure), help("check the suites and components of ‹[[repo]]›"))]
    Closure { name: String, wanted_by: String },
    #[error("the packages of the tools root cannot be resolved:\n{detail}")]
    #[diagnostic(code(distro::no_closure), help("{help}"))]
    NoClosure { detail: String, help: String },
    #[error("the release's own package manager cannot read the package indices:\n{said}")]
    #[diagnostic(
        code(distro::indices),
        help(
            "its output shows whether an index has an unexpected format or the tool lacks something; full log: {log}"
        )
    )]
    Indices { said: String, log: String },
    #[error("the packages cannot be installed together{detail}")]
    #[diagnostic(code(distro::unsatisfiable), help("full answer of the solver: {log}"))]
    Unsatisfiable { detail: String, log: String },
    /// The release's package manager does not find in a container image's database what that has.
    #[error("the container image's package database cannot be worked on: {problem}")]
    #[diagnostic(
        code(distro::container_database),
        help(
            "the database has to be in the form and the place of the release's own rpm: run `rpm --rebuilddb` in the container image, with its own rpm and not that of the machine it is made on, and push it again; full log: {log}"
        )
    )]
    ContainerDatabase { problem: String, log: String },
    /// Package names that no repository has.
    #[error("no repository has {names}")]
    #[diagnostic(code(distro::unknown_package), help("{help}"))]
    UnknownPackages {
        /// Each with what it may have been meant to be.
        packages: Vec<(String, Option<String>)>,
        names: String,
        help: String,
        /// Whether each was reported already where it is asked for.
        is_reported: bool,
    },
    #[error("{script} failed: {ended}; its last lines:\n{lines}")]
    #[diagnostic(
        code(distro::maintainer_script),
        help(
            "scripts run without network, services or devices; full log: {log}; nothing was published; the previous artefacts are unchanged"
        )
    )]
    MaintainerScript { script: String, ended: String, lines: String, log: String },
    #[error("package files below {directory} changed while packages were resolved: {files}")]
    #[diagnostic(
        code(distro::moved),
        help("run the command again when nothing writes to the directory any longer; nothing was changed")
    )]
    Moved { directory: String, files: String },
    #[error("after installing packages the package database does not match {lock}: {problem}")]
    #[diagnostic(
        code(distro::not_as_locked),
        help(
            "`imgbuild update` resolves the packages again; full log: {log}; nothing was published; the previous artefacts are unchanged"
        )
    )]
    NotAsLocked { lock: String, problem: String, log: String },
    #[error("{what} failed with status {status}; its last lines:\n{lines}")]
    #[diagnostic(
        code(distro::package_manager),
        help("full log: {log}; nothing was published; the previous artefacts are unchanged")
    )]
    PackageManager { what: String, status: i32, lines: String, log: String },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Sandbox(#[from] sandbox::SandboxError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] store::StoreError),
}

impl DistroError {
    /// Whether nothing but reaching a server failed: what it has is not known, and nothing that came is wrong.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Download { .. } | Self::NotThere { .. })
    }

    /// Whether all that it says was reported already, where it is asked for.
    pub fn is_reported(&self) -> bool {
        matches!(self, Self::UnknownPackages { is_reported: true, .. } | Self::PackageFiles { .. })
    }

    /// That no repository has some packages, each with what it may have been meant to be; `otherwise` is the remedy where
    /// nothing is like any of them.
    pub fn unknown_packages(packages: Vec<(String, Option<String>)>, otherwise: &str) -> Self {
        let names = packages.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let hints: Vec<&str> = packages.iter().filter_map(|(_, hint)| hint.as_deref()).collect();
        let help = if hints.is_empty() { otherwise.to_owned() } else { hints.join("\n") };
        Self::UnknownPackages { packages, names, help, is_reported: false }
    }
}
