//! `imgbuild nodeset`: what nodes boot.

mod builds;
mod canary;
mod diff;
mod files;
mod gone;
mod shown;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::ValueEnum;

use super::{Site, StateArguments, failed, open};
use crate::Exit;
use crate::output::render;
use nodes::loaders::Loader;
use nodes::state::now;
use nodes::{Assigned, Assignments, Boots, NodeSet};

use builds::Builds;

/// Arguments of `nodeset`.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Nodes, as a node set: cn[001-040], @compute, cn*!cn007
    #[arg(value_name = "RANGE", required_unless_present_any = ["go_on", "abort", "clear", "template"])]
    pub range: Option<String>,
    /// What they boot: IMAGE the published build, IMAGE@BUILD another one, `boot` their disks, `offline` nothing; `stat` says what
    /// they boot now [default: the image that nodes.toml gives each]
    #[arg(value_name = "IMAGE[@BUILD]|boot|offline|stat")]
    pub target: Option<String>,
    /// The boot loader [default: that of each node in nodes.toml]
    #[arg(long, value_name = "LOADER")]
    pub loader: Option<LoaderName>,
    /// Directory that loaders load from, for instance /tftpboot [default: `out` of `[nodeset]` in nodes.toml]
    #[arg(long, value_name = "DIR", env = "IMGBUILD_NODESET_OUT")]
    pub out: Option<PathBuf>,
    /// Where nodes find the directory `out` of the images; {image} stands for the image [default: `url` of `[nodeset]` in nodes.toml, or
    /// the server that the loader came from]
    #[arg(long, value_name = "URL", env = "IMGBUILD_NODESET_URL")]
    pub url: Option<String>,
    /// Directory of published images [default: the `out` of each image]
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// Show what would change in the files of loaders, and change nothing
    #[arg(long)]
    pub diff: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Go back to what the nodes booted before
    #[arg(long, conflicts_with_all = ["target", "canary", "go_on", "abort"])]
    pub rollback: bool,
    /// Move only so many nodes, a number or a percentage; --continue moves the rest
    #[arg(long, value_name = "N|N%", requires = "range")]
    pub canary: Option<String>,
    /// Move the rest of a canary, if all its nodes reported that they are up
    #[arg(long = "continue", conflicts_with_all = ["range", "abort"])]
    pub go_on: bool,
    /// Move the nodes of a canary back
    #[arg(long, conflicts_with = "range")]
    pub abort: bool,
    /// Remove what is left of nodes that nodes.toml no longer has: files of loaders, pinned builds, reports
    #[arg(long, conflicts_with_all = ["range", "go_on", "abort", "rollback", "diff", "json"])]
    pub clear: bool,
    /// Replace files in the directory that someone else wrote; they are kept as FILE.ORIG
    #[arg(long)]
    pub force: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "diff")]
    pub json: bool,
    /// Says nothing of what was done.
    #[arg(skip)]
    pub is_quiet: bool,
    /// Print the template of a loader's files, to begin one of your own in loaders/LOADER.j2
    #[arg(long, value_name = "LOADER", exclusive = true)]
    pub template: Option<LoaderName>,
    /// Where the state is
    #[command(flatten)]
    pub state: StateArguments,
}

/// Boot loaders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LoaderName {
    /// iPXE: BIOS and UEFI, x86-64 and arm64
    Ipxe,
    /// GRUB 2
    Grub,
    /// PXELINUX: BIOS
    Pxelinux,
    /// petitboot: OPAL
    Petitboot,
    /// xCAT's own iPXE
    Xnba,
    /// shim and GRUB as distributions sign them, for Secure Boot
    Shim,
}

impl From<LoaderName> for Loader {
    fn from(one: LoaderName) -> Self {
        match one {
            LoaderName::Ipxe => Self::Ipxe,
            LoaderName::Grub => Self::Grub,
            LoaderName::Pxelinux => Self::Pxelinux,
            LoaderName::Petitboot => Self::Petitboot,
            LoaderName::Xnba => Self::Xnba,
            LoaderName::Shim => Self::Shim,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Image(String, Option<String>),
    /// What nodes.toml says of each.
    OfNode,
    Disk,
    Nothing,
}

/// A problem that was reported already.
type Outcome<T> = Result<T, Exit>;

fn refused(problem: &str, exit: Exit) -> Exit {
    render::say(&format!("error: {problem}"));
    exit
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Exit> {
    if let Some(loader) = own.template {
        render::print_as_is(Loader::from(loader).built_in());
        return Ok(Exit::Done);
    }
    let site = open(arguments, &own.state)?;
    if let Some(problem) = site.other_server().filter(|_| own.target.as_deref() != Some("stat")) {
        return Err(refused(&problem, Exit::Input));
    }
    let outcome = match (own.go_on, own.abort) {
        (true, _) => canary::go_on(arguments, own, &site),
        (_, true) => canary::abort(arguments, own, &site),
        _ if own.clear => gone::clear(arguments, own, &site),
        _ => of_range(arguments, own, &site),
    };
    Ok(match outcome {
        Ok(()) => Exit::Done,
        Err(exit) => exit,
    })
}

fn of_range(arguments: &crate::Arguments, own: &Arguments, site: &Site) -> Outcome<()> {
    let set = site.select(own.range.as_deref(), arguments.verbose)?;
    if own.target.as_deref() == Some("stat") {
        return shown::stat(site, &set, own.json);
    }
    if own.rollback {
        return rollback(arguments, own, site, &set);
    }
    let target = match own.target.as_deref() {
        None => Target::OfNode,
        Some("boot") => Target::Disk,
        Some("offline") => Target::Nothing,
        Some(text) => match text.split_once('@') {
            Some((image, build)) => Target::Image(image.to_owned(), Some(build.to_owned())),
            None => Target::Image(text.to_owned(), None),
        },
    };
    if own.canary.is_some() {
        return canary::start(arguments, own, site, &set, &target);
    }
    let mut builds = Builds::new(arguments, own.from.clone());
    let wanted = wanted(own, site, &set, &target, &mut builds)?;
    files::apply(own, site, wanted, &mut builds, |_| Ok(()))
}

/// The build of an image, by the first digits of its name, or the published one, and its directory.
/// Errors: The exit code, after it was reported that it is missing or cannot be booted.
pub(crate) fn build_of(
    arguments: &crate::Arguments,
    from: Option<PathBuf>,
    image: &str,
    build: Option<&str>,
) -> Outcome<(String, PathBuf)> {
    match Builds::new(arguments, from).pinned(image, build)? {
        Boots::Image { build, directory, .. } => Ok((build, directory)),
        _ => Err(Exit::Mistake),
    }
}

/// Gives nodes a build, as `nodeset RANGE IMAGE@BUILD` does, without a word; `is_dry` only looks whether that can be.
/// Errors: The exit code, after the reason was reported; no node has it then.
pub(crate) fn give(
    arguments: &crate::Arguments,
    site: &Site,
    set: &NodeSet,
    (from, image, build): (Option<PathBuf>, &str, &str),
    is_dry: bool,
) -> Outcome<()> {
    let own = Arguments {
        range: None,
        target: None,
        loader: None,
        out: std::env::var_os("IMGBUILD_NODESET_OUT").map(PathBuf::from),
        url: std::env::var("IMGBUILD_NODESET_URL").ok(),
        from: from.clone(),
        diff: false,
        dry_run: is_dry,
        rollback: false,
        canary: None,
        go_on: false,
        abort: false,
        clear: false,
        force: false,
        json: false,
        is_quiet: true,
        template: None,
        state: StateArguments { state_directory: None },
    };
    let mut builds = Builds::new(arguments, from);
    let target = Target::Image(image.to_owned(), Some(build.to_owned()));
    let wanted = wanted(&own, site, set, &target, &mut builds)?;
    files::apply(&own, site, wanted, &mut builds, |_| Ok(()))
}

fn wanted(
    own: &Arguments,
    site: &Site,
    set: &NodeSet,
    target: &Target,
    builds: &mut Builds,
) -> Outcome<BTreeMap<String, Assigned>> {
    let out = files::out_of(own, site)?;
    let time = now();
    let (mut found, mut without) = (BTreeMap::new(), NodeSet::default());
    for name in set.iter() {
        let Some(node) = site.nodes.get(name) else { continue };
        let boots = match target {
            Target::Disk => Boots::Disk,
            Target::Nothing => Boots::Nothing,
            Target::Image(image, build) => builds.pinned(image, build.as_deref())?,
            Target::OfNode => match node.image() {
                Some(image) => builds.pinned(image, node.build())?,
                None => {
                    without.insert(name);
                    continue;
                }
            },
        };
        let loader = files::loader_of(own, &node)?;
        let url = files::url_of(own, site, loader)?;
        let assigned =
            Assigned { boots, loader: loader.name().to_owned(), out: out.clone(), url, time, previous: None };
        found.insert(name.to_owned(), assigned);
    }
    if !without.is_empty() {
        let problem = format!(
            "nodes without an image: {without}\n  help: name one: imgbuild nodeset RANGE IMAGE, or give them ‹image = \"...\"› in {}",
            site.nodes.file.name
        );
        return Err(refused(&problem, Exit::Input));
    }
    Ok(found)
}

fn rollback(arguments: &crate::Arguments, own: &Arguments, site: &Site, set: &NodeSet) -> Outcome<()> {
    let assigned = site.state.assignments().map_err(failed)?;
    let wanted = before(&assigned, set);
    let without: NodeSet = set.minus(&NodeSet::of(wanted.keys().cloned()));
    if !without.is_empty() {
        let problem = format!("nothing to go back to: `nodeset` gave these nodes nothing before: {without}");
        return Err(refused(&problem, Exit::Input));
    }
    let mut builds = Builds::new(arguments, own.from.clone());
    files::apply(own, site, wanted, &mut builds, |_| Ok(()))
}

/// What the nodes of a set had before.
fn before(assigned: &Assignments, set: &NodeSet) -> BTreeMap<String, Assigned> {
    let one = |name: &str| {
        let now_has = assigned.nodes.get(name)?;
        let before = now_has.previous.as_deref()?;
        Some((name.to_owned(), Assigned { time: now(), previous: None, ..before.clone() }))
    };
    set.iter().filter_map(one).collect()
}
