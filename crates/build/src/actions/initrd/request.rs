//! What an initrd is made from, no matter who composes it, and what is said of its drivers.

use super::inputs::Initrd;
use crate::actions::reader::work::{Above, Place};
use crate::actions::reader::{
    CACHE_FILESYSTEM, KDUMP_FILESYSTEM, KDUMP_TO, LAZY_ROOT, STATELITE_FILESYSTEM, STATELITE_MODULES, form_modules,
};
use crate::bench::Bench;
use crate::bench::report::refuse;
use std::collections::BTreeMap;

use super::compose::{InitrdAnswer, InitrdRequest};
use crate::StageError;
use crate::bench::ids;
use base::source::{Finding, Severity};
use recipe::{Recipe, Statelite, kdump_target, normal_name};
use store::Store;

/// Whether an initrd needs drivers of disks for what lies on a node's own.
pub(crate) fn is_with_disks(recipe: &Recipe, action: &str) -> bool {
    match action {
        ids::INITRD_STATELITE => recipe.model.statelite.as_ref().is_some_and(Statelite::has_disks),
        ids::INITRD_KDUMP => kdump_target(&recipe.model).is_some_and(|target| target.is_disk()),
        _ => false,
    }
}

impl Initrd {
    /// What is asked of imgbuild's composer and of dracut's.
    ///
    /// # Errors
    /// [`StageError::Input`] for a file that changed.
    pub fn asked(&self, above: &Above<'_>, place: &Place) -> Result<InitrdRequest, StageError> {
        let mut ca = String::new();
        for file in &self.ca {
            ca.push_str(&file.text()?);
        }
        // Where modules come from decides what the action stands on.
        let is_of_kernel = above.takes(ids::PAYLOAD, "value modules");
        let layers = if is_of_kernel { vec![above.layer(ids::PAYLOAD)?] } else { above.below()? };
        Ok(InitrdRequest {
            layers,
            release: above.value(ids::PAYLOAD, "release")?,
            named: self.drivers.named.clone(),
            default: self.drivers.default.clone(),
            updates: match above.value(ids::PAYLOAD, "drivers") {
                Ok(names) => names.split_whitespace().map(str::to_owned).collect(),
                Err(_) => Vec::new(),
            },
            all_updates: self.drivers.all_updates,
            init: Store::blob_name(&self.init),
            ca,
            compression: *self.compression,
            epoch: *self.epoch,
            handover: place.handover.clone(),
            dump: self.dump.as_ref().map(|dump| dump.request(above)).transpose()?,
        })
    }
}

/// Says which drivers and firmware the initrd lacks.
/// Errors: [`StageError::Gate`] for drivers that the recipe names and the kernel lacks, or required firmware.
pub(crate) fn say_drivers(
    bench: &Bench<'_>,
    action: &str,
    answer: &InitrdAnswer,
    release: &str,
) -> Result<(), StageError> {
    let mut of_form = form_modules(bench.recipe, action).into_iter();
    let of_form = of_form.find(|(module, _)| answer.missing.iter().any(|(name, _)| name == module));
    if let Some((module, field)) = of_form {
        let form = field.rsplit_once('.').map_or(field.as_str(), |(form, _)| form);
        if field == STATELITE_MODULES {
            let problem = format!("the kernel {release} has no module `{module}`, which nodes need for ‹[statelite]›");
            let help = "choose a kernel that has it: ‹[kernel] package = \"...\"›; a cloud kernel lacks some";
            return Err(refuse(bench.report, bench.recipe, "statelite", problem, help.to_owned()));
        }
        if field == LAZY_ROOT {
            let problem = format!(
                "the kernel {release} has no module `{module}`, which nodes need to read their root over the network"
            );
            let help = "remove ‹[boot] root = \"lazy\"›, or choose a kernel that has the module: ‹[kernel] package = \"...\"›; RHEL's and cloud kernels lack it";
            return Err(refuse(bench.report, bench.recipe, &field, problem, help.to_owned()));
        }
        if field == KDUMP_TO {
            let problem = format!("the kernel {release} has no module `{module}`, so it cannot write a dump over NFS");
            let help = "choose a kernel that has it: ‹[kernel] package = \"...\"›; a cloud kernel lacks some; or send dumps by ssh";
            return Err(refuse(bench.report, bench.recipe, &field, problem, help.to_owned()));
        }
        if [CACHE_FILESYSTEM, STATELITE_FILESYSTEM, KDUMP_FILESYSTEM].contains(&field.as_str()) {
            let disk = match field.as_str() {
                CACHE_FILESYSTEM => "the disk of ‹[boot.cache]›",
                KDUMP_FILESYSTEM => "the disk of ‹[kdump]›",
                _ => "the disk of ‹[statelite]›",
            };
            let problem = format!("the kernel {release} has no module `{module}`, which nodes need for {disk}");
            let help = "choose another file system (ext4, xfs, btrfs), or a kernel that has the module: ‹[kernel] package = \"...\"›";
            return Err(refuse(bench.report, bench.recipe, &field, problem, help.to_owned()));
        }
        let problem =
            format!("the kernel {release} has no module `{module}`, which nodes need to mount the image of `{form}`");
        let help = "choose an archive that is unpacked, ‹archive = \"cpio\"› or ‹archive = \"tar\"›, or a kernel that has the module: ‹[kernel] package = \"...\"›";
        return Err(refuse(bench.report, bench.recipe, &field, problem, help.to_owned()));
    }
    if !answer.missing.is_empty() {
        let names: Vec<String> = answer.missing.iter().map(|(name, _)| format!("`{name}`")).collect();
        let hints: Vec<String> = answer
            .missing
            .iter()
            .filter(|(_, near)| !near.is_empty())
            .map(|(name, near)| format!("instead of `{name}`, did you mean {}?", near.join(", ")))
            .collect();
        let help = if hints.is_empty() {
            "correct ‹[kernel]› drivers, or add a package that provides the driver".to_owned()
        } else {
            hints.join("\n")
        };
        let problem = format!("the kernel {release} has no driver {}", names.join(", "));
        let wanted = bench.recipe.model.kernel.drivers.iter();
        let is_first = |one: &String| {
            answer.missing.first().is_some_and(|(name, _)| normal_name(one.trim_start_matches('+')) == *name)
        };
        let at =
            wanted.clone().position(is_first).map_or("kernel.drivers".to_owned(), |at| format!("kernel.drivers[{at}]"));
        return Err(refuse(bench.report, bench.recipe, &at, problem, help));
    }
    if !answer.unused_updates.is_empty() {
        let text = format!(
            "these modules of ‹[kernel]› updates and ‹[[kernel.build]]› are in the image, but not in the initrd: {}",
            answer.unused_updates.join(", ")
        );
        let mut finding = Finding::nowhere(Severity::Warning, "initrd::updates", text).help(
            "name those that nodes need to boot: ‹[kernel] drivers = [\"+NAME\"]›, or \"+allupdate\" for all of them",
        );
        finding.span = bench.recipe.spans.nearest("kernel.updates").cloned();
        bench.report.finding(&finding);
    }
    let span = bench.recipe.spans.nearest("kernel.drivers");
    let say = |severity, text: String| {
        let mut finding = Finding::nowhere(severity, "initrd::drivers", text);
        finding.span = span.filter(|_| severity != Severity::Note).cloned();
        bench.report.finding(&finding);
    };
    if !answer.skipped.is_empty() {
        say(
            Severity::Note,
            format!("the kernel {release} lacks these drivers of the default list: {}", answer.skipped.join(", ")),
        );
    }
    let list = |named: bool| {
        let mut by_module: BTreeMap<&str, usize> = BTreeMap::new();
        for (module, _, _) in answer.missing_firmware.iter().filter(|(_, _, is_named)| *is_named == named) {
            *by_module.entry(module).or_default() += 1;
        }
        by_module.iter().map(|(module, count)| format!("{module} ({count} files)")).collect::<Vec<_>>().join(", ")
    };
    let (named, default) = (list(true), list(false));
    if !named.is_empty() {
        let text = format!("firmware of drivers that the recipe names is not in the image: {named}");
        let help = "add the package that provides it: ‹[kernel] firmware_packages = [\"...\"]› (Debian's is in the component non-free-firmware)";
        if bench.recipe.model.kernel.firmware == recipe::Firmware::Require {
            return Err(refuse(bench.report, bench.recipe, "kernel.firmware", text, help.to_owned()));
        }
        bench.report.finding(&Finding::nowhere(Severity::Warning, "initrd::firmware", text).help(help));
    }
    if !default.is_empty() {
        say(Severity::Note, format!("firmware of default drivers is not in the image: {default}"));
    }
    Ok(())
}
