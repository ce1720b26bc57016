//! xCAT's commands by their names: links to this program that take xCAT's flags, do the same by planner and store, and say
//! what it is called here. Exit codes are xCAT's: 0 and 1.

mod bundles;
mod capture;
mod genimage;
mod lite;
mod media;
mod nodes;
mod osimage;
mod packimage;
mod shell;
mod undo;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use crate::output::render;

use shell::Shell;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    Genimage,
    Packimage,
    Liteimg,
    Ilitefile,
    Litefile,
    Litetree,
    Imgexport,
    Imgimport,
    Imgcapture,
    Copycds,
    Nodeset,
    Updatenode,
    Lsdef,
    Mkdef,
    Chdef,
    Rmdef,
    Rmimage,
}

impl Name {
    /// All, in the order in which they are listed.
    pub const ALL: [Self; 17] = [
        Self::Genimage,
        Self::Packimage,
        Self::Liteimg,
        Self::Ilitefile,
        Self::Litefile,
        Self::Litetree,
        Self::Imgexport,
        Self::Imgimport,
        Self::Imgcapture,
        Self::Copycds,
        Self::Nodeset,
        Self::Updatenode,
        Self::Lsdef,
        Self::Mkdef,
        Self::Chdef,
        Self::Rmdef,
        Self::Rmimage,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Genimage => "genimage",
            Self::Packimage => "packimage",
            Self::Liteimg => "liteimg",
            Self::Ilitefile => "ilitefile",
            Self::Litefile => "litefile",
            Self::Litetree => "litetree",
            Self::Imgexport => "imgexport",
            Self::Imgimport => "imgimport",
            Self::Imgcapture => "imgcapture",
            Self::Copycds => "copycds",
            Self::Nodeset => "nodeset",
            Self::Updatenode => "updatenode",
            Self::Lsdef => "lsdef",
            Self::Mkdef => "mkdef",
            Self::Chdef => "chdef",
            Self::Rmdef => "rmdef",
            Self::Rmimage => "rmimage",
        }
    }

    /// The command that a program was started as, if it is one.
    pub fn of(program: &str) -> Option<Self> {
        let base = program.rsplit('/').next().unwrap_or(program);
        Self::ALL.into_iter().find(|one| one.name() == base)
    }
}

/// File beside the links with the path of the workspace that they are for.
pub const WORKSPACE_NOTE: &str = "imgbuild-workspace";

/// Names the workspace for links, before all else.
const WORKSPACE_VARIABLE: &str = "IMGBUILD_WORKSPACE";

pub fn run(name: Name, arguments: &[String]) -> ExitCode {
    render::install(super::ColorWhen::Auto);
    let program = arguments.first().map_or(name.name(), String::as_str);
    let shell = Shell { workspace: workspace(program), name, arguments: arguments.to_vec() };
    let done = match name {
        Name::Genimage => parsed(arguments).and_then(|own| genimage::run(&shell, &own)),
        Name::Packimage => parsed(arguments).and_then(|own| packimage::run(&shell, &own)),
        Name::Imgexport => parsed(arguments).and_then(|own| bundles::export(&shell, &own)),
        Name::Imgimport => parsed(arguments).and_then(|own| bundles::import(&shell, &own)),
        Name::Copycds => parsed(arguments).and_then(|own| media::run(&shell, &own)),
        Name::Lsdef => nodes::lsdef(&shell).and_then(|done| done.map_or_else(|| osimage::lsdef::run(&shell), Ok)),
        Name::Mkdef => osimage::edits::mkdef(&shell),
        Name::Chdef => nodes::chdef(&shell).and_then(|done| done.map_or_else(|| osimage::edits::chdef(&shell), Ok)),
        Name::Rmdef => osimage::removal::rmdef(&shell),
        Name::Rmimage => parsed(arguments).and_then(|own| osimage::removal::rmimage(&shell, &own)),
        Name::Imgcapture => parsed(arguments).and_then(|own| capture::run(&shell, &own)),
        Name::Nodeset => nodes::nodeset(&shell).and_then(|done| done.ok_or_else(|| not_done(&shell))),
        Name::Updatenode => nodes::updatenode::run(&shell),
        Name::Liteimg | Name::Ilitefile | Name::Litefile | Name::Litetree => lite::run(&shell),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ended(code)) => ExitCode::from(code),
    }
}

/// A command that did not end well, and its exit code.
pub struct Ended(pub u8);

pub type Done = Result<(), Ended>;

/// Reads xCAT's flags; help is no error.
fn parsed<T: Parser>(arguments: &[String]) -> Result<T, Ended> {
    T::try_parse_from(arguments).map_err(|error| {
        crate::output::render::of_command_line(&error);
        Ended(if error.use_stderr() { 1 } else { 0 })
    })
}

/// Where the links are for: what the variable says, what stands beside the link, or here.
fn workspace(program: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(WORKSPACE_VARIABLE) {
        return PathBuf::from(path);
    }
    let beside = |directory: &Path| std::fs::read_to_string(directory.join(WORKSPACE_NOTE)).ok();
    let noted = match program.rsplit_once('/') {
        Some((directory, _)) => beside(Path::new(directory)),
        None => std::env::var_os("PATH").and_then(|path| {
            let mut places = std::env::split_paths(&path).filter(|directory| directory.join(program).exists());
            beside(&places.next()?)
        }),
    };
    noted.map_or_else(|| PathBuf::from("."), |text| PathBuf::from(text.trim_end_matches('\n')))
}

/// Commands whose work imgbuild does not do: xCAT's own gets them; without one they say what to do instead.
fn not_done(shell: &Shell) -> Ended {
    let words = shell.words();
    let image = words.iter().find_map(|word| word.strip_prefix("osimage="));
    let last = || words.last().map(String::as_str).filter(|word| !word.starts_with('-'));
    let image = image.or_else(last).unwrap_or("IMAGE");
    shell.hand_on(
        "the workspace has no nodes.toml with these nodes",
        &format!(
            "with xCAT: packimage {image}, then its nodeset; without: write the nodes into nodes.toml (imgbuild import xcat), or imgbuild boot-entry {image} prints what iPXE, GRUB, PXELINUX and dnsmasq need"
        ),
    )
}
