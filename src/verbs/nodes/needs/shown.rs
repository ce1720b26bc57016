//! What nodes need, in lines for people: nodes with the same answer together.

use std::collections::BTreeMap;

use super::{BuildName, Comparison, NodeNeeds};
use crate::output::harmless::{one_line, push_line};
use base::source::counted_as;
use nodes::NodeSet;
use restart::{Answer, Reason, Restart};

/// Reasons of a comparison that are shown to people.
const SHOWN: usize = 6;
/// Paths of a reason that are shown.
const PATHS: usize = 2;
/// systemd among the units that start again.
const MANAGER: &str = "init.scope";

/// A build by the first digits of its name.
pub(super) fn build(name: &BuildName) -> String {
    format!("{}@{}", name.image, name.build.chars().take(12).collect::<String>())
}

fn name(restart: Option<Restart>) -> &'static str {
    restart.map_or("-", Restart::name)
}

/// A paragraph for each answer, the largest restart first.
pub(super) fn text(nodes: &[NodeNeeds], comparisons: &[Comparison], all: bool) -> String {
    type Key<'a> = (std::cmp::Reverse<Option<Restart>>, Option<usize>, Option<&'a str>, Option<&'a str>);
    let mut groups: BTreeMap<Key<'_>, Vec<&str>> = BTreeMap::new();
    for node in nodes {
        let key = (std::cmp::Reverse(node.restart), node.comparison, node.reason.as_deref(), node.help.as_deref());
        groups.entry(key).or_default().push(&node.name);
    }
    let mut text = String::new();
    for ((std::cmp::Reverse(restart), comparison, reason, help), names) in groups {
        let set = NodeSet::of(names);
        let mut head = format!("{set}: {}", name(restart));
        let compared = comparison.and_then(|at| comparisons.get(at));
        if let Some(compared) = compared {
            head.push_str(&format!("  {} -> {}", build(&compared.runs), build(&compared.boots)));
        }
        if let Some(reason) = reason {
            head.push_str(&format!("  {}", one_line(reason)));
        }
        push_line(&mut text, &head);
        if let Some(help) = help {
            push_line(&mut text, &format!("  help: {help}"));
        }
        if let Some(compared) = compared {
            for line in lines(&compared.answer, &set.folded(), all) {
                push_line(&mut text, &format!("  {line}"));
            }
        }
    }
    text
}

fn lines(answer: &Answer, range: &str, all: bool) -> Vec<String> {
    let most = if all { usize::MAX } else { SHOWN };
    let mut lines: Vec<String> = answer.reasons.iter().take(most).map(line).collect();
    if answer.reasons.len() > most {
        let more = answer.reasons.len() - most;
        lines.push(format!("and {} (-v and --json show all)", counted_as(more, "more reason", "more reasons")));
    }
    lines.extend(commands(answer, range).into_iter().map(|command| format!("$ {command}")));
    lines
}

/// A reason: what differs, and why that asks for it.
fn line(reason: &Reason) -> String {
    let package = reason.package.as_ref().map(|package| match (&package.was, &package.now) {
        (Some(was), Some(now)) => format!("{} {was} -> {now}", package.name),
        (None, Some(now)) => format!("{} {now} (new)", package.name),
        (Some(was), None) => format!("{} {was} (removed)", package.name),
        (None, None) => package.name.clone(),
    });
    let mut paths = reason.paths.iter().take(PATHS).cloned().collect::<Vec<_>>().join(", ");
    if reason.paths.len() > PATHS {
        paths.push_str(&format!(" and {} more", reason.paths.len() - PATHS));
    }
    // The text names the only file already.
    let paths = Some(paths).filter(|paths| !paths.is_empty() && !reason.text.starts_with(paths.as_str()));
    let services = (!reason.services.is_empty()).then(|| format!("{}:", reason.services.join(", ")));
    let subject: Vec<String> = [package, paths].into_iter().flatten().collect();
    let subject = if subject.is_empty() { String::new() } else { format!("{}: ", subject.join(": ")) };
    let services = services.map(|services| format!("{services} ")).unwrap_or_default();
    format!("{}: {subject}{services}{}", reason.restart.name(), reason.text)
}

/// A unit's name for a shell; none for what systemd does not take as a name. Source: systemd.unit(5).
fn quoted(name: &str) -> Option<String> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || ":_.@-".contains(letter);
    match name.chars().find(|letter| !is_plain(*letter) && !"\\*".contains(*letter)) {
        Some(_) => None,
        None if name.chars().all(is_plain) => Some(name.to_owned()),
        None => Some(format!("'{name}'")),
    }
}

/// The commands that bring nodes to their build without a boot; those behind `sync` are for the nodes themselves.
pub(super) fn commands(answer: &Answer, range: &str) -> Vec<String> {
    let mut commands = Vec::new();
    if !answer.sync.is_empty() {
        let options: Vec<String> = answer.sync.iter().map(|part| format!("--{part}")).collect();
        let range = if range.contains(['[', '*', '!', '&']) { format!("'{range}'") } else { range.to_owned() };
        commands.push(format!("imgbuild sync {range} {}", options.join(" ")));
    }
    if answer.restart == Restart::Services {
        let has_manager = answer.services.iter().any(|name| name == MANAGER);
        let units = answer.services.iter().filter(|name| *name != MANAGER);
        let units: Vec<String> = units.filter_map(|name| quoted(name)).collect();
        let mut command = format!("systemctl {}", if has_manager { "daemon-reexec" } else { "daemon-reload" });
        if !units.is_empty() {
            let options_end = if units.iter().any(|name| name.starts_with('-')) { "-- " } else { "" };
            command.push_str(&format!(" && systemctl try-restart {options_end}{}", units.join(" ")));
        }
        commands.push(command);
    }
    commands
}

/// How many nodes need what.
pub(super) fn summary(nodes: &[NodeNeeds]) -> String {
    let mut counts: BTreeMap<Option<Restart>, usize> = BTreeMap::new();
    nodes.iter().for_each(|node| *counts.entry(node.restart).or_default() += 1);
    let part = |(restart, count): (Option<Restart>, usize)| match restart {
        None => format!("{count} without a build to boot"),
        restart => format!("{count} {}", name(restart)),
    };
    let parts: Vec<String> = counts.into_iter().map(part).collect();
    format!("{}: {}", counted_as(nodes.len(), "node", "nodes"), parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_name_what_sync_brings_and_what_starts_again() {
        let answer = |restart, services: &[&str], sync: &[&str]| Answer {
            restart,
            services: services.iter().map(|name| (*name).to_owned()).collect(),
            sync: sync.iter().map(|name| (*name).to_owned()).collect(),
            reasons: Vec::new(),
        };
        let synced = answer(Restart::Sync, &[], &["files"]);
        assert_eq!(commands(&synced, "cn1"), ["imgbuild sync cn1 --files"]);
        let restarted = answer(Restart::Services, &["init.scope", "ssh.service"], &["files", "packages"]);
        let expected = [
            "imgbuild sync 'cn[1-2]' --files --packages",
            "systemctl daemon-reexec && systemctl try-restart ssh.service",
        ];
        assert_eq!(commands(&restarted, "cn[1-2]"), expected);
        let alone = answer(Restart::Services, &["a.service"], &["packages"]);
        assert_eq!(commands(&alone, "cn1")[1], "systemctl daemon-reload && systemctl try-restart a.service");
        // Names come from images.
        let names =
            ["a@*.service", "b\\x2d1.service", "c;reboot.service", "$(id).service", "d e.service", "e's.service"];
        let odd = commands(&answer(Restart::Services, &names, &[]), "cn1");
        let expected = r"systemctl daemon-reload && systemctl try-restart 'a@*.service' 'b\x2d1.service'";
        assert_eq!(odd, [expected]);
        let option = commands(&answer(Restart::Services, &["--root=x.service", "-x.service"], &[]), "cn1");
        assert_eq!(option, ["systemctl daemon-reload && systemctl try-restart -- -x.service"]);
        assert!(commands(&answer(Restart::Reboot, &[], &[]), "cn1").is_empty());
    }
}
