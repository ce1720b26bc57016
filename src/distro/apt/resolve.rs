//! The release's own apt decides what a list of packages means (D12).

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;

use super::archive::relations;
use super::archive::source::below;
use super::archive::words::{in_folder, is_apt_pattern, is_of_task, task_of, unknown_names, unknown_words};
use super::query::{Prepare, QueryAnswer, QueryRequest};
use super::{Archive, PinnedPackage, SuiteRelease};
use crate::digest::{Digest, Sha256};
use crate::distro::inside::common::quoted;
use crate::distro::{ContainerPackage, DistroError, Pass, Resolution, Solving};
use crate::fault;
use crate::recipe::{is_meant, is_pattern};
use crate::sandbox::CommandResult;
use crate::store::Store;

/// Runs apt in a tools root against repositories whose indices were checked.
pub struct Resolver<'a> {
    pub solving: &'a Solving<'a>,
    pub architecture: &'a str,
    pub suites: &'a [SuiteRelease],
    /// All indices, local ones too.
    pub archive: &'a Archive,
}

/// What is installed, by name.
type Known<'a> = BTreeMap<String, Installed<'a>>;

#[derive(Debug, Clone)]
struct Installed<'a> {
    version: String,
    automatic: bool,
    /// What the container image has of it; none: a pass brought it.
    of_base: Option<&'a ContainerPackage>,
}

/// How often apt is asked once more because something else came that a pattern removes.
const WITHOUT_LIMIT: usize = 4;

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
struct Repositories<'a> {
    sources: String,
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
    /// Resolves passes one after another; each sees what the earlier ones installed.
    ///
    /// `held` are packages that keep their version where they are wanted (D13).
    /// Errors: [`DistroError::UnknownPackages`] or [`DistroError::Unsatisfiable`] with the solver's own words.
    pub fn resolve(&self, passes: &[Pass], held: &[PinnedPackage]) -> Result<Vec<Resolution>, DistroError> {
        let of_base = self.solving.base.into_iter().flat_map(|base| base.packages);
        let mut installed: Known<'_> = of_base
            .map(|(name, one)| {
                let (version, automatic) = (one.version.clone(), one.automatic);
                (name.clone(), Installed { version, automatic, of_base: Some(one) })
            })
            .collect();
        let mut first = None;
        let mut digests: BTreeMap<String, Sha256> = BTreeMap::new();
        let mut answers = Vec::new();
        let repositories = self.repositories();
        for (number, pass) in passes.iter().enumerate() {
            let over = if pass.aside { first.as_ref().unwrap_or(&installed) } else { &installed };
            let patterns: Vec<&String> = pass.remove.iter().filter(|name| is_pattern(name)).collect();
            let pass = &Pass { remove: expanded(&pass.remove, over), ..pass.clone() };
            // What needs them goes with them, unless what is installed takes their place.
            let with = self.gone(number, &pass.remove, over, &repositories)?;
            let mut answer = if pass.install.is_empty() && pass.remove.is_empty() {
                Resolution::default()
            } else {
                self.resolve_pass(number, (pass, &patterns), over, held, &repositories)?
            };
            if pass.aside {
                answers.push(answer);
                continue;
            }
            let again = self.rebuilt(pass, &installed, &digests)?;
            let is_new = |one: &PinnedPackage| answer.packages.iter().all(|other| other.name != one.name);
            let again: Vec<PinnedPackage> = again.into_iter().filter(is_new).collect();
            answer.packages.extend(again);
            digests.extend(answer.packages.iter().map(|one| (one.name.clone(), one.sha256)));
            let comes = |name: &String| answer.packages.iter().any(|one| one.name == *name);
            answer.remove_with =
                with.into_iter().filter(|name| answer.removed.contains(name) && !comes(name)).collect();
            for name in &answer.removed {
                installed.remove(name);
            }
            come(&mut installed, &answer.packages);
            let after = expanded(&pass.remove_after, &installed);
            let with = self.gone(number, &after, &installed, &repositories)?;
            after.iter().chain(&with).for_each(|name| drop(installed.remove(name)));
            answer.remove_with.extend(with);
            answer.remove_with.sort();
            answer.remove_with.dedup();
            answers.push(answer);
            first.get_or_insert_with(|| installed.clone());
        }
        Ok(answers)
    }

    fn repositories(&self) -> Repositories<'_> {
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

    fn resolve_pass(
        &self,
        number: usize,
        (pass, patterns): (&Pass, &[&String]),
        installed: &Known<'_>,
        held: &[PinnedPackage],
        repositories: &Repositories<'_>,
    ) -> Result<Resolution, DistroError> {
        let all = (self.archive, self.suites, self.architecture);
        let unknown = unknown_words(all, &pass.install, &|name| installed.contains_key(name));
        if !unknown.is_empty() {
            return Err(unknown_names(self.archive, unknown));
        }
        let mut install: Vec<String> = Vec::new();
        for item in &pass.install {
            match self.in_folder(item) {
                own if own.is_empty() => install.push(item.clone()),
                own => install.extend(
                    own.iter().filter_map(|one| Some(format!("{}={}", one.field("Package")?, one.field("Version")?))),
                ),
            }
        }
        // A package of which there is one version needs no word: what is asked is the same then, whatever else is held.
        let has_others = |package: &&PinnedPackage| {
            let versions = self.archive.candidates(&package.name);
            let of_others = |candidate: &super::Candidate<'_>| candidate.field("Version") != Some(&package.version);
            versions.iter().any(of_others) && !versions.iter().all(of_others)
        };
        let preferences: String = held
            .iter()
            .filter(has_others)
            .map(|package| {
                format!("Package: {}\nPin: version {}\nPin-Priority: 1001\n\n", package.name, package.version)
            })
            .collect();
        let known = |name: &&String| installed.contains_key(*name) || !self.archive.candidates(name).is_empty();
        let words = install.iter().map(|item| quoted(item));
        let removals = pass.remove.iter().filter(known).map(|name| quoted(&format!("{name}-")));
        let command = format!("install -q -s {}", words.chain(removals).collect::<Vec<_>>().join(" "));
        let ask = |left_out: &[String]| {
            // apt installs what a pattern or a task means even where `name-` stands beside it.
            let stanza = |name: &String| format!("Package: {name}\nPin: version *\nPin-Priority: -1\n\n");
            let preferences = left_out.iter().map(stanza).collect::<String>() + &preferences;
            let sources = (repositories.sources.as_str(), preferences);
            self.read_simulation(&self.simulate(number, installed, sources, &command, repositories)?, pass)
        };
        let mut answer = ask(&[])?;
        let (mut left_out, mut needed): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        for _ in 0..WITHOUT_LIMIT {
            let is_unwanted = |one: &&PinnedPackage| {
                let is_asked = || {
                    pass.install
                        .iter()
                        .any(|item| !is_pattern(item) && !is_apt_pattern(item) && is_named(&one.name, item))
                };
                let goes = |word: &String| is_meant(word, &one.name);
                (pass.remove.iter().any(goes) || patterns.iter().any(|word| goes(word)))
                    && !needed.contains(&one.name)
                    && !is_asked()
            };
            let names: Vec<String> = answer.packages.iter().filter(is_unwanted).map(|one| one.name.clone()).collect();
            if names.is_empty() {
                break;
            }
            match ask(&[&left_out[..], &names].concat()) {
                Ok(found) => {
                    left_out.extend(names);
                    answer = found;
                }
                Err(DistroError::Unsatisfiable { .. }) => needed.extend(names),
                Err(other) => return Err(other),
            }
        }
        if !pass.aside {
            self.add_own(number, pass, installed, repositories, &mut answer)?;
        }
        Ok(Resolution { needed, ..answer })
    }

    /// Adds the site's packages that the container image has in the same version, where the pass names or needs them: apt takes those for
    /// installed, also where others made them.
    fn add_own(
        &self,
        number: usize,
        pass: &Pass,
        installed: &Known<'_>,
        repositories: &Repositories<'_>,
        answer: &mut Resolution,
    ) -> Result<(), DistroError> {
        let mut over = installed.clone();
        answer.removed.iter().for_each(|name| drop(over.remove(name)));
        come(&mut over, &answer.packages);
        let of_base = over.iter().filter(|(_, one)| one.of_base.is_some());
        let exact = |(name, one): (&String, &Installed<'_>)| {
            let mut all = self.archive.candidates(name).into_iter().filter(|candidate| self.runs(candidate));
            all.find(|candidate| candidate.field("Version") == Some(&one.version))
        };
        let there: Vec<_> = of_base.filter_map(exact).collect();
        if !there.iter().any(|one| is_local(&one.index.origin)) || fault::planted("container-has-the-sites-own") {
            return Ok(());
        }
        let mut packages = answer.packages.clone();
        for candidate in there {
            packages.push(candidate.pin(true)?);
        }
        let reached = relations::reached(self.archive, &packages, answer.packages.len(), &pass.install);
        let own = reached.into_iter().skip_while(|at| *at < answer.packages.len()).map(|at| &packages[at]);
        let own: Vec<&PinnedPackage> = own.filter(|one| is_local(&one.origin)).collect();
        if own.is_empty() {
            return Ok(());
        }
        let words: Vec<String> = own.iter().map(|one| quoted(&format!("{}={}", one.name, one.version))).collect();
        let command = format!("install -q -s --reinstall {}", words.join(" "));
        let sources = (repositories.sources.as_str(), String::new());
        let more = self.read_simulation(&self.simulate(number, &over, sources, &command, repositories)?, pass)?;
        answer.packages.extend(more.packages);
        answer.removed.extend(more.removed);
        Ok(())
    }

    /// Whether a package is for the image's CPU.
    fn runs(&self, candidate: &super::Candidate<'_>) -> bool {
        candidate.field("Architecture").is_none_or(|one| one == "all" || one == self.architecture)
    }

    fn in_folder(&self, item: &str) -> Vec<super::Candidate<'_>> {
        in_folder((self.archive, self.architecture), item)
    }

    /// What a pass names by folder and nothing changes in apt's eyes: the image has that version, but from elsewhere.
    /// Errors: A bad stanza.
    fn rebuilt(
        &self,
        pass: &Pass,
        installed: &Known<'_>,
        digests: &BTreeMap<String, Sha256>,
    ) -> Result<Vec<PinnedPackage>, DistroError> {
        let named = pass.install.iter().flat_map(|item| self.in_folder(item));
        let pins = named.map(|candidate| candidate.pin(false)).collect::<Result<Vec<_>, _>>()?;
        let is_other = |pin: &PinnedPackage| {
            let is_of_version = installed.get(&pin.name).is_some_and(|one| one.version == pin.version);
            is_of_version && digests.get(&pin.name) != Some(&pin.sha256) && !fault::planted("rebuilt-package-stays")
        };
        Ok(pins.into_iter().filter(is_other).collect())
    }

    /// What goes with packages that are removed, because it needs one of them: as the inside asks apt, which knows no repository there.
    fn gone(
        &self,
        number: usize,
        names: &[String],
        installed: &Known<'_>,
        repositories: &Repositories<'_>,
    ) -> Result<Vec<String>, DistroError> {
        let here: Vec<String> =
            names.iter().filter(|name| installed.contains_key(*name)).map(|name| quoted(name)).collect();
        if here.is_empty() {
            return Ok(Vec::new());
        }
        let command = format!("remove -q -s {}", here.join(" "));
        let said = self.simulate(number, installed, ("", String::new()), &command, repositories)?;
        let gone = said.lines().filter_map(|line| line.strip_prefix("Remv ")?.split_whitespace().next());
        let gone = gone.map(str::to_owned);
        Ok(gone.filter(|name| !names.contains(name)).collect())
    }

    /// What apt says that it would do over installed packages.
    fn simulate(
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

    fn read_simulation(&self, said: &str, pass: &Pass) -> Result<Resolution, DistroError> {
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
            let is_it = |one: &&super::Candidate<'_>| {
                one.field("Package") == Some(name) && one.field("Version") == Some(version)
            };
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

/// Notes that packages are installed.
fn come(installed: &mut Known<'_>, packages: &[PinnedPackage]) {
    for package in packages {
        let (version, automatic) = (package.version.clone(), package.automatic);
        installed.insert(package.name.clone(), Installed { version, automatic, of_base: None });
    }
}

/// Names of installed packages for patterns, as dpkg-query finds them inside; other names as they are.
fn expanded(names: &[String], installed: &Known<'_>) -> Vec<String> {
    let found = |name: &String| match is_pattern(name) {
        true => installed.keys().filter(|one| is_meant(name, one)).cloned().collect(),
        false => vec![name.clone()],
    };
    names.iter().flat_map(found).collect()
}

/// Whether a package is asked for by a name or pattern of a list.
pub fn is_asked(candidate: &super::Candidate<'_>, item: &str) -> bool {
    let name = candidate.field("Package").unwrap_or_default();
    match item {
        "?essential" => candidate.field("Essential") == Some("yes"),
        "~prequired" => candidate.field("Priority") == Some("required"),
        // Which ones it means, apt alone knows: none is to be removed as no longer needed.
        item if is_apt_pattern(item) => true,
        item => match task_of(item) {
            Some(task) => is_of_task(candidate, task),
            None => is_named(name, item),
        },
    }
}

/// Whether a word of a list names a package. In `folder/name` and `name/suite` one part is the name; no package is named like a folder or a
/// suite.
fn is_named(name: &str, item: &str) -> bool {
    let is_it = |word: &str| match word.contains(['*', '?']) {
        true => globset::Glob::new(word).is_ok_and(|glob| glob.compile_matcher().is_match(name)),
        false => word == name,
    };
    let of_suite = item.rsplit_once('/').map(|(first, _)| plain_name(first));
    is_it(plain_name(item)) || of_suite.is_some_and(is_it)
}

/// The name in `folder/name=version` or `name:architecture`.
pub fn plain_name(item: &str) -> &str {
    let name = item.rsplit('/').next().unwrap_or(item);
    name.split(['=', ':']).next().unwrap_or(name)
}

/// Whether an origin is a directory of the recipe: `otherpkgs/FOLDER` or `kernels/FOLDER`, where suites have no slash.
fn is_local(origin: &str) -> bool {
    origin.starts_with("otherpkgs/") || origin.starts_with("kernels/")
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
pub fn in_the_way(words: &str) -> std::collections::BTreeSet<String> {
    let relations = ["Depends: ", "PreDepends: ", "Breaks: ", "Conflicts: "];
    let mut found = std::collections::BTreeSet::new();
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
    use super::{in_the_way, is_named};

    #[test]
    fn a_word_names_a_package_with_its_folder_suite_or_version() {
        for item in ["a", "a=1.2", "a:amd64", "site/a", "x86/dep/a=1*", "a/stable", "a*/stable", "site/a*", "?/stable"]
        {
            assert!(is_named("a", item), "{item}");
        }
        for item in ["b", "stable/b", "b*/stable", "site/b*", "ab"] {
            assert!(!is_named("a", item), "{item}");
        }
    }

    #[test]
    fn versions_that_stand_in_the_way_are_found_in_the_solvers_words() {
        let words = "The following packages have unmet dependencies:\n apt : Depends: libapt-pkg6.0 (>= 2.6.2) but 2.6.1 is to be installed\n \
                     b : PreDepends: c:amd64 (= 2) but 1 is to be installed\nE: Unable to correct problems, you have held broken packages.\n";
        assert_eq!(in_the_way(words).into_iter().collect::<Vec<_>>(), ["c", "libapt-pkg6.0"]);
        assert!(in_the_way(" a : Depends: b but it is not installable\n").contains("b"));
        assert!(in_the_way("").is_empty());
    }
}
