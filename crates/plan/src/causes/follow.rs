//! Traces a changed output back to the edited input.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use super::explain::{Difference, differences, in_reading_order, output_of};
use super::items::joined;
use super::words::{Change, Subject};
use crate::{ActionGraph, Cause, Decision, History, Known, Origin, Reason, RecordedAction, Verdict, key_and_trace};
use crate::{InputKind, InputName};

/// Packages by name and what image.lock pins, and which actions have them.
type Packages = BTreeMap<(String, String), BTreeSet<String>>;

/// A package's value without whether someone asked for it.
fn pinned(value: &str) -> &str {
    value.trim_end_matches(" automatic")
}

pub struct Follow<'a> {
    pub graph: &'a ActionGraph,
    pub known: &'a dyn Known,
    pub history: &'a dyn History,
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
        // A pass of its own has what others had before: its first line says where it begins.
        let first = |action: &crate::Action| {
            let packages = action.inputs.iter().filter(|input| is_pass(id) && is_package(&input.name));
            packages.filter_map(|input| input.place.clone()).min_by_key(|place| place.line)
        };
        let new = |place: Option<crate::Place>| vec![Reason::New { action: id.to_owned() }.cause(place.as_ref())];
        let Some(action) = self.graph.get(id) else { return new(None) };
        let none = || new(first(action));
        // What an option asks for is another form of what there was, and no one wrote anything.
        let asks = |input: &&crate::Input| matches!(input.origin, Origin::Asked { .. });
        if let Some(input) = action.inputs.iter().find(asks) {
            let (name, origin, lock) = (&input.name, &input.origin, &self.graph.absences.lock);
            let subject = Subject { name, origin, place: None, was_place: None, lock };
            return vec![subject.cause(Change::Added(&input.value))];
        }
        let now: Vec<(String, String)> =
            action.inputs.iter().map(|input| (input.name.clone(), input.value.clone())).collect();
        // What other actions had all along did not bring this one: the platform, say.
        let others = self.graph.in_order().filter(|other| other.id != id);
        let known: BTreeSet<(String, String)> =
            others.filter_map(|other| self.history.last(&other.id)).flat_map(|last| last.inputs).collect();
        let new: Vec<(String, String)> = now.iter().filter(|input| !known.contains(*input)).cloned().collect();
        let found = differences(action, &new, &[], self.history, &self.graph.absences);
        let own = found.into_iter().filter_map(|one| match one {
            Difference::Own(cause) => Some(cause),
            _ => None,
        });
        let written = own.filter(|cause| cause.file.is_some() && cause.line.is_some() && !is_of_every_image(cause));
        let written: Vec<Cause> = written.collect();
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
        let packages = OnceCell::new();
        let (mut causes, mut unsaid, mut moved) = (Vec::new(), Vec::new(), Vec::new());
        for difference in differences(action, now, was, self.history, &self.graph.absences) {
            match difference {
                Difference::Own(cause) => match self.moved(id, &cause, &packages) {
                    Some(other) => moved.push((other, cause)),
                    None => causes.push(cause),
                },
                // It is as it was, and was not used before: anyone who asked for it may have said so already.
                Difference::Above(above, _, None) if self.is_as_it_was(&above) => unsaid.push(above),
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
        if causes.is_empty() {
            for above in &unsaid {
                causes.extend(self.causes_of_new(above).iter().map(|cause| cause.through(above)));
            }
        }
        if causes.is_empty() {
            for (other, _) in &moved {
                if seen.insert(other.clone()) {
                    causes.extend(self.comes_or_goes(other));
                }
            }
        }
        if causes.is_empty() { moved.into_iter().map(|(_, cause)| cause).collect() } else { causes }
    }

    /// Why an action comes or goes; nothing for one that was and is.
    pub fn comes_or_goes(&self, id: &str) -> Vec<Cause> {
        match (self.graph.get(id), self.history.last(id)) {
            (None, last) => self.gone(id, last.as_ref()),
            (Some(_), None) => self.causes_of_new(id).iter().map(|cause| cause.through(id)).collect(),
            _ => Vec::new(),
        }
    }

    /// The other action that a package of image.lock moved from, or to: no one added or removed it.
    fn moved(&self, id: &str, cause: &Cause, packages: &OnceCell<[Packages; 2]>) -> Option<String> {
        let (at, what, value) = match &cause.reason {
            Reason::Added { what, now } if cause.is_of_lock => (0, what, now),
            Reason::Removed { what, was } if cause.is_of_lock => (1, what, was),
            _ => return None,
        };
        let all = packages.get_or_init(|| self.packages());
        let holders = all[at].get(&(what.clone(), pinned(value).to_owned()))?;
        holders.iter().find(|other| *other != id).cloned()
    }

    /// Packages that actions had when they ran last, and those that they have.
    fn packages(&self) -> [Packages; 2] {
        let mut all = [Packages::new(), Packages::new()];
        let mut note = |at: usize, id: &str, name: &str, value: &str| {
            if let Some((package, _)) = InputName::of(name).package() {
                let holders = all[at].entry((package.to_owned(), pinned(value).to_owned())).or_default();
                holders.insert(id.to_owned());
            }
        };
        for action in self.graph.in_order() {
            action.inputs.iter().for_each(|input| note(1, &action.id, &input.name, &input.value));
        }
        for id in self.graph.in_order().map(|action| action.id.clone()).chain(self.gone_ids()) {
            let last = self.history.last(&id).map(|last| last.inputs).unwrap_or_default();
            last.iter().for_each(|(name, value)| note(0, &id, name, value));
        }
        all
    }

    /// Actions that others used when they ran last, and that the image has no more.
    fn gone_ids(&self) -> BTreeSet<String> {
        let last = self.graph.in_order().filter_map(|action| self.history.last(&action.id));
        let used = last.flat_map(|last| last.inputs).filter_map(|(name, _)| output_of(&name)).map(|(action, _)| action);
        used.filter(|action| self.graph.get(action).is_none()).collect()
    }

    /// Whether an action is kept, and this image had it with the same inputs.
    fn is_as_it_was(&self, id: &str) -> bool {
        let runs = self.decisions.get(id).is_some_and(|decision| decision.verdict != Verdict::Keep);
        let now = self.graph.get(id).map(|action| key_and_trace(action, self.known).1);
        !runs && now.is_some() && now == self.history.last(id).map(|last| last.inputs)
    }

    /// Whether an action is not what it was.
    fn differs(&self, id: &str) -> bool {
        let runs = self.decisions.get(id).is_some_and(|decision| decision.verdict != Verdict::Keep);
        let now = self.graph.get(id).map(|action| key_and_trace(action, self.known).1);
        runs || now != self.history.last(id).map(|last| last.inputs)
    }

    /// Why an action gives something else than it gave; `output` is what is used of it, and the value that had.
    pub fn leaves(&self, id: &str, output: Option<(&str, Option<String>)>, seen: &mut BTreeSet<String>) -> Vec<Cause> {
        if !seen.insert(id.to_owned()) {
            return Vec::new();
        }
        if let Some(decision) = self.decisions.get(id).filter(|decision| decision.verdict != Verdict::Keep) {
            return decision.causes.iter().map(|cause| cause.through(id)).collect();
        }
        let producing = output.as_ref().and_then(|(output, was)| self.history.producing(id, output, was.as_deref()?));
        let earlier = producing.or_else(|| self.history.last(id));
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
    fn gone(&self, id: &str, earlier: Option<&RecordedAction>) -> Vec<Cause> {
        // What other actions still have did not go with it.
        let still: BTreeSet<(&str, &str)> = self
            .graph
            .in_order()
            .flat_map(|action| &action.inputs)
            .map(|input| (input.name.as_str(), input.value.as_str()))
            .collect();
        let inputs = earlier.map(|earlier| earlier.inputs.as_slice()).unwrap_or_default();
        let went = |(name, value): &&(String, String)| !still.contains(&(name.as_str(), value.as_str()));
        let inputs: Vec<(String, String)> = inputs.iter().filter(went).cloned().collect();
        let empty = crate::Action {
            id: id.to_owned(),
            stage: crate::Stage::Rootfs,
            kind: crate::ActionKind::Lock,
            version: 0,
            inputs: Vec::new(),
            upstream: Vec::new(),
            needs: Vec::new(),
        };
        let found = differences(&empty, &[], &inputs, self.history, &self.graph.absences).into_iter().filter_map(
            |one| match one {
                Difference::Own(cause) if cause.file.is_some() && !cause.is_of_lock => Some(cause.through(id)),
                _ => None,
            },
        );
        let mut found: Vec<Cause> = found.collect();
        // What other fields said to it did not take it away.
        let still_said = |cause: &Cause| matches!(&cause.leaf().reason, Reason::Removed { what, .. } if self.graph.absences.stands(what) && cause.line.is_none());
        if found.iter().any(|cause| !still_said(cause)) {
            found.retain(|cause| !still_said(cause));
        }
        if !found.is_empty() {
            return found;
        }
        let cause = Reason::Gone { action: id.to_owned() }.cause(None);
        let names = earlier.map(|earlier| earlier.inputs.as_slice()).unwrap_or_default();
        let first = names.iter().filter(|(name, _)| is_pass(id) && is_package(name));
        let first = first.filter_map(|(name, _)| self.history.place(id, name)).min_by_key(|(place, _)| place.line);
        vec![match first {
            Some((was, _)) => Cause {
                message: format!("{}: {}", was.file, cause.message),
                file: Some(was.file),
                was_line: Some(was.line),
                ..cause
            },
            None => cause,
        }]
    }
}

/// Whether a cause is a field that every recipe has: it is new to an action that is new, and no one wrote it for that.
fn is_of_every_image(cause: &Cause) -> bool {
    let every = ["image.name", "image.distro", "image.release", "image.arch"];
    matches!(&cause.leaf().reason, Reason::Added { what, .. } if every.contains(&what.as_str()))
}

fn is_package(input: &str) -> bool {
    InputName::of(input).kind == InputKind::Package
}

/// Whether an action is a pass of a package list.
fn is_pass(id: &str) -> bool {
    ["rootfs/packages-", "rootfs/otherpkgs-"].iter().any(|start| id.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, ActionKind, Input, Outputs, Place, Stage, Upstream, evaluate};

    #[derive(Default)]
    struct Memory {
        by_key: BTreeMap<base::digest::Digest, RecordedAction>,
        last: BTreeMap<String, RecordedAction>,
        places: BTreeMap<(String, String), (Place, Origin)>,
    }

    impl History for Memory {
        fn with_key(&self, key: &base::digest::Digest) -> Option<RecordedAction> {
            self.by_key.get(key).cloned()
        }
        fn last(&self, action: &str) -> Option<RecordedAction> {
            self.last.get(action).cloned()
        }
        fn knows_image(&self) -> bool {
            true
        }
        fn place(&self, action: &str, input: &str) -> Option<(Place, Origin)> {
            self.places.get(&(action.to_owned(), input.to_owned())).cloned()
        }
    }

    impl Memory {
        /// Remembers what a graph's build gave: each layer is named after its action.
        fn build(&mut self, graph: &ActionGraph, only: &[&str]) {
            for action in graph.in_order() {
                let decisions: BTreeMap<String, Decision> =
                    evaluate(graph, self).into_iter().map(|one| (one.action.clone(), one)).collect();
                let (key, inputs) = key_and_trace(action, &Outputs(&decisions));
                let outputs = BTreeMap::from([("layer".to_owned(), format!("layer of {}", action.id))]);
                let done = RecordedAction { inputs, outputs, intact: true, differs_in: None };
                self.by_key.insert(key.unwrap(), done.clone());
                if only.is_empty() || only.contains(&action.id.as_str()) {
                    self.last.insert(action.id.clone(), done);
                    for input in &action.inputs {
                        let Some(place) = input.place.clone() else { continue };
                        let name = (action.id.clone(), input.name.clone());
                        self.places.insert(name, (place, input.origin.clone()));
                    }
                }
            }
        }
    }

    fn action(id: &str, inputs: Vec<Input>, uses: &[&str]) -> Action {
        let upstream = uses.iter().map(|id| Upstream { action: (*id).to_owned(), output: "layer".to_owned() });
        let (id, upstream) = (id.to_owned(), upstream.collect());
        Action { id, stage: Stage::Rootfs, kind: ActionKind::Pack, version: 1, inputs, upstream, needs: Vec::new() }
    }

    fn at(line: usize) -> Option<Place> {
        Some(Place { file: "image.toml".to_owned(), line })
    }

    fn less() -> Input {
        let input = Input::new("package less:amd64", "1 a").of(Origin::Item("packages.install".to_owned()));
        Input { place: at(8), ..input }
    }

    fn of_lock(name: &str) -> Input {
        Input::new(format!("package {name}:amd64"), "1 b automatic").of(Origin::Lock)
    }

    fn platform() -> Input {
        Input { place: at(3), ..Input::parameter("platform", "debian bookworm x86_64") }
    }

    /// With packages of its own, or without: then what they share with the kernel comes with that.
    fn image(has_packages: bool) -> ActionGraph {
        let mut actions = vec![action("rootfs/base", vec![platform()], &[])];
        let mut kernel = vec![platform(), Input::parameter("kernel", "x")];
        let mut below = vec!["rootfs/base"];
        if has_packages {
            actions.push(action("rootfs/packages-1", vec![platform(), less(), of_lock("logsave")], &["rootfs/base"]));
            below.push("rootfs/packages-1");
        } else {
            kernel.push(of_lock("logsave"));
        }
        actions.push(action("kernel/payload", kernel, &[]));
        actions.push(action("pack/rootimg", vec![Input::parameter("archive", "cpio")], &below));
        ActionGraph::new(actions).unwrap()
    }

    fn said(graph: &ActionGraph, history: &Memory) -> Vec<String> {
        let runs = evaluate(graph, history).into_iter().filter(|one| one.verdict != Verdict::Keep);
        let words = |one: &Decision| one.causes.iter().map(|cause| cause.message.clone()).collect::<Vec<_>>();
        runs.map(|one| format!("{}: {}", one.action, words(&one).join("; "))).collect()
    }

    #[test]
    fn a_layer_that_another_image_built_is_new_to_this_one() {
        let why = "image.toml:8 packages.install += \"less\" (through rootfs/packages-1)";
        // Another image built it; a build of this one that stopped early took it. The rest is as it was.
        for taken in [&["none"][..], &["rootfs/base", "rootfs/packages-1"]] {
            let mut history = Memory::default();
            history.build(&image(false), &[]);
            history.build(&image(true), taken);
            let packed = history
                .by_key
                .iter()
                .find(|(_, one)| one.inputs.iter().any(|(name, _)| name == "layer rootfs/packages-1"));
            let packed = *packed.unwrap().0;
            history.by_key.remove(&packed);
            assert_eq!(said(&image(true), &history), [format!("pack/rootimg: {why}")], "{taken:?}");
        }
    }

    #[test]
    fn what_moves_with_a_layer_that_comes_or_goes_is_no_cause() {
        let mut history = Memory::default();
        history.build(&image(false), &[]);
        assert_eq!(
            said(&image(true), &history),
            [
                "rootfs/packages-1: image.toml:8 packages.install += \"less\"",
                "kernel/payload: image.toml:8 packages.install += \"less\" (through rootfs/packages-1)",
                "pack/rootimg: image.toml:8 packages.install += \"less\" (through rootfs/packages-1)",
            ]
        );
        let mut history = Memory::default();
        history.build(&image(true), &[]);
        assert_eq!(
            said(&image(false), &history),
            [
                "kernel/payload: image.toml packages.install -= \"less\" (through rootfs/packages-1)",
                "pack/rootimg: image.toml packages.install -= \"less\" (through rootfs/packages-1)",
            ]
        );
    }

    #[test]
    fn what_every_recipe_says_is_no_cause_of_a_new_action() {
        let every = |field: &str, line| {
            let input = Input::parameter(field, "x").of(Origin::Field(field.to_owned()));
            Input { place: at(line), ..input }
        };
        let base = || action("rootfs/base", vec![platform()], &[]);
        let support = |own: Option<Input>| {
            let inputs = [every("image.name", 2), every("image.arch", 4)].into_iter().chain(own).collect();
            ActionGraph::new(vec![base(), action("rootfs/xcat", inputs, &[])]).unwrap()
        };
        let mut history = Memory::default();
        history.build(&ActionGraph::new(vec![base()]).unwrap(), &[]);
        assert_eq!(
            said(&support(Some(every("xcat.node_support", 9))), &history),
            ["rootfs/xcat: image.toml:9 xcat.node_support = x"]
        );
        // Where nothing else is known, the action itself is what is new.
        let alone = said(&support(None), &history);
        assert!(alone.len() == 1 && !alone[0].contains("image."), "{alone:?}");
    }

    #[test]
    fn a_form_that_an_option_asks_for_has_the_option_as_its_cause() {
        let exclude = || {
            let line = Input { place: at(1), ..Input::new("exclude ./usr/share/*", "yes") };
            line.of(Origin::Line)
        };
        let form = |how: &str, origin| vec![Input::parameter("compress", how).of(origin), exclude()];
        let own = || action("pack/rootimg", form("zstd", Origin::Field("pack.compress".to_owned())), &[]);
        let option = Origin::Asked { option: "--publish".to_owned(), what: "rootimg in gzip".to_owned() };
        let mut history = Memory::default();
        history.build(&ActionGraph::new(vec![own()]).unwrap(), &[]);
        let both = ActionGraph::new(vec![own(), action("pack/rootimg-gzip", form("gzip", option), &[])]).unwrap();
        assert_eq!(said(&both, &history), ["pack/rootimg-gzip: --publish asks for rootimg in gzip"]);
    }
}
