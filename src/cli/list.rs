//! `imgbuild list`.

use super::setup::recipe;
use super::{Exit, render};
use crate::stage::{drift_of_artefacts, published};

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where artefacts are [default: `out` beside the recipe]
    #[arg(long, value_name = "DIR")]
    pub out: Option<std::path::PathBuf>,
}

/// Runs the command.
pub fn run(arguments: &super::Arguments, own: &Arguments) -> Exit {
    let recipe = match recipe(arguments) {
        Ok(recipe) => recipe,
        Err(exit) => return exit,
    };
    let name = &recipe.model.image.name;
    let out = own.out.clone().unwrap_or_else(|| recipe.directory.join("out"));
    let found = published(&out, name);
    if own.json {
        let image = match &found {
            Some((directory, info)) => {
                serde_json::json!({"name": name, "directory": directory, "build": info, "drift": drift_of_artefacts(&out, name, None)})
            }
            None => serde_json::json!({"name": name}),
        };
        render::print(&format!("{:#}\n", serde_json::json!({"format_version": "1.0", "images": [image]})));
        return Exit::Done;
    }
    let Some((directory, info)) = found else {
        render::print(&format!("{name}  not built\n"));
        return Exit::Done;
    };
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
        text.push_str(&format!("  {} {}; `imgbuild build` mends it\n", drift.name, drift.problem));
    }
    render::print(&text);
    Exit::Done
}
