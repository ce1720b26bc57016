//! The command line: the only room that prints, and imported by no one.

mod completions;
mod exit;
pub mod help;
pub mod names;
mod output;
mod plans;
mod published;
mod recipe_lock;
mod setup;
mod verbs;

use std::path::PathBuf;
use std::process::ExitCode;

use base::failure::{Failure, NOT_STARTED, START_REMEDY};
use clap::{FromArgMatches, Parser, Subcommand, ValueEnum};
use sandbox::ScriptLimits;

pub use exit::Exit;
pub use setup::Setup;

/// Build the images that diskless nodes boot from
#[derive(Debug, Parser)]
#[command(name = "imgbuild", version, max_term_width = 100)]
pub struct Arguments {
    /// Directory of a recipe or a workspace
    #[arg(short = 'C', long = "directory", value_name = "DIR", default_value = ".", global = true)]
    pub directory: PathBuf,
    /// Directory of the store [default: $XDG_CACHE_HOME/imgbuild or ~/.cache/imgbuild]
    #[arg(long, value_name = "DIR", env = "IMGBUILD_STORE", global = true)]
    pub store: Option<PathBuf>,
    /// Number of actions to run at once [default: number of CPUs]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), global = true)]
    pub jobs: Option<u16>,
    /// How to assemble trees from layers [default: overlay if the kernel and the store's file system support it]
    #[arg(long, value_name = "HOW", env = "IMGBUILD_ASSEMBLE", global = true, hide = true, value_parser = parse_assembly)]
    pub assemble: Option<sandbox::Assembly>,
    /// Time limit in minutes for one run of a package manager or a script
    #[arg(long, value_name = "N", env = "IMGBUILD_SCRIPT_MINUTES", default_value = "120", global = true, hide = true,
        value_parser = parse_minutes)]
    pub script_minutes: std::time::Duration,
    /// What one run of a package manager or a script may take besides: processes=N,memory=SIZE,output=SIZE,disk=SIZE
    #[arg(long, value_name = "LIMITS", env = "IMGBUILD_SCRIPT_LIMITS", default_value = "", global = true, hide = true,
        value_parser = parse_limits)]
    pub script_limits: ScriptLimits,
    /// Show more: all causes and notes; twice: every step
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
    /// Print warnings and errors alone
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// How to show progress
    #[arg(long, value_name = "WHEN", default_value = "auto", global = true)]
    pub progress: ProgressKind,
    /// When to colour messages; `auto` goes by the terminal and NO_COLOR
    #[arg(long, value_name = "WHEN", default_value = "auto", global = true)]
    pub color: ColorWhen,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

impl Arguments {
    /// The same for another directory; which command it is says nothing then.
    pub fn for_directory(&self, directory: &std::path::Path) -> Self {
        Self {
            directory: directory.to_owned(),
            store: self.store.clone(),
            jobs: self.jobs,
            assemble: self.assemble,
            script_minutes: self.script_minutes,
            script_limits: self.script_limits,
            verbose: self.verbose,
            quiet: self.quiet,
            progress: self.progress,
            color: self.color,
            command: Command::Manual { directory: directory.to_owned() },
        }
    }
}

impl Arguments {
    pub fn limits(&self) -> ScriptLimits {
        ScriptLimits { seconds: self.script_minutes.as_secs().max(1), ..self.script_limits }
    }
}

fn parse_limits(text: &str) -> Result<ScriptLimits, String> {
    let mut limits = ScriptLimits::default();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let (name, value) = word.split_once('=').ok_or_else(|| format!("`{word}` has no value: write {word}=VALUE"))?;
        match name {
            "processes" => {
                let number = value.parse().ok().filter(|number| *number > 0);
                limits.processes = number.ok_or_else(|| format!("`{value}` is not a number of processes above 0"))?;
            }
            "memory" => limits.memory = Some(verbs::keeping::gc::parse_bytes(value)?),
            "output" => limits.output = verbs::keeping::gc::parse_bytes(value)?,
            "disk" => limits.disk = Some(verbs::keeping::gc::parse_bytes(value)?),
            other => return Err(format!("`{other}` is not a limit: processes, memory, output and disk are")),
        }
    }
    Ok(limits)
}

fn parse_minutes(text: &str) -> Result<std::time::Duration, String> {
    let minutes = text.parse::<f64>().ok().filter(|minutes| *minutes > 0.0 && *minutes <= 100_000.0);
    let minutes = minutes.ok_or("a number of minutes above 0, at most 100000")?;
    Ok(std::time::Duration::from_secs_f64(minutes * 60.0))
}

fn parse_assembly(text: &str) -> Result<sandbox::Assembly, String> {
    sandbox::Assembly::named(text).ok_or_else(|| "one of overlay, copy".to_owned())
}

/// How to show progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressKind {
    /// A moving line on a terminal, plain lines elsewhere
    Auto,
    /// Plain lines
    Plain,
    /// One JSON object per line
    Json,
}

/// When messages have colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    Auto,
    Always,
    Never,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a commented recipe, ready to build
    Init(verbs::recipe::init::Arguments),
    /// Check recipes, or show how a list is read, without building
    Check(verbs::recipe::check::Arguments),
    /// Write a recipe's file in the other format, TOML or KDL, with its comments
    Convert(verbs::recipe::convert::Arguments),
    /// Show what a build would do and why, without running anything
    Plan(verbs::building::plan::Arguments),
    /// Build images and publish their artefacts
    Build(verbs::building::build_arguments::Arguments),
    /// Update image.lock, for all packages or some, and show what changed
    Update(verbs::building::update::Arguments),
    /// Show which packages of images, or of what nodes boot, have known vulnerabilities
    Audit(verbs::keeping::audit::Arguments),
    /// Copy all packages of image.lock into a directory, for offline builds
    Vendor(verbs::building::vendor::Arguments),
    /// Show all inputs of the image's actions, from the last build or the recipe
    Explain(verbs::building::explain::Arguments),
    /// Open a shell in the built image; changes are discarded
    Shell(verbs::images::shell::Arguments),
    /// List the images, their published artefacts and layers
    List(verbs::recipe::list::Arguments),
    /// List builds: what ran, how long, what failed; or print how to rerun an action
    Log(verbs::building::log::Arguments),
    /// Compare two builds, bundles of artefacts, locks, or directories
    Diff(verbs::images::diff::Arguments),
    /// Show a recipe's values, each with the file and line it comes from
    Show(verbs::recipe::show::Arguments),
    /// Change values of a recipe in place, keeping comments and order
    Set(verbs::recipe::set::Arguments),
    /// Create an image as a copy of another
    Copy(verbs::recipe::copy::Arguments),
    /// List the nodes: what each boots, its last report; or write them for other programs
    Nodes(verbs::nodes::list::Arguments),
    /// Say what nodes boot: writes the files of their boot loaders, all of a range or none
    Nodeset(verbs::nodes::nodeset::Arguments),
    /// Bring files, packages and scripts of the images to running nodes over ssh
    Sync(verbs::nodes::sync::Arguments),
    /// Bring a build to running nodes: a canary, then batches, each drained first, by the smallest restart
    Roll(verbs::nodes::roll::Arguments),
    /// Boot the published image in QEMU
    Boot(verbs::images::boot::Arguments),
    /// Print the boot loader (iPXE, GRUB, PXELINUX) or dnsmasq configuration for the published image
    BootEntry(verbs::images::boot_entry::Arguments),
    /// Give the published image to another provisioner, or write it as a tree for nodes whose root is mounted over NFS
    Publish(verbs::images::publish::Arguments),
    /// Send a published image to an OCI registry, transferring only the missing parts; or as a container image
    Push(verbs::images::push::Arguments),
    /// Bring a pushed image from an OCI registry into a directory of published images
    Pull(verbs::images::pull::Arguments),
    /// Print the bill of materials of a published image: packages, sources, files that no package provides
    Sbom(verbs::bill::sbom::Arguments),
    /// Print what a published image was made from, as an in-toto statement; signed with a key
    Provenance(verbs::bill::provenance::Arguments),
    /// Verify all files of a published, fetched or pulled image, and who signed it
    Verify(verbs::bill::verify::Arguments),
    /// Serve images, boot scripts and the state of nodes over HTTP
    Serve(verbs::nodes::serve::Arguments),
    /// Show what `fetch` would transfer to replace one published image with another
    Delta(verbs::images::delta::Arguments),
    /// Download a published image over HTTP, transferring only the missing parts
    Fetch(verbs::images::fetch::Arguments),
    /// Import xCAT definitions, bundles, media, or image recipes of other provisioners
    Import(verbs::site::import::Arguments),
    /// Create a recipe from a running node or a file tree: its packages plus an overlay of everything else
    Capture(verbs::site::capture::Arguments),
    /// Export images as xCAT definitions or bundles
    Export(verbs::site::export::Arguments),
    /// Create links that run imgbuild under xCAT's command names (genimage, packimage, copycds, ...)
    InstallXcatNames(verbs::site::names::Arguments),
    /// Draw the image's action graph and what a build would do with each action
    Graph(plans::graph::Arguments),
    /// Show what takes up space in the packed image
    Size(verbs::images::size::Arguments),
    /// Remove from the store what no kept build needs
    Gc(verbs::keeping::gc::Arguments),
    /// Manage the store: verify it, show disk usage, pin builds, move it to another machine or user
    Store(verbs::keeping::store::Arguments),
    /// Look after a cache that several machines share, and make its key
    Cache(verbs::keeping::cache::Arguments),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Build for another machine
    #[command(hide = true)]
    Away(verbs::building::away::Arguments),
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Manual {
        /// The directory
        directory: std::path::PathBuf,
    },
    /// Print the JSON Schema of a file format
    Schema {
        /// Which format
        #[arg(value_parser = output::documents::FORMATS)]
        format: String,
    },
}

pub fn main() -> ExitCode {
    // Reading the arguments alone takes more than a small stack.
    match sandbox::check_stack() {
        Ok(()) => with_stack(),
        Err(problem) => {
            output::render::say(&format!("error: {problem}"));
            Exit::Machine.into()
        }
    }
}

#[inline(never)]
fn with_stack() -> ExitCode {
    if std::env::args_os().len() == 1 {
        output::render::say(help::FIRST);
        return Exit::Usage.into();
    }
    let parsed = help::command().try_get_matches().and_then(|matches| Arguments::from_arg_matches(&matches));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => {
            let error = help::in_words(error);
            output::render::of_command_line(&error);
            return match error.use_stderr() {
                true => Exit::Usage.into(),
                false => ended(Exit::Done).into(),
            };
        }
    };
    output::render::install(arguments.color);
    sandbox::interrupt::install();
    files::sweep::remove_dead_of_a_moment(&std::env::temp_dir());
    base::failure::end_at_panics(panicked);
    if let Err(error) = base::failure::start_pool(arguments.jobs.map(usize::from)) {
        output::render::say(&format!("error: {error}\n  help: {}", base::failure::START_REMEDY));
        return Exit::Machine.into();
    }
    let outcome = match &arguments.command {
        Command::Init(own) => verbs::recipe::init::run(&arguments, own).into(),
        Command::Check(own) => verbs::recipe::check::run(&arguments, own),
        Command::Convert(own) => verbs::recipe::convert::run(&arguments, own),
        Command::Plan(own) => verbs::building::plan::run(&arguments, own).into(),
        Command::Build(own) => verbs::building::build::run(&arguments, own),
        Command::Update(own) => verbs::building::update::run(&arguments, own).into(),
        Command::Audit(own) => verbs::keeping::audit::run(&arguments, own).into(),
        Command::Vendor(own) => verbs::building::vendor::run(&arguments, own).into(),
        Command::Explain(own) => verbs::building::explain::run(&arguments, own),
        Command::Shell(own) => return verbs::images::shell::run(&arguments, own),
        Command::List(own) => verbs::recipe::list::run(&arguments, own).into(),
        Command::Log(own) => verbs::building::log::run(&arguments, own),
        Command::Diff(own) => verbs::images::diff::run(&arguments, own),
        Command::Show(own) => verbs::recipe::show::run(&arguments, own).into(),
        Command::Set(own) => verbs::recipe::set::run(&arguments, own),
        Command::Copy(own) => verbs::recipe::copy::run(&arguments, own),
        Command::Nodes(own) => verbs::nodes::list::run(&arguments, own).into(),
        Command::Nodeset(own) => verbs::nodes::nodeset::run(&arguments, own).into(),
        Command::Sync(own) => verbs::nodes::sync::run(&arguments, own).into(),
        Command::Roll(own) => verbs::nodes::roll::run(&arguments, own).into(),
        Command::Boot(own) => verbs::images::boot::run(&arguments, own).into(),
        Command::BootEntry(own) => verbs::images::boot_entry::run(&arguments, own).into(),
        Command::Publish(own) => verbs::images::publish::run(&arguments, own).into(),
        Command::Push(own) => verbs::images::push::run(&arguments, own).into(),
        Command::Pull(own) => verbs::images::pull::run(&arguments, own),
        Command::Sbom(own) => verbs::bill::sbom::run(&arguments, own).into(),
        Command::Provenance(own) => verbs::bill::provenance::run(&arguments, own).into(),
        Command::Verify(own) => verbs::bill::verify::run(&arguments, own).into(),
        Command::Serve(own) => verbs::nodes::serve::run(&arguments, own).into(),
        Command::Delta(own) => verbs::images::delta::run(&arguments, own),
        Command::Fetch(own) => verbs::images::fetch::run(&arguments, own),
        Command::Import(own) => verbs::site::import::run(&arguments, own),
        Command::Capture(own) => verbs::site::capture::run(&arguments, own),
        Command::Export(own) => verbs::site::export::run(&arguments, own).into(),
        Command::InstallXcatNames(own) => verbs::site::names::run(&arguments, own),
        Command::Graph(own) => plans::graph::run(&arguments, own).into(),
        Command::Size(own) => verbs::images::size::run(&arguments, own),
        Command::Gc(own) => verbs::keeping::gc::run(&arguments, own).into(),
        Command::Store(own) => verbs::keeping::store::run(&arguments, own).into(),
        Command::Cache(own) => verbs::keeping::cache::run(&arguments, own),
        Command::Away(own) => verbs::building::away::run(&arguments, own),
        Command::Completions { shell } => {
            output::render::print_whole(&completions::script(*shell));
            Exit::Done
        }
        Command::Manual { directory } => {
            let written =
                std::fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(help::command(), directory));
            match written {
                Ok(()) => Exit::Done,
                Err(error) => {
                    let problem = format!("cannot write manual pages into `{}`: {error}", directory.display());
                    output::render::say(&format!("error: {problem}"));
                    Exit::Machine
                }
            }
        }
        Command::Schema { format } => {
            output::render::print_whole(&output::documents::schema(format).unwrap_or_default());
            Exit::Done
        }
    };
    ended(outcome).into()
}

/// Reports a panic, and gives the exit status: no one waits for the thread that ended.
fn panicked(text: &str) -> i32 {
    let exit = match Failure::of_panic(text) {
        Some(Failure::NotStarted) => {
            output::render::say(&format!("error: {NOT_STARTED}: {text}\n  help: {START_REMEDY}"));
            Exit::Machine
        }
        _ => {
            output::render::say(&format!(
                "error: bug in imgbuild: {text}\n  help: please report it with the command you ran. Nothing was published; finished work is kept"
            ));
            Exit::Mistake
        }
    };
    exit.code().into()
}

/// How a command ended, once it is known what became of what it printed.
fn ended(outcome: Exit) -> Exit {
    let Some(problem) = output::render::output_problem() else { return outcome };
    // The error's number in brackets is of no use to anybody.
    let problem = problem.to_string();
    let problem = problem.split(" (os error").next().unwrap_or_default();
    output::render::say(&format!("standard output cannot be written: {problem}"));
    match outcome {
        Exit::Done | Exit::Work => Exit::Machine,
        other => other,
    }
}
