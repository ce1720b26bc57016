//! `imgbuild plan --emit`: the actions of images as the file of another program, which runs each by `imgbuild build --only`.
//!
//! The file says what follows what, and nothing of what is up to date: each step asks the store and caches.

mod github;
mod gitlab;
mod make;
mod ninja;
pub(crate) mod quote;
mod slurm;

use std::path::Path;

use clap::ValueEnum;
use miette::Diagnostic;
use thiserror::Error;

use super::planfile;
use super::planned::stage_failed;
use crate::output::render;
use crate::setup::chosen;
use crate::verbs::keeping::cache::CacheArguments;
use crate::{Arguments as Common, Exit};
use build::{Target, forms_for, ids, stages_of};
use packages::without_password;
use plan::{Step, steps_of};

/// The program that runs the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// build.ninja
    Ninja,
    /// A makefile
    Make,
    /// A workflow of GitHub Actions
    Github,
    /// A pipeline of GitLab CI
    Gitlab,
    /// A shell script that submits a chain of jobs with sbatch
    Slurm,
}

impl Engine {
    fn name(self) -> &'static str {
        match self {
            Self::Ninja => "ninja",
            Self::Make => "make",
            Self::Github => "github",
            Self::Gitlab => "gitlab",
            Self::Slurm => "slurm",
        }
    }

    /// Whether steps may run on machines that share no store.
    fn spreads(self) -> bool {
        match self {
            Self::Ninja | Self::Make => false,
            Self::Github | Self::Gitlab | Self::Slurm => true,
        }
    }

    /// Whether the file says where artefacts go, so that the job can collect them.
    fn collects(self) -> bool {
        match self {
            Self::Github | Self::Gitlab => true,
            Self::Ninja | Self::Make | Self::Slurm => false,
        }
    }
}

/// Where a job collects what was published.
const OUT: &str = "published";

#[derive(Debug, Error, Diagnostic)]
enum EmitError {
    #[error(
        "steps of {engine} run on different machines, and no cache is named that brings results from one to the other"
    )]
    #[diagnostic(
        code(emit::no_cache),
        help("name one that all of them reach: --cache URL, or `urls` of [cache] in imgbuild.toml (docs/cache.md)")
    )]
    NoCache { engine: &'static str },
    #[error("the cache {address} is named with a password, which would stand in the file")]
    #[diagnostic(
        code(emit::password),
        help("name the cache without it; ~/.netrc has it where the steps run (docs/security.md)")
    )]
    Password { address: String },
    #[error("`{word}` cannot be written into a file for {engine}: {problem}")]
    #[diagnostic(code(emit::word), help("use a path of printable characters, relative to where the steps run"))]
    Word { word: String, engine: &'static str, problem: &'static str },
}

fn refused(error: EmitError) -> Exit {
    render::refused(Exit::Input, error)
}

pub(crate) struct Wanted<'a> {
    pub images: &'a [String],
    pub publish: &'a [Target],
    pub out: Option<&'a Path>,
    /// Where the file goes; none for the standard output.
    pub output: Option<&'a Path>,
    pub caches: &'a CacheArguments,
}

struct Emission {
    before: Vec<String>,
    after: Vec<String>,
    steps: Vec<Step>,
    /// Where artefacts go, where the file collects them.
    out: String,
}

impl Emission {
    fn command(&self, step: &Step) -> String {
        let only = step.actions.iter().flat_map(|action| ["--only", action.as_str()]);
        let words = self.before.iter().map(String::as_str).chain(["build"]).chain(only);
        words.chain(self.after.iter().map(String::as_str)).map(quote::shell).collect::<Vec<_>>().join(" ")
    }

    fn published<'s>(&self, step: &'s Step) -> Option<&'s str> {
        step.images.first().map(String::as_str).filter(|_| step.publishes)
    }

    fn before<'s>(&'s self, step: &'s Step) -> impl Iterator<Item = &'s Step> {
        step.after.iter().filter_map(|index| self.steps.get(*index))
    }

    fn head(&self, engine: Engine) -> String {
        format!(
            "# Made by `imgbuild plan --emit {}`. It lists actions, not what is up to date: write it again when image.lock or a recipe\n\
             # gets other layers; a step whose action is gone says so. docs/ci.md has more.\n",
            engine.name()
        )
    }
}

pub(crate) fn run(arguments: &Common, own: &Wanted<'_>, engine: Engine) -> Result<Exit, Exit> {
    let emission = emission(arguments, own, engine)?;
    let text = match engine {
        Engine::Ninja => ninja::text_of(&emission),
        Engine::Make => make::text_of(&emission),
        Engine::Github => github::text_of(&emission),
        Engine::Gitlab => gitlab::text_of(&emission),
        Engine::Slurm => slurm::text_of(&emission),
    };
    planfile::write_text(own.output.unwrap_or(Path::new("-")), text.as_bytes())?;
    Ok(Exit::Done)
}

fn emission(arguments: &Common, own: &Wanted<'_>, engine: Engine) -> Result<Emission, Exit> {
    if engine.spreads() && !own.caches.is_any(&arguments.directory) {
        return Err(refused(EmitError::NoCache { engine: engine.name() }));
    }
    let recipes = chosen(arguments, own.images)?;
    let mut plans = Vec::new();
    for recipe in &recipes {
        let lock = planfile::locked(recipe)?;
        plans.push(stages_of(recipe, &lock, forms_for(own.publish)).map_err(stage_failed)?);
    }
    let graphs: Vec<_> =
        recipes.iter().zip(&plans).map(|(recipe, plan)| (recipe.model.image.name.as_str(), &plan.graph)).collect();
    let mut before = vec!["imgbuild".to_owned()];
    let mut after = Vec::new();
    let word = |path: &Path| {
        let text = path.to_str().map(str::to_owned);
        let problem = |problem| EmitError::Word { word: path.display().to_string(), engine: engine.name(), problem };
        let text = text.ok_or_else(|| refused(problem("it is not UTF-8")))?;
        match text.chars().any(char::is_control) {
            true => Err(refused(problem("it has a control character"))),
            false => Ok(text),
        }
    };
    if arguments.directory != Path::new(".") {
        before.extend(["-C".to_owned(), word(&arguments.directory)?]);
    }
    // What the environment says is for the machine it is the environment of.
    let is_from = |name: &str, path: &Path| std::env::var_os(name).is_some_and(|value| value == path.as_os_str());
    if let Some(store) = arguments.store.as_deref().filter(|store| !is_from("IMGBUILD_STORE", store)) {
        before.extend(["--store".to_owned(), word(store)?]);
    }
    let out = own.out.or_else(|| engine.collects().then_some(Path::new(OUT)));
    let out = out.map(word).transpose()?;
    if let Some(out) = &out {
        after.extend(["--out".to_owned(), out.clone()]);
    }
    for Target::Xcat(directory) in own.publish {
        after.extend(["--publish".to_owned(), format!("xcat:{}", word(directory)?)]);
    }
    for address in own.caches.named() {
        let plain = without_password(address);
        if plain != *address {
            return Err(refused(EmitError::Password { address: plain }));
        }
        after.extend(["--cache".to_owned(), word(Path::new(address))?]);
    }
    if let Some(key) = own.caches.cache_key.as_deref().filter(|key| !is_from("IMGBUILD_CACHE_KEY", key)) {
        after.extend(["--cache-key".to_owned(), word(key)?]);
    }
    for key in &own.caches.cache_trust {
        after.extend(["--cache-trust".to_owned(), word(Path::new(key))?]);
    }
    let is_named = |name: &str, value: &str| !is_from(name, Path::new(value));
    if let Some(share) = own.caches.cache_sample.as_deref().filter(|share| is_named("IMGBUILD_CACHE_SAMPLE", share)) {
        after.extend(["--cache-sample".to_owned(), word(Path::new(share))?]);
    }
    if let Some(rate) = own.caches.cache_rate.filter(|_| std::env::var_os("IMGBUILD_CACHE_RATE").is_none()) {
        after.extend(["--cache-rate".to_owned(), rate.to_string()]);
    }
    Ok(Emission { before, after, steps: steps_of(&graphs, ids::PUBLISH), out: out.unwrap_or_default() })
}
