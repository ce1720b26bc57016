//! The postinstall scripts and the files that they may see.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use super::Reader;
use super::paths::{name_problem, unfetched};
use super::startable::start_faults;
use crate::owners::{self, checkout};
use crate::{Family, PostinstallTable};
use base::source::{Finding, Span};

/// The package that most likely brings a program.
pub fn package_of(program: &str) -> &str {
    match program.rsplit('/').next().unwrap_or(program) {
        "python" => "python3",
        "tclsh" => "tcl",
        "awk" => "gawk",
        "ip" | "ss" => "iproute2",
        "ssh" | "ssh-keygen" => "openssh-client",
        "gpg" => "gnupg",
        "dig" => "dnsutils",
        "ifconfig" | "netstat" => "net-tools",
        "ps" | "pkill" | "sysctl" => "procps",
        base => base,
    }
}

#[derive(Debug, Clone)]
pub struct Postinstall {
    pub scripts: Vec<Script>,
    pub inputs: Vec<ScriptInput>,
}

#[derive(Debug, Clone)]
pub struct Script {
    pub path: PathBuf,
    pub name: String,
    pub arguments: Vec<String>,
    pub field: String,
}

/// Something that scripts see, below the recipe's directory or at an absolute path.
#[derive(Debug, Clone)]
pub struct ScriptInput {
    pub path: PathBuf,
    /// Its path below the recipe's directory; or an absolute one.
    pub name: String,
    pub kind: InputKind,
}

/// What an input is. What has a mode has the one that counts ([`owners::mode`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputKind {
    File,
    Link(String),
    /// A directory with its mode; only one that is empty, or whose mode is not the usual one.
    Directory(u32),
    Pipe(u32),
}

impl Postinstall {
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        let has_content = |input: &&ScriptInput| matches!(input.kind, InputKind::File | InputKind::Link(_));
        self.inputs.iter().filter(has_content).map(|input| input.path.clone())
    }

    pub fn names(&self) -> String {
        self.scripts.iter().map(|script| script.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// The mode of a directory that needs no word.
const USUAL: u32 = 0o755;

impl Reader<'_> {
    pub(super) fn postinstall(&mut self, table: &PostinstallTable) -> Option<Postinstall> {
        let named = table.scripts();
        if named.is_empty() {
            let finding =
                Finding::error("postinstall::no_script", &self.span("postinstall"), "`[postinstall]` names no script");
            self.findings.push(
                finding
                    .label("here")
                    .help("name one: ‹script = \"compute.postinstall\"›, or several: ‹scripts = [\"one\", \"two\"]›"),
            );
            return None;
        }
        let mut scripts: Vec<Script> = Vec::new();
        for (field, file, arguments) in named {
            scripts.extend(self.script(table, field, file, arguments));
        }
        let mut inputs: BTreeMap<String, ScriptInput> = BTreeMap::new();
        for (index, pattern) in table.inputs.iter().enumerate() {
            let at = format!("postinstall.inputs[{index}]");
            for input in self.inputs(&at, pattern) {
                if let Some(other) = inputs.get(&input.name).filter(|other| other.path != input.path) {
                    let is_directory = |input: &ScriptInput| matches!(input.kind, InputKind::Directory(_));
                    if !(is_directory(other) && is_directory(&input)) {
                        let message = format!("the script would see two files as `{}`", input.name);
                        let (one, two) = (other.path.display(), input.path.display());
                        let help = format!("one is {one}, the other {two}: rename one");
                        let span = self.span(&at);
                        self.findings.push(Finding::error("postinstall::two_inputs", &span, message).help(help));
                    }
                }
                inputs.insert(input.name.clone(), input);
            }
        }
        let inputs: Vec<ScriptInput> = inputs.into_values().collect();
        self.check_links(&inputs);
        (!scripts.is_empty()).then_some(Postinstall { scripts, inputs })
    }

    fn script(
        &mut self,
        table: &PostinstallTable,
        field: String,
        file: &str,
        arguments: Vec<String>,
    ) -> Option<Script> {
        let span = self.span(&field);
        if file.is_empty() {
            let finding = Finding::error("postinstall::no_script", &span, "no script is named here");
            self.findings.push(finding.label("empty").help("remove it, or name a file"));
            return None;
        }
        let script = self.file(&field, file)?;
        witness::mode(&script).ok()?;
        let (faults, start) = start_faults(&script);
        self.findings.extend(faults.iter().map(|fault| fault.finding(fault.of_postinstall(), file, &span)));
        self.check_interpreter(table, file, &start, &span);
        let name = self.paths.name(&script);
        Some(Script { path: script, name, arguments, field })
    }

    /// Refuses what stands for a content that was not fetched.
    fn unfetched(&mut self, path: &Path, name: &str, span: &Span) {
        if let Some((problem, help)) = checkout::without_content(path) {
            self.findings.push(unfetched(name, span, &problem, help));
        }
    }

    /// A link to something that is there, but not among the inputs, leads nowhere for the scripts.
    fn check_links(&mut self, inputs: &[ScriptInput]) {
        let names: BTreeSet<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
        let is_shown = |name: &str| {
            let below = format!("{name}/");
            names.contains(name) || names.range(below.as_str()..).next().is_some_and(|next| next.starts_with(&below))
        };
        let mut lost = Vec::new();
        for input in inputs {
            let InputKind::Link(target) = &input.kind else { continue };
            let (true, Some(folder)) = (!target.starts_with('/'), input.path.parent()) else { continue };
            let shown = lexical(&Path::new(&input.name).parent().unwrap_or(Path::new("")).join(target));
            if !shown.is_some_and(|name| is_shown(&name)) && witness::is_there(&folder.join(target)) {
                lost.push(format!("`{}` -> {target}", input.name));
            }
        }
        let Some(first) = lost.first() else { return };
        let message = match lost.len() {
            1 => format!("{first} is a dangling link for the script"),
            count => format!("{first} and {} more are dangling links for the script", count - 1),
        };
        let finding = Finding::warning("postinstall::link", &self.span("postinstall.inputs"), message);
        let help = "links stay links: name their targets in `inputs`, or replace them with the targets";
        self.findings.push(finding.label("it is among these").help(help));
    }

    /// What the first line names has to be where the script runs.
    fn check_interpreter(&mut self, table: &PostinstallTable, file: &str, script: &[u8], span: &Span) {
        let Some(line) = script.strip_prefix(b"#!") else { return };
        let line = String::from_utf8_lossy(line.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned();
        // Said already.
        if line.ends_with('\r') {
            return;
        }
        let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
        let Some(interpreter) = words.next() else { return };
        let is_env = interpreter.rsplit('/').next() == Some("env");
        let program = match words.find(|word| !word.starts_with('-') && !word.contains('=')) {
            Some(word) if is_env => word,
            _ => interpreter,
        };
        if !interpreter.starts_with('/') {
            return;
        }
        let base = program.rsplit('/').next().unwrap_or(program);
        let always: &[&str] = match self.model.image.distro.family() {
            // Essential packages. Source: Debian Policy 3.8.
            Family::Debian => &["sh", "bash", "dash", "perl", "sed", "awk", "mawk"],
            Family::RedHat | Family::Suse => &["sh", "bash", "sed", "awk", "gawk"],
        };
        // Which packages bring what is only known when they are resolved: of those in `tools` the build says it.
        if table.tools.is_empty() && !always.contains(&base) {
            let message = format!("`{}` needs {program}, which does not exist in the script's root", file);
            let finding = Finding::error("postinstall::no_interpreter", span, message).label("named here");
            self.findings.push(finding.help(format!(
                "name the package that provides it: ‹[postinstall] tools = [\"{}\"]›; the script runs in a root of its own, not in the image",
                package_of(program)
            )));
        }
    }

    /// What a pattern names, below the directory of the file with the pattern; directories that it lies in among that, where they
    /// are not as the script would find them anyway.
    fn inputs(&mut self, at: &str, pattern: &str) -> Vec<ScriptInput> {
        let span = self.span(at);
        let matcher = match globset::GlobBuilder::new(pattern).literal_separator(true).build() {
            Ok(glob) => glob.compile_matcher(),
            Err(error) => {
                self.findings.push(Finding::error(
                    "postinstall::pattern",
                    &span,
                    format!("`{pattern}` is not a pattern: {}", error.kind()),
                ));
                return Vec::new();
            }
        };
        let Some((root, above)) = self.start_of(at, pattern) else { return Vec::new() };
        let (mut found, mut folders): (Vec<ScriptInput>, Vec<ScriptInput>) = (Vec::new(), Vec::new());
        let mut odd = false;
        let mut link_above = None;
        // Artefacts and version control are never inputs.
        let is_own = above.as_os_str().is_empty();
        let enter =
            |depth: usize, name: &OsStr| !is_own || depth != 1 || !matches!(name.to_str(), Some("out" | ".git"));
        for entry in witness::walk().only(&enter).through(&root) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(problem) => {
                    let message = format!("cannot search a folder for `{pattern}`: {problem}");
                    self.findings
                        .push(Finding::error("postinstall::unreadable", &span, message).label("requested here"));
                    continue;
                }
            };
            let Ok(relative) = entry.path.strip_prefix(&root) else { continue };
            if relative.as_os_str().is_empty() && is_own {
                continue;
            }
            // Joined with nothing it would end in a slash.
            let name = if relative.as_os_str().is_empty() { above.clone() } else { above.join(relative) };
            let is_match = matcher.is_match(&name);
            let Some(below) = name.to_str() else {
                if is_match {
                    odd = true;
                    self.findings.push(name_problem("postinstall::name", &entry.path, &span));
                }
                continue;
            };
            let input = |kind| ScriptInput { path: entry.path.clone(), name: below.to_owned(), kind };
            match entry.kind {
                witness::Kind::Directory => {
                    let mode = owners::mode(&entry.path).unwrap_or(USUAL);
                    if is_match || pattern.starts_with(&format!("{below}/")) {
                        self.unfetched(&entry.path, below, &span);
                    }
                    let is_empty = || witness::list(&entry.path).is_ok_and(|names| names.is_empty());
                    if is_match && is_empty() {
                        found.push(input(InputKind::Directory(mode)));
                    } else if mode != USUAL {
                        folders.push(input(InputKind::Directory(mode)));
                    }
                }
                witness::Kind::Link if !is_match => {
                    if pattern.starts_with(&format!("{below}/")) {
                        link_above = Some(below.to_owned());
                    }
                }
                _ if !is_match => {}
                witness::Kind::File => {
                    self.unfetched(&entry.path, below, &span);
                    found.push(input(InputKind::File));
                }
                witness::Kind::Link => {
                    self.unfetched(&entry.path, below, &span);
                    match witness::read_link(&entry.path).map(|target| target.into_os_string().into_string()) {
                        Ok(Ok(target)) => found.push(input(InputKind::Link(target))),
                        _ => {
                            odd = true;
                            self.findings.push(name_problem("postinstall::name", &entry.path, &span));
                        }
                    }
                }
                witness::Kind::Other => match witness::mode(&entry.path) {
                    // Source: inode(7), S_IFIFO.
                    Ok(mode) if mode & 0o170_000 == 0o010_000 => found.push(input(InputKind::Pipe(mode & 0o7777))),
                    _ => {
                        odd = true;
                        let message = format!("`{below}` is a device or a socket, which cannot be given to a script");
                        let finding =
                            Finding::error("postinstall::device", &span, message).label("this pattern names it");
                        self.findings.push(finding.help("remove it, or name the files next to it"));
                    }
                },
            }
        }
        if found.is_empty() && !odd {
            let finding = Finding::warning("postinstall::no_input", &span, format!("`{pattern}` matches no file"))
                .label("the script gets no file from it");
            self.findings.push(finding.help(match link_above {
                Some(link) => format!("`{link}` is a link, and links are not followed: replace it with its target"),
                None => "`*` does not cross `/`, `**` does; paths are relative to the recipe's directory".to_owned(),
            }));
        }
        folders.retain(|folder| {
            let above = format!("{}/", folder.name);
            found.iter().any(|input| input.name.starts_with(&above))
        });
        found.extend(folders);
        found
    }
}

/// A path without `.` and `..`; none where it leads out.
fn lexical(path: &Path) -> Option<String> {
    if let Ok(inside) = path.strip_prefix("/") {
        return lexical(inside).map(|inside| format!("/{inside}"));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str()?),
            Component::ParentDir => drop(parts.pop()?),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}
