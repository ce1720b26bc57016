//! Makes the layer, and compares the package database with the lock.

use super::inputs::System;
use super::inside::{SystemAnswer, SystemRequest, exports, fstab};
use crate::recipe::HOSTNAME_BY_DHCP;
use crate::source::{Finding, Severity};
use crate::stage::StageError;
use crate::stage::actions::reader::work::{Above, Desk, Place, Work};
use crate::stage::bench::results::layer_outputs;
use crate::store::Outputs;

impl Work for System {
    const OPERATION: &'static str = "system";
    type Request = SystemRequest;
    type Answer = SystemAnswer;

    fn request(&self, above: &Above<'_>, place: &Place) -> Result<SystemRequest, StageError> {
        let mut keys = String::new();
        for file in &self.authorized_keys {
            keys.push_str(file.text()?.trim_end());
            keys.push('\n');
        }
        let hash = self.root_password_hash.as_ref().map(|file| file.text()).transpose()?;
        Ok(SystemRequest {
            scratch: place.scratch.clone(),
            base: above.below()?,
            epoch: *self.epoch,
            fstab: fstab(&self.declared),
            exports: exports(&self.declared),
            hostname: self.hostname.clone().filter(|name| name != HOSTNAME_BY_DHCP),
            timezone: self.timezone.clone(),
            locale: self.locale.clone(),
            authorized_keys: keys,
            root_password_hash: hash.map(|text| text.trim().to_owned()),
        })
    }

    fn finish(&self, desk: &Desk<'_>, answer: SystemAnswer) -> Result<Outputs, StageError> {
        // Afterwards the package database must be what the lock says (D12).
        let locked: std::collections::BTreeSet<(&str, &str, &str)> =
            desk.lock
                .image_passes()
                .flat_map(|pass| &pass.packages)
                .map(|package| (package.name.as_str(), package.version.as_str(), package.architecture.as_str()))
                .chain(
                    desk.lock.base.iter().flat_map(|base| &base.packages).map(|package| {
                        (package.name.as_str(), package.version.as_str(), package.architecture.as_str())
                    }),
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
            let lock = desk.bench.recipe.lock_name();
            return Err(StageError::Gate {
                problem: format!("the image has packages that {lock} does not list: {}", strange.join(", ")),
                help: format!("delete {lock} to resolve all packages again, and report this"),
            });
        }
        for text in answer.warnings {
            desk.bench.report.finding(&Finding::nowhere(Severity::Warning, "system::image", text));
        }
        Ok(layer_outputs(&answer.layer))
    }
}
