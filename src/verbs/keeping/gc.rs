//! `imgbuild gc`: removes from the store what no kept build needs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::Exit;
use crate::output::render;
use crate::setup::Setup;
use build::remove_collected;
use store::{Build, ItemKind, Policy, StoreError, Survey};

/// Arguments of `gc`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Keep the last N distinct builds of each image
    #[arg(long, value_name = "N", default_value_t = Policy::KEEP)]
    pub keep: usize,
    /// Remove builds last made or confirmed longer ago than this, for instance 12h, 30d, 8w
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub max_age: Option<Duration>,
    /// Remove the oldest builds until the store fits this size, for instance 500M, 20G, 64GiB
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub max_size: Option<u64>,
    /// Only show what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Reads a duration: a number and one of s, m, h, d, w.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || "a number and a unit: s, m, h, d or w, for instance 30d".to_owned();
    let at = text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..at].parse().map_err(|_| wrong())?;
    let unit = match &text[at..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).map(Duration::from_secs).ok_or_else(wrong)
}

/// Reads a number of bytes: k, M, G, T are powers of 1000, and with `i` of 1024; a `B` may follow.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || "a number of bytes, for instance 800M, 20G or 64GiB".to_owned();
    let at = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..at].parse().map_err(|_| wrong())?;
    let unit = text[at..].trim_end_matches('B');
    let (letter, base) = match unit.strip_suffix('i') {
        Some(letter) => (letter, 1024_u64),
        None => (unit, 1000),
    };
    let power = match letter {
        "" if base == 1000 => 0,
        "k" | "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        _ => return Err(wrong()),
    };
    number.checked_mul(base.pow(power)).ok_or_else(wrong)
}

/// How long those who use the store are waited for.
pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

#[derive(Debug, Serialize)]
struct Document<'a> {
    format_version: &'a str,
    dry_run: bool,
    removed: Vec<Removed<'a>>,
    removed_bytes: u64,
    kept_bytes: u64,
    builds: Vec<KeptBuild<'a>>,
}

#[derive(Debug, Serialize)]
struct Removed<'a> {
    path: &'a str,
    kind: ItemKind,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct KeptBuild<'a> {
    image: &'a str,
    recipe: &'a std::path::Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    pin: Option<&'a str>,
    kept: bool,
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Exit> {
    let setup = Setup::open(arguments)?;
    let store = &setup.store;
    let failed = render::failed::<StoreError>;
    let held = match store.take_use(PATIENCE) {
        Ok(Some(held)) => held,
        Ok(None) => {
            render::say("a build is using the store: run gc again when it is done");
            return Err(Exit::Machine);
        }
        Err(error) => return Err(failed(error)),
    };
    // No one uses the store now: what is left of others is of killed ones.
    let left = store.leftovers();
    let survey = store.survey().map_err(failed)?;
    let policy = Policy { keep: own.keep, max_age: own.max_age, max_size: own.max_size };
    let kept = survey.kept(&policy, SystemTime::now());
    let surplus = survey.surplus(&kept, &policy);
    let gone = survey.collected(&surplus);
    if !own.dry_run {
        remove_collected(store, &setup.namespace, gone).map_err(render::failed)?;
        setup.clear(left);
    }
    drop(held);
    show(own, &survey, &kept, &surplus, arguments.verbose);
    Ok(Exit::Done)
}

fn show(own: &Arguments, survey: &Survey, kept: &BTreeSet<usize>, surplus: &[usize], verbose: u8) {
    let bytes = |items: &mut dyn Iterator<Item = usize>| -> u64 { items.map(|item| survey.items[item].bytes).sum() };
    let removed_bytes = bytes(&mut surplus.iter().copied());
    let kept_bytes = bytes(&mut (0..survey.items.len())) - removed_bytes;
    if own.json {
        let removed = surplus.iter().map(|index| &survey.items[*index]);
        let builds = survey.builds.iter().enumerate().map(|(index, build)| KeptBuild {
            image: &build.root.image,
            recipe: &build.root.recipe,
            pin: build.pin.as_deref(),
            kept: kept.contains(&index),
        });
        let document = Document {
            format_version: "1.0",
            dry_run: own.dry_run,
            removed: removed.map(|item| Removed { path: &item.path, kind: item.kind, bytes: item.bytes }).collect(),
            removed_bytes,
            kept_bytes,
            builds: builds.collect(),
        };
        render::print_json(&format!("{}\n", serde_json::to_string_pretty(&document).unwrap_or_default()));
        return;
    }
    if own.dry_run || verbose > 0 {
        render::print(&builds_in_words(survey, kept));
    }
    if verbose > 1 {
        let lines = surplus.iter().map(|index| &survey.items[*index]);
        let text: String = lines.map(|item| format!("{:>9}  {}\n", render::bytes(item.bytes), item.path)).collect();
        render::print(&text);
    }
    let said = if own.dry_run { "would be removed" } else { "removed" };
    let builds = survey.builds.len();
    render::say(&format!(
        "{} {said} with {}{}; {} kept, with {}",
        render::counted_as(builds - kept.len(), "build", "builds"),
        render::bytes(removed_bytes),
        in_words(&survey.by_kind(surplus)),
        kept.len(),
        render::bytes(kept_bytes)
    ));
    if !own.dry_run && verbose == 0 && builds > kept.len() {
        render::say(
            "`imgbuild store pin LABEL` keeps a build permanently; `imgbuild gc --dry-run` shows which builds would be removed",
        );
    }
    if own.max_size.is_some_and(|most| kept_bytes > most) {
        let is_pinned = kept.iter().filter_map(|index| survey.builds.get(*index)).any(|build| build.pin.is_some());
        render::say(match (is_pinned, kept.is_empty()) {
            (true, _) => {
                "more than --max-size remains: pinned builds are kept regardless of size (`imgbuild store pin`)"
            }
            (false, false) => "more than --max-size remains: the kept builds need it",
            (false, true) => "more than --max-size remains without any build: the store itself needs it",
        });
    }
}

/// A line for each remembered build: what becomes of it, its image, when it was made, and the bytes that go with it alone.
fn builds_in_words(survey: &Survey, kept: &BTreeSet<usize>) -> String {
    let line = |(index, build): (usize, &Build)| {
        let fate = if kept.contains(&index) { "keep  " } else { "remove" };
        let time = build.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let time = render::utc(u64::try_from(time.as_millis()).unwrap_or_default());
        let why = match &build.pin {
            Some(label) => format!(", pinned as {label}"),
            None if !build.root.recipe.is_dir() => ", its recipe no longer exists".to_owned(),
            None => String::new(),
        };
        let bytes = match kept.contains(&index) {
            true => String::new(),
            false => format!(", {} that no kept build needs", render::bytes(survey.own_bytes(index, kept))),
        };
        format!("{fate}  {}  {time}{why}{bytes}\n", build.root.image)
    };
    survey.builds.iter().enumerate().map(line).collect()
}

/// ` (2 layers 30 MB, 1 frame 2 MB)`.
fn in_words(sums: &BTreeMap<ItemKind, (usize, u64)>) -> String {
    let parts: Vec<String> = sums
        .iter()
        .map(|(kind, (count, bytes))| {
            let (one, many) = super::store::words(*kind);
            format!("{count} {} {}", if *count == 1 { one } else { many }, render::bytes(*bytes))
        })
        .collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_with_their_units() {
        assert_eq!(parse_duration("2w"), Ok(Duration::from_secs(1_209_600)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        for wrong in ["", "d", "3", "3y", "-3d", "99999999999999999999w", "9999999999999999999w", "1 d", "ä"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        for (text, bytes) in
            [("7", 7), ("7B", 7), ("2k", 2000), ("3MB", 3_000_000), ("1GiB", 1 << 30), ("1Ti", 1 << 40)]
        {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "G", "1.5G", "1X", "1i", "99999999999T", "-1", "é"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }
}
