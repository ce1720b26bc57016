//! README and docs: links lead somewhere, commands exist with their options, tables have one shape, README is short.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Command;

use crate::support::project;

/// The pages with their texts: README and its neighbours, and all below docs.
fn pages() -> BTreeMap<PathBuf, String> {
    let top = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(|name| project().join(name));
    let below = walkdir::WalkDir::new(project().join("docs")).into_iter().map(|entry| entry.unwrap().into_path());
    let pages = below.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    pages.chain(top).map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// Lines outside of blocks of code, and lines in them.
fn parted(text: &str) -> (Vec<&str>, Vec<&str>) {
    let mut is_code = false;
    let (mut prose, mut code) = (Vec::new(), Vec::new());
    for line in text.lines() {
        if line.starts_with("```") {
            is_code = !is_code;
        } else if is_code {
            code.push(line);
        } else {
            prose.push(line);
        }
    }
    (prose, code)
}

/// A heading's anchor, as forges make it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    parted(text).0.iter().filter(|line| line.starts_with('#')).map(|line| anchor(line)).collect()
}

fn shown(path: &Path) -> String {
    path.strip_prefix(project()).unwrap().display().to_string()
}

#[test]
fn links_lead_to_pages_and_headings_that_exist() {
    let pages = pages();
    let link = regex::Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let mut wrong = Vec::new();
    for (page, text) in &pages {
        for line in parted(text).0 {
            for target in link.captures_iter(line).map(|found| found.get(1).unwrap().as_str()) {
                if target.contains("://") {
                    continue;
                }
                let (path, heading) = target.split_once('#').unwrap_or((target, ""));
                let aim = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
                let Ok(aim) = aim.canonicalize() else {
                    wrong.push(format!("{}: {target}", shown(page)));
                    continue;
                };
                let has = heading.is_empty()
                    || std::fs::read_to_string(&aim).is_ok_and(|text| anchors(&text).contains(heading));
                wrong.extend((!has).then(|| format!("{}: {target}: no such heading", shown(page))));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_start_page_has_every_page_and_each_begins_with_what_it_is_for() {
    let start = std::fs::read_to_string(project().join("docs/README.md")).unwrap();
    for (page, text) in pages() {
        let name = shown(&page);
        let Some(below) = name.strip_prefix("docs/") else { continue };
        if !below.contains('/') && below != "README.md" {
            assert!(start.contains(&format!("]({below})")), "docs/README.md does not name {below}");
        }
        let mut lines = text.lines();
        assert!(lines.next().is_some_and(|line| line.starts_with("# ")), "{name}");
        let first = lines.find(|line| !line.is_empty()).unwrap_or_default();
        let is_prose = first.starts_with(|c: char| c.is_alphabetic() || matches!(c, '`' | '[' | '*'));
        assert!(is_prose, "{name} does not begin with what it is for: {first}");
    }
}

#[test]
fn tables_have_as_many_cells_in_each_row_and_no_gap() {
    let mut wrong = Vec::new();
    for (page, text) in pages() {
        let cells = |line: &str| {
            // A bar in code is written `\|`.
            line.replace("\\|", "").matches('|').count()
        };
        let lines: Vec<&str> = text.lines().collect();
        let (mut is_code, mut width) = (false, None);
        for (at, line) in lines.iter().enumerate() {
            is_code ^= line.starts_with("```");
            if is_code || !line.starts_with('|') {
                width = None;
                continue;
            }
            let begins = lines.get(at + 1).is_some_and(|next| next.starts_with("|---") || next.starts_with("|:"));
            let is_row = *width.get_or_insert(cells(line)) == cells(line)
                && (begins || at > 0 && lines[at - 1].starts_with('|'));
            wrong.extend((!is_row).then(|| format!("{}:{}: {line}", shown(&page), at + 1)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Words of a command in a page, up to what a shell reads itself.
fn words(line: &str) -> Vec<String> {
    let line = line.split(" #").next().unwrap_or_default();
    let end = line.find(['|', ';', '>', '<', '&', '(', ')', '"']).unwrap_or(line.len());
    line[..end].split_whitespace().map(|word| word.trim_matches(['\'', '`', ',', ':', '.']).to_owned()).collect()
}

/// All commands with their options; that takes a second.
fn commands() -> Command {
    let mut root = imgbuild::help::command();
    root.build();
    root
}

/// What is wrong with a command: no such command, or no such option of it.
fn problem(root: &Command, words: &[String]) -> Option<String> {
    let mut known: &Command = root;
    let mut path: Vec<&Command> = vec![root];
    let mut skips = false;
    for word in words {
        if std::mem::take(&mut skips) {
            continue;
        }
        if word == "--" {
            return None;
        }
        let Some(flag) = word.strip_prefix('-') else {
            match known.find_subcommand(word) {
                Some(below) => {
                    known = below;
                    path.push(below);
                }
                // Not a command: a pattern of names, or a name for one.
                None if path.len() == 1 && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') => {
                    return Some(format!("there is no command `{word}`"));
                }
                None => {}
            }
            continue;
        };
        let flag = flag.split('=').next().unwrap_or_default();
        let is_it = |one: &&clap::Arg| match flag.strip_prefix('-') {
            Some(long) => one.get_long() == Some(long),
            None => one.get_short().is_some_and(|short| flag.starts_with(short)),
        };
        if matches!(flag, "-help" | "-version" | "h" | "V") {
            continue;
        }
        match path.iter().rev().find_map(|one| one.get_arguments().find(is_it)) {
            Some(found) => {
                skips = found.get_action().takes_values()
                    && !word.contains('=')
                    && (word.len() == 2 || word.starts_with("--"))
            }
            None => return Some(format!("`{word}` is not an option")),
        }
    }
    None
}

#[test]
fn commands_in_pages_exist_with_their_options() {
    let root = commands();
    let inline = regex::Regex::new(r"`(imgbuild [^`]+)`").unwrap();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (page, text) in pages() {
        let (prose, code) = parted(&text);
        let blocks = code.iter().filter_map(|line| {
            let line = line.trim_start().trim_start_matches("$ ").trim_start_matches("sudo ");
            line.starts_with("imgbuild ").then(|| line.to_owned())
        });
        let prose = prose.iter().flat_map(|line| inline.captures_iter(line).map(|found| found[1].to_owned()));
        for line in blocks.chain(prose) {
            count += 1;
            wrong.extend(
                problem(&root, &words(&line)[1..]).map(|problem| format!("{}: {line}: {problem}", shown(&page))),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count > 200, "{count}");
    assert!(
        problem(&root, &["biuld".to_owned()]).is_some()
            && problem(&root, &["build".to_owned(), "--no-such".to_owned()]).is_some()
    );
}

/// A remedy that names a command which does not exist is worse than none.
#[test]
fn commands_in_messages_exist_with_their_options() {
    let root = commands();
    let text = std::fs::read_to_string(project().join("tests/snapshots/messages.txt")).unwrap();
    let inline = regex::Regex::new(r"`(imgbuild [^`]+)`").unwrap();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for line in text.lines() {
        for command in inline.captures_iter(line).map(|found| found[1].to_owned()) {
            count += 1;
            // What the program fills in is no word of the command.
            let known: Vec<String> =
                words(&command)[1..].iter().take_while(|word| !word.contains('{')).cloned().collect();
            wrong.extend(problem(&root, &known).map(|problem| format!("{command}: {problem}")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count > 100, "{count}");
}

#[test]
fn the_readme_is_short_and_has_the_two_commands() {
    let text = std::fs::read_to_string(project().join("README.md")).unwrap();
    assert!(text.lines().count() <= 110, "{}", text.lines().count());
    let (build, tests) = ("cargo run --release --locked -- -C examples/compute build", "bash tests/run");
    let code = parted(&text).1;
    let with = |part: &str| code.iter().filter(|line| line.contains("sudo ") && line.ends_with(part)).count();
    assert_eq!((with(build), with(tests)), (1, 1));
}
