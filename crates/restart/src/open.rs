//! What a program has open: itself, the libraries that it needs or names, what these need, and the links on the way.

use std::collections::{BTreeSet, HashMap};

use super::facts::{Facts, Program, is_library};

/// Files that one program may have open by what it needs; beyond that it counts as one whose needs are not known.
const MOST_OPEN: usize = 10_000;

/// Interpreters whose libraries are files of their own, by the beginning of the program's name and of the folders.
pub(crate) const INTERPRETERS: [&str; 8] = ["python", "perl", "ruby", "node", "lua", "php", "tcl", "java"];

/// What a program has open.
#[derive(Default)]
pub(crate) struct Open {
    pub(crate) paths: BTreeSet<String>,
    /// Names of interpreters in [`INTERPRETERS`].
    pub(crate) interpreters: BTreeSet<&'static str>,
    /// Whether a part of it is not known.
    pub(crate) unread: bool,
}

/// The names in a tree of libraries, links among them, by the last part of their paths.
pub(crate) fn libraries(facts: &Facts) -> HashMap<&str, Vec<&str>> {
    let mut all: HashMap<&str, Vec<&str>> = HashMap::new();
    for path in facts.programs.keys().chain(facts.links.keys()).filter(|path| is_library(path)) {
        all.entry(path.rsplit('/').next().unwrap_or(path)).or_default().push(path);
    }
    all
}

pub(crate) fn open(facts: &Facts, libraries: &HashMap<&str, Vec<&str>>, programs: &BTreeSet<String>) -> Open {
    let mut open = Open::default();
    let mut left: Vec<String> = Vec::new();
    for program in programs {
        // Without a slash it is looked for as systemd does.
        let places = ["usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"];
        match program.contains('/') {
            true => left.push(program.clone()),
            false => left.extend(places.iter().map(|place| format!("{place}/{program}"))),
        }
    }
    while let Some(path) = left.pop() {
        if open.paths.len() > MOST_OPEN {
            open.unread = true;
            break;
        }
        let (real, links) = facts.follow(&path);
        let Some(program) = facts.program(&real) else {
            // By a link whose target moves, another file is opened.
            open.paths.extend(Some(path).filter(|path| facts.links.contains_key(path)));
            continue;
        };
        open.paths.extend(links);
        let name = real.rsplit('/').next().unwrap_or(&real);
        // A program may have its library in it.
        let language = name.strip_prefix("lib").unwrap_or(name);
        open.interpreters.extend(INTERPRETERS.iter().filter(|stem| language.starts_with(*stem)));
        if !open.paths.insert(real.clone()) {
            continue;
        }
        match program {
            Program::Elf(elf) => {
                left.extend(elf.interpreter.iter().map(|path| path.trim_start_matches('/').to_owned()));
                for library in &elf.libraries {
                    let places = libraries.get(library.rsplit('/').next().unwrap_or(library)).into_iter().flatten();
                    left.extend(places.map(|path| (*path).to_owned()));
                }
            }
            Program::Script { interpreter, paths } => {
                let interpreter = interpreter.trim_start_matches('/');
                match interpreter.contains('/') {
                    true => left.push(interpreter.to_owned()),
                    false => left.extend([format!("usr/local/bin/{interpreter}"), format!("usr/bin/{interpreter}")]),
                }
                left.extend(paths.iter().cloned());
            }
            Program::Unread => open.unread = true,
        }
    }
    open
}
