//! `imgbuild update`.

use super::reporter::Reporter;
use super::setup::{PlacesArguments, Setup, recipe};
use super::{Exit, render};
use crate::stage::{Builder, Options, Update};

/// Arguments of `update`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Packages to renew; all others keep their versions unless the solver must change them [default: all]
    #[arg(value_name = "PACKAGE")]
    pub packages: Vec<String>,
    /// Move the epoch too, the time that no file in the image is later than: to now, or to these seconds since 1970.
    /// Everything is rebuilt then
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "now", value_parser = parse_epoch)]
    pub epoch: Option<i64>,
    /// Where packages come from
    #[command(flatten)]
    pub places: PlacesArguments,
}

fn parse_epoch(text: &str) -> Result<i64, String> {
    let now = jiff::Timestamp::now().as_second();
    match text {
        "now" => Ok(now),
        text => match text.parse() {
            Ok(seconds) if (0..=now).contains(&seconds) => Ok(seconds),
            _ => Err(format!("not a number of seconds from 0 to {now}, which is now")),
        },
    }
}

/// Runs the command.
pub fn run(arguments: &super::Arguments, own: &Arguments) -> Exit {
    let recipe = match recipe(arguments) {
        Ok(recipe) => recipe,
        Err(exit) => return exit,
    };
    let setup = match Setup::open(arguments) {
        Ok(setup) => setup,
        Err(exit) => return exit,
    };
    let _held = match setup.share() {
        Ok(held) => held,
        Err(exit) => return exit,
    };
    let reporter = Reporter::new(arguments.progress, arguments.verbose);
    let builder = Builder {
        recipe: &recipe,
        store: &setup.store,
        namespace: &setup.namespace,
        options: Options { places: own.places.places(), ..Options::default() },
        report: &reporter,
    };
    let outcome = builder.update(&Update { packages: own.packages.clone(), epoch: own.epoch });
    reporter.end();
    match outcome {
        Ok(lines) => {
            for line in &lines {
                render::print(&format!("{line}\n"));
            }
            let said = if lines.is_empty() { "nothing in the image changed" } else { "image.lock was renewed" };
            render::say(&format!("{said}: `imgbuild plan` says what a build will do"));
            Exit::Done
        }
        Err(error) => {
            let exit = Exit::from(&error);
            render::say(&render::error(error));
            exit
        }
    }
}
