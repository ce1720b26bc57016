//! Containerfiles: the last stage's instructions.

use std::collections::BTreeMap;
use std::sync::Arc;

use recipe::Arch;
use site::osimage::Release;

use super::instructions::{Instruction, filled, instructions, without_quotes, words};
use crate::input::roots::{Root, Roots};
use crate::input::secrets;
use crate::plan::release::named_in;
use crate::plan::{Content, Ignored, Key, Plan, Rules, Step, of_docker};
use crate::{MoveError, MoveRequest};

pub(super) struct Reader<'a> {
    pub(super) roots: &'a Roots,
    file: String,
    /// Values of ARG and ENV.
    pub(super) values: BTreeMap<String, String>,
    pub(super) folder: String,
    /// What .dockerignore leaves out.
    pub(super) ignored: Ignored,
}

/// The recipe of the Containerfile `file_name` in the directory of `roots`.
pub(super) fn plan(
    request: &MoveRequest,
    (roots, file_name): (&Roots, &str),
    shown: &str,
    name: &str,
    of_tree: Option<Release>,
) -> Result<Plan, MoveError> {
    let text = request.text(&roots.own, file_name)?;
    let all = instructions(&text).map_err(|(line, problem)| {
        MoveError::input(format!("{shown}:{line}"), problem, "correct the file, or import a part of it")
    })?;
    let mut reader = Reader {
        roots,
        file: shown.to_owned(),
        values: BTreeMap::new(),
        folder: String::new(),
        ignored: Ignored::default(),
    };
    let stages = stages(&all);
    let Some(last) = stages.last() else {
        return Err(MoveError::input(
            shown,
            "it has no FROM",
            "name a Containerfile; for nodes.conf use `imgbuild import nodes`",
        ));
    };
    // Those before the first stage are for FROM.
    for one in all.iter().take_while(|one| one.word != "FROM").filter(|one| one.word == "ARG") {
        let _ = reader.argument(&one.text);
    }
    let chain = reader.chain(&stages);
    let first = chain.first().unwrap_or(&last);
    let from = filled(&first.from.text, &reader.values);
    let (options, words): (Vec<&str>, Vec<&str>) = from.split_whitespace().partition(|word| word.starts_with("--"));
    let reference = words.first().copied().unwrap_or_default().to_owned();
    let platform = options.iter().find_map(|option| option.strip_prefix("--platform="));
    let arch = platform.and_then(|platform| Arch::named(platform.split('/').nth(1).unwrap_or(platform)));
    let found = of_tree.clone().or_else(|| named_in(&reference)).or_else(|| named_in(name));
    let release = request.release(&format!("{shown}:{}", first.from.line), found)?;
    let mut plan = request.plan(super::TOOL, shown, name, release, arch.unwrap_or_default());
    plan.is_fed = text.contains("chpasswd");
    let key = Key::new(shown, first.from.line, "FROM", &reference);
    for option in options {
        let of_option = Key { value: option.to_owned(), key: "FROM --".to_owned(), ..key.clone() };
        match (option.starts_with("--platform="), arch) {
            (true, Some(arch)) if arch == plan.arch => plan.exact(&of_option, "image.arch", ""),
            (true, Some(_)) => plan.differs(&of_option, Some("image.arch"), "--arch says another CPU"),
            _ => plan.decide(&of_option, "not a CPU that is supported, or not an option of FROM: pass --arch"),
        }
    }
    reader.ignored(&mut plan, file_name);
    let (distro, release) = (plan.distro.title(), plan.release.clone());
    plan.exact(
        &Key { value: String::new(), key: "release".to_owned(), ..key.clone() },
        "image.release",
        format!("{distro} {release}"),
    );
    for one in all.iter().take_while(|one| one.word != "FROM") {
        let of_global = Key::new(shown, one.line, &one.word, &one.text);
        match one.word.as_str() {
            "ARG" => plan.exact(&of_global, "image.from", ""),
            _ => plan.decide(&of_global, "before the first FROM only ARG may stand"),
        }
    }
    reader.from(&mut plan, &key, &reference);
    for stage in &stages {
        if !chain.iter().any(|one| std::ptr::eq(*one, stage)) {
            other_stage(&mut plan, shown, stage);
            continue;
        }
        if !std::ptr::eq(*first, stage) {
            let of_stage = Key::new(shown, stage.from.line, "FROM", &stage.from.text);
            plan.exact(&of_stage, "image", "it goes on where an earlier stage ends");
        }
        for one in stage.body {
            let before = plan.steps.len();
            reader.instruction(&mut plan, one);
            reader.repositories(&mut plan, one, before);
        }
    }
    plan.base_repositories(&Key::new(shown, 0, "repositories", ""));
    Ok(plan)
}

/// Why an argument has no value.
enum Unset {
    Secret(&'static str),
    NoValue(String),
}

/// A stage: its FROM, and what follows.
struct Stage<'a> {
    from: &'a Instruction,
    body: &'a [Instruction],
}

impl Stage<'_> {
    /// `FROM IMAGE AS NAME`.
    fn name(&self) -> Option<&str> {
        let words: Vec<&str> = self.from.text.split_whitespace().collect();
        let at = words.iter().position(|word| word.eq_ignore_ascii_case("as"))?;
        words.get(at + 1).copied()
    }
}

fn stages(all: &[Instruction]) -> Vec<Stage<'_>> {
    let begins: Vec<usize> = (0..all.len()).filter(|at| all[*at].word == "FROM").collect();
    let ends = begins.iter().skip(1).copied().chain([all.len()]);
    begins.iter().zip(ends).map(|(at, end)| Stage { from: &all[*at], body: &all[at + 1..end] }).collect()
}

fn other_stage(plan: &mut Plan, shown: &str, stage: &Stage<'_>) {
    plan.decide(
        &Key::new(shown, stage.from.line, "FROM", &stage.from.text),
        "a stage that only others copy from is not translated: add what it makes as files or packages",
    );
    for one in stage.body {
        plan.decide(&Key::new(shown, one.line, &one.word, &one.text), "in a stage that only others copy from");
    }
}

impl Reader<'_> {
    /// The stages that the image is made by: the last one, and those that it begins with, first ones first.
    fn chain<'a>(&self, stages: &'a [Stage<'a>]) -> Vec<&'a Stage<'a>> {
        let mut found: Vec<&Stage<'_>> = Vec::new();
        let mut at = stages.len().checked_sub(1);
        while let Some(stage) = at {
            found.insert(0, &stages[stage]);
            let from = filled(&stages[stage].from.text, &self.values);
            let base = from.split_whitespace().find(|word| !word.starts_with("--")).unwrap_or_default();
            let is_base = |stage: &Stage<'_>| stage.name().is_some_and(|name| name.eq_ignore_ascii_case(base));
            at = stages[..stage].iter().rposition(is_base);
        }
        found
    }

    /// Keeps the values of arguments. A secret is left out: it would be in the script.
    /// Errors: Why one has none.
    fn argument(&mut self, text: &str) -> Result<(), Unset> {
        let mut problem = Ok(());
        for word in words(text, &self.values) {
            let Some((name, value)) = word.split_once('=') else {
                if !self.values.contains_key(&word) {
                    problem = Err(Unset::NoValue(word));
                }
                continue;
            };
            match secrets::of_line(&word) {
                Some(found) => problem = Err(Unset::Secret(found)),
                None => drop(self.values.insert(name.to_owned(), value.to_owned())),
            }
        }
        problem
    }

    /// Reads what the builder leaves out of its context. Sources: containerignore(5), the Dockerfile reference.
    fn ignored(&mut self, plan: &mut Plan, file_name: &str) {
        let own = ["containerignore", "dockerignore"].map(|end| format!("{file_name}.{end}"));
        let mut names = own.into_iter().chain([".containerignore".to_owned(), ".dockerignore".to_owned()]);
        let Some(name) = names.find(|name| self.roots.own.is_file(name)) else { return };
        let folder = self.file.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        let key = Key::new(&format!("{folder}{name}"), 0, "ignored", "");
        let text = match self.roots.own.text(&name) {
            Ok(text) => text,
            Err(error) => return plan.decide(&key, format!("it is not read: {error}")),
        };
        for (at, line) in text.lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let of_line = Key { line: at + 1, value: line.to_owned(), ..key.clone() };
            match self.ignored.add(line) {
                Ok(()) => plan.exact(&of_line, "files", ""),
                Err(reason) => plan.decide(&of_line, reason),
            }
        }
    }

    /// Repositories of the files that an instruction put where the package manager reads them.
    fn repositories(&self, plan: &mut Plan, one: &Instruction, before: usize) {
        let puts = plan.steps[before.min(plan.steps.len())..].iter().filter_map(|step| match step {
            Step::Put { path, .. } if plan.reads_repositories(path) => Some(path.clone()),
            _ => None,
        });
        for path in puts.collect::<Vec<_>>() {
            let key = Key::new(&self.file, one.line, "repository", &path);
            let text = match plan.files.get(&format!("{}{path}", plan.files_folder())) {
                Some((Content::Bytes(bytes), _)) => Ok((String::from_utf8_lossy(bytes).into_owned(), key.clone())),
                Some((Content::Beneath(root, from), _)) => {
                    let file = self.shown(root, from);
                    root.text(from).map(|text| (text, Key { file, line: 0, ..key.clone() }))
                }
                None => continue,
            };
            match text {
                Ok((text, key)) => plan.repository_file(&key, &path, &text, &[], Some((self.roots, ""))),
                Err(error) => plan.decide(&key, format!("it is not read: {error}")),
            }
        }
    }

    /// A file next to the Containerfile, as reports name it.
    fn shown(&self, root: &Arc<Root>, path: &str) -> String {
        match self.file.rsplit_once('/') {
            Some((folder, _)) if Arc::ptr_eq(root, &self.roots.own) => format!("{folder}/{path}"),
            _ => path.to_owned(),
        }
    }

    fn from(&self, plan: &mut Plan, key: &Key, reference: &str) {
        let is_fine =
            !reference.is_empty() && reference.chars().all(|c| c.is_ascii_alphanumeric() || "._-:/@".contains(c));
        if reference == "scratch" || !is_fine {
            return plan
                .decide(key, "not a container image of a registry: the image begins with the release's own packages");
        }
        let host = reference.split('/').next().unwrap_or_default();
        // Docker's own registry, as `docker build` means it.
        plan.from = Some(match reference.contains('/') && (host.contains(['.', ':']) || host == "localhost") {
            true => format!("oci:{reference}"),
            false => format!("oci:{}", of_docker(reference)),
        });
        plan.exact(key, "image.from", "");
    }

    fn instruction(&mut self, plan: &mut Plan, one: &Instruction) {
        let key = Key::new(&self.file, one.line, &one.word, &one.text);
        match one.word.as_str() {
            "RUN" => self.run(plan, &key, one),
            "COPY" | "ADD" => self.copy(plan, &key, one),
            "ARG" => match self.argument(&one.text) {
                Ok(()) => plan.exact(&key, "postinstall.scripts", ""),
                Err(Unset::Secret(problem)) => plan.decide(&key, crate::plan::secret(problem)),
                Err(Unset::NoValue(name)) => plan.decide(
                    &key,
                    format!("`{name}` gets its value when the image is built: write it here as {name}=VALUE, and import again"),
                ),
            },
            "ENV" => self.environment(plan, &key, &one.text),
            "WORKDIR" => {
                let path = filled(&one.text, &self.values);
                self.folder = if path.starts_with('/') { path } else { format!("{}/{path}", self.folder) };
                plan.exact(&key, "postinstall.scripts", "");
            }
            "USER" if ["root", "0"].contains(&one.text.as_str()) => plan.exact(&key, "postinstall.scripts", ""),
            "USER" => plan.decide(&key, "commands run as root: use `runuser` in the script"),
            "SHELL" => plan.decide(&key, "commands run by /bin/bash"),
            "ONBUILD" => plan.decide(&key, "it is for images made of this one: put it into their recipes"),
            "CMD" | "ENTRYPOINT" | "EXPOSE" | "STOPSIGNAL" | "HEALTHCHECK" | "VOLUME" | "LABEL" | "MAINTAINER" => {
                plan.stays(&key, "it describes a container; a node starts its init")
            }
            _ => plan.unknown(&key),
        }
    }

    fn environment(&mut self, plan: &mut Plan, key: &Key, text: &str) {
        let mut pairs: Vec<(String, String)> = Vec::new();
        match text.split_whitespace().next().is_some_and(|word| word.contains('=')) {
            true => {
                for word in words(text, &self.values) {
                    match word.split_once('=') {
                        Some((name, value)) => pairs.push((name.to_owned(), value.to_owned())),
                        None => plan.decide(&Key { value: word, ..key.clone() }, "not `NAME=VALUE`"),
                    }
                }
            }
            // The old form: the rest of the line is the value.
            false => match text.split_once(char::is_whitespace) {
                Some((name, value)) => {
                    pairs.push((name.to_owned(), without_quotes(value.replace("\\\n", "").trim(), &self.values)));
                }
                None => plan.decide(key, "it has no value"),
            },
        }
        for (name, value) in pairs {
            plan.variable(&Key { value: format!("{name}={value}"), ..key.clone() }, &name, &value);
            if secrets::of_line(&format!("{name}={value}")).is_none() {
                self.values.insert(name, value);
            }
        }
    }

    fn run(&mut self, plan: &mut Plan, key: &Key, one: &Instruction) {
        let mut text = one.text.as_str();
        while let Some(rest) = text.strip_prefix("--") {
            let (option, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            if !option.starts_with("network")
                && !option.starts_with("mount=type=cache")
                && !option.starts_with("mount=type=tmpfs")
            {
                plan.decide(
                    &Key { value: format!("--{option}"), ..key.clone() },
                    "what it mounts is not there: files that the command needs are `inputs` of the script",
                );
            }
            text = after.trim_start_matches(['\\', '\n', ' ', '\t']);
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let is_script = matches!(words[..], [_] | [_, "sh" | "bash" | "/bin/sh" | "/bin/bash"]);
        match &one.heredocs[..] {
            [] => {}
            // All that is run is the text; before another shell reads it, this one fills variables in.
            [script] if is_script && (words.len() == 1 || !script.is_expanded()) => {
                let of_script = Key { line: script.line + 1, ..key.clone() };
                let (name, text) = (format!("run-{}.sh", key.line), script.text());
                let before = self.before(plan, &text);
                if before.is_empty() {
                    return plan.script(&of_script, &name, &text);
                }
                let name = plan.script_file(&of_script, &name, &text);
                let text = format!("{before}/.imgbuild-import/scripts/{}", crate::plan::quoted(&name));
                plan.steps.push(Step::Run { place: key.place(), text, fails: true });
                return plan.exact(key, "postinstall.scripts", "");
            }
            all => {
                let texts: String = all.iter().map(|one| one.whole()).collect();
                return self.command(plan, key, &format!("{text}\n{texts}"));
            }
        }
        // The form of a list of words.
        let listed: Option<Vec<String>> = if text.starts_with('[') { serde_json::from_str(text).ok() } else { None };
        let text = match listed {
            Some(words) => words.iter().map(|word| crate::plan::quoted(word)).collect::<Vec<_>>().join(" "),
            None => text.to_owned(),
        };
        self.command(plan, key, &text);
    }

    /// A command of the image's shell, with what it has from ARG, ENV and WORKDIR.
    fn command(&self, plan: &mut Plan, key: &Key, text: &str) {
        let before = self.before(plan, text);
        let at = plan.steps.len();
        plan.commands(key, text, Rules { fails: true, variables: &self.values });
        for step in &mut plan.steps[at..] {
            if let Step::Run { text, .. } = step {
                *text = format!("{before}{text}");
            }
        }
    }

    /// What comes before a command: values of variables that it names, and its folder. [environment] holds other variables.
    fn before(&self, plan: &Plan, text: &str) -> String {
        let is_needed = |name: &str, value: &str| {
            let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            is_name && !plan.environment.contains_key(name) && text.contains(name) && !value.contains('$')
        };
        let values = self.values.iter().filter(|(name, value)| is_needed(name, value));
        let mut lines: String =
            values.map(|(name, value)| format!("export {name}={}\n", crate::plan::quoted(value))).collect();
        if !self.folder.is_empty() {
            let folder = crate::plan::quoted(&self.folder);
            lines.push_str(&format!("mkdir -p {folder} && cd {folder}\n"));
        }
        lines
    }
}
