//! `imgbuild pull`: brings an image from a registry.

use std::path::{Path, PathBuf};

use super::registry::{RegistryArguments, exit, mega, source};
use crate::Exit;
use crate::output::harmless::one_line;
use crate::output::render;
use crate::output::reporter::Reporter;
use build::{CarryError, DownloadNews, pull};
use oci::Place;

/// Arguments of `pull`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The image: oci://REGISTRY/NAME:TAG, oci://REGISTRY/NAME@sha256:.., oci-layout:DIR:TAG or oci-archive:FILE:TAG
    #[arg(value_name = "SOURCE")]
    pub source: Place,
    /// Directory of images: DIR/IMAGE is published there as by a build [default: `out` in the directory]
    #[arg(value_name = "DIR")]
    pub target: Option<PathBuf>,
    #[command(flatten)]
    pub registry: RegistryArguments,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Exit {
    let target = arguments.directory.join(own.target.as_deref().unwrap_or(Path::new("out")));
    let reporter = Reporter::new(arguments);
    let report = reporter.of(None);
    let outcome = source(arguments, &own.source, &own.registry)
        .map_err(CarryError::from)
        .and_then(|source| pull(&*source, &target, &DownloadNews(&report, "the image")));
    reporter.end();
    let (_, pulled) = match outcome {
        Ok(pulled) => pulled,
        Err(error) => {
            return render::refused(exit(&error), error);
        }
    };
    pulled.notes.iter().for_each(|note| render::say(&format!("note: {}", one_line(note))));
    if own.json {
        render::print_json(&super::fetch::json(&pulled));
        return Exit::Done;
    }
    let place = target.join(&pulled.image);
    let place = place.display();
    render::say(&match pulled.unchanged {
        true => format!("{place} already has the image: {:.1} MB", mega(pulled.size)),
        false => format!(
            "{place}: {:.1} of {:.1} MB came from the registry, {} of {} blobs",
            mega(pulled.moved),
            mega(pulled.size),
            pulled.blobs_moved,
            pulled.blobs
        ),
    });
    if !pulled.statements.is_empty() {
        render::say(&format!("pulled besides: {}", pulled.statements.join(", ")));
    }
    render::print(&format!("{}\n", pulled.digest));
    Exit::Done
}
