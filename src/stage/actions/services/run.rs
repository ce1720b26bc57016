//! Host side of the `services` action: builds the request, stores the answer.

use crate::plan::Action;
use crate::stage::builder::run::{Builder, Context};

use crate::stage::results::{below, layer_outputs};

use crate::stage::StageError;
use crate::stage::actions::services::inside as services;
use crate::store::Outputs;

/// Switches the units; gives what the action's record names.
///
/// # Errors
/// [`StageError`] of its kind.
pub fn run(builder: &Builder<'_>, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
    let (lock, base) = (context.lock, below(action, context.done)?);
    let units = &builder.recipe.units;
    let scratch = builder.store.scratch()?;
    let request = services::ServicesRequest {
        scratch: scratch.name.clone(),
        base,
        epoch: lock.epoch,
        units: units.iter().map(|unit| (unit.state, unit.name.clone())).collect(),
        log: builder.log_name(action),
    };
    let answer: services::ServicesAnswer =
        builder.namespace.call("services", &request, &mut |text| builder.report.progress(text))?;
    match answer {
        services::ServicesAnswer::Made(layer, remarks) => {
            for finding in services::warnings(builder.recipe, &remarks) {
                builder.report.finding(&finding);
            }
            Ok(layer_outputs(&layer))
        }
        services::ServicesAnswer::Refused(remarks) => {
            for finding in services::refusals(builder.recipe, &remarks) {
                builder.report.finding(&finding);
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
            log: builder.store.directory().join(builder.log_name(action)).display().to_string(),
        }),
    }
}
