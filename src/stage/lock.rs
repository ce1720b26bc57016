//! The act of locking: what the recipe asks for, whether the lock answers it, and asking the distribution.

use std::path::Path;

use super::drivers::TOOLS_DRIVER;
use super::kernel_dir;
use super::report::{Report, ReportedNews};
use super::supply::Supply;
use super::tools::{ensure_tools, tools_action};
use super::wish::{Wish, is_root, target, wishes};
use super::{StageError, accounts};
use crate::digest::Sha256;
use crate::distro::{DistroError, Fetcher, Gathering, PackageManager, Pass, Places, Solving, manager};
use crate::plan::{Cause, Place, Reason};
use crate::recipe::{Lock, LockedPass, PinnedPackage, Recipe};
use crate::sandbox::Namespace;
use crate::source::{Finding, Severity};
use crate::store::Store;

/// Whether a lock answers a recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockState {
    /// It does.
    Fresh,
    /// It does not, and why.
    Stale(Vec<Cause>),
    /// It would, but package files of otherpkgs are not those that it was made from.
    FilesChanged(Vec<Cause>),
}

/// Digest of the names and contents of all package files below a directory.
fn local_digest(manager: &dyn PackageManager, directory: &Path) -> Option<Sha256> {
    let mut text = String::new();
    for path in manager.package_files(directory).ok()? {
        let name = path.strip_prefix(directory).ok()?.display().to_string();
        // What cannot be read is told when it is used.
        let content = crate::witness::sha256(&path).map_or_else(|error| error.to_string(), |digest| digest.to_string());
        text.push_str(&format!("{name}\t{content}\n"));
    }
    Some(Sha256::of(text.as_bytes()))
}

/// Compares a lock with what the recipe asks for.
pub fn lock_state(recipe: &Recipe, lock: Option<&Lock>) -> LockState {
    let Some(lock) = lock else {
        let reason = Reason::NotLocked { what: "the recipe's packages are".to_owned() };
        return LockState::Stale(vec![reason.cause(None)]);
    };
    let mut causes = Vec::new();
    if lock.target != target(recipe) {
        causes.push(
            Reason::Changed { what: "parameter target".to_owned(), was: lock.target.clone(), now: target(recipe) }
                .cause(None),
        );
    }
    let wishes = wishes(recipe);
    for wish in &wishes {
        let Some(locked) = lock.pass(&wish.name) else {
            let first = wish.pass.install.first().and_then(|name| wish.spans.get(name)).map(Place::from);
            causes.push(Reason::NotLocked { what: format!("transaction {} is", wish.name) }.cause(first.as_ref()));
            continue;
        };
        for (now, was) in [
            (&wish.pass.install, &locked.install),
            (&wish.pass.remove, &locked.remove),
            (&wish.pass.remove_after, &locked.remove_after),
        ] {
            for name in now.iter().filter(|name| !was.contains(name)) {
                let place = wish.spans.get(name).map(Place::from);
                causes.push(Reason::NotLocked { what: format!("`{name}` is") }.cause(place.as_ref()));
            }
            for name in was.iter().filter(|name| !now.contains(name)) {
                causes.push(Reason::Removed { what: format!("request {name}"), was: wish.name.clone() }.cause(None));
            }
            if now != was && causes.is_empty() {
                causes.push(Reason::Reordered.cause(None));
            }
        }
    }
    for locked in lock.pass.iter().filter(|locked| !wishes.iter().any(|wish| wish.name == locked.name)) {
        causes.push(Reason::Removed { what: format!("transaction {}", locked.name), was: String::new() }.cause(None));
    }
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

/// Which locked packages may change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Renew {
    /// None, but for what the recipe's changes make necessary.
    #[default]
    Nothing,
    /// All.
    Everything,
    /// Those with these names.
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

/// Locked package files that are gone or have other content; the directory itself where only others changed.
fn changed_files(recipe: &Recipe, lock: &Lock, now: Option<Sha256>) -> Vec<Cause> {
    let place = recipe.spans.nearest("otherpkgs.dir").map(Place::from);
    let table = recipe.model.otherpkgs.as_ref().map_or("otherpkgs", |table| table.dir.as_str());
    let Some(directory) = &recipe.otherpkgs_directory else {
        let was = lock.otherpkgs.map(|digest| digest.to_string()).unwrap_or_default();
        return vec![Reason::Removed { what: "[otherpkgs] dir".to_owned(), was }.cause(None)];
    };
    let mut causes = Vec::new();
    for package in lock.pass.iter().flat_map(|pass| &pass.packages) {
        let Some(folder) = local_folder(package) else { continue };
        let file = Path::new(folder).join(&package.file);
        let what = format!("file {}", Path::new(table).join(&file).display());
        let was = package.sha256.to_string();
        match crate::witness::sha256(&directory.join(&file)) {
            Err(_) => causes.push(Reason::Removed { what, was }.cause(place.as_ref())),
            Ok(found) if found != package.sha256 => {
                // A file's value starts with its mode, which counts for nothing here.
                let (was, now) = (format!("- {was}"), format!("- {found}"));
                causes.push(Reason::Changed { what, was, now }.cause(place.as_ref()));
            }
            Ok(_) => {}
        }
    }
    if causes.is_empty() {
        let shown = |digest: Option<Sha256>| format!("- {}", digest.map(|one| one.to_string()).unwrap_or_default());
        let (was, now) = (shown(lock.otherpkgs), shown(now));
        causes.push(Reason::Changed { what: format!("file {table}"), was, now }.cause(place.as_ref()));
    }
    causes
}

/// The folder below otherpkgs that a package comes from; none for the distribution's. `.` is otherpkgs itself.
pub fn local_folder(package: &PinnedPackage) -> Option<&str> {
    package.origin.strip_prefix("otherpkgs/").map(|folder| if folder == "." { "" } else { folder })
}

/// Everything that resolving needs.
pub struct Locking<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// The store.
    pub store: &'a Store,
    /// Where the package manager runs.
    pub namespace: &'a Namespace,
    /// Downloads.
    pub fetcher: &'a Fetcher,
    /// Packages.
    pub supply: &'a Supply<'a>,
    /// Where packages come from.
    pub places: &'a Places,
    /// Takes news.
    pub report: &'a dyn Report,
}

impl Locking<'_> {
    /// Resolves all transactions of the recipe; packages that an earlier lock pins keep their versions, but for those
    /// that are to be renewed. The epoch and the accounts stay.
    ///
    /// # Errors
    /// [`StageError`] from the archive, the solver, or the tools root in which it runs.
    pub fn resolve(&self, earlier: Option<&Lock>, renew: &Renew) -> Result<Lock, StageError> {
        self.supply.set_resolving(true);
        let outcome = self.resolve_all(earlier, renew);
        self.supply.set_resolving(false);
        outcome
    }

    fn resolve_all(&self, earlier: Option<&Lock>, renew: &Renew) -> Result<Lock, StageError> {
        self.report.started("rootfs/lock", &[]);
        let began = std::time::Instant::now();
        let manager = manager(self.recipe);
        let (recipe, places, fetcher, store) = (self.recipe, self.places, self.fetcher, self.store);
        let news = &ReportedNews(self.report);
        let archive = manager.archive(&Gathering { recipe, places, fetcher, store, news })?;
        let epoch = match earlier {
            Some(lock) => lock.epoch,
            None => jiff::Timestamp::now().as_second(),
        };
        let wishes = wishes(self.recipe);
        let mut passes = Vec::new();
        for wish in wishes.iter().filter(|wish| is_root(&wish.name)) {
            let held = earlier.and_then(|lock| lock.pass(&wish.name));
            let held: Vec<PinnedPackage> =
                held.into_iter().flat_map(|pass| pass.packages.clone()).filter(|package| !renew.may(package)).collect();
            let packages = archive.tools(&wish.pass.install, &held)?;
            // Before any program of them runs.
            archive.check_signatures(store, &|packages| self.supply.download(packages), &packages)?;
            passes.push(LockedPass {
                name: wish.name.clone(),
                install: wish.pass.install.clone(),
                packages,
                ..LockedPass::default()
            });
        }
        // The last of the roots: the solver's, where it has one of its own.
        let last = passes.last().map(|pass: &LockedPass| (pass.name.clone(), pass.packages.clone()));
        let (name, tools) = last.unwrap_or_default();
        let action = tools_action(manager, &name, &tools, &target(self.recipe));
        let work = (self.store, self.namespace);
        let layer = ensure_tools(manager, work, &action, &tools, self.supply, self.report)?;
        self.report.progress("resolving packages");
        let solving = Solving {
            store: self.store,
            namespace: self.namespace,
            tools: vec![layer],
            epoch,
            log: format!("logs/{}-resolve", std::process::id()),
            have: &|packages| self.supply.download(packages),
        };
        let asked: Vec<&Wish> =
            wishes.iter().filter(|wish| !is_root(&wish.name) && wish.name != TOOLS_DRIVER).collect();
        let mut to_resolve: Vec<Pass> = asked.iter().map(|wish| wish.pass.clone()).collect();
        let kernels = archive.of_origin(kernel_dir::ORIGIN)?;
        if let (None, Some(version), Some(kernel)) = (
            &self.recipe.model.kernel.dir,
            &self.recipe.model.kernel.version,
            to_resolve.iter_mut().zip(&asked).find(|(_, wish)| wish.name == "kernel").map(|(pass, _)| pass),
        ) && let Some(word) = kernel.install.first_mut()
        {
            // A repository may have several kernels of one name.
            let all = archive.all(word)?;
            if let Some(one) = all.iter().find(|one| manager.kernel_release(one).as_ref() == Some(version)) {
                *word = manager.exactly(one);
            }
        }
        if let (Some(dir), Some(kernel)) =
            (&self.recipe.model.kernel.dir, asked.iter().position(|wish| wish.name == "kernel"))
            && let Some(word) = to_resolve[kernel].install.first_mut()
        {
            *word = kernel_dir::choose(self.recipe, dir, &kernels)?;
        }
        let mut held: Vec<PinnedPackage> = earlier
            .into_iter()
            .flat_map(|lock| {
                lock.pass
                    .iter()
                    .filter(|pass| !is_root(&pass.name) && pass.name != TOOLS_DRIVER)
                    .flat_map(|pass| pass.packages.clone())
            })
            .filter(|package| !renew.may(package))
            // Whoever puts a newer package file beside an older one wants it installed.
            .filter(|package| local_folder(package).is_none() && kernel_dir::folder(&package.origin).is_none())
            .filter(|package| !kernels.iter().any(|kernel| kernel.name == package.name))
            .collect();
        held.extend(kernels.iter().cloned());
        let answers = archive.resolve(&solving, &to_resolve, held).map_err(|error| self.with_place(error, &asked))?;
        for (wish, answer) in asked.iter().zip(answers) {
            self.say_what_goes_with(wish, &answer.remove_with);
            passes.push(LockedPass {
                name: wish.name.clone(),
                install: wish.pass.install.clone(),
                remove: wish.pass.remove.clone(),
                remove_after: wish.pass.remove_after.clone(),
                remove_with: answer.remove_with,
                modules: answer.modules,
                packages: answer.packages,
            });
        }
        if let Some(wish) = wishes.iter().find(|wish| wish.name == TOOLS_DRIVER) {
            let earlier = earlier.and_then(|lock| lock.pass(TOOLS_DRIVER)).into_iter();
            let mut held = kernels.clone();
            held.extend(earlier.flat_map(|pass| pass.packages.clone()).filter(|package| !renew.may(package)));
            let tools = kernel_dir::driver_tools(wish, self.recipe, archive.as_ref(), &passes, held);
            let tools = tools.map_err(|error| match error {
                StageError::Distro(error) => self.with_place(error, &[wish]).into(),
                other => other,
            })?;
            archive.check_signatures(store, &|packages| self.supply.download(packages), &tools.packages)?;
            passes.push(tools);
        }
        if earlier.is_some() {
            // A lock is renewed only when all of it can be had: with a failed download the earlier one stays.
            for pass in &passes {
                self.supply.download(&pass.packages)?;
            }
        }
        self.report.finished("rootfs/lock", began.elapsed());
        let mut recorded = earlier.map(Lock::accounts).unwrap_or_default();
        for pass in passes.iter().filter(|pass| earlier.is_some_and(|lock| lock.pass(&pass.name) != Some(pass))) {
            accounts::free(&mut recorded, &pass.name);
        }
        Ok(Lock {
            format: 1,
            epoch,
            target: target(self.recipe),
            otherpkgs: self.recipe.otherpkgs_directory.as_deref().and_then(|one| local_digest(manager, one)),
            kernels: self.recipe.kernel_files.kernels.as_deref().and_then(|one| local_digest(manager, one)),
            suite: archive.suites(),
            pass: passes,
            users: recorded.users,
            groups: recorded.groups,
        })
    }

    /// Says what a removal takes with it.
    fn say_what_goes_with(&self, wish: &Wish, names: &[String]) {
        let first = wish.pass.remove.iter().chain(&wish.pass.remove_after).find_map(|name| wish.spans.get(name));
        if let (Some(span), false) = (first, names.is_empty()) {
            let text = format!("removing it takes with it what needs it: {}", names.join(", "));
            let finding = Finding::warning("pkglist::removed_with", span, text).label("asked for here");
            self.report.finding(&finding.help("leave the line out to keep them; image.lock lists them (remove_with)"));
        }
    }

    /// Says in which list an unknown name stands.
    fn with_place(&self, error: DistroError, wishes: &[&Wish]) -> DistroError {
        let DistroError::UnknownPackages { packages, names, help } = error else { return error };
        for name in &packages {
            if let Some(span) = wishes.iter().find_map(|wish| wish.spans.get(name)) {
                self.report.finding(
                    &Finding::error("distro::unknown_package", span, format!("no repository has `{name}`"))
                        .label("asked for here"),
                );
            }
        }
        debug_assert!(Severity::Error > Severity::Warning);
        DistroError::UnknownPackages { packages, names, help }
    }
}
