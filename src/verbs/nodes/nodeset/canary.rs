//! A few nodes first.

use std::collections::BTreeMap;

use super::builds::Builds;
use super::{Arguments, Outcome, Target, files, refused, wanted};
use crate::Exit;
use crate::output::render;
use crate::verbs::nodes::{Site, failed};
use nodes::set::parse;
use nodes::state::now;
use nodes::{Assigned, Boots, NodeSet, ReportState, Rollout};

/// How many nodes a text means: `3`, `5%`, at least one.
fn count(text: &str, of: usize) -> Option<usize> {
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| *number > 0.0 && number.is_finite());
    let wanted = match text.strip_suffix('%') {
        Some(percent) => number(percent).filter(|percent| *percent <= 100.0)? * of as f64 / 100.0,
        None => number(text).filter(|number| number.fract() == 0.0)?,
    };
    Some((wanted.ceil() as usize).clamp(1, of.max(1)))
}

/// So many nodes of a set, spread over it: racks that fail together are not all of them.
fn spread(set: &NodeSet, count: usize) -> NodeSet {
    let names: Vec<&str> = set.iter().collect();
    NodeSet::of((0..count).map(|index| names[index * names.len() / count]))
}

pub(super) fn start(
    arguments: &crate::Arguments,
    own: &Arguments,
    site: &Site,
    set: &NodeSet,
    target: &Target,
) -> Outcome<()> {
    let text = own.canary.as_deref().unwrap_or_default();
    let Some(count) = count(text, set.len()) else {
        return Err(refused(&format!("`{text}` is not a number of nodes: write for instance 3 or 5%"), Exit::Usage));
    };
    let Target::Image(image, build) = target else {
        return Err(refused("a canary needs an image: imgbuild nodeset RANGE IMAGE --canary 5%", Exit::Usage));
    };
    if let Some(running) = site.state.rollout().map_err(failed)? {
        let problem = format!(
            "a canary of {}@{} is under way on {}\n  help: `imgbuild nodeset --continue` moves the rest, `--abort` moves it back",
            running.image, running.build, running.moved
        );
        return Err(refused(&problem, Exit::Input));
    }
    let mut builds = Builds::new(arguments, own.from.clone());
    let Boots::Image { build, .. } = builds.pinned(image, build.as_deref())? else { return Err(Exit::Mistake) };
    let few = spread(set, count);
    let target = Target::Image(image.clone(), Some(build.clone()));
    let wanted = wanted(own, site, &few, &target, &mut builds)?;
    let mut rollout = Rollout {
        format_version: "1.0".to_owned(),
        image: image.clone(),
        build,
        nodes: set.folded(),
        moved: few.folded(),
        time: now(),
        before: None,
    };
    files::apply(own, site, wanted, &mut builds, |site| {
        let mut before = site.state.assignments()?.nodes;
        before.retain(|name, _| few.contains(name));
        rollout.before = Some(before);
        site.state.set_rollout(Some(&rollout))
    })?;
    if !own.dry_run && !own.diff {
        render::say(&format!(
            "restart {few}; `imgbuild nodes '{few}' --watch` waits for them, then `imgbuild nodeset --continue` moves the rest"
        ));
    }
    Ok(())
}

/// The canary under way.
fn running(site: &Site) -> Outcome<(Rollout, NodeSet, NodeSet)> {
    let Some(rollout) = site.state.rollout().map_err(failed)? else {
        return Err(refused(
            "no canary is under way\n  help: imgbuild nodeset RANGE IMAGE --canary 5% begins one",
            Exit::Input,
        ));
    };
    // By their names alone: some may have been renamed or removed since.
    let named = |text: &str| parse(text, &site.nodes).map(|parsed| parsed.set).unwrap_or_default();
    let (all, moved) = (named(&rollout.nodes), named(&rollout.moved));
    let here = NodeSet::of(site.nodes.names());
    let gone = all.minus(&here);
    if !gone.is_empty() {
        render::say(&format!(
            "note: {gone} no longer in {}, so left out; `imgbuild nodeset --clear` removes loader files and pinned builds",
            site.nodes.file.name
        ));
    }
    Ok((rollout, all.and(&here), moved.and(&here)))
}

/// Moves the rest, if the few are up with the new build.
pub(super) fn go_on(arguments: &crate::Arguments, own: &Arguments, site: &Site) -> Outcome<()> {
    let (rollout, all, moved) = running(site)?;
    let reports = site.state.reports();
    let mut bad: BTreeMap<&str, NodeSet> = BTreeMap::new();
    for name in moved.iter() {
        let report = reports.get(name).filter(|report| report.time >= rollout.time);
        let what = match report.map(|report| (report.state, report.build.as_deref())) {
            None => "not reported since",
            // A token from before the upgrade, or xCAT's words alone: it may be the old one that still runs.
            Some((_, None)) if !fault::planted("canary-passes-unknown") => "runs an unknown build",
            Some((_, Some(build))) if build != rollout.build => "booted another build",
            Some((ReportState::Up, _)) => continue,
            Some((ReportState::Failed, _)) => "failed",
            Some(_) => "not up yet",
        };
        bad.entry(what).or_default().insert(name);
    }
    if moved.is_empty() && !own.force {
        let problem = format!(
            "no node of the canary is left to say that it is up\n  help: `imgbuild nodeset --abort` ends it, `--continue --force` moves {all} all the same"
        );
        return Err(refused(&problem, Exit::Work));
    }
    if !bad.is_empty() && !own.force {
        let parts: Vec<String> = bad.iter().map(|(what, nodes)| format!("{nodes} ({what})")).collect();
        let problem = format!(
            "not all of the canary are up: {}\n  help: `imgbuild nodes '{moved}'` shows their reports; `imgbuild nodeset --abort` moves them back, --force goes on all the same",
            parts.join(", ")
        );
        return Err(refused(&problem, Exit::Work));
    }
    let rest = all.minus(&moved);
    let mut builds = Builds::new(arguments, own.from.clone());
    if rest.is_empty() {
        site.state.set_rollout(None).map_err(failed)?;
        render::say("all nodes have the build already: the canary is over");
        return Ok(());
    }
    let target = Target::Image(rollout.image.clone(), Some(rollout.build.clone()));
    let wanted = wanted(own, site, &rest, &target, &mut builds)?;
    files::apply(own, site, wanted, &mut builds, |_| Ok(()))?;
    if own.dry_run || own.diff { Ok(()) } else { site.state.set_rollout(None).map_err(failed) }
}

/// Moves the few back to what they had.
pub(super) fn abort(arguments: &crate::Arguments, own: &Arguments, site: &Site) -> Outcome<()> {
    let (rollout, _, moved) = running(site)?;
    let assigned = site.state.assignments().map_err(failed)?;
    let mut wanted = BTreeMap::new();
    for (name, one) in moved.iter().filter_map(|name| Some((name, assigned.nodes.get(name)?))) {
        // What it was given since then stays.
        if !matches!(&one.boots, Boots::Image { image, build, .. } if (image, build) == (&rollout.image, &rollout.build))
        {
            continue;
        }
        let before = match &rollout.before {
            Some(all) if !fault::planted("canary-back-too-far") => all.get(name).cloned(),
            _ => one.previous.as_deref().cloned(),
        };
        let before = before.unwrap_or_else(|| Assigned { boots: Boots::Nothing, ..one.clone() });
        wanted.insert(name.to_owned(), Assigned { time: now(), previous: None, ..before });
    }
    let mut builds = Builds::new(arguments, own.from.clone());
    match wanted.is_empty() {
        true => render::say("no node of the canary is left to move back: it ends"),
        false => files::apply(own, site, wanted, &mut builds, |_| Ok(()))?,
    }
    if own.dry_run || own.diff { Ok(()) } else { site.state.set_rollout(None).map_err(failed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_is_spread_over_the_range() {
        assert_eq!(
            (count("5%", 40), count("5%", 3), count("3", 40), count("100%", 7)),
            (Some(2), Some(1), Some(3), Some(7))
        );
        for bad in ["", "0", "-1", "0%", "101%", "1.5", "x", "nan", "inf%"] {
            assert_eq!(count(bad, 40), None, "{bad}");
        }
        let set = NodeSet::of((1..=40).map(|number| format!("cn{number:03}")));
        assert_eq!(spread(&set, 2).folded(), "cn[001,021]");
        assert_eq!(spread(&set, 40), set);
    }
}
