//! Plays of a playbook, as far as a look at its lines tells: which hosts each is for.
//!
//! Ansible reads the file. What is not understood here is left to the run.

use std::sync::Arc;

use super::{OWN_GROUPS, ROLE_HOST};
use base::source::{Finding, SourceFile, Span};

/// What a play says of its hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Play {
    hosts: String,
    span: Span,
}

/// Names that each inventory knows although it does not list them.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The text of a line without a comment and quotes.
fn scalar(text: &str) -> &str {
    let text = text.trim();
    for quote in ['"', '\''] {
        if let Some(rest) = text.strip_prefix(quote) {
            return rest.split(quote).next().unwrap_or(rest);
        }
    }
    text.split(" #").next().unwrap_or(text).trim()
}

/// The plays that say their hosts on one line, and whether those are all that the file has.
fn plays(file: &Arc<SourceFile>) -> (Vec<Play>, bool) {
    let (mut found, mut is_all, mut inner) = (Vec::new(), true, None);
    let mut at = 0;
    for line in file.text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let text = line.trim_end();
        let indent = text.len() - text.trim_start().len();
        let mut body = text.trim_start();
        if let Some(rest) = body.strip_prefix("- ")
            && inner.is_none_or(|inner| indent < inner)
        {
            let rest_start = rest.trim_start();
            inner = Some(indent + (body.len() - rest_start.len()));
            body = rest_start;
        } else if inner != Some(indent) {
            continue;
        }
        if body.starts_with("import_playbook:") || body.starts_with("ansible.builtin.import_playbook:") {
            is_all = false;
        }
        let Some(value) = body.strip_prefix("hosts:") else { continue };
        let value = scalar(value);
        if value.is_empty() || value.starts_with(['|', '>', '&', '*']) {
            is_all = false;
            continue;
        }
        let begin = start + text.find(value).unwrap_or(0);
        found.push(Play { hosts: value.to_owned(), span: Span::new(file, begin..begin + value.len()) });
    }
    (found, is_all)
}

/// Whether a pattern of hosts can mean the image. Source: Ansible, "Patterns: targeting hosts and groups".
fn may_match(pattern: &str, groups: &[String]) -> bool {
    if pattern.contains(['{', '~', '!', '&']) {
        return true;
    }
    let list = pattern.trim_start_matches('[').trim_end_matches(']');
    let known = |name: &str| {
        OWN_GROUPS[0] == name || ROLE_HOST == name || LOCAL.contains(&name) || groups.iter().any(|group| group == name)
    };
    let like = |part: &str| match globset::Glob::new(part) {
        Ok(glob) => {
            let matcher = glob.compile_matcher();
            matcher.is_match(ROLE_HOST) || groups.iter().any(|group| matcher.is_match(group))
        }
        Err(_) => true,
    };
    list.split([',', ':']).map(scalar).any(|part| known(part) || (part.contains(['*', '?', '[']) && like(part)))
}

/// Says which plays are for other hosts; refuses a playbook that is for others alone.
pub(super) fn check(file: &Arc<SourceFile>, groups: &[String], findings: &mut Vec<Finding>) {
    let (plays, is_all) = plays(file);
    let others: Vec<&Play> = plays.iter().filter(|play| !may_match(&play.hosts, groups)).collect();
    let Some(first) = others.first() else { return };
    let help = format!("name a group that the image is in: ‹[[role]] groups = [\"{}\"]›, or write `hosts: all`", {
        let name = first.hosts.split([',', ':']).next().unwrap_or_default();
        if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') { name } else { "compute" }
    });
    if is_all && others.len() == plays.len() {
        let message = format!("no play of `{}` is for the image: `{}` matches no host", file.name, first.hosts);
        let finding = Finding::error("role::no_hosts", &first.span, message).label("the image is in no such group");
        findings.push(finding.help(help));
        return;
    }
    for play in others {
        let message = format!("`{}` matches no host: this play changes nothing", play.hosts);
        let finding = Finding::note("role::no_hosts", &play.span, message).label("the image is in no such group");
        findings.push(finding.help(help.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Arc<SourceFile> {
        SourceFile::new("site.yml", "/site.yml", text)
    }

    #[test]
    fn hosts_of_plays_are_found_where_they_stand() {
        let text = "---\n- name: one\n  hosts: web # here\n  tasks:\n    - debug:\n        hosts: no\n- hosts: 'db,all'\n- import_playbook: x.yml\n";
        let (found, is_all) = plays(&file(text));
        let shown: Vec<String> = found.iter().map(|play| format!("{} {}", play.hosts, play.span)).collect();
        assert_eq!(shown, ["web site.yml:3:10", "db,all site.yml:7:11"]);
        assert!(!is_all);
        let (found, is_all) = plays(&file("-   hosts: all\n    tasks: []\n-   name: x\n    hosts:\n      - web\n"));
        assert_eq!((found.len(), is_all), (1, false));
    }

    #[test]
    fn patterns_mean_the_image_by_name_group_or_wildcard() {
        let groups = ["web".to_owned()];
        for (pattern, may) in [
            ("all", true),
            ("image", true),
            ("web", true),
            ("db:web", true),
            ("[db, web]", true),
            ("w*", true),
            ("localhost", true),
            ("{{ target }}", true),
            ("all:!db", true),
            ("db", false),
            ("db,cache", false),
            ("d*", false),
        ] {
            assert_eq!(may_match(pattern, &groups), may, "{pattern}");
        }
    }

    #[test]
    fn a_playbook_for_others_alone_is_refused_and_one_play_noted() {
        let codes = |text: &str| {
            let mut findings = Vec::new();
            check(&file(text), &["web".to_owned()], &mut findings);
            findings.iter().map(|one| (one.severity, one.code)).collect::<Vec<_>>()
        };
        use base::source::Severity::{Error, Note};
        assert_eq!(codes("- hosts: db\n"), [(Error, "role::no_hosts")]);
        assert_eq!(codes("- hosts: db\n- hosts: web\n"), [(Note, "role::no_hosts")]);
        assert_eq!(codes("- hosts: db\n- import_playbook: a.yml\n"), [(Note, "role::no_hosts")]);
        assert_eq!(codes("- hosts: web\n"), []);
    }
}
