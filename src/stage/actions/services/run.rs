//! Host side of the `services` action: builds the request, stores the answer.

use crate::plan::Action;
use crate::stage::actions::Context;
use crate::stage::bench::Bench;

use crate::stage::bench::results::{below, layer_outputs};

use crate::stage::StageError;
use crate::stage::actions::services::inside as services;
use crate::store::Outputs;

/// Switches the units; gives what the action's record names.
pub fn run(bench: &Bench<'_>, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
    let (lock, base) = (context.lock, below(action, context.done)?);
    let units = &bench.recipe.units;
    let scratch = bench.store.scratch()?;
    let request = services::ServicesRequest {
        scratch: scratch.name.clone(),
        base,
        epoch: lock.epoch,
        units: units.iter().map(|unit| (unit.state, unit.name.clone())).collect(),
        log: bench.log_name(action),
    };
    let answer: services::ServicesAnswer =
        bench.namespace.call("services", &request, &mut |text| bench.report.progress(text))?;
    match answer {
        services::ServicesAnswer::Made(layer, remarks) => {
            for finding in services::warnings(bench.recipe, &remarks) {
                bench.report.finding(&finding);
            }
            Ok(layer_outputs(&layer))
        }
        services::ServicesAnswer::Refused(remarks) => {
            for finding in services::refusals(bench.recipe, &remarks) {
                bench.report.finding(&finding);
            }
            let named = |remark: &services::Remark| units.get(remark.unit).map(|unit| unit.name.as_str());
            let names = remarks.iter().filter_map(named).collect::<Vec<_>>().join(", ");
            Err(StageError::Units { names })
        }
        services::ServicesAnswer::Failed(command, result) => Err(StageError::Script {
            what: format!("`{command}` in the image"),
            status: result.status,
            lines: result.last_lines.join("\n"),
            remedy: String::new(),
            log: bench.store.directory().join(bench.log_name(action)).display().to_string(),
        }),
    }
}
