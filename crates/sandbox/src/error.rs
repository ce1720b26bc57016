//! Errors of this module, each with its remedy.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

use super::helper::Failed;
use base::failure::{Failure, MEMORY_REMEDY, OUT_OF_MEMORY, START_REMEDY, is_not_started, not_started};

/// Why the sandbox could not be entered, or what went wrong inside.
#[derive(Debug, Error, Diagnostic)]
pub enum SandboxError {
    #[error("user `{user}` has no range of {wanted} subordinate ids in {file}")]
    #[diagnostic(
        code(sandbox::no_subids),
        help("as root, run: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}")
    )]
    NoSubordinateIds { user: String, file: PathBuf, wanted: u32 },
    #[error("the ids {start} to {last} do not exist here; this process runs in a container with the id map `{}`", map.trim())]
    #[diagnostic(
        code(sandbox::range_not_here),
        help(
            "give root a range of 65536 ids that exist here: a line `root:START:65536` in /etc/subuid and in /etc/subgid, or run the container with more ids"
        )
    )]
    RangeNotHere { start: u32, last: u32, map: String },
    #[error("`{program}` could not set the id map: {detail}")]
    #[diagnostic(
        code(sandbox::id_map),
        help(
            "install newuidmap and newgidmap (the package `uidmap` of Debian and Ubuntu, `shadow-utils` of RHEL and Fedora, `shadow` of SUSE), and check /etc/subuid and /etc/subgid"
        )
    )]
    IdMap { program: String, detail: String },
    #[error("this kernel does not let imgbuild create a user namespace: {detail}")]
    #[diagnostic(
        code(sandbox::no_user_namespace),
        help(
            "check `sysctl user.max_user_namespaces` (must be above 0), `kernel.unprivileged_userns_clone` (1) and, on Ubuntu, `kernel.apparmor_restrict_unprivileged_userns` (0, or an AppArmor profile for imgbuild)"
        )
    )]
    NoUserNamespace { detail: String },
    #[error("programs of {machine} cannot run here: {detail}")]
    #[diagnostic(
        code(sandbox::no_emulator),
        help(
            "use a host with Linux 6.7 or later; or, as root on this host, register one for all: install qemu-user-static and binfmt-support (the flag F is needed: `update-binfmts --display qemu-{machine}` shows it); or build on a host of that CPU"
        )
    )]
    NoEmulator { machine: String, detail: String },
    #[error("the store {store} was made with the id map `{was}`, but it would now be `{now}`")]
    #[diagnostic(
        code(sandbox::id_map_changed),
        help("restore the earlier range in /etc/subuid and /etc/subgid, or choose another store with --store")
    )]
    IdMapChanged { store: PathBuf, was: String, now: String },
    #[error("the file system of the store {} cannot {problem}", store.display())]
    #[diagnostic(
        code(sandbox::store_unfit),
        help(
            "choose another place with --store DIR or IMGBUILD_STORE: a local file system such as ext4, xfs, btrfs or tmpfs; NFS and FAT are not supported"
        )
    )]
    StoreUnfit { store: PathBuf, problem: String },
    #[error("the sandbox helper ended before it answered ({status}) during `{operation}`{detail}")]
    #[diagnostic(code(sandbox::helper_died))]
    HelperDied { operation: String, status: String, detail: String },
    #[error("{message}")]
    #[diagnostic(code(sandbox::operation))]
    Operation { operation: String, message: String, failure: Option<Failure> },
    /// No more threads or processes.
    #[error("{message}")]
    #[diagnostic(code(sandbox::not_started), help("{START_REMEDY}"))]
    NotStarted { message: String },
    #[error("{OUT_OF_MEMORY} ({operation}){detail}")]
    #[diagnostic(code(sandbox::out_of_memory), help("{MEMORY_REMEDY}"))]
    OutOfMemory { operation: String, detail: String },
    #[error("{message}")]
    #[diagnostic(
        code(sandbox::too_long),
        help(
            "correct the script that waits or loops: its questions get no answers, and it has no network. If it is only slow, raise the limit: --script-minutes N, or IMGBUILD_SCRIPT_MINUTES in the environment. Nothing was published; finished actions are kept"
        )
    )]
    TooLong { message: String },
    #[error("{message}")]
    #[diagnostic(
        code(sandbox::over_limit),
        help(
            "correct the script. If it needs that much, raise the limit: --script-limits processes=N,memory=SIZE,output=SIZE,disk=SIZE, or IMGBUILD_SCRIPT_LIMITS in the environment. Nothing was published; finished actions are kept"
        )
    )]
    OverLimit { message: String },
    #[error("{message}")]
    #[diagnostic(
        code(sandbox::damaged),
        help(
            "nothing was published; `imgbuild store verify --repair` removes damaged items, and the next build recreates them. If this happens again, check the disk"
        )
    )]
    Damaged { operation: String, message: String },
    #[error("no space left on the file system of {} ({operation}): {message}", directory.display())]
    #[diagnostic(
        code(sandbox::full),
        help(
            "free some space there, run `imgbuild gc`, or use a store on another file system: --store DIR, or IMGBUILD_STORE=DIR in the environment; nothing was published; finished work is kept, and the next build continues from there"
        )
    )]
    Full { operation: String, directory: PathBuf, message: String },
    /// A system call of the host process failed.
    #[error("cannot {intent}: {source}")]
    #[diagnostic(code(sandbox::io))]
    Io { intent: String, source: std::io::Error },
}

impl SandboxError {
    pub(crate) fn io(intent: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        Self::Io { intent: intent.into(), source: source.into() }
    }

    /// A thread or a process that could not be started, or another failure of starting it.
    pub fn starting(what: &str, source: std::io::Error) -> Self {
        let source = not_started(source);
        if is_not_started(&source) {
            return Self::NotStarted { message: format!("{source} ({what})") };
        }
        Self::io(format!("start {what}"), source)
    }

    /// What an operation inside says of its failure.
    pub(super) fn of_operation(operation: &str, directory: &std::path::Path, failed: Failed) -> Self {
        let Failed { message, failure } = failed;
        let operation = operation.to_owned();
        match failure {
            Some(Failure::NoSpace) => Self::Full { operation, directory: directory.to_owned(), message },
            Some(Failure::NotStarted) => Self::NotStarted { message },
            Some(Failure::TooLong) => Self::TooLong { message },
            Some(Failure::OverLimit) => Self::OverLimit { message },
            Some(Failure::Damaged) => Self::Damaged { operation, message },
            Some(Failure::OutOfMemory) => Self::OutOfMemory { operation, detail: format!(": {message}") },
            Some(Failure::NoProgram | Failure::NotRun | Failure::NotUnpacked | Failure::StoodIn(_)) | None => {
                Self::Operation { operation, message, failure }
            }
        }
    }

    /// The status of a command that stood in for the operation's own.
    pub fn stood_in(&self) -> Option<i32> {
        match self {
            Self::Operation { failure: Some(Failure::StoodIn(status)), .. } => Some(*status),
            _ => None,
        }
    }
}
