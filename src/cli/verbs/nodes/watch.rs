//! `imgbuild nodes --watch`: reports as they come.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::{Site, failed};
use crate::cli::Exit;
use crate::cli::output::harmless::one_line;
use crate::cli::output::render;
use crate::nodes::{NodeSet, Report, ReportState};
use crate::sandbox::interrupt;

/// How often the reports are read.
const INTERVAL: Duration = Duration::from_millis(500);

/// Runs it: until all nodes have reported `up` or `failed` since `nodeset` gave them what they boot.
pub fn run(site: &Site, set: &NodeSet, as_json: bool) -> Exit {
    let mut shown: BTreeMap<String, Report> = BTreeMap::new();
    loop {
        let assigned = match site.state.assignments() {
            Ok(assigned) => assigned,
            Err(error) => return failed(error),
        };
        let reports = site.state.reports();
        let (mut waiting, mut has_failed) = (0, false);
        for name in set.iter() {
            let since = assigned.nodes.get(name).map_or(0, |one| one.time);
            let report = reports.get(name).filter(|report| report.time >= since);
            match report.map(|report| report.state) {
                Some(ReportState::Up) => {}
                Some(ReportState::Failed) => has_failed = true,
                _ => waiting += 1,
            }
            let Some(report) = report.filter(|report| shown.get(name) != Some(report)) else { continue };
            if as_json {
                render::print_json(&format!("{}\n", json!({"node": name, "report": report})));
            } else {
                let reason = report.reason.as_deref().map(|reason| format!(": {}", one_line(reason)));
                let build = report.build.as_deref().map(|build| format!(" ({})", one_line(build)));
                let (state, time) = (report.state.name(), render::utc(report.time));
                let line =
                    format!("{time}  {name}  {state}{}{}\n", reason.unwrap_or_default(), build.unwrap_or_default());
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
