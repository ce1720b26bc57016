//! `[statelite]`: entries of the recipe and rows of xCAT's tables become one list, checked before anything runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Model, Statelite};
use base::source::{Finding, SourceFile, Span, nearest};
use node_words::statelite::{
    Conflict, Entry, FORMAT, FileRow, Home, List, LocalDisk, PathFault, Source, State, Tree, TreeRow, VariableProblem,
    Way, WayProblem, check_path, conflicts, expand, merge_files, merge_trees,
};
use xcat::definitions::{Row, TableKind, parse_tables};

#[derive(Debug, Clone, Default)]
pub(super) struct Lists {
    pub files: Vec<Arc<SourceFile>>,
    pub trees: Vec<Arc<SourceFile>>,
    pub states: Vec<Arc<SourceFile>>,
}

#[derive(Debug, Clone)]
pub struct StateliteList {
    /// What reaches the node.
    pub list: List,
    pub entries: Vec<Span>,
    pub trees: Vec<Span>,
    pub states: Vec<Span>,
}

impl StateliteList {
    pub fn text(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(&self.list).unwrap_or_default();
        text.push(b'\n');
        text
    }
}

const OPTIONS: [&str; 8] = ["tmpfs", "rw", "link", "persistent", "localdisk", "ro", "con", "overlay"];

const WAYS: &str = "write one of tmpfs, link, persistent, localdisk, ro, con, overlay, or link,persistent, link,ro, link,con, overlay,persistent, overlay,localdisk";

/// Reads one list of a table of xCAT: rows of the table, or lines; `line` makes a row of the words of a line.
fn rows(
    file: &Arc<SourceFile>,
    kind: TableKind,
    findings: &mut Vec<Finding>,
    line: impl Fn(&[&str]) -> Option<Vec<(&'static str, String)>>,
) -> Vec<(Row, Span)> {
    let first = file.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    if first.starts_with('#') && first.contains(',') {
        let (tables, mut problems) = parse_tables(file);
        findings.append(&mut problems);
        let whole = Span::new(file, 0..first.len());
        if tables.iter().all(|table| table.kind != kind) {
            let text = format!("this is not the table {}", kind.name());
            let help = format!("`tabdump {}` prints it, with its header line", kind.name());
            findings.push(Finding::error("statelite::table", &whole, text).label("its columns").help(help));
        }
        let own = tables.into_iter().filter(|table| table.kind == kind).flat_map(|table| table.rows);
        let counted = own.filter(|row| !row.is_disabled());
        return counted.map(|row| (row.clone(), row.span.unwrap_or_else(|| whole.clone()))).collect();
    }
    let mut made = Vec::new();
    let mut at = 0;
    for text in file.text.split_inclusive('\n') {
        let begin = at;
        at += text.len();
        let plain = text.trim();
        if plain.is_empty() || plain.starts_with('#') {
            continue;
        }
        let span = Span::new(file, begin..begin + text.trim_end().len());
        let mut words: Vec<&str> = plain.split_whitespace().collect();
        // As `litefile NODE` and `litetree NODE` print it.
        if words.len() > 1 && words[0].len() > 1 && words[0].ends_with(':') {
            words.remove(0);
        }
        match line(&words) {
            Some(values) => {
                let values = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                made.push((Row { values, span: Some(span.clone()) }, span));
            }
            None => {
                let text = format!("this is not a line of a list for {}", kind.name());
                let help = match kind {
                    TableKind::Litefile => "write OPTIONS PATH, for instance `tmpfs /etc/hosts`; a path has no spaces",
                    TableKind::Litetree => "write SERVER:/DIRECTORY, for instance `10.0.0.5:/trees/site`",
                    _ => "write what `tabdump statelite` prints, with its header line",
                };
                findings.push(Finding::error("statelite::line", &span, text).label("here").help(help));
            }
        }
    }
    made
}

struct Reading<'a> {
    model: &'a Model,
    table: &'a Statelite,
    span: &'a dyn Fn(&str) -> Span,
    findings: &'a mut Vec<Finding>,
}

/// Reads `[statelite]` and its lists; problems are added to `findings`.
pub(super) fn read_statelite(
    model: &Model,
    lists: &Lists,
    span: &dyn Fn(&str) -> Span,
    findings: &mut Vec<Finding>,
) -> Option<StateliteList> {
    let table = model.statelite.as_ref()?;
    let mut reading = Reading { model, table, span, findings };
    let (entries, entry_spans) = reading.entries(&lists.files);
    let variables = reading.variables();
    let (trees, tree_spans) = reading.trees(&lists.trees, &variables);
    let (states, state_spans) = reading.states(&lists.states, &variables);
    reading.disk_and_root();
    reading.homes(&entries, &entry_spans, (&states, &state_spans), trees.is_empty());
    let mut variables = variables;
    let texts = || trees.iter().map(|tree| &tree.source).chain(states.iter().map(|state| &state.source));
    variables.retain(|name, _| texts().any(|text| text.contains(&format!("${name}"))));
    let local_disk = table.local_disk.clone().map(|device| LocalDisk { device });
    let list = List { format: FORMAT, image: model.image.name.clone(), entries, trees, states, local_disk, variables };
    Some(StateliteList { list, entries: entry_spans, trees: tree_spans, states: state_spans })
}

impl Reading<'_> {
    fn error(&mut self, code: &'static str, span: &Span, text: impl Into<String>, help: impl Into<String>) {
        self.findings.push(Finding::error(code, span, text).label("here").help(help));
    }

    fn groups(&self) -> &str {
        self.table.groups.as_deref().unwrap_or_default()
    }

    /// The rows of litefile, then those of the recipe itself, which count more.
    fn entries(&mut self, files: &[Arc<SourceFile>]) -> (Vec<Entry>, Vec<Span>) {
        let mut found: Vec<(FileRow, Span)> = Vec::new();
        for file in files {
            let line = |words: &[&str]| match words {
                [path] if path.starts_with('/') => Some(vec![("file", (*path).to_owned())]),
                [options, path] => Some(vec![("options", (*options).to_owned()), ("file", (*path).to_owned())]),
                _ => None,
            };
            for (row, span) in rows(file, TableKind::Litefile, self.findings, line) {
                let get = |name: &str| row.get(name).unwrap_or_default().to_owned();
                found.push((FileRow { image: get("image"), file: get("file"), options: get("options") }, span));
            }
        }
        let own = self.model.osimage().to_owned();
        for (path, options) in &self.table.files {
            let span = (self.span)(&format!("statelite.files.{path}"));
            found.push((FileRow { image: own.clone(), file: path.clone(), options: options.clone() }, span));
        }
        let plain: Vec<FileRow> = found.iter().map(|(row, _)| row.clone()).collect();
        let (mut entries, mut spans) = (Vec::new(), Vec::new());
        for at in merge_files(&plain, &own, self.groups()) {
            let (row, span) = &found[at];
            if let Some(entry) = self.entry(row, span) {
                entries.push(entry);
                spans.push(span.clone());
            }
        }
        self.conflicts(&entries, &spans);
        (entries, spans)
    }

    fn entry(&mut self, row: &FileRow, span: &Span) -> Option<Entry> {
        let FileRow { file, options, .. } = row;
        let way = match Way::parse(options) {
            Ok(way) => way,
            Err(WayProblem::Unknown(word)) => {
                let near = nearest(&word, OPTIONS);
                let near = near.first().map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                self.error(
                    "statelite::option",
                    span,
                    format!("there is no option `{word}` of `{file}`"),
                    format!("{WAYS}{near}"),
                );
                return None;
            }
            Err(WayProblem::Together(words)) => {
                self.error("statelite::option", span, format!("`{words}` of `{file}` exclude one another"), WAYS);
                return None;
            }
        };
        if let Some(fault) = check_path(file, way.is_overlay()) {
            let (text, help) = match fault {
                PathFault::Relative => (format!("`{file}` is not an absolute path"), "begin it with `/`"),
                PathFault::Blank => (
                    format!("`{}` contains a space or a control character", file.escape_debug()),
                    "name the folder that contains it, with `/` at its end",
                ),
                PathFault::Part => {
                    (format!("`{file}` has an empty part, `.` or `..`"), "write the path as `realpath` prints it")
                }
                PathFault::Root => (
                    "`/` can only be an overlay".to_owned(),
                    "write \"/\" = \"overlay\" or \"overlay,localdisk\", or name folders",
                ),
                PathFault::Kernel => {
                    (format!("`{file}` is made at each boot and cannot be in the list"), "remove the entry")
                }
            };
            self.error("statelite::path", span, text, help);
            return None;
        }
        if options.trim().is_empty() {
            let text = format!("`{file}` has no options, which xCAT reads as link");
            let help = "write link, or tmpfs";
            self.findings.push(Finding::warning("statelite::option", span, text).label("here").help(help));
        }
        Some(Entry::new(file, way))
    }

    fn conflicts(&mut self, entries: &[Entry], spans: &[Span]) {
        for found in conflicts(entries) {
            let entry = &entries[found.entry];
            let (path, way) = (&entry.path, entry.way.name());
            let folder = found.folder.map(|at| (&entries[at], &spans[at]));
            let above = folder.map_or_else(String::new, |(folder, span)| {
                format!("`{}`, {} ({}:{})", folder.path, folder.way.name(), span.file.name, span.line())
            });
            let (text, help) = match found.conflict {
                Conflict::ConOnFolder => (
                    format!("`{path}` is a folder, but {way} concatenates files"),
                    "name the files, or use tmpfs: the first tree that has the folder gives it".to_owned(),
                ),
                Conflict::OverlayOnFile => (
                    format!("`{path}` is a file, but an overlay needs a folder"),
                    format!("write `{path}/` if it is a folder, else tmpfs or persistent"),
                ),
                Conflict::BelowReadOnly => (
                    format!("`{path}` cannot be below {above}"),
                    "give the folder another option, for instance tmpfs, or remove the entries below it".to_owned(),
                ),
                Conflict::BelowLink => (
                    format!("`{path}`, {way}, cannot be below {above}: only link, link,persistent and link,con can"),
                    "write link, link,persistent or link,con, or make the folder tmpfs".to_owned(),
                ),
                Conflict::LinkBelow => (
                    format!("`{path}`, {way}, cannot be below {above}, which is not a link"),
                    "write the option without `link`".to_owned(),
                ),
                Conflict::BelowPersistent => (
                    format!(
                        "`{path}`, {way}, cannot be below {above}: entries below a persistent folder must be persistent"
                    ),
                    "write persistent, or name the folder's parts one by one".to_owned(),
                ),
            };
            self.error("statelite::conflict", &spans[found.entry], text, help);
        }
    }

    /// What the recipe says, and what xCAT's table nodetype would.
    fn variables(&self) -> BTreeMap<String, String> {
        let osvers = self
            .model
            .xcat
            .osvers
            .clone()
            .unwrap_or_else(|| format!("{}{}", self.model.image.distro.name(), self.model.image.release));
        let known = [
            ("nodetype.profile", self.model.profile()),
            ("nodetype.os", &osvers),
            ("nodetype.arch", self.model.image.arch.machine()),
            ("nodetype.provmethod", self.model.osimage()),
        ];
        let mut values: BTreeMap<String, String> =
            known.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        values.extend(self.table.variables.clone());
        values
    }

    /// Whether a text is a place once its variables have values; says what is wrong with it.
    fn source(&mut self, text: &str, span: &Span, variables: &BTreeMap<String, String>) -> Option<Source> {
        let mut values = variables.clone();
        values.insert("node".to_owned(), "NODE".to_owned());
        // Each node brings what has no value here.
        values.values_mut().filter(|value| value.is_empty()).for_each(|value| *value = "VALUE".to_owned());
        let (problem, help) = match expand(text, &values) {
            Ok(text) => match Source::parse(&text, "") {
                Some(source) => return Some(source),
                None => (
                    format!("`{text}` is neither SERVER:/DIRECTORY nor a disk"),
                    "write for instance 10.0.0.5:/state, LABEL=state or /dev/sda3".to_owned(),
                ),
            },
            Err(VariableProblem::Undefined(name)) => (
                format!("the variable `${name}` has no value: xCAT would write UNDEFINED"),
                format!(
                    "give it one: ‹[statelite.variables]› \"{name}\" = \"...\"; \"\" where each node has its own, by `statelite.{name}=` among its kernel_args; a name ends at `/`, `:` or `#`"
                ),
            ),
            Err(VariableProblem::Command) => (
                "`#CMD=` would run on xCAT's management node".to_owned(),
                "write the value that it prints, or use a variable: ‹[statelite.variables]›".to_owned(),
            ),
            Err(VariableProblem::Value(name)) => (
                format!("the value of `${name}` cannot be part of a path"),
                "write it without spaces and `..`".to_owned(),
            ),
        };
        self.error("statelite::source", span, problem, help);
        None
    }

    /// The trees of the recipe itself, then the rows of litetree.
    fn trees(&mut self, files: &[Arc<SourceFile>], variables: &BTreeMap<String, String>) -> (Vec<Tree>, Vec<Span>) {
        let mut found: Vec<(Tree, Span)> = Vec::new();
        for (at, source) in self.table.trees.iter().enumerate() {
            let tree = Tree { source: source.clone(), options: String::new() };
            found.push((tree, (self.span)(&format!("statelite.trees[{at}]"))));
        }
        let mut listed: Vec<(TreeRow, Span)> = Vec::new();
        for file in files {
            let line = |words: &[&str]| match words {
                [directory] => Some(vec![("directory", (*directory).to_owned())]),
                _ => None,
            };
            for (at, (row, span)) in rows(file, TableKind::Litetree, self.findings, line).into_iter().enumerate() {
                let get = |name: &str| row.get(name).unwrap_or_default().to_owned();
                let priority = match row.get("priority") {
                    None if row.get("image").is_none() && row.values.len() == 1 => Ok(at as u64),
                    text => text.unwrap_or_default().trim().parse(),
                };
                match priority {
                    Ok(priority) => listed.push((
                        TreeRow { priority, image: get("image"), directory: get("directory"), options: get("mntopts") },
                        span,
                    )),
                    Err(_) => {
                        let text = format!("`{}` is not a priority", get("priority"));
                        self.error(
                            "statelite::priority",
                            &span,
                            text,
                            "write a number: lower ones are looked at first",
                        );
                    }
                }
            }
        }
        let plain: Vec<TreeRow> = listed.iter().map(|(row, _)| row.clone()).collect();
        for at in merge_trees(&plain, self.model.osimage(), self.groups()) {
            let (row, span) = &listed[at];
            found.push((Tree { source: row.directory.clone(), options: row.options.clone() }, span.clone()));
        }
        let good = |(tree, span): &(Tree, Span), reading: &mut Self| match reading.source(&tree.source, span, variables)
        {
            Some(Source::Disk { device, .. }) => {
                let text = format!("`{device}` is a disk, but a tree is a directory");
                reading.error("statelite::source", span, text, "write SERVER:/DIRECTORY, or a directory of the image");
                false
            }
            other => other.is_some(),
        };
        found.retain(|one| good(one, self));
        found.into_iter().unzip()
    }

    /// The state of all nodes, and of some by table statelite.
    fn states(&mut self, files: &[Arc<SourceFile>], variables: &BTreeMap<String, String>) -> (Vec<State>, Vec<Span>) {
        let mut found: Vec<(State, Span)> = Vec::new();
        if let Some(source) = self.table.state.clone() {
            let options = self.table.state_options.clone().unwrap_or_default();
            found.push((State { nodes: Vec::new(), source, options }, (self.span)("statelite.state")));
        } else if self.table.state_options.is_some() {
            let span = (self.span)("statelite.state_options");
            let text = "`state_options` has no effect without `state`";
            self.error("statelite::state", &span, text, "write ‹state = \"SERVER:/DIRECTORY\"›, or remove the line");
        }
        let own = self.model.osimage().to_owned();
        for file in files {
            for (row, span) in rows(file, TableKind::Statelite, self.findings, |_| None) {
                let image = row.get("image").unwrap_or_default();
                if !["", "ALL", &own, self.groups()].contains(&image) {
                    continue;
                }
                let node = row.get("node").unwrap_or_default();
                let Some(source) = row.get("statemnt") else { continue };
                if node.contains(['[', '/', '|', '*', ',', '@', ' ']) {
                    let text = format!("`{node}` is not a node name");
                    let help = "write a row for each node; or give a range its state in nodes.toml: ‹kernel_args = [\"STATEMNT=SERVER:/DIRECTORY\"]›";
                    self.error("statelite::nodes", &span, text, help);
                    continue;
                }
                let nodes = if node.is_empty() || node == "ALL" { Vec::new() } else { vec![node.to_owned()] };
                let options = row.get("mntopts").unwrap_or_default().to_owned();
                found.push((State { nodes, source: source.to_owned(), options }, span));
            }
        }
        let good =
            |(state, span): &(State, Span), reading: &mut Self| match reading.source(&state.source, span, variables) {
                Some(Source::Image(_)) => {
                    let text = format!("`{}` names no server: on xCAT's nodes nothing would be kept", state.source);
                    reading.error("statelite::source", span, text, "write SERVER:/DIRECTORY, or a disk");
                    false
                }
                other => other.is_some(),
            };
        found.retain(|one| good(one, self));
        found.into_iter().unzip()
    }

    fn disk_and_root(&mut self) {
        if let Some(disk) = &self.table.local_disk
            && !matches!(Source::parse(disk, ""), Some(Source::Disk { .. }))
        {
            let text = format!("`{disk}` is not a disk");
            let help = "write LABEL=, UUID=, PARTLABEL= or /dev/NAME";
            self.error("statelite::disk", &(self.span)("statelite.local_disk"), text, help);
        }
        if let Some(root) = &self.table.root
            && !(matches!(Source::parse(root, ""), Some(Source::Server { .. }))
                && root.bytes().all(|one| one.is_ascii_graphic()))
        {
            let text = format!("`{root}` is not the directory of a server");
            let help = "write SERVER:/DIRECTORY: the directory that `publish nfs:DIR` writes, as the server exports it";
            self.error("statelite::root", &(self.span)("statelite.root"), text, help);
        }
    }

    /// Whether there is a place for what lies in one.
    fn homes(&mut self, entries: &[Entry], spans: &[Span], (states, of_states): (&[State], &[Span]), no_trees: bool) {
        let is_said = self.findings.iter().any(|finding| finding.code.starts_with("statelite::"));
        if entries.is_empty() && !is_said {
            let text = "‹[statelite]› names no path of this image";
            let help =
                "add some: ‹[statelite.files]› \"/var/log/\" = \"tmpfs\"; or remove the table for a stateless image";
            self.error("statelite::empty", &(self.span)("statelite"), text, help);
        }
        let lies = |home: Home| entries.iter().position(|entry| entry.way.home() == home);
        if let (Some(at), true) = (lies(Home::State), states.is_empty()) {
            let text = format!("`{}` is persistent, but no `state` is set", entries[at].path);
            let help = "add ‹state = \"SERVER:/DIRECTORY\"› or a disk, ‹state = \"LABEL=state\"›, to ‹[statelite]›; or a list of table statelite";
            self.error("statelite::state", &spans[at], text, help);
        }
        if let (Some(at), None) = (lies(Home::Disk), &self.table.local_disk) {
            let text = format!("`{}` is on the node's disk, but no `local_disk` is set", entries[at].path);
            self.error("statelite::disk", &spans[at], text, "add ‹local_disk = \"LABEL=local\"› to ‹[statelite]›");
        }
        if let Some(at) = entries.iter().position(|entry| entry.way == Way::OverlayPersistent) {
            let is_server = |state: &State| {
                !["LABEL=", "UUID=", "PARTLABEL=", "/dev/"].iter().any(|start| state.source.starts_with(start))
            };
            if let Some(state) = states.iter().position(is_server) {
                let text = format!(
                    "`{}` is overlay,persistent, but its state is `{}`: the kernel does not support an overlay's upper directory on NFS",
                    entries[at].path, states[state].source
                );
                let help = format!(
                    "write persistent, overlay,localdisk, or a disk as the state ({}:{})",
                    of_states[state].file.name,
                    of_states[state].line()
                );
                self.error("statelite::overlay", &spans[at], text, help);
            }
        }
        if no_trees && let Some(at) = entries.iter().position(|entry| entry.way.is_for_files()) {
            let text = format!(
                "`{}` is {}, but there are no trees to take files from",
                entries[at].path,
                entries[at].way.name()
            );
            let help = "add ‹trees = [\"SERVER:/DIRECTORY\"]›, or write tmpfs";
            self.findings.push(Finding::warning("statelite::con", &spans[at], text).label("here").help(help));
        }
    }
}
