//! Modules: streams of packages of which one at a time is to be seen. Source: modulemd 2, libmodulemd's documentation.

use std::collections::{BTreeMap, BTreeSet};

use super::yaml::{self, Value};
use crate::rpm::{Evr, Repository};

/// Largest modules.yaml that is read, unpacked.
pub(in crate::rpm) const MODULES_LIMIT: u64 = 256 << 20;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stream {
    pub module: String,
    pub stream: String,
    /// Grows with each build.
    pub version: u64,
    /// Tells builds of one version apart that need other modules.
    pub context: String,
    pub arch: String,
    /// Other modules that it needs, in alternatives: for each module the streams that will do (none: any).
    pub requires: Vec<BTreeMap<String, Vec<String>>>,
    /// Its packages, as `name-epoch:version-release.arch`.
    pub artifacts: Vec<String>,
    pub profiles: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Modules {
    /// In the file's order.
    pub streams: Vec<Stream>,
    /// The stream of each module that is used where none is asked for.
    pub defaults: BTreeMap<String, String>,
    /// The profiles that each default stream installs where none is named: by module, then stream.
    pub default_profiles: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamChoice {
    pub module: String,
    /// Name of the stream; none: the module is disabled, all of its packages are hidden.
    pub stream: Option<String>,
}

impl Modules {
    /// Reads an unpacked modules.yaml; documents of kinds that are not known are passed over.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut modules = Self::default();
        for document in yaml::documents(text)? {
            let data = document.get("data");
            match document.get("document").text().unwrap_or_default() {
                "modulemd" | "modulemd-stream" | "modulemd-stream-v2" => {
                    // Version 1 has another form of dependencies and was given up with Fedora 28.
                    modules.streams.push(stream(data));
                }
                "modulemd-defaults" => {
                    let Some(module) = data.get("module").text() else { continue };
                    if let Some(stream) = data.get("stream").text() {
                        modules.defaults.insert(module.to_owned(), stream.to_owned());
                    }
                    let profiles =
                        data.get("profiles").entries().map(|(stream, list)| (stream.to_owned(), texts(list)));
                    modules.default_profiles.insert(module.to_owned(), profiles.collect());
                }
                _ => {}
            }
        }
        Ok(modules)
    }
}

fn texts(value: &Value) -> Vec<String> {
    value.items().filter_map(Value::text).map(str::to_owned).collect()
}

fn stream(data: &Value) -> Stream {
    let text = |name: &str| data.get(name).text().unwrap_or_default().to_owned();
    let requires = data.get("dependencies").items().map(|alternative| {
        let modules = alternative.get("requires").entries();
        modules.map(|(name, streams)| (name.to_owned(), texts(streams))).collect()
    });
    let profiles = data.get("profiles").entries();
    Stream {
        module: text("name"),
        stream: text("stream"),
        version: text("version").parse().unwrap_or(0),
        context: text("context"),
        arch: text("arch"),
        requires: requires.collect(),
        artifacts: texts(data.get("artifacts").get("rpms")),
        profiles: profiles.map(|(name, profile)| (name.to_owned(), texts(profile.get("rpms")))).collect(),
    }
}

/// Marks in [`Repository::hidden`] what dnf would not show: packages of streams that are not active, and packages
/// of no module whose names active streams have.
///
/// Active are the streams asked for, the default streams of modules for which none is asked for, and what those need.
/// Errors: A text that names a stream that no repository has, or streams that cannot be active together.
pub fn hide_modular(repositories: &mut [Repository], chosen: &[StreamChoice]) -> Result<(), String> {
    let active = active_streams(repositories, chosen)?;
    let key = |text: &str| artifact(text);
    let mut shown: BTreeSet<(String, String, String)> = BTreeSet::new();
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut modular: BTreeSet<(String, String, String)> = BTreeSet::new();
    for stream in repositories.iter().filter_map(|one| one.modules.as_ref()).flat_map(|modules| &modules.streams) {
        let is_active = active.get(&stream.module).is_some_and(|active| *active == stream.stream);
        for found in stream.artifacts.iter().filter_map(|text| key(text)) {
            if is_active && found.2 != "src" && found.2 != "nosrc" {
                names.insert(found.0.clone());
                shown.insert(found.clone());
            }
            modular.insert(found);
        }
    }
    for repository in repositories {
        repository.hidden.clear();
        if repository.module_hotfixes {
            continue;
        }
        for (index, candidate) in repository.candidates.iter().enumerate() {
            let own = (candidate.name.clone(), evr_key(&candidate.evr), candidate.arch.clone());
            let hide = if modular.contains(&own) { !shown.contains(&own) } else { names.contains(&candidate.name) };
            if hide {
                repository.hidden.insert(index);
            }
        }
    }
    Ok(())
}

/// An EVR with its epoch, as artifacts are written.
fn evr_key(evr: &Evr) -> String {
    format!("{}:{}-{}", evr.epoch, evr.version, evr.release)
}

/// Name, `epoch:version-release` and architecture of an artifact.
fn artifact(text: &str) -> Option<(String, String, String)> {
    let (rest, arch) = text.rsplit_once('.')?;
    let (rest, release) = rest.rsplit_once('-')?;
    let (name, version) = rest.rsplit_once('-')?;
    let evr = Evr::parse(&format!("{version}-{release}"));
    Some((name.to_owned(), evr_key(&evr), arch.to_owned()))
}

fn active_streams(repositories: &[Repository], chosen: &[StreamChoice]) -> Result<BTreeMap<String, String>, String> {
    let all: Vec<&Modules> = repositories.iter().filter_map(|one| one.modules.as_ref()).collect();
    let streams = || all.iter().flat_map(|modules| &modules.streams);
    let mut active = BTreeMap::new();
    let mut disabled = BTreeSet::new();
    let mut queue = Vec::new();
    for choice in chosen {
        let Some(stream) = &choice.stream else {
            disabled.insert(choice.module.clone());
            continue;
        };
        if !streams().any(|known| known.module == choice.module && known.stream == *stream) {
            let known: BTreeSet<&str> =
                streams().filter(|known| known.module == choice.module).map(|known| known.stream.as_str()).collect();
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            let has =
                if known.is_empty() { "no repository has that module".to_owned() } else { format!("it has {known}") };
            return Err(format!("the module `{}` has no stream `{stream}`: {has}", choice.module));
        }
        if let Some(other) = active.insert(choice.module.clone(), stream.clone()).filter(|other| other != stream) {
            return Err(format!("the module `{}` cannot have two streams, `{other}` and `{stream}`", choice.module));
        }
        queue.push(choice.module.clone());
    }
    for modules in &all {
        for (module, stream) in &modules.defaults {
            if !disabled.contains(module) && !active.contains_key(module) {
                active.insert(module.clone(), stream.clone());
                queue.push(module.clone());
            }
        }
    }
    while let Some(module) = queue.pop() {
        let Some(stream) = active.get(&module).cloned() else { continue };
        let newest = streams()
            .filter(|known| known.module == module && known.stream == stream)
            .max_by_key(|known| known.version);
        // The first alternative whose streams do not contradict what is active.
        let alternatives = newest.map(|stream| stream.requires.as_slice()).unwrap_or_default();
        let fits = alternatives.iter().find(|needs| {
            needs.iter().all(|(name, streams)| {
                active.get(name).is_none_or(|active| accepts(streams, active)) && !disabled.contains(name)
            })
        });
        for (name, wanted) in fits.into_iter().flatten() {
            // `platform` stands for the distribution itself.
            if name == "platform" || active.contains_key(name) {
                continue;
            }
            let Some(first) = wanted.iter().find(|stream| !stream.starts_with('-')) else { continue };
            active.insert(name.clone(), first.clone());
            queue.push(name.clone());
        }
    }
    Ok(active)
}

/// Whether a list of streams, of which `-name` means all but that one, accepts a stream; an empty list accepts all.
fn accepts(list: &[String], stream: &str) -> bool {
    if list.iter().any(|one| one.strip_prefix('-') == Some(stream)) {
        return false;
    }
    let positive: Vec<&String> = list.iter().filter(|one| !one.starts_with('-')).collect();
    positive.is_empty() || positive.iter().any(|one| *one == stream)
}
