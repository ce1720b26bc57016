//! The words of a recipe's lists beside what archives have.

use std::collections::BTreeSet;

use super::repositories;
use crate::StageError;
use crate::actions::kernel::directory as kernel_dir;
use crate::actions::kernel::drivers::HEADERS;
use crate::actions::packages::requests::{PackageRequest, package_requests, target};
use crate::supply::origin::KERNELS;
use base::digest::{Digest, FieldHasher};
use base::source::{Finding, nearest};
use packages::{DistroError, PackageArchive, Pass, manager};
use recipe::{PassRole, PinnedPackage, Recipe, is_pattern};
use store::Store;

/// Whether the release's own solver resolves a transaction, and not imgbuild.
pub(super) fn is_solved(request: &PackageRequest) -> bool {
    !request.role().is_root() && request.role() != PassRole::DriverTools
}

/// Words of what builds drivers, but for the headers, whose name follows from the kernel.
pub(super) fn driver_words(requests: &[PackageRequest]) -> Vec<Pass> {
    let drivers = requests.iter().filter(|request| request.role() == PassRole::DriverTools);
    let words =
        |request: &PackageRequest| request.pass.install.iter().filter(|word| *word != HEADERS).cloned().collect();
    drivers.map(|request| Pass { install: words(request), ..Pass::default() }).collect()
}

/// The transactions to resolve, with the kernel that the recipe chooses by version or from a directory; and that directory's
/// packages that go before those of other repositories.
/// Errors: [`StageError::Gate`] where there is not exactly one kernel that is meant; [`StageError::Distro`] from the archive.
pub(super) fn with_chosen_kernel(
    recipe: &Recipe,
    archive: &dyn PackageArchive,
    asked: &[&PackageRequest],
) -> Result<(Vec<Pass>, Vec<PinnedPackage>), StageError> {
    let mut passes: Vec<Pass> = asked.iter().map(|request| request.pass.clone()).collect();
    if recipe.model.image.from.is_some() {
        // Installed before the first of them.
        let base = asked.iter().position(|request| request.role() == PassRole::Base);
        base.into_iter().for_each(|at| passes[at].install.clear());
    }
    let kernels = archive.of_origin(KERNELS)?;
    let Some(at) = asked.iter().position(|request| request.role() == PassRole::Kernel) else {
        return Ok((passes, kernels));
    };
    let kernel = &recipe.model.kernel;
    if let Some(dir) = &kernel.dir {
        let chosen = kernel_dir::choose(recipe, dir, archive, &kernels)?;
        passes[at].install.splice(0..1, chosen.words);
        return Ok((passes, chosen.held));
    }
    if let (Some(version), Some(word)) = (&kernel.version, passes[at].install.first_mut()) {
        // A repository may have several kernels of one name.
        let all = archive.kernel_releases(&archive.all(word)?)?;
        if let Some((_, package)) = all.iter().find(|(release, _)| release == version) {
            *word = manager(recipe).exactly(package);
        }
    }
    Ok((passes, kernels))
}

/// Says of unknown names where they are asked for, and what they may have been meant to be. An error of which nothing is
/// left to say is marked so.
pub(super) fn with_place(
    say: &mut dyn FnMut(&Finding),
    error: DistroError,
    package_requests: &[PackageRequest],
) -> DistroError {
    let DistroError::UnknownPackages { packages, names, help, .. } = error else { return error };
    let mut is_reported = true;
    for (name, hint) in &packages {
        let Some(span) = package_requests.iter().find_map(|package_request| package_request.spans.get(name)) else {
            is_reported = false;
            continue;
        };
        let finding = Finding::error("distro::unknown_package", span, format!("no repository has `{name}`"));
        let one = hint.clone().or_else(|| packages.iter().all(|(_, hint)| hint.is_none()).then(|| help.clone()));
        say(&Finding { help: one, ..finding.label("requested here") });
    }
    DistroError::UnknownPackages { packages, names, help, is_reported }
}

/// What names the names that the repositories of a recipe have.
fn names_of(recipe: &Recipe) -> Digest {
    let mut hasher = FieldHasher::new("imgbuild names of repositories v1");
    hasher.text(&target(recipe)).text(&format!("{:?}", repositories::asked(recipe)));
    hasher.finish()
}

/// Notes what the repositories have, for plans, which ask none.
pub(super) fn note_names(recipe: &Recipe, store: &Store, archive: &dyn PackageArchive) {
    let names: Vec<String> = archive.names().into_iter().collect();
    store.keep_answer(&names_of(recipe), &names.join("\n"));
}

/// Says of words of a recipe that no repository had when packages were resolved last what they may have been meant to be.
pub(crate) fn unknown_before(recipe: &Recipe, store: &Store) -> Vec<String> {
    let question = names_of(recipe);
    // A plan is another one when it is written again.
    if !witness::exists(&store.directory().join(Store::solving_name(&question))) {
        return Vec::new();
    }
    let Some(text) = store.answer(&question) else { return Vec::new() };
    let names: BTreeSet<&str> = text.lines().collect();
    let manager = manager(recipe);
    let own = [&recipe.otherpkgs_directory, &recipe.kernel_files.kernels].into_iter().flatten();
    let files: Vec<String> = own
        .flat_map(|directory| manager.package_files(directory).unwrap_or_default())
        .filter_map(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
        .collect();
    let knows = |name: &str| {
        let longer = |known: &str| name.strip_prefix(known).is_some_and(|rest| rest.starts_with(['-', '.', '=']));
        names.contains(name)
            || names.iter().any(|known| longer(known))
            || files.iter().any(|file| file.starts_with(name))
    };
    let mut notes = Vec::new();
    for request in package_requests(recipe).iter().filter(|request| is_solved(request)) {
        let container = request.role() == PassRole::Base || recipe.model.image.from.is_some();
        let is_word =
            |word: &&String| !container && !is_pattern(word) && !word.contains(['/', '@', '(', ' ', '~', '|']);
        for word in request.pass.install.iter().filter(is_word) {
            let name = manager.plain_name(word);
            let Some(span) = request.spans.get(word).filter(|_| !knows(name)) else { continue };
            let near = nearest(name, names.iter().copied());
            let near = if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(", ")) };
            let place = format!("{}:{}", span.file.name, span.line());
            notes.push(format!("{place} no repository had `{name}` when packages were last resolved{near}"));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;
    use base::source::{SourceFile, Span};

    #[test]
    fn an_unknown_package_is_told_once_where_it_is_asked_for() {
        let file = SourceFile::new("a.pkglist", "/a.pkglist", "bahs\nxyzzy\n");
        let spans = [("bahs", 0..4), ("xyzzy", 5..10)].map(|(name, at)| (name.to_owned(), Span::new(&file, at)));
        let spans = BTreeMap::from(spans);
        let known = [PackageRequest { name: "packages-1".into(), spans, ..PackageRequest::default() }];
        let error = |names: &[&str]| {
            let hint = |name: &str| (name == "bahs").then(|| "did you mean bash?".to_owned());
            DistroError::unknown_packages(names.iter().map(|name| ((*name).to_owned(), hint(name))).collect(), "check")
        };
        let heard = RefCell::new(Vec::new());
        let place = |error| {
            let mut hear = |finding: &Finding| heard.borrow_mut().push((finding.message.clone(), finding.help.clone()));
            with_place(&mut hear, error, &known)
        };
        assert!(StageError::from(place(error(&["bahs", "xyzzy"]))).is_told());
        let said = |text: &str, help: Option<&str>| (text.to_owned(), help.map(str::to_owned));
        let both =
            [said("no repository has `bahs`", Some("did you mean bash?")), said("no repository has `xyzzy`", None)];
        assert_eq!(heard.take(), both);
        // Nothing is like it: the remedy is the general one.
        place(error(&["xyzzy"]));
        assert_eq!(heard.take(), [said("no repository has `xyzzy`", Some("check"))]);
        // What stands in no list is left to say.
        assert!(!StageError::from(place(error(&["bahs", "dracut"]))).is_told());
    }
}
