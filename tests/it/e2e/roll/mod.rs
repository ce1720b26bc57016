//! `roll` with a real Slurm: jobs run all the time, and none is killed, whatever becomes of Slurm and of the roll itself.

mod cluster;

use std::time::{Duration, Instant};

use self::cluster::{Cluster, FIRST, wait, write};
use crate::nodes::needs::{publish, tree};
use crate::support::Ran;

#[test]
fn privileged_nodes_get_a_build_while_jobs_run_and_none_is_killed() {
    let count = if std::env::var_os("IMGBUILD_LONG_TESTS").is_some() { 100 } else { 8 };
    let mut cluster = Cluster::start(count);
    let names = cluster.names.clone();
    let (range, half) = (format!("cn[{FIRST}-{}]", FIRST + count - 1), count / 2);
    let (first, drained) = (&names[0], &names[count - 1]);
    cluster.ask(&["scontrol", "update", &format!("nodename={drained}"), "state=drain", "reason=bad DIMM"]);
    // A look changes nothing, and lists that have changed since the build are refused before anything is drained.
    let planned = cluster.roll(&range, &["--plan"]).good();
    assert!(planned.out.contains(&format!("batch 1 (canary): {first}: sync")), "{}", planned.out);
    assert!(planned.out.contains(&format!("left alone: {drained}  (it is drained: bad DIMM)")), "{}", planned.out);
    assert!(planned.out.contains(": reboot") && cluster.drained().lines().count() == 1, "{}", planned.out);
    cluster.space.write("images/compute/agent.conf", "not built");
    for more in [&["--plan"][..], &[]] {
        let ran = cluster.roll(&range, more);
        assert!(
            ran.code == 1 && ran.err.contains("changed since") && ran.err.contains("etc/agent.conf"),
            "{}",
            ran.err
        );
    }
    cluster.space.write("images/compute/agent.conf", "one");
    assert_eq!(cluster.drained().lines().count(), 1);
    // Jobs on all nodes; Slurm goes away in the middle, and comes back.
    let jobs = count * 6;
    cluster.submit(jobs, "1.5", &[]);
    let all = cluster.words(&range, &["--batch", "50%", "--max-down", "60%"]);
    let mut roll = cluster.begin(&all, &[]);
    wait("the canary has ended", || cluster.said().contains("batch 1: 1 done"));
    cluster.ask(&["scontrol", "shutdown", "slurmctld"]);
    wait("Slurm has ended", || !cluster.ask(&["scontrol", "ping"]).contains("is UP"));
    wait("it is missed", || cluster.said().contains("the scheduler does not answer"));
    let _ = cluster.controller.kill();
    let _ = cluster.controller.wait();
    cluster.controller = Cluster::controller(cluster.place.path());
    let code = roll.wait().unwrap().code();
    let said = cluster.said();
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("the scheduler answers again")
            && said.matches("failed").count() == said.matches(" 0 failed").count(),
        "{said}"
    );
    assert!(said.contains(&format!("{} nodes done; left alone: {drained}", count - 1)), "{said}");
    cluster.assert_no_job_was_killed(jobs);
    for (at, (name, node)) in names.iter().zip(&cluster.nodes).enumerate() {
        let (restarts, motd) = if at < half || name == drained { (0, at < half) } else { (1, true) };
        assert_eq!(cluster.restarts(name), restarts, "{name}");
        assert_eq!(node.read("etc/motd") == "hello", motd, "{name}: {said}");
    }
    assert_eq!(cluster.drained(), format!("{drained} bad DIMM\n"));
    // Once more: no node is touched.
    let looks = cluster.lines("health").len();
    let ran = cluster.roll(&range, &["--json"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(!ran.out.contains("\"batch\"") && cluster.lines("health").len() == looks, "{}", ran.out);
    ran.out.lines().for_each(|line| crate::schemas::assert_valid("roll", &serde_json::from_str(line).unwrap()));
    // The node is mended, and the next call takes it alone.
    cluster.ask(&["scontrol", "update", &format!("nodename={drained}"), "state=resume"]);
    let ran = cluster.roll(&range, &[]).good();
    assert!(ran.err.contains(&format!("batch 1 (canary): {drained}; 0 waiting")), "{}", ran.err);
    let total: usize = names.iter().map(|name| cluster.restarts(name)).sum();
    assert_eq!((total, cluster.drained()), (count - half, String::new()));
}

#[test]
fn privileged_a_roll_that_is_killed_goes_on_and_one_that_is_aborted_gives_nodes_back() {
    let cluster = Cluster::start(4);
    let (names, range) = (cluster.names.clone(), format!("cn[{FIRST}-{}]", FIRST + 3));
    cluster.submit(12, "1.5", &[]);
    let file = cluster.at("fault");
    let all = cluster.words(&range, &["--canary", "0", "--batch", "4", "--max-down", "4"]);
    for point in ["roll.draining", "roll.drained", "roll.acting", "roll.acted", "roll.resumed"] {
        let variables = [("IMGBUILD_FAULT", point), ("IMGBUILD_FAULT_FILE", file.to_str().unwrap())];
        let mut roll = cluster.begin(&all, &variables);
        let until = Instant::now() + Duration::from_secs(60);
        while !file.exists() {
            let is_over = roll.try_wait().unwrap().is_some();
            assert!(!is_over && Instant::now() < until, "{point}: {}", cluster.said());
            std::thread::sleep(Duration::from_millis(20));
        }
        roll.kill().unwrap();
        roll.wait().unwrap();
        std::fs::remove_file(&file).unwrap();
    }
    let ran: Ran = cluster.command(&all).output().unwrap().into();
    ran.good();
    cluster.assert_no_job_was_killed(12);
    assert_eq!(cluster.drained(), "");
    for (at, (name, node)) in names.iter().zip(&cluster.nodes).enumerate() {
        assert_eq!((cluster.restarts(name), node.read("etc/motd").as_str()), (at / 2, "hello"), "{name}");
    }
    // A node that still has a job is given back as it was; its job goes on.
    publish(&cluster.space, &tree(), &["quiet"], "rootimg.sfs");
    let first = &names[0];
    cluster.submit(1, "8", &["-w", first]);
    wait("the job runs", || std::fs::read_dir(cluster.at(&format!("jobs/{first}"))).unwrap().count() == 1);
    let mut roll = cluster.begin(&cluster.words(first, &[]), &[]);
    wait("it is drained", || cluster.drained().contains("imgbuild roll "));
    roll.kill().unwrap();
    roll.wait().unwrap();
    let ran: Ran = cluster.command(&["--abort"]).output().unwrap().into();
    let ran = ran.good();
    assert!(ran.err.contains(&format!("given back: {first}")), "{}", ran.err);
    assert_eq!((cluster.drained().as_str(), cluster.restarts(first)), ("", 0));
    cluster.assert_no_job_was_killed(13);
    let ran: Ran = cluster.command(&["--abort"]).output().unwrap().into();
    assert!(ran.good().err.contains("no roll is under way"));
}

#[test]
fn privileged_a_node_that_is_not_healthy_stops_it_and_stays_drained() {
    let cluster = Cluster::start(3);
    let (names, range) = (cluster.names.clone(), format!("cn[{FIRST}-{}]", FIRST + 2));
    let sick = &names[0];
    write(&cluster.at(&format!("sick/{sick}")), "", 0o644);
    let more = ["--node-timeout", "1", "--max-failures", "0"];
    let words = ["compute", "--scheduler", "slurm", "--health", "/usr/bin/healthy"];
    let roll = || -> Ran { cluster.command(&[&[range.as_str()], &words[..], &more].concat()).output().unwrap().into() };
    let ran = roll();
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(
        ran.err.contains(&format!("{sick}: failed: the health command failed: exit status 1: no GPU")),
        "{}",
        ran.err
    );
    let drained = cluster.drained();
    assert!(drained.starts_with(&format!("{sick} imgbuild roll ")) && drained.lines().count() == 1, "{drained}");
    assert!(names.iter().all(|name| cluster.restarts(name) == 0), "{}", ran.err);
    // It is given back by nobody but the roll, once it is healthy.
    let ran: Ran = cluster.command(&["--abort"]).output().unwrap().into();
    assert!(ran.code == 2 && ran.err.contains(&format!("{sick}: still drained")), "{}", ran.err);
    assert!(cluster.drained().starts_with(sick.as_str()));
    std::fs::remove_file(cluster.at(&format!("sick/{sick}"))).unwrap();
    let ran = roll().good();
    assert!(ran.err.contains("3 nodes done"), "{}", ran.err);
    assert_eq!(cluster.drained(), "");
    assert_eq!(names.iter().map(|name| cluster.restarts(name)).collect::<Vec<_>>(), [0, 1, 1]);
}
