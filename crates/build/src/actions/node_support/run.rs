//! Makes the layer with xCAT's side of a node.

use super::files::{lacking, xcatinfo};
use super::inputs::Support;
use crate::StageError;
use crate::actions::reader::work::{Above, Desk, Place, Work};
use crate::actions::sync::inside::{SyncAnswer, SyncItem, SyncRequest};
use crate::bench::Bench;
use crate::bench::results::layer_outputs;
use base::source::{Finding, Severity};
use store::Outputs;

impl Work for Support {
    const OPERATION: &'static str = "sync";
    type Request = SyncRequest;
    type Answer = SyncAnswer;

    fn before(&self, bench: &Bench<'_>, above: &Above<'_>) -> Result<(), StageError> {
        let lacking = lacking(&bench.store.merged(&above.below()?)?);
        if !lacking.is_empty() {
            let text = format!("xCAT's scripts need programs that the image lacks: {}", lacking.join(", "));
            let mut finding = Finding::nowhere(Severity::Warning, "xcat::lacking", text);
            finding.span = bench.recipe.spans.get("xcat.node_support").cloned();
            bench.report.finding(&finding.help("add the packages to a package list"));
        }
        Ok(())
    }

    fn request(&self, above: &Above<'_>, place: &Place) -> Result<SyncRequest, StageError> {
        let base = above.below()?;
        let mut items = Vec::new();
        for (placed, file) in &self.files {
            items.push(match file {
                None => SyncItem::directory(&placed.destination),
                Some(file) => {
                    let mode = placed.mode.unwrap_or(file.mode);
                    SyncItem::file(&placed.destination, above.content(file)?, mode)
                }
            });
        }
        let info = above.kept(xcatinfo(&self.osimage, *self.epoch, &base).as_bytes())?;
        items.push(SyncItem::file("/opt/xcat/xcatinfo", info, 0o644));
        // What `systemctl enable` makes of the unit's WantedBy=multi-user.target.
        items.push(SyncItem::link(
            "/etc/systemd/system/multi-user.target.wants/xcatpostinit1.service",
            "/etc/systemd/system/xcatpostinit1.service",
        ));
        Ok(SyncRequest {
            scratch: place.scratch.clone(),
            base,
            epoch: *self.epoch,
            items,
            homes: Vec::new(),
            earlier: None,
        })
    }

    fn damaged(answer: &SyncAnswer) -> Option<&str> {
        answer.damaged.as_deref()
    }

    fn finish(&self, _: &Desk<'_>, answer: SyncAnswer) -> Result<Outputs, StageError> {
        let layer = answer.layer.map_err(|(_, problem)| {
            let help = "the files of xCAT's node support need that path: see docs/xcat.md".to_owned();
            StageError::Refused { problem, help }
        })?;
        Ok(layer_outputs(&layer))
    }
}
