//! Asking apt: what it is shown, and what it answers.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeSet;

use super::{Installed, Known, Resolver};
use crate::apt::Candidate;
use crate::apt::archive::local::is_local;
use crate::apt::archive::source::below;
use crate::apt::archive::words::is_asked;
use crate::apt::query::{Prepare, QueryAnswer, QueryRequest};
use crate::{DistroError, Pass, Resolution};
use base::digest::{Digest, Sha256};
use sandbox::CommandResult;
use store::Store;

fn configuration(architecture: &str) -> String {
    format!(
        r#"APT::Architecture "{architecture}";
APT::Architectures "{architecture}";
Dir "/imgbuild/t";
Dir::State "/imgbuild/state";
Dir::State::Status "/imgbuild/status";
Dir::State::Lists "/imgbuild/known/lists";
Dir::Cache "/imgbuild/cache";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "/imgbuild/known/srcpkgcache.bin";
Dir::Etc "/imgbuild/etc";
Dir::Log "/imgbuild/log";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
APT::Install-Recommends "false";
APT::Get::Always-Include-Phased-Updates "true";
APT::Sandbox::User "root";
APT::Get::AllowUnauthenticated "true";
APT::Cmd::Pattern-Only "false";
APT::Update::Error-Mode "any";
"#
    )
}

/// Reads the indices into /imgbuild/known: lists as apt names them, and its binary form of them.
const PREPARE: &str = "set -e\n\
    mkdir -p /imgbuild/cache/archives/partial /imgbuild/log /imgbuild/t\n\
    apt-get update -qq >/imgbuild/update 2>&1 || { cat /imgbuild/update; exit 100; }\n\
    rm -rf /imgbuild/known/lists/lock /imgbuild/known/lists/partial\n";

#[derive(Default)]
pub(super) struct Repositories<'a> {
    pub(super) sources: String,
    /// Files below /repo.
    files: Vec<(String, Content<'a>)>,
    /// Where the store has what apt makes of them.
    known: String,
    /// Whether that was compared with its digests.
    checked: Cell<bool>,
}

enum Content<'a> {
    Text(Cow<'a, str>),
    Index(Sha256),
}

impl Resolver<'_> {
    pub(super) fn repositories(&self) -> Repositories<'_> {
        let mut shown = Repositories::default();
        // First: of two packages of the same version apt takes the one that it read first.
        let local =
            self.archive.indices.iter().filter(|index| index.base_url.starts_with("file:") && is_local(&index.origin));
        for (place, index) in local.enumerate() {
            shown.files.push((format!("local{place}/Packages"), Content::Text(index.text().into())));
            shown.sources.push_str(&format!("deb [trusted=yes] copy:/repo/local{place} ./\n"));
        }
        for (place, suite) in self.suites.iter().enumerate() {
            if below(&suite.suite).is_some() {
                // Its index alone: what apt would check of it was checked.
                let own = self.archive.indices.iter().filter(|index| index.origin == suite.origin);
                let text: String = own.map(|index| format!("{}\n", index.text())).collect();
                shown.files.push((format!("{place}/Packages"), Content::Text(text.into())));
                shown.sources.push_str(&format!("deb [trusted=yes] copy:/repo/{place} ./\n"));
                continue;
            }
            let root = format!("{place}/dists/{}", suite.suite);
            if let Some(text) = &suite.text {
                shown.files.push((format!("{root}/Release"), Content::Text(text.as_str().into())));
            }
            let mut components = String::new();
            for (component, digest, path) in &suite.indices {
                shown.files.push((format!("{root}/{path}"), Content::Index(*digest)));
                components.push(' ');
                components.push_str(component);
            }
            shown.sources.push_str(&format!("deb [trusted=yes] copy:/repo/{place} {}{components}\n", suite.suite));
        }
        shown.known = Store::solving_name(&self.digest_of(&shown));
        shown
    }

    /// The digest of all that goes into what apt makes of the repositories.
    fn digest_of(&self, repositories: &Repositories<'_>) -> Digest {
        let mut hasher = blake3::Hasher::new();
        let mut add = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        add(b"imgbuild apt 1");
        add(configuration(self.architecture).as_bytes());
        add(PREPARE.as_bytes());
        add(repositories.sources.as_bytes());
        for digest in &self.solving.tools {
            add(&digest.0);
        }
        for (path, content) in &repositories.files {
            add(path.as_bytes());
            match content {
                Content::Text(text) => add(text.as_bytes()),
                Content::Index(digest) => add(&digest.0),
            }
        }
        Digest(*hasher.finalize().as_bytes())
    }

    /// Asks apt, with what it made of the repositories before; it makes that now where it is missing. What it answered to
    /// the same question is not asked again. Gives the status and all that it said.
    fn ask(&self, request: &mut QueryRequest, repositories: &Repositories<'_>) -> Result<(i32, String), DistroError> {
        let store = self.solving.store;
        let question = request.digest();
        if let Some(said) = store.answer(&question) {
            return Ok((0, said));
        }
        let result = self.ask_apt(request, repositories)?;
        let said = std::fs::read_to_string(store.directory().join(&request.log)).unwrap_or_default();
        if result.status == 0 {
            store.keep_answer(&question, &said);
        }
        Ok((result.status, said))
    }

    fn ask_apt(
        &self,
        request: &mut QueryRequest,
        repositories: &Repositories<'_>,
    ) -> Result<CommandResult, DistroError> {
        let store = self.solving.store;
        // Once for all that follows.
        request.check = !repositories.checked.replace(true);
        let scratch = store.scratch()?;
        request.scratch.clone_from(&scratch.name);
        if store.directory().join(&request.known).is_dir() {
            match self.solving.namespace.call("apt-query", &*request, &mut |_| {})? {
                QueryAnswer::Ran(result) => return Ok(result),
                QueryAnswer::Unknown => {}
            }
        }
        let scratch = store.scratch()?;
        for (path, content) in &repositories.files {
            match content {
                Content::Text(text) => scratch.write_link(path, text.as_bytes(), 0o644)?,
                Content::Index(digest) => scratch.link(&store.index(digest), path)?,
            }
        }
        request.scratch.clone_from(&scratch.name);
        request.prepare = Some(Prepare { links: scratch.links_name.clone(), script: PREPARE.to_owned() });
        match self.solving.namespace.call("apt-query", &*request, &mut |_| {})? {
            QueryAnswer::Ran(result) => Ok(result),
            QueryAnswer::Unknown => {
                let log = store.directory().join(&request.log).display().to_string();
                Err(DistroError::Indices { said: "nothing came of reading them".to_owned(), log })
            }
        }
    }

    /// What apt says that it would do over installed packages.
    pub(super) fn simulate(
        &self,
        number: usize,
        installed: &Known<'_>,
        (sources, preferences): (&str, String),
        command: &str,
        repositories: &Repositories<'_>,
    ) -> Result<String, DistroError> {
        let mut status = String::new();
        let mut marks = String::new();
        for (name, Installed { version, automatic, of_base }) in installed {
            let stanza = match (of_base, self.archive.exact(name, version)) {
                (Some(one), _) => Some((one.text.clone(), one.architecture.clone())),
                (None, candidate) => candidate.map(|candidate| {
                    let text = format!("Status: install ok installed\n{}", candidate.stanza.trim_end());
                    (text, candidate.field("Architecture").unwrap_or("all").to_owned())
                }),
            };
            if let Some((text, architecture)) = stanza {
                status.push_str(text.trim_end());
                status.push_str("\n\n");
                if *automatic {
                    marks.push_str(&format!("Package: {name}\nArchitecture: {architecture}\nAuto-Installed: 1\n\n"));
                }
            }
        }
        let script = format!(
            "set -e\nmkdir -p /imgbuild/cache/archives/partial /imgbuild/log /imgbuild/t\n\
             echo '{}'\napt-get {command}\n",
            SIMULATION.trim_end(),
        );
        let file = |path: &str, text: String| (path.to_owned(), text);
        let log = format!("{}-{number}.log", self.solving.log);
        let mut request = QueryRequest {
            scratch: String::new(),
            known: repositories.known.clone(),
            prepare: None,
            check: false,
            tools: self.solving.tools.clone(),
            files: vec![
                file("apt.conf", configuration(self.architecture)),
                file("etc/sources.list", sources.to_owned()),
                file("etc/preferences", preferences),
                file("etc/preferences.d/.keep", String::new()),
                file("etc/apt.conf.d/.keep", String::new()),
                file("status", status),
                file("state/extended_states", marks),
            ],
            script,
            epoch: self.solving.epoch,
            log: log.clone(),
        };
        let (status, said) = self.ask(&mut request, repositories)?;
        if status != 0 {
            let path = self.solving.store.directory().join(&log);
            if !said.contains(SIMULATION) {
                return Err(DistroError::Indices { said: clean(said.trim()), log: path.display().to_string() });
            }
            return Err(DistroError::Unsatisfiable { detail: solver_words(&said), log: path.display().to_string() });
        }
        Ok(said)
    }

    pub(super) fn read_simulation(&self, said: &str, pass: &Pass) -> Result<Resolution, DistroError> {
        let mut resolution = Resolution::default();
        let named: Vec<_> = pass.install.iter().flat_map(|item| self.in_folder(item)).collect();
        let simulation = said.split_once(SIMULATION).map_or("", |(_, rest)| rest);
        for line in simulation.lines() {
            if let Some(rest) = line.strip_prefix("Remv ") {
                resolution.removed.extend(rest.split_whitespace().next().map(str::to_owned));
            }
            let Some(rest) = line.strip_prefix("Inst ") else { continue };
            let name = rest.split_whitespace().next().unwrap_or_default();
            let name = name.split(':').next().unwrap_or(name);
            let version =
                rest.split_once('(').and_then(|(_, inside)| inside.split_whitespace().next()).unwrap_or_default();
            let is_it =
                |one: &&Candidate<'_>| one.field("Package") == Some(name) && one.field("Version") == Some(version);
            // Among several with that version it is the one of the folder that a list names.
            let own = named.iter().find(is_it).cloned();
            let candidate = own.or_else(|| self.archive.exact(name, version)).ok_or_else(|| DistroError::Format {
                file: "apt's answer".to_owned(),
                problem: format!("names {name} {version}, which no index has"),
            })?;
            let asked = pass.install.iter().any(|item| is_asked(&candidate, item));
            // What someone installed stays theirs where a later version replaces it.
            let of_base = self.solving.base.and_then(|base| base.packages.get(name));
            let is_by_hand = of_base.is_some_and(|one| !one.automatic);
            resolution.packages.push(candidate.pin(!asked && !is_by_hand)?);
        }
        Ok(resolution)
    }
}

/// The line after which the solver speaks.
const SIMULATION: &str = "== simulate\n";

/// Text of a mirror without what a terminal would obey.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// How many lines of the solver's answer are shown.
const SHOWN_LINES: usize = 30;

/// Packages whose versions the solver complains about: `x : Depends: NAME (>= 2) but 1 is to be installed`, and the like.
pub(crate) fn in_the_way(words: &str) -> BTreeSet<String> {
    let relations = ["Depends: ", "PreDepends: ", "Breaks: ", "Conflicts: "];
    let mut found = BTreeSet::new();
    for line in words.lines().filter(|line| line.contains(" is to be installed") || line.contains(" but ")) {
        for relation in relations {
            let name = line.split_once(relation).and_then(|(_, rest)| rest.split([' ', ':', '(']).next());
            found.extend(name.filter(|name| !name.is_empty()).map(str::to_owned));
        }
    }
    found
}

/// The solver's own words, without its preamble; at most [`SHOWN_LINES`].
fn solver_words(said: &str) -> String {
    let rest = said.split_once(SIMULATION).map_or(said, |(_, rest)| rest);
    let kept: Vec<&str> = rest
        .lines()
        .filter(|line| {
            !line.starts_with("Reading ")
                && !line.starts_with("Building ")
                && !line.starts_with("Some packages could not be installed")
                && !line.starts_with("requested an impossible")
                && !line.starts_with("distribution that some")
                && !line.starts_with("or been moved")
                && !line.starts_with("The following information may help")
                && !line.trim().is_empty()
        })
        .collect();
    let all = kept.len();
    let kept = &kept[..all.min(SHOWN_LINES)];
    let more = if all > kept.len() { format!("\n({} lines more)", all - kept.len()) } else { String::new() };
    format!(":\n{}{more}", clean(&kept.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_stand_in_the_way_are_found_in_the_solvers_words() {
        let words = "The following packages have unmet dependencies:\n apt : Depends: libapt-pkg6.0 (>= 2.6.2) but 2.6.1 is to be installed\n \
                     b : PreDepends: c:amd64 (= 2) but 1 is to be installed\nE: Unable to correct problems, you have held broken packages.\n";
        assert_eq!(in_the_way(words).into_iter().collect::<Vec<_>>(), ["c", "libapt-pkg6.0"]);
        assert!(in_the_way(" a : Depends: b but it is not installable\n").contains("b"));
        assert!(in_the_way("").is_empty());
    }
}
