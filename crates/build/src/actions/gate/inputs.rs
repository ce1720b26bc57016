//! Inputs of the `gate` action's key.

use crate::actions::Described;
use crate::actions::reader::{Declared, Reader};
use crate::bench::ids;
use crate::bench::keyed::{Key, Keyed, Said};
use plan::{Action, ActionKind, Stage, Upstream};
use recipe::{Arch, ModulesFrom};

/// What the image is compared with.
#[derive(Debug)]
pub struct Gate {
    pub modules_from: Keyed<ModulesFrom>,
    pub declared: Declared,
    /// What programs of the layers below are for.
    pub arch: Said<Arch>,
    /// What could have changed the image.
    pub script: Said<String>,
}

/// What the initrd is made of must be what the image has (D20), and declared mounts must still be there (D24).
pub(crate) fn add(reader: &mut Reader<'_>) {
    let mut upstream = reader.below();
    upstream.push(Upstream { action: ids::PAYLOAD.to_owned(), output: "value modules".to_owned() });
    let recipe = reader.recipe;
    let mut key = Key::default();
    let gate = Gate {
        modules_from: reader.modules_from(&mut key),
        declared: reader.declared(&mut key),
        arch: Said(recipe.model.image.arch),
        script: Said(recipe.postinstall.as_ref().map_or("the recipe".to_owned(), |scripts| scripts.names())),
    };
    reader.actions.push(Action {
        id: ids::GATE.to_owned(),
        stage: Stage::Rootfs,
        kind: ActionKind::Gate,
        version: super::VERSION,
        inputs: key.inputs(),
        upstream,
        needs: vec![ids::PAYLOAD.to_owned()],
    });
    reader.describe(ids::GATE, Described::Gate(gate));
}
