//! Makes the layer, and compares the package database with the lock.

use crate::plan::Action;
use crate::recipe::HOSTNAME_BY_DHCP;
use crate::source::{Finding, Severity};
use crate::stage::actions::Context;
use crate::stage::bench::Bench;
use crate::stage::bench::results::{below, layer_outputs};
use crate::stage::bench::taken::take_text;

use crate::stage::StageError;
use crate::stage::actions::system::inside as system;
use crate::store::Outputs;

/// Makes the layer; gives what the action's record names.
pub fn run(bench: &Bench<'_>, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
    let (lock, base) = (context.lock, below(action, context.done)?);
    let mut keys = String::new();
    for (path, name) in &bench.recipe.authorized_keys {
        keys.push_str(take_text(action, name, path)?.trim_end());
        keys.push('\n');
    }
    let hash = match &bench.recipe.root_password_hash {
        Some((path, name)) => Some(take_text(action, name, path)?.trim().to_owned()),
        None => None,
    };
    let settings = &bench.recipe.model.system;
    let scratch = bench.store.scratch()?;
    let request = system::SystemRequest {
        scratch: scratch.name.clone(),
        base,
        epoch: lock.epoch,
        fstab: system::fstab(bench.recipe),
        exports: system::exports(bench.recipe),
        hostname: settings.hostname.clone().filter(|name| name != HOSTNAME_BY_DHCP),
        timezone: settings.timezone.clone(),
        locale: settings.locale.clone(),
        authorized_keys: keys,
        root_password_hash: hash,
    };
    let answer: system::SystemAnswer =
        bench.namespace.call("system", &request, &mut |text| bench.report.progress(text))?;
    // Afterwards the package database must be what the lock says (D12).
    let locked: std::collections::BTreeSet<(&str, &str, &str)> = lock
        .image_passes()
        .flat_map(|pass| &pass.packages)
        .map(|package| (package.name.as_str(), package.version.as_str(), package.architecture.as_str()))
        .chain(
            lock.base
                .iter()
                .flat_map(|base| &base.packages)
                .map(|package| (package.name.as_str(), package.version.as_str(), package.architecture.as_str())),
        )
        .collect();
    let is_locked = |(name, version, architecture): &&(String, String, String)| {
        locked.contains(&(name.as_str(), version.as_str(), architecture.as_str()))
    };
    let strange: Vec<String> = answer
        .installed
        .iter()
        .filter(|package| !is_locked(package))
        .map(|(name, version, _)| format!("{name} {version}"))
        .collect();
    if !strange.is_empty() {
        let lock = bench.recipe.lock_name();
        return Err(StageError::Gate {
            problem: format!("the image has packages that {lock} does not list: {}", strange.join(", ")),
            help: format!("delete {lock} to resolve all packages again, and report this"),
        });
    }
    for text in answer.warnings {
        bench.report.finding(&Finding::nowhere(Severity::Warning, "system::image", text));
    }
    Ok(layer_outputs(&answer.layer))
}
