//! Follows a changed output to the hand that changed it: through actions, up to the inputs that a person edits.

use std::collections::{BTreeMap, BTreeSet};

use super::explain::{Difference, differences, in_reading_order};
use super::{ActionGraph, Cause, Decision, Known, Past, PastAction, Reason, Verdict, key_and_trace};

/// What is known while causes are followed.
pub struct Follow<'a> {
    /// The actions.
    pub graph: &'a ActionGraph,
    /// Outputs as far as they are known.
    pub known: &'a dyn Known,
    /// Earlier runs.
    pub past: &'a dyn Past,
    /// What was decided of the actions before.
    pub decisions: &'a BTreeMap<String, Decision>,
}

impl Follow<'_> {
    /// Causes of an action whose inputs are not those of an earlier run.
    pub fn causes(&self, id: &str, now: &[(String, String)], was: &[(String, String)]) -> Vec<Cause> {
        let mut seen = BTreeSet::from([id.to_owned()]);
        in_reading_order(self.compare(id, now, was, &mut seen))
    }

    /// Causes of an action that the image did not have: what a person wrote to get it.
    pub fn causes_of_new(&self, id: &str) -> Vec<Cause> {
        let none = || vec![Reason::New { action: id.to_owned() }.cause(None)];
        let Some(action) = self.graph.get(id) else { return none() };
        let now: Vec<(String, String)> =
            action.inputs.iter().map(|input| (input.name.clone(), input.value.clone())).collect();
        let found = differences(action, &now, &[], self.past, &self.graph.taken);
        let own = found.into_iter().filter_map(|one| match one {
            Difference::Own(cause) => Some(cause),
            _ => None,
        });
        let written: Vec<Cause> = own.filter(|cause| cause.file.is_some() && cause.line.is_some()).collect();
        if written.is_empty() { none() } else { in_reading_order(written) }
    }

    fn compare(
        &self,
        id: &str,
        now: &[(String, String)],
        was: &[(String, String)],
        seen: &mut BTreeSet<String>,
    ) -> Vec<Cause> {
        let Some(action) = self.graph.get(id) else { return Vec::new() };
        let mut causes = Vec::new();
        for difference in differences(action, now, was, self.past, &self.graph.taken) {
            match difference {
                Difference::Own(cause) => causes.push(cause),
                Difference::Above(above, output, was) => causes.extend(self.leaves(&above, Some((&output, was)), seen)),
                Difference::Roots(roots) if roots.iter().any(|root| self.differs(root)) => {
                    let differing = roots.iter().filter(|root| self.differs(root));
                    causes.extend(differing.flat_map(|root| self.leaves(root, None, seen)).collect::<Vec<_>>());
                }
                // The packages of the roots are what they were, so that only imgbuild itself is left.
                Difference::Roots(_) => {
                    let what = "maker of tools roots".to_owned();
                    causes.push(Reason::Implementation { what, was: None, now: None }.cause(None));
                }
            }
        }
        causes
    }

    /// Whether an action is not what it was.
    fn differs(&self, id: &str) -> bool {
        let runs = self.decisions.get(id).is_some_and(|decision| decision.verdict != Verdict::Keep);
        let now = self.graph.get(id).map(|action| key_and_trace(action, self.known).1);
        runs || now != self.past.last(id).map(|last| last.inputs)
    }

    /// Why an action gives something else than it gave; `output` is what is used of it, and the value that had.
    pub fn leaves(&self, id: &str, output: Option<(&str, Option<String>)>, seen: &mut BTreeSet<String>) -> Vec<Cause> {
        if !seen.insert(id.to_owned()) {
            return Vec::new();
        }
        if let Some(decision) = self.decisions.get(id).filter(|decision| decision.verdict != Verdict::Keep) {
            return decision.causes.iter().map(|cause| cause.through(id)).collect();
        }
        let producing = output.as_ref().and_then(|(output, was)| self.past.producing(id, output, was.as_deref()?));
        let earlier = producing.or_else(|| self.past.last(id));
        let Some(action) = self.graph.get(id) else { return self.gone(id, earlier.as_ref()) };
        let Some(earlier) = earlier else {
            return self.causes_of_new(id).iter().map(|cause| cause.through(id)).collect();
        };
        let (_, now) = key_and_trace(action, self.known);
        let found = self.compare(id, &now, &earlier.inputs, seen);
        // Nothing is found too where all was said of another action.
        if now == earlier.inputs {
            return vec![Reason::NotReproducible { action: id.to_owned() }.cause(None)];
        }
        found.iter().map(|cause| cause.through(id)).collect()
    }

    /// Why the image has an action no more: what asked for it is gone.
    fn gone(&self, id: &str, earlier: Option<&PastAction>) -> Vec<Cause> {
        let inputs = earlier.map(|earlier| earlier.inputs.as_slice()).unwrap_or_default();
        let nobody = super::Action {
            id: id.to_owned(),
            stage: super::Stage::Rootfs,
            kind: "",
            version: 0,
            inputs: Vec::new(),
            upstream: Vec::new(),
            needs: Vec::new(),
        };
        let found =
            differences(&nobody, &[], inputs, self.past, &self.graph.taken).into_iter().filter_map(|one| match one {
                Difference::Own(cause) if cause.was_line.is_some() => Some(cause.through(id)),
                _ => None,
            });
        let found: Vec<Cause> = found.collect();
        if found.is_empty() { vec![Reason::Gone { action: id.to_owned() }.cause(None)] } else { found }
    }
}
