//! `imgbuild install-xcat-names`: creates the links under xCAT's command names.

use std::path::PathBuf;

use crate::Exit;
use crate::names::{Name, WORKSPACE_NOTE};
use crate::output::render;
use files::{self, Durability, Folders, Replaced};
use recipe::{WORKSPACE_FILE, Workspace, has_recipe};

/// Arguments of `install-xcat-names`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Directory for the links, for instance /usr/local/sbin; they use the workspace of the current directory
    #[arg(value_name = "DIR")]
    pub links: PathBuf,
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Exit {
    match install(arguments, own) {
        Ok(()) => Exit::Done,
        Err((problem, exit)) => {
            render::say(&format!("error: {problem}"));
            exit
        }
    }
}

fn install(arguments: &crate::Arguments, own: &Arguments) -> Result<(), (String, Exit)> {
    let real = arguments.directory.canonicalize().unwrap_or_else(|_| arguments.directory.clone());
    let workspace = Workspace::root_of(&real).unwrap_or(real);
    if !workspace.join(WORKSPACE_FILE).is_file() && !has_recipe(&workspace) {
        let problem = format!(
            "{} is not a workspace, so the commands would find no images: run this in one, or name one with -C (`imgbuild import xcat PATH --into DIR` makes one)",
            workspace.display()
        );
        return Err((problem, Exit::Input));
    }
    let machine = |what: String| move |error: std::io::Error| (format!("{what}: {error}"), Exit::Machine);
    let directory = arguments.directory.join(&own.links);
    let program = std::env::current_exe().map_err(machine("cannot find the imgbuild program".to_owned()))?;
    // What is there and is no link of ours is xCAT's own, or someone's.
    let is_ours =
        |path: &PathBuf| std::fs::read_link(path).is_ok_and(|target| target.file_name() == program.file_name());
    for name in Name::ALL {
        let link = directory.join(name.name());
        if link.symlink_metadata().is_ok() && !is_ours(&link) {
            let problem = format!("`{}` already exists; no link was created: choose another directory", link.display());
            return Err((problem, Exit::Input));
        }
    }
    let mut folders = Folders::default();
    folders.also(&directory).map_err(machine(format!("cannot create `{}`", directory.display())))?;
    let mut replaced = Replaced::default();
    for name in Name::ALL {
        let link = directory.join(name.name());
        let failed = machine(format!("cannot create `{}`", link.display()));
        replaced.link(&program, &link).map_err(failed)?;
    }
    let note = directory.join(WORKSPACE_NOTE);
    files::replace(&note, format!("{}\n", workspace.display()).as_bytes(), 0o644, Durability::PowerCut)
        .map_err(machine(format!("cannot write `{}`", note.display())))?;
    replaced.keep();
    folders.keep();
    let names: Vec<&str> = Name::ALL.iter().map(|name| name.name()).collect();
    render::say(&format!("{} in {}, for the workspace {}", names.join(", "), directory.display(), workspace.display()));
    render::say("put the directory before /opt/xcat/bin in PATH, or name the commands by their paths");
    Ok(())
}
