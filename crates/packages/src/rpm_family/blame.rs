//! Finds in rpm's output which package's script failed, and whose files are not those of the user they belong to.
//!
//! rpm goes on after most scripts that fail, and says so behind whatever the script printed, which need not end with a line break. Source:
//! rpm, lib/rpmscript.c, rpmio/rpmlua.c, lib/fsm.c.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::DistroError;
use base::source::{Finding, Severity};
use sandbox::CommandResult;

const FAILED: &str = " scriptlet failed";
const LUA: [&str; 2] = ["lua script failed: ", "invalid syntax in lua script: "];
const NOT_STARTED: &str = "error: Couldn't ";
const NO_ACCOUNT: &str = " does not exist - using ";

/// Words of the lines that are looked for, which have to stay in logs of any length.
pub(super) const LOOKED_FOR: [&str; 5] = [FAILED, LUA[0], LUA[1], NOT_STARTED, NO_ACCOUNT];

/// Lines before rpm's complaint that are shown, and how much of a line is read, in bytes.
const SHOWN_LINES: usize = 20;
const LONGEST_LINE: usize = 64 << 10;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Blame {
    script: String,
    /// As rpm names it; of a long name in Lua's messages the beginning.
    package: String,
    is_cut: bool,
    ended: String,
    lines: Vec<String>,
}

/// `%post(name-1-1.noarch)`, or how it begins before `...`: script and package.
fn described(text: &str) -> Option<(&str, &str, bool)> {
    let (script, package) = text.strip_prefix('%')?.split_once('(')?;
    let (package, is_cut) = match package.strip_suffix(')') {
        Some(package) => (package, false),
        None => (package.strip_suffix("...")?, true),
    };
    let is_word = |text: &str| !text.is_empty() && !text.contains([' ', '(', ')']);
    (is_word(script) && is_word(package)).then_some((&text[..=script.len()], package, is_cut))
}

/// What rpm says of scripts in a line: script, package, and how it ended. The script's own words may stand before it.
fn complaints(line: &str) -> Vec<Blame> {
    let blame = |(script, package, is_cut): (&str, &str, bool), ended: &str| Blame {
        script: script.to_owned(),
        package: package.to_owned(),
        is_cut,
        ended: sandbox::shown(ended.trim_start_matches([',', ':', ' '])),
        lines: Vec::new(),
    };
    let mut found = Vec::new();
    for (at, _) in line.match_indices(FAILED) {
        let Some((said, script)) = line[..at].rsplit_once(": ") else { continue };
        if (said.ends_with("error") || said.ends_with("warning")) && !fault::planted("rpm-script-mid-line") {
            found.extend(described(script).map(|script| blame(script, &line[at + FAILED.len()..])));
        }
    }
    for words in LUA {
        for (at, _) in line.match_indices(words) {
            let rest = &line[at + words.len()..];
            // The chunk's name; an error that is no text has none.
            let named = rest.strip_prefix("[string \"").and_then(|rest| rest.split_once("\"]"));
            let (script, ended) = named
                .and_then(|(script, ended)| Some((described(script)?, ended)))
                .unwrap_or((("%lua", "", true), rest));
            found.extend(line[..at].ends_with("error: ").then(|| blame(script, ended)));
        }
    }
    for (at, _) in line.match_indices(NOT_STARTED) {
        // `Couldn't fork %post(name-1-1.noarch): Cannot allocate memory`.
        let rest = &line[at + NOT_STARTED.len()..];
        let script = rest.split([' ', ':']).find_map(described);
        found.extend(script.map(|script| blame(script, &format!("could not {rest}"))));
    }
    found
}

/// Calls `each` with the lines of a log, as they can be shown; a carriage return ends a line, too.
fn read_lines(log: &Path, mut each: impl FnMut(&str)) {
    let Ok(file) = std::fs::File::open(log) else { return };
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let mut line: Vec<u8> = Vec::new();
    while let Ok(bytes) = reader.fill_buf() {
        if bytes.is_empty() {
            break;
        }
        let (taken, is_end) = match bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            Some(at) => (at + 1, true),
            None => (bytes.len(), false),
        };
        line.extend_from_slice(&bytes[..taken - usize::from(is_end)]);
        reader.consume(taken);
        // rpm's words stand at the end.
        let surplus = line.len().saturating_sub(LONGEST_LINE);
        line.drain(..surplus);
        if is_end {
            each(&String::from_utf8_lossy(&line));
            line.clear();
        }
    }
    if !line.is_empty() {
        each(&String::from_utf8_lossy(&line));
    }
}

/// The first script that a log blames and that counts.
fn blamed(log: &Path, counts: impl Fn(&Blame) -> bool) -> Option<Blame> {
    let mut before: VecDeque<String> = VecDeque::new();
    let mut found = None;
    read_lines(log, |line| {
        if found.is_some() || line.is_empty() {
            return;
        }
        if before.len() > SHOWN_LINES {
            before.pop_front();
        }
        before.push_back(sandbox::shown(line));
        found = complaints(line).into_iter().find(&counts);
        if let Some(blame) = &mut found {
            blame.lines = before.iter().cloned().collect();
        }
    });
    found
}

/// Whether a log blames a script.
pub(super) fn blames(log: &Path) -> bool {
    blamed(log, |_| true).is_some()
}

/// The name in `name-version-release.architecture`.
fn name_of(package: &str) -> &str {
    let mut parts = package.rsplitn(3, '-');
    let (_, _, name) = (parts.next(), parts.next(), parts.next());
    name.unwrap_or(package)
}

impl Blame {
    fn is_of(&self, name: &str) -> bool {
        match self.is_cut {
            false => name == name_of(&self.package),
            true if self.package.is_empty() => false,
            true => name.starts_with(&self.package) || self.package.starts_with(&format!("{name}-")),
        }
    }

    fn is_allowed(&self, allowed: &[String]) -> bool {
        allowed.iter().any(|name| self.is_of(name))
    }
}

fn error_of(blame: Blame, log: &Path) -> DistroError {
    // 127: there is no such program. Source: POSIX, shell command language.
    let remedy = match blame.script.as_str() {
        "%sysusers" if blame.ended.ends_with(" 127") => {
            ": the tools root has no program that makes accounts for rpm; `imgbuild update` adds it to the lock"
        }
        _ => "",
    };
    let package = if blame.is_cut { blame.package.as_str() } else { name_of(&blame.package) };
    DistroError::MaintainerScript {
        script: match package {
            "" => "a Lua script of a package".to_owned(),
            _ => format!("the script `{}` of the package `{package}`", blame.script),
        },
        ended: format!("{}{remedy}", blame.ended),
        lines: blame.lines.join("\n"),
        log: log.display().to_string(),
    }
}

/// The first script that failed though rpm went on, unless the recipe lets it.
pub(super) fn failing(log: &Path, allowed: &[String]) -> Option<DistroError> {
    blamed(log, |blame| !blame.is_allowed(allowed)).map(|blame| error_of(blame, log))
}

/// What is said of an rpm that failed; `what` where its log names no package.
pub(super) fn failure(what: &str, result: &CommandResult, log: &Path) -> DistroError {
    match blamed(log, |_| true) {
        Some(blame) => error_of(blame, log),
        None => DistroError::PackageManager {
            what: what.to_owned(),
            status: result.status,
            lines: result.last_lines.join("\n"),
            log: log.display().to_string(),
        },
    }
}

/// `name-version-release.architecture` in a line of its own, as rpm announces what it installs.
fn announced(line: &str) -> Option<&str> {
    let is_package = !line.contains([' ', '/', ':']) && line.matches('-').count() > 1 && line.contains('.');
    is_package.then(|| name_of(line))
}

/// Accounts that packages' files belong to and that the image does not have: rpm makes such files root's.
pub(super) fn missing_accounts(log: &Path) -> Vec<Finding> {
    let mut package = String::new();
    let mut found: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    read_lines(log, |line| {
        if let Some(name) = announced(line) {
            package = name.to_owned();
        }
        for (at, _) in line.match_indices(NO_ACCOUNT) {
            // `warning: user slurm does not exist - using root`.
            let account = line[..at].rsplit_once("warning: ").and_then(|(_, account)| account.split_once(' '));
            let Some((kind @ ("user" | "group"), name)) = account.filter(|(_, name)| !name.contains(' ')) else {
                continue;
            };
            let packages = found.entry((kind.to_owned(), sandbox::shown(name))).or_default();
            if !package.is_empty() && !packages.contains(&package) {
                packages.push(sandbox::shown(&package));
            }
        }
    });
    let finding = |((kind, name), packages): ((String, String), Vec<String>)| {
        let of = match packages.len() {
            0 => String::new(),
            count => {
                let shown: Vec<String> = packages.iter().take(6).map(|name| format!("`{name}`")).collect();
                let more = if count > 6 { format!(" and {} more", count - 6) } else { String::new() };
                format!(" of {}{more}", shown.join(", "))
            }
        };
        let message = format!("the {kind} `{name}` does not exist: rpm gave its files{of} to root");
        let table = if kind == "group" { "‹[groups]›" } else { "‹[users]›" };
        Finding::nowhere(Severity::Warning, "packages::no_account", message).help(format!(
            "create the account before any package is installed: {table} {name}, or install the package that creates it in an earlier pass"
        ))
    };
    found.into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn first(text: &str) -> Option<(String, String, String)> {
        let blame = blamed(log(text).path(), |_| true)?;
        Some((blame.script.clone(), name_of(&blame.package).to_owned(), blame.ended))
    }

    #[test]
    fn the_package_and_the_script_that_rpm_blames_are_named() {
        let text = "Preparing packages...\nx-y-1-2.noarch\nprinted by the script\n\
                    warning: %post(x-y-1-2.noarch) scriptlet failed, exit status 3\nz-1-1.noarch\n";
        let found = blamed(log(text).path(), |_| true).unwrap();
        assert_eq!((found.script.as_str(), name_of(&found.package)), ("%post", "x-y"));
        assert_eq!(found.ended, "exit status 3");
        assert_eq!(found.lines.len(), 4);
        let (_, _, ended) = first("error: %preun(a-1:1-1.x86_64) scriptlet failed, signal 9\n").unwrap();
        assert_eq!(ended, "signal 9");
        let text = log("error: %sysusers(setup-2.15.0-13.fc42.noarch) scriptlet failed, exit status 127\n");
        let said = failing(text.path(), &[]).unwrap().to_string();
        assert!(said.contains("package `setup` failed: exit status 127: the tools root has no program"), "{said}");
        for text in [
            "warning: something else (x) failed\n",
            "it says that a scriptlet failed, exit status 1\n",
            "%post(x-1-1.noarch) scriptlet failed\n",
            "lua script failed: by me\n",
        ] {
            assert!(!blames(log(text).path()), "{text}");
        }
    }

    /// As rpm 4.18 printed them.
    #[test]
    fn failures_are_found_wherever_rpm_writes_them() {
        for (line, script, package, ended) in [
            (
                "Configuring t ... warning: %post(t-noeol-1-1.noarch) scriptlet failed, exit status 1",
                "%post",
                "t-noeol",
                "exit status 1",
            ),
            (
                "50% done\rwarning: %post(t-ctrl-1-1.noarch) scriptlet failed, exit status 5",
                "%post",
                "t-ctrl",
                "exit status 5",
            ),
            (
                "Updating ... warning: %transfiletriggerin(t-ftfail-1-1.noarch) scriptlet failed, exit status 4",
                "%transfiletriggerin",
                "t-ftfail",
                "exit status 4",
            ),
            (
                "error: lua script failed: [string \"%posttrans(t-lua3-1-1.noarch)\"]:1: attempt to call a nil value",
                "%posttrans",
                "t-lua3",
                "1: attempt to call a nil value",
            ),
            (
                "x error: invalid syntax in lua script: [string \"%post(t-lua2-1-1.noarch)\"]:2: unexpected symbol",
                "%post",
                "t-lua2",
                "2: unexpected symbol",
            ),
            (
                "error: Couldn't fork %triggerin(t-1-1.noarch): Resource temporarily unavailable",
                "%triggerin",
                "t",
                "could not fork %triggerin(t-1-1.noarch): Resource temporarily unavailable",
            ),
        ] {
            for text in [format!("{line}\n"), line.to_owned(), format!("{}{line}\n", "x".repeat(100_000))] {
                let found = first(&text).unwrap();
                assert_eq!(found, (script.to_owned(), package.to_owned(), ended.to_owned()));
            }
        }
        // In front of more than was looked at.
        let flood = "rebuilding index entry: ......................................................\n".repeat(400_000);
        let text = format!("warning: %post(a-1-1.noarch) scriptlet failed, exit status 1\n{flood}");
        assert_eq!(first(&text).unwrap().1, "a");
    }

    #[test]
    fn a_name_that_lua_cuts_short_is_matched_by_its_beginning() {
        let text =
            log("error: lua script failed: [string \"%posttrans(site-with-a-very-long-name-of-a-pac...\"]:1: x\n");
        assert!(failing(text.path(), &[]).is_some());
        assert!(failing(text.path(), &["site-with-a-very-long-name-of-a-package".to_owned()]).is_none());
        assert!(failing(text.path(), &["site-other".to_owned()]).is_some());
        let text = log("error: lua script failed: (error object is a table value)\n");
        assert!(failing(text.path(), &["site".to_owned()]).unwrap().to_string().contains("a Lua script of a package"));
    }

    #[test]
    fn what_a_recipe_allows_hides_no_other_failure() {
        let text = log("warning: %post(a-1-1.noarch) scriptlet failed, exit status 1\n\
                        warning: %post(b-1-1.noarch) scriptlet failed, exit status 2\n");
        let said = failing(text.path(), &["a".to_owned()]).unwrap().to_string();
        assert!(said.contains("`b`"), "{said}");
        assert!(failing(text.path(), &["a".to_owned(), "b".to_owned()]).is_none());
    }

    #[test]
    fn files_of_users_that_do_not_exist_are_reported_with_their_package() {
        let text = log("Preparing packages...\nt-nouser-1-1.noarch\nwarning: user slurm does not exist - using root\n\
                        warning: group slurm does not exist - using root\nx ... warning: user slurm does not exist - using root\n\
                        other-1-1.noarch\nthe file does not exist - using another\n");
        let found = missing_accounts(text.path());
        let said: Vec<&str> = found.iter().map(|one| one.message.as_str()).collect();
        assert_eq!(
            said,
            [
                "the group `slurm` does not exist: rpm gave its files of `t-nouser` to root",
                "the user `slurm` does not exist: rpm gave its files of `t-nouser` to root"
            ]
        );
    }
}
