//! Packages on their way from the mirror to the package manager: downloaded, checked, made ready, ahead of need.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::StageError;
use super::places::download_packages;
use super::report::{Report, ReportedNews};
use crate::digest::Sha256;
use crate::distro::{DistroError, Fetcher, Gathering, PackageManager, Places, manager, ready_name};
use crate::recipe::{PinnedPackage, Recipe};
use crate::sandbox::Namespace;
use crate::store::{Scratch, Store};

fn this_thread() -> String {
    format!("{:?}", std::thread::current().id())
}

/// Where packages come from and where they go.
pub struct Supply<'a> {
    store: &'a Store,
    namespace: &'a Namespace,
    fetcher: &'a Fetcher,
    report: &'a dyn Report,
    manager: &'static dyn PackageManager,
    /// Roots of archives by origin; finding them may need the network.
    roots: OnceLock<BTreeMap<String, Vec<String>>>,
    recipe: &'a Recipe,
    places: &'a Places,
    scratch: Scratch,
    state: Mutex<State>,
    changed: Condvar,
    stopped: AtomicBool,
    /// Whether packages come from indices that were just read, and not from the lock.
    resolving: AtomicBool,
    /// What was fetched: bytes, and how long it took in milliseconds.
    fetched: (AtomicU64, AtomicU64),
    /// How long each thread waited for packages since it was last asked.
    waited: Mutex<BTreeMap<String, Duration>>,
}

#[derive(Default)]
struct State {
    /// Somebody sees to these.
    claimed: BTreeSet<Sha256>,
    /// These are there.
    ready: BTreeSet<Sha256>,
    /// Whether something did not come, and the reason until somebody took it.
    failed: bool,
    failure: Option<StageError>,
}

impl<'a> Supply<'a> {
    /// Prepares; nothing is fetched yet.
    ///
    /// # Errors
    /// [`StageError`] for sources that cannot be used, or a store that cannot be written.
    pub fn new(
        recipe: &'a Recipe,
        places: &'a Places,
        (store, namespace): (&'a Store, &'a Namespace),
        fetcher: &'a Fetcher,
        report: &'a dyn Report,
    ) -> Result<Self, StageError> {
        let scratch = store.scratch()?;
        let (state, changed, stopped) = (Mutex::default(), Condvar::new(), AtomicBool::new(false));
        let resolving = AtomicBool::new(false);
        let (manager, roots) = (manager(recipe), OnceLock::new());
        Ok(Self {
            store,
            namespace,
            fetcher,
            report,
            manager,
            roots,
            recipe,
            places,
            scratch,
            state,
            changed,
            stopped,
            resolving,
            fetched: Default::default(),
            waited: Mutex::default(),
        })
    }

    /// Directory of the plain packages, relative to the store's.
    pub fn directory(&self) -> &str {
        &self.scratch.name
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn urls_of(&self, origin: &str) -> Vec<String> {
        if let (Some(folder), Some(directory)) = (super::kernel_dir::folder(origin), &self.recipe.kernel_files.kernels)
        {
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
                roots.get(origin).cloned().unwrap_or_default()
            }
        }
    }

    /// Those that nobody sees to yet; from now on the caller does.
    fn claim(&self, packages: &[PinnedPackage]) -> Vec<PinnedPackage> {
        let mut state = self.state();
        packages.iter().filter(|package| state.claimed.insert(package.sha256)).cloned().collect()
    }

    fn fail(&self, error: StageError) {
        let mut state = self.state();
        state.failed = true;
        state.failure.get_or_insert(error);
        self.changed.notify_all();
    }

    /// Downloads packages that the store lacks.
    ///
    /// # Errors
    /// [`DistroError`] when one cannot be had.
    pub fn download(&self, packages: &[PinnedPackage]) -> Result<(), DistroError> {
        // Of a package that is locked and gone more can be said than that it is not there.
        let told = |error: DistroError| match error {
            DistroError::NotThere { file, place, answer } if !self.resolving.load(Ordering::Relaxed) => {
                match packages.iter().find(|package| package.file.rsplit('/').next() == Some(file.as_str())) {
                    Some(package) => DistroError::LeftMirror {
                        package: package.name.clone(),
                        version: package.version.clone(),
                        from: format!("`{}`, but {place} ({answer})", package.origin),
                    },
                    None => DistroError::NotThere { file, place, answer },
                }
            }
            other => other,
        };
        let urls = |origin: &str| self.urls_of(origin);
        let lacking = packages.iter().filter(|package| !self.store.package(&package.sha256).is_file());
        let bytes: u64 = lacking.filter(|package| super::estimate::is_fetched(package)).map(|one| one.size).sum();
        let began = Instant::now();
        download_packages(self.fetcher, self.store, packages, &urls, self.report).map_err(told)?;
        if bytes > 0 {
            self.fetched.0.fetch_add(bytes, Ordering::Relaxed);
            self.fetched.1.fetch_add(began.elapsed().as_millis() as u64, Ordering::Relaxed);
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
            self.state().ready.insert(digest);
            self.changed.notify_all();
        })?;
        Ok(())
    }

    /// Brings packages group by group; each group is made plain while the next one is downloaded. What goes wrong is
    /// told to whoever waits for a package.
    pub fn bring(&self, groups: &[Vec<PinnedPackage>]) {
        std::thread::scope(|scope| {
            for group in groups {
                if self.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let mine = self.claim(group);
                if mine.is_empty() {
                    continue;
                }
                if let Err(error) = self.download(&mine) {
                    return self.fail(error.into());
                }
                scope.spawn(move || {
                    if let Err(error) = self.make_ready(&mine) {
                        self.fail(error);
                    }
                });
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

    /// Waits until packages are there, and brings those that nobody sees to.
    ///
    /// # Errors
    /// [`StageError`] when one of them cannot be had.
    pub fn have(&self, packages: &[PinnedPackage]) -> Result<(), StageError> {
        let began = Instant::now();
        let outcome = self.wait_for(packages);
        let mut waited = self.waited.lock().unwrap_or_else(PoisonError::into_inner);
        *waited.entry(this_thread()).or_default() += began.elapsed();
        outcome
    }

    fn wait_for(&self, packages: &[PinnedPackage]) -> Result<(), StageError> {
        let mine = self.claim(packages);
        if !mine.is_empty() {
            let outcome = self.download(&mine).map_err(StageError::from).and_then(|()| self.make_ready(&mine));
            if let Err(error) = outcome {
                self.fail(StageError::Stopped);
                return Err(error);
            }
        }
        let mut state = self.state();
        while !packages.iter().all(|package| state.ready.contains(&package.sha256)) {
            if state.failed {
                return Err(state.failure.take().unwrap_or(StageError::Stopped));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
}

impl Drop for Supply<'_> {
    fn drop(&mut self) {
        // Plain files in one directory, made by root inside, whose host id is ours or whom we may act for.
        let directory = self.store.directory().join(self.directory());
        for digest in &self.state.get_mut().unwrap_or_else(PoisonError::into_inner).claimed {
            let _ = std::fs::remove_file(self.store.directory().join(ready_name(&self.scratch.name, digest)));
        }
        let _ = std::fs::remove_dir(directory);
    }
}
