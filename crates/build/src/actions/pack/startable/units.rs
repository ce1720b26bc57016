//! Units that are enabled, and whose program the exclude lists leave out: such a service fails on each node. Runs inside.

use std::collections::BTreeSet;

use super::{Obstacle, View};
use crate::actions::services::inside::UNIT_DIRECTORIES;

/// What may stand before a program. Source: systemd.service(5), "Command lines"; `-` is dealt with apart.
const PREFIXES: [char; 5] = ['@', ':', '+', '!', '|'];

pub(super) fn units(view: &View<'_>) -> Result<Vec<Obstacle>, String> {
    let mut lacking = Vec::new();
    if view.excluded.is_empty() {
        return Ok(lacking);
    }
    for unit in enabled(view) {
        let Some(path) = file_of(view, &unit) else { continue };
        let text = String::from_utf8_lossy(&view.read(&path)?.unwrap_or_default()).into_owned();
        if let Some(left_out) = programs(&text).into_iter().find_map(|program| view.left_out(program)) {
            lacking.push(Obstacle::Unit { unit, left_out });
        }
    }
    Ok(lacking)
}

fn enabled(view: &View<'_>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for directory in UNIT_DIRECTORIES {
        let folder = format!("{directory}/");
        for (path, is_left_out) in view.below(&folder) {
            let below = path[folder.len()..].split_once('/');
            if let Some((target, name)) = below
                && !is_left_out
                && (target.ends_with(".wants") || target.ends_with(".requires"))
                && name.ends_with(".service")
            {
                found.insert(name.to_owned());
            }
        }
    }
    found
}

/// The file of a unit, or of the template that it is an instance of; none for one that is masked or left out.
fn file_of(view: &View<'_>, unit: &str) -> Option<String> {
    let template = unit.split_once('@').map(|(stem, _)| format!("{stem}@.service"));
    for name in [Some(unit.to_owned()), template].into_iter().flatten() {
        for directory in UNIT_DIRECTORIES {
            let path = format!("{directory}/{name}");
            if view.reader.tree.0.contains_key(&path) {
                return view.resolve(&path).ok().map(|(path, _)| path);
            }
        }
    }
    None
}

/// Absolute programs that a service starts and cannot do without.
fn programs(text: &str) -> Vec<&str> {
    let lines = || text.lines().map(str::trim).filter_map(|line| line.split_once('='));
    let may_lack = |program: &str| {
        let conditions = lines().filter(|(key, _)| key.starts_with("Condition"));
        conditions.into_iter().any(|(_, value)| value.trim_start_matches(['|', '!']) == program)
    };
    let starts = lines().filter(|(key, _)| key.trim() == "ExecStart").map(|(_, value)| value.trim());
    let needed = starts.filter(|value| !value.trim_start_matches(PREFIXES).starts_with('-'));
    let programs = needed.filter_map(|value| value.trim_start_matches(PREFIXES).split_whitespace().next());
    programs.filter(|program| program.starts_with('/') && !may_lack(program)).collect()
}

#[cfg(test)]
mod tests {
    use super::programs;

    #[test]
    fn what_a_service_starts_is_read_from_its_unit() {
        let text = "[Unit]\nConditionPathExists=!/etc/ssh/sshd_not_to_be_run\n[Service]\nExecStartPre=/usr/sbin/sshd -t\n\
                    ExecStart=/usr/sbin/sshd -D $SSHD_OPTS\nExecStart=@!/usr/bin/other name\n";
        assert_eq!(programs(text), ["/usr/sbin/sshd", "/usr/bin/other"]);
        assert!(
            programs("[Service]\nExecStart=-/sbin/agetty -o x\nExecStart=:-/bin/x\nExecStart=\nExecStart=sh -c x\n")
                .is_empty()
        );
        let text = "ConditionFileIsExecutable=/usr/sbin/thing\n[Service]\nExecStart=/usr/sbin/thing\n";
        assert!(programs(text).is_empty());
    }
}
