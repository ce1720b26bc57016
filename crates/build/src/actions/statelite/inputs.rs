//! Inputs of the `statelite` action's key.

use crate::actions::Described;
use crate::actions::reader::Reader;
use crate::bench::ids;
use crate::bench::keyed::{Key, Keyed};
use plan::{Action, ActionKind, Input, Stage};
use recipe::StateliteList;

/// The list, with the places of its lines.
#[derive(Debug)]
pub struct Statelite(pub Keyed<StateliteList>);

/// Adds the action of the list. It depends on the image, as what it names has to be there.
pub(crate) fn add(reader: &mut Reader<'_>, own: &StateliteList) {
    let mut key = Key::default();
    let statelite = Statelite(key.keep_all(own.clone(), |own| inputs(reader, own)));
    let upstream = reader.below();
    reader.actions.push(Action {
        id: ids::STATELITE.to_owned(),
        stage: Stage::Pack,
        kind: ActionKind::Statelite,
        version: super::VERSION,
        inputs: key.inputs(),
        upstream,
        needs: vec![ids::GATE.to_owned()],
    });
    reader.describe(ids::STATELITE, Described::Statelite(statelite));
}

fn inputs(reader: &Reader<'_>, own: &StateliteList) -> Vec<Input> {
    let list = &own.list;
    let mut inputs = vec![reader.setting("image", &list.image, "image.name")];
    for (entry, span) in list.entries.iter().zip(&own.entries) {
        inputs.push(reader.asked(Input::new(format!("path {}", entry.path), entry.way.name()), Some(span)));
    }
    for (at, (tree, span)) in list.trees.iter().zip(&own.trees).enumerate() {
        let value = format!("{} {}", tree.source, tree.options);
        inputs.push(reader.asked(Input::new(format!("tree {}", at + 1), value), Some(span)));
    }
    for (at, (state, span)) in list.states.iter().zip(&own.states).enumerate() {
        let value = format!("{} {} {}", state.nodes.join(","), state.source, state.options);
        inputs.push(reader.asked(Input::new(format!("state {}", at + 1), value), Some(span)));
    }
    if let Some(disk) = &list.local_disk {
        inputs.push(reader.setting("local_disk", &disk.device, "statelite.local_disk"));
    }
    for (name, value) in &list.variables {
        inputs.push(reader.setting(&format!("variable {name}"), value, &format!("statelite.variables.{name}")));
    }
    inputs
}
