//! `imgbuild list`: lists images and what is published of them.

use crate::Exit;
use crate::output::documents::{LIST_FORMAT, ListDocument, ListedImage};
use crate::output::render;
use crate::setup::{good_to_look, published_image};
use crate::verbs::site::export::{definitions_of, long_text};
use build::{BuildInfo, drift_of_artefacts};
use recipe::Recipe;

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Images, by name or glob [default: the recipe in the current directory, or all in the workspace]
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print the names alone, one per line
    #[arg(long, conflicts_with_all = ["json", "long"])]
    pub names: bool,
    /// Show the images as xCAT's definitions, as `lsdef -t osimage -l` does
    #[arg(short, long, conflicts_with = "json")]
    pub long: bool,
    /// Where artefacts are [default: `out` next to the recipe]
    #[arg(long, value_name = "DIR")]
    pub out: Option<std::path::PathBuf>,
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Exit> {
    let (recipes, exit) = good_to_look(arguments, &own.images)?;
    if own.names {
        let names: Vec<String> = recipes.iter().map(|recipe| format!("{}\n", recipe.model.image.name)).collect();
        render::print(&names.concat());
        return Ok(exit);
    }
    if own.long {
        let all = definitions_of(&recipes);
        let texts: Vec<String> = all.iter().map(|one| long_text(&one.definition, &[])).collect();
        render::print_as_is(&texts.join("\n"));
        return Ok(exit);
    }
    let mut images = Vec::new();
    for recipe in &recipes {
        images.push((recipe, published_image(&out_of(recipe, own), &recipe.model.image.name)?));
    }
    if own.json {
        let images = images.into_iter().map(|(recipe, found)| listed(recipe, own, found)).collect();
        let document = serde_json::json!(ListDocument { format_version: LIST_FORMAT.to_string(), images });
        render::print_json(&format!("{document:#}\n"));
        return Ok(exit);
    }
    let texts: Vec<String> = images.into_iter().map(|(recipe, found)| text_of(recipe, own, found)).collect();
    render::print(&texts.concat());
    Ok(exit)
}

fn out_of(recipe: &Recipe, own: &Arguments) -> std::path::PathBuf {
    own.out.clone().unwrap_or_else(|| recipe.out.clone())
}

type Published = Option<(std::path::PathBuf, BuildInfo)>;

fn listed(recipe: &Recipe, own: &Arguments, found: Published) -> ListedImage {
    let (name, out) = (&recipe.model.image.name, out_of(recipe, own));
    let (directory, build) = found.unzip();
    let drift = build.is_some().then(|| drift_of_artefacts(&out, name, None));
    let (recipe, variant) = (recipe.directory.clone(), recipe.variant.clone());
    ListedImage { name: name.clone(), recipe, variant, directory, build, drift }
}

fn text_of(recipe: &Recipe, own: &Arguments, found: Published) -> String {
    let (name, out) = (&recipe.model.image.name, out_of(recipe, own));
    let Some((directory, info)) = found else { return format!("{name}  not built\n") };
    let mut text = format!("{name}  {}  kernel {}\n", info.target, info.kernel_release);
    text.push_str(&format!("  published  {}\n", directory.display()));
    for artefact in &info.artefacts {
        text.push_str(&format!("  {:>9}  {}\n", render::bytes(artefact.size), artefact.name));
    }
    text.push_str(&format!("  cmdline  {}\n", info.cmdline.join(" ")));
    for (layer, digest) in &info.layers {
        text.push_str(&format!("  layer  {layer:<20} {}\n", &digest[..12.min(digest.len())]));
    }
    for drift in drift_of_artefacts(&out, name, None) {
        text.push_str(&format!("  {} {}; `imgbuild build` restores it\n", drift.name, drift.problem));
    }
    text
}
