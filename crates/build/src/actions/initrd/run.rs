//! Composes imgbuild's own initrd.

use std::collections::BTreeMap;

use super::compose::{InitrdAnswer, InitrdRequest};
use super::inputs::Initrd;
use super::request::say_drivers;
use crate::StageError;
use crate::actions::initrd::DRIVERS;
use crate::actions::reader::work::{Above, Desk, Place, Work};
use crate::bench::ids;
use store::Outputs;

impl Work for Initrd {
    const OPERATION: &'static str = "initrd";
    type Request = InitrdRequest;
    type Answer = InitrdAnswer;

    fn request(&self, above: &Above<'_>, place: &Place) -> Result<InitrdRequest, StageError> {
        self.asked(above, place)
    }

    fn finish(&self, desk: &Desk<'_>, answer: InitrdAnswer) -> Result<Outputs, StageError> {
        // The same drivers in another form: said once.
        if desk.id() == ids::INITRD || !answer.missing.is_empty() {
            say_drivers(desk.bench, desk.id(), &answer, &desk.above.value(ids::PAYLOAD, "release")?)?;
        }
        if let (Some(dump), true) = (&answer.dump, answer.missing.is_empty()) {
            super::kdump::say(desk.bench, dump, &desk.above.value(ids::PAYLOAD, "release")?)?;
        }
        let initrd = desk.bench.take(&desk.place.handover)?;
        let values = BTreeMap::from([(DRIVERS.to_owned(), answer.drivers.join(" "))]);
        Ok(Outputs { blobs: BTreeMap::from([("initrd".to_owned(), initrd)]), values, ..Outputs::default() })
    }
}
