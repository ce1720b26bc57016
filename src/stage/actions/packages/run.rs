//! Host side of transactions: builds the request, stores the answer.

use crate::plan::Action;
use crate::recipe::Accounts;
use crate::stage::actions::Context;
use crate::stage::bench::Bench;
use crate::store::ScanAnswer;

use crate::distro::{Bootstrap, DistroError, Install, Uname, manager};
use crate::plan::ActionKind;
use crate::recipe::PassRole;
use crate::stage::bench::ids;
use crate::stage::bench::results::{below, layer_outputs, missing};

use crate::stage::StageError;
use crate::stage::actions::packages::tools::TOOLS_EPOCH;
use crate::store::Outputs;

/// Makes a tools root, whose packages are only unpacked, or the base.
pub fn bootstrap(bench: &Bench<'_>, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
    let Some(pass) = context.lock.pass(action.layer()) else { return Err(missing(&action.id)) };
    context.supply.have(&pass.packages)?;
    let configure = action.kind == ActionKind::Bootstrap;
    let request = Bootstrap {
        tools: if configure { context.done.layer(ids::TOOLS).into_iter().collect() } else { Vec::new() },
        packages: &pass.packages,
        ready: context.supply.directory(),
        configure,
        machine: bench.recipe.model.image.arch.machine().to_owned(),
        failing: &bench.recipe.model.packages.failing_scripts,
        epoch: if configure { context.lock.epoch } else { TOOLS_EPOCH },
        log: bench.log_name(action),
    };
    let work = (bench.store, bench.namespace);
    let answer = manager(bench.recipe).bootstrap(work, &request, &mut |text| bench.report.progress(text))?;
    Ok(with_accounts(&answer))
}

/// Runs a transaction.
/// Errors: [`StageError`] of its kind, with the script that failed.
pub fn install(bench: &Bench<'_>, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
    let (lock, done) = (context.lock, context.done);
    let Some(pass) = lock.pass(action.layer()) else { return Err(missing(&action.id)) };
    context.supply.have(&pass.packages)?;
    let variables = context
        .stages
        .package_requests
        .iter()
        .find(|package_request| package_request.name == pass.name)
        .map(|package_request| package_request.variables.clone())
        .unwrap_or_default();
    let made = context.stages.accounts.get(&action.id).cloned().unwrap_or_default();
    let request = Install {
        tools: vec![done.layer(ids::TOOLS)?],
        base: below(action, done)?,
        packages: &pass.packages,
        ready: context.supply.directory(),
        accounts: &made,
        uname: Uname {
            release: (pass.asks_release || pass.role() == PassRole::Kernel)
                .then(|| done.value(ids::PAYLOAD, "release"))
                .transpose()?,
            machine: bench.recipe.model.image.arch.machine().to_owned(),
            is_of_image: !pass.role().is_aside(),
        },
        over_payload: pass.role() == PassRole::Kernel,
        remove: &pass.remove,
        remove_after: &pass.remove_after,
        remove_with: &pass.remove_with,
        conflicting: &pass.conflicting,
        modules: &pass.modules,
        failing: &bench.recipe.model.packages.failing_scripts,
        variables: &variables,
        epoch: lock.epoch,
        log: bench.log_name(action),
    };
    let work = (bench.store, bench.namespace);
    let answer = manager(bench.recipe).install(work, &request, &mut |text| bench.report.progress(text));
    match answer {
        Err(DistroError::AsksRelease) => Err(StageError::AsksRelease {
            lock: bench.recipe.lock_name(),
            pass: pass.name.clone(),
            is_final: bench.is_locked,
        }),
        answer => Ok(with_accounts(&answer?)),
    }
}

pub fn with_accounts((answer, accounts): &(ScanAnswer, Accounts)) -> Outputs {
    let mut outputs = layer_outputs(answer);
    if !accounts.is_empty() {
        let text = serde_json::to_string(accounts).unwrap_or_default();
        outputs.values.insert(super::accounts::VALUE.to_owned(), text);
    }
    outputs
}
