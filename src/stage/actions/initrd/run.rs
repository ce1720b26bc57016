//! Composes imgbuild's own initrd.

use crate::plan::Action;
use crate::stage::actions::initrd::request::{initrd_request, say_drivers};
use crate::stage::builder::run::{Builder, Context};
use std::collections::BTreeMap;

use crate::stage::ids;

use crate::stage::StageError;
use crate::stage::actions::initrd::compose as initrd;
use crate::store::Outputs;

/// Composes it; gives its blob.
///
/// # Errors
/// [`StageError::Gate`] for drivers that the kernel lacks.
pub fn run(builder: &Builder<'_>, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
    let scratch = builder.store.scratch()?;
    let request = initrd_request(builder, action, context, &scratch.name)?;
    let _left = builder.handover(&request.handover);
    let answer: initrd::InitrdAnswer =
        builder.namespace.call("initrd", &request, &mut |text| builder.report.progress(text))?;
    // The same drivers in another form: said once.
    if action.id == ids::INITRD || !answer.missing.is_empty() {
        say_drivers(builder, &action.id, &answer, &request.release)?;
    }
    if let (Some(dump), true) = (&answer.dump, answer.missing.is_empty()) {
        super::kdump::say(builder, dump, &request.release)?;
    }
    let initrd = builder.take(&request.handover)?;
    Ok(Outputs { blobs: BTreeMap::from([("initrd".to_owned(), initrd)]), ..Outputs::default() })
}
