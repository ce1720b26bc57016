//! `imgbuild vendor`: copies the packages of image.lock into a directory.

use build::namespace_for;
use build::vendor;
use std::path::PathBuf;

use crate::Exit;
use crate::output::render;
use crate::output::reporter::Reporter;
use crate::setup::{PlacesArguments, Setup, lock, recipe};
use build::{Builder, Options, fresh_lock};

/// Arguments of `vendor`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Directory to fill: empty, new, or made by `vendor`
    #[arg(value_name = "DIR")]
    pub target: PathBuf,
    /// The image, if the workspace has several
    #[arg(value_name = "IMAGE")]
    pub image: Option<String>,
    /// Where packages come from
    #[command(flatten)]
    pub places: PlacesArguments,
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Exit> {
    let recipe = recipe(arguments, own.image.as_deref())?;
    let lock = lock(&recipe)?;
    let Ok(lock) = fresh_lock(&recipe, lock) else {
        render::say(&format!(
            "{} is out of date with the recipe: run `imgbuild build` or `imgbuild update` first",
            recipe.lock_name()
        ));
        return Err(Exit::Input);
    };
    let setup = Setup::open(arguments)?;
    let _held = setup.share()?;
    let reporter = Reporter::new(arguments);
    let shared = setup.shared(false, None, std::slice::from_ref(&recipe))?;
    let report = reporter.of(None);
    let namespace = namespace_for(&setup.namespace, &recipe);
    let builder = Builder::new(
        &recipe,
        (&setup.store, &namespace),
        Options { places: own.places.places(), ..Options::default() },
        &report,
        &shared,
    );
    let outcome = vendor(&builder, &lock, &own.target);
    reporter.end();
    Ok(match outcome {
        Ok(count) => {
            let place = own.target.display();
            render::say(&format!(
                "{count} packages are in {place}: `imgbuild build --vendor {place}` needs no network"
            ));
            Exit::Done
        }
        Err(error) => render::failed(error),
    })
}
