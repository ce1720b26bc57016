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
        // What other actions had all along did not bring this one: the platform, say.
        let others = self.graph.in_order().filter(|other| other.id != id);
        let known: BTreeSet<(String, String)> =
            others.filter_map(|other| self.past.last(&other.id)).flat_map(|last| last.inputs).collect();
        let new: Vec<(String, String)> = now.iter().filter(|input| !known.contains(*input)).cloned().collect();
        let now = if new.is_empty() { now } else { new };
        let found = differences(action, &now, &[], self.past, &self.graph.taken);
        let own = found.into_iter().filter_map(|one| match one {
            Difference::Own(cause) => Some(cause),
            _ => None,
        });
        let written: Vec<Cause> = own.filter(|cause| cause.file.is_some() && cause.line.is_some()).collect();
        if written.is_empty() { none() } else { joined(in_reading_order(written)) }
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

/// Says items of one list that are all new, `make[0] = -C` and `make[1] = .`, as one: `make = -C .`.
fn joined(causes: Vec<Cause>) -> Vec<Cause> {
    /// The list, which item it is, and its value.
    fn item(cause: &Cause) -> Option<(&str, usize, &str)> {
        let Reason::Added { what, now } = &cause.reason else { return None };
        let (list, index) = what.strip_suffix(']')?.rsplit_once('[')?;
        Some((list, index.parse().ok()?, now))
    }
    let mut all: Vec<Cause> = Vec::new();
    // How many items the last one has.
    let mut items = 0;
    for cause in causes {
        let Some((list, index, value)) = item(&cause) else {
            items = 0;
            all.push(cause);
            continue;
        };
        let of_list = |last: &&mut Cause| matches!(&last.reason, Reason::Added { what, .. } if what == list);
        if let Some(last) = all.last_mut().filter(|_| items == index).filter(of_list)
            && let Reason::Added { now, .. } = &mut last.reason
        {
            let more = format!(" {value}");
            now.push_str(&more);
            last.message.push_str(&more);
        } else if let (0, Some(start)) = (index, cause.message.strip_suffix(&format!("{list}[0] = {value}"))) {
            items = 0;
            let (message, reason) =
                (format!("{start}{list} = {value}"), Reason::Added { what: list.to_owned(), now: value.to_owned() });
            all.push(Cause { message, reason, ..cause });
        } else {
            all.push(cause);
            continue;
        }
        items += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_a_new_list_are_said_as_one() {
        let added = |what: &str, now: &str| Cause {
            message: format!("image.toml:3 {what} = {now}"),
            file: Some("image.toml".to_owned()),
            line: Some(3),
            ..Reason::Added { what: what.to_owned(), now: now.to_owned() }.cause(None)
        };
        let all = [
            ("b[0].make[0]", "-C"),
            ("b[0].make[1]", "."),
            ("b[0].x", "y"),
            ("l[1]", "z"),
            ("l[0]", "a"),
            ("l[1]", "b"),
        ];
        let told = joined(all.iter().map(|(what, now)| added(what, now)).collect());
        let words: Vec<&str> = told.iter().map(|cause| cause.message.trim_start_matches("image.toml:3 ")).collect();
        assert_eq!(words, ["b[0].make = -C .", "b[0].x = y", "l[1] = z", "l = a b"]);
        assert!(matches!(&told[0].reason, Reason::Added { what, now } if what == "b[0].make" && now == "-C ."));
    }
}
