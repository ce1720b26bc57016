//! `imgbuild explain`.

use std::collections::BTreeMap;

use super::setup::{lock, recipe, store_directory};
use super::{Exit, render};
use crate::digest::Digest;
use crate::plan::{Outputs, Past, Verdict, evaluate, key_and_trace};
use crate::stage::{Forms, LockState, StorePast, graph_of, init_program, lock_state};
use crate::store::Store;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only the actions whose name starts so, for instance `rootfs/sync` or `pack`
    #[arg(value_name = "ACTION", default_value = "")]
    pub action: String,
    /// The image, where the workspace has several
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
}

/// Runs the command.
pub fn run(arguments: &super::Arguments, own: &Arguments) -> Exit {
    match text(arguments, own) {
        Ok(text) => {
            render::print(&text);
            Exit::Done
        }
        Err(exit) => exit,
    }
}

fn text(arguments: &super::Arguments, own: &Arguments) -> Result<String, Exit> {
    let recipe = recipe(arguments, own.image.as_deref())?;
    let found = lock(&recipe)?;
    let state = lock_state(&recipe, found.as_ref());
    let (LockState::Fresh, Some(lock)) = (&state, &found) else {
        let text = "image.lock does not answer the recipe yet; `imgbuild plan` says why, `imgbuild build` renews it";
        render::say(&recipe.naming_lock(text));
        return Err(Exit::Input);
    };
    let stages = graph_of(&recipe, lock, &Digest::of(init_program()), Forms::Own).map_err(|error| {
        let exit = Exit::from(&error);
        render::say(&render::error(error));
        exit
    })?;
    let store = Store::existing(&store_directory(arguments)?);
    let past = StorePast::new(&store, store.root(&recipe.directory, &recipe.model.image.name));
    let decisions: BTreeMap<_, _> =
        evaluate(&stages.graph, &past).into_iter().map(|decision| (decision.action.clone(), decision)).collect();
    let mut text = String::new();
    for action in stages.graph.in_order().filter(|action| action.id.starts_with(&own.action)) {
        let Some(decision) = decisions.get(&action.id) else { continue };
        let verdict = match decision.verdict {
            Verdict::Keep => "keep",
            Verdict::Run => "run",
            Verdict::Depends => "depends",
        };
        let key = decision.key.map_or_else(|| "not known yet".to_owned(), |key| key.to_string());
        text.push_str(&format!("{} {verdict}\n  key {key}\n", action.id));
        let (_, trace) = key_and_trace(action, &Outputs(&decisions));
        let before: BTreeMap<String, String> =
            past.last(&action.id).map(|last| last.inputs.into_iter().collect()).unwrap_or_default();
        for (name, value) in &trace {
            match before.get(name) {
                Some(was) if was != value => text.push_str(&format!("  ~ {name} = {value}\n      was {was}\n")),
                None if !before.is_empty() => text.push_str(&format!("  + {name} = {value}\n")),
                _ => text.push_str(&format!("    {name} = {value}\n")),
            }
        }
        for (name, was) in before.iter().filter(|(name, _)| !trace.iter().any(|(known, _)| known == *name)) {
            text.push_str(&format!("  - {name} = {was}\n"));
        }
    }
    if text.is_empty() {
        let names: Vec<&str> = stages.graph.in_order().map(|action| action.id.as_str()).collect();
        render::say(&format!("there is no action `{}`; there are {}", own.action, names.join(", ")));
        return Err(Exit::Input);
    }
    Ok(text)
}
