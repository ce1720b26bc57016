//! Which units of a tree start, and which of them cannot start again alone.

use std::collections::BTreeSet;

use super::facts::{Facts, Program};
use super::unit::Unit;

/// Units of sessions: what runs in them is a user's, and the next one starts with new programs.
const OF_SESSIONS: [&str; 6] =
    ["user@", "user-runtime-dir@", "getty@", "serial-getty@", "console-getty.", "container-getty@"];
/// Programs that leave no process behind, besides those of systemd.
const END: [&str; 13] = [
    "bootctl",
    "echo",
    "journalctl",
    "kmod",
    "loginctl",
    "modprobe",
    "mount",
    "rm",
    "sysctl",
    "systemctl",
    "touch",
    "true",
    "udevadm",
];

const ONCE: &str = "it runs once when a node starts";
const REFUSES: &str = "its unit refuses to be stopped or started by `systemctl`";

/// As `systemctl` takes it: all instances of a template that run.
pub(crate) fn shown(name: &str) -> String {
    name.replacen("@.", "@*.", 1)
}

/// The template of an instance: `getty@.service` of `getty@tty1.service`.
pub(crate) fn template(name: &str) -> Option<String> {
    let (base, rest) = name.split_once('@')?;
    Some(format!("{base}@.{}", rest.rsplit('.').next().unwrap_or_default()))
}

/// Whether a unit belongs to sessions of users.
pub(crate) fn is_of_sessions(name: &str) -> bool {
    OF_SESSIONS.iter().any(|start| name.starts_with(start))
}

/// Whether a unit of a tree may run: all that are not masked do. What does not run, `systemctl try-restart` leaves as it is.
pub(crate) fn runs(facts: &Facts, name: &str) -> bool {
    facts.units.contains_key(name) && !facts.masked.contains(name)
}

/// Whether something starts a unit, or an instance of it, when a node starts.
fn is_enabled(facts: &Facts, name: &str) -> bool {
    let is_instance = |enabled: &String| {
        let (base, end) = name.split_once("@.").unwrap_or((name, ""));
        name.contains("@.")
            && enabled.strip_prefix(base).is_some_and(|rest| rest.starts_with('@') && rest.ends_with(end))
    };
    facts.enabled.contains(name) || facts.enabled.iter().any(is_instance)
}

/// Why a unit that runs when a node starts cannot start again alone.
pub(crate) fn alone(facts: &Facts, name: &str) -> Option<&'static str> {
    let unit = facts.units.get(name).filter(|_| runs(facts, name) && !is_of_sessions(name))?;
    let is_enabled = is_enabled(facts, name);
    if unit.one_shot {
        let timer = name.strip_suffix(".service").map(|base| format!("{base}.timer"));
        let has_timer = timer.is_some_and(|timer| facts.enabled.contains(&timer));
        // Others may start one without `[Install]`; with its state it then stays.
        let runs_once = is_enabled || unit.remains && !unit.installs;
        return (runs_once && !has_timer).then_some(ONCE);
    }
    (unit.refuses && (is_enabled || !unit.installs)).then_some(REFUSES)
}

/// Whether nothing of a unit that runs once is left when it has run.
pub(crate) fn has_ended(unit: &Unit) -> bool {
    let ends = |path: &String| {
        let name = path.rsplit('/').next().unwrap_or(path);
        name.starts_with("systemd-") || END.contains(&name)
    };
    !unit.remains || unit.programs.iter().all(ends)
}

/// The package of a unit.
pub(crate) fn package_of<'a>(facts: &'a Facts, unit: &Unit) -> Option<&'a str> {
    facts.owner(&facts.real(&unit.path)).or_else(|| facts.owner(&unit.path))
}

/// The paths that make what a unit does: those that it and its scripts name, without the programs of other packages.
pub(crate) fn own(facts: &Facts, unit: &Unit) -> BTreeSet<String> {
    let package = package_of(facts, unit);
    let is_own = |real: &str| {
        let owner = facts.owner(real);
        facts.program(real).is_none() || owner.is_none() || owner == package
    };
    let mut own = BTreeSet::new();
    let mut take = |path: &str| {
        let (real, links) = facts.follow(path);
        if !is_own(&real) {
            return None;
        }
        own.extend(links);
        own.extend([path.to_owned(), real.clone()]);
        Some(real)
    };
    for path in unit.programs.iter().filter(|path| path.contains('/')).chain(&unit.paths) {
        let real = take(path);
        if let Some(Program::Script { paths, .. }) = real.and_then(|real| facts.program(&real)) {
            for path in paths {
                take(path);
            }
        }
    }
    own
}
