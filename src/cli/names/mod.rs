//! xCAT's commands by their names: links to this program that take xCAT's flags, do the same by planner and store, and say
//! what it is called here. Exit codes are xCAT's: 0 and 1.

mod bundles;
mod capture;
mod definitions;
mod genimage;
mod media;
mod nodes;
mod packimage;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;

use crate::cli::output::render;

/// A command of xCAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// `genimage`.
    Genimage,
    /// `packimage`.
    Packimage,
    /// `liteimg`.
    Liteimg,
    /// `imgexport`.
    Imgexport,
    /// `imgimport`.
    Imgimport,
    /// `imgcapture`.
    Imgcapture,
    /// `copycds`.
    Copycds,
    /// `nodeset`.
    Nodeset,
    /// `lsdef`.
    Lsdef,
}

impl Name {
    /// All, in the order in which they are listed.
    pub const ALL: [Self; 9] = [
        Self::Genimage,
        Self::Packimage,
        Self::Liteimg,
        Self::Imgexport,
        Self::Imgimport,
        Self::Imgcapture,
        Self::Copycds,
        Self::Nodeset,
        Self::Lsdef,
    ];

    /// The command's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Genimage => "genimage",
            Self::Packimage => "packimage",
            Self::Liteimg => "liteimg",
            Self::Imgexport => "imgexport",
            Self::Imgimport => "imgimport",
            Self::Imgcapture => "imgcapture",
            Self::Copycds => "copycds",
            Self::Nodeset => "nodeset",
            Self::Lsdef => "lsdef",
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

/// Runs a command of xCAT.
pub fn run(name: Name, arguments: &[String]) -> ExitCode {
    render::install();
    let program = arguments.first().map_or(name.name(), String::as_str);
    let shell = Shell { workspace: workspace(program), name: name.name() };
    let done = match name {
        Name::Genimage => parsed(arguments).and_then(|own| genimage::run(&shell, &own)),
        Name::Packimage => parsed(arguments).and_then(|own| packimage::run(&shell, &own)),
        Name::Imgexport => parsed(arguments).and_then(|own| bundles::export(&shell, &own)),
        Name::Imgimport => parsed(arguments).and_then(|own| bundles::import(&shell, &own)),
        Name::Copycds => parsed(arguments).and_then(|own| media::run(&shell, &own)),
        Name::Lsdef => parsed(arguments).and_then(|own| definitions::run(&shell, &own)),
        Name::Imgcapture => parsed(arguments).and_then(|own| capture::run(&shell, &own)),
        Name::Liteimg | Name::Nodeset => nodes::run(&shell, name, &arguments[1.min(arguments.len())..]),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ended(code)) => ExitCode::from(code),
    }
}

/// A command that did not end well, and its exit code.
pub struct Ended(u8);

/// What a command gives.
pub type Done = Result<(), Ended>;

/// Reads xCAT's flags; help is no error.
fn parsed<T: Parser>(arguments: &[String]) -> Result<T, Ended> {
    T::try_parse_from(arguments).map_err(|error| {
        let _ = error.print();
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

/// Runs imgbuild's own commands for one of xCAT's.
pub struct Shell {
    workspace: PathBuf,
    name: &'static str,
}

impl Shell {
    /// Says something to the administrator.
    pub fn say(&self, text: &str) {
        render::say(&format!("{}: {text}", self.name));
    }

    /// Ends with an error.
    pub fn fail(&self, text: &str) -> Ended {
        render::say(&format!("{}: error: {text}", self.name));
        Ended(1)
    }

    fn command(&self, arguments: &[&str]) -> Result<Command, Ended> {
        let program =
            std::env::current_exe().map_err(|error| self.fail(&format!("imgbuild itself is not found: {error}")))?;
        let mut command = Command::new(program);
        command.arg("-C").arg(&self.workspace).args(arguments);
        Ok(command)
    }

    /// Runs a command of imgbuild in the workspace, and says which it is.
    pub fn run(&self, arguments: &[&str]) -> Done {
        let shown: Vec<String> = arguments
            .iter()
            .map(|word| if word.contains([' ', '*']) { format!("'{word}'") } else { (*word).to_owned() })
            .collect();
        self.say(&format!("imgbuild -C {} {}", self.workspace.display(), shown.join(" ")));
        self.quietly(arguments)
    }

    /// The same; says nothing.
    pub fn quietly(&self, arguments: &[&str]) -> Done {
        let status = self.command(arguments)?.status();
        match status.map_err(|error| self.fail(&format!("imgbuild does not start: {error}")))?.success() {
            true => Ok(()),
            false => Err(Ended(1)),
        }
    }

    /// What a command of imgbuild prints.
    pub fn output(&self, arguments: &[&str]) -> Result<String, Ended> {
        let output = self.command(arguments)?.stderr(std::process::Stdio::inherit()).output();
        let output = output.map_err(|error| self.fail(&format!("imgbuild does not start: {error}")))?;
        if !output.status.success() {
            return Err(Ended(1));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What a command of imgbuild prints, also where it does not end well; and whether it does.
    pub fn listing(&self, arguments: &[&str]) -> Result<(String, Done), Ended> {
        let output = self.command(arguments)?.stderr(std::process::Stdio::inherit()).output();
        let output = output.map_err(|error| self.fail(&format!("imgbuild does not start: {error}")))?;
        let done = if output.status.success() { Ok(()) } else { Err(Ended(1)) };
        Ok((String::from_utf8_lossy(&output.stdout).into_owned(), done))
    }

    /// An attribute of an image, as xCAT has it.
    pub fn attribute(&self, image: &str, attribute: &str) -> Result<String, Ended> {
        let text = self.output(&["show", image, "-i", attribute])?;
        let value = text.lines().find_map(|line| line.trim_start().strip_prefix(attribute)?.strip_prefix('='));
        Ok(value.unwrap_or_default().to_owned())
    }

    /// Says once which lines of a recipe say what flags said.
    pub fn say_lines(&self, image: &str, lines: &[String]) {
        if !lines.is_empty() {
            self.say(&format!("the recipe of {image} says the same with:"));
            for line in lines {
                render::say(&format!("  {line}"));
            }
        }
    }

    /// Says which flags mean nothing here, and why.
    pub fn say_moot(&self, flags: &[(&str, bool, &str)]) {
        for (flag, is_given, reason) in flags {
            if *is_given {
                self.say(&format!("{flag} means nothing here: {reason}"));
            }
        }
    }
}
