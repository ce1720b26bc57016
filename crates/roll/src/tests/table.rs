//! One thing at a time goes wrong.

use super::world::{MINUTE, World, build, names, options};
use crate::*;

fn sync() -> Act {
    Act::Sync { parts: vec![Part::Files] }
}

fn outcome(answer: Option<Result<Option<Outcome>, Ended<()>>>) -> Outcome {
    answer.unwrap().unwrap().unwrap()
}

fn stage(world: &World, name: &str) -> Stage {
    world.record().roll.unwrap().nodes[name].stage
}

fn batches(world: &World) -> Vec<(bool, usize)> {
    let one = |event: &Event| match event {
        Event::Batch { canary, nodes, .. } => Some((*canary, nodes.len())),
        _ => None,
    };
    world.events.iter().filter_map(one).collect()
}

fn reason_of(world: &World, name: &str) -> String {
    let one = |event: &Event| match event {
        Event::Node { node, reason: Some(reason), .. } if node == name => Some(reason.clone()),
        _ => None,
    };
    world.events.iter().find_map(one).unwrap_or_default()
}

#[test]
fn a_canary_comes_first_and_batches_are_no_larger_than_they_may_be() {
    let mut world = World::of(10, Act::Reboot);
    // Nothing has to be done with the first: it is no canary.
    let first = world.nodes.get_mut("cn01").unwrap();
    (first.booted, first.has) = ("b".to_owned(), "b".to_owned());
    first.report.as_mut().unwrap().build = Some(build("b"));
    let options = Options { canary: 2, batch: Count::Nodes(5), max_down: Count::Percent(30.0), ..options() };
    assert_eq!(outcome(world.roll(&names(10), &options)), Outcome::Done);
    assert_eq!(batches(&world), [(true, 2), (false, 3), (false, 3), (false, 1)]);
    assert_eq!((world.restarts(), world.killed_jobs), (9, 0));
    assert_eq!(world.nodes["cn01"].assigned, "b");
}

#[test]
fn a_canary_that_fails_stops_it_and_stays_drained() {
    let mut world = World::of(6, Act::Reboot);
    world.nodes.get_mut("cn01").unwrap().is_sick = true;
    let options = Options { max_failures: 5, ..options() };
    assert_eq!(outcome(world.roll(&names(6), &options)), Outcome::Failures);
    assert_eq!((world.drained(), world.restarts()), (vec!["cn01"], 1));
    assert_eq!(reason_of(&world, "cn01"), "the health command failed: no GPU");
    // It is mended, and the same call goes on; it does not restart again.
    world.nodes.get_mut("cn01").unwrap().is_sick = false;
    assert_eq!(outcome(world.roll(&names(6), &options)), Outcome::Done);
    assert_eq!((world.drained().len(), world.restarts()), (0, 6));
}

#[test]
fn a_failed_attempt_is_a_problem_and_being_late_a_failure() {
    let mut world = World::of(2, Act::Reboot);
    world.nodes.get_mut("cn01").unwrap().is_broken = true;
    assert_eq!(outcome(world.roll(&names(2), &options())), Outcome::Failures);
    let problem = Event::Problem { node: "cn01".to_owned(), problem: "its start failed: no disk".to_owned() };
    assert_eq!(world.events.iter().filter(|event| **event == problem).count(), 1);
    assert!(reason_of(&world, "cn01").starts_with("no report `up` with compute@b after 30 min"), "{:?}", world.events);
    // The initrd goes on trying.
    let machine = world.nodes.get_mut("cn01").unwrap();
    (machine.is_broken, machine.is_reported, machine.up_at) = (false, false, world.now + MINUTE);
    assert_eq!(outcome(world.roll(&names(2), &options())), Outcome::Done);
    assert_eq!(world.restarts(), 2);
}

#[test]
fn a_node_that_others_drained_is_left_alone() {
    let mut world = World::of(4, Act::Reboot);
    let seat = |text: &str| Seat { drained: Some(text.to_owned()), ..Seat::default() };
    world.nodes.get_mut("cn02").unwrap().seat = seat("bad DIMM");
    world.nodes.get_mut("cn03").unwrap().seat = seat("imgbuild roll 77");
    world.nodes.get_mut("cn04").unwrap().seat.is_down = true;
    let mut range = names(4);
    range.push("cn99".to_owned());
    assert_eq!(outcome(world.roll(&range, &options())), Outcome::LeftAlone);
    assert_eq!(world.drained(), ["cn02", "cn03"]);
    assert_eq!(world.restarts(), 1);
    for (name, reason) in [
        ("cn02", "it is drained: bad DIMM"),
        ("cn03", "it is drained: imgbuild roll 77"),
        ("cn04", "it is down"),
        ("cn99", "the scheduler does not know it"),
    ] {
        assert_eq!(reason_of(&world, name), reason);
    }
}

#[test]
fn nodes_that_were_down_before_it_use_up_no_room() {
    for most in [Count::Nodes(1), Count::Percent(10.0)] {
        let mut world = World::of(10, Act::Reboot);
        for name in ["cn05", "cn06"] {
            world.nodes.get_mut(name).unwrap().seat.is_down = true;
        }
        world.nodes.get_mut("cn07").unwrap().seat.drained = Some("bad DIMM".to_owned());
        let options = Options { max_down: most, ..options() };
        assert_eq!(outcome(world.roll(&names(10), &options)), Outcome::LeftAlone, "{most:?}");
        assert_eq!((world.restarts(), world.drained()), (7, vec!["cn07"]));
        assert!(batches(&world).iter().all(|(_, size)| *size == 1), "{:?}", batches(&world));
    }
}

#[test]
fn too_many_nodes_down_since_it_began_stop_it_before_the_next() {
    for (most, expected) in [
        (Count::Percent(20.0), (Outcome::MaxDown, 3)),
        // Those of others are not counted.
        (Count::Nodes(2), (Outcome::LeftAlone, 8)),
    ] {
        let mut world = World::of(10, Act::Reboot);
        world.falls = vec!["cn08".to_owned(), "cn09".to_owned()];
        let options = Options { max_down: most, batch: Count::Nodes(2), ..options() };
        let outcome = outcome(world.roll(&names(10), &options));
        assert_eq!((outcome, world.restarts()), expected, "{most:?}: {:?}", world.events);
    }
}

#[test]
fn nothing_restarts_outside_the_window() {
    let mut world = World::of(4, Act::Reboot);
    let options = Options { window: Some("22:00-06:00".parse().unwrap()), ..options() };
    world.minute = 12 * 60;
    assert_eq!(outcome(world.roll(&names(4), &options)), Outcome::WindowClosed);
    assert_eq!((world.restarts(), world.drained().len()), (0, 0));
    world.minute = 60;
    assert_eq!(outcome(world.roll(&names(4), &options)), Outcome::Done);
}

#[test]
fn an_outage_of_the_scheduler_is_waited_out_and_leaves_no_node_alone() {
    let mut world = World::of(4, Act::Reboot);
    world.left = Some(40);
    assert!(world.roll(&names(4), &options()).is_none());
    world.out_until = world.now + 20 * MINUTE;
    assert_eq!(outcome(world.roll(&names(4), &options())), Outcome::Done);
    let outages = world.events.iter().filter(|event| matches!(event, Event::Outage { .. })).count();
    assert_eq!((outages, world.drained().len(), world.restarts()), (1, 0, 4));
    // One without an end ends it, and the record has what is still drained.
    let mut world = World::of(4, Act::Reboot);
    world.left = Some(40);
    assert!(world.roll(&names(4), &options()).is_none());
    world.is_out = true;
    assert!(matches!(world.roll(&names(4), &options()), Some(Err(Ended::Outage(_)))));
    let drained: Vec<String> = world.drained().into_iter().map(str::to_owned).collect();
    assert!(!drained.is_empty() && drained.iter().all(|name| world.record().drained().contains(&name.as_str())));
    // Without an answer of Slurm there is no end.
    assert!(matches!(world.abort(), Some(Err(Ended::Outage(_)))));
    assert_eq!(world.drained(), drained);
    world.is_out = false;
    world.abort().unwrap().unwrap();
}

#[test]
fn a_node_with_jobs_is_given_back_in_the_end() {
    let mut world = World::of(2, Act::Reboot);
    world.nodes.get_mut("cn01").unwrap().busy_until = u64::MAX;
    world.nodes.get_mut("cn01").unwrap().seat.has_jobs = true;
    let options = Options { drain_timeout: 10 * MINUTE, ..options() };
    assert_eq!(outcome(world.roll(&names(2), &options)), Outcome::LeftAlone);
    assert_eq!((world.killed_jobs, world.drained().len(), world.nodes["cn02"].has.as_str()), (0, 0, "b"));
    assert_eq!(reason_of(&world, "cn01"), "it still has work after 10 min");
}

#[test]
fn a_node_that_was_synced_is_not_taken_for_the_build_that_it_booted() {
    let mut world = World::of(2, sync());
    assert_eq!(outcome(world.roll(&names(2), &options())), Outcome::Done);
    assert_eq!((world.restarts(), world.record().synced.len()), (0, 2));
    // Back: it still reports the build that it booted.
    world.target = "a".to_owned();
    assert_eq!(outcome(world.roll(&names(2), &options())), Outcome::Done);
    assert_eq!(world.restarts(), 2);
    assert!(world.nodes.values().all(|one| one.has == "a") && world.record().synced.is_empty());
    // Nothing is left of it.
    assert_eq!(outcome(world.roll(&names(2), &options())), Outcome::Done);
    assert_eq!(world.restarts(), 2);
}

#[test]
fn a_report_that_comes_again_after_a_sync_is_no_start() {
    let mut world = World::of(1, sync());
    assert_eq!(outcome(world.roll(&names(1), &options())), Outcome::Done);
    world.nodes.get_mut("cn01").unwrap().report.as_mut().unwrap().time = world.now;
    world.target = "a".to_owned();
    assert_eq!(outcome(world.roll(&names(1), &options())), Outcome::Done);
    assert_eq!(world.restarts(), 1);
}

#[test]
fn a_boot_script_that_anyone_asked_for_restarts_no_node_with_the_build() {
    let mut world = World::of(2, Act::Reboot);
    for machine in world.nodes.values_mut() {
        let report = machine.report.as_mut().unwrap();
        report.asked_since = true;
    }
    let first = world.nodes.get_mut("cn01").unwrap();
    (first.booted, first.has) = ("b".to_owned(), "b".to_owned());
    first.report.as_mut().unwrap().build = Some(build("b"));
    assert_eq!(outcome(world.roll(&names(2), &options())), Outcome::Done);
    assert_eq!((world.nodes["cn01"].starts, world.nodes["cn02"].starts), (0, 1));
}

#[test]
fn without_a_soft_reboot_the_machine_restarts() {
    let mut world = World::of(2, Act::SoftReboot);
    world.is_soft_refused = true;
    assert_eq!(outcome(world.roll(&names(2), &options())), Outcome::Done);
    assert_eq!(world.restarts(), 2);
}

#[test]
fn the_scheduler_of_a_roll_stays() {
    let mut world = World::of(4, Act::Reboot);
    world.left = Some(40);
    assert!(world.roll(&names(4), &options()).is_none());
    let mut record = world.record();
    let refused = begin(&mut record, (&build("b"), Some(Scheduler::None)), &names(4), ("x", 1));
    assert_eq!(refused, Err(Refusal::OtherScheduler(Scheduler::Slurm)));
    assert_eq!(record, world.record());
    assert_eq!(
        abort(&mut world, &mut record, Some(Scheduler::None)).unwrap_err(),
        Refusal::OtherScheduler(Scheduler::Slurm)
    );
    let mut empty = Record::default();
    assert_eq!(begin(&mut empty, (&build("b"), None), &names(4), ("x", 1)), Err(Refusal::NoScheduler));
}

#[test]
fn the_next_roll_takes_over_what_an_earlier_one_left() {
    let mut world = World::of(6, Act::Reboot);
    world.nodes.get_mut("cn01").unwrap().is_sick = true;
    assert_eq!(outcome(world.roll(&names(6), &options())), Outcome::Failures);
    assert_eq!(stage(&world, "cn01"), Stage::Failed);
    let aborted = world.abort().unwrap().unwrap();
    assert_eq!(aborted.held["cn01"], "the health command failed: no GPU");
    // A new build without the fault.
    world.nodes.get_mut("cn01").unwrap().is_sick = false;
    world.target = "c".to_owned();
    assert_eq!(outcome(world.roll(&names(6), &options())), Outcome::Done);
    assert!(world.drained().is_empty() && world.nodes.values().all(|one| one.has == "c"));
}

#[test]
fn a_plan_says_who_is_when_and_changes_nothing() {
    let mut world = World::of(8, Act::Reboot);
    world.nodes.get_mut("cn02").unwrap().seat.drained = Some("bad DIMM".to_owned());
    let mut record = world.record();
    begin(&mut record, (&build("b"), Some(Scheduler::Slurm)), &names(8), ("x", 1)).unwrap();
    let planned = plan(&mut world, &record, &options()).unwrap();
    let batches: Vec<Option<u32>> = planned.iter().map(|one| one.batch).collect();
    assert_eq!(batches, [Some(1), None, Some(2), Some(2), Some(2), Some(3), Some(3), Some(3)]);
    assert!(planned[0].canary && !planned[2].canary);
    assert_eq!((world.saved.as_str(), world.restarts(), world.drained().len()), ("{}", 0, 1));
}
