//! Inputs of the `services` action's key.

use crate::plan::{ActionKind, Input};
use crate::stage::actions::reader::Reader;

/// After the script, so that its units count too.
pub fn add(reader: &mut Reader<'_>) {
    let units = &reader.recipe.units;
    if units.is_empty() {
        return;
    }
    let mut inputs = vec![Input::parameter("epoch", reader.lock.epoch)];
    inputs.extend(
        units.iter().map(|unit| {
            reader.asked(Input::new(format!("{} {}", unit.state.verb(), unit.name), "yes"), Some(&unit.span))
        }),
    );
    reader.layer("services", ActionKind::Services, super::VERSION, inputs, Vec::new());
}
