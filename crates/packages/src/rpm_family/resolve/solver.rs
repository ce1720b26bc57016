//! What dnf and zypper are asked, and what is taken from their answers.

use crate::rpm::Evr;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Its short name; also that of its directory below /repo.
    pub id: String,
    /// The lower, the more it is preferred.
    pub priority: u32,
    /// Globs that must not be used.
    pub exclude: Vec<String>,
    /// Globs that alone may be used; empty: all.
    pub include: Vec<String>,
    /// Whether modular filtering leaves it alone.
    pub module_hotfixes: bool,
}

/// The short name of a repository as the solver has it: a folder of otherpkgs is a repository too.
pub(crate) fn shown_id(id: &str) -> String {
    id.replace('/', ":")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    Install,
    Remove,
}

#[derive(Debug, Clone)]
pub(crate) struct Question<'a> {
    /// Root whose package database says what is installed, as the solver sees it.
    pub root: &'a str,
    pub release: &'a str,
    /// `platform:el9` and the like; modules need it.
    pub platform: &'a str,
    /// rpm's name of the CPU.
    pub arch: &'a str,
    pub repositories: &'a [Shown],
    /// Versions that are held: `name-[epoch:]version-release.arch` of the others are not used.
    pub held_back: &'a [(String, String)],
    pub doing: Doing,
    /// To what, as the lists say it.
    pub items: &'a [String],
    /// Whether what is installed may go where it conflicts with them.
    pub erasing: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picked {
    pub name: String,
    pub arch: String,
    pub evr: Evr,
    /// Short name of its repository; empty where the answer does not tell.
    pub repository: String,
    /// Whether no one asked for it.
    pub automatic: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// To install, upgrade or downgrade to.
    pub install: Vec<Picked>,
    pub remove: Vec<String>,
    /// Streams that are switched on: `name:stream`.
    pub modules: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Nothing is called so.
    Unknown(Vec<String>),
    /// The solver's own words.
    Unsatisfiable(String),
    /// It could not read what it was given, in its own words.
    Broken(String),
}

pub(crate) trait Solver: Sync + std::fmt::Debug {
    /// What a tools root needs for it, best first: `a|b` is the first that a repository has.
    fn seeds(&self) -> &'static [&'static str];
    /// The package with what makes accounts for rpm itself, where the release's rpm does that.
    fn makes_accounts(&self) -> Option<&'static str> {
        None
    }
    /// What an image's lowest layer holds; `a|` may be missing.
    fn base(&self) -> &'static [&'static str];
    fn kernel(&self) -> &'static str;
    /// What packages provide of which it installs several versions beside each other.
    fn install_only(&self) -> &'static [&'static str];
    /// Whether its configuration has globs of names and versions for what a repository leaves out.
    fn has_globs(&self) -> bool;
    /// Whether it finds a package by the path of any of its files.
    fn finds_files(&self) -> bool;
    /// Exactly this package, in its words.
    fn exactly(&self, name: &str, version: &str, arch: &str) -> String;
    fn files(&self, question: &Question<'_>) -> Vec<(String, String)>;
    /// Shell commands that ask it; what they print is read by [`Solver::read`].
    fn script(&self, question: &Question<'_>) -> String;
    fn read(&self, said: &str, status: i32) -> Result<Answer, Refusal>;
    /// Files of the image that switch streams of modules on: path and text by `name:stream`.
    fn module_files(&self, modules: &[String]) -> Vec<(String, String)>;
}
