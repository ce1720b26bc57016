//! `imgbuild diff`: compares builds, locks and directories.

use std::path::{Component, Path, PathBuf};

use crate::Exit;
use crate::output::harmless::{one_line, push_line};
use crate::output::render;
use crate::published::{Place, places};
use crate::setup::store_directory;
use build::diff::{BuildPlace, Difference, FileDifference, Side, SideError, compare, matched};
use build::published;
use git::{GitError, Repository};
use recipe::{KDL_RECIPE_FILE, LOCK_FILE, RECIPE_FILE};
use store::{PastBuild, Store};
use witness::not_a_file;

/// Arguments of `diff`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to compare: a build (`compute`, `compute@previous`, `compute@3` of `imgbuild log`, a directory of artefacts), an
    /// archive of artefacts, a packed image, a lock, a recipe's directory (its lock), a git revision (`REV:path`: the lock
    /// there), or any directory
    #[arg(value_name = "A")]
    pub a: String,
    /// What to compare it with [default: an image's build before with its current one]
    #[arg(value_name = "B")]
    pub b: Option<String>,
    /// Where artefacts are [default: `out` next to the recipe]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print JSON
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
    /// Exit with 2 if they differ
    #[arg(long)]
    pub detailed_exitcode: bool,
}

/// How a difference is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Human-readable text
    Text,
    /// Markdown for a merge request
    Markdown,
    /// JSON
    Json,
}

enum Operand {
    Build(BuildPlace),
    Path(PathBuf),
    Lock(Vec<u8>),
}

fn failed(text: String, exit: Exit) -> Exit {
    render::say(&text);
    exit
}

fn unreadable(error: SideError) -> Exit {
    failed(render::error(error), Exit::Input)
}

fn has_recipe(arguments: &crate::Arguments) -> bool {
    ["image.toml", "image.kdl", "imgbuild.toml"].iter().any(|name| arguments.directory.join(name).is_file())
}

struct Resolver<'a> {
    arguments: &'a crate::Arguments,
    out: Option<PathBuf>,
    store: Store,
    recipes: std::cell::OnceCell<Vec<Place>>,
}

impl Resolver<'_> {
    fn recipes(&self) -> Result<&[Place], Exit> {
        if let Some(known) = self.recipes.get() {
            return Ok(known);
        }
        let found = places(self.arguments, &[], false)?;
        Ok(self.recipes.get_or_init(|| found))
    }

    /// The image of a name; of none, the only one.
    fn image(&self, name: &str) -> Result<Option<&Place>, Exit> {
        let recipes = self.recipes()?;
        Ok(match (name, recipes) {
            ("", [only]) => Some(only),
            _ => recipes.iter().find(|place| place.name == name),
        })
    }

    fn resolve(&self, text: &str) -> Result<Operand, Exit> {
        let path = Path::new(text);
        if !text.contains('/') && !text.contains(':') && has_recipe(self.arguments) {
            let (name, which) = text.split_once('@').unwrap_or((text, "current"));
            if let Some(recipe) = self.image(name)? {
                return self.build(recipe, which, text).map(Operand::Build);
            }
        }
        if let Some(problem) = not_a_file(path).filter(|_| !path.is_dir()) {
            return Err(failed(format!("error: cannot compare `{text}`: it {problem}"), Exit::Input));
        }
        if path.exists() {
            return Ok(match path.join("build.json").is_file() {
                true => Operand::Build(self.of_directory(path, text)),
                false => {
                    let names = std::fs::read_dir(path).into_iter().flatten().flatten();
                    one_lock(text, names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())?;
                    Operand::Path(path.to_owned())
                }
            });
        }
        if let Some((revision, path)) = text.split_once(':') {
            return git_lock(&self.arguments.directory, revision, path).map(Operand::Lock);
        }
        let names = if has_recipe(self.arguments) { self.recipes()? } else { &[] };
        let names: Vec<&str> = names.iter().map(|place| place.name.as_str()).collect();
        let known = if names.is_empty() {
            "there is no recipe here".to_owned()
        } else {
            format!("images here: {}", names.join(", "))
        };
        Err(failed(
            format!(
                "`{text}` is neither a file, a directory, an image nor a git revision ({known}); a build is NAME, NAME@previous, or NAME@3 with a number of `imgbuild log`"
            ),
            Exit::Input,
        ))
    }

    fn of_directory(&self, path: &Path, name: &str) -> BuildPlace {
        let directory = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let known = self.store.builds_of_all().into_iter().flatten();
        let mut keys = known.filter_map(|build| build.end).filter(|end| end.published.as_deref() == Some(&directory));
        let keys = keys.next_back().map(|end| end.keys).unwrap_or_default();
        BuildPlace { name: name.to_owned(), directory, keys }
    }

    /// A build of an image: `current`, `previous`, a number of the log, or a directory's name.
    fn build(&self, recipe: &Place, which: &str, text: &str) -> Result<BuildPlace, Exit> {
        let image = &recipe.name;
        let out = self.out.clone().unwrap_or_else(|| recipe.out.clone());
        let Some((current, _)) = published(&out, image) else {
            return Err(failed(format!("`{image}` is not built yet: run `imgbuild build`"), Exit::Input));
        };
        let history = self.store.builds(&recipe.directory, image);
        let end_of = |directory: &Path| {
            let mut ends = history.iter().filter_map(|build| build.end.clone());
            ends.rfind(|end| end.published.as_deref() == Some(directory))
        };
        let place = |directory: PathBuf| BuildPlace {
            name: text.to_owned(),
            keys: end_of(&directory).map(|end| end.keys).unwrap_or_default(),
            directory,
        };
        let builds = current.parent().unwrap_or(&out).to_owned();
        let gone = |what: String| {
            failed(
                format!("{what}; only the two builds before the published one are kept in {}", builds.display()),
                Exit::Input,
            )
        };
        if which == "current" {
            return Ok(place(current));
        }
        if which == "previous" {
            let is_other =
                |build: &&PastBuild| published_of(build).is_some_and(|path| path != current && path.is_dir());
            let before = history.iter().rev().find(is_other).and_then(published_of);
            let before = before.map(Path::to_owned).or_else(|| newest_but(&builds, &current));
            return before.map(place).ok_or_else(|| gone(format!("there is no other build of `{image}`")));
        }
        if let Ok(number) = which.parse::<u64>()
            && let Some(build) = history.iter().find(|build| build.number == number)
        {
            let Some(directory) = published_of(build) else {
                return Err(failed(format!("build {number} of `{image}` published nothing"), Exit::Input));
            };
            return match directory.is_dir() {
                true => Ok(place(directory.to_owned())),
                false => Err(gone(format!("the artefacts of build {number} no longer exist"))),
            };
        }
        let directory = builds.join(which);
        match directory.join("build.json").is_file() && !which.contains('/') {
            true => Ok(place(directory)),
            false => Err(gone(format!("there is no build `{which}` of `{image}`"))),
        }
    }
}

fn published_of(build: &PastBuild) -> Option<&Path> {
    build.end.as_ref()?.published.as_deref()
}

/// The newest directory of builds but for one.
fn newest_but(builds: &Path, current: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(builds).ok()?.flatten();
    let others = entries.map(|entry| entry.path()).filter(|path| path != current && path.join("build.json").is_file());
    others.max_by_key(|path| std::fs::metadata(path).and_then(|found| found.modified()).ok())
}

/// Refuses a recipe's directory that has locks of variants: none of them speaks for the others.
fn one_lock(text: &str, mut names: Vec<String>) -> Result<(), Exit> {
    let is_recipe = names.iter().any(|name| name == RECIPE_FILE || name == KDL_RECIPE_FILE);
    names.retain(|name| name.starts_with("image.") && name.ends_with(".lock"));
    names.sort();
    if !is_recipe || !names.iter().any(|name| name != LOCK_FILE) {
        return Ok(());
    }
    let text = text.trim_end_matches('/');
    let place = |name: &String| if text.ends_with(':') { format!("{text}{name}") } else { format!("{text}/{name}") };
    let places: Vec<String> = names.iter().map(place).collect();
    Err(failed(
        format!("error: `{text}` has a lock for each variant: name one, on both sides ({})", places.join(", ")),
        Exit::Input,
    ))
}

/// image.lock of a recipe at a revision; the path is that of the recipe or of the lock, relative to where imgbuild stands.
fn git_lock(directory: &Path, revision: &str, path: &str) -> Result<Vec<u8>, Exit> {
    let refused = |error: GitError| {
        render::refused(if matches!(error, GitError::NoRevision(_)) { Exit::Usage } else { Exit::Input }, error)
    };
    let repository = Repository::around(directory).map_err(refused)?;
    let commit = repository.commit(revision).map_err(refused)?;
    // What was there need not be there now, so that the path is put together by its words.
    let here = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let mut whole = here.strip_prefix(repository.root()).map(Path::to_owned).unwrap_or_default();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => whole.push(name),
            Component::ParentDir if whole.pop() => {}
            Component::CurDir => {}
            _ => return Err(failed(format!("`{path}` escapes the repository"), Exit::Input)),
        }
    }
    if !path.ends_with(".lock") {
        one_lock(&format!("{revision}:{path}"), repository.names(&commit, &whole).map_err(refused)?)?;
        whole.push(LOCK_FILE);
    }
    match repository.file(&commit, &whole).map_err(refused)? {
        Some(bytes) => Ok(bytes),
        None => Err(failed(format!("there is no `{}` at `{revision}`", whole.display()), Exit::Input)),
    }
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Exit {
    match difference(arguments, own) {
        Ok(found) => {
            let format = if own.json { Format::Json } else { own.format };
            match format {
                Format::Json => {
                    render::print_json(&format!("{}\n", serde_json::to_string_pretty(&found).unwrap_or_default()))
                }
                Format::Text => render::print(&text(&found, arguments.verbose)),
                Format::Markdown => render::print(&markdown(&found)),
            }
            if own.detailed_exitcode && !found.same { Exit::Work } else { Exit::Done }
        }
        Err(exit) => exit,
    }
}

fn difference(arguments: &crate::Arguments, own: &Arguments) -> Result<Difference, Exit> {
    let store = Store::existing(&store_directory(arguments)?);
    let resolver = Resolver { arguments, out: own.out.clone(), store, recipes: std::cell::OnceCell::new() };
    let (named_a, named_b) = operands(&own.a, own.b.as_deref())?;
    let (a, b) = (resolver.resolve(&named_a)?, resolver.resolve(&named_b)?);
    let (a, b) = match (&a, &b) {
        (Operand::Build(a), Operand::Build(b)) => matched(a, b, &resolver.store).map_err(unreadable)?,
        _ => (side(&a, &named_a)?, side(&b, &named_b)?),
    };
    Ok(compare(&a, &b))
}

/// Both operands; of an image alone its build before and its current one, of one of its builds that and the current one.
fn operands(a: &str, b: Option<&str>) -> Result<(String, String), Exit> {
    if let Some(b) = b {
        return Ok((a.to_owned(), b.to_owned()));
    }
    if a.contains(['/', ':']) {
        return Err(failed(
            format!("error: name what `{a}` is to be compared with: imgbuild diff {a} OTHER"),
            Exit::Usage,
        ));
    }
    let name = a.split_once('@').map_or(a, |(name, _)| name);
    let before = if name == a { format!("{a}@previous") } else { a.to_owned() };
    Ok((before, name.to_owned()))
}

fn side(operand: &Operand, name: &str) -> Result<Side, Exit> {
    match operand {
        Operand::Lock(text) => Side::of_lock(name, text.clone()),
        Operand::Path(path) => Side::of_path(name, path),
        Operand::Build(build) => Side::of_path(name, &build.directory),
    }
    .map_err(unreadable)
}

struct Section {
    title: String,
    lines: Vec<String>,
}

/// How many lines of a section are shown to people before the rest is folded.
const SHOWN: usize = 20;

fn change(was: u64, now: u64) -> String {
    let sign = if now >= was { "+" } else { "-" };
    format!("{} -> {} ({sign}{})", render::bytes(was), render::bytes(now), render::bytes(was.abs_diff(now)))
}

fn sections(found: &Difference) -> Vec<Section> {
    let mut all = Vec::new();
    let mut add = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            all.push(Section { title: format!("{title} ({})", lines.len()), lines });
        }
    };
    if let Some(packages) = &found.packages {
        let one = |package: &build::diff::Package| format!("{} {} ({})", package.name, package.version, package.arch);
        let two = |package: &build::diff::MovedPackage| format!("{} {} -> {}", package.name, package.was, package.now);
        add("packages added", packages.added.iter().map(one).collect());
        add("packages removed", packages.removed.iter().map(one).collect());
        add("packages upgraded", packages.upgraded.iter().map(two).collect());
        add("packages downgraded", packages.downgraded.iter().map(two).collect());
        add("packages of the same version with different content", packages.changed.iter().map(one).collect());
    }
    let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    if let Some(release) = &found.kernel_release {
        add("kernel", vec![format!("{} -> {}", or_none(&release.was), or_none(&release.now))]);
    }
    if let Some(words) = &found.cmdline {
        add("kernel command line", vec![format!("{} -> {}", or_none(&words.was), or_none(&words.now))]);
    }
    if let Some(modules) = &found.modules {
        add("kernel modules added", modules.added.clone());
        add("kernel modules removed", modules.removed.clone());
        add("kernel modules changed", modules.changed.clone());
    }
    let services = found.services.iter().flatten();
    let service = |one: &build::diff::ServiceDifference| {
        let off = |state: &Option<String>| state.clone().unwrap_or_else(|| "not enabled".to_owned());
        format!("{}: {} -> {}", one.service, off(&one.was), off(&one.now))
    };
    add("services", services.map(service).collect());
    let size = |size: Option<u64>| size.map_or_else(|| "none".to_owned(), render::bytes);
    let artefact = |one: &build::diff::ArtefactDifference| match (one.was, one.now) {
        (Some(was), Some(now)) if was == now => format!("{}: {} with different content", one.name, render::bytes(was)),
        (Some(was), Some(now)) => format!("{}: {}", one.name, change(was, now)),
        (was, now) => format!("{}: {} -> {}", one.name, size(was), size(now)),
    };
    add("artefacts", found.artefacts.iter().flatten().map(artefact).collect());
    if let Some(files) = &found.files {
        files_sections(files, &mut add);
    }
    all
}

fn files_sections(files: &FileDifference, add: &mut dyn FnMut(&str, Vec<String>)) {
    let one = |file: &build::diff::ListedFile| match file.kind.as_str() {
        "file" => format!("{}  {} {} {}", file.path, render::bytes(file.size), file.mode, file.owner),
        kind => format!("{}  {kind} {} {}", file.path, file.mode, file.owner),
    };
    let changed = |file: &build::diff::ChangedFile| {
        let mut parts = Vec::new();
        for (name, values) in &file.changes {
            let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
            match name.as_str() {
                "content" if file.changes.contains_key("size") => {}
                "content" => parts.push("content".to_owned()),
                "size" => {
                    let number =
                        |value: &Option<String>| value.as_ref().and_then(|text| text.parse().ok()).unwrap_or(0);
                    parts.push(change(number(&values.was), number(&values.now)));
                }
                name => parts.push(format!("{name} {} -> {}", value(&values.was), value(&values.now))),
            }
        }
        format!("{}  {}", file.path, parts.join(", "))
    };
    add("files added", files.added.iter().map(one).collect());
    add("files removed", files.removed.iter().map(one).collect());
    add("files changed", files.changed.iter().map(changed).collect());
    if files.bytes_was != files.bytes_now {
        add("bytes of all files", vec![change(files.bytes_was, files.bytes_now)]);
    }
}

fn text(found: &Difference, verbose: u8) -> String {
    let mut text = format!("{} -> {}\n", found.a.name, found.b.name);
    if found.same {
        text.push_str("  no differences in what was compared\n");
    }
    let most = if verbose > 0 { usize::MAX } else { SHOWN };
    for section in sections(found) {
        text.push_str(&format!("  {}\n", section.title));
        for line in section.lines.iter().take(most) {
            push_line(&mut text, &format!("    {line}"));
        }
        if section.lines.len() > most {
            text.push_str(&format!("    and {} more (-v and --json show all)\n", section.lines.len() - most));
        }
    }
    for line in &found.not_compared {
        push_line(&mut text, &format!("  not compared: {line}"));
    }
    text
}

/// What Markdown would take for more than text.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in one_line(text).chars() {
        if "\\`*_{}[]<>#|~&!".contains(character) {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

fn markdown(found: &Difference) -> String {
    let mut text = format!("### {} -> {}\n\n", plain(&found.a.name), plain(&found.b.name));
    if found.same {
        text.push_str("The same in all that was compared.\n");
    }
    for section in sections(found) {
        let lines: String = section.lines.iter().map(|line| format!("- {}\n", plain(line))).collect();
        if section.lines.len() > SHOWN {
            text.push_str(&format!("<details><summary>{}</summary>\n\n{lines}\n</details>\n\n", section.title));
        } else {
            text.push_str(&format!("**{}**\n\n{lines}\n", section.title));
        }
    }
    for line in &found.not_compared {
        text.push_str(&format!("Not compared: {}\n\n", plain(line)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_alone_is_compared_with_its_build_before() {
        let of = |a: &str, b| operands(a, b).ok();
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(of("compute", None), pair("compute@previous", "compute"));
        assert_eq!(of("compute@3", None), pair("compute@3", "compute"));
        assert_eq!(of("compute@3", Some("x")), pair("compute@3", "x"));
        assert_eq!(of("out/compute", None), None);
        assert_eq!(of("HEAD:image.lock", None), None);
    }
}
