//! `imgbuild explain`: shows the inputs of actions.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;

use crate::Exit;
use crate::output::render;
use crate::plans::planned::stage_failed;
use crate::setup::{lock, recipe, store_directory};
use build::{ExactPlan, Forms, fresh_lock};
use plan::{History, Outputs, Verdict, key_and_trace};
use store::Store;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only actions whose name starts with this, for instance `rootfs/sync` or `pack`
    #[arg(value_name = "ACTION", default_value = "")]
    pub action: String,
    /// The image, if the workspace has several
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Serialize)]
struct Explained {
    action: String,
    verdict: Verdict,
    /// Null where it depends on what others give.
    key: Option<String>,
    inputs: Vec<ExplainedInput>,
}

#[derive(Debug, Serialize)]
struct ExplainedInput {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    was: Option<String>,
    #[serde(skip)]
    change: Change,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    None,
    Added,
    Removed,
    Changed,
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Exit {
    match explained(arguments, own) {
        Ok(all) if own.json => {
            render::print_json(&format!("{:#}\n", json!({"format_version": "1.0", "actions": all})));
            Exit::Done
        }
        Ok(all) => {
            // What someone asks for by its name is shown whole.
            let is_whole = arguments.verbose > 0 || !own.action.is_empty();
            render::print(&all.iter().map(|one| text_of(one, is_whole)).collect::<String>());
            if !is_whole {
                render::say("run `imgbuild explain ACTION`, or add -v, to show all inputs");
            }
            Exit::Done
        }
        Err(exit) => exit,
    }
}

/// An action for people: `~` for what changed since the last build, `+` and `-` for what came and went; whole, or without what is
/// as it was.
fn text_of(one: &Explained, is_whole: bool) -> String {
    let key = one.key.as_deref().unwrap_or("not known yet");
    let mut text = format!("{} {}\n  key {key}\n", one.action, one.verdict);
    let same = one.inputs.iter().filter(|input| input.change == Change::None).count();
    if !is_whole && same > 0 {
        text.push_str(&format!("    {}\n", render::counted_as(same, "unchanged input", "unchanged inputs")));
    }
    let shown = one.inputs.iter().filter(|input| is_whole || input.change != Change::None);
    for ExplainedInput { name, value, was, change } in shown {
        let (value, was) = (value.as_deref().unwrap_or_default(), was.as_deref().unwrap_or_default());
        text.push_str(&match change {
            Change::Changed => format!("  ~ {name} = {value}\n      was {was}\n"),
            Change::Added => format!("  + {name} = {value}\n"),
            Change::Removed => format!("  - {name} = {was}\n"),
            Change::None => format!("    {name} = {value}\n"),
        });
    }
    text
}

fn explained(arguments: &crate::Arguments, own: &Arguments) -> Result<Vec<Explained>, Exit> {
    let recipe = recipe(arguments, own.image.as_deref())?;
    let Ok(lock) = fresh_lock(&recipe, lock(&recipe)?) else {
        render::say(&format!(
            "{} is missing or out of date with the recipe; `imgbuild plan` shows why, `imgbuild build` updates it",
            recipe.lock_name()
        ));
        return Err(Exit::Input);
    };
    let store = Store::existing(&store_directory(arguments)?);
    let plan = ExactPlan::of(&recipe, &lock, &store, Forms::Own).map_err(stage_failed)?;
    let (history, decisions, graph) = (plan.history(&store), plan.by_action(), &plan.stages.graph);
    let mut all = Vec::new();
    for action in graph.in_order().filter(|action| action.id.starts_with(&own.action)) {
        let Some(decision) = decisions.get(&action.id) else { continue };
        let (_, trace) = key_and_trace(action, &Outputs(&decisions));
        let before: BTreeMap<String, String> =
            history.last(&action.id).map(|last| last.inputs.into_iter().collect()).unwrap_or_default();
        let mut inputs = Vec::new();
        for (name, value) in &trace {
            let was = before.get(name).filter(|was| *was != value).cloned();
            let change = match (&was, before.contains_key(name)) {
                (Some(_), _) => Change::Changed,
                (None, false) if !before.is_empty() => Change::Added,
                _ => Change::None,
            };
            inputs.push(ExplainedInput { name: name.clone(), value: Some(value.clone()), was, change });
        }
        for (name, was) in before.iter().filter(|(name, _)| !trace.iter().any(|(known, _)| known == *name)) {
            let (name, was) = (name.clone(), Some(was.clone()));
            inputs.push(ExplainedInput { name, value: None, was, change: Change::Removed });
        }
        all.push(Explained {
            action: action.id.clone(),
            verdict: decision.verdict,
            key: decision.key.map(|key| key.to_string()),
            inputs,
        });
    }
    if all.is_empty() {
        let names: Vec<&str> = graph.in_order().map(|action| action.id.as_str()).collect();
        render::say(&format!("there is no action `{}`; there are {}", own.action, names.join(", ")));
        return Err(Exit::Input);
    }
    Ok(all)
}
