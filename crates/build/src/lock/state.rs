//! Whether image.lock holds: what the recipe requests, and what the lock covers.

use std::path::Path;

use super::local_files::{changed_files, local_digest};
use super::repositories;
use super::stale as asked;
use crate::actions::kernel::directory as kernel_dir;
use crate::actions::kernel::drivers::headers_release;
use crate::actions::packages::requests::{PackageRequest, package_requests, target};
use packages::manager;
use plan::{Cause, Change, Origin, Place, Reason, Subject};
use recipe::{LOCK_MINOR, Lock, LockedPass, PassRole, Recipe};

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
