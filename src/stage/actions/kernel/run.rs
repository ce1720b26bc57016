//! Unpacks the kernel with its drivers.

use super::drivers;
use crate::distro::{manager, ready_name};
use crate::plan::Action;
use crate::recipe::PassRole;
use crate::stage::actions::kernel_packages;
use crate::stage::builder::run::{Builder, Context};
use crate::stage::ids;
use crate::stage::report::refuse;
use crate::stage::results::layer_outputs;

use crate::stage::StageError;
use crate::stage::actions::kernel::payload as kernel;
use crate::store::Outputs;

/// Unpacks the kernel; gives what the action's record names.
///
/// # Errors
/// [`StageError`] of its kind.
pub fn run(builder: &Builder<'_>, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
    let (lock, done) = (context.lock, context.done);
    let manager = manager(builder.recipe);
    let own = lock.pass(PassRole::KERNEL).map(|pass| pass.packages.clone()).unwrap_or_default();
    let packages = kernel_packages(manager, lock, &own);
    context.supply.have(&packages)?;
    let scratch = builder.store.scratch()?;
    let handover = format!("handover/{}-kernel", scratch.name.replace('/', "-"));
    let _left = builder.handover(&handover);
    let request = kernel::KernelRequest {
        scratch: scratch.name.clone(),
        packages: packages
            .iter()
            .map(|package| (ready_name(context.supply.directory(), &package.sha256), package.name.clone()))
            .collect(),
        tools: vec![done.layer(ids::TOOLS)?],
        version: builder.recipe.model.kernel.version.clone(),
        extra: drivers::extra(builder, action, done)?,
        order: manager.order(),
        epoch: lock.epoch,
        log: builder.log_name(action),
        handover: handover.clone(),
    };
    let answer: kernel::KernelAnswer =
        builder.namespace.call("kernel", &request, &mut |text| builder.report.progress(text))?;
    match answer {
        kernel::KernelAnswer::Refused(refusal) => Err(refusal.into()),
        kernel::KernelAnswer::Made(layer, release, remarks) => {
            let blob = builder.take(&handover)?;
            let manifest = builder.store.manifest(&layer.layer)?;
            let mut outputs = layer_outputs(&layer);
            outputs.values.insert("modules".to_owned(), kernel::modules_projection(&manifest, &release).to_string());
            outputs.values.insert("release".to_owned(), release);
            let files = &builder.recipe.kernel_files;
            if !files.updates.is_empty() || !files.builds.is_empty() {
                outputs.values.extend(drivers::say_remarks(builder, &remarks));
            }
            outputs.blobs.insert("kernel".to_owned(), blob);
            Ok(outputs)
        }
        kernel::KernelAnswer::Choose(releases) => {
            let wanted = &builder.recipe.model.kernel.version;
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
            Err(refuse(builder.report, builder.recipe, field, problem, help))
        }
        kernel::KernelAnswer::Failed(result) => Err(StageError::Script {
            what: "depmod".to_owned(),
            status: result.status,
            lines: result.last_lines.join("\n"),
            remedy: String::new(),
            log: builder.store.directory().join(builder.log_name(action)).display().to_string(),
        }),
    }
}
