//! What is in a directory, compared with what is to be there.

use std::collections::BTreeSet;

use base::digest::Sha256;
use files::shared::Named;

use super::record::{Entry, Record};
use super::{OldNames, Place, Planned, STATE, to};
use crate::{Change, Consent, Error, Report};

pub(super) struct Compared {
    pub path: String,
    pub change: Change,
    /// Digest of what is there.
    pub digest: Option<Sha256>,
    /// What is to be said of it.
    pub warning: Option<String>,
}

pub(super) struct Comparison {
    pub files: Vec<Compared>,
    /// Paths that stay until the next publication.
    pub kept: Vec<Entry>,
    pub removed: Vec<String>,
    /// Files that go although they were changed by hand.
    pub warnings: Vec<String>,
}

pub(super) fn report(comparison: &Comparison) -> Report {
    let mut report = Report::default();
    comparison.files.iter().for_each(|one| report.add(&one.path, one.change));
    comparison.removed.iter().for_each(|path| report.add(path, Change::Removed));
    report.warnings.extend(comparison.files.iter().filter_map(|one| one.warning.clone()));
    report.warnings.extend(comparison.warnings.iter().cloned());
    report
}

impl Place<'_> {
    /// `is_interrupted`: the record is of a publication that is not complete yet, so that what differs is not drift.
    pub(super) fn compare(&self, record: &Record, is_interrupted: bool) -> Result<Comparison, Error> {
        let files = self.layout.files.iter().map(|planned| self.compared(planned, record, is_interrupted));
        let files = files.collect::<Result<Vec<_>, _>>()?;
        let new: BTreeSet<&str> = self.layout.files.iter().map(|planned| planned.path.as_str()).collect();
        let is_old = |entry: &&Entry| !new.contains(entry.path.as_str());
        let (mut kept, mut removed, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
        let is_other_build = record.build != self.layout.build;
        for (entries, is_last) in [(&record.files, true), (&record.kept, false)] {
            for entry in entries.iter().filter(is_old) {
                let is_pinned = self.layout.pinned.iter().any(|folder| entry.path.starts_with(folder));
                let stays = is_pinned || self.layout.old_names == OldNames::KeepOnce && (is_last || !is_other_build);
                if stays {
                    kept.push(entry.clone());
                    continue;
                }
                let there = self.shared.named(&entry.path).map_err(to("read", self.path(&entry.path)))?;
                if there == Named::Nothing {
                    continue;
                }
                let digest = if there == Named::File { self.digest(&entry.path) } else { Ok(None) };
                if digest.map_err(to("read", self.path(&entry.path)))? != Some(entry.sha256) {
                    let path = self.path(&entry.path);
                    warnings
                        .push(format!("`{}` is no longer used, but it was changed by hand: it stays", path.display()));
                    continue;
                }
                removed.push(entry.path.clone());
            }
        }
        Ok(Comparison { files, kept, removed, warnings })
    }

    /// The image that was published here with this name among its files.
    fn other_image(&self, path: &str) -> Result<Option<String>, Error> {
        for entry in self.shared.list(STATE).map_err(to("read", self.path(STATE)))? {
            let Some(image) = entry.name.strip_suffix(".json").filter(|name| *name != self.layout.name) else {
                continue;
            };
            if self.record(&format!("{STATE}/{}", entry.name))?.is_some_and(|record| record.of(path).is_some()) {
                return Ok(Some(image.to_owned()));
            }
        }
        Ok(None)
    }

    fn compared(&self, planned: &Planned<'_>, record: &Record, is_interrupted: bool) -> Result<Compared, Error> {
        let path = self.path(&planned.path);
        let there = self.shared.named(&planned.path).map_err(to("read", &path))?;
        let ours = record.of(&planned.path);
        let compared = |change, digest| Compared { path: planned.path.clone(), change, digest, warning: None };
        if there == Named::Nothing {
            let mut new = compared(Change::New, None);
            if ours.is_some() && !is_interrupted {
                new.change = Change::Drift;
                new.warning = Some(format!("`{}` was removed by hand; it is written again", path.display()));
            }
            return Ok(new);
        }
        let refused = || {
            if let Some(image) = self.other_image(&planned.path)? {
                return Err(Error::OfAnotherImage { path: path.clone(), image });
            }
            match self.layout.consent {
                Consent::ReplaceForeign if there != Named::Folder => Ok(compared(Change::Changed, None)),
                _ => Err(Error::NotOurs { path: path.clone() }),
            }
        };
        if there != Named::File {
            return refused();
        }
        let digest = self.digest(&planned.path).map_err(to("read", &path))?;
        let is_wanted = match planned.content.digest() {
            Some(wanted) => digest == Some(wanted),
            None => ours.is_some_and(|ours| ours.of == planned.content.name() && digest == Some(ours.sha256)),
        };
        if is_wanted {
            return Ok(compared(Change::Unchanged, digest));
        }
        match ours {
            Some(ours) if is_interrupted || digest == Some(ours.sha256) => Ok(compared(Change::Changed, digest)),
            Some(_) => {
                let mut drifted = compared(Change::Drift, digest);
                drifted.warning = Some(format!(
                    "`{}` was changed by hand since it was published; it is replaced, and kept in {}",
                    path.display(),
                    self.path(&self.state("/previous")).display()
                ));
                Ok(drifted)
            }
            None if fault::planted("publish-takes-foreign") => Ok(compared(Change::Changed, digest)),
            None => refused(),
        }
    }
}
