//! Packages on their way from the mirror to the package manager: downloaded, checked, made ready, ahead of need.

pub(crate) mod bring;
pub(crate) mod origin;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bring::download_packages;

use crate::StageError;
use crate::bench::report::{DownloadNews, Report, ReportedNews};
use base::digest::Sha256;
use base::failure::start;
use base::source::{Finding, Severity};
use cache::{Cache, Object, Wanted, worth_of_size};
use packages::{DistroError, Fetcher, Gathering, PackageManager, PackageSources, manager};
use recipe::{PinnedPackage, Recipe};
use sandbox::Namespace;
use store::{Scratch, Store, StoreError};

fn this_thread() -> String {
    format!("{:?}", std::thread::current().id())
}

/// Where packages are made ready, for all images of one command: each is brought once.
pub struct Staging {
    store: std::path::PathBuf,
    scratch: Scratch,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Someone sees to these.
    claimed: BTreeSet<Sha256>,
    ready: BTreeSet<Sha256>,
}

impl Staging {
    /// An empty one, in a store.
    /// Errors: [`StageError::Store`] where the store cannot be written.
    pub fn new(store: &Store) -> Result<Self, StageError> {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Ok(Self { store: store.directory().to_owned(), scratch: store.scratch()?, state, changed })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the packages of one image come from and where they go.
pub struct Supply<'a> {
    store: &'a Store,
    namespace: &'a Namespace,
    fetcher: &'a Fetcher,
    report: &'a dyn Report,
    manager: &'static dyn PackageManager,
    /// Roots of archives by origin; finding them may need the network.
    roots: OnceLock<BTreeMap<String, Vec<String>>>,
    recipe: &'a Recipe,
    places: &'a PackageSources,
    staging: &'a Staging,
    cache: Option<&'a Cache>,
    /// Whether something did not come, and the reason until someone took it.
    failed: AtomicBool,
    failure: Mutex<Option<StageError>>,
    stopped: AtomicBool,
    /// Whether packages come from indices that were just read, and not from the lock.
    resolving: AtomicBool,
    /// What was fetched: bytes, and how long it took in milliseconds.
    fetched: (AtomicU64, AtomicU64),
    /// How long each thread waited for packages since it was last asked.
    waited: Mutex<BTreeMap<String, Duration>>,
}

impl<'a> Supply<'a> {
    /// Prepares; nothing is fetched yet.
    pub fn new(
        recipe: &'a Recipe,
        places: &'a PackageSources,
        (store, namespace): (&'a Store, &'a Namespace),
        fetcher: &'a Fetcher,
        report: &'a dyn Report,
        (staging, cache): (&'a Staging, Option<&'a Cache>),
    ) -> Self {
        Self {
            store,
            namespace,
            fetcher,
            report,
            manager: manager(recipe),
            roots: OnceLock::new(),
            recipe,
            places,
            staging,
            cache,
            failed: AtomicBool::new(false),
            failure: Mutex::default(),
            stopped: AtomicBool::new(false),
            resolving: AtomicBool::new(false),
            fetched: Default::default(),
            waited: Mutex::default(),
        }
    }

    pub fn places(&self) -> &PackageSources {
        self.places
    }

    /// Directory of the plain packages, relative to the store's.
    pub fn directory(&self) -> &str {
        &self.staging.scratch.name
    }

    fn urls_of(&self, origin: &str) -> Vec<String> {
        if let (Some(folder), Some(directory)) = (origin::kernel_folder(origin), &self.recipe.kernel_files.kernels) {
            return vec![format!("file:{}", directory.join(folder).display())];
        }
        match origin.strip_prefix("otherpkgs/") {
            Some(folder) => self
                .recipe
                .otherpkgs_directory
                .iter()
                .map(|path| format!("file:{}", path.join(if folder == "." { "" } else { folder }).display()))
                .collect(),
            None => {
                let (recipe, places, fetcher, store) = (self.recipe, self.places, self.fetcher, self.store);
                let news = &ReportedNews(self.report);
                // A host without sources can still build what the store has.
                let roots = self.roots.get_or_init(|| {
                    self.manager.roots(&Gathering { recipe, places, fetcher, store, news }).unwrap_or_default()
                });
                roots.get(origin).cloned().unwrap_or_else(|| self.manager.roots_of_part(roots, origin))
            }
        }
    }

    /// Those that no one sees to yet; from now on the caller does.
    fn claim(state: &mut State, packages: &[PinnedPackage]) -> Vec<PinnedPackage> {
        packages.iter().filter(|package| state.claimed.insert(package.sha256)).cloned().collect()
    }

    /// Gives up packages that did not come: another image may have a place to fetch them from.
    fn fail(&self, packages: &[PinnedPackage], error: StageError) {
        let mut state = self.staging.state();
        for package in packages.iter().filter(|package| !state.ready.contains(&package.sha256)).collect::<Vec<_>>() {
            state.claimed.remove(&package.sha256);
        }
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.failed.store(true, Ordering::Relaxed);
        self.staging.changed.notify_all();
    }

    pub fn download(&self, packages: &[PinnedPackage]) -> Result<(), DistroError> {
        // For a package that is locked but no longer served, more is known than that it is missing.
        let reported = |error: DistroError| match error {
            DistroError::NotThere { file, place, answer } if !self.resolving.load(Ordering::Relaxed) => {
                match packages.iter().find(|package| package.file.rsplit('/').next() == Some(file.as_str())) {
                    Some(package) => DistroError::LeftMirror {
                        package: package.name.clone(),
                        version: package.version.clone(),
                        from: format!("`{}`, but {place} ({answer})", package.origin),
                        lock: self.recipe.lock_name(),
                    },
                    None => DistroError::NotThere { file, place, answer },
                }
            }
            other => other,
        };
        self.take_from_caches(packages)?;
        let urls = |origin: &str| self.urls_of(origin);
        let lacking = packages.iter().filter(|package| !self.store.package(&package.sha256).is_file());
        let bytes: u64 = lacking.filter(|package| origin::is_fetched(package)).map(|one| one.size).sum();
        let began = Instant::now();
        download_packages(self.fetcher, self.store, packages, &urls, self.report, &self.recipe.lock_name())
            .map_err(reported)?;
        if bytes > 0 {
            self.fetched.0.fetch_add(bytes, Ordering::Relaxed);
            self.fetched.1.fetch_add(began.elapsed().as_millis() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes from caches what the store lacks. A mirror may be far away, or have it no more.
    fn take_from_caches(&self, packages: &[PinnedPackage]) -> Result<(), DistroError> {
        let Some(cache) = self.cache else { return Ok(()) };
        let aside = self.store.aside_directory()?.join("packages");
        let is_lacking =
            |package: &&PinnedPackage| origin::is_fetched(package) && !self.store.package(&package.sha256).is_file();
        let wanted: Vec<Wanted> = packages
            .iter()
            .filter(is_lacking)
            .map(|package| Wanted {
                object: Object { size: package.size, sha256: package.sha256 },
                destination: aside.join(package.sha256.to_string()),
                within: worth_of_size(package.size),
            })
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let say = |text| self.report.finding(&Finding::nowhere(Severity::Warning, "cache::unused", text));
        cache.bring_files(&wanted, &DownloadNews(self.report, "packages from the cache"), &say)?;
        for one in wanted.iter().filter(|one| one.destination.is_file()) {
            let to = self.store.package(&one.object.sha256);
            let moved = to.parent().map_or(Ok(()), std::fs::create_dir_all);
            moved
                .and_then(|()| std::fs::rename(&one.destination, &to))
                .map_err(|source| StoreError::io("keep the package", &to, source))?;
        }
        Ok(())
    }

    /// Bytes of packages that were fetched, and how long it took in milliseconds.
    pub fn fetched(&self) -> (u64, u64) {
        (self.fetched.0.load(Ordering::Relaxed), self.fetched.1.load(Ordering::Relaxed))
    }

    /// How long this thread waited for packages since it asked last.
    pub fn waited(&self) -> Duration {
        let mut waited = self.waited.lock().unwrap_or_else(PoisonError::into_inner);
        waited.remove(&this_thread()).unwrap_or_default()
    }

    fn make_ready(&self, packages: &[PinnedPackage]) -> Result<(), StageError> {
        self.manager.make_ready((self.store, self.namespace), self.directory(), packages, &mut |digest| {
            self.staging.state().ready.insert(digest);
            self.staging.changed.notify_all();
        })?;
        Ok(())
    }

    /// Brings packages group by group; each group is made plain while the next one is downloaded. What goes wrong is
    /// reported to anyone who waits for a package.
    pub fn bring(&self, groups: &[Vec<PinnedPackage>]) {
        std::thread::scope(|scope| {
            for group in groups {
                if self.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let mine = Self::claim(&mut self.staging.state(), group);
                if mine.is_empty() {
                    continue;
                }
                if let Err(error) = self.download(&mine) {
                    return self.fail(&mine, error.into());
                }
                let ready = mine.clone();
                let make_ready = move || {
                    if let Err(error) = self.make_ready(&ready) {
                        self.fail(&ready, error);
                    }
                };
                // Where no thread can be had, it is done before the next ones are fetched.
                if start(scope, make_ready.clone()).is_err() {
                    make_ready();
                }
            }
        });
    }

    /// Says whether packages are asked for while they are resolved.
    pub fn set_resolving(&self, resolving: bool) {
        self.resolving.store(resolving, Ordering::Relaxed);
    }

    /// Packages may be brought.
    pub fn start(&self) {
        self.stopped.store(false, Ordering::Relaxed);
    }

    /// Nothing more is fetched.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Waits until packages are there, and brings those that no one sees to.
    pub fn have(&self, packages: &[PinnedPackage]) -> Result<(), StageError> {
        let began = Instant::now();
        let outcome = self.wait_for(packages);
        let mut waited = self.waited.lock().unwrap_or_else(PoisonError::into_inner);
        *waited.entry(this_thread()).or_default() += began.elapsed();
        outcome
    }

    fn wait_for(&self, packages: &[PinnedPackage]) -> Result<(), StageError> {
        let mut state = self.staging.state();
        loop {
            if packages.iter().all(|package| state.ready.contains(&package.sha256)) {
                return Ok(());
            }
            if self.failed.load(Ordering::Relaxed) {
                let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
                return Err(failure.unwrap_or(StageError::Stopped));
            }
            let mine = Self::claim(&mut state, packages);
            if mine.is_empty() {
                state = self.staging.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            drop(state);
            let outcome = self.download(&mine).map_err(StageError::from).and_then(|()| self.make_ready(&mine));
            if let Err(error) = outcome {
                self.fail(&mine, StageError::Stopped);
                return Err(error);
            }
            state = self.staging.state();
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Plain files in one directory, made by root inside, whose host id is ours or whom we may act for; half-written ones
        // too, where making them ready failed.
        let directory = self.store.join(&self.scratch.name);
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let _ = std::fs::remove_file(entry.path());
        }
        let _ = std::fs::remove_dir(directory);
    }
}
