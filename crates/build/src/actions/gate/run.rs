//! Looks at what is there after the last layer that a script writes.

use std::collections::BTreeMap;

use super::checks as gate;
use super::inputs::Gate;
use super::leftovers;
use super::options::{self, OptionsAnswer, OptionsRequest};
use super::programs::{self, ProgramsRequest};
use crate::StageError;
use crate::actions::kernel::drivers;
use crate::actions::reader::work::Above;
use crate::bench::Bench;
use crate::bench::ids;
use base::digest::Digest;
use recipe::ModulesFrom;
use store::Outputs;

impl Gate {
    /// Looks at the merged layers; gives what the action's record names.
    ///
    /// # Errors
    /// [`StageError`] of its kind.
    pub fn run(&self, bench: &Bench<'_>, above: &Above<'_>) -> Result<Outputs, StageError> {
        let layers = above.below()?;
        let of = |ids: &[&str]| -> Result<Vec<Digest>, StageError> {
            ids.iter().filter(|id| above.takes(id, "layer")).map(|id| above.layer(id)).collect()
        };
        // Roles are scripts of the recipe, too.
        let roles: Vec<String> = bench.recipe.roles.iter().map(|role| ids::role(&role.name)).collect();
        let scripts: Vec<&str> = roles.iter().map(String::as_str).chain([ids::POSTINSTALL]).collect();
        let modules = bench.store.merged_folder(&layers, gate::MODULES)?;
        let payload = bench.store.manifest(&above.layer(ids::PAYLOAD)?)?;
        let release = above.value(ids::PAYLOAD, "release")?;
        let mut lacking = OptionsAnswer::new();
        match *self.modules_from {
            ModulesFrom::Kernel => {
                let mut settings = Vec::new();
                for layer in of(&scripts)? {
                    bench.store.each_entry(&layer, &mut |path, entry| {
                        settings.extend(gate::is_setting(&path, &entry).then_some(path));
                    })?;
                }
                gate::check_modules(&payload, &modules, settings, &release)?;
                let request = OptionsRequest { layers: layers.clone(), payload: above.layer(ids::PAYLOAD)? };
                lacking = bench.namespace.call("driver-options", &request, &mut |_| {})?;
            }
            ModulesFrom::Rootfs => {
                let foreign = gate::foreign_modules(&payload, &modules, &release);
                drivers::check_foreign_modules(bench, &layers, &release, foreign)?;
            }
        }
        leftovers::foreign_releases(&modules, &release)?;
        let by_hand = of(&scripts.iter().copied().chain([ids::SYNC]).collect::<Vec<_>>())?;
        if !by_hand.is_empty() {
            let request = ProgramsRequest { layers: by_hand, arch: self.arch.0 };
            let paths: Vec<String> = bench.namespace.call("foreign-programs", &request, &mut |_| {})?;
            if let Some(finding) = programs::finding(&paths, self.arch.0) {
                bench.report.finding(&finding);
            }
        }
        let read = |path: &str| -> Result<String, StageError> {
            let request = gate::ReadFileRequest { layers: layers.clone(), path: path.to_owned() };
            let text: Option<String> = bench.namespace.call("read-file", &request, &mut |_| {})?;
            Ok(text.unwrap_or_default())
        };
        let here = bench.namespace.map().count();
        if let Some(finding) = leftovers::homes(bench.store, &layers, &read("etc/passwd")?, here)? {
            bench.report.finding(&finding);
        }
        let (declared, script) = (&self.declared, &self.script.0);
        if !declared.tmpfs.is_empty() || !declared.mounts.is_empty() {
            let tmpfs = declared.tmpfs.iter().map(|entry| (&entry.0, &entry.1));
            let mounts = declared.mounts.iter().map(|mount| &**mount);
            gate::check_fstab(script, &read("etc/fstab")?, tmpfs, mounts)?;
        }
        if !declared.exports.is_empty() {
            let exports = declared.exports.iter().map(|export| &**export);
            gate::check_exports(script, &read("etc/exports")?, exports)?;
        }
        Ok(Outputs {
            values: BTreeMap::from([(options::OPTIONS.to_owned(), options::text_of(&lacking))]),
            ..Outputs::default()
        })
    }
}
