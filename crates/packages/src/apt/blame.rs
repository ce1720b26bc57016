//! Finds in dpkg's output which package's script failed.

use std::path::Path;

use crate::DistroError;
use sandbox::CommandResult;

/// dpkg's words for the scripts, and their names. Source: dpkg, src/main/script.c.
const SCRIPTS: [(&str, &str); 4] = [
    ("pre-installation script", "preinst"),
    ("post-installation script", "postinst"),
    ("pre-removal script", "prerm"),
    ("post-removal script", "postrm"),
];

/// How much of a log is read, in bytes from its end.
const LOG_LIMIT: usize = 16 << 20;

/// Lines before dpkg's complaint that are shown.
const SHOWN_LINES: usize = 20;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Blame {
    package: String,
    /// The script's name and how it ended.
    script: Option<(&'static str, String)>,
    lines: Vec<String>,
}

/// The first complaint of a log.
fn blame(log: &str) -> Option<Blame> {
    let lines: Vec<&str> = log.lines().collect();
    let (at, rest) = lines.iter().enumerate().find_map(|(at, line)| {
        let rest = line.strip_prefix("dpkg: error processing ")?;
        let rest = rest.strip_prefix("package ").or_else(|| rest.strip_prefix("archive "))?;
        Some((at, rest))
    })?;
    // A package by its name, `name:architecture` or its file's path.
    let word = rest.split(' ').next().unwrap_or(rest);
    let word = word.rsplit('/').next().unwrap_or(word);
    let package = word.split([':', '_']).next().unwrap_or(word).to_owned();
    let script = lines.get(at + 1).and_then(|next| {
        let (words, name) = SCRIPTS.iter().find(|(words, _)| next.contains(words))?;
        let ended = next.split_once(words)?.1.trim().trim_start_matches("subprocess").trim();
        let ended = ended.trim_start_matches("returned error").trim_start_matches("was").trim();
        Some((*name, ended.to_owned()))
    });
    let shown = lines[at.saturating_sub(SHOWN_LINES)..(at + 2).min(lines.len())].iter();
    let lines = shown.map(|line| sandbox::shown(line)).collect();
    Some(Blame { package, script, lines })
}

/// What is said of a package manager that failed; `what` where its log names no package.
pub(super) fn failure(what: &str, result: &CommandResult, log: &Path) -> DistroError {
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_LIMIT)..]);
    let log = log.display().to_string();
    let found = blame(&text);
    match found {
        Some(Blame { package, script: Some((script, ended)), lines }) => {
            let script = format!("the script `{script}` of the package `{package}`");
            DistroError::MaintainerScript { script, ended, lines: lines.join("\n"), log }
        }
        found => DistroError::PackageManager {
            what: found.map_or_else(|| what.to_owned(), |blame| format!("installing the package `{}`", blame.package)),
            status: result.status,
            lines: result.last_lines.join("\n"),
            log,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_and_the_script_that_dpkg_blames_are_named() {
        let log = "Setting up x-y (1) ...\nsaid by the script\n\
                   dpkg: error processing package x-y:amd64 (--configure):\n\
                   \x20installed x-y package post-installation script subprocess returned error exit status 3\n\
                   dpkg: error processing package later (--configure):\n dependency problems\n";
        let found = blame(log).unwrap();
        assert_eq!(found.package, "x-y");
        assert_eq!(found.script, Some(("postinst", "exit status 3".to_owned())));
        assert_eq!(found.lines.len(), 4);
        let log = "dpkg: error processing archive /target/run/imgbuild/debs/z_1%3a2_all.deb (--unpack):\n\
                   \x20new z package pre-installation script subprocess was killed by signal (Killed)\n";
        let found = blame(log).unwrap();
        assert_eq!(
            (found.package.as_str(), found.script),
            ("z", Some(("preinst", "killed by signal (Killed)".to_owned())))
        );
        let log = "dpkg: error processing archive /d/z_1_all.deb (--unpack):\n trying to overwrite '/a'\n";
        assert_eq!(blame(log).unwrap().script, None);
        assert_eq!(blame(""), None);
    }
}
