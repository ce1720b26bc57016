//! SELinux labels of the packed tree: what the image's own policy says of each path.
//!
//! cpio has no place for them, so they travel in the index. There they are few: an entry that is not named has the
//! label of its folder.

mod contexts;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rayon::prelude::*;

use self::contexts::{FileContexts, Texts, Unusable};
use store::{Entry, Kind, LayerReader};

/// Labels, and the paths (`.` is the root) from which on they hold, down to a path of another label.
pub(crate) type Labels = BTreeMap<String, Vec<String>>;

/// What stands for no label at all.
pub(crate) const NO_LABEL: &str = "<<none>>";

/// Says of a host which policy it has. Source: selinux_config(5).
const CONFIG: &str = "etc/selinux/config";

/// The policy of a configuration that names none. Source: libselinux, `SELINUXDEFAULT`.
const USUAL_TYPE: &str = "targeted";

/// What imgbuild-init writes on a node and an image may not have: these get the policy's labels too.
const HANDED_OVER: [&str; 4] =
    ["etc/machine-id", "etc/resolv.conf", "etc/hostname", "etc/network/interfaces.d/imgbuild"];

/// How many lines that cannot be used are reported one by one.
const MAX_LINES: usize = 10;

#[derive(Debug, Default)]
pub(crate) struct Labelled {
    /// For the index; empty without a policy.
    pub labels: Labels,
    pub count: u64,
    pub warnings: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Config {
    disabled: bool,
    /// Name of the policy: its folder below /etc/selinux.
    policy: String,
}

impl Config {
    fn parse(text: &str) -> Self {
        let mut found = Self { disabled: false, policy: USUAL_TYPE.to_owned() };
        for line in text.lines().map(str::trim) {
            if let Some(value) = line.strip_prefix("SELINUX=") {
                found.disabled = value.trim().to_ascii_lowercase().starts_with("disabled");
            } else if let Some(value) = line.strip_prefix("SELINUXTYPE=") {
                found.policy = value.trim().to_owned();
            }
        }
        found
    }
}

/// Runs inside: labels the packed part of a tree.
/// Errors: A text about a file of the policy that cannot be read.
pub(crate) fn labels(reader: &LayerReader, excluded: &BTreeSet<String>) -> Result<Labelled, String> {
    let read = |path: &str| -> Result<Option<String>, String> {
        Ok(reader.read(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    };
    let Some(config) = read(CONFIG)?.filter(|_| !excluded.contains(CONFIG)).map(|text| Config::parse(&text)) else {
        return Ok(Labelled::default());
    };
    let base = format!("etc/selinux/{}/contexts/files/file_contexts", config.policy);
    let Some(rules) = read(&base)?.filter(|_| !config.disabled) else { return Ok(Labelled::default()) };
    let policies = format!("etc/selinux/{}/policy", config.policy);
    let is_packed = |name: &String| name.starts_with("policy.") && !excluded.contains(&format!("{policies}/{name}"));
    if !reader.names_in(&policies).iter().any(is_packed) {
        let text = format!(
            "/etc/selinux/config names the policy `{}`, but the packed image has no /{policies}/policy.*: nodes get no SELinux labels",
            config.policy
        );
        return Ok(Labelled { warnings: vec![text], ..Labelled::default() });
    }
    let more = |ending: &str| read(&format!("{base}.{ending}")).map(Option::unwrap_or_default);
    let (homedirs, local, subs, subs_dist) = (more("homedirs")?, more("local")?, more("subs")?, more("subs_dist")?);
    let texts = Texts { rules: [&rules, &homedirs, &local], subs: &subs, subs_dist: &subs_dist };
    let (contexts, unusable) = FileContexts::parse(texts);
    let files = [base.clone(), format!("{base}.homedirs"), format!("{base}.local")];
    let warnings = messages(&files, &unusable);
    let packed = reader.tree.0.iter().filter(|(path, _)| !excluded.contains(*path));
    let entries: BTreeMap<&str, &Entry> = packed.map(|(path, found)| (path.as_str(), &found.entry)).collect();
    let (labels, count) = reckon(&contexts, &entries);
    Ok(Labelled { labels, count, warnings })
}

/// One warning for each line that is left out, with an end.
fn messages(files: &[String; 3], unusable: &[Vec<Unusable>; 3]) -> Vec<String> {
    let all = files.iter().zip(unusable).flat_map(|(file, lines)| lines.iter().map(move |line| (file, line)));
    let mut warnings: Vec<String> = all
        .clone()
        .take(MAX_LINES)
        .map(|(file, Unusable { line, problem })| format!("/{file}:{line}: {problem}; the line is left out"))
        .collect();
    let rest = all.count().saturating_sub(MAX_LINES);
    if rest > 0 {
        warnings.push(format!("{rest} more lines of the policy's file contexts are left out"));
    }
    warnings
}

/// The labels of entries, each named only where it differs from its folder's; and how many entries have one.
fn reckon(contexts: &FileContexts, entries: &BTreeMap<&str, &Entry>) -> (Labels, u64) {
    // Folders that an exclude list drops are made again on the node for what lies in them.
    let mut kinds: BTreeMap<&str, &Kind> = BTreeMap::from([(".", &Kind::Directory)]);
    for path in entries.keys() {
        let mut path = *path;
        while let Some((folder, _)) = path.rsplit_once('/') {
            kinds.entry(folder).or_insert(&Kind::Directory);
            path = folder;
        }
    }
    const FILE: Kind = Kind::File { size: 0, digest: base::digest::Digest([0; 32]) };
    kinds.extend(entries.iter().map(|(path, entry)| (*path, &entry.kind)));
    for path in HANDED_OVER {
        if path.rsplit_once('/').is_some_and(|(folder, _)| kinds.contains_key(folder)) {
            kinds.entry(path).or_insert(&FILE);
        }
    }
    // The names of one file have one label: that of the first.
    let mut first_names: HashMap<&str, &str> = HashMap::new();
    for (path, entry) in entries {
        if let Some(group) = &entry.link_group {
            first_names.entry(group).or_insert(path);
        }
    }
    let first_name = |path: &str| -> Option<&str> {
        let group = entries.get(path)?.link_group.as_deref()?;
        first_names.get(group).copied()
    };
    let label = |(path, kind): (&&str, &&Kind)| {
        let name = first_name(path).unwrap_or(path);
        let absolute = if name == "." { "/".to_owned() } else { format!("/{name}") };
        contexts.label(&absolute, kind)
    };
    let list: Vec<(&&str, &&Kind)> = kinds.iter().collect();
    let found: Vec<Option<&str>> = list.par_iter().map(|item| label(*item)).collect();
    let count = found.iter().flatten().count() as u64;
    let of: HashMap<&str, Option<&str>> = kinds.keys().copied().zip(found).collect();
    let mut labels = Labels::new();
    for path in kinds.keys() {
        let folder = match path.rsplit_once('/') {
            _ if *path == "." => None,
            Some((folder, _)) => Some(folder),
            None => Some("."),
        };
        let own = of.get(path).copied().flatten();
        // The root alone has no folder; it is always named.
        let inherited = folder.map(|folder| of.get(folder).copied().flatten());
        if inherited != Some(own) {
            labels.entry(own.unwrap_or(NO_LABEL).to_owned()).or_default().push((*path).to_owned());
        }
    }
    (labels, count)
}

#[cfg(test)]
mod tests;
