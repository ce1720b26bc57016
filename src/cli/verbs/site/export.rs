//! `imgbuild export`, and the definitions that `list -l` and `show -i` print.

use crate::cli::Exit;
use crate::cli::output::render;
use crate::cli::setup::chosen_to_look;
use crate::recipe::{Recipe, Workspace};
use crate::site::export::{Exported, definition_of, table};
use crate::xcat::definitions::{Definition, TableKind, write_stanza};

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
}

/// Arguments of `export xcat`.
#[derive(Debug, clap::Args)]
pub struct XcatArguments {
    /// Images, by their names or patterns of them [default: the recipe where you stand, or all of the workspace]
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Print a table for `tabrestore` instead
    #[arg(long, value_name = "TABLE")]
    pub csv: Option<TableName>,
}

/// Tables of an osimage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TableName {
    /// What images are
    Osimage,
    /// What Linux images are made of
    Linuximage,
}

/// Runs the command.
pub fn run(arguments: &crate::cli::Arguments, own: &Arguments) -> Exit {
    let What::Xcat(own) = &own.what;
    let recipes = match chosen_to_look(arguments, &own.images) {
        Ok(recipes) => recipes,
        Err(exit) => return exit,
    };
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
    render::print_as_is(&text);
    Exit::Done
}

/// The definitions of recipes.
pub fn definitions_of(recipes: &[Recipe]) -> Vec<Exported> {
    let of = |recipe: &Recipe| {
        let workspace = Workspace::above(&recipe.directory).ok().flatten();
        definition_of(recipe, workspace.as_ref())
    };
    recipes.iter().map(of).collect()
}

/// A definition as `lsdef -l` shows it; of some attributes only where they are named.
pub fn long_text(definition: &Definition, attributes: &[String]) -> String {
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
