//! A roll is killed at each of its calls, and called again.

use super::world::{World, names, options};
use crate::*;

fn acts() -> Vec<Act> {
    let parts = || vec![Part::Files];
    vec![
        Act::Sync { parts: parts() },
        Act::Services { parts: parts(), services: vec!["agent.service".to_owned()] },
        Act::SoftReboot,
        Act::Reboot,
    ]
}

fn assert_good(world: &World, at: &str) {
    assert_eq!(world.killed_jobs, 0, "{at}");
    assert!(world.drained().is_empty(), "{at}: {:?} are drained", world.drained());
    for (name, machine) in &world.nodes {
        assert_eq!(machine.has, "b", "{at}: {name}");
        assert_eq!(machine.assigned, "b", "{at}: {name}");
        assert!(machine.restarts.values().all(|count| *count == 1), "{at}: {name} restarted {:?}", machine.restarts);
    }
    assert!(world.record().roll.is_none() && world.record().held.is_empty(), "{at}: {:?}", world.record());
}

#[test]
fn a_roll_that_is_killed_at_any_call_ends_well_when_it_is_called_again() {
    let (range, options) = (names(4), options());
    for act in acts() {
        for scheduler in [Scheduler::Slurm, Scheduler::None] {
            for at in 1.. {
                let mut world = World::of(4, act.clone());
                world.has_work = scheduler == Scheduler::Slurm;
                world.left = Some(at);
                let first = world.by(&range, scheduler, &options);
                if first.is_none() {
                    let second = world.by(&range, scheduler, &options);
                    assert!(matches!(second, Some(Ok(Some(Outcome::Done)))), "{act:?} {at}: {second:?}");
                }
                assert_good(&world, &format!("{act:?} {scheduler:?} killed at {at}"));
                world.left = None;
                let (restarts, syncs) = (world.restarts(), world.nodes.values().map(|one| one.syncs).sum::<u32>());
                assert!(matches!(world.by(&range, scheduler, &options), Some(Ok(Some(Outcome::Done)))));
                assert_eq!(
                    (world.restarts(), world.nodes.values().map(|one| one.syncs).sum::<u32>()),
                    (restarts, syncs)
                );
                if first.is_some() {
                    assert!(at > 50, "only {at} calls");
                    break;
                }
            }
        }
    }
}

#[test]
fn a_roll_that_is_killed_again_and_again_ends_well() {
    let (range, options) = (names(6), options());
    let mut seed = 0x9e37_79b9_u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        u32::try_from(seed % below).unwrap() + 1
    };
    for round in 0..60 {
        for act in acts() {
            let mut world = World::of(6, act.clone());
            for _ in 0..6 {
                world.left = Some(random(90));
                if world.roll(&range, &options).is_some() {
                    break;
                }
            }
            world.left = None;
            let last = world.roll(&range, &options);
            assert!(matches!(last, Some(Ok(Some(Outcome::Done)))), "{act:?} {round}: {last:?}");
            assert_good(&world, &format!("{act:?} round {round}"));
        }
    }
}

#[test]
fn a_killed_roll_that_is_aborted_leaves_only_named_nodes_drained() {
    let (range, options) = (names(4), options());
    for act in acts() {
        for at in 1..400 {
            let mut world = World::of(4, act.clone());
            world.left = Some(at);
            if world.roll(&range, &options).is_some() {
                break;
            }
            let aborted = world.abort().unwrap().unwrap();
            let held: Vec<&str> = aborted.held.keys().map(String::as_str).collect();
            assert_eq!(world.drained(), held, "{act:?} {at}");
            assert_eq!(world.killed_jobs, 0);
            // What stays drained is taken up by the next roll.
            let next = world.roll(&range, &options);
            assert!(matches!(next, Some(Ok(Some(Outcome::Done)))), "{act:?} {at}: {next:?}");
            assert!(world.drained().is_empty() && world.nodes.values().all(|one| one.has == "b"), "{act:?} {at}");
        }
    }
}
