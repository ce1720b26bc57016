//! Composes the initrd with dracut.

use std::collections::BTreeMap;

use super::inputs::Dracut;
use super::{DracutAnswer, DracutRequest};
use crate::StageError;
use crate::actions::initrd::DRIVERS;
use crate::actions::initrd::request::say_drivers;
use crate::actions::reader::work::{Above, Desk, Place, Work};
use crate::bench::Bench;
use crate::bench::ids;
use base::source::{Finding, Severity};
use store::Outputs;

impl Work for Dracut {
    const OPERATION: &'static str = "dracut";
    type Request = DracutRequest;
    type Answer = DracutAnswer;

    fn request(&self, above: &Above<'_>, place: &Place) -> Result<DracutRequest, StageError> {
        let mut conf = Vec::new();
        for file in &self.conf {
            conf.push((file.name.rsplit('/').next().unwrap_or(&file.name).to_owned(), file.text()?));
        }
        Ok(DracutRequest {
            scratch: place.scratch.clone(),
            initrd: self.initrd.asked(above, place)?,
            tools: vec![above.layer(ids::BASE)?, above.layer(ids::DRACUT_TOOLS)?],
            add: self.added.iter().map(|name| (**name).clone()).collect(),
            omit: self.omitted.iter().map(|name| (**name).clone()).collect(),
            conf,
            log: place.log.clone(),
        })
    }

    fn finish(&self, desk: &Desk<'_>, answer: DracutAnswer) -> Result<Outputs, StageError> {
        let (answer, not_installed) = match answer {
            DracutAnswer::Made(answer, not_installed) => (answer, not_installed),
            DracutAnswer::Failed(result) => return Err(desk.failed("dracut", &result)),
        };
        // The same drivers in another form: said once.
        if desk.id() == ids::INITRD || !answer.missing.is_empty() {
            say_drivers(desk.bench, desk.id(), &answer, &desk.above.value(ids::PAYLOAD, "release")?)?;
            // Who edits them now means the next build.
            let conf: Vec<String> = self.conf.iter().filter_map(|file| file.text().ok()).collect();
            say_not_installed(desk.bench, &not_installed, &conf);
        }
        let initrd = desk.bench.take(&desk.place.handover)?;
        let values = BTreeMap::from([(DRIVERS.to_owned(), answer.drivers.join(" "))]);
        Ok(Outputs { blobs: BTreeMap::from([("initrd".to_owned(), initrd)]), values, ..Outputs::default() })
    }
}

/// A warning for what the recipe's own files ask for, a note for what dracut's modules would have liked.
fn say_not_installed(bench: &Bench<'_>, names: &[String], conf: &[String]) {
    // imgbuild's module has something in its place.
    let names = names.iter().filter(|name| *name != "reboot");
    let asks = |name: &&String| conf.iter().any(|text| text.contains(name.as_str()));
    let (asked, other): (Vec<&String>, Vec<&String>) = names.partition(asks);
    let listed = |names: &[&String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if !asked.is_empty() {
        let text = format!("dracut's tools root has no {}, which ‹[initrd]› dracut_conf asks for", listed(&asked));
        let mut finding = Finding::nowhere(Severity::Warning, "initrd::dracut", text)
            .help("add the package that provides it: ‹[initrd] dracut_packages = [\"...\"]›");
        finding.span = bench.recipe.spans.nearest("initrd.dracut_conf").cloned();
        bench.report.finding(&finding);
    }
    if !other.is_empty() {
        let text = format!("dracut's modules work without {}, which its tools root lacks", listed(&other));
        bench.report.finding(&Finding::nowhere(Severity::Note, "initrd::dracut", text));
    }
}
