//! `imgbuild store`: what is in the store, whether it is whole, and what is pinned.

pub(crate) mod carry;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use rayon::prelude::*;
use serde::Serialize;

use crate::Exit;
use crate::output::render;
use crate::setup::{Setup, recipe, store_directory};
use base::digest::Digest;
use build::remove_collected;
use store::{Collected, Damage, DamagedLayer, FileLock, Item, ItemKind, Policy, Store, StoreError, Survey};

/// Arguments of `store`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done with the store.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Read everything and verify it
    Verify {
        /// Remove damaged items; the next build recreates them
        #[arg(long)]
        repair: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show disk usage, what images share, and what gc would free
    Stats {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Save what the last builds need to one file, for another machine or user
    Save(carry::SaveArguments),
    /// Load a file written by `store save`
    Load(carry::LoadArguments),
    /// Pin an image's last build under a label, so that gc keeps it; without a label, list pins
    Pin {
        /// The label: letters, digits, `-`, `_`, `+`, dots
        #[arg(value_parser = label)]
        label: Option<String>,
        /// The image [default: that of the recipe in the current directory]
        #[arg(conflicts_with = "remove")]
        image: Option<String>,
        /// Remove the pin
        #[arg(long, requires = "label")]
        remove: bool,
        /// Print JSON
        #[arg(long, conflicts_with_all = ["label", "image", "remove"])]
        json: bool,
    },
}

/// What a kind is called: one, and several.
pub(crate) fn words(kind: ItemKind) -> (&'static str, &'static str) {
    match kind {
        ItemKind::Layer => ("layer", "layers"),
        ItemKind::Manifest => ("manifest", "manifests"),
        ItemKind::Frame => ("frame", "frames"),
        ItemKind::Blob => ("blob", "blobs"),
        ItemKind::Package => ("package", "packages"),
        ItemKind::Decompressed => ("decompressed package", "decompressed packages"),
        ItemKind::Index => ("index", "indices"),
        ItemKind::Solving => ("solver cache", "solver caches"),
        ItemKind::Record => ("record", "records"),
        ItemKind::Build => ("build", "builds"),
        ItemKind::Memo => ("memo", "memos"),
        ItemKind::Log => ("log", "logs"),
        ItemKind::Handover => ("handover", "handovers"),
        ItemKind::Scratch => ("scratch directory", "scratch directories"),
    }
}

fn failed(error: StoreError) -> Exit {
    render::failed(error)
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Exit> {
    match &own.command {
        Command::Verify { repair, json } => verify(arguments, *repair, *json),
        Command::Stats { json } => stats(arguments, *json),
        Command::Save(own) => carry::save(arguments, own),
        Command::Load(own) => carry::load(arguments, own),
        Command::Pin { label: None, json, .. } => pins(arguments, *json),
        Command::Pin { label: Some(label), remove: true, .. } => unpin(arguments, label),
        Command::Pin { label: Some(label), image, .. } => pin(arguments, label, image.as_deref()),
    }
}

fn survey(store: &Store) -> Result<Survey, Exit> {
    store.survey().map_err(failed)
}

#[derive(Serialize)]
struct VerifyDocument<'a> {
    format_version: &'a str,
    checked: usize,
    checked_bytes: u64,
    damaged: &'a [Damage],
    repaired: bool,
}

/// How many layers one helper process compares.
const LAYERS_AT_ONCE: usize = 4;

fn verify(arguments: &crate::Arguments, repair: bool, json: bool) -> Result<Exit, Exit> {
    let setup = if repair { Setup::open(arguments) } else { Setup::open_to_read(arguments) }?;
    let store = &setup.store;
    // Builds may go on meanwhile; gc may not, and nothing is removed under a build.
    let held = if repair {
        let taken = store.take_use(super::gc::PATIENCE).map_err(failed)?;
        taken
            .ok_or_else(|| {
                render::say("a build is using the store: run this again when it is done");
                Exit::Machine
            })
            .map(Some)?
    } else {
        // A store that cannot be written has no lock to take, and no one who changes it.
        FileLock::share_to_read(&store.use_lock()).map_err(failed)?
    };
    // Remembered builds that cannot be read are damage too, and no reason to stop.
    let items = store.items();
    let unfinished: Vec<&Item> = items.iter().filter(|item| store.is_unfinished(item)).collect();
    let (layers, others): (Vec<&Item>, Vec<&Item>) = items
        .iter()
        .filter(|item| !store.is_unfinished(item))
        .filter(|item| {
            !matches!(
                item.kind,
                ItemKind::Decompressed
                    | ItemKind::Memo
                    | ItemKind::Log
                    | ItemKind::Handover
                    | ItemKind::Solving
                    | ItemKind::Scratch
            )
        })
        .partition(|item| item.kind == ItemKind::Layer);
    let total = layers.len() + others.len();
    let done = AtomicUsize::new(0);
    let progress = Progress::new(arguments, total);
    let mut damaged: Vec<Damage> = others
        .par_iter()
        .filter_map(|item| {
            let damage = store.damage_of(item);
            progress.at(done.fetch_add(1, Ordering::Relaxed) + 1);
            damage
        })
        .collect();
    for some in layers.chunks(LAYERS_AT_ONCE) {
        let named = some.iter().filter_map(|item| Digest::parse(item.path.rsplit('/').next()?).ok());
        let digests: Vec<Digest> = named.collect();
        let found: Vec<DamagedLayer> =
            setup.namespace.call("check-layers", &digests, &mut |_| {}).map_err(render::failed)?;
        damaged
            .extend(found.into_iter().map(|one| Damage { path: Store::tree_name(&one.layer), problem: one.problem }));
        let strange =
            some.iter().filter(|item| item.path.rsplit('/').next().is_none_or(|name| Digest::parse(name).is_err()));
        damaged.extend(strange.map(|item| Damage { path: item.path.clone(), problem: "is not a layer".to_owned() }));
        progress.at(done.fetch_add(some.len(), Ordering::Relaxed) + some.len());
    }
    progress.end();
    damaged.sort();
    let cut_off: Vec<Damage> = damaged.extract_if(.., |damage| damage.is_cut_off()).collect();
    if repair {
        let paths =
            damaged.iter().chain(&cut_off).map(|damage| &damage.path).chain(unfinished.iter().map(|item| &item.path));
        remove(&setup, paths.map(String::as_str))?;
    }
    drop(held);
    let bytes: u64 = layers.iter().chain(&others).map(|item| item.bytes).sum();
    if json {
        let document = VerifyDocument {
            format_version: "1.0",
            checked: total,
            checked_bytes: bytes,
            damaged: &damaged,
            repaired: repair && !damaged.is_empty(),
        };
        render::print_json(&format!("{}\n", serde_json::to_string_pretty(&document).unwrap_or_default()));
    } else {
        for damage in &damaged {
            render::print(&format!("{} {}\n", damage.path, damage.problem));
        }
        render::say(&format!(
            "{} entries with {} read, {} damaged",
            crate::output::render::counted(total),
            render::bytes(bytes),
            damaged.len()
        ));
        let count = unfinished.len() + cut_off.len();
        if count > 0 {
            let (entries, were) = if count == 1 { ("entry", "was") } else { ("entries", "were") };
            render::say(&format!(
                "{} {entries} {were} not finished when a command was killed or the machine lost its power: nothing is lost, builds do not need them, and {}",
                count,
                if repair { "they are removed now" } else { "`imgbuild store verify --repair` removes them" }
            ));
        }
    }
    Ok(match (damaged.is_empty(), repair) {
        (true, _) => Exit::Done,
        (false, true) => {
            render::say("damaged items were removed: `imgbuild build` recreates them");
            Exit::Done
        }
        (false, false) => {
            render::say("`imgbuild store verify --repair` removes damaged items, and the next build recreates them");
            Exit::Store
        }
    })
}

/// Takes damaged things out, each with what belongs to it.
fn remove<'a>(setup: &Setup, paths: impl Iterator<Item = &'a str>) -> Result<(), Exit> {
    let gone = Collected::with_kin(paths);
    remove_collected(&setup.store, &setup.namespace, gone).map_err(render::failed)
}

/// A line that moves on a terminal; elsewhere nothing, or events.
struct Progress {
    bar: Option<indicatif::ProgressBar>,
    total: usize,
    json: bool,
}

impl Progress {
    fn new(arguments: &crate::Arguments, total: usize) -> Self {
        use std::io::IsTerminal;
        let json = arguments.progress == crate::ProgressKind::Json;
        let moving = arguments.progress == crate::ProgressKind::Auto && std::io::stderr().is_terminal();
        Self { bar: moving.then(|| indicatif::ProgressBar::new(total as u64)), total, json }
    }

    fn at(&self, done: usize) {
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
        }
        // Ten lines are enough for a log.
        let tenth = self.total.div_ceil(10).max(1);
        if self.json && (done.is_multiple_of(tenth) || done == self.total) {
            render::say(&serde_json::json!({"event": "verify", "done": done, "of": self.total}).to_string());
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[derive(Serialize)]
struct Sum {
    kind: ItemKind,
    count: usize,
    bytes: u64,
}

#[derive(Serialize)]
struct ImageSum {
    image: String,
    recipe: std::path::PathBuf,
    bytes: u64,
    /// That which no other image reaches.
    own_bytes: u64,
    builds: usize,
}

#[derive(Serialize)]
struct StatsDocument {
    format_version: &'static str,
    directory: std::path::PathBuf,
    bytes: u64,
    kinds: Vec<Sum>,
    images: Vec<ImageSum>,
    /// What more than one image reaches.
    shared_bytes: u64,
    pins: Vec<String>,
    gc_would_free_bytes: u64,
}

fn stats(arguments: &crate::Arguments, json: bool) -> Result<Exit, Exit> {
    let store = Store::existing(&store_directory(arguments)?);
    let survey = survey(&store)?;
    let bytes = |items: &[usize]| -> u64 { items.iter().map(|item| survey.items[*item].bytes).sum() };
    let all: Vec<usize> = (0..survey.items.len()).collect();
    let images = survey.images();
    let mut users: BTreeMap<usize, usize> = BTreeMap::new();
    for item in images.values().flatten() {
        *users.entry(*item).or_default() += 1;
    }
    let of_images = images.iter().map(|((recipe, image), items)| {
        let own: Vec<usize> = items.iter().copied().filter(|item| users.get(item) == Some(&1)).collect();
        let all: Vec<usize> = items.iter().copied().collect();
        let is_of = |build: &&store::Build| build.root.recipe == *recipe && build.root.image == *image;
        ImageSum {
            image: image.clone(),
            recipe: recipe.clone(),
            bytes: bytes(&all),
            own_bytes: bytes(&own),
            builds: survey.builds.iter().filter(is_of).count(),
        }
    });
    let shared: Vec<usize> = users.iter().filter(|(_, count)| **count > 1).map(|(item, _)| *item).collect();
    let kept = survey.kept(&Policy::default(), SystemTime::now());
    let document = StatsDocument {
        format_version: "1.0",
        directory: store.directory().to_owned(),
        bytes: bytes(&all),
        kinds: survey.by_kind(&all).into_iter().map(|(kind, (count, bytes))| Sum { kind, count, bytes }).collect(),
        images: of_images.collect(),
        shared_bytes: bytes(&shared),
        pins: survey.builds.iter().filter_map(|build| build.pin.clone()).collect(),
        gc_would_free_bytes: bytes(&survey.surplus(&kept, &Policy::default())),
    };
    if json {
        render::print_json(&format!("{}\n", serde_json::to_string_pretty(&document).unwrap_or_default()));
        return Ok(Exit::Done);
    }
    let mut text = format!("{:>9}  {}\n", render::bytes(document.bytes), document.directory.display());
    for sum in &document.kinds {
        let (one, many) = words(sum.kind);
        let count = crate::output::render::counted(sum.count);
        text.push_str(&format!(
            "{:>9}    {count} {}\n",
            render::bytes(sum.bytes),
            if sum.count == 1 { one } else { many }
        ));
    }
    for image in &document.images {
        text.push_str(&format!(
            "{:>9}  {} ({}): {} of its own, {} build{}\n",
            render::bytes(image.bytes),
            image.image,
            image.recipe.display(),
            render::bytes(image.own_bytes),
            image.builds,
            if image.builds == 1 { "" } else { "s" }
        ));
    }
    text.push_str(&format!("{:>9}  shared between images\n", render::bytes(document.shared_bytes)));
    if !document.pins.is_empty() {
        text.push_str(&format!("           pinned: {}\n", document.pins.join(", ")));
    }
    text.push_str(&format!("{:>9}  would be freed by `imgbuild gc`\n", render::bytes(document.gc_would_free_bytes)));
    render::print(&text);
    Ok(Exit::Done)
}

fn label(text: &str) -> Result<String, String> {
    store::check_label(text).map(|()| text.to_owned())
}

fn pin(arguments: &crate::Arguments, label: &str, image: Option<&str>) -> Result<Exit, Exit> {
    let recipe = recipe(arguments, image)?;
    let setup = Setup::open(arguments)?;
    let _held = setup.share()?;
    let name = &recipe.model.image.name;
    let Some(root) = setup.store.root(&recipe.directory, name) else {
        render::say(&format!("error: `{name}` was not built here: there is nothing to pin; run `imgbuild build`"));
        return Err(Exit::Input);
    };
    if let Some(was) = setup.store.pinned(label).map_err(failed)? {
        let same = |of: &store::Root| (of.recipe.clone(), of.image.clone(), of.actions.clone());
        if same(&was) != same(&root) {
            let what = if (&was.recipe, &was.image) == (&root.recipe, &root.image) {
                format!("another build of {name}")
            } else {
                format!("{} ({})", was.image, was.recipe.display())
            };
            render::say(&format!(
                "error: {label} already pins {what}: remove that pin first (imgbuild store pin {label} --remove), or \
                 choose another label"
            ));
            return Err(Exit::Input);
        }
    }
    setup.store.pin(label, &root).map_err(failed)?;
    render::say(&format!("the last build of {name} is pinned as {label}"));
    Ok(Exit::Done)
}

fn unpin(arguments: &crate::Arguments, label: &str) -> Result<Exit, Exit> {
    let setup = Setup::open(arguments)?;
    let _held = setup.share()?;
    if setup.store.unpin(label).map_err(failed)? {
        render::say(&format!("{label} is no longer pinned"));
        return Ok(Exit::Done);
    }
    render::say(&format!("error: nothing is pinned as {label}; `imgbuild store pin` lists the pins"));
    Err(Exit::Input)
}

fn pins(arguments: &crate::Arguments, json: bool) -> Result<Exit, Exit> {
    let store = Store::existing(&store_directory(arguments)?);
    let survey = survey(&store)?;
    let pinned: Vec<_> = survey.builds.iter().filter_map(|build| Some((build.pin.as_deref()?, &build.root))).collect();
    if json {
        let pins: Vec<_> = pinned
            .iter()
            .map(|(label, root)| serde_json::json!({"label": label, "image": root.image, "recipe": root.recipe, "published": root.published}))
            .collect();
        render::print_json(&format!("{:#}\n", serde_json::json!({"format_version": "1.0", "pins": pins})));
    } else {
        let line =
            |(label, root): &(&str, &store::Root)| format!("{label}  {} ({})\n", root.image, root.recipe.display());
        render::print(&pinned.iter().map(line).collect::<String>());
    }
    Ok(Exit::Done)
}
