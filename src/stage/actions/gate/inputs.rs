//! Inputs of the `gate` action's key.

use crate::plan::{Action, ActionKind, Stage, Upstream};
use crate::stage::actions::reader::Reader;
use crate::stage::bench::ids;

/// What the initrd is made of must be what the image has (D20), and declared mounts must still be there (D24).
pub fn add(reader: &mut Reader<'_>) {
    let mut upstream = reader.below();
    upstream.push(Upstream { action: ids::PAYLOAD.to_owned(), output: "value modules".to_owned() });
    let mut inputs = vec![reader.modules_from()];
    inputs.extend(reader.tmpfs());
    inputs.extend(reader.declared_lines());
    reader.actions.push(Action {
        id: ids::GATE.to_owned(),
        stage: Stage::Rootfs,
        kind: ActionKind::Gate,
        version: super::VERSION,
        inputs,
        upstream,
        needs: vec![ids::PAYLOAD.to_owned()],
    });
}
