//! Tools roots: made of the distribution's own packages, known by what they are made of (D9).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::digest::{Digest, FieldHasher};
use crate::distro::{Bootstrap, PackageManager};
use crate::plan::{Action, ActionKind, Input, Stage, key_and_trace};
use crate::recipe::{PassRole, PinnedPackage};
use crate::sandbox::Namespace;
use crate::sandbox::emulator::HostCpu;
use crate::stage::StageError;
use crate::stage::bench::ids;
use crate::stage::bench::report::Report;
use crate::stage::bench::results::{Done, layer_outputs, missing, record};
use crate::stage::supply::Supply;
use crate::store::{FileLock, Store};

/// Identity of a tools root: what it is made of, not what came out (D9).
pub fn tools_identity(manager: &dyn PackageManager, packages: &[PinnedPackage], platform: &str) -> String {
    let mut hasher = FieldHasher::new("imgbuild tools root v2");
    let versions = manager.versions();
    for version in [versions.unpack, versions.bootstrap, versions.install] {
        hasher.text(&version.to_string());
    }
    hasher.text(platform);
    for package in packages {
        hasher.text(&package.name).text(&package.version).text(&package.sha256.to_string());
    }
    hasher.finish().to_string()
}

/// Whether programs of a tools root run on this host's CPU as they are: packages of other CPUs have none.
pub fn tools_run_here(manager: &dyn PackageManager, packages: &[PinnedPackage]) -> bool {
    tools_run_on(manager, packages, HostCpu::here().machine())
}

/// The same for a machine, named as `uname -m` does.
pub fn tools_run_on(manager: &dyn PackageManager, packages: &[PinnedPackage], machine: &str) -> bool {
    let here = manager.architecture(machine);
    packages.iter().any(|package| package.architecture == here)
}

/// No time in a tools root is later: the same for all images, so that they share it. 1 January 2020.
pub const TOOLS_EPOCH: i64 = 1_577_836_800;

pub fn tools_action(manager: &dyn PackageManager, name: &str, packages: &[PinnedPackage], platform: &str) -> Action {
    root_action(name, ActionKind::Unpack, manager.versions().unpack, packages, TOOLS_EPOCH, platform)
}

/// The action that unpacks what builds drivers: the kernel's headers, a compiler and make.
pub fn tools_driver_action(manager: &dyn PackageManager, packages: &[PinnedPackage], platform: &str) -> Action {
    root_action(PassRole::DRIVER_TOOLS, ActionKind::Unpack, manager.versions().unpack, packages, TOOLS_EPOCH, platform)
}

/// The action that makes an image's base: the essential packages, configured.
pub fn base_action(manager: &dyn PackageManager, packages: &[PinnedPackage], epoch: i64, platform: &str) -> Action {
    root_action("base", ActionKind::Bootstrap, manager.versions().bootstrap, packages, epoch, platform)
}

fn root_action(
    name: &str,
    kind: ActionKind,
    version: u32,
    packages: &[PinnedPackage],
    epoch: i64,
    platform: &str,
) -> Action {
    let mut inputs = vec![Input::parameter("platform", platform), Input::parameter("epoch", epoch)];
    inputs.extend(packages.iter().map(Input::package));
    Action {
        id: ids::layer(name),
        stage: Stage::Rootfs,
        kind,
        version,
        inputs,
        upstream: Vec::new(),
        needs: Vec::new(),
    }
}

/// An action that ran before there was a plan.
#[derive(Debug, Clone, Copy)]
pub struct Made {
    pub key: Digest,
    pub took: Duration,
}

/// The layer of a tools root, from the store where it is there: locking needs it before there is a plan; and, where it ran now, how long it took.
/// Errors: [`StageError`] when a package's script fails.
pub fn ensure_tools(
    manager: &dyn PackageManager,
    (store, namespace): (&Store, &Namespace),
    action: &Action,
    packages: &[PinnedPackage],
    supply: &Supply<'_>,
    report: &dyn Report,
) -> Result<(Digest, Option<Made>), StageError> {
    let (key, trace) = key_and_trace(action, &Done(BTreeMap::new()));
    let key = key.ok_or_else(|| missing(&action.id))?;
    let lock = FileLock::take(&store.directory().join("locks").join(key.to_string()))?;
    if let Some(known) = store.record(&key).filter(|known| store.has_outputs(&known.outputs))
        && let Some(layer) = known.outputs.layer
    {
        return Ok((layer, None));
    }
    report.progress("making the tools root");
    let began = Instant::now();
    supply.have(packages)?;
    let request = Bootstrap {
        tools: Vec::new(),
        packages,
        ready: supply.directory(),
        configure: false,
        machine: String::new(),
        failing: &[],
        epoch: TOOLS_EPOCH,
        log: format!("logs/{}-tools.log", std::process::id()),
    };
    let (answer, _) = manager.bootstrap((store, namespace), &request, &mut |text| report.progress(text))?;
    store.commit(record(key, &action.id, trace, layer_outputs(&answer), began.elapsed()))?;
    lock.remove();
    Ok((answer.layer, Some(Made { key, took: began.elapsed() })))
}
