//! States of nodes in Slurm, and orders to it: `scontrol` and `squeue`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use remote::slurm::command::run;
use roll::Seat;

/// States in which a job is on its nodes. Source: squeue(1), JOB STATE CODES.
const ON_NODES: &str = "RUNNING,SUSPENDED,COMPLETING,CONFIGURING,STOPPED,RESIZING,SIGNALING,STAGE_OUT";
/// So many names are in one command line.
const AT_ONCE: usize = 500;

fn said(program: &str, words: &[&str]) -> Result<String, String> {
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    let answer = run(program, &words).map_err(|error| error.to_string())?;
    match answer.is_good {
        true => Ok(answer.out),
        false => Err(format!("{program}: {}", if answer.said.is_empty() { "no answer" } else { &answer.said })),
    }
}

/// What it says of nodes; those that it does not know are missing.
pub(super) fn look(names: &[String]) -> Result<BTreeMap<String, Seat>, String> {
    let wanted: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let text = said("scontrol", &["-o", "show", "node"])?;
    let of_line = |line: &str| seat(line).filter(|(name, _)| wanted.contains(name.as_str()));
    let mut seats: BTreeMap<String, Seat> = text.lines().filter_map(of_line).collect();
    // Suspended jobs take no processors, and a node that has nothing else says that it is idle.
    let idle = seats.iter().filter(|(_, seat)| seat.drained.is_some() && !seat.has_jobs);
    let idle: Vec<String> = idle.map(|(name, _)| name.clone()).collect();
    for name in with_jobs(&idle)? {
        seats.entry(name).or_default().has_jobs = true;
    }
    Ok(seats)
}

/// Those of some nodes that have jobs.
fn with_jobs(names: &[String]) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for names in names.chunks(AT_ONCE) {
        let jobs = |names: &[String]| {
            let list = names.join(",");
            said("squeue", &["-h", "-a", "-o", "%A", "-t", ON_NODES, "-w", &list])
        };
        if jobs(names)?.trim().is_empty() {
            continue;
        }
        for name in names {
            if !jobs(std::slice::from_ref(name))?.trim().is_empty() {
                found.push(name.clone());
            }
        }
    }
    Ok(found)
}

pub(super) fn drain(name: &str, reason: &str) -> Result<(), String> {
    said("scontrol", &["update", &format!("nodename={name}"), "state=drain", &format!("reason={reason}")]).map(drop)
}

pub(super) fn resume(name: &str) -> Result<(), String> {
    said("scontrol", &["update", &format!("nodename={name}"), "state=resume"]).map(drop)
}

/// Reads a line of `scontrol -o show node`. Source: scontrol(1), sinfo(1), NODE STATE CODES.
fn seat(line: &str) -> Option<(String, Seat)> {
    let name = line.strip_prefix("NodeName=")?.split(' ').next()?.to_owned();
    let state = line.split(" State=").nth(1)?.split(' ').next()?;
    let mut words = state.split('+');
    let base = words.next().unwrap_or_default();
    let is_silent = base.ends_with('*') || state.ends_with('*');
    let base = base.trim_end_matches(|letter: char| !letter.is_ascii_alphabetic());
    let flags: Vec<&str> =
        words.map(|word| word.trim_end_matches(|letter: char| !letter.is_ascii_alphabetic())).collect();
    let is = |name: &str| base == name || flags.contains(&name);
    let is_drained = ["DRAIN", "DRAINED", "DRAINING", "FAIL", "FAILING"].iter().any(|name| is(name));
    let reason = line.split_once(" Reason=").map(|(_, rest)| {
        // Who gave it and when stands behind it.
        let end = rest.find(" [").unwrap_or(rest.len());
        rest[..end].trim().to_owned()
    });
    let off = ["DOWN", "ERROR", "FUTURE", "UNKNOWN", "POWERED_DOWN", "POWERING_DOWN", "POWERING_UP", "POWER_DOWN"];
    let busy = ["ALLOCATED", "MIXED", "COMPLETING", "ALLOC", "MIX", "BLOCKED"];
    let seat = Seat {
        drained: is_drained.then(|| reason.unwrap_or_default()),
        is_down: is_silent || off.iter().any(|name| is(name)),
        has_jobs: busy.iter().any(|name| is(name)),
    };
    Some((name, seat))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_scontrol() {
        let line = |rest: &str| {
            format!("NodeName=cn1 Arch=x86_64 CoresPerSocket=1  CPUAlloc=0 OS=Linux 6.1 #1 SMP  State={rest}")
        };
        let of =
            |drained: Option<&str>, is_down, has_jobs| Seat { drained: drained.map(str::to_owned), is_down, has_jobs };
        for (rest, expected) in [
            ("IDLE ThreadsPerCore=1 TmpDisk=0", of(None, false, false)),
            ("MIXED ThreadsPerCore=1", of(None, false, true)),
            (
                "IDLE+DRAIN ThreadsPerCore=1 Reason=imgbuild roll 1a2b [root@2026-11-30T10:00:00]",
                of(Some("imgbuild roll 1a2b"), false, false),
            ),
            (
                "ALLOCATED+DRAIN Weight=1 Reason=bad DIMM [root@2026-11-30T10:00:00] Comment=x",
                of(Some("bad DIMM"), false, true),
            ),
            ("IDLE+COMPLETING+DRAIN Weight=1", of(Some(""), false, true)),
            ("DOWN*+DRAIN Weight=1 Reason=imgbuild roll 1 [root@x]", of(Some("imgbuild roll 1"), true, false)),
            ("DOWN Weight=1 Reason=Not responding [slurm@x]", of(None, true, false)),
            ("IDLE* Weight=1", of(None, true, false)),
            ("IDLE+CLOUD+POWERED_DOWN Weight=1", of(None, true, false)),
        ] {
            assert_eq!(seat(&line(rest)), Some(("cn1".to_owned(), expected)), "{rest}");
        }
        assert_eq!(seat("No nodes in the system"), None);
        assert_eq!(seat("NodeName=cn1"), None);
    }
}
