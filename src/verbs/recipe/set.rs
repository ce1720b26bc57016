//! `imgbuild set`: changes values of a recipe in place.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::Exit;
use crate::output::render;
use crate::recipe_lock::RecipeLock;
use crate::setup::{named_draft, print_findings};
use crate::verbs::nodes::set::{means_nodes, run as set_nodes};
use base::source::{Finding, Severity, nearest};
use files::{Aside, Durability};
use recipe::{Change, Draft, Edit, Editable, FieldPath, Overlay, Spans, known, load_draft, once};

/// Arguments of `set`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The image; `.` for the recipe in the current directory; or nodes as a node set: cn[001-040], @compute for the group
    #[arg(value_name = "IMAGE|RANGE")]
    pub image: String,
    /// PATH=VALUE, or PATH+=ITEM and PATH-=ITEM for lists
    #[arg(value_name = "CHANGE", required_unless_present = "unset")]
    pub changes: Vec<String>,
    /// Remove a value; repeatable
    #[arg(long, value_name = "PATH")]
    pub unset: Vec<String>,
    /// Change an inherited value in the file that sets it, for all recipes that inherit it
    #[arg(long = "in", value_name = "FILE", conflicts_with = "overriding")]
    pub file: Option<PathBuf>,
    /// Override an inherited value in the image's own file
    #[arg(long = "override")]
    pub overriding: bool,
    /// The name is that of nodes, where an image is called so too
    #[arg(long, conflicts_with_all = ["file", "overriding"])]
    pub node: bool,
}

struct Target {
    path: PathBuf,
    name: String,
    /// Keys of the table that stands for the image: a variant's, or none.
    prefix: Vec<String>,
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Exit {
    let is_nodes = if own.node { Ok(true) } else { means_nodes(arguments, &own.image) };
    match is_nodes.map(|is_nodes| is_nodes.then(|| edits_of(own))) {
        Ok(None) => {}
        Ok(Some(Ok(edits))) => return set_nodes(arguments, &own.image, &edits),
        Ok(Some(Err((problem, exit)))) => {
            render::say(&format!("error: {problem}"));
            return exit;
        }
        Err(problem) => {
            render::say(&format!("error: {problem}"));
            return Exit::Usage;
        }
    }
    match set(arguments, own) {
        Ok(()) => Exit::Done,
        Err((problem, exit)) => {
            if !problem.is_empty() {
                render::say(&format!("error: {problem}"));
            }
            exit
        }
    }
}

type Failed = (String, Exit);

fn input(problem: impl Into<String>) -> Failed {
    (problem.into(), Exit::Input)
}

fn edits_of(own: &Arguments) -> Result<Vec<Edit>, Failed> {
    let mut edits = Vec::new();
    for text in &own.changes {
        edits.push(Edit::parse(text).map_err(|problem| (problem, Exit::Usage))?);
    }
    for text in &own.unset {
        let path = FieldPath::parse(text).map_err(|problem| (problem, Exit::Usage))?;
        edits.push(Edit { path, change: Change::Unset });
    }
    Ok(edits)
}

fn set(arguments: &crate::Arguments, own: &Arguments) -> Result<(), Failed> {
    let edits = edits_of(own)?;
    let _turn = RecipeLock::take(&arguments.directory);
    // Someone who takes no turn, such as an editor, may write in between: then the change is made of what is there.
    for _ in 0..TRIES {
        match once_set(arguments, own, &edits)? {
            Outcome::Unchanged => {
                render::say("nothing changed");
                return Ok(());
            }
            Outcome::Written(name) => {
                render::say(&format!("{name} was changed: `imgbuild plan` shows what that rebuilds"));
                return Ok(());
            }
            Outcome::Overtaken => {}
        }
    }
    Err(input("another process keeps changing the file: nothing was changed"))
}

/// How often a change is recreated because the file was written meanwhile.
const TRIES: usize = 20;

/// What came of reading, editing and writing a file.
enum Outcome {
    Unchanged,
    /// The file, as messages call it.
    Written(String),
    /// The file is no longer what was read.
    Overtaken,
}

fn once_set(arguments: &crate::Arguments, own: &Arguments, edits: &[Edit]) -> Result<Outcome, Failed> {
    let (_, draft) = named_draft(arguments, &own.image).map_err(|exit| (String::new(), exit))?;
    let target = target(own, &draft)?;
    let text = std::fs::read_to_string(&target.path).map_err(|error| input(format!("{}: {error}", target.name)))?;
    let mut document =
        Editable::read(&target.name, &text).map_err(|problem| input(format!("{}: {problem}", target.name)))?;
    let prefix: Vec<&str> = target.prefix.iter().map(String::as_str).collect();
    let spans = Spans::of(&draft.document);
    for one in edits {
        let change =
            if own.file.is_some() { one.clone() } else { allowed(one, &document, &prefix, &spans, &draft, own)? };
        let in_removal = &change != one;
        let outer = if in_removal { [prefix.as_slice(), &["remove"]].concat() } else { prefix.clone() };
        let outcome =
            if in_removal { removal(&mut document, &outer, &change) } else { document.apply(&outer, &change) };
        outcome.map_err(input)?;
    }
    let after = document.text();
    if after == text {
        return Ok(Outcome::Unchanged);
    }
    check(arguments, &target, &after)?;
    let written = write(&target.path, &text, &after);
    match written.map_err(|error| (format!("cannot write {}: {error}", target.name), Exit::Machine))? {
        true => Ok(Outcome::Written(target.name)),
        false => Ok(Outcome::Overtaken),
    }
}

fn target(own: &Arguments, draft: &Draft) -> Result<Target, Failed> {
    let last = draft.files.last().ok_or_else(|| input("the image has no file"))?;
    let Some(wanted) = &own.file else {
        let prefix = draft.variant.iter().flat_map(|name| ["variant".to_owned(), name.clone()]).collect();
        return Ok(Target { path: last.path.clone(), name: last.name.clone(), prefix });
    };
    let real = [wanted.clone(), draft.directory.join(wanted)].into_iter().find_map(|path| path.canonicalize().ok());
    let found = draft
        .files
        .iter()
        .find(|file| real.as_deref().is_some_and(|real| file.path.canonicalize().is_ok_and(|path| path == real)));
    let found = found.ok_or_else(|| {
        let names: Vec<&str> = draft.files.iter().map(|file| file.name.as_str()).collect();
        input(format!("the image is not made from `{}`, but from {}", wanted.display(), names.join(", ")))
    })?;
    Ok(Target { path: found.path.clone(), name: found.name.clone(), prefix: Vec::new() })
}

/// The change that the image's own file allows; one of an inherited value needs a word of its own.
fn allowed(
    one: &Edit,
    document: &Editable,
    prefix: &[&str],
    spans: &Spans,
    draft: &Draft,
    own: &Arguments,
) -> Result<Edit, Failed> {
    one.path.field().map_err(input)?;
    let plain = one.path.plain();
    let keys = one.path.keys().ok_or_else(|| input("a list item has no path of its own: use += and -="))?;
    let keys = [prefix, &keys].concat();
    let json = draft.document.to_json();
    let value = one.path.of(&json);
    let (is_own, inherited_at, what) = match &one.change {
        Change::Append(_) => return Ok(one.clone()),
        Change::Take(item) => {
            let items = value.and_then(|value| value.as_array()).cloned().unwrap_or_default();
            let at = items.iter().position(|known| known.as_str() == Some(item));
            let Some(at) = at else {
                let near = nearest(item, items.iter().filter_map(|item| item.as_str()));
                let near = near.first().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                return Err(input(format!("`{plain}` has no `{item}`{near}")));
            };
            let is_own = document.holds(&keys, item);
            (is_own, format!("{plain}[{at}]"), format!("the item `{item}` of `{plain}`"))
        }
        Change::Set(_) | Change::Unset => {
            let is_own = document.has(&keys);
            (is_own, plain.clone(), format!("`{plain}`"))
        }
    };
    let Some(span) = spans.get(&inherited_at).filter(|_| !is_own) else { return Ok(one.clone()) };
    if !own.overriding {
        let shared = if draft.variant.is_some() && span.file.path.parent() == Some(&draft.directory) {
            "which all variants share"
        } else {
            "which the image inherits"
        };
        return Err(input(format!(
            "{what} is written at {}:{}, {shared}\n  --in {} changes it there, --override overrides it for this image only",
            span.file.name,
            span.line(),
            span.file.name
        )));
    }
    Ok(match &one.change {
        Change::Set(text) if value.is_some_and(serde_json::Value::is_array) => {
            return Err(input(format!(
                "lists append: remove the inherited item first (--override '{plain}-=ITEM'), then add ({plain}+={text})"
            )));
        }
        Change::Take(item) => Edit { path: one.path.clone(), change: Change::Append(item.clone()) },
        Change::Unset => Edit { path: one.path.clone(), change: Change::Set("true".to_owned()) },
        _ => one.clone(),
    })
}

/// Writes into `[remove]`: an item of a list, or `true` for a whole key.
fn removal(document: &mut Editable, outer: &[&str], change: &Edit) -> Result<(), String> {
    let keys = change.path.keys().ok_or("a list item has no path of its own")?;
    document.put_removal(
        &[outer, &keys].concat(),
        match &change.change {
            Change::Append(item) => Some(item),
            _ => None,
        },
    )
}

/// What is wrong with images that the file has a part in.
fn problems(arguments: &crate::Arguments, target: &Target, overlay: &Overlay) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Those of the workspace, and the recipe where one stands, which it may not name.
    for wants_all in [true, false] {
        match known(&arguments.directory, wants_all, overlay) {
            Ok(known) => {
                findings.extend(known.broken.iter().flat_map(|(_, findings)| findings.clone()));
                let of_file = |draft: &&Draft| draft.files.iter().any(|file| file.path == target.path);
                for draft in known.images().filter(of_file) {
                    findings.extend(load_draft(draft, known.workspace.as_deref()).findings);
                }
            }
            Err(found) => findings.extend(found),
        }
    }
    findings.retain(|finding| finding.severity == Severity::Error);
    findings
}

/// Reads every image that the file has a part in, as it would be; what would be wrong again is reported.
fn check(arguments: &crate::Arguments, target: &Target, text: &str) -> Result<(), Failed> {
    let said = |finding: &Finding| (finding.code, finding.message.clone());
    let before: BTreeSet<_> = problems(arguments, target, &Overlay::new()).iter().map(said).collect();
    let mut new = problems(arguments, target, &Overlay::from([(target.path.clone(), text.to_owned())]));
    new.retain(|finding| !before.contains(&said(finding)));
    once(&mut new);
    if new.is_empty() {
        return Ok(());
    }
    print_findings(&new, arguments.verbose);
    Err(input(format!("{} was not changed: the recipe would be invalid", target.name)))
}

/// Writes aside, with the file's own mode, and renames into place, unless the file holds something else than it did; whether
/// it was written.
pub(crate) fn write(path: &Path, was: &str, text: &str) -> std::io::Result<bool> {
    let real = path.canonicalize()?;
    let mut aside = Aside::of(&real, 0o600)?;
    aside.as_file().set_permissions(std::fs::metadata(&real)?.permissions())?;
    aside.write_all(text.as_bytes())?;
    if std::fs::read(&real)? != was.as_bytes() {
        return Ok(false);
    }
    aside.replace(Durability::PowerCut).map(|()| true)
}
