//! Predicts the updated lock for plans (D13).

use super::parts;
use super::state::requested;
use crate::actions::packages::requests::target;
use base::digest::Sha256;
use packages::manager;
use recipe::{Lock, LockedPass, PassRole, PinnedPackage, Recipe};

/// The version of a package that is not resolved yet.
pub(crate) const UNKNOWN: &str = "?";

/// Supposes what a renewed lock says. None where nothing of it can be known: it is for another release.
pub(crate) fn supposed(recipe: &Recipe, lock: &Lock) -> Option<Lock> {
    if lock.target != target(recipe) {
        return None;
    }
    let asked = requested(recipe);
    let whole = lock.whole();
    let mut earlier: Vec<String> = Vec::new();
    let mut passes = Vec::new();
    for wanted in asked.pass {
        let known = whole
            .pass(&wanted.name)
            .cloned()
            .unwrap_or_else(|| LockedPass { name: wanted.name.clone(), ..LockedPass::default() });
        let (parts, role) = (lock.parts(&wanted.name), wanted.role());
        let pass = supposed_pass(recipe, known, wanted, &earlier);
        earlier.extend(pass.packages.iter().map(|package| package.name.clone()));
        passes.extend(parts::as_before(pass, &parts, |item| name_of(recipe, role, item)));
    }
    Some(Lock {
        minor: asked.minor,
        pass: passes,
        base: lock.base.clone().filter(|_| {
            let pass = |lock: &Lock| lock.pass(PassRole::BASE).map(|pass| pass.install.clone());
            recipe.model.image.from.is_some() && pass(lock) == pass(&requested(recipe))
        }),
        repo: asked.repo,
        otherpkgs: asked.otherpkgs,
        kernels: asked.kernels,
        ..lock.clone()
    })
}

/// The name of a package in `folder/name=version` of otherpkgs, or in what other lists say.
fn name_of(recipe: &Recipe, role: PassRole, item: &str) -> String {
    let name = match role {
        PassRole::Otherpkgs => item.rsplit('/').next().unwrap_or(item),
        _ => item,
    };
    manager(recipe).plain_name(name).to_owned()
}

fn supposed_pass(recipe: &Recipe, known: LockedPass, wanted: LockedPass, earlier: &[String]) -> LockedPass {
    let manager = manager(recipe);
    let role = wanted.role();
    let name_of = |item: &str| name_of(recipe, role, item);
    // What a container image has is no package of a transaction.
    let is_container = role == PassRole::Base && recipe.model.image.from.is_some();
    let mut packages = if is_container { Vec::new() } else { known.packages };
    let gone = known.install.iter().filter(|item| !wanted.install.contains(item)).map(|item| name_of(item));
    let gone: Vec<String> = gone.chain(wanted.remove.clone()).collect();
    packages.retain(|package| package.automatic || !gone.contains(&package.name));
    for item in wanted.install.iter().filter(|item| !is_container && !known.install.contains(item)) {
        let name = name_of(item);
        if let Some(there) = packages.iter_mut().find(|package| package.name == name) {
            there.automatic = false;
        } else if !earlier.contains(&name) {
            packages.push(PinnedPackage {
                version: UNKNOWN.to_owned(),
                architecture: manager.architecture(recipe.model.image.arch.machine()).to_owned(),
                size: 0,
                sha256: Sha256::of(name.as_bytes()),
                origin: String::new(),
                file: String::new(),
                automatic: false,
                beside: false,
                name,
            });
        }
    }
    LockedPass {
        install: wanted.install,
        remove: wanted.remove,
        remove_after: wanted.remove_after,
        packages,
        name: known.name,
        remove_with: known.remove_with,
        conflicting: known.conflicting,
        replaced: known.replaced,
        modules: known.modules,
        asks_release: known.asks_release,
        kernel_releases: known.kernel_releases,
    }
}
