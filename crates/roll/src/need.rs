//! What a node needs to have the new build: by its report, and by what it was synced to since it booted.

use std::collections::BTreeMap;

use super::hands::{Hands, Reported, ReportedState};
use super::record::{Act, Build, Synced};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Need {
    /// It has it.
    Has,
    /// It starts with it now.
    Starts,
    Act(Act, String),
}

fn reboot(why: &str) -> Need {
    Need::Act(Act::Reboot, why.to_owned())
}

/// What a node needs.
/// Errors: Builds cannot be compared now.
pub(crate) fn need<H: Hands>(
    hands: &mut H,
    synced: &BTreeMap<String, Synced>,
    (name, report): (&str, Option<&Reported>),
    target: &Build,
) -> Result<Need, H::Stop> {
    let Some(report) = report else { return Ok(reboot("it has not reported which build it runs")) };
    if report.asked_since {
        // Anyone can ask for a boot script: a node that answers with the build is not restarted for that.
        let has = report.state == ReportedState::Up && report.build.as_ref() == Some(target);
        if !has {
            return Ok(reboot("it has started again and has not reported since"));
        }
        if !matches!(hands.marks(&[name.to_owned()]).remove(name), Some(Ok(_))) {
            return Ok(Need::Starts);
        }
    }
    let runs = match (&report.state, &report.build) {
        (ReportedState::Failed, _) => return Ok(reboot("its last start failed")),
        (ReportedState::Starting, Some(build)) if build == target => return Ok(Need::Starts),
        (ReportedState::Starting, _) => return Ok(reboot("it did not finish its start")),
        (ReportedState::Up, None) => return Ok(reboot("its report names no build that it runs")),
        (ReportedState::Up, Some(build)) => build.clone(),
    };
    let known = synced.get(name).filter(|one| one.booted == runs && !fault::planted("roll-forgets-syncs"));
    let known = match known {
        // The same report, or one that came again: only the node itself knows whether it has started since.
        Some(one) if report.time > one.reported => match hands.marks(&[name.to_owned()]).remove(name) {
            Some(Ok(mark)) => (mark == one.mark).then_some(one),
            _ => return Ok(reboot("it was synced, and it is not known whether it has started since")),
        },
        known => known,
    };
    let between = |hands: &mut H, from: &Build| -> Result<(Act, String), H::Stop> { hands.between(from, target) };
    match known.map(|one| &one.to) {
        None if runs == *target => Ok(Need::Has),
        None => {
            let (act, why) = between(hands, &runs)?;
            Ok(Need::Act(act, why))
        }
        Some(None) => Ok(reboot("a sync of it did not finish")),
        Some(Some(to)) if to == target => Ok(Need::Has),
        Some(Some(to)) if runs == *target => Ok(reboot(&format!("it was synced to {to} since it booted this build"))),
        // Each path that it has is that of one of the two.
        Some(Some(to)) => {
            let (first, why) = between(hands, &runs)?;
            let (second, other) = between(hands, &to.clone())?;
            let is_second = second.clone().and(first.clone()) != first;
            Ok(Need::Act(first.and(second), if is_second { other } else { why }))
        }
    }
}
