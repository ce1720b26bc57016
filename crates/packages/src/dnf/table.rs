//! The table of a transaction that no one confirmed, and the words of one that there is not.
//!
//! dnf, dnf5 and yum print the same one: headings without an indent, one row per package with name, architecture, version, repository and
//! size, indented by one space. A size has a unit or, below a thousand bytes, none. A value that is wider than its column ends the line; the row goes
//! on in the next one, indented further. Source: dnf, dnf/cli/output.py; dnf5, libdnf5-cli/output/transaction_table.cpp; yum, output.py.

use crate::rpm::Evr;
use crate::rpm_family::{Answer, Picked, Refusal};
use recipe::Arch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Asked,
    Needed,
    Removed,
    Streams,
    Other,
}

/// dnf's, dnf5's and yum's headings.
fn section(heading: &str) -> Section {
    match heading.trim_end_matches(':').to_ascii_lowercase().as_str() {
        "installing" | "installing group/module packages" | "installing group packages" | "reinstalling" => {
            Section::Asked
        }
        "upgrading"
        | "updating"
        | "downgrading"
        | "installing dependencies"
        | "installing for dependencies"
        | "updating for dependencies"
        | "installing weak dependencies" => Section::Needed,
        "removing" | "removing dependent packages" | "removing for dependencies" | "removing unused dependencies" => {
            Section::Removed
        }
        "enabling module streams" => Section::Streams,
        _ => Section::Other,
    }
}

/// Reads what was printed.
/// Errors: [`Refusal`] where it is no transaction.
pub(super) fn read(said: &str) -> Result<Answer, Refusal> {
    let unknown = unknown(said);
    if !unknown.is_empty() {
        return Err(Refusal::Unknown(unknown));
    }
    if said.lines().any(|line| line.trim() == "Nothing to do." || line.trim() == "Nothing to do" || nothing_goes(line))
    {
        return Ok(Answer::default());
    }
    let Some(table) = said.split_once("\nTransaction Summary").map(|(table, _)| table) else {
        // dnf's words, then dnf5's.
        let problem = said.split_once("Error:").or_else(|| said.split_once("Failed to resolve the transaction:"));
        return Err(match problem {
            Some((_, problem)) if is_about_packages(problem) => Refusal::Unsatisfiable(problem.trim().to_owned()),
            _ => Refusal::Broken(said.trim().to_owned()),
        });
    };
    match super::lines::read(said) {
        Some(answer) => Ok(answer),
        None => of_table(table),
    }
}

fn of_table(table: &str) -> Result<Answer, Refusal> {
    let mut answer = Answer::default();
    let mut now = Section::Other;
    // A row that goes on in the next line.
    let mut words: Vec<&str> = Vec::new();
    for line in table.lines() {
        let cut_short =
            |words: &[&str]| Refusal::Broken(format!("a row of the table is truncated: {}", words.join(" ")));
        let indent = line.len() - line.trim_start().len();
        if indent < 2 && !words.is_empty() {
            return Err(cut_short(&words));
        }
        if indent == 0 {
            now = section(line.trim());
            continue;
        }
        // What a package replaces stands below it, indented: its own other version, or a package that it obsoletes.
        if indent > 1 && words.is_empty() {
            let replaced = line.trim_start().strip_prefix("replacing ").and_then(|rest| rest.split_whitespace().next());
            // dnf has the architecture behind a dot.
            let names = |old: &str, new: &Picked| old == new.name || old == format!("{}.{}", new.name, new.arch);
            if let (Some(old), Some(new)) = (replaced, answer.install.last())
                && now != Section::Removed
                && !names(old, new)
            {
                let name = old
                    .rsplit_once('.')
                    .filter(|(_, end)| *end == "noarch" || Arch::named(end).is_some())
                    .map_or(old, |(name, _)| name);
                answer.remove.push(name.to_owned());
            }
            continue;
        }
        if now == Section::Other {
            continue;
        }
        words.extend(line.split_whitespace());
        match (now, &words[..]) {
            (Section::Streams, [name, stream]) => answer.modules.push(format!("{name}:{stream}")),
            (Section::Streams, [] | [_]) | (_, [] | [_] | [_, _] | [_, _, _] | [_, _, _, _]) => continue,
            _ => {
                let picked = picked(&words, now == Section::Needed).ok_or_else(|| Refusal::Broken(line.to_owned()))?;
                if now == Section::Removed && !fault::planted("dnf-removed-is-installed") {
                    answer.remove.push(picked.name);
                } else {
                    answer.install.push(picked);
                }
            }
        }
        words.clear();
    }
    match words[..] {
        [] => Ok(answer),
        _ => Err(Refusal::Broken(format!("a row of the table is truncated: {}", words.join(" ")))),
    }
}

/// `name architecture version repository size [unit]`.
fn picked(words: &[&str], automatic: bool) -> Option<Picked> {
    let ([name, arch, evr, repository, _] | [name, arch, evr, repository, _, _]) = *words else { return None };
    Some(Picked {
        name: name.to_owned(),
        arch: arch.to_owned(),
        evr: Evr::parse(evr),
        repository: repository.trim_start_matches('@').to_owned(),
        automatic,
    })
}

/// What is asked to go and is not there.
fn nothing_goes(line: &str) -> bool {
    line.starts_with("No packages marked for removal") || line.starts_with("No Packages marked for removal")
}

/// Names of which nothing is known. `No match for argument` about packages to remove is no failure.
fn unknown(said: &str) -> Vec<String> {
    if said.lines().any(nothing_goes) {
        return Vec::new();
    }
    let has_table = said.contains("\nTransaction Summary");
    let mut names = Vec::new();
    for line in said.lines() {
        let starts = [
            "No match for argument: ",
            "No match for group package ",
            "Module or Group '",
            "No package ",
            "Error: Unable to find a match: ",
            "Unable to find a match: ",
        ];
        let Some(start) = starts.iter().find(|start| line.trim_start().starts_with(**start)) else { continue };
        // Optional packages of a group may be missing.
        if start.contains("group package") || (has_table && start.starts_with("No match")) {
            continue;
        }
        let rest = &line.trim_start()[start.len()..];
        let rest = rest.split("' is not available").next().unwrap_or(rest);
        let rest = rest.trim_end_matches(" available.").trim_end_matches("' does not exist.");
        let sign = if start.starts_with("Module or Group") { "@" } else { "" };
        names.extend(rest.split_whitespace().map(|word| format!("{sign}{}", word.trim_matches('\''))));
    }
    names.sort();
    names.dedup();
    names
}

/// Whether an error is one of the solver, not of files.
fn is_about_packages(problem: &str) -> bool {
    ["Problem", "requires", "conflicts", "nothing provides", "Requires:", "Package:"]
        .iter()
        .any(|word| problem.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DNF: &str = "\nDependencies resolved.\n=====\n Package  Architecture  Version  Repository  Size\n=====\n\
        Installing:\n kernel x86_64 5.14.0-427.el9 baseos 4.9 M\n     replacing  old.x86_64 1-1\n\
        Installing dependencies:\n a-lib noarch 1:2.0-3 app-stream 12 k\nRemoving:\n gone x86_64 1-1 @System 3 k\n\
        Enabling module streams:\n nodejs                    18      \n\nTransaction Summary\n=====\nInstall 2 Packages\n";

    #[test]
    fn the_table_of_dnf_is_read() {
        let answer = read(DNF).unwrap();
        let names: Vec<_> = answer.install.iter().map(|one| (one.name.as_str(), one.automatic)).collect();
        assert_eq!(names, [("kernel", false), ("a-lib", true)]);
        assert_eq!((answer.install[1].evr.epoch, answer.install[1].repository.as_str()), (1, "app-stream"));
        assert_eq!(answer.remove, ["old", "gone"]);
        assert_eq!(answer.modules, ["nodejs:18"]);
        // dnf5: what a package replaces of its own name is an older version.
        let dnf5 = "Repositories loaded.\nPackage Arch Version Repository Size\nUpgrading:\n a-lib x86_64 0:2-1 updates 1.0 MiB\n\
            \x20  replacing a-lib x86_64 0:1-1 fedora 0.9 MiB\n   replacing a-old x86_64 0:1-1 fedora 0.1 MiB\n\n\
            Transaction Summary:\n Upgrading: 1 package\n";
        assert_eq!(read(dnf5).unwrap().remove, ["a-old"]);
        let conflict =
            "Failed to resolve the transaction:\nProblem: problem with installed package coreutils-single-9.5-1\n";
        assert!(matches!(read(conflict), Err(Refusal::Unsatisfiable(_))));
    }

    #[test]
    fn rows_of_every_width_are_read() {
        // As dnf 4.14 prints packages without files, of a few bytes, and with a long name.
        let dnf = "\nDependencies resolved.\n=====\n Package                Arch   Version   Repository   Size\n=====\nRemoving:\n \
            site-meta              noarch 1-1       @System      0  \n site-few noarch 1-1 @System 812  \n\
            Removing dependent packages:\n site-app               noarch 1-1       @System      1.2 M\n \
            site-with-a-very-long-name-indeed\n                        noarch 2-1       @System      0  \n\n\
            Transaction Summary\n=====\nRemove  4 Packages\n\nOperation aborted.\n";
        assert_eq!(
            read(dnf).unwrap().remove,
            ["site-meta", "site-few", "site-app", "site-with-a-very-long-name-indeed"]
        );
        // As dnf5 prints an upgrade: what is replaced stands below.
        let five = "Package   Arch   Version Repository Size\nUpgrading:\n a         noarch 2-1     r          0.0   B\n   replacing a   noarch 1-1   @System  0.0   B\n\
            Enabling module streams:\n nodejs           18\n\nTransaction Summary:\n Upgrading: 1 package\n";
        let answer = read(five).unwrap();
        assert_eq!((answer.install.len(), answer.modules), (1, vec!["nodejs:18".to_owned()]));
        // A row without its end is reported, and taken for nothing else.
        let cut = "Removing:\n a noarch 1-1\n b noarch 1-1 @System 0  \n\nTransaction Summary\n";
        assert!(matches!(read(&format!("\n{cut}")), Err(Refusal::Broken(said)) if said.contains("a noarch 1-1")));
    }

    #[test]
    fn lines_that_yum_breaks_are_put_together() {
        let yum = "Dependencies Resolved\n\nInstalling:\n a-very-long-name-of-a-package\n        x86_64  1-1  base  4 k\n\nTransaction Summary\n";
        assert_eq!(read(yum).unwrap().install[0].name, "a-very-long-name-of-a-package");
    }

    #[test]
    fn what_cannot_be_had_is_told_apart() {
        let said = "No match for argument: htpo\nError: Unable to find a match: htpo\n";
        assert_eq!(read(said), Err(Refusal::Unknown(vec!["htpo".to_owned()])));
        let said = "Error: \n Problem: conflicting requests\n  - nothing provides x needed by y-1-1.noarch from r\n";
        assert!(matches!(read(said), Err(Refusal::Unsatisfiable(words)) if words.starts_with("Problem")));
        let said = "Module or Group 'nogroup' is not available.\nError: Nothing to do.\n";
        assert_eq!(read(said), Err(Refusal::Unknown(vec!["@nogroup".to_owned()])));
        assert!(matches!(read("Error: Failed to download metadata for repo 'x'"), Err(Refusal::Broken(_))));
        assert_eq!(
            read("Package a is already installed.\nDependencies resolved.\nNothing to do.\n"),
            Ok(Answer::default())
        );
        let said =
            "No match for argument: x\nNo packages marked for removal.\nDependencies resolved.\nNothing to do.\n";
        assert_eq!(read(said), Ok(Answer::default()));
    }
}
