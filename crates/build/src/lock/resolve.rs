//! Makes image.lock: the release's own solver is asked what the lists mean.

mod news;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use super::local_files::scanned_digest;
use super::parts;
use super::repositories;
use super::words::{driver_words, is_solved, note_names, with_chosen_kernel, with_place};
use crate::StageError;
use crate::actions::kernel::directory as kernel_dir;
use crate::actions::packages::accounts;
use crate::actions::packages::container::{self, Resolved};
use crate::actions::packages::requests::{PackageRequest, package_requests, target};
use crate::actions::packages::tools::{Before, tools_run_here};
use crate::bench::Bench;
use crate::bench::ids;
use crate::bench::report::{Report, ReportedNews, refuse};
use crate::supply::Supply;
use crate::supply::origin::{KERNELS, local_folder};
use base::digest::Digest;
use base::source::{Finding, Severity};
use packages::{
    DistroError, Fetcher, Gathering, PackageArchive, PackageManager, PackageSources, Resolution, Solving, manager,
};
use recipe::{LOCK_MINOR, Lock, LockedPass, LockedSuite, PassRole, PinnedPackage, Recipe, is_meant};
use sandbox::Namespace;
use store::Store;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Renew {
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

pub(crate) struct Locking<'a> {
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
    pub(crate) fn resolve(&self, earlier: Option<&Lock>, renew: &Renew) -> Result<Lock, StageError> {
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
        note_names(self.recipe, self.store, archive.as_ref());
        let requests = package_requests(self.recipe);
        let asked: Vec<&PackageRequest> = requests.iter().filter(|request| is_solved(request)).collect();
        let (to_resolve, kernels) = with_chosen_kernel(self.recipe, archive.as_ref(), &asked)
            .map_err(|error| self.at_field("kernel.dir", error))?;
        let has = |name: &str| base.as_ref().is_some_and(|base| base.installed.contains_key(name));
        // All that is misspelt at once, and before anything is downloaded for it.
        archive
            .check_passes(&[&to_resolve[..], &driver_words(&requests)].concat(), &has)
            .map_err(|error| with_place(&mut |finding| self.report.finding(finding), error, &requests))?;
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
        let mut held = held_packages(earlier, renew, &kernels);
        if let Some(base) = base.as_ref().filter(|base| earlier.and_then(|lock| lock.base.as_ref()) != Some(&base.base))
        {
            // Another container image brings versions of its own: none is replaced by an earlier one.
            held.retain(|package| !base.installed.contains_key(&package.name));
        }
        let answers = archive
            .resolve(&solving, &to_resolve, held)
            .map_err(|error| with_place(&mut |finding| self.report.finding(finding), error, &requests))?;
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
            crate::actions::packages::emulator::ensure(self.namespace, self.store, || Ok(None))?;
        }
        self.before().root(&name, tools)
    }

    fn before(&self) -> Before<'_> {
        let Self { recipe, store, namespace, report, supply, made, .. } = *self;
        Before { bench: Bench { recipe, store, namespace, report, is_locked: false }, supply, made }
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
            StageError::Distro(error) => {
                with_place(&mut |finding| self.report.finding(finding), error, std::slice::from_ref(request)).into()
            }
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
            local_folder(package).is_none() && crate::supply::origin::kernel_folder(&package.origin).is_none()
        })
        .filter(|package| !kernels.iter().any(|kernel| kernel.name == package.name))
        .collect();
    held.extend(kernels.iter().cloned());
    held
}
