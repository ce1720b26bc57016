//! Unpacks the kernel with its drivers.

use std::collections::BTreeMap;

use super::device_trees::{self, Unmet};
use super::drivers;
use crate::distro::{manager, ready_name};
use crate::plan::Action;
use crate::recipe::PassRole;
use crate::stage::actions::Context;
use crate::stage::actions::kernel_packages;
use crate::stage::bench::Bench;
use crate::stage::bench::ids;
use crate::stage::bench::report::refuse;
use crate::stage::bench::results::layer_outputs;

use crate::stage::StageError;
use crate::stage::actions::kernel::payload as kernel;
use crate::store::Outputs;

/// Unpacks the kernel; gives what the action's record names.
pub fn run(bench: &Bench<'_>, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
    let (lock, done) = (context.lock, context.done);
    let manager = manager(bench.recipe);
    let own = lock.pass(PassRole::KERNEL).map(|pass| pass.packages.clone()).unwrap_or_default();
    let packages = kernel_packages(manager, lock, &own);
    context.supply.have(&packages)?;
    let scratch = bench.store.scratch()?;
    let handover = format!("handover/{}-kernel", scratch.name.replace('/', "-"));
    let _left = bench.handover(&handover);
    let names = bench.recipe.model.kernel.device_trees.clone();
    let request = kernel::KernelRequest {
        scratch: scratch.name.clone(),
        packages: packages
            .iter()
            .map(|package| (ready_name(context.supply.directory(), &package.sha256), package.name.clone()))
            .collect(),
        tools: vec![done.layer(ids::TOOLS)?],
        version: bench.recipe.model.kernel.version.clone(),
        device_trees: names,
        extra: drivers::extra(bench, action, done)?,
        order: manager.order(),
        epoch: lock.epoch,
        log: bench.log_name(action),
        handover: handover.clone(),
    };
    let answer: kernel::KernelAnswer =
        bench.namespace.call("kernel", &request, &mut |text| bench.report.progress(text))?;
    match answer {
        kernel::KernelAnswer::Refused(refusal) => Err(refusal.into()),
        kernel::KernelAnswer::NoDeviceTree(unmet) => Err(no_device_tree(bench, &unmet)),
        kernel::KernelAnswer::Made(kernel::Made { layer, release, remarks, device_trees: trees }) => {
            let blob = bench.take(&handover)?;
            let mut blobs = BTreeMap::from([("kernel".to_owned(), blob)]);
            for (number, tree) in trees.iter().enumerate() {
                let name = format!("{handover}-{number}");
                let _left = bench.handover(&name);
                blobs.insert(format!("{}{tree}", device_trees::OUTPUT), bench.take(&name)?);
            }
            let manifest = bench.store.manifest(&layer.layer)?;
            let mut outputs = layer_outputs(&layer);
            outputs.values.insert("modules".to_owned(), kernel::modules_projection(&manifest, &release).to_string());
            outputs.values.insert("release".to_owned(), release);
            let files = &bench.recipe.kernel_files;
            if !files.updates.is_empty() || !files.builds.is_empty() {
                outputs.values.extend(drivers::say_remarks(bench, &remarks));
            }
            outputs.blobs.extend(blobs);
            Ok(outputs)
        }
        kernel::KernelAnswer::Choose(releases) => {
            let wanted = &bench.recipe.model.kernel.version;
            let problem = match (wanted, releases.len()) {
                (Some(version), _) => format!("the packages provide no kernel `{version}`"),
                (None, 0) => "the packages provide no kernel with modules".to_owned(),
                (None, count) => format!("the packages provide {count} kernels: {}", releases.join(", ")),
            };
            let help = match releases.last() {
                None => "name a package that provides one: ‹[kernel] package = \"...\"›".to_owned(),
                Some(last) => format!(
                    "choose one: ‹[kernel] version = \"{last}\"› (available, in ascending order: {})",
                    releases.join(", ")
                ),
            };
            let field = if wanted.is_some() { "kernel.version" } else { "kernel.package" };
            Err(refuse(bench.report, bench.recipe, field, problem, help))
        }
        kernel::KernelAnswer::Failed(result) => Err(StageError::Script {
            what: "depmod".to_owned(),
            status: result.status,
            lines: result.last_lines.join("\n"),
            remedy: String::new(),
            log: bench.store.directory().join(bench.log_name(action)).display().to_string(),
        }),
    }
}

/// A device tree of the recipe that the kernel does not have, or that cannot be published beside another.
fn no_device_tree(bench: &Bench<'_>, unmet: &Unmet) -> StageError {
    let (recipe, names) = (bench.recipe, &bench.recipe.model.kernel.device_trees);
    let name = |index: usize| names.get(index).map(String::as_str).unwrap_or_default();
    let (index, problem, help) = match unmet {
        Unmet::Unknown { index, known: 0, .. } => (
            *index,
            format!("the kernel's packages have no device trees, so not `{}`", name(*index)),
            "use the whole kernel, or add the package that has them to ‹[kernel]› firmware_packages".to_owned(),
        ),
        Unmet::Unknown { index, near, known } => {
            let help = match near.is_empty() {
                true => "write its path below the kernel's folder of device trees, as `vendor/board.dtb`".to_owned(),
                false => {
                    let near: Vec<String> = near.iter().map(|name| format!("\"{name}\"")).collect();
                    format!("did you mean {}?", near.join(", "))
                }
            };
            (*index, format!("the kernel has no device tree `{}` among its {known}", name(*index)), help)
        }
        Unmet::Twice { index, one, other } => (
            *index,
            format!("`{one}` and `{other}` would be published under the same file name"),
            "name the one that the nodes need".to_owned(),
        ),
    };
    refuse(bench.report, recipe, &format!("kernel.device_trees[{index}]"), problem, help)
}
