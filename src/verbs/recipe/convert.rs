//! `imgbuild convert`: writes a recipe in the other format.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::Exit;
use crate::output::render;
use crate::recipe_lock::RecipeLock;
use crate::setup::print_findings;
use base::source::Finding;
use files::{self, Durability};
use recipe::{Format, KDL_RECIPE_FILE, Overlay, RECIPE_FILE, convert, document_of, known, recipe_file, recipe_text};

/// Arguments of `convert`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Which file [default: the recipe of the directory]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Format to write [default: the other one]
    #[arg(long, value_name = "FORMAT")]
    pub to: Option<To>,
    /// Where to write it; `-` prints it [default: next to the file, with the other extension]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Remove the file that was converted, once the new one is written
    #[arg(long, conflicts_with = "output")]
    pub replace: bool,
}

/// Formats of recipes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum To {
    /// KDL 2
    Kdl,
    /// TOML
    Toml,
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Exit {
    match converted(arguments, own) {
        Ok(exit) => exit,
        Err(findings) => {
            print_findings(&findings, arguments.verbose);
            Exit::Input
        }
    }
}

fn converted(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Vec<Finding>> {
    let _turn = RecipeLock::take(&arguments.directory);
    let path = match &own.file {
        Some(file) => arguments.directory.join(file),
        None if own.replace
            && let Some(path) = begun(&arguments.directory) =>
        {
            path
        }
        None => {
            document_of(&arguments.directory)?;
            recipe_file(&arguments.directory)
        }
    };
    let name = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    let source = recipe_text(&path, &name)?;
    let from = Format::of(&name);
    let to = match own.to {
        None => from.other(),
        Some(To::Kdl) => Format::Kdl,
        Some(To::Toml) => Format::Toml,
    };
    let done = convert(&source, to)?;
    if done.left_out > 0 {
        let parts = if done.left_out == 1 { "part" } else { "parts" };
        render::say(&format!("note: {} {parts} commented out with /- in {name} are not carried over", done.left_out));
    }
    let target = match &own.output {
        Some(output) if output == Path::new("-") => {
            render::print_whole(&done.text);
            return Ok(Exit::Done);
        }
        Some(output) => output.clone(),
        None if from == to => {
            render::say(&format!(
                "`{name}` is already {}; `-o FILE` writes a converted copy to another file",
                to.ending()
            ));
            return Ok(Exit::Usage);
        }
        None => path.with_extension(to.ending()),
    };
    if Format::of(&target.to_string_lossy()) != to {
        render::say(&format!("`{}` must end in .{}: the extension sets its format", target.display(), to.ending()));
        return Ok(Exit::Usage);
    }
    let heirs = if own.replace { heirs(&path) } else { Vec::new() };
    if !heirs.is_empty() {
        render::say(&format!(
            "error: {} extends `{}`; nothing was written: convert without --replace, name {} in `extends` there, then remove {}",
            heirs.join(", "),
            path.display(),
            target.file_name().unwrap_or_default().to_string_lossy(),
            path.display()
        ));
        return Ok(Exit::Input);
    }
    match files::create(&target, done.text.as_bytes(), 0o644, Durability::PowerCut) {
        Ok(()) => render::say(&format!("wrote {}", target.display())),
        // An ended run wrote it.
        Err(_) if own.replace && std::fs::read(&target).is_ok_and(|bytes| bytes == done.text.as_bytes()) => {
            render::say(&format!("{} is already written", target.display()));
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            render::say(&format!("`{}` already exists; nothing was written", target.display()));
            return Ok(Exit::Input);
        }
        Err(error) => {
            render::say(&format!("cannot write `{}`: {error}", target.display()));
            return Ok(Exit::Machine);
        }
    }
    if own.replace {
        fault::point("convert.written");
        if let Err(error) = std::fs::remove_file(&path) {
            render::say(&format!("cannot remove `{}`: {error}", path.display()));
            return Ok(Exit::Machine);
        }
        render::say(&format!("removed {}", path.display()));
    } else if own.output.is_none() {
        render::say(&format!("next: remove {} (a directory has one recipe); nothing is rebuilt", path.display()));
    }
    Ok(Exit::Done)
}

/// Which of two recipes in a directory an ended run with `--replace` was to remove: the older one, if the other is what it gives.
fn begun(directory: &Path) -> Option<PathBuf> {
    let mut both = [RECIPE_FILE, KDL_RECIPE_FILE].map(|name| directory.join(name));
    let time = |path: &PathBuf| path.symlink_metadata().and_then(|found| found.modified()).ok();
    both.iter().try_for_each(|path| time(path).map(drop))?;
    both.sort_by_key(time);
    let [old, new] = both;
    let source = recipe_text(&old, &old.file_name()?.to_string_lossy()).ok()?;
    let done = convert(&source, Format::of(&new.to_string_lossy())).ok()?;
    std::fs::read(&new).is_ok_and(|bytes| bytes == done.text.as_bytes()).then_some(old)
}

/// Recipes of the workspace around a file that inherit from it.
fn heirs(path: &Path) -> Vec<String> {
    let Ok(path) = path.canonicalize() else { return Vec::new() };
    let Some(directory) = path.parent() else { return Vec::new() };
    let mut found = BTreeSet::new();
    // Those of the workspace, and the recipe of the directory, which it may not name.
    for known in [true, false].into_iter().filter_map(|all| known(directory, all, &Overlay::new()).ok()) {
        for (directory, relatives) in &known.recipes {
            let recipe = recipe_file(directory);
            let mut files = relatives.plain.iter().chain(&relatives.variants).flat_map(|draft| &draft.files);
            let is_own = recipe.canonicalize().is_ok_and(|recipe| recipe == path);
            if !is_own && files.any(|file| file.path.canonicalize().is_ok_and(|file| file == path)) {
                let root = known.workspace.as_deref().map(|workspace| workspace.root.as_path());
                let below = root.and_then(|root| recipe.strip_prefix(root).ok());
                found.insert(below.unwrap_or(&recipe).display().to_string());
            }
        }
    }
    found.into_iter().collect()
}
