//! Makes the layer with scripts that nodes run.

use super::plan::{DIRECTORY, text};
use crate::plan::Action;
use crate::source::{Finding, Severity};
use crate::stage::StageError;
use crate::stage::actions::Context;
use crate::stage::actions::sync::inside::{SyncItem, SyncRequest};
use crate::stage::actions::sync::run::make;
use crate::stage::bench::Bench;
use crate::stage::bench::results::{below, layer_outputs, missing};
use crate::stage::bench::taken::{Taken, take};
use crate::stage::inside::init::init_for;
use crate::store::{Outputs, Store};

/// The units: name and text. The first is a part of the usual target, so that what is ordered behind it, and the node's report, wait
/// for it; the second runs behind the target, and nothing waits for it but the report.
const UNITS: [(&str, &str); 2] = [
    (
        "imgbuild-postscripts.service",
        "[Unit]\nDescription=Postscripts of this node\nWants=network-online.target\n\
         After=network-online.target nss-lookup.target local-fs.target remote-fs.target rsyslog.service\n\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\nTimeoutStartSec=infinity\nStandardOutput=journal+console\n\
         ExecStart=/usr/libexec/imgbuild/imgbuild-init scripts postscripts\n\n\
         [Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "imgbuild-postbootscripts.service",
        "[Unit]\nDescription=Postbootscripts of this node\nDefaultDependencies=no\n\
         After=multi-user.target graphical.target imgbuild-postscripts.service\nConflicts=shutdown.target\nBefore=shutdown.target\n\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\nTimeoutStartSec=infinity\nStandardOutput=journal+console\n\
         ExecStart=/usr/libexec/imgbuild/imgbuild-init scripts postbootscripts\n\n\
         [Install]\nWantedBy=multi-user.target\n",
    ),
];

pub fn run(bench: &Bench<'_>, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
    let recipe = bench.recipe;
    let (Some(scripts), Some(plan)) = (&recipe.node_scripts, text(recipe)) else { return Err(missing(&action.id)) };
    let base = below(action, context.done)?;
    let tree = bench.store.merged(&base)?;
    let has = |path: &str| tree.0.contains_key(path) || tree.0.contains_key(&format!("usr/{path}"));
    if !has("usr/lib/systemd/systemd") && !has("lib/systemd/systemd") {
        let text = "the image has no systemd, and nothing starts the scripts of `‹[node]›`";
        let mut finding = Finding::nowhere(Severity::Warning, "node::no_systemd", text);
        finding.span = recipe.spans.get("node").cloned();
        let help = format!(
            "add a package such as systemd-sysv; or let an init script run `{DIRECTORY}/imgbuild-init scripts postscripts`"
        );
        bench.report.finding(&finding.help(help));
    }
    let mut items = Vec::new();
    let mut item = |destination: String, content: Option<String>, link: Option<String>, mode: u32| {
        let clause = "copy".to_owned();
        items.push(SyncItem { content, link, destination, name_in_folder: None, mode, clause });
    };
    let blob = |bytes: &[u8]| Ok::<_, StageError>(Store::blob_name(&bench.store.ensure_blob(bytes)?.digest));
    let init = blob(init_for(recipe.model.image.arch)?)?;
    item(format!("{DIRECTORY}/imgbuild-init"), Some(init), None, 0o755);
    // Variables of the recipe are in it.
    item(format!("{DIRECTORY}/postscripts.json"), Some(blob(&plan)?), None, 0o600);
    item(format!("{DIRECTORY}/postscripts"), None, None, 0o755);
    for (name, one) in &scripts.files {
        let Taken { blob, .. } = take(bench, action, &one.name, &one.path)?;
        item(format!("{DIRECTORY}/postscripts/{name}"), Some(blob), None, 0o755);
        if let Some(program) = one.interpreter.as_deref().filter(|program| !has(program.trim_start_matches('/'))) {
            let text = format!("the image has no `{program}`, which runs `{}`", one.name);
            let finding = Finding::warning("node::no_interpreter", &one.span, text).label("named here");
            bench.report.finding(
                &finding.help("add the package that has it, or nodes report that the script cannot be started"),
            );
        }
    }
    for (name, text) in UNITS {
        item(format!("/usr/lib/systemd/system/{name}"), Some(blob(text.as_bytes())?), None, 0o644);
        // What `systemctl enable` makes of WantedBy=, so that `systemctl disable` takes it away.
        let wants = format!("/etc/systemd/system/multi-user.target.wants/{name}");
        item(wants, None, Some(format!("/usr/lib/systemd/system/{name}")), 0o777);
    }
    let scratch = bench.store.scratch()?;
    let request = SyncRequest { scratch: scratch.name.clone(), base, epoch: context.lock.epoch, items, earlier: None };
    let answer = make(bench, &request)?;
    let layer = answer.layer.map_err(|(_, problem)| {
        let help = "what runs scripts on nodes needs that path: see docs/postscripts.md".to_owned();
        StageError::Refused { problem, help }
    })?;
    Ok(layer_outputs(&layer))
}
