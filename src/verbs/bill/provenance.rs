//! `imgbuild provenance`: prints what a published image was made from, and signs it.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bill::{Envelope, Provenance, Revision, secret_of};

use super::facts::{Published, Which, write};
use crate::Exit;
use crate::output::render;
use crate::plans::planned::{PlannedImage, plan_of};
use crate::setup::store_directory;
use crate::verbs::building::against;
use cache::CacheError;
use git::{GitError, Repository};
use recipe::Recipe;
use store::Store;

/// Who builds, where no one says it.
pub(super) const BUILDER: &str = "https://imgbuild.invalid/builder/v1";

/// Arguments of `provenance`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    pub which: Which,
    /// The lock that the image was built by [default: image.lock in its directory, or else next to its recipe]
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// Sign it with this key, from `imgbuild cache key`, and print the signed envelope (DSSE)
    #[arg(long, value_name = "FILE")]
    pub sign: Option<PathBuf>,
    /// Who builds, as an address that readers of the statement know
    #[arg(
        long,
        value_name = "URI",
        default_value = BUILDER,
        env = "IMGBUILD_BUILDER_ID"
    )]
    pub builder_id: String,
    /// Write it to this file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Exit> {
    let key = own.sign.as_deref().map(|path| key(&arguments.directory.join(path))).transpose()?;
    let published = own.which.find(arguments)?;
    let lock = published.lock(arguments, own.lock.as_deref())?;
    let (bill, build) = published.bill(lock.as_ref())?;
    let revision = revision(arguments, &own.which, &published)?;
    let lock = lock.as_ref().map(|(lock, _)| lock);
    let statement = Provenance { bill: &bill, build, lock, revision, builder: &own.builder_id }.statement();
    let text = match key {
        Some(key) => Envelope::sign(statement.as_bytes(), &key).to_text().unwrap_or_default(),
        None => format!("{statement}\n"),
    };
    write(arguments, own.output.as_deref(), &text)
}

/// Longest file of a key, in bytes; one of `imgbuild cache key` has 84.
const LONGEST_KEY: u64 = 4096;

/// Reads a key that no one else can read, once: what is asked for and what is used are the same file.
/// Errors: [`Exit::Input`].
pub(super) fn key(path: &Path) -> Result<ed25519_dalek::SigningKey, Exit> {
    let said = |problem: String| render::refused(Exit::Input, CacheError::Key { problem });
    let name = path.display();
    let failed = |error: std::io::Error| said(format!("the key `{name}` cannot be read: {error}"));
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
        return Err(render::refused(Exit::Input, CacheError::OpenKey { path: path.to_owned() }));
    }
    let mut text = String::new();
    file.take(LONGEST_KEY).read_to_string(&mut text).map_err(failed)?;
    secret_of(&text).ok_or_else(|| said(format!("`{name}` is no key of `imgbuild cache key`")))
}

/// Whether what is published is not what the recipe gives: a build would do something, or someone changed a file behind its back.
fn has_work(image: &PlannedImage) -> bool {
    image.has_work() || image.change.is_some()
}

/// The commit of the recipe that gives this build: the recipe here has nothing to build, and is as HEAD has it. Otherwise it is not known, and said.
pub(super) fn revision(
    arguments: &crate::Arguments,
    which: &Which,
    published: &Published,
) -> Result<Option<Revision>, Exit> {
    let Some(recipe) = &published.recipe else { return Ok(None) };
    let left_out = |why: &str| {
        render::say(&format!("note: the statement does not name the recipe's commit: {why}"));
        Ok(None)
    };
    let repository = match Repository::around(&recipe.directory) {
        Ok(repository) => repository,
        Err(GitError::NoRepository(_)) => return left_out("the recipe is not in a git repository"),
        Err(error) => return left_out(&error.to_string()),
    };
    if has_work(&of_store(arguments, which, recipe)?) {
        return left_out(
            "the recipe has changed since the build, or was built with another store, or files were changed by hand (`imgbuild plan` has the causes)",
        );
    }
    let mut head = match repository.commit("HEAD") {
        Ok(_) => against::Revision::open(&recipe.directory, "HEAD")?,
        Err(error) => return left_out(&error.to_string()),
    };
    let images = head.plan(std::slice::from_ref(recipe), None, build::forms_for(&[]))?;
    let Some(image) = images.first().filter(|image| !has_work(image)) else {
        return left_out(
            "HEAD has another recipe: commit what was built (`imgbuild plan --against HEAD` has the differences)",
        );
    };
    let directory = image.recipe.clone().unwrap_or_else(|| ".".to_owned());
    Ok(Some(Revision { commit: head.document().commit, directory }))
}

/// What a build of the recipe would do now.
fn of_store(arguments: &crate::Arguments, which: &Which, recipe: &Recipe) -> Result<PlannedImage, Exit> {
    let store = Store::existing(&store_directory(arguments)?);
    let out = which.out.clone().unwrap_or_else(|| recipe.out.clone());
    plan_of(recipe, &store, &out, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_changed_by_hand_is_work() {
        let mut image = PlannedImage::of("tiny".to_owned());
        assert!(!has_work(&image));
        let problem = "was changed".to_owned();
        image.drift.push(build::Drift { place: "published".to_owned(), name: "kernel".to_owned(), problem });
        assert!(has_work(&image));
        image.drift.clear();
        image.change = Some("new".to_owned());
        assert!(has_work(&image));
    }
}
