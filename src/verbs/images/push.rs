//! `imgbuild push`: sends a published image to a registry.

use std::path::{Path, PathBuf};

use super::registry::{RegistryArguments, destination, exit, mega};
use crate::Exit;
use crate::output::harmless::one_line;
use crate::output::render;
use crate::output::reporter::Reporter;
use crate::published::image_and_out;
use crate::setup::{Setup, lock, print_findings, published_image, recipe, store_if_there};
use base::source::{Finding, Severity};
use build::{
    BuildInfo, CarryError, LOCK_NAME, OnlyBelieved, Parcel, Report, UploadNews, artefact, only_believed, with_container,
};
use oci::{Destination, Place, Sent, send_with};
use recipe::Recipe;

/// How many actions, and caches, a warning names.
const MOST_NAMED: usize = 8;

/// Arguments of `push`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where it goes: oci://REGISTRY/NAME:TAG, oci-layout:DIR:TAG or oci-archive:FILE:TAG
    #[arg(value_name = "DESTINATION")]
    pub destination: Place,
    /// The image, if the workspace has several
    #[arg(value_name = "IMAGE")]
    pub image: Option<String>,
    /// Push the root file system as a container image instead, with the recipe's layers
    #[arg(long)]
    pub as_container: bool,
    /// Another repository of the registry that may have the same data; it is taken from there [repeatable]
    #[arg(long, value_name = "NAME")]
    pub mount_from: Vec<String>,
    #[command(flatten)]
    pub registry: RegistryArguments,
    /// Where artefacts are [default: `out` next to the recipe]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Exit> {
    let (name, out) = image_and_out(arguments, own.image.as_deref(), own.out.as_deref())?;
    let (directory, info) = match published_image(&out, &name)? {
        Some(found) => found,
        None => {
            render::say(&format!("nothing is published in {}: run `imgbuild build` first", out.join(&name).display()));
            return Err(Exit::Input);
        }
    };
    let to = destination(arguments, &own.destination, &own.registry, &own.mount_from)
        .map_err(|error| failed(error.into()))?;
    let believed = store_if_there(arguments).map(|store| only_believed(&store, &directory, &info)).unwrap_or_default();
    print_findings(&doubts(&believed, &info.name).into_iter().collect::<Vec<_>>(), arguments.verbose);
    let reporter = Reporter::new(arguments);
    let report = reporter.of(None);
    let outcome = if own.as_container {
        let made = recipe(arguments, own.image.as_deref())
            .and_then(|recipe| container(arguments, &recipe, &info, &*to, &report));
        made?
    } else {
        let lock = lock_of_build(arguments, own, &directory, &info)?;
        artefact(&directory, &info, lock).map_err(CarryError::from).and_then(|parcel| {
            parcel.left_here.iter().for_each(|name| {
                render::say(&format!("note: {name} is not pushed: it is not about this build"));
            });
            sent(&*to, &parcel, &report)
        })
    };
    reporter.end();
    let sent = outcome.map_err(failed)?;
    if own.json {
        render::print_json(&super::fetch::json(&Pushed { sent, believed }));
        return Ok(Exit::Done);
    }
    let place = one_line(&own.destination.to_string());
    let mounted = match sent.blobs_mounted {
        0 => String::new(),
        blobs => format!(", {blobs} were taken from another repository"),
    };
    render::say(&format!(
        "{place}: {:.1} of {:.1} MB were sent, {} of {} blobs{mounted}",
        mega(sent.sent),
        mega(sent.size),
        sent.blobs_sent,
        sent.blobs
    ));
    if let Place::Registry(reference) = &own.destination {
        render::print(&format!("oci://{}/{}@{}\n", reference.registry, reference.name, sent.digest));
    } else {
        render::print(&format!("{}\n", sent.digest));
    }
    Ok(Exit::Done)
}

#[derive(serde::Serialize)]
struct Pushed {
    #[serde(flatten)]
    sent: Sent,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    believed: Vec<OnlyBelieved>,
}

/// What is said of results that are a cache's word alone: who pulls the image takes them for what this machine built.
fn doubts(believed: &[OnlyBelieved], name: &str) -> Option<Finding> {
    let all = |of: fn(&OnlyBelieved) -> &String| -> String {
        let each: std::collections::BTreeSet<&str> = believed.iter().map(|one| of(one).as_str()).collect();
        let more = each.len().saturating_sub(MOST_NAMED);
        let named = each.iter().take(MOST_NAMED).copied().collect::<Vec<_>>().join(", ");
        if more > 0 { format!("{named} and {more} more") } else { named }
    };
    let (actions, caches) = (all(|one| &one.action), all(|one| &one.cache));
    let message = format!(
        "what is pushed of `{name}` is in part a cache's word alone, which no one signed and nothing compared: {actions} (from {caches})"
    );
    let help = "build with --cache-sample 100%, which compares all of it, or without the cache, and push again";
    (!believed.is_empty()).then(|| Finding::nowhere(Severity::Warning, "oci::believed", message).help(help))
}

fn failed(error: CarryError) -> Exit {
    render::refused(exit(&error), error)
}

fn sent(to: &dyn Destination, parcel: &Parcel, report: &dyn Report) -> Result<Sent, CarryError> {
    Ok(send_with(to, &parcel.blobs, &parcel.manifest, &parcel.attached, &UploadNews(report))?)
}

fn container(
    arguments: &crate::Arguments,
    recipe: &Recipe,
    info: &BuildInfo,
    to: &dyn Destination,
    report: &dyn Report,
) -> Result<Result<Sent, CarryError>, Exit> {
    let setup = Setup::open(arguments)?;
    let _held = setup.share()?;
    let place = (&setup.store, &setup.namespace);
    Ok(with_container(place, recipe, info, &|text| report.progress(text), &mut |parcel| sent(to, parcel, report)))
}

/// The lock that the image was built by: the one that was pulled with it, or the one beside the recipe, unless it was updated since.
fn lock_of_build(
    arguments: &crate::Arguments,
    own: &Arguments,
    directory: &Path,
    info: &BuildInfo,
) -> Result<Option<Vec<u8>>, Exit> {
    if let Ok(pulled) = std::fs::read(directory.join(LOCK_NAME)) {
        return Ok(Some(pulled));
    }
    // Someone else's build.
    if own.out.is_some() && own.image.is_some() {
        return Ok(None);
    }
    let recipe = recipe(arguments, own.image.as_deref())?;
    let Some(known) = lock(&recipe)? else { return Ok(None) };
    if known.epoch != info.epoch {
        render::say(&format!("note: {} is not pushed: it was updated after the image was built", recipe.lock_name()));
        return Ok(None);
    }
    Ok(std::fs::read(&recipe.lock_path).ok())
}
