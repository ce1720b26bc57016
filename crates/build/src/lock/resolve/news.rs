//! What is said of a lock that is made: which packages go, come or give way although lists ask for something else.

use super::Locking;
use crate::StageError;
use crate::actions::packages::requests::PackageRequest;
use crate::supply::origin::local_folder;
use base::source::{Finding, Severity};
use packages::{PackageArchive, manager};
use recipe::{InImage, Lock, is_meant, takes_place};

/// So many names are shown.
const SHOWN: usize = 6;

impl Locking<'_> {
    /// Says which packages that lists ask for give way to those of a later transaction.
    pub(super) fn say_what_is_replaced(&self, asked: &[&PackageRequest], later: &PackageRequest, replaced: &[String]) {
        let before = || asked.iter().take_while(|one| one.name != later.name).filter(|one| !one.role().is_aside());
        for name in replaced {
            let manager = manager(self.recipe);
            let asks = |one: &&&PackageRequest| one.pass.install.iter().any(|item| manager.plain_name(item) == name);
            let Some(span) = before().filter(asks).find_map(|one| one.spans.get(name)) else { continue };
            let text =
                format!("{} removes `{name}`, which this line asks for: they cannot be installed together", later.name);
            let finding = Finding::warning("pkglist::replaced", span, text).label("not in the image");
            let help = format!(
                "remove the line, or what conflicts with it: {} has the packages of {} (`replaced`)",
                self.recipe.lock_name(),
                later.name
            );
            self.report.finding(&finding.help(help));
        }
    }

    /// Says which packages of otherpkgs the image has from elsewhere: of another version, or as the container image has them.
    pub(super) fn say_what_gives_way(&self, archive: &dyn PackageArchive, lock: &Lock) -> Result<(), StageError> {
        let image = lock.in_image();
        let mut shown = Vec::new();
        for own in archive.of_origin("otherpkgs")? {
            let of_it = |one: &&InImage<'_>| one.name == own.name && takes_place(one.architecture, &own.architecture);
            let there: Vec<&InImage<'_>> = image.iter().filter(of_it).collect();
            let is_own = |one: &&InImage<'_>| one.brought.is_some_and(|(_, package)| local_folder(package).is_some());
            let Some(other) = there.last().filter(|_| !there.iter().any(is_own)) else { continue };
            let from = other.brought.map_or("the container image", |(_, package)| package.origin.as_str());
            shown.push(format!("`{}` {} ({}, {} of {from})", own.name, own.version, own.origin, other.version));
        }
        if let Some(first) = shown.first() {
            let more = if shown.len() > SHOWN { format!(" and {} more", shown.len() - SHOWN) } else { String::new() };
            let text = format!(
                "packages of otherpkgs give way to others of the same name: {}{more}",
                shown.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ")
            );
            let name = first.trim_start_matches('`').split('`').next().unwrap_or_default();
            let finding = match self.recipe.spans.get("otherpkgs.dir") {
                Some(span) => Finding::warning("otherpkgs::gives_way", span, text),
                None => Finding::nowhere(Severity::Warning, "otherpkgs::gives_way", text),
            };
            self.report.finding(&finding.help(format!(
                "to install the site's, name it with its folder in a list of ‹[otherpkgs]›, as in FOLDER/{name}; otherwise remove its file"
            )));
        }
        Ok(())
    }

    /// Says which packages come although the pass removes them.
    pub(super) fn say_what_is_needed(&self, request: &PackageRequest, names: &[String]) {
        for name in names {
            let word = request.pass.remove.iter().find(|word| is_meant(word, name));
            let text = format!("`{name}` is installed although it is removed here: other packages of the pass need it");
            let finding = match word.and_then(|word| request.spans.get(word)) {
                Some(span) => Finding::warning("pkglist::needed", span, text).label("removed here"),
                None => Finding::nowhere(Severity::Warning, "pkglist::needed", text),
            };
            self.report.finding(&finding.help("remove the line, or what needs the package"));
        }
    }

    pub(super) fn say_what_goes_with(&self, package_request: &PackageRequest, names: &[String]) {
        let first = package_request
            .pass
            .remove
            .iter()
            .chain(&package_request.pass.remove_after)
            .find_map(|name| package_request.spans.get(name));
        if let (Some(span), false) = (first, names.is_empty()) {
            let text = format!("removing it also removes what needs it: {}", names.join(", "));
            let finding = Finding::warning("pkglist::removed_with", span, text).label("requested here");
            self.report.finding(
                &finding.help(format!(
                    "remove the line to keep them; {} lists them (remove_with)",
                    self.recipe.lock_name()
                )),
            );
        }
    }
}
