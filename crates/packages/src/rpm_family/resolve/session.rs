//! Passes resolved one after another: each is asked against a package database with what the earlier ones installed.
//!
//! The database is the distribution's own rpm's, with the headers of the real packages and none of their files.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::base::{BaseAnswer, BaseRequest, difference};
use super::solver::{Answer, Doing, Picked, Question, Refusal, Shown, shown_id};
use crate::inside::common::{environment, quoted_words, tools_tree, write};
use crate::rpm::left_out;
use crate::rpm_family::archive::metadata::lay_out;
use crate::rpm_family::archive::packages::RpmArchive;
use crate::rpm_family::packages::package_file;
use crate::{DistroError, Resolution, Solving};
use base::digest::{Digest, FieldHasher};
use recipe::{PinnedPackage, is_meant, is_pattern};
use sandbox::helper::News;
use sandbox::{Bind, CommandRequest, CommandResult, run_command};
use store::{Scratch, in_scratch, make_directories, remove_tree};

pub(crate) struct Wanted<'a> {
    pub items: Vec<String>,
    /// Names to remove before.
    pub remove: &'a [String],
    pub remove_after: &'a [String],
    /// Whether it goes over the first pass alone, and later ones do not see it.
    pub aside: bool,
    /// What it names by folder of otherpkgs.
    pub of_folders: Vec<Picked>,
}

/// Contexts of what names an answer.
const SHOWN: &str = "imgbuild rpm answer v1: shown";
const HEARD: &str = "imgbuild rpm answer v1: heard";

/// How often a question is asked once more because something else came that is to be removed.
const WITHOUT_LIMIT: usize = 4;

pub(crate) enum Ended {
    /// The solver gave no answer: its reason, and the log with its output.
    Refused(Refusal, String),
    /// Something else failed.
    Failed(DistroError),
}

/// A package database that grows pass by pass.
pub(crate) struct Session<'a> {
    archive: &'a RpmArchive,
    solving: &'a Solving<'a>,
    shown: Vec<Shown>,
    held_back: Vec<(String, String)>,
    /// What a transaction is to do without, as well.
    without: Vec<(String, String)>,
    /// Holds the state from question to question.
    state: Scratch,
    repositories: Scratch,
    asked: usize,
    /// What the next question that is asked has to put into the database first.
    pending: String,
    /// What came into the database since the last question, asked or not.
    news: FieldHasher,
    /// All that the solver was shown and heard until the last question.
    known: Digest,
    /// Whether the database has what a container image has installed.
    is_begun: bool,
    /// Names of all packages that were found so far.
    found: BTreeSet<String>,
    /// Names of all packages that a pass installs.
    renewed: BTreeSet<String>,
    /// Whether packages of a container image may go.
    pub may_erase: bool,
}

/// rpm since 4.19 makes accounts with `--noscripts`, too.
const NO_ACCOUNTS: &str = "--define '__systemd_sysusers %{nil}'";

impl<'a> Session<'a> {
    pub(crate) fn open(
        archive: &'a RpmArchive,
        solving: &'a Solving<'a>,
        held: &[PinnedPackage],
    ) -> Result<Self, DistroError> {
        let (state, repositories) = (solving.store.scratch()?, solving.store.scratch()?);
        let mut known = FieldHasher::new(SHOWN);
        known.text(&solving.epoch.to_string());
        for digest in &solving.tools {
            known.field(&digest.0);
        }
        if let Some(base) = &solving.base {
            known.field(&base.layer.0);
        }
        for repository in &archive.repositories {
            known.text(&repository.id).text(&lay_out(&repositories, repository)?);
        }
        let mut held_back = Vec::new();
        for package in held.iter().filter(|package| !package.origin.starts_with("otherpkgs/")) {
            let same = |candidate: &crate::rpm::Candidate| {
                candidate.name == package.name && candidate.arch == package.architecture
            };
            let of_lock = package.version.as_str();
            // One that left the mirror holds nothing back.
            if !archive.candidates().any(|(_, one)| same(one) && one.evr.to_string() == of_lock) {
                continue;
            }
            // A directory of kernels goes before repositories that have the same version.
            let of_directory = package.origin.starts_with("kernels/");
            let others = archive.candidates().filter(|(repository, one)| {
                same(one) && (one.evr.to_string() != of_lock || (of_directory && repository.id != package.origin))
            });
            held_back.extend(others.map(|(repository, one)| (shown_id(&repository.id), one.nevra())));
        }
        if !archive.solver.has_globs() {
            for repository in &archive.repositories {
                let left_out = left_out(repository).into_iter();
                held_back.extend(left_out.map(|one| (shown_id(&repository.id), one.nevra())));
            }
        }
        held_back.sort();
        held_back.dedup();
        let shown = archive.shown();
        let (pending, news, known) = (String::new(), FieldHasher::new(HEARD), known.finish());
        let (is_begun, found, may_erase) = (false, BTreeSet::new(), false);
        Ok(Self {
            archive,
            solving,
            shown,
            held_back,
            without: Vec::new(),
            state,
            repositories,
            asked: 0,
            pending,
            news,
            known,
            is_begun,
            found,
            renewed: BTreeSet::new(),
            may_erase,
        })
    }

    /// Resolves all passes.
    /// Errors: [`Ended`].
    pub(crate) fn resolve(&mut self, wanted: &[Wanted<'_>]) -> Result<Vec<Resolution>, Ended> {
        let mut answers = Vec::new();
        for (number, pass) in wanted.iter().enumerate() {
            let root = if pass.aside { "/imgbuild/state/first" } else { "/imgbuild/state/root" };
            let mut found = Resolution::default();
            if !pass.remove.is_empty() {
                let gone = self.ask(root, Doing::Remove, pass.remove, false)?;
                self.note(root, &[], &gone.remove);
                found.remove_with.extend(gone.remove.iter().filter(|name| !pass.remove.contains(name)).cloned());
                found.removed.extend(gone.remove);
            }
            if !pass.items.is_empty() {
                let (mut answer, needed) = self.ask_without(root, pass)?;
                found.needed = needed;
                // The container image has the same version, made by others: the solver takes that for installed.
                let base = self.solving.base.map(|base| base.packages);
                let is_of_base = |one: &&Picked| {
                    let there = base.and_then(|packages| packages.get(&one.name));
                    there.is_some_and(|there| there.version == one.evr.to_string() && there.architecture == one.arch)
                        && !self.renewed.contains(&one.name)
                        && !answer.install.iter().any(|other| other.name == one.name)
                };
                let again: Vec<Picked> = pass.of_folders.iter().filter(is_of_base).cloned().collect();
                answer.install.extend(again);
                self.renewed.extend(answer.install.iter().map(|one| one.name.clone()));
                let packages = self.pin(&answer, &pass.items)?;
                (self.solving.have)(&packages).map_err(Ended::Failed)?;
                // Before any rpm reads them.
                let (store, have) = (self.solving.store, self.solving.have);
                self.archive.verify(store, have, &packages).map_err(Ended::Failed)?;
                if !pass.aside {
                    self.note(root, &packages, &answer.remove);
                }
                // What lists name and the container image has is theirs, too; tools roots are no part of the image.
                if !pass.aside {
                    let named = pass.items.iter().map(|item| item.split('=').next().unwrap_or(item));
                    self.found.extend(named.map(str::to_owned).chain(packages.iter().map(|one| one.name.clone())));
                }
                if self.solving.base.is_some() {
                    let comes = |name: &String| packages.iter().any(|one| one.name == *name);
                    found.conflicting = answer.remove.iter().filter(|name| !comes(name)).cloned().collect();
                    found.conflicting.sort();
                    found.conflicting.dedup();
                }
                found.packages = packages;
                found.removed.extend(answer.remove);
                found.modules = answer.modules;
                for (path, text) in self.archive.solver.module_files(&found.modules) {
                    let path = format!("{root}/{path}");
                    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
                    let (parent, path, text) = (quoted_words(&[parent]), quoted_words(&[path]), quoted_words(&[text]));
                    self.tell(&format!("mkdir -p {parent}\nprintf %s {text} >{path}\n"));
                }
            }
            if !pass.remove_after.is_empty() {
                let gone = self.ask(root, Doing::Remove, pass.remove_after, false)?;
                self.note(root, &[], &gone.remove);
                found.remove_with.extend(gone.remove.into_iter().filter(|name| !pass.remove_after.contains(name)));
            }
            if number == 0 {
                self.tell("cp -R /imgbuild/state/root /imgbuild/state/first\n");
            }
            found.remove_with.sort();
            found.remove_with.dedup();
            answers.push(found);
        }
        Ok(answers)
    }

    fn broken(&self, said: String) -> Ended {
        Ended::Refused(Refusal::Broken(said), self.log())
    }

    fn log_name(&self) -> String {
        format!("{}-{}.log", self.solving.log, self.asked)
    }

    fn log(&self) -> String {
        self.solving.store.directory().join(self.log_name()).display().to_string()
    }

    fn tell(&mut self, script: &str) {
        self.pending.push_str(script);
        self.news.text(script);
    }

    /// What the database has to hear before the next question.
    fn note(&mut self, root: &str, packages: &[PinnedPackage], removed: &[String]) {
        let rpm = format!("rpm --root {root} {NO_ACCOUNTS} --justdb --noscripts --notriggers --nodeps");
        if !removed.is_empty() {
            self.tell(&format!("{rpm} -e --allmatches {}\n", quoted_words(removed)));
        }
        let (beside, others): (Vec<&PinnedPackage>, Vec<&PinnedPackage>) =
            packages.iter().partition(|package| package.beside);
        for (mode, packages) in [("-U", others), ("-i", beside)] {
            if packages.is_empty() {
                continue;
            }
            let files: Vec<String> = packages.iter().map(|one| format!("/packages/{}", package_file(one))).collect();
            self.tell(&format!(
                "{rpm} {mode} --oldpackage --replacepkgs --replacefiles --nosignature --nodigest --ignoresize --ignorearch --ignoreos {}\n",
                quoted_words(&files)
            ));
            for package in packages {
                self.news.field(&package.sha256.0);
                let file = self.solving.store.package(&package.sha256);
                // A package of two passes already exists.
                let _ = self.state.link(&file, &package_file(package));
            }
        }
    }

    fn pin(&self, answer: &Answer, items: &[String]) -> Result<Vec<PinnedPackage>, Ended> {
        let mut packages = Vec::new();
        for picked in &answer.install {
            let of = |id: &str| self.archive.repositories.iter().find(|one| shown_id(&one.id) == id);
            let id = of(&picked.repository).map(|one| one.id.clone()).unwrap_or_default();
            let found = self.archive.exact(&id, &picked.name, &picked.arch, &picked.evr);
            let (repository, candidate) = found.ok_or_else(|| {
                let (name, evr) = (&picked.name, &picked.evr);
                self.broken(format!("the answer names {name} {evr}, which no repository has"))
            })?;
            // Not every solver tells what was asked for.
            let automatic = match picked.repository.is_empty() {
                true => !items.iter().any(|item| item.split('=').next() == Some(picked.name.as_str())),
                false => picked.automatic,
            };
            packages.push(self.archive.pin(repository, candidate, automatic).map_err(Ended::Failed)?);
        }
        // In an order of our own: rpm finds its own order of installing.
        packages.sort();
        Ok(packages)
    }

    /// Asks for packages. What a container image has may go where there is no other answer, as `--allowerasing` lets dnf do it; what the
    /// lists brought may not.
    fn ask_to_install(&mut self, root: &str, items: &[String]) -> Result<Answer, Ended> {
        let refused = match self.ask(root, Doing::Install, items, false) {
            Err(Ended::Refused(refusal @ Refusal::Unsatisfiable(_), log)) => Ended::Refused(refusal, log),
            other => return other,
        };
        let Some(base) = self.solving.base.filter(|_| self.may_erase) else { return Err(refused) };
        match self.ask(root, Doing::Install, items, true) {
            Ok(answer)
                if answer.remove.iter().all(|name| base.packages.contains_key(name) && !self.found.contains(name)) =>
            {
                Ok(answer)
            }
            Ok(_) | Err(Ended::Refused(..)) => Err(refused),
            Err(other) => Err(other),
        }
    }

    /// Asks for packages without those that are to be removed in the same pass: groups come without them, and dependencies by others. Gives
    /// those that come all the same, because there is no answer without them.
    fn ask_without(&mut self, root: &str, pass: &Wanted<'_>) -> Result<(Answer, Vec<String>), Ended> {
        let mut answer = self.ask_to_install(root, &pass.items)?;
        let (mut left_out, mut needed): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        // What takes the place of what is left out may have to be left out, too.
        for _ in 0..WITHOUT_LIMIT {
            let names = unwanted(&answer, pass, &needed);
            if names.is_empty() {
                break;
            }
            let each = names.iter().filter(|_| names.len() > 1).map(|name| vec![name.clone()]);
            for some in std::iter::once(names.clone()).chain(each) {
                if some.iter().all(|name| left_out.contains(name)) {
                    continue;
                }
                let all: Vec<&String> = left_out.iter().chain(&some).collect();
                let of_them = self.archive.candidates().filter(|(_, one)| all.contains(&&one.name));
                self.without = of_them.map(|(repository, one)| (shown_id(&repository.id), one.nevra())).collect();
                match self.ask_to_install(root, &pass.items) {
                    Ok(found) => {
                        left_out.extend(some);
                        answer = found;
                    }
                    Err(Ended::Refused(Refusal::Unsatisfiable(_) | Refusal::Unknown(_), _)) if some.len() > 1 => {}
                    Err(Ended::Refused(Refusal::Unsatisfiable(_) | Refusal::Unknown(_), _)) => needed.extend(some),
                    Err(other) => return Err(other),
                }
            }
        }
        self.without.clear();
        Ok((answer, needed))
    }

    /// Puts what a container image has installed into the database, before anything else is.
    fn begin(&mut self) -> Result<(), Ended> {
        let Some(base) = self.solving.base.filter(|_| !std::mem::replace(&mut self.is_begun, true)) else {
            return Ok(());
        };
        let failed = |error: DistroError| Ended::Failed(error);
        let scratch = self.solving.store.scratch().map_err(|error| failed(error.into()))?;
        let request = BaseRequest {
            scratch: scratch.name.clone(),
            state: self.state.name.clone(),
            layer: base.layer,
            tools: self.solving.tools.clone(),
            epoch: self.solving.epoch,
            log: format!("{}-base.log", self.solving.log),
        };
        let answer: BaseAnswer =
            self.solving.namespace.call("rpm-base", &request, &mut |_| {}).map_err(|error| failed(error.into()))?;
        let log = self.solving.store.directory().join(&request.log);
        let problem = match answer.result.status {
            0 => difference(base.packages, &answer.installed),
            status => {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
                Some(format!(
                    "the release's rpm cannot read it and exits with status {status}: {}",
                    last.escape_debug()
                ))
            }
        };
        match problem {
            Some(problem) => Err(failed(DistroError::ContainerDatabase { problem, log: log.display().to_string() })),
            None => Ok(()),
        }
    }

    fn ask(&mut self, root: &str, doing: Doing, items: &[String], erasing: bool) -> Result<Answer, Ended> {
        self.asked += 1;
        let mut held_back = self.held_back.clone();
        held_back.extend(self.without.iter().cloned());
        held_back.sort();
        held_back.dedup();
        let question = Question {
            root,
            release: &self.archive.release,
            platform: &self.archive.platform,
            arch: self.archive.arch,
            repositories: &self.shown,
            held_back: &held_back,
            doing,
            items,
            erasing,
        };
        let store = self.solving.store;
        let (question, files) = (self.archive.solver.script(&question), self.archive.solver.files(&question));
        let mut known = FieldHasher::new(HEARD);
        known.field(&self.known.0).field(&self.news.finish().0).text(&question);
        for (path, text) in &files {
            known.text(path).text(text);
        }
        (self.known, self.news) = (known.finish(), FieldHasher::new(HEARD));
        // What is pending stays so until something is asked.
        if let Some((status, said)) = store.answer(&self.known).as_deref().and_then(|kept| kept.split_once('\n')) {
            let status = status.parse().unwrap_or_default();
            return self.archive.solver.read(said, status).map_err(|refusal| Ended::Refused(refusal, self.log()));
        }
        self.begin()?;
        let scratch = store.scratch().map_err(|error| Ended::Failed(error.into()))?;
        let script = format!(
            "set -e\nmkdir -p /imgbuild/state/root /imgbuild/state/log /imgbuild/state/cache\n{{\n{}}} >/imgbuild/noted 2>&1 || {{ cat /imgbuild/noted; exit 100; }}\nset +e\n{}",
            if self.pending.is_empty() { "true\n" } else { &self.pending },
            question
        );
        let request = AskRequest {
            scratch: scratch.name.clone(),
            state: self.state.name.clone(),
            repositories: self.repositories.links_name.clone(),
            packages: self.state.links_name.clone(),
            tools: self.solving.tools.clone(),
            files,
            script,
            epoch: self.solving.epoch,
            log: self.log_name(),
        };
        self.pending.clear();
        let result: CommandResult = self
            .solving
            .namespace
            .call("rpm-ask", &request, &mut |_| {})
            .map_err(|error| Ended::Failed(error.into()))?;
        let said = std::fs::read_to_string(self.log()).unwrap_or_default();
        if result.status == 100 && !said.contains("== solve") {
            return Err(self.broken(said));
        }
        let answer = self.archive.solver.read(&said, result.status);
        // dnf's status is 1 where it does nothing, as requested.
        if answer.is_ok() {
            store.keep_answer(&self.known, &format!("{}\n{said}", result.status));
        }
        answer.map_err(|refusal| Ended::Refused(refusal, self.log()))
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        // The state belongs to root inside.
        let _: Result<usize, _> = self.solving.namespace.call("rpm-forget", &self.state.name, &mut |_| {});
    }
}

/// Names that an answer installs though the pass removes them, and that it does not ask for by name.
fn unwanted(answer: &Answer, pass: &Wanted<'_>, needed: &[String]) -> Vec<String> {
    let is_asked = |name: &str, arch: &str| {
        pass.items.iter().any(|item| match item.strip_prefix(name) {
            Some(rest) if rest.is_empty() || rest.starts_with('=') || rest == format!(".{arch}") => true,
            // Exactly this version.
            Some(rest) => rest.strip_prefix('-').is_some_and(|rest| rest.starts_with(|one: char| one.is_ascii_digit())),
            None => is_pattern(item) && is_meant(item, name),
        })
    };
    let goes = |one: &&Picked| {
        let meant = |word: &String| is_meant(word, &one.name) || *word == format!("{}.{}", one.name, one.arch);
        pass.remove.iter().any(meant) && !is_asked(&one.name, &one.arch) && !needed.contains(&one.name)
    };
    let names = answer.install.iter().filter(goes).map(|one| one.name.clone());
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AskRequest {
    /// Scratch directory, relative to the store's.
    pub scratch: String,
    pub state: String,
    pub repositories: String,
    /// Directory with packages that are in the database.
    pub packages: String,
    pub tools: Vec<Digest>,
    pub files: Vec<(String, String)>,
    pub script: String,
    /// Seconds since 1970, for the environment.
    pub epoch: i64,
    /// Log file, relative to the store's directory; takes what is printed.
    pub log: String,
}

pub(crate) fn inside(request: AskRequest, _: News<'_>) -> Result<CommandResult, String> {
    let state = format!("{}/state", request.state);
    make_directories(&state, &[""])?;
    in_scratch(&request.scratch, || {
        let at = |name: &str| format!("{}/{name}", request.scratch);
        make_directories(&request.scratch, &["mount", "root", "root-work", "settings"])?;
        for (path, text) in &request.files {
            let path = at(&format!("settings/{path}"));
            if let Some((parent, _)) = path.rsplit_once('/') {
                make_directories(parent, &[""])?;
            }
            write(&path, text)?;
        }
        write(&at("settings/run"), &request.script)?;
        run_command(&CommandRequest {
            root: tools_tree(&request.tools, at("root"), at("root-work"))?,
            binds: vec![
                Bind { source: at("settings"), target: "/imgbuild".to_owned(), writable: true },
                Bind { source: state, target: "/imgbuild/state".to_owned(), writable: true },
                Bind { source: request.repositories.clone(), target: "/repo".to_owned(), writable: false },
                Bind { source: request.packages.clone(), target: "/packages".to_owned(), writable: false },
            ],
            arguments: ["/bin/sh", "/imgbuild/run"].map(str::to_owned).to_vec(),
            environment: environment(request.epoch),
            log: request.log.clone(),
            mount_point: at("mount"),
            ..CommandRequest::default()
        })
    })
}

/// Removes what a session kept. Runs inside.
pub(crate) fn forget(state: String, _: News<'_>) -> Result<usize, String> {
    remove_tree(&state)?;
    Ok(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpm::Evr;

    #[test]
    fn what_a_pass_removes_and_does_not_name_is_not_wanted() {
        let picked = |name: &&str| Picked {
            name: (*name).to_owned(),
            arch: "noarch".to_owned(),
            evr: Evr::parse("1-1"),
            repository: String::new(),
            automatic: true,
        };
        let answer = Answer {
            install: ["t-a", "t-b", "t-c", "vim-a", "vim-b"].iter().map(picked).collect(),
            ..Answer::default()
        };
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let found = |items: &[&str], remove: &[&str], needed: &[&str]| {
            let remove = words(remove);
            let pass = Wanted {
                items: words(items),
                remove: &remove,
                remove_after: &[],
                aside: false,
                of_folders: Vec::new(),
            };
            unwanted(&answer, &pass, &words(needed))
        };
        assert_eq!(found(&["@security-tools"], &["t-b"], &[]), ["t-b"]);
        assert_eq!(found(&["@security-tools"], &["t-b.noarch", "vim-*"], &["vim-b"]), ["t-b", "vim-a"]);
        for asked in ["t-b", "t-b=1-1", "t-b-1-1.noarch", "t-b.noarch", "t-*"] {
            assert!(found(&["@security-tools", asked], &["t-b"], &[]).is_empty(), "{asked}");
        }
        assert_eq!(found(&["t-b-more"], &["t-b"], &[]), ["t-b"]);
    }
}
