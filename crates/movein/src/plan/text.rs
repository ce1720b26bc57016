//! The texts of a recipe: `image.toml`, its lists, and the script that runs commands in the image.

use std::collections::BTreeSet;
use std::fmt::Write;

use recipe::Arch;

use super::{Plan, Step, Verdict, quoted};

/// Where the script puts files in the image while it runs.
const STAGE: &str = "/.imgbuild-import";

fn toml(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A list of texts, one a line where they are many.
fn list(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| toml(item)).collect();
    let line = items.join(", ");
    if line.len() < 90 { format!("[{line}]") } else { format!("[\n    {},\n]", items.join(",\n    ")) }
}

/// A key in quotes, on one line.
fn key(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// Text as comments: what was put into it cannot end one.
fn comment(text: &str) -> String {
    let plain =
        |line: &str| line.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect::<String>();
    text.split(['\n', '\r']).map(|line| format!("{}\n", format!("# {}", plain(line)).trim_end())).collect()
}

impl Plan {
    /// Everything that is written, by its path in the image's directory.
    pub(crate) fn texts(&self) -> Vec<(String, String, u32)> {
        let mut texts = vec![(recipe::RECIPE_FILE.to_owned(), self.recipe(), 0o644)];
        if !self.packages.is_empty() {
            let text = format!("{}{}\n", comment(&format!("Packages of {}.", self.source)), self.packages.join("\n"));
            texts.push((format!("{}.pkglist", self.name), text, 0o644));
        }
        if let Some(text) = self.synclist() {
            texts.push((format!("{}.synclist", self.name), text, 0o644));
        }
        if !self.exclude.is_empty() {
            let text = format!(
                "{}{}\n",
                comment(&format!("What {} left out of the image.", self.tool)),
                self.exclude.join("\n")
            );
            texts.push((format!("{}.exlist", self.name), text, 0o644));
        }
        if self.has_script() {
            texts.push((format!("{}.postinstall", self.name), self.outer_script(), 0o755));
            texts.push((format!("{}.d/run.sh", self.name), self.inner_script(), 0o755));
        }
        texts
    }

    fn has_script(&self) -> bool {
        self.is_scripted() || self.steps.iter().any(|step| matches!(step, Step::Link { .. }))
    }

    fn recipe(&self) -> String {
        let mut text = comment(&format!(
            "Made of {} of {} by `imgbuild import`; edit it freely. What needs a decision is at the end.",
            self.source, self.tool
        ));
        if !self.extends.is_empty() {
            let parents: Vec<String> =
                self.extends.iter().map(|name| format!("../{name}/{}", recipe::RECIPE_FILE)).collect();
            let _ =
                writeln!(text, "extends = {}\n", if parents.len() == 1 { toml(&parents[0]) } else { list(&parents) });
        }
        let _ = write!(
            text,
            "[image]\nname = {}\ndistro = {}\nrelease = {}\n",
            toml(&self.name),
            toml(self.distro.name()),
            toml(&self.release)
        );
        if self.arch != Arch::default() {
            let _ = writeln!(text, "arch = {}", toml(self.arch.machine()));
        }
        if let Some(from) = &self.from {
            let _ = writeln!(text, "from = {}", toml(from));
        }
        for (mirror, components) in self.official() {
            text.push_str("\n[[repo]]\nsource = \"distribution\"\n");
            if let Some(mirror) = mirror {
                let _ = writeln!(text, "uri = {}", toml(mirror));
            }
            if !components.is_empty() {
                let _ = writeln!(text, "components = {}", list(components));
            }
        }
        for entry in self.entries() {
            let mut lines = "[[repo]]\n".to_owned();
            entry.fields.iter().for_each(|(name, value)| lines.push_str(&format!("{name} = {value}\n")));
            let lines = if entry.is_comment { comment(lines.trim_end()) } else { lines };
            let _ = write!(text, "\n{lines}");
        }
        let mut table = |name: &str, fields: Vec<(String, String)>| {
            if !fields.is_empty() {
                let _ = write!(text, "\n[{name}]\n");
                fields.iter().for_each(|(key, value)| text.push_str(&format!("{key} = {value}\n")));
            }
        };
        let field = |name: &str, value: Option<String>| value.map(|value| (name.to_owned(), value));
        let some = |items: &[String]| (!items.is_empty()).then(|| list(items));
        let lists = (!self.packages.is_empty()).then(|| list(&[format!("{}.pkglist", self.name)]));
        table("packages", [field("base", self.base.map(toml)), field("lists", lists)].into_iter().flatten().collect());
        table(
            "system",
            [
                field("timezone", self.timezone.as_deref().map(toml)),
                field("locale", self.locale.as_deref().map(toml)),
                field("authorized_keys", some(&self.authorized_keys)),
            ]
            .into_iter()
            .flatten()
            .collect(),
        );
        if self.has_script() {
            let name = &self.name;
            let (scripts, inputs) = (list(&[format!("{name}.postinstall")]), list(&[format!("{name}.d/**")]));
            table("postinstall", vec![("scripts".to_owned(), scripts), ("inputs".to_owned(), inputs)]);
        }
        let services = [("enable", &self.enable), ("disable", &self.disable), ("mask", &self.mask)];
        table("services", services.into_iter().filter_map(|(name, items)| field(name, some(items))).collect());
        table("node", field("postscripts", some(&self.postscripts)).into_iter().collect());
        let synced = self.synclist().is_some();
        table("sync", field("lists", synced.then(|| list(&[format!("{}.synclist", self.name)]))).into_iter().collect());
        if synced {
            let owners = if self.is_scripted() { self.owners.clone() } else { self.owners_of_files() };
            table("sync.owner", owners.iter().map(|(path, owner)| (key(path), toml(owner))).collect());
        }
        table(
            "exclude",
            field("lists", some(&self.exclude).map(|_| list(&[format!("{}.exlist", self.name)]))).into_iter().collect(),
        );
        table("boot", field("cmdline", some(&self.cmdline)).into_iter().collect());
        table("environment", self.environment.iter().map(|(name, value)| (key(name), toml(value))).collect());
        let open: Vec<_> = self
            .rows
            .iter()
            .filter(|row| matches!(row.verdict, Verdict::Differs | Verdict::Decide) && !row.reason.is_empty())
            .collect();
        if !open.is_empty() {
            text.push('\n');
        }
        for row in open {
            let value = if row.value.is_empty() { String::new() } else { format!(" ({})", row.value) };
            text.push_str(&comment(&format!(
                "{}: {} {}{value}: {}",
                row.verdict.name(),
                row.place(),
                row.key,
                row.reason
            )));
        }
        text
    }

    /// Paths whose first part is a line of the synclist, and other lines.
    fn synclist(&self) -> Option<String> {
        let mut lines = Vec::new();
        if !self.is_scripted() {
            let folder = self.files_folder();
            let paths = self.steps.iter().filter_map(|step| match step {
                Step::Put { path, .. } => Some((path, false)),
                Step::Folder { path, .. } => Some((path, true)),
                _ => None,
            });
            let tops: BTreeSet<&str> = paths.map(|(path, _)| path[1..].split('/').next().unwrap_or_default()).collect();
            lines.extend(tops.into_iter().map(|top| format!("{folder}/{top} -> /{top}")));
        }
        lines.extend(self.synced[0].iter().cloned());
        for (title, more) in ["APPEND:", "MERGE:"].iter().zip(&self.synced[1..]) {
            if !more.is_empty() {
                lines.push((*title).to_owned());
                lines.extend(more.iter().cloned());
            }
        }
        (!lines.is_empty()).then(|| format!("{}{}\n", comment(&format!("Files of {}.", self.source)), lines.join("\n")))
    }

    /// What runs outside the image, and puts what runs inside into it as long as it runs.
    fn outer_script(&self) -> String {
        let name = &self.name;
        format!(
            "#!/bin/sh\n{}set -e\nstage=\"$1{STAGE}\"\nmkdir \"$stage\"\ncp -a {name}.d/. \"$stage/\"\nstatus=0\n\
             chroot \"$1\" /bin/bash {STAGE}/run.sh || status=$?\nrm -rf \"$stage\"\nexit $status\n",
            comment(&format!(
                "Runs {name}.d/run.sh in the image: what {} of {} put and ran there.\nThere is no network, and nothing of this host.",
                self.source, self.tool
            )),
        )
    }

    fn inner_script(&self) -> String {
        let mut text = format!(
            "#!/bin/bash\n{}set -e\ncd /\n",
            comment(&format!("What {} of {} put and ran in the image, in its order.", self.source, self.tool))
        );
        let has = |wanted: fn(&Step) -> bool| self.steps.iter().any(wanted);
        let is_scripted = self.is_scripted();
        if is_scripted && has(|step| matches!(step, Step::Put { .. })) {
            let _ = write!(
                text,
                "\n# PATH MODE OWNER\nput() {{\n    mkdir -p \"$(dirname \"$1\")\"\n    cp --remove-destination {STAGE}/files\"$1\" \"$1\"\n    chown \"$3\" \"$1\"\n    chmod \"$2\" \"$1\"\n}}\n"
            );
        }
        if has(|step| matches!(step, Step::Link { .. })) {
            text.push_str(
                "\n# PATH TARGET\nlink() {\n    mkdir -p \"$(dirname \"$1\")\"\n    ln -sfn -- \"$2\" \"$1\"\n}\n",
            );
        }
        text.push('\n');
        for step in &self.steps {
            match step {
                Step::Put { path, mode, owner } if is_scripted => {
                    let owner = owner.as_deref().unwrap_or("0:0");
                    let _ = writeln!(text, "put {} {mode:04o} {}", quoted(path), quoted(owner));
                }
                Step::Folder { path, mode, owner } if is_scripted => {
                    let _ = writeln!(text, "mkdir -p {}", quoted(path));
                    // A folder of the image keeps its mode where the usual one would open it.
                    if *mode != 0o755 {
                        let _ = writeln!(text, "chmod {mode:04o} {}", quoted(path));
                    }
                    if let Some(owner) = owner {
                        let _ = writeln!(text, "chown {} {}", quoted(owner), quoted(path));
                    }
                }
                Step::Link { path, target } => {
                    let _ = writeln!(text, "link {} {}", quoted(path), quoted(target));
                }
                Step::Run { place, text: command, fails } => {
                    text.push_str(&comment(place));
                    let _ = write!(text, "/bin/bash -c {}", quoted(command));
                    match fails {
                        true => text.push('\n'),
                        false => text.push_str(&format!(
                            " || echo {} >&2\n",
                            quoted(&format!("{place}: it failed, which {} ignores", self.tool))
                        )),
                    }
                }
                Step::Script { place, name } => {
                    text.push_str(&comment(place));
                    let _ = writeln!(text, "{STAGE}/scripts/{}", quoted(name));
                }
                Step::Left { place, text: command } => {
                    text.push_str(&comment(&format!("{place}: left out: {command}")))
                }
                Step::Put { .. } | Step::Folder { .. } => {}
            }
        }
        text
    }
}
