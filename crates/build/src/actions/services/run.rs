//! Host side of the `services` action: builds the request, stores the answer.

use super::inputs::Services;
use super::inside::{Remark, ServicesAnswer, ServicesRequest, refusals, warnings};
use crate::StageError;
use crate::actions::reader::work::{Above, Desk, Place, Work};
use crate::bench::results::layer_outputs;
use store::Outputs;

impl Work for Services {
    const OPERATION: &'static str = "services";
    type Request = ServicesRequest;
    type Answer = ServicesAnswer;

    fn request(&self, above: &Above<'_>, place: &Place) -> Result<ServicesRequest, StageError> {
        Ok(ServicesRequest {
            scratch: place.scratch.clone(),
            base: above.below()?,
            epoch: *self.epoch,
            units: self.units.iter().map(|unit| (**unit).clone()).collect(),
            log: place.log.clone(),
        })
    }

    fn finish(&self, desk: &Desk<'_>, answer: ServicesAnswer) -> Result<Outputs, StageError> {
        let say = |findings: Vec<_>| findings.iter().for_each(|finding| desk.bench.report.finding(finding));
        match answer {
            ServicesAnswer::Made(layer, remarks) => {
                say(warnings(desk.bench.recipe, &remarks));
                Ok(layer_outputs(&layer))
            }
            ServicesAnswer::Refused(remarks) => {
                say(refusals(desk.bench.recipe, &remarks));
                let named = |remark: &Remark| self.units.get(remark.unit).map(|unit| unit.1.as_str());
                let names = remarks.iter().filter_map(named).collect::<Vec<_>>().join(", ");
                Err(StageError::Units { names })
            }
            ServicesAnswer::Failed(command, result) => Err(desk.failed(&format!("`{command}` in the image"), &result)),
        }
    }
}
