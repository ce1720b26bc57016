//! Scripts that run again on a running node: `imgbuild sync --scripts` brings an order and its files over ssh, and takes the results.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::one::{self, Outcome, Script, ScriptResult};
use super::phase::Phase;
use super::plan::{self, ImagePlan, Item, NodePlan};
use super::server::Server;
use super::{LOGS, PLAN, log_name};
use crate::say;

/// The order, written by the other side: the lists, and what is where.
#[derive(Debug, Deserialize)]
struct Order {
    /// Seconds for all scripts together.
    seconds: u64,
    /// What nodes.toml says of this node; it counts more than the image's.
    #[serde(default)]
    environment: BTreeMap<String, String>,
    scripts: Vec<Ordered>,
}

/// A script of it.
#[derive(Debug, Deserialize)]
struct Ordered {
    /// The list that it is of: where its log goes.
    phase: String,
    name: String,
    #[serde(default)]
    arguments: Vec<String>,
    /// Its file, relative to the order's directory.
    file: String,
}

/// What became of a script.
#[derive(Debug, Serialize)]
struct Reported<'a> {
    phase: &'static str,
    #[serde(flatten)]
    result: &'a ScriptResult,
}

/// Where the results are left, beside the order.
const RESULTS: &str = "results.json";

/// Runs the scripts of an order; gives the exit status: 0 where all succeeded, 2 where none could be tried.
pub(super) fn run(order: &Path, root: &Path) -> i32 {
    match tried(order, root) {
        Ok(all_good) => i32::from(!all_good),
        Err(problem) => {
            say!("{problem}");
            2
        }
    }
}

fn tried(path: &Path, root: &Path) -> Result<bool, String> {
    let said = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let order: Order = serde_json::from_slice(&std::fs::read(path).map_err(|error| said(&error))?)
        .map_err(|error| format!("the order cannot be read: {error}"))?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let plan = ImagePlan::read(&root.join(PLAN))?;
    if let Err(error) = crate::sys::adopt_orphans() {
        say!("processes that scripts leave behind cannot be found: {error}");
    }
    let server = Server::of_this_node(root);
    let own = NodePlan::of_environment(order.environment);
    let environment = plan::environment(&plan, &own, server.as_ref().map(Server::address));
    let until = Instant::now() + Duration::from_secs(order.seconds);
    let (mut names, mut results) = (BTreeMap::new(), Vec::new());
    for one in order.scripts {
        let Some(phase) = Phase::named(&one.phase) else {
            return Err(format!("`{}` is no list of scripts", one.phase));
        };
        let logs = root.join(LOGS).join(phase.name());
        let log = log_name(&one.name, names.entry(phase.name()).or_default());
        let left = until.saturating_duration_since(Instant::now());
        let item = Item { name: one.name, arguments: one.arguments, is_of_the_image: false };
        let result = if left.is_zero() {
            one::not_started(&item.name, "the time for all scripts was over".to_owned())
        } else {
            let time = if plan.timeout > 0 { left.min(Duration::from_secs(plan.timeout)) } else { left };
            let file = directory.join(&one.file);
            let (time, environment) = (Some(time), &environment);
            one::run(&Script { item: &item, file: &file, environment, logs: &logs, log: &log, time })
        };
        say!("{}: {}: {}", phase.name(), item.name, result.reason);
        results.push((phase, result));
    }
    let all_good = results.iter().all(|(_, result)| result.outcome == Outcome::Done);
    let reported: Vec<_> = results.iter().map(|(phase, result)| Reported { phase: phase.name(), result }).collect();
    let text = serde_json::to_vec(&reported).map_err(|error| error.to_string())?;
    let path = directory.join(RESULTS);
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(all_good)
}
