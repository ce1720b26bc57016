//! `imgbuild update`: updates image.lock and shows what changed.

pub(crate) mod document;
mod mend;
pub(crate) mod open;
mod security;
mod shown;

use std::path::PathBuf;

use crate::Exit;
use crate::output::render;
use crate::output::reporter::Reporter;
use crate::setup::{PlacesArguments, Setup, print_findings, read_selection};
use build::namespace_for;
use build::{Builder, Options, Update};
use recipe::{Recipe, epoch_of_today};

/// Arguments of `update`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Images, by name or glob [default: the recipe in the current directory, or all in the workspace]
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Package to update; others keep their versions unless the solver must change them; repeatable
    /// [default: all packages]
    #[arg(short, long = "package", value_name = "NAME")]
    pub packages: Vec<String>,
    /// Also move the epoch, the latest time of any file in the image, to the start of today (UTC), or to
    /// these seconds since 1970. Everything is rebuilt then
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "today", value_parser = parse_epoch)]
    pub epoch: Option<i64>,
    /// Move only packages that mend vulnerabilities, and what they need: these (CVE-2024-5535, DSA-5764-1), by their names or by those of
    /// advisories [default: all that `imgbuild audit` finds]
    #[arg(long, value_name = "ID", num_args = 0.., conflicts_with_all = ["packages", "epoch"])]
    pub security: Option<Vec<String>>,
    /// File of advisories, as `imgbuild audit` reads them; repeatable [default: what the image's repositories publish]
    #[arg(long = "db", value_name = "FILE", requires = "security")]
    pub databases: Vec<PathBuf>,
    /// Print JSON
    #[arg(long, requires = "security")]
    pub json: bool,
    /// Where packages come from
    #[command(flatten)]
    pub places: PlacesArguments,
}

fn parse_epoch(text: &str) -> Result<i64, String> {
    let now = jiff::Timestamp::now().as_second();
    match text {
        "today" => Ok(epoch_of_today()),
        text => match text.parse() {
            Ok(seconds) if (0..=now).contains(&seconds) => Ok(seconds),
            _ => Err(format!("not a number of seconds from 0 to {now} (now)")),
        },
    }
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Exit> {
    if let Some(ids) = &own.security {
        return security::run(arguments, own, ids);
    }
    let recipes = recipes_of(arguments, own)?;
    let setup = Setup::open(arguments)?;
    let _held = setup.share()?;
    let reporter = Reporter::new(arguments);
    let shared = setup.shared(false, None, &recipes)?;
    for recipe in &recipes {
        let report = reporter.of((recipes.len() > 1).then_some(recipe.model.image.name.as_str()));
        let namespace = namespace_for(&setup.namespace, recipe);
        let builder = Builder::new(
            recipe,
            (&setup.store, &namespace),
            Options { places: own.places.places(), ..Options::default() },
            &report,
            &shared,
        );
        let outcome = build::update(&builder, &Update { packages: own.packages.clone(), epoch: own.epoch });
        let of = if recipes.len() > 1 { format!("{}: ", recipe.model.image.name) } else { String::new() };
        match outcome {
            Ok(lines) => {
                for line in &lines {
                    render::print(&format!("{of}{line}\n"));
                }
                let lock = recipe.lock_name();
                let said = match lines.is_empty() {
                    true => "nothing in the image changed".to_owned(),
                    false => format!("{lock} was updated"),
                };
                render::say(&format!("{of}{said}: `imgbuild plan` shows what a build will do"));
            }
            Err(error) => {
                reporter.end();
                let exit = Exit::from(&error);
                if !error.is_told() {
                    render::say(&format!("{of}{}", render::error(error)));
                }
                return Err(exit);
            }
        }
    }
    reporter.end();
    Ok(Exit::Done)
}

/// The recipes; a package's name where an image's is expected says what is meant.
fn recipes_of(arguments: &crate::Arguments, own: &Arguments) -> Result<Vec<Recipe>, Exit> {
    let mut selected = read_selection(arguments, &own.images).map_err(|mut findings| {
        let names = own.images.iter().map(|name| format!(" --package {name}")).collect::<String>();
        for finding in findings.iter_mut().filter(|finding| finding.code == "workspace::no_image") {
            let help = finding.help.take().unwrap_or_default();
            finding.help = Some(format!("to update packages: `imgbuild update{names}`; otherwise: {help}"));
        }
        print_findings(&findings, arguments.verbose);
        Exit::Input
    })?;
    print_findings(&selected.findings, arguments.verbose);
    if selected.broken.is_empty() { Ok(std::mem::take(&mut selected.recipes)) } else { Err(Exit::Input) }
}
