//! Inputs of the `services` action's key.

use crate::actions::Described;
use crate::actions::reader::Reader;
use crate::bench::ids;
use crate::bench::keyed::{Key, Keyed};
use plan::{ActionKind, Input};
use recipe::UnitState;

/// Units and what they are to be, in the order in which that is done.
#[derive(Debug)]
pub struct Services {
    pub epoch: Keyed<i64>,
    pub units: Vec<Keyed<(UnitState, String)>>,
}

/// After the script, so that its units count too.
pub(crate) fn add(reader: &mut Reader<'_>) {
    let units = &reader.recipe.units;
    if units.is_empty() {
        return;
    }
    let mut key = Key::default();
    let named = units.iter().map(|unit| (unit.state, unit.name.clone()));
    let named = named.filter(|(state, _)| *state != UnitState::Mask || !fault::planted("services-key-forgets-masked"));
    let services = Services {
        epoch: key.epoch(reader.lock),
        units: key.keep_each(named, |index, (state, name)| {
            reader.asked(Input::new(format!("{} {name}", state.verb()), "yes"), Some(&units[index].span))
        }),
    };
    reader.layer("services", ActionKind::Services, super::VERSION, key.inputs(), Vec::new());
    reader.describe(&ids::layer("services"), Described::Services(services));
}
