//! Composes imgbuild's own initrd.

use crate::plan::Action;
use crate::stage::actions::Context;
use crate::stage::actions::initrd::request::{initrd_request, say_drivers};
use crate::stage::bench::Bench;
use std::collections::BTreeMap;

use crate::stage::bench::ids;

use crate::stage::StageError;
use crate::stage::actions::initrd::compose as initrd;
use crate::store::Outputs;

/// Composes it; gives its blob.
/// Errors: [`StageError::Gate`] for drivers that the kernel lacks.
pub fn run(bench: &Bench<'_>, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
    let scratch = bench.store.scratch()?;
    let request = initrd_request(bench, action, context, &scratch.name)?;
    let _left = bench.handover(&request.handover);
    let answer: initrd::InitrdAnswer =
        bench.namespace.call("initrd", &request, &mut |text| bench.report.progress(text))?;
    // The same drivers in another form: said once.
    if action.id == ids::INITRD || !answer.missing.is_empty() {
        say_drivers(bench, &action.id, &answer, &request.release)?;
    }
    if let (Some(dump), true) = (&answer.dump, answer.missing.is_empty()) {
        super::kdump::say(bench, dump, &request.release)?;
    }
    let initrd = bench.take(&request.handover)?;
    Ok(Outputs { blobs: BTreeMap::from([("initrd".to_owned(), initrd)]), ..Outputs::default() })
}
