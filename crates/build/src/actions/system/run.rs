//! Makes the layer, and compares the package database with the lock.

use super::inputs::System;
use super::inside::{SystemAnswer, SystemRequest, exports, fstab};
use crate::StageError;
use crate::actions::reader::work::{Above, Desk, Place, Work};
use crate::bench::results::layer_outputs;
use base::source::{Finding, Severity};
use recipe::HOSTNAME_BY_DHCP;
use store::Outputs;

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
        let lock = desk.bench.recipe.lock_name();
        let named = |packages: Vec<&[String; 3]>| {
            packages.into_iter().map(|[name, version, _]| format!("{name} {version}")).collect::<Vec<_>>().join(", ")
        };
        let strange: Vec<&[String; 3]> = answer.installed.difference(&self.locked.0).collect();
        if !strange.is_empty() {
            return Err(StageError::Gate {
                problem: format!("the image has packages that {lock} does not list: {}", named(strange)),
                help: format!("delete {lock} to resolve all packages again, and report this"),
            });
        }
        let mut lacking: Vec<&[String; 3]> = self.locked.0.difference(&answer.installed).collect();
        lacking.retain(|[name, ..]| {
            let Some(by) = answer.replaced.get(name) else { return true };
            let text = format!("`{name}` is not in the image: `{by}` replaces all that it had");
            desk.bench.report.finding(&Finding::nowhere(Severity::Note, "system::replaced", text));
            false
        });
        if !lacking.is_empty() && !fault::planted("lacking-not-compared") {
            let problem = format!("the image lacks packages that {lock} lists: {}", named(lacking.clone()));
            let text = match &self.named.0 {
                Some(named) if lacking.iter().any(|[name, ..]| named.contains(name)) => {
                    let help = format!("delete {lock} to resolve all packages again, and report this");
                    return Err(StageError::Gate { problem, help });
                }
                Some(_) => format!("{problem}; no list asks for them: please report this"),
                None => format!("{problem}; they went with others, and a lock that `imgbuild update` renews says so"),
            };
            desk.bench.report.finding(&Finding::nowhere(Severity::Warning, "system::lacking", text));
        }
        for text in answer.warnings {
            desk.bench.report.finding(&Finding::nowhere(Severity::Warning, "system::image", text));
        }
        Ok(layer_outputs(&answer.layer))
    }
}
