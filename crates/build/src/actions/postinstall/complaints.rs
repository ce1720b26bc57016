//! Lines of a script that look like failures although it ended with 0: scripts without `set -e` are the rule.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::remedy::remedy;
use base::source::{Finding, Severity};
use recipe::{Recipe, Script};
use sandbox::shown;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Complaint {
    pub text: String,
    /// The line of the script that printed it, from 1, where that can be determined.
    pub line: Option<usize>,
}

/// How many are kept of one script, and how many are shown.
const KEPT: usize = 100;
const SHOWN: usize = 6;

/// How much of a log is looked through, in bytes.
const READ: u64 = 4 << 20;

/// What failures say, in lower case: the C library's words (strerror(3)), those of shells, of coreutils, of package managers and
/// languages.
const WORDS: [&str; 27] = [
    "no such file",
    "permission denied",
    "operation not permitted",
    "command not found",
    ": not found",
    "unable to ",
    "cannot ",
    "can't ",
    "could not ",
    "not a directory",
    "is a directory",
    "read-only file system",
    "no space left",
    "invalid argument",
    "unbound variable",
    "bad substitution",
    "syntax error",
    "unexpected end of file",
    "missing operand",
    "invalid option",
    "unrecognized option",
    "connection refused",
    "network is unreachable",
    "name resolution",
    "no such user",
    "invalid user",
    "invalid group",
];

/// How lines of failures begin, in lower case.
const BEGINNINGS: [&str; 5] = ["error:", "e: ", "fatal:", "traceback (most recent call last)", "failed "];

/// Lines that say such a thing of what does not matter, in lower case.
const HARMLESS: [&str; 7] = [
    "debconf: ",
    "locale: cannot set",
    "perl: warning",
    "invoke-rc.d: could not determine current runlevel",
    "running in chroot, ignoring",
    "warning: setlocale",
    "+ ",
];

fn looks_like_a_failure(line: &str) -> bool {
    let line = line.trim_start().to_lowercase();
    let is_harmless = HARMLESS.iter().any(|start| line.starts_with(start)) || line.contains("setlocale");
    let begins = BEGINNINGS.iter().any(|start| line.starts_with(start));
    (!is_harmless || fault::planted("harmless-complaints"))
        && (begins || WORDS.iter().any(|words| line.contains(words)))
}

/// The lines of a log, from a place on, that look like failures, each once; `script` is the script's text.
pub(super) fn in_log(log: &str, from: u64, script: &[u8]) -> Vec<Complaint> {
    use std::io::{Read, Seek, SeekFrom};
    let mut bytes = Vec::new();
    let read = std::fs::File::open(log).and_then(|mut file| {
        file.seek(SeekFrom::Start(from))?;
        file.take(READ).read_to_end(&mut bytes)
    });
    if read.is_err() {
        return Vec::new();
    }
    of_text(&String::from_utf8_lossy(&bytes), &String::from_utf8_lossy(script))
}

fn of_text(printed: &str, script: &str) -> Vec<Complaint> {
    let mut found: Vec<Complaint> = Vec::new();
    for line in printed.lines().filter(|line| looks_like_a_failure(line)) {
        let complaint = Complaint { text: shown(line), line: line_of(line, script) };
        if !found.contains(&complaint) {
            found.push(complaint);
        }
        if found.len() == KEPT {
            break;
        }
    }
    found
}

/// The line of the script that a message names, or that has what it speaks of.
fn line_of(message: &str, script: &str) -> Option<usize> {
    let count = script.lines().count();
    let number = |text: &str| -> Option<usize> {
        let digits: String = text.trim_start().chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok().filter(|number| (1..=count).contains(number))
    };
    // `FILE: line 3: ..` of bash, `FILE: 3: ..` of dash, `.. at FILE line 3.` of perl, `FILE:3:in ..` of ruby.
    if let Some((_, rest)) = message.split_once("/recipe/") {
        for (at, _) in rest.match_indices([':', ' ', ',']) {
            let after = rest.get(at + 1..)?.trim_start();
            if let Some(found) = number(after.strip_prefix("line ").unwrap_or(after)) {
                return Some(found);
            }
        }
    }
    // What it speaks of: quoted, or between colons; the longest is the surest.
    let target = message.replace("/target/", "/");
    let mut words: Vec<&str> = target
        .split(['\'', '"', '`', '\u{2018}', '\u{2019}', ':', ' '])
        .map(str::trim)
        .filter(|word| word.len() > 2 && word.contains('/'))
        .collect();
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    let lines = || script.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with('#'));
    words.iter().find_map(|word| lines().find(|(_, line)| line.contains(word)).map(|(index, _)| index + 1))
}

/// What is said of them: one warning.
pub(super) fn finding(recipe: &Recipe, script: &Script, found: &[&Complaint], log: &Path) -> Option<Finding> {
    if found.is_empty() {
        return None;
    }
    let lines: Vec<String> = found
        .iter()
        .take(SHOWN)
        .map(|complaint| match complaint.line {
            Some(line) => format!("line {line}: `{}`", complaint.text.trim()),
            None => format!("`{}`", complaint.text.trim()),
        })
        .collect();
    let more = if found.len() > SHOWN { format!("; and {} more", found.len() - SHOWN) } else { String::new() };
    let text =
        format!("`{}` exited with 0, but printed what looks like a failure: {}{more}", script.name, lines.join("; "));
    let texts: Vec<String> = found.iter().map(|complaint| complaint.text.clone()).collect();
    let mut finding = Finding::nowhere(Severity::Warning, "postinstall::printed", text).help(format!(
        "{}with `set -e` at its top, the script and the build stop at a command that fails; full output: {}",
        remedy(&texts, 0),
        log.display()
    ));
    finding.span = recipe.spans.get(&script.field).cloned();
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::{Complaint, of_text};

    const SCRIPT: &str = "#!/bin/sh\n# /install/custom/issue is not it\ncat /install/custom/issue >$1/etc/issue\nfrobnicate\ncp a/b \"$1/opt/x\"\n";

    #[track_caller]
    fn one(printed: &str) -> Complaint {
        let mut found = of_text(printed, SCRIPT);
        assert_eq!(found.len(), 1, "{printed}: {found:?}");
        found.remove(0)
    }

    #[test]
    fn failures_are_found_with_their_lines() {
        assert_eq!(one("cat: /install/custom/issue: No such file or directory").line, Some(3));
        assert_eq!(one("/recipe/post.sh: 4: frobnicate: not found").line, Some(4));
        assert_eq!(one("/recipe/sub/post.sh: line 4: frobnicate: command not found").line, Some(4));
        assert_eq!(one("cp: cannot stat 'a/b': No such file or directory").line, Some(5));
        assert_eq!(one("cp: cannot create regular file '/target/opt/x': Permission denied").line, Some(5));
        assert_eq!(one("Can't locate X.pm at /recipe/x.pl line 2.").line, Some(2));
        assert_eq!(one("E: Unable to locate package x").line, None);
        assert_eq!(one("a\ncat: y: No such file\ncat: y: No such file\n").text, "cat: y: No such file");
    }

    #[test]
    fn what_does_not_matter_is_no_failure() {
        for line in [
            "done",
            "0 failed, 3 passed",
            "Running in chroot, ignoring command 'daemon-reload'",
            "debconf: unable to initialize frontend: Dialog",
            "locale: Cannot set LC_ALL to default locale: No such file or directory",
            "bash: warning: setlocale: LC_ALL: cannot change locale (en_US.UTF-8): No such file or directory",
            "+ cat /no such file",
        ] {
            assert_eq!(of_text(line, SCRIPT), [], "{line}");
        }
    }
}
