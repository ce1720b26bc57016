//! A container image as the base: what its key is made of, how it becomes a layer, and what it has installed.

pub mod bring;

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::super::reader::is_firmware;
use super::accounts;
use super::tools::Made;
use crate::digest::Digest;
use crate::distro::{
    ContainerBase, ContainerLayer, ContainerMade, ContainerPackage, ContainerPackages, ContainerRequest,
    PackageManager, PackageSources, PackagesRequest, Resolution, manager,
};
use crate::plan::{Action, ActionKind, Input, Origin, Stage, key_and_trace};
use crate::recipe::{Accounts, BasePackage, LockedBase, PassRole, Recipe, release_named};
use crate::sandbox::Namespace;
use crate::source::{Finding, Severity};
use crate::stage::StageError;
use crate::stage::actions::Context;
use crate::stage::actions::packages::requests::{PackageRequest, target};
use crate::stage::bench::Bench;
use crate::stage::bench::ids;
use crate::stage::bench::report::{Report, refuse};
use crate::stage::bench::results::{Done, missing, record};
use crate::store::{FileLock, Outputs, Store};

pub const FIELD: &str = "image.from";

/// The action that makes a container image the lowest layer. Without a lock nothing of it is known.
pub fn action(manager: &dyn PackageManager, base: Option<&LockedBase>, epoch: i64, platform: &str) -> Action {
    let mut inputs = vec![Input::parameter("platform", platform), Input::parameter("epoch", epoch)];
    let manifest = base.map_or_else(|| "?".to_owned(), |base| base.manifest.sha256.to_string());
    inputs.push(Input::new("container manifest", manifest).of(Origin::Lock));
    for (index, layer) in base.iter().flat_map(|base| &base.layers).enumerate() {
        let value = format!("{} {}", layer.sha256, layer.diff);
        inputs.push(Input::new(format!("container layer {}", index + 1), value).of(Origin::Lock));
    }
    Action {
        id: ids::layer(PassRole::BASE),
        stage: Stage::Rootfs,
        kind: ActionKind::Container,
        version: manager.container().version,
        inputs,
        upstream: Vec::new(),
        needs: Vec::new(),
    }
}

pub struct Work<'a> {
    pub recipe: &'a Recipe,
    pub store: &'a Store,
    pub namespace: &'a Namespace,
    pub places: &'a PackageSources,
    pub report: &'a dyn Report,
}

impl Work<'_> {
    fn make(&self, base: &LockedBase, epoch: i64) -> Result<Outputs, StageError> {
        bring::bring(self, base)?;
        for layer in &base.layers {
            self.store.check_package(&layer.sha256)?;
        }
        let image = &self.recipe.model.image;
        let number = release_number(self.recipe);
        let scratch = self.store.scratch()?;
        let request = ContainerRequest {
            scratch: scratch.name.clone(),
            layers: base
                .layers
                .iter()
                .map(|layer| ContainerLayer { file: Store::package_name(&layer.sha256), diff: layer.diff })
                .collect(),
            distro: image.distro,
            release: image.release.clone(),
            number,
            epoch,
        };
        match self
            .namespace
            .call(manager(self.recipe).container().make, &request, &mut |text| self.report.progress(text))?
        {
            ContainerMade::Layer(answer, accounts, notes) => {
                for text in notes {
                    self.report.finding(&Finding::nowhere(Severity::Warning, "container::image", text));
                }
                Ok(super::run::with_accounts(&(answer, accounts)))
            }
            ContainerMade::Refused(problem, help) => Err(self.refused(problem, help)),
        }
    }

    fn refused(&self, problem: String, help: impl Into<String>) -> StageError {
        refuse(self.report, self.recipe, FIELD, problem, help.into())
    }

    /// The layer of a container image, from the store where it is there: locking needs it before there is a plan; and, where it was
    /// made now, how long it took.
    fn ensure(&self, action: &Action, base: &LockedBase, epoch: i64) -> Result<(Outputs, Option<Made>), StageError> {
        let (key, trace) = key_and_trace(action, &Done(BTreeMap::new()));
        let key = key.ok_or_else(|| missing(&action.id))?;
        let lock = FileLock::take(&self.store.directory().join("locks").join(key.to_string()))?;
        if let Some(known) = self.store.record(&key).filter(|known| self.store.has_outputs(&known.outputs)) {
            return Ok((known.outputs, None));
        }
        let began = Instant::now();
        let outputs = self.make(base, epoch)?;
        self.store.commit(record(key, &action.id, trace, outputs.clone(), began.elapsed()))?;
        lock.remove();
        Ok((outputs, Some(Made { key, took: began.elapsed() })))
    }

    /// What a container image has installed, which the packages of the lists are resolved over.
    fn installed(&self, layer: Digest) -> Result<ContainerPackages, StageError> {
        let manager = manager(self.recipe);
        let architecture = manager.architecture(self.recipe.model.image.arch.machine()).to_owned();
        let request = PackagesRequest { layer, architecture };
        let found: Result<ContainerPackages, String> =
            self.namespace.call(manager.container().packages, &request, &mut |_| {})?;
        let found = found.map_err(|problem| {
            let help = "mend it there and push it again, or name another image";
            self.refused(format!("the container image cannot be the base: {problem}"), help)
        })?;
        let of_kernel = |name: &&String| manager.is_kernel(name) || is_firmware(name);
        let names: Vec<&str> = found.keys().filter(of_kernel).map(String::as_str).collect();
        if !names.is_empty() {
            let problem = format!("the container image has a kernel or firmware installed: {}", names.join(", "));
            let help = "remove these packages from it: kernel and firmware come from [kernel], because the initrd is made of the same packages";
            return Err(self.refused(problem, help));
        }
        Ok(found)
    }
}

/// The number of the recipe's release, where its archive knows it by a name.
fn release_number(recipe: &Recipe) -> Option<String> {
    let image = &recipe.model.image;
    // Numbers of all releases so far are below these.
    let numbers = (1..60).flat_map(|major| [format!("{major}"), format!("{major}.04"), format!("{major}.10")]);
    let mut of_release = numbers.filter(|number| release_named(image.distro, number) == Some(image.release.as_str()));
    of_release.next()
}

/// Makes a container image the lowest layer.
pub fn run(bench: &Bench<'_>, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
    let Some(base) = &context.lock.base else { return Err(missing(&action.id)) };
    let work = Work {
        recipe: bench.recipe,
        store: bench.store,
        namespace: bench.namespace,
        places: context.supply.places(),
        report: bench.report,
    };
    work.make(base, context.lock.epoch)
}

pub struct Resolved {
    pub base: LockedBase,
    /// What it was made into.
    pub layer: Digest,
    /// What it has installed.
    pub installed: ContainerPackages,
    /// Its users and groups.
    pub accounts: Accounts,
}

impl Resolved {
    /// What the first pass stands on.
    pub fn as_base(&self) -> ContainerBase<'_> {
        ContainerBase { layer: self.layer, packages: &self.installed }
    }

    /// Which of some packages replace installed ones.
    pub fn replaced<'p>(&self, mut names: impl Iterator<Item = &'p String>) -> bool {
        names.any(|name| self.installed.contains_key(name))
    }
}

/// Finds the container image that a recipe begins with, and reads what it has installed; an earlier one stays, where that may be.
/// Errors: [`StageError`] from the registry, or for an image that cannot be a base.
pub fn resolve(
    work: &Work<'_>,
    earlier: Option<&LockedBase>,
    epoch: i64,
    made: &std::sync::Mutex<BTreeMap<Digest, Duration>>,
) -> Result<Option<Resolved>, StageError> {
    if work.recipe.model.image.from.is_none() {
        return Ok(None);
    }
    let mut base = match earlier {
        Some(earlier) => earlier.clone(),
        None => bring::find(work)?,
    };
    let action = action(manager(work.recipe), Some(&base), epoch, &target(work.recipe));
    let (outputs, ran) = work.ensure(&action, &base, epoch)?;
    if let Some(ran) = ran {
        made.lock().unwrap_or_else(PoisonError::into_inner).insert(ran.key, ran.took);
    }
    let layer = outputs.layer.ok_or_else(|| missing(&action.id))?;
    let installed = work.installed(layer)?;
    let package = |(name, one): (&String, &ContainerPackage)| BasePackage {
        name: name.clone(),
        version: one.version.clone(),
        architecture: one.architecture.clone(),
    };
    base.packages = installed.iter().map(package).collect();
    Ok(Some(Resolved { base, layer, installed, accounts: accounts::of_record(&action, &outputs) }))
}

impl Work<'_> {
    /// Says which packages of a container image go, because others that are asked for cannot be beside them.
    /// Errors: [`StageError::Refused`] where no system can do without one of them.
    pub fn check_removed(
        &self,
        resolved: &Resolved,
        request: &PackageRequest,
        answer: &Resolution,
    ) -> Result<(), StageError> {
        // What goes with those that are to be removed is said where that is asked for.
        let is_asked = |name: &String| request.pass.remove.contains(name) || answer.remove_with.contains(name);
        let of_base = |name: &&String| resolved.installed.contains_key(*name) && !is_asked(name);
        let names: Vec<&str> = answer.removed.iter().filter(of_base).map(String::as_str).collect();
        let is_essential = |name: &&str| resolved.installed.get(*name).is_some_and(|one| one.essential);
        let essential: Vec<&str> = names.iter().copied().filter(is_essential).collect();
        if !essential.is_empty() {
            let problem = format!(
                "{} would remove essential packages of the container image: {}",
                request.name,
                essential.join(", ")
            );
            let help = "name repositories that have packages for this container image, or an image of the same release";
            return Err(self.refused(problem, help));
        }
        if !names.is_empty() {
            let name = &request.name;
            let text = format!(
                "{name} removes packages of the container image that conflict or are replaced: {}",
                names.join(", ")
            );
            self.report.finding(&Finding::nowhere(Severity::Warning, "container::removed", text));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha256;
    use crate::distro::apt::Apt;
    use crate::recipe::{LockedDocument, LockedLayer};

    #[test]
    fn the_key_has_the_manifest_and_each_layer() {
        let document = LockedDocument { sha256: Sha256::of(b"manifest"), size: 1 };
        let layer = |text: &[u8]| LockedLayer { sha256: Sha256::of(text), size: 1, diff: Sha256::of(b"diff") };
        let base = LockedBase {
            manifest: document,
            config: document,
            layers: vec![layer(b"1"), layer(b"2")],
            packages: vec![],
        };
        let key =
            |base: Option<&LockedBase>| key_and_trace(&action(&Apt, base, 1, "debian x y"), &Done(BTreeMap::new())).0;
        let first = key(Some(&base));
        let mut other = base.clone();
        other.layers[1] = layer(b"3");
        assert_ne!(first, key(Some(&other)));
        let mut other = base.clone();
        other.layers[0].diff = Sha256::of(b"x");
        assert_ne!(first, key(Some(&other)));
        let mut other = base.clone();
        other.manifest.sha256 = Sha256::of(b"x");
        assert_ne!(first, key(Some(&other)));
        // What it has installed follows.
        let more = BasePackage { name: "a".into(), version: "1".into(), architecture: "all".into() };
        assert_eq!(first, key(Some(&LockedBase { packages: vec![more], ..base })));
        assert_ne!(first, key(None));
    }
}
