//! `imgbuild update --security`: moves only packages that mend vulnerabilities, and what they need.

use std::collections::BTreeSet;

use super::Arguments;
use super::document::{self, ImageDocument};
use super::open::{self, Held};
use super::{mend, shown};
use crate::Exit;
use crate::output::render;
use crate::output::reporter::Reporter;
use crate::setup::{Setup, lock, store_if_there};
use crate::verbs::keeping::audit::subjects::{self, Audited};
use crate::verbs::keeping::audit::{Comparison, Sources, repositories, warn};
use advisories::{Finding, Report, Silenced};
use build::{Builder, Options, Refused, StageError, namespace_for};
use recipe::Lock;

/// How often packages that were moved and mend nothing are held again.
const ROUNDS: usize = 3;

/// What became of one image.
pub(super) struct Outcome<'a> {
    pub before: &'a Audited,
    /// What was found in image.lock as it was, as far as it is asked for.
    pub found: Vec<Finding>,
    /// The image by the lock as it is now, and what is found in it.
    pub after: Option<Audited>,
    pub left: Vec<Finding>,
    /// Why it is left, in the order of `left`.
    pub why: Vec<Held>,
    /// Packages that moved with those that mend.
    pub also: Vec<mend::Move>,
    /// What could not be compared of the image by the lock as it is now.
    pub unknown: Vec<String>,
}

/// What is asked for: these vulnerabilities and advisories, or all.
struct Asked<'a>(&'a [String]);

impl Asked<'_> {
    fn means(&self, finding: &Finding) -> bool {
        self.0.is_empty() || self.0.iter().any(|id| is_named(finding, id))
    }
}

fn is_named(finding: &Finding, id: &str) -> bool {
    finding.id.iter().chain(&finding.advisories).any(|own| own.eq_ignore_ascii_case(id))
}

pub(super) fn run(arguments: &crate::Arguments, own: &Arguments, ids: &[String]) -> Result<Exit, Exit> {
    let audited = subjects::of_images(arguments, &own.images)?;
    let (databases, places) = (own.databases.as_slice(), &own.places);
    let sources = Sources { databases, offline: false, places, says: true, asked: ids };
    let comparison = Comparison::of(arguments, &sources, &audited)?;
    let sources = Sources { says: false, ..sources };
    let (report, mut unknown, rest) = comparison.report(&audited);
    warn(&rest);
    refuse_unknown(ids, &comparison, &report, &audited)?;
    let asked = Asked(ids);
    let (mut failure, mut outcomes) = (None, Vec::new());
    for (at, one) in audited.iter().enumerate() {
        let found = report.findings.iter().filter(|finding| finding.subject == at && asked.means(finding));
        let work = Work { arguments, own, sources: &sources, comparison: &comparison, asked: &asked, audited: one };
        match work.mend(found.cloned().collect()) {
            Ok(outcome) => outcomes.push(outcome),
            Err(exit @ Exit::Interrupted) => return Err(exit),
            Err(exit) => failure = failure.or(Some(exit)),
        }
    }
    if unknown.is_empty() {
        // What came with a mend may be what no source is about.
        unknown = outcomes.iter().flat_map(|outcome| outcome.unknown.clone()).collect();
        warn(&unknown);
    }
    let silenced: Vec<&Silenced> =
        report.silenced.iter().filter(|one| !ids.is_empty() && asked.means(&one.finding)).collect();
    if own.json {
        let images: Vec<ImageDocument> = outcomes.iter().map(|one| document::of(one, &own.databases)).collect();
        let document = document::document(images, untouched(ids, &report), &unknown);
        render::print_json(&format!("{}\n", serde_json::to_string_pretty(&document).unwrap_or_default()));
    } else {
        for outcome in &outcomes {
            render::print(&shown::text(outcome));
        }
        for id in untouched(ids, &report) {
            render::say(&format!("{id}: no package of these images is affected"));
        }
        for one in silenced {
            render::say(&format!(
                "{} does not count in {}: {} ({}; {})",
                one.finding.id.as_deref().unwrap_or_default(),
                audited[one.finding.subject].name(),
                one.reason,
                one.author,
                one.file
            ));
        }
        outcomes.iter().for_each(shown::sum);
    }
    Ok(match failure {
        Some(exit) => exit,
        None if outcomes.iter().any(|outcome| !outcome.left.is_empty()) => Exit::Work,
        // What could not be looked at may have any of them.
        None if !unknown.is_empty() => Exit::Input,
        None => Exit::Done,
    })
}

/// Names that are known, and that no image has anything of.
fn untouched(ids: &[String], report: &Report) -> Vec<String> {
    let all = || report.findings.iter().chain(report.silenced.iter().map(|one| &one.finding));
    ids.iter().filter(|id| !all().any(|finding| is_named(finding, id))).cloned().collect()
}

/// Errors: [`Exit::Input`] where no source has a name that is asked for.
fn refuse_unknown(ids: &[String], comparison: &Comparison, report: &Report, images: &[Audited]) -> Result<(), Exit> {
    let all = || report.findings.iter().chain(report.silenced.iter().map(|one| &one.finding));
    let is_known = |id: &String| comparison.database.knows(id) || all().any(|finding| is_named(finding, id));
    let unknown: Vec<&str> = ids.iter().filter(|id| !is_known(id)).map(String::as_str).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let is_image = |id: &&&str| images.iter().any(|one| one.subject.image == **id);
    let help = match unknown.iter().find(is_image) {
        Some(image) => format!("images go before --security: imgbuild update {image} --security"),
        None => "name a file of advisories that has it with --db FILE, for instance the zip of your distribution that OSV publishes: repositories of Debian and Ubuntu have no names of vulnerabilities".to_owned(),
    };
    let unknown = unknown.iter().map(|id| format!("`{}`", id.escape_debug())).collect::<Vec<_>>().join(", ");
    render::say(&format!("error: no source of advisories knows {unknown}\n  help: {help}"));
    Err(Exit::Input)
}

/// The work on one image.
struct Work<'a, 'w> {
    arguments: &'w crate::Arguments,
    own: &'w Arguments,
    sources: &'w Sources<'w>,
    comparison: &'w Comparison,
    asked: &'w Asked<'w>,
    audited: &'a Audited,
}

/// A lock that was written, or none where nothing moved; and why packages could not be moved.
type Written = (Option<(Lock, Lock)>, Vec<Refused>);

impl<'a> Work<'a, '_> {
    fn mend(&self, found: Vec<Finding>) -> Result<Outcome<'a>, Exit> {
        let Some(recipe) = self.audited.recipe.as_ref() else { return Err(Exit::Input) };
        let Some(now) = lock(recipe)? else { return Err(Exit::Input) };
        let groups = mend::groups(&now, &found);
        let (written, refused) = match groups.is_empty() {
            true => (None, Vec::new()),
            false => self.write(groups, &found)?,
        };
        let (after, left, moves, unknown) = match &written {
            Some((earlier, lock)) => {
                let (after, left, unknown) = self.audit(lock)?;
                (Some(after), left, mend::moves(earlier, lock), unknown)
            }
            None => (None, found.clone(), Vec::new(), Vec::new()),
        };
        let also = mend::also(moves, &found, &left, after.as_ref().unwrap_or(self.audited));
        let lock = written.as_ref().map_or(&now, |(_, lock)| lock);
        // What moved with others, and what is left although there is a mend: both ask which versions there are.
        let mut names: BTreeSet<String> = also.iter().map(|one| one.name.clone()).collect();
        names.extend(left.iter().filter(|one| open::depends_on_offers(one, lock)).flat_map(|one| one.packages.clone()));
        let offers = match names.is_empty() {
            true => Default::default(),
            false => repositories::offers(self.arguments, &self.own.places, recipe, &names)?,
        };
        let audited = after.as_ref().unwrap_or(self.audited);
        let why = left.iter().map(|one| open::why(one, (audited, recipe, lock), &refused, &offers)).collect();
        let also = also.into_iter().map(|one| one.judged(&offers)).collect();
        Ok(Outcome { before: self.audited, found, after, left, why, also, unknown })
    }

    /// Moves packages in image.lock and writes it; those that would mend nothing are held.
    fn write(&self, mut groups: Vec<Vec<String>>, found: &[Finding]) -> Result<Written, Exit> {
        let Some(recipe) = self.audited.recipe.as_ref() else { return Err(Exit::Input) };
        let setup = Setup::open(self.arguments)?;
        let _held = setup.share()?;
        let reporter = Reporter::new(self.arguments);
        let shared = setup.shared(false, None, std::slice::from_ref(recipe))?;
        let report = reporter.of(Some(&recipe.model.image.name));
        let namespace = namespace_for(&setup.namespace, recipe);
        let options = Options { places: self.own.places.places(), ..Options::default() };
        let builder = Builder::new(recipe, (&setup.store, &namespace), options, &report, &shared);
        let failed = |error: StageError| {
            reporter.end();
            let exit = Exit::from(&error);
            if !error.is_told() {
                render::say(&format!("{}: {}", recipe.model.image.name, render::error(error)));
            }
            exit
        };
        for round in 1.. {
            let proposal = build::propose(&builder, &groups).map_err(failed)?;
            // The suites' own digests are no news.
            if mend::moves(&proposal.earlier, &proposal.lock).is_empty() {
                reporter.end();
                return Ok((None, proposal.refused));
            }
            let (_, left, _) = self.audit(&proposal.lock)?;
            let useless = mend::useless((&proposal.earlier, &proposal.lock), &groups, found, &left);
            if useless.is_empty() || round == ROUNDS {
                if useless.len() == mend::names(&groups).len() {
                    reporter.end();
                    return Ok((None, proposal.refused));
                }
                let lock = build::adopt(&builder, &proposal.earlier, proposal.lock).map_err(failed)?;
                reporter.end();
                return Ok((Some((proposal.earlier, lock)), proposal.refused));
            }
            groups = mend::without(groups, &useless);
            if groups.is_empty() {
                reporter.end();
                return Ok((None, proposal.refused));
            }
        }
        Ok((None, Vec::new()))
    }

    /// The image by another lock, what is found in it of what is asked for, and what could not be compared.
    fn audit(&self, lock: &Lock) -> Result<(Audited, Vec<Finding>, Vec<String>), Exit> {
        let Some(recipe) = self.audited.recipe.clone() else { return Err(Exit::Input) };
        let mut one = subjects::of_recipe(recipe, lock, store_if_there(self.arguments).as_ref())?;
        // No lock moves them.
        one.add_files(self.audited.files.clone());
        let all = std::slice::from_ref(&one);
        let own;
        // Packages that are new need what was read about them.
        let comparison = match self.comparison.database.is_about(&one.subject.components) {
            true => self.comparison,
            false => {
                own = Comparison::of(self.arguments, self.sources, all)?;
                &own
            }
        };
        let (report, unknown, _) = comparison.report(all);
        let left = report.findings.into_iter().filter(|finding| self.asked.means(finding)).collect();
        Ok((one, left, unknown))
    }
}
