//! What `[publish] sbom = true` puts beside the artefacts of a build: both bills and the statement of provenance.

use std::path::Path;

use bill::{CYCLONEDX, Envelope, Format, PROVENANCE, Provenance, SPDX};

use super::facts::{Published, Which};
use super::provenance::{BUILDER, key, revision};
use crate::Exit;
use crate::output::render;
use build::ImageOutcome;
use recipe::Recipe;

/// Writes what is missing beside each image that was published. What is there stays: it is what the same build gave before, or a statement
/// of someone else.
/// Errors: [`Exit`]; the images are published then, and the next build writes what is missing.
pub(crate) fn publish(
    arguments: &crate::Arguments,
    (out, sign): (Option<&Path>, Option<&Path>),
    recipes: &[Recipe],
    outcomes: &[Option<ImageOutcome>],
) -> Result<(), Exit> {
    for (recipe, outcome) in recipes.iter().zip(outcomes).filter(|(recipe, _)| recipe.model.publish.sbom) {
        let summary = outcome.as_ref().and_then(|outcome| outcome.result.as_ref().ok());
        if let Some((directory, _)) = summary.and_then(|summary| summary.published.as_ref()) {
            let which = Which { image: Some(recipe.model.image.name.clone()), out: out.map(Path::to_owned) };
            of_build(arguments, &which, (recipe, directory), sign)?;
        }
    }
    Ok(())
}

fn of_build(
    arguments: &crate::Arguments,
    which: &Which,
    (recipe, directory): (&Recipe, &Path),
    sign: Option<&Path>,
) -> Result<(), Exit> {
    let is_missing = |name: &&str| std::fs::symlink_metadata(directory.join(name)).is_err();
    let missing: Vec<&str> = [SPDX, CYCLONEDX, PROVENANCE].into_iter().filter(is_missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let key = sign.map(|path| key(&arguments.directory.join(path))).transpose()?;
    let published = Published::of_build(recipe, directory)?;
    let lock = published.lock(arguments, None)?;
    let (bill, build) = published.bill(lock.as_ref())?;
    for name in missing {
        let text = match name {
            SPDX => bill.document(Format::Spdx),
            CYCLONEDX => bill.document(Format::CycloneDx),
            _ => {
                let revision = revision(arguments, which, &published)?;
                let lock = lock.as_ref().map(|(lock, _)| lock);
                let builder = std::env::var("IMGBUILD_BUILDER_ID").unwrap_or_else(|_| BUILDER.to_owned());
                let statement = Provenance { bill: &bill, build, lock, revision, builder: &builder }.statement();
                match &key {
                    Some(key) => Envelope::sign(statement.as_bytes(), key).to_text().unwrap_or_default(),
                    None => format!("{statement}\n"),
                }
            }
        };
        let path = directory.join(name);
        files::replace(&path, text.as_bytes(), 0o644, files::Durability::PowerCut).map_err(|error| {
            render::say(&format!("error: `{}` cannot be written: {error}", path.display()));
            Exit::Machine
        })?;
        render::say(&format!("  {:>9}  {name}", render::bytes(text.len() as u64)));
    }
    Ok(())
}
