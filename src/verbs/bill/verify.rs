//! `imgbuild verify`: compares a published, fetched or pulled image with all that describes it.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::PathBuf;

use bill::{
    BUILD, Bill, CYCLONEDX, Checked, Directory, Envelope, Image, PROVENANCE, SPDX, SUMS, Statement, Wrong, check,
    is_lock_of, text_of,
};
use ed25519_dalek::VerifyingKey;
use serde::Serialize;

use super::facts::{Published, Which, exit_of, refused, unread};
use crate::Exit;
use crate::output::harmless::one_line;
use crate::output::render;
use crate::verbs::images::fetch;
use base::digest::Sha256;
use build::LOCK_NAME;
use recipe::Lock;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    pub which: Which,
    /// The lock that the image was built by [default: image.lock in its directory]
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// Require a statement signed by this public key, as `imgbuild cache key` prints it [repeatable: one of them]
    #[arg(long, value_name = "KEY", value_parser = cache::parse_public)]
    pub key: Vec<VerifyingKey>,
    /// The signed statement, from `imgbuild provenance --sign` [default: provenance.intoto.jsonl in the directory]
    #[arg(long, value_name = "FILE")]
    pub provenance: Option<PathBuf>,
    /// Expected SHA-256 of its build.json
    #[arg(long, value_name = "SHA256", value_parser = fetch::digest)]
    pub digest: Option<Sha256>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    image: String,
    /// Digest of build.json.
    build: Sha256,
    /// Which of the image's builds it is.
    epoch: i64,
    #[serde(skip)]
    time: String,
    #[serde(flatten)]
    checked: Checked,
    /// Keys whose signatures of the statement are valid.
    signed_by: Vec<String>,
    /// Whether there are any, and they are keys that were named.
    is_trusted: bool,
    notes: Vec<String>,
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Exit> {
    let published = own.which.find(arguments)?;
    let (image, build) = match published.image() {
        Ok(found) => found,
        Err(error) => return Err(refused(error)),
    };
    let mut report = Report {
        image: image.name.clone(),
        build,
        epoch: image.epoch,
        time: image.time(),
        checked: check(&published.directory, &image),
        signed_by: Vec::new(),
        is_trusted: false,
        notes: Vec::new(),
    };
    if let Some(expected) = own.digest.filter(|expected| *expected != build) {
        report.wrong(BUILD, format!("has the SHA-256 {build}, but {expected} was expected"));
    }
    report.checked.wrong.extend(published.misplaced(&image, build));
    let lock = report.contents(arguments, own, &published, &image)?;
    report.statement(arguments, own, &published.directory, &image, lock)?;
    report.others(&published.directory, &image)?;
    Ok(report.said(&published.directory, own.json))
}

impl Report {
    fn wrong(&mut self, file: &str, problem: impl Into<String>) {
        self.checked.wrong.push(Wrong::new(file, problem));
    }

    /// A file that was not read.
    fn not_read(&mut self, file: &str, error: &std::io::Error) {
        self.checked.wrong.push(Wrong::of_error(file, error));
    }

    /// The lock that was pulled with the image, or is named: it and the bills beside the artefacts list what the packed image has.
    fn contents(
        &mut self,
        arguments: &crate::Arguments,
        own: &Arguments,
        published: &Published,
        image: &Image,
    ) -> Result<Option<Sha256>, Exit> {
        let text = match &own.lock {
            Some(path) => {
                let path = arguments.directory.join(path);
                Some(text_of(&path).map_err(unread(&path))?)
            }
            None => match published.directory.text(LOCK_NAME) {
                Ok(text) => Some(text),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => {
                    self.not_read(LOCK_NAME, &error);
                    None
                }
            },
        };
        let digest = text.as_deref().map(Sha256::of);
        let lock = match text.map(|text| Lock::parse_bytes(LOCK_NAME, text)) {
            Some(Ok(lock)) => Some(lock),
            Some(Err(error)) => {
                self.wrong(LOCK_NAME, error.to_string());
                None
            }
            None => None,
        };
        // They are about an image that is whole.
        if !self.checked.wrong.is_empty() {
            return Ok(digest);
        }
        let mut bills = Vec::new();
        // Whether or not build.json lists them.
        for name in [SPDX, CYCLONEDX] {
            match published.directory.text(name) {
                Ok(text) => bills.push((name, text)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => self.not_read(name, &error),
            }
        }
        if bills.is_empty() && lock.is_none() {
            return Ok(digest);
        }
        let contents = match published.contents(image) {
            Ok(contents) => contents,
            Err(error) => {
                self.wrong(BUILD, error.to_string());
                return Ok(digest);
            }
        };
        let own_lock = lock.as_ref().filter(|lock| is_lock_of(lock, image, &contents));
        if lock.is_some() && own_lock.is_none() {
            self.wrong(
                LOCK_NAME,
                "lists other packages than the image has, or none, or has another time or distribution",
            );
        }
        if contents.packages.is_none() && !bills.is_empty() {
            self.notes.push("the packed image has no package database: the bills were not compared with it".to_owned());
            return Ok(digest);
        }
        let bill = Bill::of(image.clone(), contents, own_lock.zip(digest));
        for (name, text) in bills {
            match bill.unlike(&text) {
                Ok(unlike) => {
                    if let Some(first) = unlike.first() {
                        let count = render::counted_as(unlike.len(), "place", "places");
                        self.wrong(name, format!("differs from the image in {count}: it {first}"));
                    }
                }
                Err(problem) => self.wrong(name, format!("cannot be read: {problem}")),
            }
        }
        Ok(digest)
    }

    /// The statement: who signed it, and whether it is about these files.
    fn statement(
        &mut self,
        arguments: &crate::Arguments,
        own: &Arguments,
        directory: &Directory,
        image: &Image,
        lock: Option<Sha256>,
    ) -> Result<(), Exit> {
        let (name, text) = match &own.provenance {
            Some(path) => {
                let path = arguments.directory.join(path);
                (path.display().to_string(), text_of(&path).map_err(unread(&path))?)
            }
            None => match directory.text(PROVENANCE) {
                Ok(text) => (PROVENANCE.to_owned(), text),
                Err(error) if error.kind() == ErrorKind::NotFound && own.key.is_empty() => {
                    self.notes.push(format!(
                        "no signed statement describes this image, so whether {BUILD} is the one that was published is unknown{}",
                        if own.digest.is_some() { ", except by --digest" } else { "" }
                    ));
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    self.wrong(
                        PROVENANCE,
                        "is missing: name the signed statement with --provenance, or write one with `imgbuild provenance --sign`",
                    );
                    return Ok(());
                }
                Err(error) => {
                    self.not_read(PROVENANCE, &error);
                    return Ok(());
                }
            },
        };
        let read = Envelope::read(&text).and_then(|envelope| {
            let payload = envelope.payload()?;
            Ok((envelope.signatures(&payload, &own.key), payload))
        });
        let (signatures, payload) = match read {
            Ok(read) => read,
            Err(problem) => {
                self.wrong(&name, format!("is not a signed statement: {problem}"));
                return Ok(());
            }
        };
        self.signed_by = signatures.valid;
        self.is_trusted = !own.key.is_empty() && !self.signed_by.is_empty();
        if self.signed_by.is_empty() {
            let by = signatures.other.first().filter(|key| !key.is_empty()).map(|key| format!(" (signed by {key})"));
            let by = by.unwrap_or_default();
            self.wrong(
                &name,
                match own.key.is_empty() {
                    true => format!("has no valid signature{by}"),
                    false => format!("is not signed by a key that is named{by}"),
                },
            );
            return Ok(());
        }
        // What is not signed by a key that counts is not looked into.
        match Statement::read(&payload) {
            Ok(statement) => {
                for (file, problem) in statement.unlike(image, self.build, lock) {
                    self.wrong(&file, problem);
                }
            }
            Err(problem) => self.wrong(&name, format!("is not a signed statement: {problem}")),
        }
        Ok(())
    }

    /// Files that nothing describes: anyone may have put them there.
    fn others(&mut self, directory: &Directory, image: &Image) -> Result<(), Exit> {
        let mut known: BTreeSet<&str> = image.by_name().into_keys().collect();
        known.extend([BUILD, SUMS, LOCK_NAME, PROVENANCE]);
        let names = directory.names().map_err(unread(directory.path()))?;
        let other: Vec<String> = names
            .into_iter()
            .filter(|name| !known.contains(name.as_str()))
            .map(|name| format!("`{}`", one_line(&name)))
            .collect();
        if !other.is_empty() {
            self.notes.push(format!("{} in it is not part of the image", other.join(", ")));
        }
        Ok(())
    }

    fn said(&self, directory: &Directory, json: bool) -> Exit {
        let exit = exit_of(&self.checked.wrong);
        if json {
            render::print_json(&fetch::json(self));
            return exit;
        }
        let place = directory.path().display();
        for Wrong { file, place, problem, .. } in &self.checked.wrong {
            let file = one_line(file);
            render::say(&match place {
                Some(place) => {
                    let last = place.offset.saturating_add(place.size.saturating_sub(1));
                    format!("error: `{file}`: frame {} (bytes {} to {last}) {problem}", place.frame, place.offset)
                }
                None => format!("error: `{file}` {problem}"),
            });
        }
        for note in &self.notes {
            render::say(&format!("note: {note}"));
        }
        let Checked { files, frames, bytes, wrong } = &self.checked;
        for key in self.signed_by.iter().filter(|_| wrong.is_empty()) {
            render::say(&match self.is_trusted {
                true => format!("signed by {key}"),
                false => {
                    format!("signed by {key}, which was not compared with a key that you trust: name it with --key")
                }
            });
        }
        // An older build, or another image, is whole too: which one it is is said of each.
        let what = format!("{place}: image {}, build {}, epoch {}", self.image, self.build.short(), self.time);
        render::say(&match wrong.is_empty() {
            true => {
                format!("{what}: {files} files and {frames} frames are as published, {}", render::bytes(*bytes))
            }
            false => format!(
                "{what}: {}; `imgbuild build`, `fetch` or `pull` replaces what differs",
                render::counted_as(wrong.len(), "difference", "differences")
            ),
        });
        exit
    }
}
