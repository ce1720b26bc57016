//! Unpacks the kernel with its drivers.

use std::collections::BTreeMap;

use super::device_trees::{self, Unmet};
use super::drivers;
use super::inputs::Kernel;
use super::payload::{KernelAnswer, KernelRequest, Made, modules_projection};
use crate::StageError;
use crate::actions::reader::work::{Above, Desk, Place, Work};
use crate::bench::Bench;
use crate::bench::ids;
use crate::bench::keyed::Keyed;
use crate::bench::report::refuse;
use crate::bench::results::layer_outputs;
use packages::ready_name;
use recipe::PinnedPackage;
use store::Outputs;

impl Work for Kernel {
    const OPERATION: &'static str = "kernel";
    type Request = KernelRequest;
    type Answer = KernelAnswer;

    fn request(&self, above: &Above<'_>, place: &Place) -> Result<KernelRequest, StageError> {
        let packages: Vec<PinnedPackage> = self.packages.iter().map(|package| (**package).clone()).collect();
        let supply = above.supply();
        supply.have(&packages)?;
        let ready = |package: &PinnedPackage| ready_name(supply.directory(), &package.sha256);
        Ok(KernelRequest {
            scratch: place.scratch.clone(),
            packages: packages.iter().map(|package| (ready(package), package.name.clone())).collect(),
            tools: vec![above.layer(ids::TOOLS)?],
            version: self.version.clone(),
            device_trees: self.device_trees.iter().map(|name| (**name).clone()).collect(),
            extra: self.extra(above)?,
            order: *self.order,
            epoch: *self.epoch,
            log: place.log.clone(),
            handover: place.handover.clone(),
        })
    }

    fn finish(&self, desk: &Desk<'_>, answer: KernelAnswer) -> Result<Outputs, StageError> {
        let bench = desk.bench;
        match answer {
            KernelAnswer::Refused(refusal) => Err(refusal.into()),
            KernelAnswer::NoDeviceTree(unmet) => Err(no_device_tree(bench, &self.device_trees, &unmet)),
            KernelAnswer::Made(Made { layer, release, remarks, device_trees: trees }) => {
                let handover = &desk.place.handover;
                let mut outputs = layer_outputs(&layer);
                outputs.blobs.insert("kernel".to_owned(), bench.take(handover)?);
                for (number, tree) in trees.iter().enumerate() {
                    let name = format!("{handover}-{number}");
                    let _left = bench.handover(&name);
                    outputs.blobs.insert(format!("{}{tree}", device_trees::OUTPUT), bench.take(&name)?);
                }
                let manifest = bench.store.manifest(&layer.layer)?;
                outputs.values = BTreeMap::from([
                    ("modules".to_owned(), modules_projection(&manifest, &release).to_string()),
                    ("release".to_owned(), release),
                ]);
                if !self.updates.is_empty() || !self.builds.is_empty() {
                    outputs.values.extend(drivers::say_remarks(bench, &remarks));
                }
                Ok(outputs)
            }
            KernelAnswer::Choose(releases) => {
                let wanted = &*self.version;
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
            KernelAnswer::Failed(result) => Err(desk.failed("depmod", &result)),
        }
    }
}

/// A device tree of the recipe that the kernel does not have, or that cannot be published beside another.
fn no_device_tree(bench: &Bench<'_>, names: &[Keyed<String>], unmet: &Unmet) -> StageError {
    let name = |index: usize| names.get(index).map(|name| name.as_str()).unwrap_or_default();
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
    refuse(bench.report, bench.recipe, &format!("kernel.device_trees[{index}]"), problem, help)
}
