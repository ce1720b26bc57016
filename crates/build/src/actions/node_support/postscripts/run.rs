//! Makes the layer with scripts that nodes run.

use super::inputs::Postscripts;
use super::plan::{DIRECTORY, text};
use crate::StageError;
use crate::actions::reader::work::{Above, Desk, Place, Work};
use crate::actions::sync::inside::{SyncAnswer, SyncItem, SyncRequest};
use crate::bench::Bench;
use crate::bench::results::layer_outputs;
use crate::inside::init::init_for;
use base::source::{Finding, Severity};
use store::Outputs;

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

impl Work for Postscripts {
    const OPERATION: &'static str = "sync";
    type Request = SyncRequest;
    type Answer = SyncAnswer;

    fn before(&self, bench: &Bench<'_>, above: &Above<'_>) -> Result<(), StageError> {
        let recipe = bench.recipe;
        let tree = bench.store.merged(&above.below()?)?;
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
        for one in recipe.node_scripts.iter().flat_map(|scripts| scripts.files.values()) {
            if let Some(program) = one.interpreter.as_deref().filter(|program| !has(program.trim_start_matches('/'))) {
                let text = format!("the image has no `{program}`, which runs `{}`", one.name);
                let finding = Finding::warning("node::no_interpreter", &one.span, text).label("named here");
                bench.report.finding(
                    &finding.help("add the package that has it, or nodes report that the script cannot be started"),
                );
            }
        }
        Ok(())
    }

    fn request(&self, above: &Above<'_>, place: &Place) -> Result<SyncRequest, StageError> {
        let file = |name: String, content, mode| SyncItem::file(&format!("{DIRECTORY}/{name}"), content, mode);
        let mut items = vec![
            file("imgbuild-init".to_owned(), above.kept(init_for(self.arch.0)?)?, 0o755),
            // Variables of the recipe are in it.
            file("postscripts.json".to_owned(), above.kept(&text(self))?, 0o600),
            SyncItem::directory(&format!("{DIRECTORY}/postscripts")),
        ];
        for (name, one) in &self.files {
            items.push(file(format!("postscripts/{name}"), above.content(one)?, 0o755));
        }
        for (name, text) in UNITS {
            let unit = format!("/usr/lib/systemd/system/{name}");
            items.push(SyncItem::file(&unit, above.kept(text.as_bytes())?, 0o644));
            // What `systemctl enable` makes of WantedBy=, so that `systemctl disable` takes it away.
            items.push(SyncItem::link(&format!("/etc/systemd/system/multi-user.target.wants/{name}"), &unit));
        }
        let (scratch, base) = (place.scratch.clone(), above.below()?);
        Ok(SyncRequest { scratch, base, epoch: *self.epoch, items, homes: Vec::new(), earlier: None })
    }

    fn damaged(answer: &SyncAnswer) -> Option<&str> {
        answer.damaged.as_deref()
    }

    fn finish(&self, _: &Desk<'_>, answer: SyncAnswer) -> Result<Outputs, StageError> {
        let layer = answer.layer.map_err(|(_, problem)| {
            let help = "what runs scripts on nodes needs that path: see docs/postscripts.md".to_owned();
            StageError::Refused { problem, help }
        })?;
        Ok(layer_outputs(&layer))
    }
}
