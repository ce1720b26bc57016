//! Scripts that nodes run again (xCAT: `updatenode -P`): those that nodes.toml and the recipe have now, or named ones, by the program
//! of the image that runs them at a start.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::connection::{Connection, last_of, unclear};
use super::node::{Mode, opened, put};
use super::stream::{Bytes, Entry};
use super::words::encoded;
use super::{Answer, Executed};
use base::source::{Finding, Severity, counted_as};
use nodes::{Attr, Effective, Nodes, ScriptFault, ScriptResult, script_name, script_of};
use recipe::{NodeScripts, Recipe};

/// Bytes of what is said of the scripts of one node.
const MOST_RESULTS: usize = 4 << 20;

/// The program of the image that runs scripts.
const RUNNER: &str = "/usr/libexec/imgbuild/imgbuild-init";
const ORDER: &str = "order.json";
const RESULTS: &str = "results.json";

/// The two lists, as nodes.toml and recipes call them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum List {
    Postscripts,
    Postbootscripts,
}

impl List {
    const ALL: [Self; 2] = [Self::Postscripts, Self::Postbootscripts];

    fn attr(self) -> Attr {
        match self {
            Self::Postscripts => Attr::Postscripts,
            Self::Postbootscripts => Attr::Postbootscripts,
        }
    }

    fn of_image(self, scripts: &NodeScripts) -> &[(String, String)] {
        match self {
            Self::Postscripts => &scripts.postscripts,
            Self::Postbootscripts => &scripts.postbootscripts,
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct Order {
    environment: BTreeMap<String, String>,
    scripts: Vec<Ordered>,
    files: BTreeMap<String, Arc<Vec<u8>>>,
}

impl Order {
    pub fn is_empty(&self) -> bool {
        self.scripts.is_empty()
    }
}

/// A script of it. The names are those that the runner reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Ordered {
    phase: List,
    name: String,
    arguments: Vec<String>,
    /// Relative to the order's directory.
    file: String,
}

impl Ordered {
    /// As people write it.
    fn text(&self) -> String {
        std::iter::once(&self.name).chain(&self.arguments).map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

#[derive(Serialize)]
struct Written<'a> {
    seconds: u64,
    environment: &'a BTreeMap<String, String>,
    scripts: &'a [Ordered],
}

#[derive(Deserialize)]
struct Reported {
    #[serde(flatten)]
    result: ScriptResult,
    exit: i32,
}

struct Reading<'a> {
    nodes: &'a Nodes,
    directory: PathBuf,
    shown: PathBuf,
    of_server: BTreeMap<String, Option<Arc<Vec<u8>>>>,
    findings: Vec<Finding>,
}

/// What all nodes of a set are to run. With names those alone, each with its arguments, whatever the lists say.
/// Errors: All that is wrong with it, before a node is reached.
pub fn orders(
    nodes: &Nodes,
    root: &Path,
    images: &BTreeMap<String, String>,
    recipes: &[Recipe],
    named: Option<&[String]>,
) -> Result<BTreeMap<String, Arc<Order>>, Vec<Finding>> {
    let directory = nodes.scripts_directory(root);
    let shown = directory.strip_prefix(root).unwrap_or(&directory).to_owned();
    let mut reading = Reading { nodes, directory, shown, of_server: BTreeMap::new(), findings: Vec::new() };
    let recipes: BTreeMap<&str, &Recipe> =
        recipes.iter().map(|recipe| (recipe.model.image.name.as_str(), recipe)).collect();
    let mut orders = BTreeMap::new();
    for (node, image) in images {
        let Some(recipe) = recipes.get(image.as_str()) else { continue };
        if let Some(order) = reading.order(node, recipe, named) {
            orders.insert(node.clone(), Arc::new(order));
        }
    }
    let mut said = BTreeSet::new();
    reading.findings.retain(|finding| said.insert(finding.message.clone()));
    if reading.findings.is_empty() { Ok(orders) } else { Err(reading.findings) }
}

impl Reading<'_> {
    fn order(&mut self, name: &str, recipe: &Recipe, named: Option<&[String]>) -> Option<Order> {
        let node = self.nodes.get(name)?;
        let image = &recipe.model.image.name;
        let Some(scripts) = &recipe.node_scripts else {
            let text = format!("nodes of `{image}` have no program that runs scripts: its recipe has no `[node]`");
            let help = "add `[node]` to the recipe, run `imgbuild build` and `imgbuild nodeset`, and boot the nodes";
            let finding = match recipe.spans.get("image.name") {
                Some(span) => Finding::error("sync::no_runner", span, text),
                None => Finding::nowhere(Severity::Error, "sync::no_runner", text),
            };
            self.findings.push(finding.help(help));
            return None;
        };
        let mut environment = node.script_environment();
        environment.insert("UPDATENODE".to_owned(), "1".to_owned());
        let mut order = Order { environment, ..Order::default() };
        let wanted = match named {
            Some(named) => self.named(&node, scripts, named),
            None => List::ALL.into_iter().flat_map(|list| self.listed(&node, scripts, list)).collect(),
        };
        for (phase, text, is_of_the_image) in wanted {
            let words: Vec<&str> = text.split_whitespace().collect();
            let Some((script, arguments)) = words.split_first() else { continue };
            let Some((file, bytes)) = self.file(script, scripts, is_of_the_image, image) else { continue };
            order.files.insert(file.clone(), bytes);
            let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
            let one = Ordered { phase, name: (*script).to_owned(), arguments, file };
            if !order.scripts.contains(&one) {
                order.scripts.push(one);
            }
        }
        Some(order)
    }

    /// A list of a node in the order of a start: of all nodes, of the image, of groups and the node; each once.
    fn listed(&self, node: &Effective, scripts: &NodeScripts, list: List) -> Vec<(List, String, bool)> {
        let own = self.nodes.scripts_of(node, list.attr());
        let all = own.defaults.into_iter().map(|text| (text, false));
        let all = all.chain(list.of_image(scripts).iter().map(|(text, _)| (text.clone(), true)));
        let all = all.chain(own.own.into_iter().map(|text| (text, false)));
        let mut seen = BTreeSet::new();
        all.filter(|(text, _)| seen.insert(text.clone())).map(|(text, is)| (list, text, is)).collect()
    }

    /// Named scripts, in their order; the log of each goes where that of its list does.
    fn named(&self, node: &Effective, scripts: &NodeScripts, named: &[String]) -> Vec<(List, String, bool)> {
        let listed: Vec<_> = List::ALL.into_iter().flat_map(|list| self.listed(node, scripts, list)).collect();
        let list_of = |text: &str| {
            let known = listed.iter().find(|(_, known, _)| script_name(known) == script_name(text));
            known.map_or((List::Postscripts, false), |(list, _, is_of_the_image)| (*list, *is_of_the_image))
        };
        named
            .iter()
            .map(|text| {
                let (list, is_of_the_image) = list_of(text);
                (list, text.clone(), is_of_the_image)
            })
            .collect()
    }

    /// The file of a script as it is now: the site's counts more, unless the recipe names it.
    fn file(
        &mut self,
        name: &str,
        scripts: &NodeScripts,
        is_of_the_image: bool,
        image: &str,
    ) -> Option<(String, Arc<Vec<u8>>)> {
        if !is_of_the_image && let Some(bytes) = self.of_server(name) {
            return Some((format!("server/{name}"), bytes));
        }
        let Some(file) = scripts.files.get(name) else {
            let path = self.shown.join(name);
            let text = format!(
                "neither `{}` is there, nor does the recipe of `{image}` have a script `{name}`",
                path.display()
            );
            let help =
                "write the script, name its directory in [nodeset] postscripts, or put it into [node] of the recipe";
            self.findings.push(Finding::nowhere(Severity::Error, "sync::script", text).help(help));
            return None;
        };
        match std::fs::read(&file.path) {
            Ok(bytes) => Some((format!("image/{name}"), Arc::new(bytes))),
            Err(error) => {
                let text = format!("`{}` cannot be read: {error}", file.name);
                self.findings
                    .push(Finding::error("sync::unreadable", &file.span, text).help("correct its permissions"));
                None
            }
        }
    }

    fn of_server(&mut self, name: &str) -> Option<Arc<Vec<u8>>> {
        if let Some(known) = self.of_server.get(name) {
            return known.clone();
        }
        let found = match script_of(&self.directory, name) {
            Ok(bytes) => Some(Arc::new(bytes)),
            Err(ScriptFault::Missing) => None,
            Err(ScriptFault::Unusable(problem)) => {
                let text = format!("nodes are not given `{}`: {problem}", self.shown.join(name).display());
                let finding = Finding::nowhere(Severity::Error, "sync::script", text);
                self.findings.push(finding.help("correct the file"));
                None
            }
        };
        self.of_server.insert(name.to_owned(), found.clone());
        found
    }
}

/// Runs an order on a node, or says what it would run.
/// Errors: What keeps the node from it, or the first script that did not succeed.
pub(crate) fn again(
    connection: &mut Connection,
    order: &Order,
    mode: Mode,
    seconds: u64,
    answer: &mut Answer,
) -> Result<(), String> {
    connection.send(&format!("u {}\n", encoded(Path::new(RUNNER))))?;
    match connection.words()?.as_slice() {
        [word, is] if word == "u" && is == "yes" => {}
        [word, is] if word == "u" && is == "no" => {
            return Err(format!("the node has no {RUNNER}: boot it with a build of a recipe with [node]"));
        }
        other => return Err(unclear(&other.join(" "))),
    }
    if mode == Mode::Look {
        let would = |one: &Ordered| Executed { name: one.text(), exit: 0, reason: None, output: String::new() };
        answer.scripts.extend(order.scripts.iter().map(would));
        return Ok(());
    }
    let run = opened(connection)?;
    let written = Written { seconds, environment: &order.environment, scripts: &order.scripts };
    let text = serde_json::to_vec(&written).map_err(|error| error.to_string())?;
    let entry = |name: &str, mode: u32, bytes: &Arc<Vec<u8>>| Entry {
        path: run.join(name),
        mode,
        uid: 0,
        gid: 0,
        bytes: Bytes::Text(Arc::clone(bytes)),
    };
    let mut entries = vec![entry(ORDER, 0o600, &Arc::new(text))];
    entries.extend(order.files.iter().map(|(name, bytes)| entry(name, 0o700, bytes)));
    put(connection, "", &mut [], &entries, 0)?;
    let words = [run.join(ORDER).as_path(), Path::new(RUNNER), Path::new("scripts")].map(encoded).join(" ");
    connection.send(&format!("e 0 - {words}\nh {}\n", encoded(&run.join(RESULTS))))?;
    let exit = match connection.words()?.as_slice() {
        [word, _, exit] if word == "e" => exit.clone(),
        other => return Err(unclear(&other.join(" "))),
    };
    let said = connection.output()?;
    match connection.words()?.as_slice() {
        [word] if word == "h" => {}
        other => return Err(unclear(&other.join(" "))),
    }
    let results: Vec<Reported> = match connection.bytes()? {
        bytes if bytes.is_empty() => return Err(not_run(&exit, &said)),
        // A value costs more than its text.
        bytes if bytes.len() > MOST_RESULTS => {
            return Err("the node's results are longer than the limit of 4 MiB".to_owned());
        }
        bytes => {
            // The results of many scripts of few letters each take most.
            connection.spend(4 * bytes.len())?;
            serde_json::from_slice(&bytes).map_err(|_| unclear(&String::from_utf8_lossy(&bytes)))?
        }
    };
    let mut failed = Vec::new();
    for (one, Reported { result, exit }) in order.scripts.iter().zip(results) {
        if result.is_bad() {
            let last = result.lines.last().map(|line| format!(": {line}")).unwrap_or_default();
            failed.push(format!("{}: {}{last}", one.text(), result.reason));
        }
        // What it left running is said as well.
        let reason = (result.reason != "done").then_some(result.reason);
        let output: String = result.lines.iter().map(|line| format!("{line}\n")).collect();
        let output = last_of(output.as_bytes());
        answer.scripts.push(Executed { name: one.text(), exit, reason, output });
    }
    match failed.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        [first, rest @ ..] => Err(format!("{first}; and {} more", counted_as(rest.len(), "script", "scripts"))),
    }
}

/// Why the runner left no results.
fn not_run(exit: &str, said: &str) -> String {
    let last = said.trim().lines().next_back().unwrap_or_default().to_owned();
    match last.contains("is no list of scripts") {
        true => "the node's image was built by an imgbuild that cannot run scripts again: boot it with a new build"
            .to_owned(),
        false => format!("{RUNNER} exited with {exit}: {last}"),
    }
}
