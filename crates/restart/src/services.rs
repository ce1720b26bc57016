//! Which services of a tree have a path open, read it when they start, or belong to its package.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::facts::{Facts, Program, UNIT_FOLDERS, is_library};
use super::open::{INTERPRETERS, Open, libraries, open};
use super::starts::{alone, has_ended, is_of_sessions, own, package_of, runs, shown};

/// systemd itself, as it is called among its own units.
pub(crate) const MANAGER: &str = "init.scope";
/// What a node tries, in this order, as imgbuild-init does.
const INITS: [&str; 4] = ["sbin/init", "usr/lib/systemd/systemd", "etc/init", "bin/init"];

/// Programs whose names say nothing of a service.
const SHELLS: [&str; 6] = ["sh", "bash", "dash", "ksh", "zsh", "env"];

/// Units whose restart ends sessions or separates services from one another.
const ALL_DEPEND: [&str; 3] = ["dbus.service", "dbus-broker.service", "systemd-logind.service"];
/// Folders whose files have nothing to do with one another.
const COMMON: [&str; 24] = [
    "etc/default",
    "etc/init.d",
    "etc/pki",
    "etc/ssl",
    "etc/sysconfig",
    "etc/systemd",
    "etc/systemd/system",
    "lib/systemd",
    "lib/systemd/system",
    "usr/bin",
    "usr/lib",
    "usr/lib/systemd",
    "usr/lib/systemd/system",
    "usr/lib64",
    "usr/libexec",
    "usr/local",
    "usr/local/bin",
    "usr/local/lib",
    "usr/local/sbin",
    "usr/sbin",
    "usr/share",
    "var/cache",
    "var/lib",
    "var/log",
];

pub(crate) struct Services {
    /// Units that may run, as `systemctl` names them.
    names: Vec<String>,
    /// Why some of them cannot start again alone.
    alone: BTreeMap<usize, &'static str>,
    /// Names of units in [`ALL_DEPEND`], and of those that they are other names of.
    all_depend: BTreeSet<String>,
    open: HashMap<String, Vec<usize>>,
    reads: HashMap<String, Vec<usize>>,
    packages: HashMap<String, Vec<usize>>,
    interpreters: BTreeMap<&'static str, Vec<usize>>,
    /// Names by which configuration files and plugins of a service are known.
    stems: BTreeMap<String, Vec<usize>>,
    /// Services of which it is not known what they have open.
    unread: Vec<usize>,
    manager: Open,
    /// Dynamic loaders, links followed, and the packages that they come from.
    loaders: BTreeSet<String>,
    loader_packages: BTreeSet<String>,
    /// Libraries that some other file says it needs or names, and links to them.
    needed: BTreeSet<String>,
}

/// What is done to the services that a path concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Concern {
    /// No service.
    No,
    /// These start again; why, in words.
    Services(Vec<String>, &'static str),
    /// All of user space does, since.
    All(String),
    /// The same, since it is not known who has it open.
    Unknown(&'static str),
}

/// The base of a program's or unit's name, by which its files are known: `slurmd` is also `slurm`.
fn stems_of(name: &str) -> Vec<String> {
    let base = name.split(['@', '.']).next().unwrap_or(name);
    let is_known = |text: &str| {
        text.len() > 2 && !SHELLS.contains(&text) && !INTERPRETERS.iter().any(|stem| text.starts_with(stem))
    };
    let without = base.strip_suffix('d').filter(|text| text.len() > 2);
    let of_systemd = base.strip_prefix("systemd-");
    [Some(base), without, of_systemd].into_iter().flatten().filter(|text| is_known(text)).map(str::to_owned).collect()
}

/// Whether a folder says nothing of who reads what is in it.
fn is_common(folder: &str) -> bool {
    // `usr/lib/x86_64-linux-gnu`
    let is_of_machine =
        folder.strip_prefix("usr/lib/").is_some_and(|name| name.contains("-linux-") && !name.contains('/'));
    !folder.contains('/') || COMMON.contains(&folder) || is_of_machine
}

/// The folders above a path that say who reads what is in them.
fn folders(path: &str) -> impl Iterator<Item = &str> {
    fn above(path: &str) -> Option<&str> {
        path.rsplit_once('/').map(|(above, _)| above)
    }
    std::iter::successors(above(path), |&path| above(path)).filter(|folder| !is_common(folder))
}

/// Units that all others need, by all their names.
fn all_depend(facts: &Facts) -> BTreeSet<String> {
    let places = ALL_DEPEND.iter().flat_map(|name| UNIT_FOLDERS.iter().map(move |folder| format!("{folder}{name}")));
    let targets = places.filter_map(|place| facts.links.get(&place)?.rsplit('/').next().map(str::to_owned));
    targets.chain(ALL_DEPEND.map(str::to_owned)).collect()
}

impl Services {
    pub(crate) fn of(facts: &Facts) -> Self {
        let libraries = libraries(facts);
        let inits = INITS.iter().find(|path| facts.programs.contains_key(&facts.real(path)));
        let manager = open(facts, &libraries, &inits.into_iter().map(|path| (*path).to_owned()).collect());
        let (mut loaders, mut names) = (BTreeSet::new(), BTreeSet::new());
        for program in facts.programs.values() {
            if let Program::Elf(elf) = &**program {
                loaders.extend(elf.interpreter.iter().map(|path| path.trim_start_matches('/')));
                names.extend(elf.libraries.iter().map(|name| name.rsplit('/').next().unwrap_or(name)));
            }
        }
        let follow = |path: &str| {
            let (real, links) = facts.follow(path);
            links.into_iter().chain([real])
        };
        let loaders: BTreeSet<String> = loaders.into_iter().flat_map(follow).collect();
        let needed = names.into_iter().filter_map(|name| libraries.get(name)).flatten();
        let needed = needed.copied().flat_map(follow).collect();
        let loader_packages = loaders.iter().filter_map(|path| facts.owner(path)).map(str::to_owned).collect();
        let mut all = Self {
            names: Vec::new(),
            alone: BTreeMap::new(),
            all_depend: all_depend(facts),
            open: HashMap::new(),
            reads: HashMap::new(),
            packages: HashMap::new(),
            interpreters: BTreeMap::new(),
            stems: BTreeMap::new(),
            unread: Vec::new(),
            manager,
            loaders,
            loader_packages,
            needed,
        };
        for name in facts.units.keys().filter(|name| name.ends_with(".service") && runs(facts, name)) {
            all.add(facts, &libraries, name);
        }
        all
    }

    /// Takes a service, with what it has open and reads.
    fn add(&mut self, facts: &Facts, libraries: &HashMap<&str, Vec<&str>>, name: &str) {
        let Some(unit) = facts.units.get(name) else { return };
        let why = alone(facts, name);
        if unit.one_shot && why.is_none() {
            return;
        }
        let at = self.names.len();
        self.names.push(shown(name));
        self.alone.extend(why.map(|why| (at, why)));
        let package = package_of(facts, unit);
        let is_over = unit.one_shot && has_ended(unit);
        let mut reads = if is_over { own(facts, unit) } else { BTreeSet::new() };
        if !is_over {
            // Those of `sh -c ".."` are among the paths.
            let open = open(facts, libraries, &(&unit.programs | &unit.paths));
            for path in open.paths {
                self.open.entry(path).or_default().push(at);
            }
            for stem in open.interpreters {
                self.interpreters.entry(stem).or_default().push(at);
            }
            if open.unread {
                self.unread.push(at);
            }
            reads.extend(unit.paths.iter().flat_map(|path| [path.clone(), facts.real(path)]));
            if let Some(package) = package {
                self.packages.entry(package.to_owned()).or_default().push(at);
            }
        }
        // A program reads what is in its own folder.
        let programs: Vec<String> = unit.programs.iter().map(|path| facts.real(path)).collect();
        let of_program = programs.iter().filter_map(|path| path.rsplit_once('/')).map(|(folder, _)| folder);
        reads.extend(of_program.filter(|folder| !is_common(folder)).map(str::to_owned));
        for path in reads {
            self.reads.entry(path).or_default().push(at);
        }
        let of_programs = unit.programs.iter().filter_map(|path| path.rsplit('/').next()).filter(|_| !is_over);
        let names = std::iter::once(name).chain(of_programs).chain(package.filter(|_| !is_over));
        for stem in names.flat_map(stems_of).collect::<BTreeSet<_>>() {
            self.stems.entry(stem).or_default().push(at);
        }
    }

    /// Whether others lose what they need when a unit starts again.
    pub(crate) fn do_all_depend(&self, name: &str) -> bool {
        self.all_depend.contains(name) || name.starts_with("dbus")
    }

    /// The services at these places: what follows of starting them again.
    fn services<'a>(&self, at: impl IntoIterator<Item = &'a usize>, why: &'static str) -> Concern {
        let at: BTreeSet<usize> = at.into_iter().copied().collect();
        let names: Vec<&String> = at.iter().filter_map(|at| self.names.get(*at)).collect();
        if let Some(name) = names.iter().find(|name| self.all_depend.contains(name.as_str())) {
            return Concern::All(format!("{name} {why}, and others lose it when it starts again"));
        }
        let alone = at.iter().find_map(|at| Some((self.names.get(*at)?, self.alone.get(at)?)));
        if let Some((name, alone)) = alone {
            return Concern::All(format!("{name} {why}, and {alone}"));
        }
        let names: Vec<String> = names.into_iter().filter(|name| !is_of_sessions(name)).cloned().collect();
        if names.is_empty() { Concern::No } else { Concern::Services(names, why) }
    }

    /// What a changed, new or missing path means for the services that run; its package, and whether the running tree has the path.
    pub(crate) fn concern(&self, path: &str, package: Option<&str>, was_there: bool) -> Concern {
        let name = path.rsplit('/').next().unwrap_or(path);
        let is_of_loader = is_library(path) && package.is_some_and(|package| self.loader_packages.contains(package));
        if self.loaders.contains(path) || is_of_loader || name.starts_with("libc.so.") {
            return Concern::All("every running program has it open".to_owned());
        }
        if name.starts_with("libsystemd-shared-") || name.starts_with("libsystemd-core-") {
            return Concern::All("it is a part of the first process, and all others depend on it".to_owned());
        }
        if was_there && name.starts_with("libnss_") {
            return Concern::Unknown("which running programs look up names with it");
        }
        let is_open = self.open.get(path);
        let may_have = self.unread.iter().filter(|_| is_library(path) && was_there);
        if self.manager.paths.contains(path) {
            return match self.services(is_open.into_iter().flatten().chain(may_have), "has it open") {
                Concern::Services(names, why) => Concern::Services([vec![MANAGER.to_owned()], names].concat(), why),
                Concern::No => Concern::Services(vec![MANAGER.to_owned()], "has it open"),
                other => other,
            };
        }
        if let Some(at) = is_open {
            return self.services(at.iter().chain(may_have), "has it open");
        }
        if let Some(at) = self.reads.get(path) {
            return self.services(at, "names it in its unit");
        }
        let mut above = folders(path).filter_map(|folder| self.reads.get(folder)).flatten().peekable();
        if above.peek().is_some() {
            return self.services(above, "names a folder above it, or has its program there");
        }
        if let Some(at) = self.configured(path) {
            return self.services(at, "is configured by it");
        }
        if let Some(at) = package.and_then(|package| self.packages.get(package)) {
            return self.services(at, "is of the same package");
        }
        if let Some(at) = self.interpreted(path) {
            return self.services(at, "is interpreted, and may have loaded it");
        }
        if was_there && is_library(path) && !self.needed.contains(path) {
            return self.plugin(path, package);
        }
        match self.unread.is_empty() || !was_there || !is_library(path) {
            true => Concern::No,
            false => self.services(&self.unread, "is a program whose libraries cannot be read"),
        }
    }

    /// A library that no file says it needs is opened by its name, by a program that knows it.
    fn plugin(&self, path: &str, package: Option<&str>) -> Concern {
        let folder = path.rsplit('/').nth(1).unwrap_or_default();
        if path.split('/').any(|part| INTERPRETERS.iter().any(|stem| part.starts_with(stem))) {
            // No service is in that language.
            return Concern::No;
        }
        let by_package = package.and_then(|package| package.split(['-', '+']).next());
        match [Some(folder), by_package].into_iter().flatten().find_map(|name| self.stems.get(name)) {
            Some(at) => self.services(at, "may have loaded it"),
            None => Concern::Unknown("which running programs have loaded it"),
        }
    }

    /// Services whose configuration a path is by its name: `/etc/slurm/slurm.conf` is slurmd's.
    fn configured(&self, path: &str) -> Option<&Vec<usize>> {
        let rest = path.strip_prefix("etc/")?;
        let (first, below) = rest.split_once('/').unwrap_or((rest, ""));
        let name = match (first, below) {
            ("default" | "sysconfig" | "systemd", below) => below.split('/').next().unwrap_or(below),
            _ => first,
        };
        let name = name.strip_suffix(".d").unwrap_or(name);
        self.stems.get(name.strip_suffix(".conf").unwrap_or(name))
    }

    /// Services whose interpreter may have loaded a file of its libraries.
    fn interpreted(&self, path: &str) -> Option<&Vec<usize>> {
        let has_code = ["usr/", "opt/", "lib/"].iter().any(|start| path.starts_with(start)) && !path.contains("/bin/");
        let is_of = |stem: &str| path.split('/').skip(1).any(|part| part.starts_with(stem));
        let has_jar = |stem: &str| stem == "java" && path.ends_with(".jar");
        let mut all = self.interpreters.iter();
        all.find(|(stem, _)| has_code && is_of(stem) || has_jar(stem)).map(|(_, at)| at)
    }
}
