//! `imgbuild export`, and the definitions that `list -l` and `show -i` print.

use std::path::{Path, PathBuf};

use crate::Exit;
use crate::output::render;
use crate::setup::{chosen_to_look, good_to_look, print_findings};
use crate::verbs::keeping::store::carry::save_image;
use recipe::{Recipe, Workspace};
use site::bundle::{BundleExport, export_bundle};
use site::definitions;
use site::export::{Exported, definition_of, table};
use xcat::definitions::{Definition, TableKind, is_plain_path, write_stanza};

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to export
    #[command(subcommand)]
    pub what: What,
}

/// What is exported.
#[derive(Debug, clap::Subcommand)]
pub enum What {
    /// Print images as xCAT's definitions: stanzas for `mkdef -z`
    Xcat(XcatArguments),
    /// Print nodes and groups as xCAT's definitions: stanzas for `mkdef -z`
    Nodes(NodesArguments),
    /// Write an image, its definition, lists and what nodes boot into one file for imgimport or `imgbuild import bundle`
    Bundle(BundleArguments),
}

/// Arguments of `export nodes`.
#[derive(Debug, clap::Args)]
pub struct NodesArguments {
    /// Nodes, as a node set [default: all]
    #[arg(value_name = "RANGE")]
    pub range: Option<String>,
}

/// Arguments of `export bundle`.
#[derive(Debug, clap::Args)]
pub struct BundleArguments {
    /// The image; `.` for the recipe in the current directory
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Directory that `imgbuild build --publish xcat:DIR` filled [default: the image's rootimgdir, or what is published if its format is one of xCAT's]
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// Extra file or folder to include, and its destination [default: its own folder]
    #[arg(short, long, value_name = "FILE[:DIR]")]
    pub extra: Vec<String>,
    /// Include the names of this node's postscripts in the bundle
    #[arg(long, value_name = "NODE")]
    pub postscripts: Option<String>,
    /// xCAT's table of postscripts: its databases, or the output of tabdump
    #[arg(long, value_name = "PATH", default_value = "/etc/xcat")]
    pub tables: PathBuf,
    /// Export it as another profile: the image and its lists are renamed
    #[arg(short, long, value_name = "PROFILE")]
    pub profile: Option<String>,
    /// Include the store data of the last build: importing it with --records avoids a rebuild
    #[arg(long, conflicts_with = "profile")]
    pub records: bool,
}

/// Arguments of `export xcat`.
#[derive(Debug, clap::Args)]
pub struct XcatArguments {
    /// Images, by name or glob [default: the recipe in the current directory, or all in the workspace]
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Print a table for `tabrestore` instead
    #[arg(long, value_name = "TABLE")]
    pub csv: Option<TableName>,
}

/// Tables of an osimage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TableName {
    /// The table osimage
    Osimage,
    /// The table linuximage
    Linuximage,
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Exit> {
    match &own.what {
        What::Xcat(own) => xcat(arguments, own),
        What::Nodes(own) => super::nodes::export(arguments, own.range.as_deref()),
        What::Bundle(own) => bundle(arguments, own),
    }
}

fn bundle(arguments: &crate::Arguments, own: &BundleArguments) -> Result<Exit, Exit> {
    let images = if own.image == "." { Vec::new() } else { vec![own.image.clone()] };
    let recipes = chosen_to_look(arguments, &images)?;
    let [recipe] = recipes.as_slice() else {
        render::say("error: a bundle has one image: name it");
        return Err(Exit::Usage);
    };
    let below = |path: &Path| arguments.directory.join(path);
    let extra = |text: &String| match text.split_once(':') {
        Some((source, dest)) => (below(Path::new(source)), Some(dest.trim_end_matches('/').to_owned())),
        None => (below(Path::new(text)), None),
    };
    let extras: Vec<_> = own.extra.iter().map(extra).collect();
    if let Some((_, Some(dest))) =
        extras.iter().find(|(_, dest)| dest.as_deref().is_some_and(|dest| !is_plain_path(dest)))
    {
        render::say(&format!("error: `{dest}` is not an absolute path: name a folder on the node"));
        return Err(Exit::Usage);
    }
    let postscripts = match &own.postscripts {
        None => None,
        Some(node) => Some(postscripts_of(node, &below(&own.tables))?),
    };
    let scratch = match files::sweep::Swept::below(&std::env::temp_dir(), "imgbuild-export-") {
        Ok(scratch) => scratch,
        Err(error) => {
            render::say(&format!("error: cannot create a temporary directory: {error}"));
            return Err(Exit::Machine);
        }
    };
    let records = scratch.path().join("store.saved");
    if own.records
        && let Err(exit) = save_image(arguments, &records, &recipe.directory, &recipe.model.image.name)
    {
        return Err(exit);
    }
    let request = BundleExport {
        to: below(&own.output),
        records: own.records.then_some(records),
        from: own.from.as_deref().map(below),
        published: Some(recipe.out.join(&recipe.model.image.name)),
        extras,
        profile: own.profile.clone(),
        postscripts,
        epoch: recipe.lock().ok().flatten().and_then(|lock| u64::try_from(lock.epoch).ok()).unwrap_or_default(),
    };
    let workspace = Workspace::above(&recipe.directory).ok().flatten();
    Ok(match export_bundle(recipe, workspace.as_ref(), &request) {
        Ok(written) => {
            for note in &written.notes {
                render::say(&format!("note: {note}"));
            }
            let size = render::bytes(written.bytes);
            render::say(&format!("wrote {} ({} members, {size})", own.output.display(), written.members));
            Exit::Done
        }
        Err(error) => super::import::failed(error, arguments.verbose),
    })
}

/// Names of a node's scripts, from xCAT's tables.
fn postscripts_of(node: &str, tables: &Path) -> Result<(String, String), Exit> {
    let site = definitions::read(&[tables.to_owned()]);
    site.postscripts_of(node).ok_or_else(|| {
        print_findings(&site.findings, 0);
        render::say(&format!(
            "error: no row of xCAT's table postscripts in `{}` is for the node `{node}`\n  help: pass the output of `tabdump postscripts` with --tables",
            tables.display()
        ));
        Exit::Input
    })
}

fn xcat(arguments: &crate::Arguments, own: &XcatArguments) -> Result<Exit, Exit> {
    let (recipes, exit) = good_to_look(arguments, &own.images)?;
    let exported = definitions_of(&recipes);
    for one in exported.iter().filter(|one| !one.lost.is_empty()) {
        let said = one.lost.join(", ");
        render::say(&format!("note: {}: xCAT has no attribute for {said}", one.definition.name));
    }
    let definitions: Vec<Definition> = exported.into_iter().map(|one| one.definition).collect();
    let text = match own.csv {
        Some(TableName::Osimage) => table(TableKind::Osimage, &definitions),
        Some(TableName::Linuximage) => table(TableKind::Linuximage, &definitions),
        None => definitions.iter().enumerate().map(|(at, one)| write_stanza(one, at == 0)).collect(),
    };
    render::print_whole(&text);
    Ok(exit)
}

pub(crate) fn definitions_of(recipes: &[Recipe]) -> Vec<Exported> {
    let of = |recipe: &Recipe| {
        let workspace = Workspace::above(&recipe.directory).ok().flatten();
        definition_of(recipe, workspace.as_ref())
    };
    recipes.iter().map(of).collect()
}

/// A definition as `lsdef -l` shows it; of some attributes only where they are named.
pub(crate) fn long_text(definition: &Definition, attributes: &[String]) -> String {
    let mut text = format!("Object name: {}\n", definition.name);
    for (name, attribute) in &definition.attributes {
        if attributes.is_empty() || attributes.contains(name) {
            text.push_str(&format!("    {name}={}\n", attribute.value));
        }
    }
    for name in attributes.iter().filter(|name| !definition.attributes.contains_key(*name)) {
        text.push_str(&format!("    {name}=\n"));
    }
    text
}
