//! One action again, by itself: its own commands, or a shell in the same root with the same files and environment.

use crate::actions;
use crate::builder::locking::relock::read_lock;
use crate::plan::{ExactPlan, fresh_lock};
use std::collections::BTreeMap;

use crate::StageError;
use crate::actions::Forms;
use crate::actions::{Context, Given};
use crate::bench::Bench;
use crate::bench::history::{StoreHistory, outputs_by_name};
use crate::bench::results::{Done, below, missing};
use crate::builder::run::Builder;
use crate::examine::shell::ShellRequest;
use crate::examine::shell::ShellTree;
use base::digest::Digest;
use plan::{Action, ActionGraph, ActionKind, Follow, Known, Verdict, key_and_trace};
use sandbox::{CommandResult, Substitute};
use store::Outputs;

/// Kinds of work that run no command: imgbuild does them itself.
fn is_without_commands(kind: ActionKind) -> bool {
    match kind {
        ActionKind::Unpack
        | ActionKind::Container
        | ActionKind::System
        | ActionKind::Gate
        | ActionKind::NodeSupport
        | ActionKind::Postscripts
        | ActionKind::Sync
        | ActionKind::Initrd
        | ActionKind::Pack
        | ActionKind::Statelite
        | ActionKind::Publish => true,
        ActionKind::Lock
        | ActionKind::Bootstrap
        | ActionKind::Install
        | ActionKind::Kernel
        | ActionKind::Driver
        | ActionKind::Role
        | ActionKind::Postinstall
        | ActionKind::Services
        | ActionKind::Dracut => false,
    }
}

#[derive(Debug, Clone)]
pub enum Again {
    /// As a build does, without keeping the result.
    Run,
    /// With a command on the terminal in place of its own.
    Command(Substitute),
}

#[derive(Debug, Clone)]
pub enum Reproduced {
    /// It ran: the layer, where it makes one, and what is not as the store has it.
    Ran {
        layer: Option<Digest>,
        /// The layer that the store has for the same inputs; none where it has no result.
        recorded: Option<Option<Digest>>,
        differs: Option<String>,
        /// What its commands printed, in the store's directory.
        log: String,
    },
    /// A command stood in and ended with this status.
    Stood(i32),
}

fn refused(problem: String, help: &str) -> StageError {
    StageError::NotToReproduce { problem, help: help.to_owned() }
}

/// What is not as it was when a key was made, where the store still has the record of that.
fn what_moved(builder: &Builder<'_>, graph: &ActionGraph, action: &Action, key: &Digest, known: &dyn Known) -> String {
    let Some(record) = builder.store.record(key) else { return String::new() };
    let was: Vec<(String, String)> = record.inputs.into_iter().map(|input| (input.name, input.value)).collect();
    let (_, now) = key_and_trace(action, known);
    let history = StoreHistory::new(builder.store, None);
    let causes = Follow { graph, known, history: &history, decisions: &BTreeMap::new() }.causes(&action.id, &now, &was);
    let shown: Vec<String> = causes.iter().take(6).map(|cause| cause.message.clone()).collect();
    if shown.is_empty() { String::new() } else { format!(": {}", shown.join("; ")) }
}

/// Goes through one action again. What it uses of others comes from the store; nothing is kept or published.
///
/// `key` is that of an earlier run: where the inputs are others now, that is reported and nothing runs.
/// Errors: [`StageError::NotToReproduce`] for an action that is not there, whose inputs moved, or for which the store lacks something;
/// the action's own.
pub fn reproduce(
    builder: &Builder<'_>,
    id: &str,
    key: Option<&Digest>,
    again: &Again,
) -> Result<Reproduced, StageError> {
    let lock = fresh_lock(builder.recipe, read_lock(builder)?).map_err(|_| {
        let problem = format!("{} is missing or out of date with the recipe", builder.recipe.lock_name());
        refused(problem, "run `imgbuild build` first")
    })?;
    builder.store.ensure_blob(crate::inside::init::init_for(builder.recipe.model.image.arch)?)?;
    let plan = ExactPlan::of(builder.recipe, &lock, builder.store, Forms::AndGzip)?;
    let stages = &plan.stages;
    let Some(action) = stages.graph.get(id) else {
        let names: Vec<&str> = stages.graph.in_order().map(|action| action.id.as_str()).collect();
        return Err(refused(format!("there is no action `{id}`"), &format!("there are {}", names.join(", "))));
    };
    let needed = stages.graph.with_all_below(|one| one.id == id);
    let mut done = Done::default();
    for decision in plan.decisions.iter().filter(|one| one.action != id && needed.contains(&one.action)) {
        let record =
            decision.key.filter(|_| decision.verdict == Verdict::Keep).and_then(|key| builder.store.record(&key));
        let Some(record) = record else {
            let problem = format!("{id} uses the result of {}, which is not in the store", decision.action);
            return Err(refused(problem, "run `imgbuild build` first: finished work is kept in the store"));
        };
        done.0.insert(decision.action.clone(), record.outputs);
    }
    let now = key_and_trace(action, &done).0.ok_or_else(|| missing(id))?;
    if let Some(was) = key.filter(|was| **was != now) {
        let problem = format!(
            "the inputs of {id} changed since it ran{}",
            what_moved(builder, &stages.graph, action, was, &done)
        );
        return Err(refused(problem, "leave out --key to use the current inputs"));
    }
    let fetcher = builder.fetcher()?;
    let supply = builder.supply(&fetcher);
    let context = Context { stages, lock: &lock, given: Given { done: &done, supply: &supply } };
    crate::actions::packages::emulator::of_action(&builder.bench(), &builder.shared.made, action, &context)?;
    match again {
        Again::Run => {
            let outputs = actions::run(&builder.bench(), action, &context)?;
            Ok(compare(builder, action, &now, &outputs))
        }
        Again::Command(substitute) if is_without_commands(action.kind) => {
            builder.report.progress("this action runs no command: this is the tree it works on");
            stand_in_tree(builder, action, &now, &done, substitute)
        }
        Again::Command(substitute) => {
            let namespace = builder.namespace.with_substitute(substitute.clone());
            let standing = Bench { namespace: &namespace, ..builder.bench() };
            match actions::run(&standing, action, &context) {
                Err(error) => match error.stood_in() {
                    Some(status) => Ok(Reproduced::Stood(status)),
                    None => Err(error),
                },
                Ok(_) => stand_in_tree(builder, action, &now, &done, substitute),
            }
        }
    }
}

/// A command in the tree below an action that runs none; of one that has nothing below, in what it gave.
fn stand_in_tree(
    builder: &Builder<'_>,
    action: &Action,
    key: &Digest,
    done: &Done,
    substitute: &Substitute,
) -> Result<Reproduced, StageError> {
    let mut layers = below(action, done)?;
    if layers.is_empty() {
        layers.extend(builder.store.record(key).and_then(|record| record.outputs.layer));
    }
    if layers.is_empty() {
        let problem = format!("{} has no layers below it, and its own result is not in the store", action.id);
        return Err(refused(problem, "run `imgbuild build` first"));
    }
    let scratch = builder.store.scratch()?;
    let request = ShellRequest {
        log: format!("logs/{}-shell.log", std::process::id()),
        scratch: scratch.name.clone(),
        tree: ShellTree::Layers(layers),
        arguments: substitute.arguments.clone(),
        terminal: substitute.terminal.clone(),
    };
    let result: CommandResult = builder.namespace.call_on_terminal("shell", &request)?;
    Ok(Reproduced::Stood(result.status))
}

fn compare(builder: &Builder<'_>, action: &Action, key: &Digest, outputs: &Outputs) -> Reproduced {
    let recorded = builder.store.record(key).map(|record| record.outputs);
    let differs = recorded.as_ref().filter(|was| *was != outputs).map(|was| {
        let (was, now) = (outputs_by_name(was), outputs_by_name(outputs));
        let name = was.iter().find(|(name, value)| now.get(*name) != Some(value)).map(|(name, _)| name.clone());
        name.unwrap_or_else(|| "a file".to_owned())
    });
    Reproduced::Ran {
        layer: outputs.layer,
        recorded: recorded.map(|outputs| outputs.layer),
        differs,
        log: builder.bench().log_name(action),
    }
}
