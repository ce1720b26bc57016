//! Errors of this module, each with its remedy.

use miette::Diagnostic;
use thiserror::Error;

#[derive(Debug, Error, Diagnostic)]
pub enum StageError {
    #[error("{lock} is out of date with the recipe: {problem}")]
    #[diagnostic(code(lock::stale), help("run `imgbuild build` without --locked to update it, and commit the result"))]
    Locked { lock: String, problem: String },
    #[error("this machine's clock ({now} seconds since 1970) is before the epoch of {lock} ({epoch})")]
    #[diagnostic(
        code(lock::clock),
        help("set the clock; times in an image are clamped to the epoch, which needs a clock that is past it")
    )]
    Clock { lock: String, epoch: i64, now: i64 },
    #[error("programs of {machine} have to be emulated, and there is no `{name}`: {problem}")]
    #[diagnostic(
        code(stage::no_emulator),
        help(
            "install qemu-user-static on this host (Debian's package; Fedora's has the same name), or name a static `{name}` in IMGBUILD_EMULATOR_PROGRAM; images of Debian bring their own, by image.lock: `imgbuild update` renews a lock that was made on a host of {machine}"
        )
    )]
    NoEmulator { machine: String, name: String, problem: String },
    #[error("there is no program of the initrd (imgbuild-init) for {machine}: {problem}")]
    #[diagnostic(
        code(stage::no_init),
        help(
            "a release of imgbuild has it. From its source: `imgbuild-init/cross {machine} FILE` builds it; then {variable}=FILE in the environment, or build imgbuild again"
        )
    )]
    NoInit { machine: String, variable: String, problem: String },
    #[error("{lock} has no package `{name}`{hint}")]
    #[diagnostic(code(lock::no_package), help("`imgbuild build` adds packages that are new in the recipe"))]
    NotInLock { lock: String, name: String, hint: String },
    /// Packages give accounts other ids than before.
    #[error("{text}")]
    #[diagnostic(
        code(lock::id_moved),
        help(
            "files on NFS are owned by number: fix the numbers in ‹[users]› in the recipe, each NAME with `uid` and `gid`; without --locked imgbuild keeps them where it can"
        )
    )]
    Moved { text: String, names: Vec<String>, is_final: bool },
    /// Scripts of a transaction ask for the kernel's release, and the lock may not be renewed to say so.
    #[error("{lock} does not record that scripts of {pass} ask for the kernel's release")]
    #[diagnostic(
        code(lock::stale),
        help(
            "run `imgbuild build` without --locked once, and commit {lock}: what these scripts create depends on the kernel"
        )
    )]
    AsksRelease { lock: String, pass: String, is_final: bool },
    #[error("{lock} has no ids for {names}")]
    #[diagnostic(code(lock::stale), help("run `imgbuild build` without --locked once, and commit {lock}"))]
    Unrecorded { lock: String, names: String },
    #[error("{action} is not reproducible: {text}")]
    #[diagnostic(
        code(stage::not_reproducible),
        help(
            "the artefacts of the first build are published; a script that writes times or random numbers can use SOURCE_DATE_EPOCH instead (docs/reproducible.md)"
        )
    )]
    NotReproducible { action: String, text: String },
    /// Not a failure of its own: something else failed, and that is reported.
    #[error("given up because something else failed")]
    #[diagnostic(code(stage::stopped))]
    Stopped,
    #[error("the plan in {file} is stale: {count} {} since it was made\n{lines}", if *count == 1 { "difference" } else { "differences" })]
    #[diagnostic(code(plan::moved), help("nothing was built; review it and plan again: imgbuild plan -o {file}"))]
    PlanMoved { file: String, count: usize, lines: String },
    /// An action cannot be gone through again.
    #[error("{problem}")]
    #[diagnostic(code(shell::action), help("{help}"))]
    NotToReproduce { problem: String, help: String },
    #[error("{what} exited with status {status}; its last lines:\n{lines}")]
    #[diagnostic(
        code(stage::script),
        help("{remedy}full log: {log}; nothing was published; the previous artefacts are unchanged")
    )]
    Script { what: String, status: i32, lines: String, remedy: String, log: String },
    /// A task of a role.
    #[error("{what}:\n{lines}")]
    #[diagnostic(
        code(stage::role),
        help("{remedy}full log: {log}; nothing was published; the previous artefacts are unchanged")
    )]
    Task { what: String, lines: String, remedy: String, log: String },
    /// The recipe asks for what the packages do not have; it was reported at its place.
    #[error("{problem}")]
    #[diagnostic(code(recipe::refused), help("{help}"))]
    Refused { problem: String, help: String },
    #[error("{problem}")]
    #[diagnostic(code(stage::gate), help("{help}"))]
    Gate { problem: String, help: String },
    #[error("‹[services]› cannot be applied: {names}")]
    #[diagnostic(code(stage::services), help("correct the lines above; nothing was published"))]
    Units { names: String },
    #[error("cannot read `{file}`: {source}")]
    #[diagnostic(code(stage::input))]
    Input { file: String, source: std::io::Error },
    #[error("`{file}` changed while the image was built")]
    #[diagnostic(
        code(stage::changed),
        help(
            "build again to use the file as it is now. Nothing was published, and no result of the action that reads it is kept"
        )
    )]
    Changed { file: String },
    /// Another machine was asked to build, and what it built is not what is asked for here.
    #[error("{host} built, and the result of {action} is not among what it made")]
    #[diagnostic(
        code(on::other),
        help(
            "what the recipe reads differs there: look at the first lines of the plan with `imgbuild plan -v`, and build without --on, or with --executor local, until this is mended"
        )
    )]
    Elsewhere { host: String, action: String },
    /// What was to be made elsewhere failed there, and was shown.
    #[error("{why}")]
    #[diagnostic(code(build::elsewhere), help("see its output above; results of other jobs are kept"))]
    FailedElsewhere { code: u8, why: String },
    #[error("{action} uses the {} of {missing}, which {} neither in the store nor in {caches}", if *count == 1 { "result" } else { "results" }, if *count == 1 { "is" } else { "are" })]
    #[diagnostic(
        code(only::missing),
        help("make {} first: {command}", if *count == 1 { "it" } else { "them" })
    )]
    NotBuilt { action: String, missing: String, count: usize, caches: &'static str, command: String },
    #[error("{action} uses the result of {missing}, whose files in the cache {cache} cannot be used")]
    #[diagnostic(
        code(only::damaged),
        help(
            "the warning above says why. A build without --only that may write to the cache makes it again and replaces what is damaged there. `imgbuild cache verify CACHE --repair` removes that as well, where the cache permits it; then make it again: {command}"
        )
    )]
    NotBrought { action: String, missing: String, cache: String, command: String },
    #[error("{image} has no action `{action}`{hint}")]
    #[diagnostic(
        code(only::unknown),
        help("{actions}. A file of `imgbuild plan --emit` that names it is out of date: write it again")
    )]
    NoAction { image: String, action: String, hint: String, actions: String },
    #[error("the cache {place} has other results of {action} than a build here: {differing}")]
    #[diagnostic(
        code(cache::differs),
        help(
            "build without it: omit --cache, or remove it from `urls` in imgbuild.toml; everything that it gave this store and that was not compared was removed from there. Check with `imgbuild build --verify` whether the action is reproducible, and who can write to the cache; sign with a key (`imgbuild cache key`) to limit that"
        )
    )]
    Differs { place: String, action: String, differing: String },
    #[error("the results cannot be written: {problem}")]
    #[diagnostic(code(on::results), help("is the disk full there? `ssh://HOST/DIRECTORY` names another directory"))]
    Undelivered { problem: String },
    #[error("cannot {intent} `{path}`: {source}")]
    #[diagnostic(code(stage::publish), help("nothing was published; the previous artefacts are unchanged"))]
    Publish { intent: &'static str, path: String, source: std::io::Error },
    #[error("no space left while imgbuild tried to {intent} `{path}`")]
    #[diagnostic(
        code(stage::publish_full),
        help(
            "nothing was published; the previous artefacts are unchanged; free some space there, or choose another place with --out DIR or `out` in the recipe: the next build only publishes"
        )
    )]
    PublishFull { intent: &'static str, path: String },
    #[error(
        "the file system of {directory} has {free} free, but the build needs {synced} for synced files and {download} for packages"
    )]
    #[diagnostic(
        code(store::room),
        help(
            "free some space there, run `imgbuild gc`, or use a store on another file system: --store DIR, or IMGBUILD_STORE=DIR in the environment"
        )
    )]
    NoRoom { directory: String, synced: String, download: String, free: String },
    /// Another tool's layout cannot be written.
    #[error("cannot {intent} `{path}`: {source}")]
    #[diagnostic(
        code(stage::layout),
        help(
            "{directory} still has the earlier files, `out` the new build: fix this and run again with the same --publish"
        )
    )]
    Layout { intent: &'static str, path: String, source: std::io::Error, directory: String },
    #[error("the plan is wrong: {0}")]
    #[diagnostic(code(stage::graph), help("this is a bug in imgbuild: please report it"))]
    Graph(#[from] plan::GraphError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Lock(#[from] recipe::LockError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Distro(#[from] packages::DistroError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Sandbox(#[from] sandbox::SandboxError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Oci(#[from] oci::OciError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] store::StoreError),
}

impl StageError {
    /// The status of a command that stood in for an operation's own.
    pub fn stood_in(&self) -> Option<i32> {
        match self {
            Self::Sandbox(error) | Self::Distro(packages::DistroError::Sandbox(error)) => error.stood_in(),
            _ => None,
        }
    }

    /// Whether all that it says was reported already, where it was asked for.
    pub fn is_told(&self) -> bool {
        match self {
            Self::Refused { .. } => true,
            Self::Distro(error) => error.is_reported(),
            _ => false,
        }
    }

    /// The file with all that the failed command printed, below the store's directory; none where no command failed.
    pub fn log(&self) -> Option<&str> {
        use packages::DistroError;
        match self {
            Self::Script { log, .. }
            | Self::Task { log, .. }
            | Self::Distro(
                DistroError::MaintainerScript { log, .. }
                | DistroError::PackageManager { log, .. }
                | DistroError::Unsatisfiable { log, .. }
                | DistroError::ContainerDatabase { log, .. }
                | DistroError::NotAsLocked { log, .. }
                | DistroError::Indices { log, .. },
            ) => Some(log),
            _ => None,
        }
    }

    /// Wraps an I/O error of publishing with what was being done to which file.
    pub fn publishing(intent: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.display().to_string();
        move |source| match source.kind() {
            std::io::ErrorKind::StorageFull => Self::PublishFull { intent, path },
            _ => Self::Publish { intent, path, source },
        }
    }
}
