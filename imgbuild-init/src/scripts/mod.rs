//! Postscripts: what a node runs after the kernel has started, without a daemon. The image's units run `imgbuild-init scripts
//! postscripts` before multi-user.target and `imgbuild-init scripts postbootscripts` after it.
//!
//! What runs is in the image (`usr/libexec/imgbuild/postscripts.json`), and, where the node reports to `imgbuild serve`, what the
//! server has for this node. One script after the other; none holds up the next one for longer than its time.

pub(crate) mod failed;
mod log;
mod one;
mod order;
mod phase;
mod plan;
pub(crate) mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::say;

use one::{Outcome, Script};
use phase::Phase;
use plan::{ImagePlan, Item, OnFailure};
use server::Server;

/// What is known to the image, below the root.
const PLAN: &str = "usr/libexec/imgbuild/postscripts.json";
/// Scripts of the image.
const OF_THE_IMAGE: &str = "usr/libexec/imgbuild/postscripts";
/// Scripts that came from the server; root's alone.
const OF_THE_SERVER: &str = "run/imgbuild/postscripts";
/// Where the output of scripts goes, a directory for each list.
const LOGS: &str = "var/log/imgbuild";

/// What is left in /run of the scripts of a start, below the root: another start has none of it.
pub(crate) const OF_THE_LAST_START: [&str; 3] =
    ["run/imgbuild/postscripts-failed", "run/imgbuild/results/postscripts", "run/imgbuild/results/postbootscripts"];

/// Runs a list, or an order by its path; gives the exit status: 0 where all scripts succeeded.
pub(crate) fn run(phase: &str, root: &Path) -> i32 {
    if phase.starts_with('/') {
        return order::run(phase.as_ref(), root);
    }
    let Some(phase) = Phase::named(phase) else {
        say!("`{phase}` is no list of scripts: postscripts or postbootscripts");
        return 2;
    };
    let plan = match ImagePlan::read(&root.join(PLAN)) {
        Ok(plan) => plan,
        Err(problem) => {
            say!("{problem}");
            return 2;
        }
    };
    if let Err(error) = crate::sys::adopt_orphans() {
        say!("processes that scripts leave behind cannot be found: {error}");
    }
    let server = Server::of_this_node(root);
    let mut results = Vec::new();
    let own = match server.as_ref().map(Server::scripts) {
        None => plan::NodePlan::default(),
        Some(Ok(own)) => own,
        Some(Err(problem)) => {
            let reason = format!("what the server has for this node is not known: {problem}");
            results.push(one::not_started("(the server's list)", reason));
            plan::NodePlan::default()
        }
    };
    let environment = plan::environment(&plan, &own, server.as_ref().map(Server::address));
    let logs = root.join(LOGS).join(phase.name());
    let mut names = BTreeMap::new();
    for item in plan::items(phase, &plan, &own) {
        let log = log_name(&item.name, &mut names);
        let result = match prepared(root, &item, &own, server.as_ref()) {
            Ok(file) => {
                let time = (plan.timeout > 0).then(|| Duration::from_secs(plan.timeout));
                one::run(&Script { item: &item, file: &file, environment: &environment, logs: &logs, log: &log, time })
            }
            Err(problem) => one::not_started(&item.name, problem),
        };
        say!("{}: {}: {}", phase.name(), item.name, result.reason);
        results.push(result);
    }
    let failed: Vec<&one::ScriptResult> = results.iter().filter(|result| result.outcome != Outcome::Done).collect();
    let fails = plan.on_failure == OnFailure::Fail && !failed.is_empty();
    if let Some(first) = failed.first().filter(|_| fails) {
        let text = format!("{}: {}: {}", phase.name(), first.name, first.reason);
        if let Err(error) = failed::leave_failure(root, &text) {
            say!("that a script failed cannot be noted: {error}");
        }
    }
    if let Some(server) = &server
        && !results.is_empty()
        && let Err(problem) = server.tell(root, phase, fails, &results)
    {
        say!("the server did not get what became of the {} yet: {problem}", phase.name());
    }
    i32::from(!failed.is_empty())
}

/// The name of a script's log; the same script with other arguments has another one.
fn log_name(script: &str, names: &mut BTreeMap<String, usize>) -> String {
    let name = script.replace('/', "-");
    let count = names.entry(name.clone()).or_default();
    *count += 1;
    if *count == 1 { name } else { format!("{name}-{count}") }
}

/// The file of a script: the server's where it has one for this node, else the image's.
fn prepared(root: &Path, item: &Item, own: &plan::NodePlan, server: Option<&Server>) -> Result<PathBuf, String> {
    if item.is_of_the_image {
        return Ok(root.join(OF_THE_IMAGE).join(&item.name));
    }
    match (own.files.get(&item.name), server) {
        (Some(file), Some(server)) => server.bring(&item.name, file, &root.join(OF_THE_SERVER)),
        _ => {
            let path = root.join(OF_THE_IMAGE).join(&item.name);
            match path.is_file() {
                true => Ok(path),
                false => Err("neither the server nor the image has a script of this name".to_owned()),
            }
        }
    }
}
