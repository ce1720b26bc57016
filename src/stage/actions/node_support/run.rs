//! Makes the layer with xCAT's side of a node.

use crate::plan::Action;
use crate::stage::actions::Context;
use crate::stage::bench::Bench;
use crate::stage::bench::results::missing;
use crate::stage::bench::taken::{Taken, take};

use crate::recipe::SyncedKind;
use crate::source::{Finding, Severity};
use crate::stage::StageError;
use crate::stage::actions::node_support::files::{lacking, xcatinfo};
use crate::stage::bench::results::{below, layer_outputs};

use crate::stage::actions::sync::inside::{SyncItem, SyncRequest};
use crate::stage::actions::sync::run::make;
use crate::store::{Outputs, Store};

pub fn run(bench: &Bench<'_>, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
    let Some(support) = &bench.recipe.node_support else { return Err(missing(&action.id)) };
    let (lock, done) = (context.lock, context.done);
    let base = below(action, done)?;
    let lacking = lacking(&bench.store.merged(&base)?);
    if !lacking.is_empty() {
        let text = format!("xCAT's scripts need programs that the image lacks: {}", lacking.join(", "));
        let mut finding = Finding::nowhere(Severity::Warning, "xcat::lacking", text);
        finding.span = bench.recipe.spans.get("xcat.node_support").cloned();
        bench.report.finding(&finding.help("add the packages to a package list"));
    }
    let mut items = Vec::new();
    let mut item = |destination: &str, content: Option<String>, link: Option<String>, mode: u32| {
        items.push(SyncItem {
            content,
            link,
            destination: destination.to_owned(),
            name_in_folder: None,
            mode,
            clause: "copy".to_owned(),
        });
    };
    for one in &support.files {
        match one.kind {
            SyncedKind::Directory => item(&one.destination, None, None, 0o755),
            SyncedKind::File => {
                let Taken { blob, mode } = take(bench, action, &one.name, &one.source)?;
                item(&one.destination, Some(blob), None, one.mode.unwrap_or(mode));
            }
        }
    }
    let info = xcatinfo(&support.osimage, lock.epoch, &base);
    let info = Store::blob_name(&bench.store.ensure_blob(info.as_bytes())?.digest);
    item("/opt/xcat/xcatinfo", Some(info), None, 0o644);
    // What `systemctl enable` makes of the unit's WantedBy=multi-user.target.
    item(
        "/etc/systemd/system/multi-user.target.wants/xcatpostinit1.service",
        None,
        Some("/etc/systemd/system/xcatpostinit1.service".to_owned()),
        0o777,
    );
    let scratch = bench.store.scratch()?;
    let request = SyncRequest { scratch: scratch.name.clone(), base, epoch: lock.epoch, items, earlier: None };
    let answer = make(bench, &request)?;
    let layer = answer.layer.map_err(|(_, problem)| {
        let help = "the files of xCAT's node support need that path: see docs/xcat.md".to_owned();
        StageError::Refused { problem, help }
    })?;
    Ok(layer_outputs(&layer))
}
