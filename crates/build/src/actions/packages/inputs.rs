//! Inputs of the keys of transactions.

use std::collections::BTreeSet;

use crate::StageError;
use crate::actions::packages::requests::PackageRequest;
use crate::actions::packages::{accounts, container};
use crate::actions::reader::Reader;
use crate::actions::{Described, kernel};
use crate::bench::ids;
use crate::bench::keyed::{Key, Keyed, Said};
use packages::{Makes, PackageManager};
use plan::{Action, ActionKind, Input, Origin, Stage, Upstream};
use recipe::{Accounts, Family, InImage, LockedPass, PassRole, PinnedPackage, SAYS_BESIDE, plain_version};

/// No time in a tools root is later: the same for all images, so that they share it. 1 January 2020.
pub(crate) const TOOLS_EPOCH: i64 = 1_577_836_800;

/// Packages that are installed together.
#[derive(Debug)]
pub struct Transaction {
    /// What it is for.
    pub role: PassRole,
    pub makes: Makes,
    /// The distribution's.
    pub manager: Keyed<&'static dyn PackageManager>,
    /// As `uname -m` calls it.
    pub machine: Keyed<String>,
    pub epoch: Keyed<i64>,
    /// Where they come from is not in the key: they are known by their content.
    pub packages: Keyed<Vec<PinnedPackage>>,
    pub remove: Keyed<Vec<String>>,
    pub remove_after: Keyed<Vec<String>>,
    pub remove_with: Keyed<Vec<String>>,
    /// What goes because some of these conflict with it.
    pub conflicting: Keyed<Vec<String>>,
    /// What is installed afterwards, by the lock: name, version, architecture.
    pub installed: Said<Option<Vec<String>>>,
    /// Streams of modules.
    pub modules: Keyed<Vec<String>>,
    pub variables: Keyed<Vec<(String, String)>>,
    /// Packages whose scripts may fail.
    pub failing: Keyed<Vec<String>>,
    /// What is made first.
    pub accounts: Keyed<Accounts>,
}

impl Transaction {
    /// One that only has packages so far.
    fn new(
        key: &mut Key,
        (name, makes): (&str, Makes),
        manager: &'static dyn PackageManager,
        platform: &str,
        epoch: i64,
    ) -> Self {
        let platform = key.keep(platform.to_owned(), |platform| Input::parameter("platform", platform));
        let machine = platform.rsplit(' ').next().unwrap_or_default().to_owned();
        Self {
            role: PassRole::of(name),
            makes,
            manager: platform.follows(manager),
            machine: platform.follows(machine),
            epoch: key.keep(epoch, |epoch| Input::parameter("epoch", epoch)),
            packages: key.nothing(),
            remove: key.nothing(),
            remove_after: key.nothing(),
            remove_with: key.nothing(),
            conflicting: key.nothing(),
            installed: Said(None),
            modules: key.nothing(),
            variables: key.nothing(),
            failing: key.nothing(),
            accounts: key.nothing(),
        }
    }

    fn with_packages(mut self, key: &mut Key, packages: Vec<PinnedPackage>) -> Self {
        self.packages = key.keep_all(packages, |all| all.iter().map(Input::package).collect());
        self
    }
}

/// A root whose programs are run: its packages are only unpacked.
pub(crate) fn root(
    manager: &'static dyn PackageManager,
    name: &str,
    packages: Vec<PinnedPackage>,
    platform: &str,
) -> (Action, Transaction) {
    let mut key = Key::default();
    let transaction = Transaction::new(&mut key, (name, Makes::Root), manager, platform, TOOLS_EPOCH)
        .with_packages(&mut key, packages);
    (lowest(name, ActionKind::Unpack, manager.versions().unpack, key), transaction)
}

/// An action that stands on no layer.
pub(crate) fn lowest(name: &str, kind: ActionKind, version: u32, key: Key) -> Action {
    let (id, upstream, needs) = (ids::layer(name), Vec::new(), Vec::new());
    Action { id, stage: Stage::Rootfs, kind, version, inputs: key.inputs(), upstream, needs }
}

/// Adds the action of a transaction.
/// Errors: [`StageError::Input`] for a file that vanished since the recipe was read.
pub(crate) fn add(reader: &mut Reader<'_>, package_request: &PackageRequest) -> Result<(), StageError> {
    let packages = reader.locked(&package_request.name);
    match package_request.role() {
        PassRole::Tools | PassRole::DriverTools => {
            let (action, root) = root(reader.manager, &package_request.name, packages, &reader.platform);
            reader.describe(&action.id, Described::Transaction(root));
            reader.actions.push(action);
        }
        PassRole::SolverTools => {}
        PassRole::Base if reader.recipe.model.image.from.is_some() => {
            let (epoch, platform) = (reader.lock.epoch, &reader.platform);
            let (action, image) =
                container::describe(container::of_recipe(reader.recipe), reader.lock.base.as_ref(), epoch, platform);
            reader.layers.push(action.id.clone());
            reader.describe(&action.id, Described::Container(image));
            reader.actions.push(action);
        }
        PassRole::Base => add_base(reader, packages),
        PassRole::Kernel => {
            kernel::inputs::add(reader, &packages)?;
            add_layer(reader, package_request, packages);
        }
        PassRole::PostinstallTools
        | PassRole::RoleTools
        | PassRole::DracutTools
        | PassRole::Packages
        | PassRole::Otherpkgs => add_layer(reader, package_request, packages),
    }
    Ok(())
}

/// The image's essential packages, configured.
fn add_base(reader: &mut Reader<'_>, packages: Vec<PinnedPackage>) {
    let (manager, name) = (reader.manager, PassRole::BASE);
    let mut key = Key::default();
    let base = Transaction::new(&mut key, (name, Makes::Base), manager, &reader.platform, reader.lock.epoch);
    let mut base = base.with_packages(&mut key, packages);
    base.installed = installed(reader, name);
    let needs_tools = manager.base_needs_tools();
    if needs_tools {
        key.also(reader.tools());
        base.failing = failing(reader, &mut key, name);
    }
    let mut action = lowest(name, ActionKind::Bootstrap, manager.versions().bootstrap, key);
    action.needs.extend(needs_tools.then(|| ids::TOOLS.to_owned()));
    reader.layers.push(action.id.clone());
    reader.describe(&action.id, Described::Transaction(base));
    reader.actions.push(action);
}

/// Packages over the layers so far.
fn add_layer(reader: &mut Reader<'_>, package_request: &PackageRequest, packages: Vec<PinnedPackage>) {
    let (name, role, pass) = (&package_request.name, package_request.role(), &package_request.pass);
    if packages.is_empty() && pass.remove.is_empty() && pass.remove_after.is_empty() {
        return;
    }
    let unlocked = LockedPass::default();
    let locked = reader.lock.pass(name).unwrap_or(&unlocked);
    let span = |word: &str| package_request.spans.get(word);
    let mut key = Key::default();
    let (manager, platform) = (reader.manager, &reader.platform);
    let mut layer = Transaction::new(&mut key, (name, Makes::Layer), manager, platform, reader.lock.epoch);
    key.also(reader.tools());
    layer.variables = key.keep_all(package_request.variables.clone(), |all| {
        let input = |(name, value): &(String, String)| {
            reader.asked(Input::parameter(&format!("environment {name}"), value), span(&format!("#ENV {name}")))
        };
        all.iter().map(input).collect()
    });
    layer.failing = failing(reader, &mut key, name);
    layer.installed = installed(reader, name);
    let of_lock = |input: Input, _: &str| input.of(Origin::Lock);
    let of_list = |input: Input, name: &str| reader.asked(input, span(name));
    layer.modules = words(&mut key, "module", &locked.modules, &of_lock);
    layer.remove = words(&mut key, "remove", &pass.remove, &of_list);
    layer.remove_after = words(&mut key, "remove-after", &pass.remove_after, &of_list);
    layer.remove_with = words(&mut key, "remove-with", &locked.remove_with, &of_lock);
    layer.conflicting = words(&mut key, "conflicting", &locked.conflicting, &of_lock);
    // It follows from the packages: said, so that what an image has is known from its inputs.
    words(&mut key, "replaced", &locked.replaced, &of_lock);
    layer.packages = key.keep_all(packages, |all| {
        let input = |package: &PinnedPackage| {
            let mut input = reader.asked(Input::installed(package), span(&package.name));
            if package.automatic {
                input.value.push_str(" automatic");
            }
            input
        };
        all.iter().map(input).collect()
    });
    if !role.is_aside() {
        let is_first = reader.layers == [ids::BASE];
        let made = accounts::made_before(reader.recipe, reader.lock, name, is_first);
        layer.accounts = key.keep_all(made, |made| accounts::inputs(reader.recipe, made));
    }
    let asks_release = locked.asks_release || role == PassRole::Kernel;
    let above = role.is_aside().then(|| std::mem::replace(&mut reader.layers, vec![ids::BASE.to_owned()]));
    if role == PassRole::Kernel {
        // Its files come from the payload, which the initrd is made of too; the package manager adds the rest.
        reader.layers.push(ids::PAYLOAD.to_owned());
    }
    let version = manager.versions().install;
    reader.layer(name, ActionKind::Install, version, key.inputs(), vec![ids::TOOLS.to_owned()]);
    reader.describe(&ids::layer(name), Described::Transaction(layer));
    if let Some(action) = reader.actions.last_mut().filter(|_| asks_release) {
        action.upstream.push(Upstream { action: ids::PAYLOAD.to_owned(), output: "value release".to_owned() });
    }
    if let Some(layers) = above {
        reader.layers = layers;
    }
}

/// What is installed after a transaction, where the lock says all that decides it.
fn installed(reader: &Reader<'_>, name: &str) -> Said<Option<Vec<String>>> {
    let lock = reader.lock;
    let tells = lock.minor >= SAYS_BESIDE && lock.family() != Family::Debian;
    let Some(this) = lock.pass(name).filter(|_| tells) else { return Said(None) };
    let line = |one: InImage<'_>| format!("{} {} {}", one.name, plain_version(one.version), one.architecture);
    let below: Vec<&LockedPass> = match this.role().is_aside() {
        true => lock.pass.iter().filter(|pass| pass.role() == PassRole::Base).collect(),
        false => lock.image_passes().take_while(|pass| pass.name != name).collect(),
    };
    Said(Some(lock.after(below.into_iter().chain([this])).into_iter().map(line).collect()))
}

/// Names in an input each; `said` gives where they are from.
fn words(key: &mut Key, kind: &str, names: &[String], said: &dyn Fn(Input, &str) -> Input) -> Keyed<Vec<String>> {
    let input = |name: &String| said(Input::new(format!("{kind} {name}"), "yes"), name);
    key.keep_all(names.to_vec(), |names| names.iter().map(input).collect())
}

/// Packages whose scripts may fail. rpm runs scripts of those that come and go, and of those that wait for others (triggers).
fn failing(reader: &Reader<'_>, key: &mut Key, name: &str) -> Keyed<Vec<String>> {
    let names = &reader.recipe.model.packages.failing_scripts;
    let mut below =
        reader.lock.pass.iter().filter(|pass| pass.role().is_in_image() || pass.name == name).collect::<Vec<_>>();
    below.truncate(below.iter().position(|pass| pass.name == name).map_or(0, |at| at + 1));
    let of_base = reader.lock.base.iter().flat_map(|base| &base.packages).map(|one| &one.name);
    let of_passes = below.iter().flat_map(|pass| &pass.packages).map(|one| &one.name);
    let known: BTreeSet<&String> = of_base.chain(of_passes).collect();
    let here: Vec<(usize, &String)> = names.iter().enumerate().filter(|(_, name)| known.contains(name)).collect();
    let input = |(index, name): &(usize, &String)| {
        let input = Input::new(format!("failing script of {name}"), "allowed");
        input.item(&reader.recipe.spans, "packages.failing_scripts", *index)
    };
    key.keep_all(here.iter().map(|(_, name)| (*name).clone()).collect(), |_| here.iter().map(input).collect())
}
