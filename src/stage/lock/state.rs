//! Lock state: what the recipe requests, what the lock covers, and resolving.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use super::local_files::{changed_files, local_digest, scanned_digest};
use super::parts;
use super::repositories;
use super::stale as asked;
use crate::digest::Digest;
use crate::distro::{
    DistroError, Fetcher, Gathering, PackageArchive, PackageManager, PackageSources, Pass, Resolution, Solving, manager,
};
use crate::plan::{Cause, Change, Origin, Place, Reason, Subject};
use crate::recipe::{
    InImage, LOCK_MINOR, Lock, LockedPass, LockedSuite, PassRole, PinnedPackage, Recipe, is_meant, takes_place,
};
use crate::sandbox::Namespace;
use crate::source::{Finding, Severity};
use crate::stage::StageError;
use crate::stage::actions::kernel::directory as kernel_dir;
use crate::stage::actions::kernel::drivers::headers_release;
use crate::stage::actions::packages::accounts;
use crate::stage::actions::packages::container::{self, Resolved};
use crate::stage::actions::packages::requests::{PackageRequest, package_requests, target};
use crate::stage::actions::packages::tools::{Before, tools_run_here};
use crate::stage::bench::Bench;
use crate::stage::bench::ids;
use crate::stage::bench::report::{Report, ReportedNews, refuse};
use crate::stage::supply::Supply;
use crate::stage::supply::origin::{KERNELS, local_folder};
use crate::store::Store;

/// So many names are shown.
const SHOWN: usize = 6;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockState {
    Fresh,
    Stale(Vec<Cause>),
    /// It would, but package files of otherpkgs are not those that it was made from.
    FilesChanged(Vec<Cause>),
}

/// What a recipe asks for, as a lock without packages: two recipes are compared with it where there is no lock.
pub fn requested(recipe: &Recipe) -> Lock {
    let digest = |directory: Option<&Path>| directory.and_then(|one| local_digest(manager(recipe), one));
    let pass = |package_request: PackageRequest| LockedPass {
        name: package_request.name,
        install: package_request.pass.install,
        remove: package_request.pass.remove,
        remove_after: package_request.pass.remove_after,
        ..LockedPass::default()
    };
    Lock {
        format: 1,
        minor: LOCK_MINOR,
        epoch: 0,
        target: target(recipe),
        otherpkgs: digest(recipe.otherpkgs_directory.as_deref()),
        kernels: digest(recipe.kernel_files.kernels.as_deref()),
        repo: Some(repositories::asked(recipe)),
        base: None,
        suite: Vec::new(),
        pass: package_requests(recipe).into_iter().map(pass).collect(),
        users: Vec::new(),
        groups: Vec::new(),
    }
}

pub fn lock_state(recipe: &Recipe, lock: Option<&Lock>) -> LockState {
    let Some(lock) = lock else {
        let (lock, what) = (recipe.lock_name(), "the recipe's packages are".to_owned());
        return LockState::Stale(vec![Reason::NotLocked { lock, what }.cause(None)]);
    };
    let lock = &lock.whole();
    let mut causes = Vec::new();
    let now = target(recipe);
    if lock.target != now {
        let origin = Origin::Field("image.release".to_owned());
        let changed = lock.target.split(' ').zip(now.split(' ')).position(|(was, now)| was != now);
        let field = ["image.distro", "image.release", "image.arch"][changed.unwrap_or(1).min(2)];
        let place = recipe.spans.get(field).map(Place::from);
        let lock_name = recipe.lock_name();
        let (name, place) = ("parameter target", place.as_ref());
        let subject = Subject { name, origin: &origin, place, was_place: None, lock: &lock_name };
        causes.push(subject.cause(Change::Changed(&lock.target, &now)));
    }
    if recipe.model.image.from.is_some() && lock.base.is_none() {
        let (lock, what) = (recipe.lock_name(), "the container image is".to_owned());
        causes.push(Reason::NotLocked { lock, what }.cause(recipe.spans.get("image.from").map(Place::from).as_ref()));
    }
    causes.extend(repositories::causes(recipe, lock));
    let package_requests = package_requests(recipe);
    for package_request in &package_requests {
        let Some(locked) = lock.pass(&package_request.name) else {
            causes.extend(asked::lacking_pass(package_request, recipe));
            continue;
        };
        for (now, was, dashes) in [
            (&package_request.pass.install, &locked.install, ""),
            (&package_request.pass.remove, &locked.remove, "-"),
            (&package_request.pass.remove_after, &locked.remove_after, "--"),
        ] {
            let kernel = (package_request.role() == PassRole::Kernel && dashes.is_empty())
                .then(|| asked::another_kernel(package_request, locked, recipe));
            let (names, kernel) = kernel.flatten().map_or((Vec::new(), None), |(names, cause)| (names, cause));
            let new = now.iter().filter(|name| !was.contains(name) && !names.contains(name));
            let gone = was.iter().filter(|name| !now.contains(name) && !names.contains(name));
            causes.extend(kernel);
            causes.extend(new.map(|name| asked::lacking(package_request, name, dashes, recipe)));
            causes.extend(gone.map(|name| asked::left_over(&package_request.name, name, dashes, recipe)));
            // What stays may come in another order as well.
            let both = |one: &[String], other: &[String]| -> Vec<String> {
                one.iter().filter(|name| other.contains(name)).cloned().collect()
            };
            if names.is_empty() {
                causes.extend(asked::reordered(&both(now, was), &both(was, now), package_request));
            }
        }
    }
    for locked in lock
        .pass
        .iter()
        .filter(|locked| !package_requests.iter().any(|package_request| package_request.name == locked.name))
    {
        causes.extend(asked::left_over_pass(locked, recipe));
    }
    if lock.pass(PassRole::DRIVER_TOOLS).is_some() && headers_release(recipe, lock).is_none() {
        let (lock, what) = (recipe.lock_name(), "the kernel whose headers build drivers is".to_owned());
        causes.push(Reason::NotLocked { lock, what }.cause(None));
    }
    causes.extend(kernel_dir::other_version(recipe, lock));
    let digest = |directory: &Path| local_digest(manager(recipe), directory);
    causes.extend(kernel_dir::causes(recipe, lock, recipe.kernel_files.kernels.as_deref().and_then(digest)));
    let now = recipe.otherpkgs_directory.as_deref().and_then(digest);
    let changed = if now == lock.otherpkgs { Vec::new() } else { changed_files(recipe, lock, now) };
    if causes.is_empty() && !changed.is_empty() {
        return LockState::FilesChanged(changed);
    }
    causes.extend(changed);
    if causes.is_empty() { LockState::Fresh } else { LockState::Stale(causes) }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Renew {
    /// None, but for what the recipe's changes make necessary.
    #[default]
    Nothing,
    Everything,
    Named(Vec<String>),
}

impl Renew {
    fn may(&self, package: &PinnedPackage) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Named(names) => names.contains(&package.name),
        }
    }
}

pub struct Locking<'a> {
    pub recipe: &'a Recipe,
    pub store: &'a Store,
    pub namespace: &'a Namespace,
    pub fetcher: &'a Fetcher,
    pub supply: &'a Supply<'a>,
    pub places: &'a PackageSources,
    pub report: &'a dyn Report,
    /// Takes what had to run for it: keys, and how long each took.
    pub made: &'a Mutex<BTreeMap<Digest, Duration>>,
    pub epoch: i64,
}

impl Locking<'_> {
    /// Resolves all transactions of the recipe; packages that an earlier lock pins keep their versions, but for those
    /// that are to be renewed. The epoch and the accounts stay.
    /// Errors: [`StageError`] from the archive, the solver, or the tools root in which it runs.
    pub fn resolve(&self, earlier: Option<&Lock>, renew: &Renew) -> Result<Lock, StageError> {
        self.supply.set_resolving(true);
        self.report.started(ids::LOCK, &[]);
        let outcome = match self.resolve_all(earlier, renew) {
            // A copy may just have been under way.
            Err(StageError::Distro(DistroError::Moved { .. })) => {
                self.report.progress("package files changed meanwhile: resolving again");
                self.resolve_all(earlier, renew)
            }
            other => other,
        };
        self.supply.set_resolving(false);
        outcome
    }

    fn resolve_all(&self, earlier: Option<&Lock>, renew: &Renew) -> Result<Lock, StageError> {
        let began = std::time::Instant::now();
        let manager = manager(self.recipe);
        let (recipe, places, fetcher, store) = (self.recipe, self.places, self.fetcher, self.store);
        let news = &ReportedNews(self.report);
        let epoch = earlier.map_or(self.epoch, |lock| lock.epoch);
        // What cannot be the base is said before the repositories are asked.
        let base = self.resolve_container(earlier, renew, epoch)?;
        let archive = manager.archive(&Gathering { recipe, places, fetcher, store, news })?;
        let requests = package_requests(self.recipe);
        let mut passes = self.resolve_roots(archive.as_ref(), &requests, earlier, renew)?;
        let layer = self.solver_root(manager, passes.last())?;
        self.report.progress("resolving packages");
        let solving = Solving {
            store: self.store,
            namespace: self.namespace,
            tools: vec![layer],
            epoch,
            log: format!("logs/{}-{}-resolve", std::process::id(), self.recipe.model.image.name),
            base: base.as_ref().map(Resolved::as_base),
            have: &|packages| self.supply.download(packages),
        };
        let asked: Vec<&PackageRequest> = requests
            .iter()
            .filter(|request| !request.role().is_root() && request.role() != PassRole::DriverTools)
            .collect();
        let (to_resolve, kernels) = self.with_chosen_kernel(manager, archive.as_ref(), &asked)?;
        let mut held = held_packages(earlier, renew, &kernels);
        if let Some(base) = base.as_ref().filter(|base| earlier.and_then(|lock| lock.base.as_ref()) != Some(&base.base))
        {
            // Another container image brings versions of its own: none is replaced by an earlier one.
            held.retain(|package| !base.installed.contains_key(&package.name));
        }
        let answers =
            archive.resolve(&solving, &to_resolve, held).map_err(|error| with_place(self.report, error, &asked))?;
        for (request, answer) in asked.iter().zip(answers) {
            self.say_what_goes_with(request, &answer.remove_with);
            self.say_what_is_needed(request, &answer.needed);
            let install = request.pass.install.clone();
            if let Some(base) = &base {
                self.container().check_removed(base, request, &answer)?;
            }
            // What is installed may need what replaces it to come at once.
            let names = || answer.packages.iter().map(|package| &package.name);
            let replaces = base.as_ref().is_some_and(|base| base.replaced(names()));
            let relations = archive.relations(&answer.packages, &install)?;
            let relations = relations.filter(|_| answer.removed.is_empty() && !replaces);
            let replaced = replaced(request, &answer);
            self.say_what_is_replaced(&asked, request, &replaced);
            let whole = LockedPass {
                replaced,
                name: request.name.clone(),
                install,
                remove: request.pass.remove.clone(),
                remove_after: request.pass.remove_after.clone(),
                remove_with: answer.remove_with,
                conflicting: answer.conflicting,
                modules: answer.modules,
                asks_release: false,
                kernel_releases: Vec::new(),
                packages: answer.packages,
            };
            for mut part in parts::cut(whole, relations) {
                part.kernel_releases = kernel_dir::releases(manager, archive.as_ref(), &part.packages)?;
                passes.push(part);
            }
        }
        if let Some(request) = requests.iter().find(|request| request.role() == PassRole::DriverTools) {
            passes.push(self.resolve_driver_tools(archive.as_ref(), request, (earlier, renew), (&kernels, &passes))?);
        }
        if earlier.is_some() {
            // A lock is updated only when all of it can be downloaded: otherwise the earlier one is kept.
            for pass in &passes {
                self.supply.download(&pass.packages)?;
            }
        }
        let digest = |origin: &str, directory: &Option<PathBuf>| {
            let scanned = |directory| scanned_digest(manager, directory, &archive.scanned(origin));
            directory.as_deref().map(scanned).transpose()
        };
        let otherpkgs = digest("otherpkgs", &self.recipe.otherpkgs_directory)?;
        let kernels = digest(KERNELS, &self.recipe.kernel_files.kernels)?;
        let lock = Lock { otherpkgs, kernels, ..self.locked(archive.suites(), epoch, earlier, passes) };
        let (base, accounts) = base.map(|Resolved { base, accounts, .. }| (base, accounts)).unzip();
        let lock = Lock { base, ..lock };
        self.say_what_gives_way(archive.as_ref(), &lock)?;
        self.report.finished(ids::LOCK, began.elapsed());
        let Some(accounts) = accounts else { return Ok(lock) };
        let mut recorded = lock.accounts();
        for text in accounts::follow_container(&mut recorded, &accounts) {
            let text = format!("{text}, as the container image has it: files on NFS are owned by number");
            self.report.finding(&Finding::nowhere(Severity::Note, "lock::id_followed", text));
        }
        Ok(Lock { users: recorded.users, groups: recorded.groups, ..lock })
    }

    /// The container image that the recipe begins with; the lock's own stays where it is asked for by the same words, unless all is to
    /// be renewed.
    fn resolve_container(
        &self,
        earlier: Option<&Lock>,
        renew: &Renew,
        epoch: i64,
    ) -> Result<Option<Resolved>, StageError> {
        let asked = self.recipe.model.image.from.as_ref();
        let is_same = |lock: &&Lock| lock.pass(PassRole::BASE).and_then(|pass| pass.install.first()) == asked;
        let kept = earlier.filter(is_same).filter(|_| *renew != Renew::Everything).and_then(|lock| lock.base.as_ref());
        container::resolve(&self.container(), kept, epoch, &self.before())
    }

    fn container(&self) -> container::Work<'_> {
        let (recipe, store, namespace) = (self.recipe, self.store, self.namespace);
        container::Work { recipe, store, namespace, places: self.places, report: self.report }
    }

    /// Resolves the packages of the tools roots, whose solver is imgbuild's own.
    fn resolve_roots(
        &self,
        archive: &dyn PackageArchive,
        requests: &[PackageRequest],
        earlier: Option<&Lock>,
        renew: &Renew,
    ) -> Result<Vec<LockedPass>, StageError> {
        let mut passes = Vec::new();
        for request in requests.iter().filter(|request| request.role().is_root()) {
            let held = earlier.and_then(|lock| lock.pass(&request.name));
            let held: Vec<PinnedPackage> =
                held.into_iter().flat_map(|pass| pass.packages.clone()).filter(|package| !renew.may(package)).collect();
            let packages = archive.tools(&request.pass.install, &held)?;
            // Before any program of them runs.
            archive.check_signatures(self.store, &|packages| self.supply.download(packages), &packages)?;
            passes.push(LockedPass {
                name: request.name.clone(),
                install: request.pass.install.clone(),
                packages,
                ..LockedPass::default()
            });
        }
        Ok(passes)
    }

    /// The layer that the release's own solver runs in: the last of the roots, which is the solver's if it has one of its own.
    fn solver_root(&self, manager: &dyn PackageManager, last: Option<&LockedPass>) -> Result<Digest, StageError> {
        let (name, tools) = last.map(|pass| (pass.name.clone(), pass.packages.clone())).unwrap_or_default();
        // Tools of the image's own CPU are emulated, too.
        if !tools_run_here(manager, &tools) {
            crate::stage::actions::packages::emulator::ensure(self.namespace, self.store, || Ok(None))?;
        }
        self.before().root(&name, tools)
    }

    fn before(&self) -> Before<'_> {
        let Self { recipe, store, namespace, report, supply, made, .. } = *self;
        Before { bench: Bench { recipe, store, namespace, report, is_locked: false }, supply, made }
    }

    /// The transactions to resolve, with the kernel that the recipe chooses by version or from a directory; and that directory's
    /// packages that go before those of other repositories.
    fn with_chosen_kernel(
        &self,
        manager: &dyn PackageManager,
        archive: &dyn PackageArchive,
        asked: &[&PackageRequest],
    ) -> Result<(Vec<Pass>, Vec<PinnedPackage>), StageError> {
        let mut passes: Vec<Pass> = asked.iter().map(|request| request.pass.clone()).collect();
        if self.recipe.model.image.from.is_some() {
            // Installed before the first of them.
            let base = asked.iter().position(|request| request.role() == PassRole::Base);
            base.into_iter().for_each(|at| passes[at].install.clear());
        }
        let kernels = archive.of_origin(crate::stage::supply::origin::KERNELS)?;
        let Some(at) = asked.iter().position(|request| request.role() == PassRole::Kernel) else {
            return Ok((passes, kernels));
        };
        let kernel = &self.recipe.model.kernel;
        if let Some(dir) = &kernel.dir {
            let chosen = kernel_dir::choose(self.recipe, dir, archive, &kernels);
            let chosen = chosen.map_err(|error| self.at_field("kernel.dir", error))?;
            passes[at].install.splice(0..1, chosen.words);
            return Ok((passes, chosen.held));
        }
        if let (Some(version), Some(word)) = (&kernel.version, passes[at].install.first_mut()) {
            // A repository may have several kernels of one name.
            let all = archive.kernel_releases(&archive.all(word)?)?;
            if let Some((_, package)) = all.iter().find(|(release, _)| release == version) {
                *word = manager.exactly(package);
            }
        }
        Ok((passes, kernels))
    }

    fn resolve_driver_tools(
        &self,
        archive: &dyn PackageArchive,
        request: &PackageRequest,
        (earlier, renew): (Option<&Lock>, &Renew),
        (kernels, passes): (&[PinnedPackage], &[LockedPass]),
    ) -> Result<LockedPass, StageError> {
        let earlier = earlier.and_then(|lock| lock.pass(PassRole::DRIVER_TOOLS)).into_iter();
        let mut held = kernels.to_vec();
        held.extend(earlier.flat_map(|pass| pass.packages.clone()).filter(|package| !renew.may(package)));
        let tools = kernel_dir::driver_tools(request, self.recipe, archive, passes, held);
        let tools = tools.map_err(|error| match error {
            StageError::Distro(error) => with_place(self.report, error, &[request]).into(),
            other => self.at_field("kernel.build", other),
        })?;
        archive.check_signatures(self.store, &|packages| self.supply.download(packages), &tools.packages)?;
        Ok(tools)
    }

    /// The lock of resolved transactions; accounts are kept, but for those of transactions that changed.
    fn locked(&self, suite: Vec<LockedSuite>, epoch: i64, earlier: Option<&Lock>, mut passes: Vec<LockedPass>) -> Lock {
        // What asked once is taken to ask again: if it does not, it depends on more than it needs, and nothing is wrong.
        for pass in &mut passes {
            pass.asks_release = earlier.and_then(|lock| lock.pass(&pass.name)).is_some_and(|was| was.asks_release);
        }
        let mut recorded = earlier.map(Lock::accounts).unwrap_or_default();
        accounts::follow(&mut recorded, &passes);
        for pass in passes.iter().filter(|pass| earlier.is_some_and(|lock| lock.pass(&pass.name) != Some(pass))) {
            accounts::free(&mut recorded, &pass.name);
        }
        Lock {
            format: 1,
            minor: LOCK_MINOR,
            epoch,
            target: target(self.recipe),
            otherpkgs: None,
            kernels: None,
            repo: Some(repositories::asked(self.recipe)),
            base: None,
            suite,
            pass: passes,
            users: recorded.users,
            groups: recorded.groups,
        }
    }

    /// A choice that the recipe has to make, reported at its field.
    fn at_field(&self, field: &str, error: StageError) -> StageError {
        match error {
            StageError::Gate { problem, help } => refuse(self.report, self.recipe, field, problem, help),
            other => other,
        }
    }

    /// Says which packages that lists ask for give way to those of a later transaction.
    fn say_what_is_replaced(&self, asked: &[&PackageRequest], later: &PackageRequest, replaced: &[String]) {
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
    fn say_what_gives_way(&self, archive: &dyn PackageArchive, lock: &Lock) -> Result<(), StageError> {
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
    fn say_what_is_needed(&self, request: &PackageRequest, names: &[String]) {
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

    fn say_what_goes_with(&self, package_request: &PackageRequest, names: &[String]) {
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

/// What goes by itself: neither asked for, nor with what is asked for, nor what comes again.
fn replaced(request: &PackageRequest, answer: &Resolution) -> Vec<String> {
    let known = [&request.pass.remove, &answer.remove_with, &answer.conflicting];
    let is_known = |name: &String| known.iter().any(|names| names.iter().any(|one| is_meant(one, name)));
    let comes = |name: &String| answer.packages.iter().any(|one| one.name == *name);
    let own = answer.removed.iter().filter(|name| !is_known(name) && !comes(name));
    own.cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

/// Packages that keep their versions: those of the earlier lock that are not to be updated, and the chosen kernels.
fn held_packages(earlier: Option<&Lock>, renew: &Renew, kernels: &[PinnedPackage]) -> Vec<PinnedPackage> {
    let passes = earlier.into_iter().flat_map(|lock| &lock.pass);
    let mut held: Vec<PinnedPackage> = passes
        .filter(|pass| !pass.role().is_root() && pass.role() != PassRole::DriverTools)
        .flat_map(|pass| pass.packages.clone())
        .filter(|package| !renew.may(package))
        // A newer package file next to an older one is there to be installed.
        .filter(|package| {
            local_folder(package).is_none() && crate::stage::supply::origin::kernel_folder(&package.origin).is_none()
        })
        .filter(|package| !kernels.iter().any(|kernel| kernel.name == package.name))
        .collect();
    held.extend(kernels.iter().cloned());
    held
}

/// Says of unknown names where they are asked for, and what they may have been meant to be. An error of which nothing is
/// left to say is marked so.
fn with_place(report: &dyn Report, error: DistroError, package_requests: &[&PackageRequest]) -> DistroError {
    let DistroError::UnknownPackages { packages, names, help, .. } = error else { return error };
    let mut is_reported = true;
    for (name, hint) in &packages {
        let Some(span) = package_requests.iter().find_map(|package_request| package_request.spans.get(name)) else {
            is_reported = false;
            continue;
        };
        let finding = Finding::error("distro::unknown_package", span, format!("no repository has `{name}`"));
        let one = hint.clone().or_else(|| packages.iter().all(|(_, hint)| hint.is_none()).then(|| help.clone()));
        report.finding(&Finding { help: one, ..finding.label("requested here") });
    }
    DistroError::UnknownPackages { packages, names, help, is_reported }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::source::{SourceFile, Span};

    #[derive(Default)]
    struct Heard(Mutex<Vec<(String, Option<String>)>>);

    impl Report for Heard {
        fn started(&self, _: &str, _: &[Cause]) {}
        fn progress(&self, _: &str) {}
        fn finished(&self, _: &str, _: Duration) {}
        fn finding(&self, finding: &Finding) {
            self.0.lock().unwrap().push((finding.message.clone(), finding.help.clone()));
        }
    }

    #[test]
    fn an_unknown_package_is_told_once_where_it_is_asked_for() {
        let file = SourceFile::new("a.pkglist", "/a.pkglist", "bahs\nxyzzy\n");
        let spans = [("bahs", 0..4), ("xyzzy", 5..10)].map(|(name, at)| (name.to_owned(), Span::new(&file, at)));
        let package_request =
            |spans| PackageRequest { name: "packages-1".into(), pass: Pass::default(), spans, variables: Vec::new() };
        let known = package_request(BTreeMap::from(spans));
        let error = |names: &[&str]| {
            let hint = |name: &str| (name == "bahs").then(|| "did you mean bash?".to_owned());
            DistroError::unknown_packages(names.iter().map(|name| ((*name).to_owned(), hint(name))).collect(), "check")
        };
        let heard = Heard::default();
        let StageError::Distro(left) = with_place(&heard, error(&["bahs", "xyzzy"]), &[&known]).into() else {
            panic!()
        };
        assert!(StageError::from(left).is_told());
        let said = |text: &str, help: Option<&str>| (text.to_owned(), help.map(str::to_owned));
        let both =
            [said("no repository has `bahs`", Some("did you mean bash?")), said("no repository has `xyzzy`", None)];
        assert_eq!(*heard.0.lock().unwrap(), both);
        // Nothing is like it: the remedy is the general one.
        let heard = Heard::default();
        with_place(&heard, error(&["xyzzy"]), &[&known]);
        assert_eq!(*heard.0.lock().unwrap(), [said("no repository has `xyzzy`", Some("check"))]);
        // What stands in no list is left to say.
        let left = with_place(&Heard::default(), error(&["bahs", "dracut"]), &[&known]);
        assert!(!StageError::from(left).is_told());
    }
}
