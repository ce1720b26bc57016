//! Builds an image a second time in an empty store beside, and says what is not the same (D8).

use crate::builder::locking::relock::read_lock;
use std::path::PathBuf;
use std::sync::Arc;

use crate::StageError;
use crate::bench::results::Done;
use crate::builder::run::{Builder, Options, Summary};
use crate::builder::shared::SharedBuild;
use base::source::{Finding, Severity};
use files::sweep::Held;
use node_words::name::shown;
use plan::Action;
use store::{Entry, Kind, Manifest, Outputs, Store};

/// Start of the names of stores for second builds, beside the store's own directory.
const BESIDE: &str = ".imgbuild-verify-";

/// Builds, then builds everything again without any earlier result, and compares.
/// Errors: [`StageError::NotReproducible`] with the first file that differs, and how; what the first build published stays.
pub(crate) fn build_and_verify(builder: &Builder<'_>) -> Result<Summary, StageError> {
    let (summary, work) = builder.build_keeping_work()?;
    let Some(lock) = read_lock(builder)? else { return Ok(summary) };
    builder.report.progress("building again in an empty store");
    let parent = builder.store.directory().parent().unwrap_or(builder.store.directory());
    let said =
        |source| StageError::Publish { intent: "create a directory in", path: parent.display().to_string(), source };
    let beside = Held::below(parent, BESIDE).map_err(said)?;
    let store = Store::open(beside.path(), &builder.namespace.map().to_string(), builder.namespace.map().root())?;
    for package in lock.pass.iter().flat_map(|pass| &pass.packages) {
        let (from, to) = (builder.store.package(&package.sha256), store.package(&package.sha256));
        // What cannot be linked is fetched again.
        let parent = to.parent().map(PathBuf::from).unwrap_or_default();
        let _ = std::fs::create_dir_all(parent).and_then(|()| std::fs::hard_link(from, to));
    }
    let namespace = builder.namespace.in_directory(store.directory());
    let shared = SharedBuild::with_budget(&store, Arc::clone(&builder.shared.budget), false)?;
    let second = Builder::new(
        builder.recipe,
        (&store, &namespace),
        Options {
            locked: true,
            until: builder.options.until,
            out: beside.path().join("out"),
            places: builder.options.places.clone(),
            ..Options::default()
        },
        builder.report,
        &shared,
    );
    let outcome = second.build_keeping_work();
    let difference = outcome.and_then(|(_, again)| {
        let actions: Vec<&Action> = work.stages.graph.in_order().collect();
        first_difference(&actions, (builder.store, &work.done), (&store, &again.done))
    });
    // Layers belong to root inside, who has to remove them.
    let all: Vec<String> = store::TREE_DIRECTORIES.iter().map(|name| (*name).to_owned()).collect();
    let _ = crate::inside::removal::remove_inside(&store, &namespace, all);
    let Some((action, text, outputs)) = difference? else {
        let said = "a second build in an empty store gave the same bytes".to_owned();
        builder.report.finding(&Finding::nowhere(Severity::Note, "verify::same", said));
        return Ok(summary);
    };
    if let Some(one) = work.finished.get(&action) {
        builder.store.set_differing(&one.key, outputs, &text)?;
    }
    Err(StageError::NotReproducible { action, text })
}

/// The first action whose results differ: its id, what differs, and the second results.
fn first_difference(
    actions: &[&Action],
    first: (&Store, &Done),
    second: (&Store, &Done),
) -> Result<Option<(String, String, Outputs)>, StageError> {
    for action in actions {
        let (Some(one), Some(two)) = (first.1.0.get(&action.id), second.1.0.get(&action.id)) else { continue };
        if one == two {
            continue;
        }
        let text = match (one.layer, two.layer) {
            (Some(one), Some(two)) if one != two => {
                between(&first.0.manifest(&one)?, &second.0.manifest(&two)?).unwrap_or_else(|| "its layer".to_owned())
            }
            _ => other_difference(one, two),
        };
        return Ok(Some((action.id.clone(), text, two.clone())));
    }
    Ok(None)
}

fn other_difference(one: &Outputs, two: &Outputs) -> String {
    if let Some((name, blob)) = one.blobs.iter().find(|(name, blob)| two.blobs.get(*name) != Some(blob)) {
        let size = two.blobs.get(name).map_or(0, |blob| blob.size);
        return format!("the file `{name}` ({} bytes, then {size})", blob.size);
    }
    if let Some(at) = one.frames.iter().zip(&two.frames).position(|(one, two)| one != two) {
        return format!("frame {} of the archive", at + 1);
    }
    let names = one.values.keys().chain(two.values.keys());
    let value = |outputs: &Outputs, name: &str| outputs.values.get(name).cloned().unwrap_or("nothing".to_owned());
    match names.into_iter().find(|name| one.values.get(*name) != two.values.get(*name)) {
        Some(name) => format!("`{name}`: {}, then {}", value(one, name), value(two, name)),
        None => "the number of frames".to_owned(),
    }
}

/// The first path in which two layers differ, and how.
fn between(one: &Manifest, two: &Manifest) -> Option<String> {
    for (path, entry) in &one.0 {
        match two.0.get(path) {
            None => return Some(format!("`{path}` is missing the second time", path = shown(path))),
            Some(other) if other != entry => {
                return Some(format!("`{path}` {}", how(entry, other), path = shown(path)));
            }
            Some(_) => {}
        }
    }
    two.0
        .keys()
        .find(|path| !one.0.contains_key(*path))
        .map(|path| format!("`{path}` exists only the second time", path = shown(path)))
}

fn how(one: &Entry, two: &Entry) -> String {
    match (&one.kind, &two.kind) {
        (Kind::File { size: a, digest: x }, Kind::File { size: b, digest: y }) if x != y => {
            return format!("has different content ({a} bytes, then {b})");
        }
        (Kind::Symlink(a), Kind::Symlink(b)) if a != b => return format!("points to `{a}`, then to `{b}`"),
        (a, b) if std::mem::discriminant(a) != std::mem::discriminant(b) => return "has a different type".to_owned(),
        _ => {}
    }
    if one.mode != two.mode {
        return format!("has the mode {:04o}, then {:04o}", one.mode, two.mode);
    }
    if (one.uid, one.gid) != (two.uid, two.gid) {
        return format!("belongs to {}:{}, then to {}:{}", one.uid, one.gid, two.uid, two.gid);
    }
    if one.mtime != two.mtime {
        return format!("has the time {}, then {}", one.mtime, two.mtime);
    }
    if one.link_group != two.link_group { "has different hard links" } else { "has different extended attributes" }
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::digest::Digest;

    #[test]
    fn the_first_path_that_differs_is_named_with_how() {
        let file = |text: &str| Entry {
            kind: Kind::File { size: text.len() as u64, digest: Digest::of(text.as_bytes()) },
            mode: 0o644,
            ..Entry::whiteout()
        };
        let one = Manifest([("a".to_owned(), file("x")), ("b".to_owned(), file("x"))].into());
        let mut two = one.clone();
        assert_eq!(between(&one, &two), None);
        two.0.insert("b".to_owned(), Entry { mode: 0o600, ..file("x") });
        assert_eq!(between(&one, &two).unwrap(), "`b` has the mode 0644, then 0600");
        two.0.insert("b".to_owned(), file("yy"));
        assert_eq!(between(&one, &two).unwrap(), "`b` has different content (1 bytes, then 2)");
        two.0.insert("b".to_owned(), Entry { mtime: 7, ..file("x") });
        assert_eq!(between(&one, &two).unwrap(), "`b` has the time 0, then 7");
        two.0.remove("b");
        assert_eq!(between(&one, &two).unwrap(), "`b` is missing the second time");
        assert_eq!(between(&two, &one).unwrap(), "`b` exists only the second time");
    }
}
