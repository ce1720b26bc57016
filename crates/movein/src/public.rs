//! Inputs after the shapes of public ones: what is made of them stands next to each, and nothing of them is lost.
//! `INSTA_UPDATE=always` writes what is expected again.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use recipe::Distro;

use crate::plan::{Content, Plan, Row};
use crate::{MoveRequest, Source};

const DISTROS: [Distro; 4] = [Distro::Rocky, Distro::Alma, Distro::Ubuntu, Distro::Sles];

/// A case: its directory, and the words of its command.
struct Case {
    folder: PathBuf,
    source: Source,
    words: Vec<String>,
}

impl Case {
    fn all(source: Source) -> Vec<Self> {
        let above = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(source.name());
        let mut folders: Vec<PathBuf> = std::fs::read_dir(above).unwrap().map(|entry| entry.unwrap().path()).collect();
        folders.sort();
        let words = |folder: &Path| match std::fs::read_to_string(folder.join("arguments")) {
            Ok(text) => text.split_whitespace().map(str::to_owned).collect(),
            Err(_) => Vec::new(),
        };
        folders.into_iter().map(|folder| Self { words: words(&folder), folder, source }).collect()
    }

    fn request(&self) -> MoveRequest {
        let mut request = MoveRequest {
            source: self.source,
            paths: Vec::new(),
            shown: Vec::new(),
            into: PathBuf::from("into"),
            name: None,
            distro: None,
            release: None,
            arch: None,
            files: None,
            profiles: Vec::new(),
            overlays: Vec::new(),
            containerfile: None,
            lists: Vec::new(),
            dry_run: true,
        };
        let mut words = self.words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap().clone();
            match word.as_str() {
                "--profile" => request.profiles.push(value()),
                "--distro" => {
                    let name = value();
                    request.distro = DISTROS.into_iter().find(|distro| distro.name() == name);
                }
                "--release" => request.release = Some(value()),
                "--files" => request.files = Some(self.folder.join(value())),
                "--packages" => request.lists.push(self.folder.join(value())),
                "--overlay" => request.overlays.push(self.folder.join(value())),
                path => request.shown.push(path.to_owned()),
            }
        }
        if request.shown.is_empty() {
            let only = |name: &str| name.ends_with(".yaml");
            let names = std::fs::read_dir(self.folder.join("in")).unwrap();
            let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            request.shown.push(names.find(|name| only(name)).map_or("in".to_owned(), |name| format!("in/{name}")));
        }
        request.paths = request.shown.iter().map(|path| self.folder.join(path)).collect();
        request
    }

    /// What is made of it, as a text that is the same on each host.
    fn outcome(&self) -> (String, Vec<Plan>) {
        let (mut text, mut plans) = (String::new(), Vec::new());
        match crate::plans(&self.request()) {
            Ok(found) => plans = found,
            Err(error) => {
                let help = miette::Diagnostic::help(&error).map(|help| help.to_string()).unwrap_or_default();
                text = format!("refused: {error}\nhelp: {help}\n");
            }
        }
        for plan in &plans {
            for (name, content, _) in plan.texts() {
                text.push_str(&format!("--- {name}\n{content}"));
            }
            let copied: Vec<&str> = plan.files.keys().map(String::as_str).collect();
            text.push_str(&format!("--- copied: {}\n--- report\n", copied.join(" ")));
            for row in &plan.rows {
                let field = row.field.as_deref().unwrap_or("-");
                let place = row.place();
                text.push_str(&format!(
                    "{} {place} {} ({}) {field}: {}\n",
                    row.verdict.name(),
                    row.key,
                    row.value,
                    row.reason
                ));
            }
        }
        let text = text.replace(&self.folder.display().to_string(), "CASE");
        // Owners and modes of an overlay are those of the checkout.
        let is_own = |line: &&str| self.words.iter().any(|word| word == "--overlay") && line.starts_with("\"/");
        (text.lines().filter(|line| !is_own(line)).map(|line| format!("{}\n", line.trim_end())).collect(), plans)
    }
}

/// Writes what an import writes, and reads it as `imgbuild check` does.
fn assert_valid(case: &Case, plans: &[Plan]) {
    let space = tempfile::tempdir().unwrap();
    std::fs::write(space.path().join("imgbuild.toml"), "images = [\"images/*\"]\n").unwrap();
    for plan in plans {
        let folder = space.path().join("images").join(&plan.name);
        let write = |name: &str, bytes: &[u8], mode: u32| {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, bytes).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for (name, text, mode) in plan.texts() {
            write(&name, text.as_bytes(), mode);
        }
        for (name, (content, mode)) in &plan.files {
            match content {
                Content::Bytes(bytes) => write(name, bytes, *mode),
                Content::Beneath(root, from) => write(name, root.text(from).unwrap().as_bytes(), *mode),
            }
        }
        plan.empty_folders().iter().for_each(|name| std::fs::create_dir_all(folder.join(name)).unwrap());
    }
    for plan in plans {
        let loaded = recipe::load(&space.path().join("images").join(&plan.name));
        let errors: Vec<_> = loaded.findings.iter().filter(|one| format!("{:?}", one.severity) == "Error").collect();
        // One without repositories: the report and `check` say so.
        let is_told = plan.rows.iter().any(|row| row.reason.starts_with("no repository is named"));
        if is_told && errors.iter().all(|one| one.code == "repo::missing") {
            continue;
        }
        assert!(errors.is_empty() && loaded.recipe.is_some(), "{}: {errors:#?}", case.folder.display());
        let script = space.path().join(format!("images/{0}/{0}.d/run.sh", plan.name));
        if script.exists() {
            let checked = std::process::Command::new("bash").arg("-n").arg(&script).output().unwrap();
            assert!(checked.status.success(), "{}: {checked:?}", case.folder.display());
        }
    }
    if let Ok(dump) = std::env::var("MOVEIN_DUMP") {
        let to = Path::new(&dump).join(format!(
            "{}-{}",
            case.source.name(),
            case.folder.file_name().unwrap().to_str().unwrap()
        ));
        std::process::Command::new("cp").arg("-r").arg(space.path()).arg(to).status().unwrap();
    }
}

fn rows(plans: &[Plan]) -> Vec<&Row> {
    plans.iter().flat_map(|plan| &plan.rows).collect()
}

/// The names of keys in a line of YAML, attributes in one of XML.
fn names(file: &Path, line: &str) -> Vec<String> {
    let is_name = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    if file.extension().is_some_and(|end| end == "yaml") {
        let name = line.trim_start_matches([' ', '-']).split(':').next().unwrap_or_default();
        let has_value = line.contains(": ") || line.trim_end().ends_with(':');
        return if has_value && is_name(name) { vec![name.to_owned()] } else { Vec::new() };
    }
    let before = line.split("=\"").map(|part| part.rsplit([' ', '\t', '"']).next().unwrap_or_default().to_owned());
    let mut found: Vec<String> = before.collect();
    found.pop();
    // Rows of an element have its name as their value.
    found.retain(|attribute| is_name(attribute) && attribute != "name");
    found
}

/// Each key of an input is in the report, with its file and its line.
#[track_caller]
fn assert_named(case: &Case, plans: &[Plan], name: &str) {
    let path = case.folder.join(name);
    let rows = rows(plans);
    let mut block: Option<usize> = None;
    let mut count = 0;
    for (at, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        if line.trim().is_empty()
            || line.trim_start().starts_with(['#'])
            || line.contains("<!--")
            || line.contains("<?xml")
        {
            continue;
        }
        if block.is_some_and(|begin| indent > begin) {
            continue;
        }
        block =
            line.trim_end().ends_with('|').then_some(indent + if line.trim_start().starts_with('-') { 2 } else { 0 });
        for word in names(&path, line) {
            count += 1;
            let is_of =
                |row: &&&Row| row.file.ends_with(name) && row.key.split(['.', '[', ' ', '/']).any(|part| part == word);
            // The line of a start tag is that on which it ends; a key above others is named on theirs.
            assert!(rows.iter().any(|row| is_of(&row)), "{}: {name}:{}: {word}", case.folder.display(), at + 1);
        }
    }
    assert!(count > 3, "{name}: {count}");
}

#[track_caller]
fn tried(source: Source, check: impl Fn(&Case, &[Plan])) {
    let cases = Case::all(source);
    assert!(cases.len() >= 7, "{}", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let (text, plans) = case.outcome();
        for secret in ["made-up", "madeup", "upupup", "hunter"] {
            assert!(!text.contains(secret), "{}: {secret}\n{text}", case.folder.display());
        }
        // Whatever has a row has a verdict; what needs a word has one.
        let is_bare = |row: &&Row| row.verdict.name() == "decide" && row.reason.is_empty();
        for row in rows(&plans).into_iter().filter(is_bare) {
            let whole = rows(&plans)
                .into_iter()
                .any(|other| other.verdict == row.verdict && !other.reason.is_empty() && other.file == row.file);
            assert!(whole, "{}: {row:?}", case.folder.display());
        }
        assert_valid(case, &plans);
        check(case, &plans);
        let path = case.folder.join("expected.txt");
        if std::env::var("INSTA_UPDATE").is_ok_and(|value| value == "always") {
            std::fs::write(&path, &text).unwrap();
        } else if std::fs::read_to_string(&path).unwrap_or_default() != text {
            wrong.push(format!("{}\n{text}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "INSTA_UPDATE=always renews them:\n{}", wrong.join("\n"));
}

/// The inputs of a case, from its directory.
fn inputs(case: &Case, ends: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![case.folder.clone()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if ends.iter().any(|end| path.to_str().unwrap().ends_with(end)) {
                found.push(path.strip_prefix(&case.folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found
}

#[test]
fn descriptions_of_kiwi_are_taken_whole() {
    tried(Source::Kiwi, |case, plans| {
        for name in inputs(case, &[".kiwi", ".xml"]).iter().filter(|_| !plans.is_empty()) {
            assert_named(case, plans, name);
        }
    });
}

#[test]
fn layers_of_openchami_are_taken_whole() {
    tried(Source::OpenChami, |case, plans| {
        let is_value = |name: &&String| !name.contains("vars/");
        for name in inputs(case, &[".yaml"]).iter().filter(|_| !plans.is_empty()).filter(is_value) {
            assert_named(case, plans, name);
        }
    });
}

#[test]
fn containerfiles_and_overlays_are_taken_whole() {
    tried(Source::Warewulf, |case, plans| {
        let words = [
            "FROM", "RUN", "COPY", "ADD", "ARG", "ENV", "WORKDIR", "USER", "SHELL", "ONBUILD", "CMD", "LABEL", "EXPOSE",
        ];
        for name in inputs(case, &["Containerfile", "Dockerfile"]).iter().filter(|_| !plans.is_empty()) {
            for (at, line) in std::fs::read_to_string(case.folder.join(name)).unwrap().lines().enumerate() {
                let word = line.split(' ').next().unwrap_or_default();
                let is_named = rows(plans).into_iter().any(|row| row.file == *name && row.line == at + 1);
                assert!(is_named || !words.contains(&word), "{}:{}: {line}", case.folder.display(), at + 1);
            }
        }
        for name in inputs(case, &[".ww", ".conf", "50-site"]).iter().filter(|name| name.starts_with("overlays/")) {
            assert!(rows(plans).into_iter().any(|row| row.file.ends_with(name.as_str())), "{name}");
        }
    });
}

#[test]
fn profiles_of_confluent_are_taken_whole() {
    tried(Source::Confluent, |case, plans| {
        let is_used = |name: &&String| !plans.is_empty() && !name.ends_with("aarch64");
        for name in inputs(case, &["pkglist", "lists/site", "lists/more"]).iter().filter(is_used) {
            for (at, line) in std::fs::read_to_string(case.folder.join(name)).unwrap().lines().enumerate() {
                for word in line.split('#').next().unwrap().split_whitespace().filter(|word| !word.starts_with('%')) {
                    let is_named = rows(plans).into_iter().any(|row| row.line == at + 1 && row.value.contains(word));
                    assert!(is_named, "{}: {name}:{}: {word}", case.folder.display(), at + 1);
                }
            }
        }
        for name in inputs(case, &["syncfiles", "syncfiles.site"]).iter().filter(|_| !plans.is_empty()) {
            for (at, line) in std::fs::read_to_string(case.folder.join(name)).unwrap().lines().enumerate() {
                let line = line.split('#').next().unwrap().trim();
                let is_named =
                    rows(plans).into_iter().any(|row| row.file.ends_with(name.as_str()) && row.line == at + 1);
                assert!(
                    is_named || ["", "REPLACE:"].contains(&line),
                    "{}: {name}:{}: {line}",
                    case.folder.display(),
                    at + 1
                );
            }
        }
    });
}
