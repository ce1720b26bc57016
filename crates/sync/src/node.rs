//! One node: what it has is compared with what it is to have, and what differs is sent.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::connection::{Connection, unclear};
use super::order::again;
use super::packages::install;
use super::stream::{Bytes, Entry, aside, records, send};
use super::wanted::{Folder, Item, Job, Script, in_home, names, owner_of, sha256_of};
use super::words::{encoded, path_of};
use super::{Answer, Change, Executed, What};
use base::source::Span;
use recipe::{Clause, SyncedKind};
use xcat::{appended_once, merged};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They are only asked.
    Look,
    Write,
}

#[derive(Debug, Clone, Default)]
struct Found {
    kind: char,
    /// Where the destination leads to.
    place: PathBuf,
    mode: u32,
    uid: u64,
    gid: u64,
    sha256: String,
    content: Vec<u8>,
    /// What an earlier sync appended.
    appended: Option<Vec<u8>>,
    /// User and group that it is to have.
    owner: (u64, u64),
}

pub(crate) struct Put {
    pub entry: Entry,
    pub sha256: String,
    /// The digest of what it replaces, where it was made of that.
    pub guard: Option<String>,
    /// The source, for scripts that run after its change.
    pub source: Option<PathBuf>,
}

fn at(span: &Span) -> String {
    span.to_string()
}

/// Brings a node up to date, or looks.
/// Errors: What went wrong, before anything was changed or in the middle; the answer has what was known until then.
pub(crate) fn bring(
    connection: &mut Connection,
    job: &Job,
    mode: Mode,
    until: Instant,
    answer: &mut Answer,
) -> Result<(), String> {
    connection.greet()?;
    // In the order of xCAT's updatenode; what fails stops what is behind it.
    if !(job.items.is_empty() && job.scripts.is_empty()) {
        files(connection, job, mode, answer)?;
    }
    if let Some(packages) = &job.packages {
        install(connection, packages, mode, answer)?;
    }
    if let Some(order) = job.order.as_ref().filter(|order| !order.is_empty()) {
        // The runner ends scripts by itself, and has a moment to say so.
        let left = until.saturating_duration_since(Instant::now()).as_secs().saturating_sub(TO_SAY_SO).max(1);
        again(connection, order, mode, left, answer)?;
    }
    connection.close();
    Ok(())
}

/// Seconds that the node has at the end to say what became of its scripts.
const TO_SAY_SO: u64 = 4;

fn files(connection: &mut Connection, job: &Job, mode: Mode, answer: &mut Answer) -> Result<(), String> {
    let all: Vec<&Item> = job.items.iter().map(Arc::as_ref).collect();
    let (mut found, pending) = ask(connection, &all, &job.scripts)?;
    let (directories, mut puts) = compared(&all, &found, answer)?;
    let copies = puts.len();
    let mut texts = added(&all, &found, mode, answer)?;
    let changed: BTreeSet<&Path> = puts.iter().filter_map(|put| put.source.as_deref()).collect();
    let due: Vec<&Script> = due(&job.scripts, &changed, &pending, answer);
    if mode == Mode::Look {
        let would =
            |script: &&Script| Executed { name: script.name.clone(), exit: 0, reason: None, output: String::new() };
        answer.scripts = due.iter().map(would).collect();
        return Ok(());
    }
    connection.send("s\n")?;
    let mut work = None;
    if !directories.is_empty() || !puts.is_empty() || !due.is_empty() {
        let run = opened(connection)?;
        let mut before = String::new();
        for (number, directory) in directories.iter().enumerate() {
            let Folder { path, mode, owner: (uid, gid) } = directory;
            before.push_str(&format!("m {} {} {mode:o} {uid}:{gid}\n", copies + number, encoded(path)));
        }
        for script in due.iter().filter(|script| script.after.is_some()) {
            before.push_str(&format!("p {}\n", script.key));
        }
        let scripts = due.iter().enumerate().map(|(number, script)| Entry {
            path: run.join(format!("script.{number}")),
            mode: 0o700,
            uid: 0,
            gid: 0,
            bytes: Bytes::Text(Arc::new(script.bytes.clone())),
        });
        let others: Vec<Entry> = scripts.collect();
        put(connection, &before, &mut puts, &others, 0)?;
        for (number, script) in due.iter().enumerate() {
            answer.scripts.push(execute(connection, script, &run.join(format!("script.{number}")))?);
        }
        // They may have changed what is added to.
        if !due.is_empty() && all.iter().any(|item| item.clause != Clause::Copy) {
            (found, _) = ask(connection, &all, &[])?;
            let mut later = Answer::default();
            texts = added(&all, &found, mode, &mut later)?;
            answer.changes.retain(|change| !change.what.iter().any(|what| matches!(what, What::Append | What::Merge)));
            answer.changes.append(&mut later.changes);
        }
        work = Some(run);
    }
    if !texts.is_empty() {
        if work.is_none() {
            opened(connection)?;
        }
        put(connection, "k\n", &mut texts, &[], copies)?;
    }
    if let Some(failed) = answer.scripts.iter().find(|script| script.exit != 0) {
        let last = failed.output.trim().lines().next_back().map(|line| format!(": {line}")).unwrap_or_default();
        return Err(format!("{} exited with {}{last}", failed.name, failed.exit));
    }
    Ok(())
}

/// Makes the node's directory for what is on its way.
pub(crate) fn opened(connection: &mut Connection) -> Result<PathBuf, String> {
    connection.send("o\n")?;
    match connection.words()?.as_slice() {
        [word, path] if word == "o" => Ok(PathBuf::from(path)),
        _ => Err(format!("{} cannot be created on the node", connection.state)),
    }
}

/// Asks what is at the destinations, and which scripts the node has still to run.
fn ask(
    connection: &mut Connection,
    items: &[&Item],
    scripts: &[Arc<Script>],
) -> Result<(Vec<Found>, BTreeSet<String>), String> {
    let mut text = String::new();
    for (index, item) in items.iter().enumerate() {
        let kind = match (item.kind, item.clause) {
            (SyncedKind::Directory, _) => 'd',
            (SyncedKind::File, Clause::Copy) => 'f',
            (SyncedKind::File, _) => 'c',
        };
        let name = item.name_in_folder.as_ref().map_or_else(|| "-".to_owned(), |name| encoded(Path::new(name)));
        text.push_str(&format!("a {index} {kind} {} {name} {}\n", encoded(&item.destination), item.key));
    }
    for script in scripts.iter().filter(|script| script.after.is_some()) {
        text.push_str(&format!("q {}\n", script.key));
    }
    for (kind, name) in names(items) {
        text.push_str(&format!("i {kind} {}\n", encoded(Path::new(name))));
    }
    text.push_str(".\n");
    connection.ask(text, |connection| answers(connection, items))
}

fn answers(connection: &mut Connection, items: &[&Item]) -> Result<(Vec<Found>, BTreeSet<String>), String> {
    let mut numbers: BTreeMap<(char, String), u64> = BTreeMap::new();
    let mut found: Vec<Found> = vec![Found::default(); items.len()];
    let (mut files, mut pending): (Vec<usize>, _) = (Vec::new(), BTreeSet::new());
    loop {
        let line = connection.line()?;
        let text = String::from_utf8_lossy(&line).into_owned();
        let words: Vec<&str> = text.split(' ').collect();
        let number = |text: &str| text.parse::<usize>().ok().filter(|index| *index < items.len());
        match words.as_slice() {
            ["ok"] => {
                for (item, found) in items.iter().zip(&mut found) {
                    found.owner = owner_of(item, &numbers)?;
                }
                return Ok((found, pending));
            }
            ["i", kind, name, number] => {
                connection.spend(name.len())?;
                let name = path_of(name.as_bytes())?.to_string_lossy().into_owned();
                if let (Some(kind), Some(number)) = (kind.chars().next(), number.parse::<u32>().ok()) {
                    numbers.insert((kind, name), u64::from(number));
                }
            }
            ["q", key] => {
                connection.spend(key.len())?;
                pending.insert((*key).to_owned());
            }
            ["F", count] => {
                let files = std::mem::take(&mut files);
                let (facts, digests) = (connection.lines()?, connection.lines()?);
                let is_whole = count.parse() == Ok(files.len()) && facts.len() == files.len();
                if !is_whole || digests.len() != files.len() {
                    return Err("files changed while they were looked at: try again".to_owned());
                }
                for ((index, facts), digest) in files.into_iter().zip(facts).zip(digests) {
                    let one = &mut found[index];
                    let facts = String::from_utf8_lossy(&facts).into_owned();
                    let facts: Vec<&str> = facts.split(' ').collect();
                    let [mode, uid, gid] = facts.as_slice() else { return Err(unclear(&facts.join(" "))) };
                    let wrong = |_| unclear(&facts.join(" "));
                    one.mode = u32::from_str_radix(mode, 8).map_err(wrong)?;
                    (one.uid, one.gid) = (uid.parse().map_err(wrong)?, gid.parse().map_err(wrong)?);
                    let digest = String::from_utf8_lossy(&digest).into_owned();
                    // A name with odd letters has a backslash before the digest.
                    let digest = digest.trim_start_matches('\\').split(' ').next().unwrap_or_default().to_owned();
                    one.sha256 = digest;
                }
            }
            ["c", index] if number(index).is_some() => {
                let bytes = connection.bytes()?;
                if let Some(one) = number(index).and_then(|index| found.get_mut(index)) {
                    one.content = bytes;
                }
            }
            ["k", index] if number(index).is_some() => {
                let bytes = connection.bytes()?;
                if let Some(one) = number(index).and_then(|index| found.get_mut(index)) {
                    one.appended = Some(bytes);
                }
            }
            [kind @ ("f" | "d" | "D" | "l" | "o" | "n" | "A" | "P"), index, place] if number(index).is_some() => {
                let Some(index) = number(index) else { continue };
                // Each is answered once.
                if found[index].kind != char::default() {
                    return Err(unclear(&text));
                }
                connection.spend(place.len())?;
                found[index].kind = kind.chars().next().unwrap_or('n');
                found[index].place = match *place {
                    "-" => items[index].destination.clone(),
                    place => path_of(place.as_bytes())?,
                };
                if *kind == "f" {
                    files.push(index);
                }
            }
            _ => return Err(unclear(&text)),
        }
    }
}

/// What keeps an item from its place, if something does.
fn obstacle(item: &Item, found: &Found) -> Option<String> {
    let (place, destination) = (found.place.display(), item.destination.display());
    Some(match (found.kind, item.kind, item.clause) {
        ('A', ..) => {
            format!("`{place}` is not a directory on the node, so nothing can be written below it ({})", item.span)
        }
        ('P', ..) => format!(
            "`{place}` is a link on the node that root did not make, or that lies in a directory of another user: it is not followed, so remove it, or name the file that it leads to ({})",
            item.span
        ),
        ('D', ..) => format!("`{place}` is a directory on the node ({})", item.span),
        ('o', ..) => format!("`{place}` is neither a file nor a directory on the node ({})", item.span),
        ('f' | 'l', SyncedKind::Directory, _) => {
            format!("`{destination}` is not a directory on the node ({})", item.span)
        }
        ('n' | 'l', SyncedKind::File, Clause::Append | Clause::Merge) => {
            format!("`{destination}` is not on the node, so nothing can be added to it ({})", item.span)
        }
        _ => return None,
    })
}

/// What differs of what is copied: directories to make, and files to put.
fn compared(items: &[&Item], found: &[Found], answer: &mut Answer) -> Result<(Vec<Folder>, Vec<Put>), String> {
    if let Some(problem) = items.iter().zip(found).find_map(|(item, found)| obstacle(item, found)) {
        return Err(problem);
    }
    // If several lines have one place, the last one counts, as in the image.
    let mut last: HashMap<&Path, usize> = HashMap::new();
    for (index, found) in found.iter().enumerate() {
        last.insert(&found.place, index);
    }
    let (mut directories, mut puts) = (Vec::new(), Vec::new());
    for (index, (item, found)) in items.iter().zip(found).enumerate() {
        if item.clause != Clause::Copy || last.get(found.place.as_path()) != Some(&index) {
            continue;
        }
        let Some(content) = &item.content else {
            if found.kind != 'd' {
                directories.extend(in_home(item, &found.place));
                directories.push(Folder { path: found.place.clone(), mode: item.mode, owner: found.owner });
                answer.changes.push(change(&found.place, vec![What::Missing], &item.span));
            }
            continue;
        };
        let what: Vec<What> = match found.kind {
            'f' => [
                (found.sha256 != content.sha256, What::Content),
                (found.mode != item.mode, What::Mode),
                ((found.uid, found.gid) != found.owner, What::Owner),
            ]
            .into_iter()
            .filter_map(|(differs, what)| differs.then_some(what))
            .collect(),
            'l' => vec![What::Link],
            _ => vec![What::Missing],
        };
        if what.is_empty() {
            continue;
        }
        if found.kind == 'n'
            && let Some(parent) = found.place.parent()
            && !directories.iter().any(|directory: &Folder| directory.path == parent)
        {
            directories.extend(in_home(item, &found.place));
            directories.push(Folder { path: parent.to_owned(), mode: 0o755, owner: (0, 0) });
        }
        let is_new = what.iter().any(|what| !matches!(what, What::Mode | What::Owner));
        answer.changes.push(change(&found.place, what, &item.span));
        let bytes = Bytes::File(item.source.clone(), content.size);
        puts.push(Put {
            entry: Entry { path: found.place.clone(), mode: item.mode, uid: found.owner.0, gid: found.owner.1, bytes },
            sha256: content.sha256.clone(),
            guard: None,
            source: is_new.then(|| item.source.clone()),
        });
    }
    Ok((directories, puts))
}

fn change(path: &Path, what: Vec<What>, span: &Span) -> Change {
    Change { path: path.display().to_string(), what, line: at(span) }
}

/// What is appended and merged: files to put, and the texts that the next sync has to know.
fn added(items: &[&Item], found: &[Found], mode: Mode, answer: &mut Answer) -> Result<Vec<Put>, String> {
    let mut files: BTreeMap<&Path, (Vec<u8>, &Found)> = BTreeMap::new();
    let (mut puts, mut known) = (Vec::new(), Vec::new());
    for (item, found) in items.iter().zip(found).filter(|(item, _)| item.clause != Clause::Copy) {
        if let Some(problem) = obstacle(item, found) {
            return Err(problem);
        }
        let Some(more) = item.content.as_ref().and_then(|content| content.bytes.as_ref()) else { continue };
        let (now, _) = files.entry(&found.place).or_insert_with(|| (found.content.clone(), found));
        let (next, what) = match item.clause {
            Clause::Merge => (merged(now, more), What::Merge),
            _ => {
                if mode == Mode::Write && found.appended.as_ref() != Some(more) {
                    known.push((item, more));
                }
                (appended_once(now, found.appended.as_deref(), more), What::Append)
            }
        };
        if next != *now {
            answer.changes.push(change(&found.place, vec![what], &item.span));
            *now = next;
        }
    }
    for (place, (content, found)) in files {
        if content == found.content {
            continue;
        }
        let sha256 = sha256_of(&content);
        let bytes = Bytes::Text(Arc::new(content));
        puts.push(Put {
            entry: Entry { path: place.to_owned(), mode: found.mode, uid: found.uid, gid: found.gid, bytes },
            sha256,
            guard: Some(sha256_of(&found.content)),
            source: None,
        });
    }
    puts.extend(known.into_iter().map(|(item, more)| Put {
        entry: Entry {
            path: PathBuf::from(format!("append/{}", item.key)),
            mode: 0o600,
            uid: 0,
            gid: 0,
            bytes: Bytes::Text(Arc::new(more.clone())),
        },
        sha256: sha256_of(more),
        guard: None,
        source: None,
    }));
    Ok(puts)
}

/// The scripts that are to run, in the reference's order: those after a change, then those that run each time. Source: xdcp(1).
fn due<'a>(
    scripts: &'a [Arc<Script>],
    changed: &BTreeSet<&Path>,
    pending: &BTreeSet<String>,
    answer: &mut Answer,
) -> Vec<&'a Script> {
    let (after, always): (Vec<&Script>, Vec<&Script>) =
        scripts.iter().map(Arc::as_ref).partition(|script| script.after.is_some());
    let mut due = Vec::new();
    for script in after {
        let is_changed = script.after.as_ref().is_some_and(|after| changed.iter().any(|path| path.starts_with(after)));
        let is_pending = pending.contains(&script.key);
        if is_pending && !is_changed {
            answer.changes.push(Change { path: script.name.clone(), what: vec![What::Script], line: at(&script.span) });
        }
        if is_changed || is_pending {
            due.push(script);
        }
    }
    due.extend(always);
    due
}

/// Sends files, has them compared with their digests, and put into their places; all or none, as far as renaming goes.
pub(crate) fn put(
    connection: &mut Connection,
    before: &str,
    puts: &mut [Put],
    others: &[Entry],
    first: usize,
) -> Result<(), String> {
    let mut text = before.to_owned();
    let mut entries = others.to_vec();
    let state = PathBuf::from(&connection.state);
    for (number, put) in puts.iter_mut().enumerate() {
        // What only a sync has to know.
        let place = if put.entry.path.is_absolute() { put.entry.path.clone() } else { state.join(&put.entry.path) };
        let beside = aside(&place, &connection.process, first + number);
        let guard = put.guard.as_deref().unwrap_or("-");
        text.push_str(&format!("w {number} {} {} {} {guard}\n", encoded(&beside), encoded(&place), put.sha256));
        entries.push(Entry { path: beside, ..put.entry.clone() });
        put.entry.path = place;
    }
    if !entries.is_empty() {
        let records = records(&entries).map_err(|error| error.to_string())?;
        text.push_str(&format!("t {records}\n"));
        connection.send(&text)?;
        connection.write(|input| send(input, &entries))?;
        text.clear();
    }
    text.push_str("v\n");
    connection.send(&text)?;
    // A node may say it for ever.
    let mut failed: Option<String> = None;
    loop {
        let words = connection.words()?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let name = |index: &str| {
            let path = index.parse().ok().and_then(|index: usize| puts.get(index)).map(|put| put.entry.path.display());
            path.map_or_else(|| "a directory".to_owned(), |path| format!("`{path}`"))
        };
        let problem = match words.as_slice() {
            ["ok"] => break,
            ["y", _] => continue,
            ["b", index] => format!("{} did not arrive whole", name(index)),
            ["g", index] => format!("{} changed on the node meanwhile: try again", name(index)),
            ["n", index] => format!("{} cannot be written", name(index)),
            ["t", _] => "tar failed on the node".to_owned(),
            other => return Err(unclear(&other.join(" "))),
        };
        failed.get_or_insert(problem);
    }
    let Some(first) = failed else { return Ok(()) };
    connection.close();
    let said = connection.complaint().map(|said| format!(": {said}")).unwrap_or_default();
    Err(format!("{first}{said}"))
}

fn execute(connection: &mut Connection, script: &Script, file: &Path) -> Result<Executed, String> {
    let key = if script.after.is_some() { script.key.as_str() } else { "-" };
    let (program, argument) = &script.interpreter;
    let words = [file, Path::new(program), Path::new(argument)].map(encoded).join(" ");
    connection.send(&format!("e 0 {key} {words}\n"))?;
    match connection.words()?.as_slice() {
        [word, _, exit] if word == "e" => {
            let exit = exit.parse().map_err(|_| unclear(exit))?;
            let output = connection.output()?;
            Ok(Executed { name: script.name.clone(), exit, reason: None, output })
        }
        other => Err(unclear(&other.join(" "))),
    }
}
