//! The initrd that dracut composes: gathers its request, calls the operation inside, keeps what comes back.

use std::collections::BTreeMap;

use super::StageError;
use super::actions::INITRD;
use super::dracut::{DracutAnswer, DracutRequest, KIND};
use super::results::Done;
use super::run::Builder;
use super::wish::DRACUT_TOOLS;
use crate::plan::Action;
use crate::recipe::{Lock, dracut_modules};
use crate::store::Outputs;

impl Builder<'_> {
    /// Composes the initrd with dracut.
    ///
    /// # Errors
    /// [`StageError::Script`] with dracut's words, [`StageError::Gate`] for drivers that the kernel lacks.
    pub(super) fn run_dracut(&self, action: &Action, lock: &Lock, done: &Done) -> Result<Outputs, StageError> {
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
            tools: vec![done.layer("rootfs/base")?, done.layer(&format!("rootfs/{DRACUT_TOOLS}"))?],
            add,
            omit,
            conf,
            log: self.log_name(action),
        };
        let answer: DracutAnswer = self.namespace.call(KIND, &request, &mut |text| self.report.progress(text))?;
        let answer = match answer {
            DracutAnswer::Made(answer) => answer,
            DracutAnswer::Failed(result) => {
                return Err(StageError::Script {
                    what: "dracut".to_owned(),
                    status: result.status,
                    lines: result.last_lines.join("\n"),
                    log: self.store.directory().join(self.log_name(action)).display().to_string(),
                });
            }
        };
        // The same drivers in another form: said once.
        if action.id == INITRD || !answer.missing.is_empty() {
            self.say_drivers(&answer, &request.initrd.release)?;
        }
        let initrd = self.take(&request.initrd.handover)?;
        Ok(Outputs { blobs: BTreeMap::from([("initrd".to_owned(), initrd)]), ..Outputs::default() })
    }
}
