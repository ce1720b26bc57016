//! A recipe as it comes together: fields, repositories, packages, files, commands; and what became of each key of the input.

mod commands;
mod cover;
mod keys;
mod packages;
pub(crate) mod release;
pub(crate) mod report;
mod repositories;
mod sources;
mod steps;
mod text;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use recipe::{Arch, Distro, Family};
use site::osimage::Release;

use crate::input::roots::Root;
use crate::input::secrets;

pub(crate) use commands::{Rules, secret};
pub(crate) use cover::{Leaf, leaves, part};
pub(crate) use report::{MoveReport, MovedImage, REPORT_FORMAT, Row, State, Verdict};
pub(crate) use repositories::{AptArchive, RpmKind, RpmRepository};
pub(crate) use steps::{Ignored, Ownership, matching};
pub(crate) use write::write;

/// Longest value that a report shows.
const VALUE_LIMIT: usize = 120;

/// A key of the input and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) key: String,
    pub(crate) value: String,
}

impl Key {
    pub(crate) fn new(file: &str, line: usize, key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, key: key.into(), value: value.into() }
    }

    /// `FILE:LINE`.
    pub(crate) fn place(&self) -> String {
        if self.line > 0 { format!("{}:{}", self.file, self.line) } else { self.file.clone() }
    }
}

/// What a file of the image's directory holds.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Bytes(Vec<u8>),
    /// A copy of a file beneath a root.
    Beneath(Arc<Root>, String),
}

/// Something that happens to the image's tree, in the input's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A file of the image; its content is `files` + path.
    Put {
        path: String,
        mode: u32,
        owner: Option<String>,
    },
    /// A folder, with its mode and owner if they are not the usual ones.
    Folder {
        path: String,
        mode: u32,
        owner: Option<String>,
    },
    Link {
        path: String,
        target: String,
    },
    /// A command of the image's shell. `fails` says whether the build stops when it does.
    Run {
        place: String,
        text: String,
        fails: bool,
    },
    /// A file that is run in the image, by its name in the folder of scripts.
    Script {
        place: String,
        name: String,
    },
    /// A command that was left out: a comment.
    Left {
        place: String,
        text: String,
    },
}

/// A recipe in the making.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What made the input: `KIWI`.
    pub(crate) tool: &'static str,
    /// The input, for the recipe's first line.
    pub(crate) source: String,
    pub(crate) name: String,
    pub(crate) distro: Distro,
    pub(crate) release: String,
    pub(crate) arch: Arch,
    /// Recipes that this one inherits from, by the names of their images.
    pub(crate) extends: Vec<String>,
    pub(crate) from: Option<String>,
    pub(crate) base: Option<&'static str>,
    /// Repositories of the distribution, by their mirror: components.
    distribution: Vec<(Option<String>, Vec<String>)>,
    repositories: Vec<repositories::Entry>,
    /// Lines of the package list.
    pub(crate) packages: Vec<String>,
    pub(crate) timezone: Option<String>,
    pub(crate) locale: Option<String>,
    pub(crate) authorized_keys: Vec<String>,
    pub(crate) cmdline: Vec<String>,
    pub(crate) enable: Vec<String>,
    pub(crate) disable: Vec<String>,
    pub(crate) mask: Vec<String>,
    pub(crate) exclude: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    /// Scripts of nodes.
    pub(crate) postscripts: Vec<String>,
    /// Lines of the synclist that are not of files next to the recipe: plain ones, `APPEND:`, `MERGE:`.
    pub(crate) synced: [Vec<String>; 3],
    pub(crate) owners: BTreeMap<String, String>,
    pub(crate) steps: Vec<Step>,
    /// Files of the image's directory, with their modes.
    pub(crate) files: BTreeMap<String, (Content, u32)>,
    pub(crate) rows: Vec<Row>,
    /// Whether some command of the input feeds chpasswd: what commands print may be passwords.
    pub(crate) is_fed: bool,
    /// How many commands of the input came so far.
    ran: usize,
    /// The same when a package was installed.
    installed_at: BTreeMap<String, usize>,
    /// Files of keys, by what the input calls the keys.
    key_names: BTreeMap<String, String>,
    is_weak_said: bool,
}

impl Plan {
    pub(crate) fn new(tool: &'static str, source: &str, name: &str, release: Release, arch: Arch) -> Self {
        Self {
            tool,
            source: source.to_owned(),
            name: image_name(name),
            distro: release.distro,
            release: release.release,
            arch,
            extends: Vec::new(),
            from: None,
            base: None,
            distribution: Vec::new(),
            repositories: Vec::new(),
            packages: Vec::new(),
            timezone: None,
            locale: None,
            authorized_keys: Vec::new(),
            cmdline: Vec::new(),
            enable: Vec::new(),
            disable: Vec::new(),
            mask: Vec::new(),
            exclude: Vec::new(),
            environment: BTreeMap::new(),
            postscripts: Vec::new(),
            synced: Default::default(),
            owners: BTreeMap::new(),
            steps: Vec::new(),
            files: BTreeMap::new(),
            rows: Vec::new(),
            is_fed: false,
            ran: 0,
            installed_at: BTreeMap::new(),
            key_names: BTreeMap::new(),
            is_weak_said: false,
        }
    }

    pub(crate) fn family(&self) -> Family {
        self.distro.family()
    }

    fn row(&mut self, key: &Key, verdict: Verdict, field: Option<&str>, reason: impl Into<String>) {
        if fault::planted("movein-key-lost") && verdict == Verdict::Decide {
            return;
        }
        self.rows.push(row(key, verdict, field, reason));
    }

    /// The recipe means the same.
    pub(crate) fn exact(&mut self, key: &Key, field: &str, reason: impl Into<String>) {
        self.row(key, Verdict::Exact, Some(field), reason);
    }

    /// It describes, or belongs to what the other tool does afterwards.
    pub(crate) fn stays(&mut self, key: &Key, reason: impl Into<String>) {
        self.row(key, Verdict::Stays, None, reason);
    }

    /// The recipe means something else.
    pub(crate) fn differs(&mut self, key: &Key, field: Option<&str>, reason: impl Into<String>) {
        self.row(key, Verdict::Differs, field, reason);
    }

    /// The administrator must say what is to be.
    pub(crate) fn decide(&mut self, key: &Key, reason: impl Into<String>) {
        self.row(key, Verdict::Decide, None, reason);
    }

    /// A key that the other tool does not have.
    pub(crate) fn unknown(&mut self, key: &Key) {
        let reason =
            format!("unknown: {} does not read it either, or this version of imgbuild does not know it", self.tool);
        self.decide(key, reason);
    }

    /// A line of the package list.
    pub(crate) fn package(&mut self, line: impl Into<String>) {
        let line = line.into();
        if !self.packages.contains(&line) {
            self.packages.push(line);
        }
    }

    /// A unit, in the list that is meant; the last word counts, as in a script.
    pub(crate) fn unit(&mut self, name: &str, list: fn(&mut Self) -> &mut Vec<String>) {
        for other in [&mut self.enable, &mut self.disable, &mut self.mask] {
            other.retain(|one| one != name);
        }
        list(self).push(name.to_owned());
    }

    /// `USER:GROUP` as `[sync.owner]` takes it, of `USER`, `USER:GROUP`.
    pub(crate) fn owner(&mut self, key: &Key, text: &str) -> Option<String> {
        let is_name =
            |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        let (user, group) = text.split_once(':').unwrap_or((text, text));
        if is_name(user) && is_name(group) {
            return Some(format!("{user}:{group}"));
        }
        self.decide(&Key { value: text.to_owned(), ..key.clone() }, "not a valid owner: set it in [sync.owner]");
        None
    }

    /// A variable of commands.
    pub(crate) fn variable(&mut self, key: &Key, name: &str, value: &str) {
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if secrets::of_line(&format!("{name}={value}")).is_some() {
            return self.decide(&Key { value: secrets::NOT_SHOWN.to_owned(), ..key.clone() }, secret("a secret"));
        }
        let is_own =
            ["PATH", "HOME", "SHELL", "PWD"].contains(&name) || name.starts_with("LD_") || name.starts_with("IMG");
        if !is_name || is_own || value.contains('$') || value.chars().any(char::is_control) {
            return self.decide(key, "a variable that [environment] does not take: set it in the script");
        }
        self.environment.insert(name.to_owned(), value.to_owned());
        self.exact(key, "environment", "");
    }

    /// A name of a package as lists take it, or why it is not one.
    /// Errors: What is to be done instead.
    pub(crate) fn package_name(&self, name: &str) -> Result<String, String> {
        let is_file = name.ends_with(".rpm") || name.ends_with(".deb");
        if name.contains("://") || is_file || name.starts_with(['.', '~']) {
            return Err("a package file: put it into a directory and name that in [otherpkgs] dir".to_owned());
        }
        let is_fine = |c: char| c.is_ascii_alphanumeric() || "+._:=~^*/()?-".contains(c);
        if name.is_empty() || name.starts_with('-') || !name.chars().all(is_fine) {
            return Err("not a valid name of a package: add the packages that it means to the list".to_owned());
        }
        Ok(name.to_owned())
    }
}

fn row(key: &Key, verdict: Verdict, field: Option<&str>, reason: impl Into<String>) -> Row {
    let value = key.value.split_whitespace().collect::<Vec<_>>().join(" ");
    let named = format!("{}={value}", key.key.rsplit(['.', '/', ' ']).next().unwrap_or_default());
    let has_secret = secrets::is_in(&key.value) || [&value, &named].iter().any(|line| secrets::of_line(line).is_some());
    let value = match (has_secret, value.char_indices().nth(VALUE_LIMIT)) {
        (true, _) => secrets::NOT_SHOWN.to_owned(),
        (false, Some((at, _))) => format!("{}...", &value[..at]),
        (false, None) => value,
    };
    // A reason may quote the input.
    let reason: String = reason.into();
    let (file, key, line) = (key.file.clone(), secrets::shown(&key.key), key.line);
    Row { file, line, key, value, verdict, field: field.map(str::to_owned), reason: secrets::shown(&reason) }
}

/// A container image that names no registry, in Docker's own.
pub(crate) fn of_docker(reference: &str) -> String {
    let library = if reference.contains('/') { "" } else { "library/" };
    format!("docker.io/{library}{reference}")
}

/// A name of an image that a recipe may have.
pub(crate) fn image_name(text: &str) -> String {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name: String = text.chars().take(100).map(|c| if is_fine(c) { c } else { '-' }).collect();
    let name = name.trim_start_matches(['.', '_', '-']).to_owned();
    match name.as_str() {
        "" => "image".to_owned(),
        // What is built lies in a directory of this name, in which no recipes are looked for.
        "out" => "image-out".to_owned(),
        _ => name,
    }
}

/// Text between quotes that a shell takes as it is.
pub(crate) fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}
