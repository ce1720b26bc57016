//! Looks at what is there after the last layer that a script writes.

use crate::plan::Action;
use crate::stage::actions::Context;
use crate::stage::actions::kernel::drivers;
use crate::stage::bench::Bench;
use std::collections::BTreeMap;

use crate::recipe::ModulesFrom;
use crate::stage::bench::ids;
use crate::stage::bench::results::below;

use crate::stage::StageError;
use crate::stage::actions::gate::checks as gate;
use crate::stage::actions::gate::leftovers;
use crate::stage::actions::gate::programs::{self, ProgramsRequest};
use crate::store::Outputs;

/// Looks at the merged layers; gives what the action's record names.
pub fn run(bench: &Bench<'_>, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
    let done = context.done;
    let layers = below(action, done)?;
    let modules = bench.store.merged_folder(&layers, gate::MODULES)?;
    if bench.recipe.model.initrd.modules_from == ModulesFrom::Kernel {
        let payload = bench.store.manifest(&done.layer(ids::PAYLOAD)?)?;
        let is_late = |upstream: &crate::plan::Upstream| upstream.action == ids::POSTINSTALL;
        let of_layers = action.upstream.iter().filter(|upstream| upstream.output == "layer");
        let late = of_layers.zip(&layers).filter(|(upstream, _)| is_late(upstream));
        let mut settings = Vec::new();
        for (_, layer) in late {
            bench.store.each_entry(layer, &mut |path, entry| {
                settings.extend(gate::is_setting(&path, &entry).then_some(path));
            })?;
        }
        gate::check_modules(&payload, &modules, settings, &done.value(ids::PAYLOAD, "release")?)?;
    } else {
        let payload = bench.store.manifest(&done.layer(ids::PAYLOAD)?)?;
        let release = done.value(ids::PAYLOAD, "release")?;
        let foreign = gate::foreign_modules(&payload, &modules, &release);
        drivers::check_foreign_modules(bench, &layers, &release, foreign)?;
    }
    leftovers::foreign_releases(&modules, &done.value(ids::PAYLOAD, "release")?)?;
    let by_hand = |upstream: &crate::plan::Upstream| [ids::POSTINSTALL, ids::SYNC].contains(&upstream.action.as_str());
    let of_layers = action.upstream.iter().filter(|upstream| upstream.output == "layer");
    let by_hand: Vec<_> =
        of_layers.zip(&layers).filter(|(upstream, _)| by_hand(upstream)).map(|(_, layer)| *layer).collect();
    if !by_hand.is_empty() {
        let arch = bench.recipe.model.image.arch;
        let request = ProgramsRequest { layers: by_hand, arch };
        let paths: Vec<String> = bench.namespace.call("foreign-programs", &request, &mut |_| {})?;
        if let Some(finding) = programs::finding(&paths, arch) {
            bench.report.finding(&finding);
        }
    }
    let script = bench.recipe.postinstall.as_ref().map_or("the recipe".to_owned(), |scripts| scripts.names());
    let read = |path: &str| -> Result<String, StageError> {
        let request = gate::ReadFileRequest { layers: layers.clone(), path: path.to_owned() };
        let text: Option<String> = bench.namespace.call("read-file", &request, &mut |_| {})?;
        Ok(text.unwrap_or_default())
    };
    let here = bench.namespace.map().count();
    if let Some(finding) = leftovers::homes(bench.store, &layers, &read("etc/passwd")?, here)? {
        bench.report.finding(&finding);
    }
    let (tmpfs, mounts, exports) = (&bench.recipe.model.boot.tmpfs, &bench.recipe.mounts, &bench.recipe.exports);
    if !tmpfs.is_empty() || !mounts.is_empty() {
        gate::check_fstab(&script, &read("etc/fstab")?, tmpfs, mounts)?;
    }
    if !exports.is_empty() {
        gate::check_exports(&script, &read("etc/exports")?, exports)?;
    }
    Ok(Outputs { values: BTreeMap::from([("passed".to_owned(), "yes".to_owned())]), ..Outputs::default() })
}
