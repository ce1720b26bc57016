//! `imgbuild log`: what was built when, and how to do one piece of it again.

use std::path::Path;

use serde::Serialize;

use crate::Exit;
use crate::output::render;
use crate::plans::emit::quote::shell;
use crate::setup::{chosen_to_look, store_directory};
use base::digest::Digest;
use build::Estimate;
use build::ids;
use store::{PastBuild, Run, Store, now};

/// Arguments of `log`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Images, by name or glob [default: the recipe in the current directory, or all in the workspace]
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Show this many builds of each image, the newest first
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 10)]
    pub limit: usize,
    /// Show only the build with this number
    #[arg(long, value_name = "NUMBER")]
    pub build: Option<u64>,
    /// Show all images that were built with this store, wherever their recipes are
    #[arg(long, conflicts_with = "images")]
    pub all: bool,
    /// Print commands that rerun a stage (`rootfs`), an action (`rootfs/postinstall`), or the start of its name
    #[arg(long, value_name = "STAGE", conflicts_with = "json")]
    pub what_ran: Option<String>,
}

/// What `log --json` prints. Readers ignore fields that they do not know.
#[derive(Debug, Serialize, schemars::JsonSchema)]
#[schemars(title = "imgbuild log")]
pub(crate) struct LogDocument {
    /// Version of this form.
    pub format_version: String,
    /// One entry an image.
    pub images: Vec<LoggedImage>,
}

/// Builds of one image.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct LoggedImage {
    /// Its name.
    pub name: String,
    /// Directory of its recipe.
    pub recipe: String,
    /// Its builds, the newest first.
    pub builds: Vec<LoggedBuild>,
}

/// One build.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct LoggedBuild {
    /// Its number: counts up for each image.
    pub number: u64,
    /// When it began, as RFC 3339 has it, in UTC.
    pub began: String,
    /// How long it took in milliseconds; while it runs, so far; null where it was killed.
    pub milliseconds: Option<u64>,
    /// `built`, `failed`, `running`, or `interrupted`.
    pub state: String,
    /// The imgbuild that built.
    pub imgbuild: String,
    /// Distribution, release and architecture.
    pub target: String,
    /// What ran, in the order in which it ended; `publish` is the writing of the artefacts.
    pub ran: Vec<Run>,
    /// How many actions were kept; null where it did not come to its end.
    pub kept: Option<usize>,
    /// Why it failed.
    pub failed: Option<String>,
    /// Directory of the artefacts; the two builds before the last one are kept.
    pub published: Option<String>,
    /// Keys of its actions.
    #[schemars(with = "std::collections::BTreeMap<String, String>")]
    pub keys: std::collections::BTreeMap<String, Digest>,
    /// Bytes of packages that were fetched, those for resolving too.
    pub downloaded_bytes: u64,
    /// What was estimated before.
    #[schemars(with = "Option<Estimate>")]
    pub estimate: Option<serde_json::Value>,
}

fn state(build: &PastBuild) -> &'static str {
    match &build.end {
        Some(end) if end.failed.is_some() => "failed",
        Some(_) => "built",
        None if build.is_running() => "running",
        None => "interrupted",
    }
}

fn is_action(run: &Run) -> bool {
    run.action != ids::PUBLISH && run.action != ids::LOCK
}

fn logged(build: &PastBuild) -> LoggedBuild {
    let state = state(build);
    let end = build.end.clone();
    let until = end.as_ref().map(|end| end.at).or((state == "running").then(now));
    let ran = build.runs.iter().filter(|run| is_action(run)).count();
    LoggedBuild {
        number: build.number,
        began: render::utc(build.began.at),
        milliseconds: until.map(|until| until.saturating_sub(build.began.at)),
        state: state.to_owned(),
        imgbuild: build.began.version.clone(),
        target: build.began.target.clone(),
        ran: build.runs.clone(),
        kept: end.as_ref().filter(|end| end.failed.is_none()).map(|end| end.keys.len().saturating_sub(ran)),
        failed: end.as_ref().and_then(|end| end.failed.clone()),
        published: end.as_ref().and_then(|end| Some(end.published.as_ref()?.display().to_string())),
        downloaded_bytes: end.as_ref().map_or(0, |end| end.downloaded_bytes),
        estimate: end.as_ref().and_then(|end| end.estimate.clone()),
        keys: end.map(|end| end.keys).unwrap_or_default(),
    }
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Exit {
    match say(arguments, own) {
        Ok(()) => Exit::Done,
        Err(exit) => exit,
    }
}

fn histories(arguments: &crate::Arguments, own: &Arguments, store: &Store) -> Result<Vec<Vec<PastBuild>>, Exit> {
    if own.all {
        return Ok(store.builds_of_all());
    }
    let of = |recipe: &recipe::Recipe| store.builds(&recipe.directory, &recipe.model.image.name);
    Ok(chosen_to_look(arguments, &own.images)?.iter().map(of).collect())
}

fn say(arguments: &crate::Arguments, own: &Arguments) -> Result<(), Exit> {
    let directory = store_directory(arguments)?;
    let store = Store::existing(&directory);
    let mut histories = histories(arguments, own, &store)?;
    for builds in &mut histories {
        builds.reverse();
        if let Some(number) = own.build {
            builds.retain(|build| build.number == number);
        }
    }
    histories.retain(|builds| !builds.is_empty());
    if histories.is_empty() && !own.json {
        let what = own.build.map_or("nothing was built".to_owned(), |number| format!("there is no build {number}"));
        render::say(&format!("{what} with the store {}", directory.display()));
        return Err(Exit::Input);
    }
    if let Some(stage) = &own.what_ran {
        return what_ran(&histories, stage, &directory);
    }
    if own.json {
        let images = histories
            .iter()
            .map(|builds| LoggedImage {
                name: builds[0].began.image.clone(),
                recipe: builds[0].began.recipe.display().to_string(),
                builds: builds.iter().take(own.limit).map(logged).collect(),
            })
            .collect();
        let document = LogDocument { format_version: "1.0".to_owned(), images };
        render::print_json(&format!("{}\n", serde_json::to_string_pretty(&document).unwrap_or_default()));
        return Ok(());
    }
    let texts: Vec<String> = histories.iter().map(|builds| text(builds, own, arguments.verbose)).collect();
    render::print(&texts.join("\n"));
    Ok(())
}

/// How many actions of a build are named before the rest is folded.
const NAMED: usize = 6;

fn took(milliseconds: u64) -> String {
    render::took(std::time::Duration::from_millis(milliseconds))
}

fn place(run: &Run) -> String {
    let node = run.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
    run.job.as_ref().map(|job| format!(" (job {job}{node})")).unwrap_or_default()
}

/// Why something failed, in one line; the lines that a program printed stand in its log.
fn reason(why: &str) -> &str {
    let first = why.lines().next().unwrap_or_default();
    first.strip_suffix("; its last lines:").unwrap_or(first)
}

fn text(builds: &[PastBuild], own: &Arguments, verbose: u8) -> String {
    let first = &builds[0].began;
    let mut text = format!("{}  {}\n", first.image, first.recipe.display());
    for build in builds.iter().take(own.limit) {
        let shown = logged(build);
        let length = shown.milliseconds.map_or("?".to_owned(), took);
        let ran: Vec<&Run> =
            build.runs.iter().filter(|run| run.action != ids::PUBLISH && run.failed.is_none()).collect();
        let most = if verbose > 0 || own.build.is_some() { usize::MAX } else { NAMED };
        let mut names: Vec<String> = ran
            .iter()
            .take(most)
            .map(|run| format!("{} {}{}", run.action, took(run.milliseconds), place(run)))
            .collect();
        if ran.len() > most {
            names.push(format!("and {} more", ran.len() - most));
        }
        let names = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        let kept = shown.kept.map_or(String::new(), |kept| format!("; kept {kept}"));
        text.push_str(&format!(
            "  {:>4}  {}  {:<11} {length:>8}  ran {names}{kept}\n",
            build.number, shown.began, shown.state
        ));
        for run in build.runs.iter().filter(|run| run.failed.is_some()) {
            let why = reason(run.failed.as_deref().unwrap_or_default());
            let (length, place) = (took(run.milliseconds), place(run));
            text.push_str(&format!("        {} failed after {length}{place}: {why}\n", run.action));
            if let Some(log) = &run.log {
                let gone = if Path::new(log).exists() { "" } else { " (removed since)" };
                text.push_str(&format!("        its log is {log}{gone}\n"));
            }
        }
        let is_reported = build.runs.iter().any(|run| run.failed.is_some());
        if let (Some(why), false) = (&shown.failed, is_reported) {
            text.push_str(&format!("        {}\n", reason(why)));
        }
    }
    if builds.len() > own.limit {
        text.push_str(&format!("  and {} earlier ones (-n shows more)\n", builds.len() - own.limit));
    }
    text
}

/// For each action that fits: its last run, and the command that does it again.
fn what_ran(histories: &[Vec<PastBuild>], stage: &str, store: &Path) -> Result<(), Exit> {
    let mut out = String::new();
    for builds in histories {
        let mut seen = std::collections::BTreeSet::new();
        for build in builds {
            let fits = |run: &&Run| is_action(run) && (run.action.starts_with(stage) || run.action == stage);
            for run in build.runs.iter().filter(fits) {
                let Some(key) = run.key.filter(|_| seen.insert(run.action.clone())) else { continue };
                let how = match &run.failed {
                    Some(why) => format!("failed: {}", reason(why)),
                    None => format!("wrote {}", render::bytes(run.written_bytes)),
                };
                out.push_str(&format!(
                    "# {} of `{}`, build {}, {}: took {}, {how}\n",
                    run.action,
                    build.began.image,
                    build.number,
                    render::utc(build.began.at),
                    took(run.milliseconds)
                ));
                out.push_str(&format!(
                    "imgbuild -C {} --store {} shell {} --action {} --key {key} --run\n",
                    shell(&build.began.recipe.display().to_string()),
                    shell(&store.display().to_string()),
                    shell(&build.began.image),
                    shell(&run.action),
                ));
            }
        }
    }
    if out.is_empty() {
        let all = histories.iter().flatten().flat_map(|build| &build.runs).filter(|run| is_action(run));
        let names: std::collections::BTreeSet<&str> = all.map(|run| run.action.as_str()).collect();
        let names: Vec<&str> = names.into_iter().collect();
        render::say(&format!("no `{stage}` ran in these builds; these ran: {}", names.join(", ")));
        return Err(Exit::Input);
    }
    out.push_str("# without --run: a shell in the same root, with the same files and environment; eval \"$IMGBUILD_COMMAND\" there\n");
    render::print(&out);
    Ok(())
}
