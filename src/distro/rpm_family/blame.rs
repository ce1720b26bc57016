//! Finds in rpm's output which package's script failed.

use std::path::Path;

use crate::distro::DistroError;
use crate::sandbox::CommandResult;

/// How much of a log is read, in bytes from its end.
const LOG_LIMIT: usize = 16 << 20;

/// Lines before rpm's complaint that are shown.
const SHOWN_LINES: usize = 20;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Blame {
    script: String,
    package: String,
    ended: String,
    lines: Vec<String>,
}

/// The scripts that a log blames. Source: rpm, lib/rpmscript.c: `%post(name-1-1.noarch) scriptlet failed, exit status 1`.
fn blamed(log: &str) -> Vec<Blame> {
    let lines: Vec<&str> = log.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(rest) = line.strip_prefix("error: ").or_else(|| line.strip_prefix("warning: ")) else { continue };
        let Some((script, rest)) = rest.split_once('(').filter(|(script, _)| script.starts_with('%')) else { continue };
        let Some((package, ended)) = rest.split_once(") scriptlet failed") else { continue };
        // The script's own lines stand between the line of its package and the complaint.
        let shown = lines[at.saturating_sub(SHOWN_LINES)..=at].iter().map(|line| crate::sandbox::shown(line)).collect();
        found.push(Blame {
            script: script.to_owned(),
            package: package.to_owned(),
            ended: ended.trim_start_matches([',', ' ']).to_owned(),
            lines: shown,
        });
    }
    found
}

fn text_of(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_LIMIT)..]).into_owned()
}

/// The name in `name-version-release.architecture`.
fn name_of(package: &str) -> &str {
    let mut parts = package.rsplitn(3, '-');
    let (_, _, name) = (parts.next(), parts.next(), parts.next());
    name.unwrap_or(package)
}

fn error_of(blame: Blame, log: &Path) -> DistroError {
    // 127: there is no such program. Source: POSIX, shell command language.
    let remedy = match blame.script.as_str() {
        "%sysusers" if blame.ended.ends_with(" 127") => {
            ": the tools root has no program that makes accounts for rpm; `imgbuild update` adds it to the lock"
        }
        _ => "",
    };
    DistroError::MaintainerScript {
        script: format!("the script `{}` of the package `{}`", blame.script, name_of(&blame.package)),
        ended: format!("{}{remedy}", blame.ended),
        lines: blame.lines.join("\n"),
        log: log.display().to_string(),
    }
}

/// The first script that failed though rpm went on, unless the recipe lets it.
pub fn failing(log: &Path, allowed: &[String]) -> Option<DistroError> {
    let mut found = blamed(&text_of(log)).into_iter();
    found.find(|blame| !allowed.iter().any(|name| name == name_of(&blame.package))).map(|blame| error_of(blame, log))
}

/// What is said of an rpm that failed; `what` where its log names no package.
pub fn failure(what: &str, result: &CommandResult, log: &Path) -> DistroError {
    match blamed(&text_of(log)).into_iter().next() {
        Some(blame) => error_of(blame, log),
        None => DistroError::PackageManager {
            what: what.to_owned(),
            status: result.status,
            lines: result.last_lines.join("\n"),
            log: log.display().to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_and_the_script_that_rpm_blames_are_named() {
        let log = "Preparing packages...\nx-y-1-2.noarch\nsaid by the script\n\
                   warning: %post(x-y-1-2.noarch) scriptlet failed, exit status 3\nz-1-1.noarch\n";
        let found = &blamed(log)[0];
        assert_eq!((found.script.as_str(), name_of(&found.package)), ("%post", "x-y"));
        assert_eq!(found.ended, "exit status 3");
        assert_eq!(found.lines.len(), 4);
        let log = "error: %preun(a-1:1-1.x86_64) scriptlet failed, signal 9\n";
        assert_eq!(blamed(log)[0].ended, "signal 9");
        let log = "error: %sysusers(setup-2.15.0-13.fc42.noarch) scriptlet failed, exit status 127\n";
        let said = error_of(blamed(log).remove(0), Path::new("log")).to_string();
        assert!(said.contains("package `setup` failed: exit status 127: the tools root has no program"), "{said}");
        assert!(blamed("warning: something else (x) failed\n").is_empty());
    }
}
