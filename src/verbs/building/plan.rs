//! `imgbuild plan`: shows what a build would do and why.

use build::{forms_for, workers};
use std::path::{Path, PathBuf};

use super::against::Revision;
use super::build_arguments::targets;
use crate::Exit;
use crate::output::render;
use crate::plans::emit::{self, Engine};
use crate::plans::formats;
use crate::plans::formats::Format;
use crate::plans::planned::{AgainstDocument, PlanDocument, PlannedImage, plan_of, stage_failed};
use crate::plans::planning::{Planning, folded, json_of};
use crate::setup::{PlacesArguments, Setup, chosen, store_directory};
use crate::verbs::keeping::audit::between::{Pair, between};
use crate::verbs::keeping::cache::CacheArguments;
use build::{CachedActions, Drift, Total, Workload, cached_actions, drift_of_layers};
use recipe::{Destination, Recipe};
use store::Store;

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Images, by name or glob [default: the recipe in the current directory, or all in the workspace]
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Print JSON, as with --format json
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// How the plan is printed
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
    /// Compare with a git revision instead of the last build; needs no store and touches no checkout
    #[arg(long, value_name = "REV", conflicts_with_all = ["thorough", "output"])]
    pub against: Option<String>,
    /// File of advisories, as `imgbuild audit` reads them: shows for each image which go and which come with its image.lock; repeatable
    #[arg(long = "db", value_name = "FILE", requires = "against")]
    pub databases: Vec<PathBuf>,
    /// Verify all published files and layers of the last build, to find modified ones
    #[arg(long)]
    pub thorough: bool,
    /// Exit with 2 if there is work to do
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// Where artefacts are [default: `out` next to the recipe]
    #[arg(long, value_name = "DIR")]
    pub out: Option<std::path::PathBuf>,
    /// Plan a build with this --publish
    #[arg(long, value_name = "KIND:WHERE")]
    pub publish: Vec<Destination>,
    /// Write the plan to a file too, for `imgbuild build --plan FILE`; `-` writes it to the standard output instead
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<std::path::PathBuf>,
    /// Print the image's actions as the file of another program instead, to run them there, each by `imgbuild build --only`;
    /// with -o FILE it is written to that file
    #[arg(long, value_name = "ENGINE", conflicts_with_all = ["json", "format", "against", "thorough", "detailed_exitcode"])]
    pub emit: Option<Engine>,
    /// Caches that machines share
    #[command(flatten)]
    pub caches: CacheArguments,
    /// Ignore what earlier plans cached; the result is the same
    #[arg(long)]
    pub no_memo: bool,
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Exit> {
    if let Some(engine) = own.emit {
        let publish = targets(&own.publish);
        let (images, publish, caches) = (own.images.as_slice(), publish.as_slice(), &own.caches);
        let wanted = emit::Wanted { images, publish, out: own.out.as_deref(), output: own.output.as_deref(), caches };
        return emit::run(arguments, &wanted, engine);
    }
    let format = if own.json { Format::Json } else { own.format };
    // What earlier plans remember is no more than text and JSON.
    if own.against.is_none() && own.output.is_none() && matches!(format, Format::Text | Format::Json) {
        return many(arguments, own, format);
    }
    let recipes = chosen(arguments, &own.images)?;
    let planned = match &own.against {
        Some(revision) => against(arguments, own, &recipes, revision),
        None => as_it_is(arguments, own, &recipes),
    };
    let (against, images) = planned?;
    let work = images.iter().any(PlannedImage::has_work);
    if own.output.as_deref() == Some(Path::new("-")) {
        return Ok(if own.detailed_exitcode && work { Exit::Work } else { Exit::Done });
    }
    let works: Vec<(&str, &Workload)> =
        images.iter().filter_map(|one| Some((one.name.as_str(), one.work.as_ref()?))).collect();
    let estimate = Total::of(&works, workers());
    let cached = Vec::new();
    let document = PlanDocument { format_version: "1.0".to_owned(), against, images, estimate, cached };
    let directories: Vec<_> = recipes.iter().map(|recipe| recipe.directory.clone()).collect();
    let text = formats::text_of(format, &document, &directories, arguments.verbose);
    match format {
        Format::Json | Format::Gitlab => render::print_json(&text),
        _ => render::print(&text),
    }
    Ok(if own.detailed_exitcode && work { Exit::Work } else { Exit::Done })
}

/// Plans by what earlier plans remember, as far as it holds.
fn many(arguments: &crate::Arguments, own: &Arguments, format: Format) -> Result<Exit, Exit> {
    let directory = store_directory(arguments)?;
    let planning = Planning {
        store: Store::existing(&directory),
        out: own.out.as_deref(),
        publish: &targets(&own.publish),
        verbose: arguments.verbose,
        shows_all: format == Format::Json || arguments.verbose > 0,
        with_memos: !own.no_memo && !own.thorough,
        more: &|recipe| if own.thorough { damaged_layers(arguments, recipe) } else { Ok(Vec::new()) },
    };
    let images = planning.images(arguments, &own.images)?;
    let cached = in_caches(arguments, own, images.iter().any(|image| image.has_work))?;
    match format {
        Format::Json => render::print_json(&json_of(&images, &cached)),
        _ => {
            let lines = cached.iter().map(|one| {
                let (actions, bytes) = (one.actions.join(", "), render::bytes(one.bytes));
                format!("{}: in the cache ({bytes} to copy): {actions}\n", one.image)
            });
            render::print(&(folded(&images, arguments.verbose) + &lines.collect::<String>()));
        }
    }
    Ok(if own.detailed_exitcode && images.iter().any(|image| image.has_work) { Exit::Work } else { Exit::Done })
}

fn in_caches(arguments: &crate::Arguments, own: &Arguments, has_work: bool) -> Result<Vec<CachedActions>, Exit> {
    let Some(cache) = own.caches.open(&arguments.directory)?.filter(|_| has_work) else { return Ok(Vec::new()) };
    let store = Store::existing(&store_directory(arguments)?);
    let say = |text: String| render::say(&format!("warning: {text}"));
    let servers: Vec<&str> = cache.servers().collect();
    if !servers.is_empty() {
        let servers = servers.join(", ");
        render::say(&format!(
            "note: a plan does not ask servers: what {servers} has is not in it, and a build takes it"
        ));
    }
    let mut found = Vec::new();
    for recipe in chosen(arguments, &own.images)? {
        found.extend(cached_actions(&recipe, &store, &targets(&own.publish), &cache, &say).map_err(stage_failed)?);
    }
    Ok(found)
}

type Planned = (Option<AgainstDocument>, Vec<PlannedImage>);

/// The plan against a revision: neither store nor artefacts are looked at.
fn against(arguments: &crate::Arguments, own: &Arguments, recipes: &[Recipe], revision: &str) -> Result<Planned, Exit> {
    let forms = forms_for(&targets(&own.publish));
    let mut revision = Revision::open(&arguments.directory, revision)?;
    let all_below = own.images.is_empty().then_some(arguments.directory.as_path());
    let mut images = revision.plan(recipes, all_below, forms)?;
    if !own.databases.is_empty() {
        compare_advisories(arguments, &own.databases, &mut images)?;
    }
    Ok((Some(revision.document()), images))
}

/// Adds to images which advisories go and come with their locks.
fn compare_advisories(
    arguments: &crate::Arguments,
    files: &[PathBuf],
    images: &mut [PlannedImage],
) -> Result<(), Exit> {
    let with_locks = images.iter().filter_map(|image| Some((image.name.as_str(), image.locks.as_deref()?)));
    let pairs: Vec<Pair<'_>> = with_locks
        .map(|(image, locks)| {
            let (before, after, drivers) = (locks.before.as_ref(), locks.after.as_ref(), locks.drivers.clone());
            Pair { image, before, after, drivers }
        })
        .collect();
    let places = PlacesArguments { mirror: None, vendor: None, mirror_timeout: None };
    let changes = between(arguments, (files, &places), &pairs)?;
    for (image, change) in images.iter_mut().filter(|image| image.locks.is_some()).zip(changes) {
        image.notes.extend(change.notes());
        image.advisories = Some(change);
    }
    Ok(())
}

fn as_it_is(arguments: &crate::Arguments, own: &Arguments, recipes: &[Recipe]) -> Result<Planned, Exit> {
    let store = Store::existing(&store_directory(arguments)?);
    let mut images = Vec::new();
    for recipe in recipes {
        let out = own.out.clone().unwrap_or_else(|| recipe.out.clone());
        let mut image = plan_of(recipe, &store, &out, &targets(&own.publish))?;
        if own.thorough {
            image.drift.extend(damaged_layers(arguments, recipe)?);
        }
        images.push(image);
    }
    if let Some(file) = &own.output {
        crate::plans::planfile::write(arguments, recipes, &store, (own.out.as_deref(), &targets(&own.publish)), file)?;
    }
    Ok((None, images))
}

/// Layers of the last build that are not what they were.
fn damaged_layers(arguments: &crate::Arguments, recipe: &Recipe) -> Result<Vec<Drift>, Exit> {
    let setup = Setup::open(arguments)?;
    let Some(root) = setup.store.root(&recipe.directory, &recipe.model.image.name) else { return Ok(Vec::new()) };
    let damaged = drift_of_layers(&setup.store, &setup.namespace, &root).map_err(render::failed)?;
    Ok(damaged.into_iter().map(|(_, drift)| drift).collect())
}
