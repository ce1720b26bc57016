//! `imgbuild build`.

use std::path::PathBuf;

use super::reporter::Reporter;
use super::setup::{PlacesArguments, Setup, chosen};
use super::{Exit, render};
use crate::plan::Stage;
use crate::recipe::Recipe;
use crate::stage::{Builder, Options, Summary, Target, XcatPublished, remove_damaged_layers};

/// Arguments of `build`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Images, by their names or patterns of them [default: the recipe where you stand, or all of the workspace]
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Where artefacts go [default: `out` beside the recipe]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Fail rather than renew image.lock
    #[arg(long)]
    pub locked: bool,
    /// Build everything a second time, beside, and name the first file that differs
    #[arg(long, conflicts_with = "until")]
    pub verify: bool,
    /// Read all layers of the last build first, and make anew what somebody changed
    #[arg(long)]
    pub thorough: bool,
    /// Stop after a stage, without publishing (but for `pack`)
    #[arg(long, value_name = "STAGE", value_parser = parse_stage)]
    pub until: Option<Stage>,
    /// Where packages come from
    #[command(flatten)]
    pub places: PlacesArguments,
    /// Publish in another layout too: xcat:DIR, an osimage's rootimgdir; may be repeated
    #[arg(long, value_name = "LAYOUT:DIR")]
    pub publish: Vec<Target>,
}

fn parse_stage(text: &str) -> Result<Stage, String> {
    Stage::ALL
        .into_iter()
        .find(|stage| stage.name() == text)
        .ok_or_else(|| "one of rootfs, kernel, initrd, pack".to_owned())
}

/// Runs the command.
pub fn run(arguments: &super::Arguments, own: &Arguments) -> Exit {
    if let Some(until) = own.until.filter(|until| *until != Stage::Pack && !own.publish.is_empty()) {
        render::say(&format!("error: --publish needs all stages, but --until {} stops before", until.name()));
        return Exit::Usage;
    }
    let recipes = match chosen(arguments, &own.images) {
        Ok(recipes) => recipes,
        Err(exit) => return exit,
    };
    let setup = match Setup::open(arguments) {
        Ok(setup) => setup,
        Err(exit) => return exit,
    };
    let reporter = Reporter::new(arguments.progress, arguments.verbose);
    crate::sandbox::interrupt::last_words(if arguments.progress == super::ProgressKind::Json {
        "{\"event\":\"interrupted\"}\n"
    } else {
        "\ninterrupted: nothing was published, and what is finished is kept; run the same command to go on from there\n"
    });
    let _held = match setup.share() {
        Ok(held) => held,
        Err(exit) => return exit,
    };
    for recipe in &recipes {
        let began = std::time::Instant::now();
        if own.thorough
            && let Err(exit) = remove_damaged(&setup, recipe)
        {
            return exit;
        }
        let out = own.out.clone().unwrap_or_else(|| recipe.out.clone());
        let builder = Builder {
            recipe,
            store: &setup.store,
            namespace: &setup.namespace,
            options: Options {
                locked: own.locked,
                until: own.until,
                out: std::path::absolute(&out).unwrap_or(out),
                places: own.places.places(),
                publish: own.publish.clone(),
            },
            report: &reporter,
        };
        match if own.verify { builder.build_and_verify() } else { builder.build() } {
            Ok(summary) => show(arguments, &summary, began.elapsed()),
            Err(error) => {
                reporter.end();
                let exit = Exit::from(&error);
                render::say(&render::error(error));
                return exit;
            }
        }
    }
    reporter.end();
    Exit::Done
}

/// Takes layers of the last build out of the store that somebody changed.
fn remove_damaged(setup: &Setup, recipe: &Recipe) -> Result<(), Exit> {
    let Some(root) = setup.store.root(&recipe.directory, &recipe.model.image.name) else { return Ok(()) };
    let damaged = remove_damaged_layers(&setup.store, &setup.namespace, &root).map_err(|error| {
        let exit = Exit::from(&error);
        render::say(&render::error(error));
        exit
    })?;
    for drift in damaged {
        render::say(&format!("note: the layer {} was changed ({}): it is made anew", drift.name, drift.problem));
    }
    Ok(())
}

fn show(arguments: &super::Arguments, summary: &Summary, took: std::time::Duration) {
    if arguments.progress == super::ProgressKind::Json {
        let published =
            summary.published.as_ref().map(|(path, info)| serde_json::json!({"directory": path, "build": info}));
        render::say(&serde_json::json!({"event": "summary", "published": published, "xcat": summary.xcat}).to_string());
        return;
    }
    let ran: Vec<String> =
        summary.outcomes.iter().filter(|outcome| outcome.ran).map(|outcome| outcome.action.clone()).collect();
    let kept = summary.outcomes.len() - ran.len();
    let list = if ran.is_empty() { "nothing".to_owned() } else { ran.join(", ") };
    render::say(&format!("ran {list}; kept {kept} of {}; {}", summary.outcomes.len(), render::took(took)));
    if let Some((directory, info)) = &summary.published {
        for artefact in &info.artefacts {
            render::say(&format!("  {:>9}  {}", render::bytes(artefact.size), artefact.name));
        }
        for action in &info.not_reproducible {
            render::say(&format!("warning: {action} gave something else than an earlier run with the same inputs"));
        }
        render::say(&format!("published in {}", directory.display()));
    }
    for xcat in &summary.xcat {
        show_xcat(xcat);
    }
}

fn show_xcat(published: &XcatPublished) {
    render::say(&format!("published for xCAT in {}", published.directory.display()));
    if !published.removed.is_empty() {
        let names = published.removed.join(", ");
        render::say(&format!(
            "  removed {names}: boot entries that name it get no image until nodeset writes them anew"
        ));
    }
    render::say("  nodes boot it after `nodeset NODES osimage=NAME`, which copies kernel and initrd");
    render::say("  they check it for damage; to check who made it too, add to the osimage's addkcmdline:");
    render::say(&format!("  imgdigest=sha256:{}", published.index));
}
