//! The initrd that dracut composes: gathers its request, calls the operation inside, keeps what comes back.

use std::collections::BTreeMap;

use crate::plan::Action;
use crate::recipe::{Lock, dracut_modules};
use crate::source::{Finding, Severity};
use crate::stage::StageError;
use crate::stage::dracut::{DracutAnswer, DracutRequest};
use crate::stage::ids;
use crate::stage::results::Done;
use crate::stage::run::Builder;
use crate::store::Outputs;

impl Builder<'_> {
    /// Composes the initrd with dracut.
    ///
    /// # Errors
    /// [`StageError::Script`] with dracut's words, [`StageError::Gate`] for drivers that the kernel lacks.
    pub(in crate::stage) fn run_dracut(
        &self,
        action: &Action,
        lock: &Lock,
        done: &Done,
    ) -> Result<Outputs, StageError> {
        let mut conf = Vec::new();
        for (path, name) in &self.recipe.dracut_conf {
            let text =
                std::fs::read_to_string(path).map_err(|source| StageError::Input { file: name.clone(), source })?;
            conf.push((name.rsplit('/').next().unwrap_or(name).to_owned(), text));
        }
        let scratch = self.store.scratch()?;
        let (add, omit) = dracut_modules(&self.recipe.model.initrd);
        let request = DracutRequest {
            scratch: scratch.name.clone(),
            initrd: self.initrd_request(action, lock, done, &scratch.name)?,
            tools: vec![done.layer(ids::BASE)?, done.layer(ids::DRACUT_TOOLS)?],
            add,
            omit,
            conf,
            log: self.log_name(action),
        };
        let answer: DracutAnswer = self.namespace.call("dracut", &request, &mut |text| self.report.progress(text))?;
        let (answer, not_installed) = match answer {
            DracutAnswer::Made(answer, not_installed) => (answer, not_installed),
            DracutAnswer::Failed(result) => {
                return Err(StageError::Script {
                    what: "dracut".to_owned(),
                    status: result.status,
                    lines: result.last_lines.join("\n"),
                    remedy: String::new(),
                    log: self.store.directory().join(self.log_name(action)).display().to_string(),
                });
            }
        };
        // The same drivers in another form: said once.
        if action.id == ids::INITRD || !answer.missing.is_empty() {
            self.say_drivers(&answer, &request.initrd.release)?;
            self.say_not_installed(&not_installed, &request.conf);
        }
        let initrd = self.take(&request.initrd.handover)?;
        Ok(Outputs { blobs: BTreeMap::from([("initrd".to_owned(), initrd)]), ..Outputs::default() })
    }

    /// A warning for what the recipe's own files ask for, a note for what dracut's modules would have liked.
    fn say_not_installed(&self, names: &[String], conf: &[(String, String)]) {
        // imgbuild's module has something in its place.
        let names = names.iter().filter(|name| *name != "reboot");
        let asks = |name: &&String| conf.iter().any(|(_, text)| text.contains(name.as_str()));
        let (asked, other): (Vec<&String>, Vec<&String>) = names.partition(asks);
        let listed = |names: &[&String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        if !asked.is_empty() {
            let text = format!("dracut's tools root has no {}, which [initrd] dracut_conf asks for", listed(&asked));
            let mut finding = Finding::nowhere(Severity::Warning, "initrd::dracut", text)
                .help("add the package that brings it: [initrd] dracut_packages = [...]");
            finding.span = self.recipe.spans.nearest("initrd.dracut_conf").cloned();
            self.report.finding(&finding);
        }
        if !other.is_empty() {
            let text = format!("dracut's modules do without {}, which its tools root does not have", listed(&other));
            self.report.finding(&Finding::nowhere(Severity::Note, "initrd::dracut", text));
        }
    }
}
