//! zypper's answers. Source: zypper's schema `xmlout.rnc`, and its manual's exit codes.

use crate::rpm::{Event, Evr, Reader};
use crate::rpm_family::{Answer, Picked, Question, Refusal};

/// Locks on versions that are held back or left out. Source: libzypp, PoolQuery.cc.
pub(super) fn locks(question: &Question<'_>) -> String {
    let mut text = String::new();
    for (repository, nevra) in question.held_back {
        if let Some((name, evr)) = split(nevra) {
            text.push_str(&format!(
                "type: package\nmatch_type: exact\ncase_sensitive: on\nsolvable_name: {name}\nversion: == {evr}\nrepo: {repository}\n\n"
            ));
        }
    }
    text
}

/// `name-[epoch:]version-release.arch` as name and version.
fn split(nevra: &str) -> Option<(&str, &str)> {
    let (rest, _) = nevra.rsplit_once('.')?;
    let (front, _) = rest.rsplit_once('-')?;
    let (name, _) = front.rsplit_once('-')?;
    Some((name, &rest[name.len() + 1..]))
}

/// Exit code: a name that no repository has. Source: zypper(8).
const NOT_FOUND: i32 = 104;

/// Exit code: the solver found no answer.
const NO_ANSWER: i32 = 4;

/// Reads what was printed.
/// Errors: [`Refusal`] where it is no transaction.
pub(super) fn read(said: &str, status: i32) -> Result<Answer, Refusal> {
    let broken = |problem: String| Refusal::Broken(format!("{problem}\n{}", said.trim()));
    let document = said.find("<?xml").map_or("", |at| &said[at..]);
    let mut reader = Reader::new(document.as_bytes());
    let mut answer = Answer::default();
    let (mut section, mut unknown, mut problems) = (String::new(), Vec::new(), Vec::new());
    while let Some(event) = reader.event().map_err(broken)? {
        match event {
            Event::Start { name, attributes } if name == "solvable" && attributes.get("type") == Some("package") => {
                let word = |name: &str| attributes.get(name).unwrap_or_default().to_owned();
                match section.as_str() {
                    "to-remove" if !fault::planted("zypper-removed-is-installed") => answer.remove.push(word("name")),
                    "" => {}
                    _ => answer.install.push(Picked {
                        name: word("name"),
                        arch: word("arch"),
                        evr: Evr::parse(&word("edition")),
                        repository: word("repository"),
                        automatic: false,
                    }),
                }
            }
            Event::Start { name, .. } if name.starts_with("to-") => section = name.to_owned(),
            Event::Start { .. } => {}
            Event::End { name, .. } if name.starts_with("to-") => section.clear(),
            Event::End { name: "message", text } => {
                if let Some(name) = text.strip_prefix("No provider of '").and_then(|rest| rest.split('\'').next()) {
                    unknown.push(name.replace("pattern:", "@"));
                }
            }
            Event::End { name: "description", text } if text.contains("Problem:") => {
                // What it would do about it is for a person at a terminal.
                let words = text.lines().filter(|line| !line.trim_start().starts_with("Solution"));
                problems.push(words.collect::<Vec<_>>().join("\n").trim().to_owned());
            }
            Event::End { .. } => {}
        }
    }
    match status {
        0 => Ok(answer),
        // Removing what is not there is no error.
        NOT_FOUND if answer == Answer::default() && said.contains("Nothing to do") => Ok(answer),
        NOT_FOUND if !unknown.is_empty() => Err(Refusal::Unknown(unknown)),
        NO_ANSWER if !problems.is_empty() && !fault::planted("zypper-conflict-is-failure") => {
            Err(Refusal::Unsatisfiable(problems.join("\n")))
        }
        _ => Err(broken(format!("zypper exited with status {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(inner: &str) -> String {
        format!("noise\n<?xml version='1.0'?>\n<stream>\n{inner}\n</stream>\n")
    }

    #[test]
    fn a_transaction_is_read() {
        let said = stream(
            "<install-summary packages-to-change=\"2\"><to-install>\n<solvable type=\"package\" name=\"a\" edition=\"1:2-3\" arch=\"noarch\" summary=\"x\">\n\
             <description>x</description></solvable></to-install><to-remove><solvable type=\"package\" name=\"b\" edition=\"1-1\" arch=\"x86_64\"/></to-remove></install-summary>",
        );
        let answer = read(&said, 0).unwrap();
        assert_eq!((answer.install[0].name.as_str(), answer.install[0].evr.epoch), ("a", 1));
        assert_eq!(answer.remove, ["b"]);
    }

    #[test]
    fn what_cannot_be_had_is_told_apart() {
        let said = stream("<message type=\"error\">No provider of &apos;htpo&apos; found.</message>");
        assert_eq!(read(&said, 104), Err(Refusal::Unknown(vec!["htpo".to_owned()])));
        let said = stream(
            "<prompt id=\"1\"><description>Problem: nothing provides b needed by a-1-2.noarch\n Solution 1: x\n</description></prompt>",
        );
        let words = "Problem: nothing provides b needed by a-1-2.noarch".to_owned();
        assert_eq!(read(&said, 4), Err(Refusal::Unsatisfiable(words)));
        assert!(matches!(read(&stream(""), 8), Err(Refusal::Broken(_))));
        assert!(matches!(read("zypper: not found", 127), Err(Refusal::Broken(_))));
    }

    #[test]
    fn names_and_versions_are_taken_apart() {
        assert_eq!(split("perl-a-b-1:2.0-3.1.noarch"), Some(("perl-a-b", "1:2.0-3.1")));
    }
}
