//! `imgbuild nodes --watch`: reports as they come.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::{Site, failed};
use crate::Exit;
use crate::output::harmless::one_line;
use crate::output::render;
use nodes::{Boots, NodeSet, Report, ReportState};
use sandbox::interrupt;

/// How often the reports are read.
const INTERVAL: Duration = Duration::from_millis(500);

/// Runs it: until all nodes have reported `up` or `failed` with the build that `nodeset` gave them, since it did.
pub(crate) fn run(site: &Site, set: &NodeSet, as_json: bool) -> Exit {
    let mut shown: BTreeMap<String, Report> = BTreeMap::new();
    loop {
        let assigned = match site.state.assignments() {
            Ok(assigned) => assigned,
            Err(error) => return failed(error),
        };
        let reports = site.state.reports();
        let (mut waiting, mut has_failed) = (0, false);
        for name in set.iter() {
            let given = assigned.nodes.get(name);
            let report = reports.get(name).filter(|report| report.time >= given.map_or(0, |one| one.time));
            // One that still runs what it had before has not restarted yet.
            let is_given = |report: &&Report| match given.map(|one| &one.boots) {
                Some(Boots::Image { build, .. }) => report.build.as_ref() == Some(build),
                _ => true,
            };
            match report.filter(is_given).map(|report| report.state) {
                Some(ReportState::Up) => {}
                Some(ReportState::Failed) => has_failed = true,
                _ => waiting += 1,
            }
            let Some(report) = report.filter(|report| shown.get(name) != Some(report)) else { continue };
            if as_json {
                render::print_json(&format!("{}\n", json!({"node": name, "report": report})));
            } else {
                let reason = report.reason.as_deref().map(|reason| format!(": {}", one_line(reason)));
                let build = report.build.as_deref().unwrap_or("unknown build");
                let other = if is_given(&report) { "" } else { ", not what it is to boot" };
                let build = format!(" ({}{other})", one_line(build));
                let (state, time) = (report.state.name(), render::utc(report.time));
                let line = format!("{time}  {name}  {state}{}{build}\n", reason.unwrap_or_default());
                render::print(&line);
            }
            shown.insert(name.to_owned(), report.clone());
        }
        if waiting == 0 {
            return if has_failed { Exit::Work } else { Exit::Done };
        }
        if interrupt::came() || render::output_problem().is_some() {
            return Exit::Interrupted;
        }
        std::thread::sleep(INTERVAL);
    }
}
