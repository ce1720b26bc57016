//! A container image as the base: what its key is made of, how it becomes a layer, and what it has installed.

pub(crate) mod bring;

use std::collections::BTreeSet;

use super::super::reader::is_firmware;
use super::accounts;
use super::inputs::lowest;
use super::run::with_accounts;
use super::tools::Before;
use crate::StageError;
use crate::actions::packages::requests::{PackageRequest, target};
use crate::actions::reader::work::{self, Above, Desk, Place};
use crate::bench::Bench;
use crate::bench::keyed::{Key, Keyed};
use crate::bench::report::{Report, refuse};
use crate::bench::results::missing;
use base::digest::Digest;
use base::source::{Finding, Severity};
use packages::{
    ContainerBase, ContainerLayer, ContainerMade, ContainerPackage, ContainerPackages, ContainerRequest,
    PackageManager, PackageSources, PackagesRequest, Resolution, manager,
};
use plan::{Action, ActionKind, Input, Origin};
use recipe::{Accounts, BasePackage, Distro, LockedBase, LockedLayer, PassRole, Recipe, is_meant, release_named};
use sandbox::Namespace;
use store::{Outputs, Store};

pub(crate) const FIELD: &str = "image.from";

/// The container image that a recipe begins with.
#[derive(Debug)]
pub struct Image {
    manager: Keyed<&'static dyn PackageManager>,
    distro: Keyed<Distro>,
    release: Keyed<String>,
    epoch: Keyed<i64>,
    layers: Keyed<Vec<LockedLayer>>,
}

/// The action that makes a container image the lowest layer. Without a lock nothing of it is known.
pub(crate) fn describe(
    (manager, distro, release): (&'static dyn PackageManager, Distro, &str),
    base: Option<&LockedBase>,
    epoch: i64,
    platform: &str,
) -> (Action, Image) {
    let mut key = Key::default();
    let platform = key.keep(platform.to_owned(), |platform| Input::parameter("platform", platform));
    let epoch = key.keep(epoch, |epoch| Input::parameter("epoch", epoch));
    let manifest = base.map_or_else(|| "?".to_owned(), |base| base.manifest.sha256.to_string());
    key.also(Input::new("container manifest", manifest).of(Origin::Lock));
    let layers = base.map(|base| base.layers.clone()).unwrap_or_default();
    let layers = key.keep_all(layers, |layers| {
        let input = |(index, layer): (usize, &LockedLayer)| {
            let value = format!("{} {}", layer.sha256, layer.diff);
            Input::new(format!("container layer {}", index + 1), value).of(Origin::Lock)
        };
        layers.iter().enumerate().map(input).collect()
    });
    let (distro, release) = (platform.follows(distro), platform.follows(release.to_owned()));
    let described = Image { manager: platform.follows(manager), distro, release, epoch, layers };
    (lowest(PassRole::BASE, ActionKind::Container, manager.container().version, key), described)
}

/// What a recipe says of it, besides the platform.
pub(crate) fn of_recipe(recipe: &Recipe) -> (&'static dyn PackageManager, Distro, &str) {
    (manager(recipe), recipe.model.image.distro, &recipe.model.image.release)
}

impl work::Work for Image {
    type Request = ContainerRequest;
    type Answer = ContainerMade;

    fn operation(&self) -> &'static str {
        self.manager.container().make
    }

    fn before(&self, bench: &Bench<'_>, above: &Above<'_>) -> Result<(), StageError> {
        let (recipe, store, namespace, report) = (bench.recipe, bench.store, bench.namespace, bench.report);
        bring::bring(&Work { recipe, store, namespace, places: above.supply().places(), report }, &self.layers)
    }

    fn request(&self, above: &Above<'_>, place: &Place) -> Result<ContainerRequest, StageError> {
        let layer = |layer: &LockedLayer| -> Result<ContainerLayer, StageError> {
            above.store.check_package(&layer.sha256)?;
            Ok(ContainerLayer { file: Store::package_name(&layer.sha256), diff: layer.diff })
        };
        Ok(ContainerRequest {
            scratch: place.scratch.clone(),
            layers: self.layers.iter().map(layer).collect::<Result<_, _>>()?,
            distro: *self.distro,
            release: self.release.clone(),
            number: release_number(*self.distro, &self.release),
            epoch: *self.epoch,
        })
    }

    fn finish(&self, desk: &Desk<'_>, answer: ContainerMade) -> Result<Outputs, StageError> {
        let (report, recipe) = (desk.bench.report, desk.bench.recipe);
        match answer {
            ContainerMade::Layer(answer, accounts, notes) => {
                for text in notes {
                    report.finding(&Finding::nowhere(Severity::Warning, "container::image", text));
                }
                Ok(with_accounts(&answer, &accounts))
            }
            ContainerMade::Refused(problem, help) => Err(refuse(report, recipe, FIELD, problem, help)),
        }
    }
}

/// What finding and bringing a container image takes.
pub(crate) struct Work<'a> {
    pub recipe: &'a Recipe,
    pub store: &'a Store,
    pub namespace: &'a Namespace,
    pub places: &'a PackageSources,
    pub report: &'a dyn Report,
}

impl Work<'_> {
    fn refused(&self, problem: String, help: impl Into<String>) -> StageError {
        refuse(self.report, self.recipe, FIELD, problem, help.into())
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

/// The number of a release, where its archive knows it by a name.
fn release_number(distro: Distro, release: &str) -> Option<String> {
    // Numbers of all releases so far are below these.
    let numbers = (1..60).flat_map(|major| [format!("{major}"), format!("{major}.04"), format!("{major}.10")]);
    let mut of_release = numbers.filter(|number| release_named(distro, number) == Some(release));
    of_release.next()
}

pub(crate) struct Resolved {
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
    pub(crate) fn as_base(&self) -> ContainerBase<'_> {
        ContainerBase { layer: self.layer, packages: &self.installed }
    }

    /// Which of some packages replace installed ones.
    pub(crate) fn replaced<'p>(&self, mut names: impl Iterator<Item = &'p String>) -> bool {
        names.any(|name| self.installed.contains_key(name))
    }
}

/// Finds the container image that a recipe begins with, and reads what it has installed; an earlier one stays, where that may be.
/// Errors: [`StageError`] from the registry, or for an image that cannot be a base.
pub(crate) fn resolve(
    work: &Work<'_>,
    earlier: Option<&LockedBase>,
    epoch: i64,
    before: &Before<'_>,
) -> Result<Option<Resolved>, StageError> {
    if work.recipe.model.image.from.is_none() {
        return Ok(None);
    }
    let mut base = match earlier {
        Some(earlier) => earlier.clone(),
        None => bring::find(work)?,
    };
    let (action, image) = describe(of_recipe(work.recipe), Some(&base), epoch, &target(work.recipe));
    let outputs = before.ensure(&action, &image)?;
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
    pub(crate) fn check_removed(
        &self,
        resolved: &Resolved,
        request: &PackageRequest,
        answer: &Resolution,
    ) -> Result<(), StageError> {
        let asked = || request.pass.remove.iter().chain(&request.pass.remove_after);
        let is_asked = |name: &String| asked().any(|one| is_meant(one, name));
        let of_base = |name: &&String| resolved.installed.contains_key(*name) && !is_asked(name);
        let all: BTreeSet<&String> = answer.removed.iter().chain(&answer.remove_with).filter(of_base).collect();
        let is_essential = |name: &&str| resolved.installed.get(*name).is_some_and(|one| one.essential);
        let essential: Vec<&str> = all.iter().map(|name| name.as_str()).filter(is_essential).collect();
        // What goes with those that are to be removed is said where that is asked for.
        let names = all.iter().filter(|name| !answer.remove_with.contains(name));
        let names: Vec<&str> = names.map(|name| name.as_str()).collect();
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
    use crate::bench::results::Done;
    use base::digest::Sha256;
    use packages::apt::Apt;
    use plan::key_and_trace;
    use recipe::LockedDocument;

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
        let of_recipe = (&Apt as &dyn PackageManager, Distro::Debian, "y");
        let key = |base: Option<&LockedBase>| {
            key_and_trace(&describe(of_recipe, base, 1, "debian y z").0, &Done::default()).0
        };
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
