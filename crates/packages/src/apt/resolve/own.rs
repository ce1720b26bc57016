//! The site's own packages: which of them a transaction has although apt would change nothing.

use std::collections::BTreeMap;

use super::ask::Repositories;
use super::{Installed, Known, Resolver, come};
use crate::apt::archive::local::is_local;
use crate::apt::archive::relations;
use crate::apt::archive::words::in_folder;
use crate::apt::{Candidate, PinnedPackage};
use crate::inside::common::quoted;
use crate::{DistroError, Pass, Resolution};
use base::digest::Sha256;

impl Resolver<'_> {
    /// Adds the site's packages that the container image has in the same version, where the pass names or needs them: apt takes those for
    /// installed, also where others made them.
    pub(super) fn add_own(
        &self,
        number: usize,
        pass: &Pass,
        installed: &Known<'_>,
        repositories: &Repositories<'_>,
        answer: &mut Resolution,
    ) -> Result<(), DistroError> {
        let mut over = installed.clone();
        answer.removed.iter().for_each(|name| drop(over.remove(name)));
        come(&mut over, &answer.packages);
        let of_base = over.iter().filter(|(_, one)| one.of_base.is_some());
        let exact = |(name, one): (&String, &Installed<'_>)| {
            let mut all = self.archive.candidates(name).into_iter().filter(|candidate| self.runs(candidate));
            all.find(|candidate| candidate.field("Version") == Some(&one.version))
        };
        let there: Vec<_> = of_base.filter_map(exact).collect();
        if !there.iter().any(|one| is_local(&one.index.origin)) || fault::planted("container-has-the-sites-own") {
            return Ok(());
        }
        let mut packages = answer.packages.clone();
        for candidate in there {
            packages.push(candidate.pin(true)?);
        }
        let reached = relations::reached(self.archive, &packages, answer.packages.len(), &pass.install);
        let own = reached.into_iter().skip_while(|at| *at < answer.packages.len()).map(|at| &packages[at]);
        let own: Vec<&PinnedPackage> = own.filter(|one| is_local(&one.origin)).collect();
        if own.is_empty() {
            return Ok(());
        }
        let words: Vec<String> = own.iter().map(|one| quoted(&format!("{}={}", one.name, one.version))).collect();
        let command = format!("install -q -s --reinstall {}", words.join(" "));
        let sources = (repositories.sources.as_str(), String::new());
        let more = self.read_simulation(&self.simulate(number, &over, sources, &command, repositories)?, pass)?;
        answer.packages.extend(more.packages);
        answer.removed.extend(more.removed);
        Ok(())
    }

    /// Whether a package is for the image's CPU.
    fn runs(&self, candidate: &Candidate<'_>) -> bool {
        candidate.field("Architecture").is_none_or(|one| one == "all" || one == self.architecture)
    }

    pub(super) fn in_folder(&self, item: &str) -> Vec<Candidate<'_>> {
        in_folder((self.archive, self.architecture), item)
    }

    /// What a pass names by folder and nothing changes in apt's eyes: the image has that version, but from elsewhere.
    /// Errors: A bad stanza.
    pub(super) fn rebuilt(
        &self,
        pass: &Pass,
        installed: &Known<'_>,
        digests: &BTreeMap<String, Sha256>,
    ) -> Result<Vec<PinnedPackage>, DistroError> {
        let named = pass.install.iter().flat_map(|item| self.in_folder(item));
        let pins = named.map(|candidate| candidate.pin(false)).collect::<Result<Vec<_>, _>>()?;
        let is_other = |pin: &PinnedPackage| {
            let is_of_version = installed.get(&pin.name).is_some_and(|one| one.version == pin.version);
            is_of_version && digests.get(&pin.name) != Some(&pin.sha256) && !fault::planted("rebuilt-package-stays")
        };
        Ok(pins.into_iter().filter(is_other).collect())
    }
}
