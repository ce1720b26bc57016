//! `imgbuild import`: imports xCAT definitions, bundles and media, and other provisioners' recipes.

use std::path::PathBuf;

use crate::Exit;
use crate::output::harmless::push_line;
use crate::output::render;
use crate::setup::print_findings;
use crate::verbs::keeping::store::carry;
use crate::verbs::recipe::check::checked;
use recipe::{WORKSPACE_FILE, plain};
use site::bundle::{BundleError, BundleImport, import_bundle};
use site::definitions;
use site::media::{MediaError, MediaImport, import_media};
use site::workspace::{ImportError, ImportRequest, import};

use super::movein::{ConfluentArguments, KiwiArguments, OpenChamiArguments, WarewulfArguments};
use super::report::text_of;

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to import
    #[command(subcommand)]
    pub what: What,
}

/// What is imported.
#[derive(Debug, clap::Subcommand)]
pub enum What {
    /// Create recipes from xCAT osimages
    Xcat(XcatArguments),
    /// Make nodes.toml of xCAT's nodes and groups, of hosts and ethers files, or of Warewulf's nodes.conf
    Nodes(NodesArguments),
    /// Take over a bundle that imgexport or `imgbuild export bundle` wrote
    Bundle(BundleArguments),
    /// Create a repository and default recipes from distribution media
    Media(MediaArguments),
    /// Create a recipe from a Warewulf image: its Containerfile, its overlays
    Warewulf(WarewulfArguments),
    /// Create recipes from YAML of OpenCHAMI's image-builder or image-thrillhouse
    Openchami(OpenChamiArguments),
    /// Create a recipe from a profile of Confluent's imgutil
    Confluent(ConfluentArguments),
    /// Create a recipe from a KIWI description
    Kiwi(KiwiArguments),
}

/// Arguments of `import media`.
#[derive(Debug, clap::Args)]
pub struct MediaArguments {
    /// ISO images, devices or directories; several discs of a set together
    #[arg(value_name = "ISO|DIR|DEVICE", required = true)]
    pub paths: Vec<PathBuf>,
    /// Workspace for the default recipes; created if missing
    #[arg(long, value_name = "DIR")]
    pub into: PathBuf,
    /// Directory of the repositories, DIR/NAME/ARCH [default: `repository` in the workspace]
    #[arg(long, value_name = "DIR")]
    pub repository: Option<PathBuf>,
    /// Directory of the one repository itself, as with copycds -p
    #[arg(long, value_name = "DIR", conflicts_with = "repository")]
    pub destination: Option<PathBuf>,
    /// Distribution name, overriding what the media say: rocky9.4
    #[arg(short, long, value_name = "NAME")]
    pub name: Option<String>,
    /// Their CPU, as `uname -m` prints it
    #[arg(short, long, value_name = "ARCH")]
    pub arch: Option<String>,
    /// Write no recipes
    #[arg(short, long)]
    pub only_repository: bool,
    /// Show what the media are and what would be written, without writing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `import nodes`.
#[derive(Debug, clap::Args)]
pub struct NodesArguments {
    /// What `lsdef -t node,group -z` or `tabdump` of nodelist, mac, hosts, noderes, nodetype, nodehm, bootparams and postscripts wrote
    /// (nodelist first); hosts and ethers files; nodes.conf of Warewulf
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// The workspace
    #[arg(long, value_name = "DIR")]
    pub into: PathBuf,
    /// Print what would be written, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `import xcat`.
#[derive(Debug, clap::Args)]
pub struct XcatArguments {
    /// Output of `lsdef -t osimage -z` or `tabdump`, xCAT's SQLite files, a directory of such files, or the tree of a
    /// management node
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// The workspace; created if missing. A repeated import changes only what changed in xCAT
    #[arg(long, value_name = "DIR")]
    pub into: PathBuf,
    /// Copy lists, scripts and synchronised files into the workspace; otherwise they are read in place
    #[arg(long)]
    pub copy: bool,
    /// Show what would be written, without writing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `import bundle`.
#[derive(Debug, clap::Args)]
pub struct BundleArguments {
    /// The bundle
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The workspace; created if missing. Nothing is written outside of it
    #[arg(long, value_name = "DIR")]
    pub into: PathBuf,
    /// Import it as another profile: the image and its lists are renamed
    #[arg(short, long, value_name = "PROFILE")]
    pub profile: Option<String>,
    /// Replace existing files; the old ones are kept as FILE.ORIG
    #[arg(long)]
    pub force: bool,
    /// Load the bundle's store data. Anyone able to write it controls images built from it
    #[arg(long, conflicts_with = "dry_run")]
    pub records: bool,
    /// Show what would be written, without writing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Exit {
    match &own.what {
        What::Xcat(own) => xcat(arguments, own),
        What::Nodes(own) => super::nodes::import(arguments, &own.files, &own.into, own.dry_run),
        What::Bundle(own) => bundle(arguments, own),
        What::Media(own) => media(arguments, own),
        What::Warewulf(own) => super::movein::warewulf(arguments, own),
        What::Openchami(own) => super::movein::openchami(arguments, own),
        What::Confluent(own) => super::movein::confluent(arguments, own),
        What::Kiwi(own) => super::movein::kiwi(arguments, own),
    }
}

fn exit(error: &ImportError) -> Exit {
    match error {
        ImportError::Nothing | ImportError::Unreadable { .. } | ImportError::Linked { .. } => Exit::Input,
        ImportError::Unwritable { .. } => Exit::Machine,
    }
}

fn xcat(arguments: &crate::Arguments, own: &XcatArguments) -> Exit {
    let below = |path: &PathBuf| arguments.directory.join(path);
    let mut site = definitions::read(&own.paths.iter().map(below).collect::<Vec<_>>());
    if !site.places.of_tree {
        site.places.also(&below(&own.into));
    }
    print_findings(&site.findings, arguments.verbose);
    if site.has_errors() {
        render::say("error: the definitions have errors; nothing was written");
        return Exit::Input;
    }
    let request = ImportRequest { into: below(&own.into), copy: own.copy, sealed: false, dry_run: own.dry_run };
    let mut report = match import(&site, &request) {
        Ok(report) => report,
        Err(error) => {
            return render::refused(exit(&error), error);
        }
    };
    super::rootimg::of_import(&site, &mut report, &request.into);
    let with_nodes = super::nodes::files_with_nodes(&own.paths.iter().map(below).collect::<Vec<_>>());
    match own.json {
        true => render::print_json(&format!("{:#}\n", serde_json::json!(report))),
        false => render::print(&text_of(&report, arguments.verbose)),
    }
    let has_recipes = report.osimages.iter().any(|one| one.recipe.is_some());
    if !has_recipes {
        render::say("error: no recipe can be made from these osimages; nothing was written");
        return Exit::Input;
    }
    if !with_nodes.is_empty() && !own.json {
        let exit = super::nodes::import(arguments, &with_nodes, &own.into, own.dry_run);
        if exit != Exit::Done {
            return exit;
        }
    }
    if !own.dry_run {
        check(arguments, &request.into);
    }
    Exit::Done
}

fn bundle(arguments: &crate::Arguments, own: &BundleArguments) -> Exit {
    let below = |path: &PathBuf| arguments.directory.join(path);
    let request = BundleImport {
        bundle: below(&own.file),
        into: below(&own.into),
        profile: own.profile.clone(),
        force: own.force,
        records: own.records,
        dry_run: own.dry_run,
    };
    let (report, findings) = match import_bundle(&request) {
        Ok(done) => done,
        Err(error) => return failed(error, arguments.verbose),
    };
    print_findings(&findings, arguments.verbose);
    for file in &report.records {
        let exit = carry::load(arguments, &carry::LoadArguments { file: file.clone() }).into();
        let _ = std::fs::remove_file(file);
        if exit != Exit::Done {
            return exit;
        }
    }
    if own.json {
        render::print_json(&format!("{:#}\n", serde_json::json!(report)));
    } else {
        let mut text = text_of(&report.import, arguments.verbose);
        let would = if own.dry_run { "would be written" } else { "written" };
        text.push_str(&format!("{} files of nodes and extras {would}\n", report.files.len()));
        for (name, path) in &report.rootimg {
            push_line(&mut text, &format!("{name}: the packed image is {path}"));
        }
        render::print(&text);
    }
    if !own.dry_run && report.import.osimages.iter().any(|one| one.recipe.is_some()) {
        check(arguments, &request.into);
    }
    Exit::Done
}

fn media(arguments: &crate::Arguments, own: &MediaArguments) -> Exit {
    let below = |path: &PathBuf| arguments.directory.join(path);
    let request = MediaImport {
        paths: own.paths.iter().map(below).collect(),
        into: below(&own.into),
        repository: own.repository.as_ref().map(below),
        destination: own.destination.as_ref().map(below),
        name: own.name.clone(),
        arch: own.arch.clone(),
        only_repository: own.only_repository,
        dry_run: own.dry_run,
    };
    let bar = indicatif::ProgressBar::new_spinner().with_message("copying");
    let shown = indicatif::ProgressStyle::with_template("{spinner} {msg} {bytes} ({bytes_per_sec})");
    if let Ok(style) = shown {
        bar.set_style(style);
    }
    // On a terminal indicatif draws; a log gets a line per gigabyte.
    let is_log = !std::io::IsTerminal::is_terminal(&std::io::stderr());
    let mut copied = 0;
    let done = import_media(&request, &mut |bytes| {
        bar.inc(bytes);
        if is_log && (copied + bytes) / 1_000_000_000 > copied / 1_000_000_000 {
            render::say(&format!("copying: {} GB", (copied + bytes) / 1_000_000_000));
        }
        copied += bytes;
    });
    bar.finish_and_clear();
    let report = match done {
        Ok(report) => report,
        Err(error) => {
            let exit = match &error {
                MediaError::Io { error, .. } if error.kind() == std::io::ErrorKind::NotFound => Exit::Input,
                MediaError::Io { .. } | MediaError::Full { .. } => Exit::Machine,
                _ => Exit::Input,
            };
            return render::refused(exit, error);
        }
    };
    if own.json {
        render::print_json(&format!("{:#}\n", serde_json::json!(report)));
        return Exit::Done;
    }
    let mut text = String::new();
    for one in &report.media {
        let disc = one.disc.as_ref().map_or_else(String::new, |disc| format!(" disc {disc}"));
        push_line(&mut text, &format!("{}: {} {}{disc}", one.source, one.name, one.arch));
        let done = match own.dry_run {
            true => String::new(),
            false => format!(": {} files new ({}), {} kept", one.files, render::bytes(one.bytes), one.kept),
        };
        let would = if own.dry_run { "would go to" } else { "in" };
        push_line(&mut text, &format!("  {would} {}{done}", one.repository.display()));
    }
    for recipe in &report.recipes {
        push_line(&mut text, &format!("{} {recipe}", if own.dry_run { "would write" } else { "wrote" }));
    }
    for note in &report.notes {
        push_line(&mut text, &format!("note: {note}"));
    }
    render::print(&text);
    if !own.dry_run && !report.recipes.is_empty() {
        check(arguments, &request.into);
    }
    Exit::Done
}

pub(crate) fn failed(error: BundleError, verbose: u8) -> Exit {
    if let BundleError::Manifest { findings, .. } = &error {
        print_findings(findings, verbose);
    }
    let exit = match &error {
        BundleError::Io { error, .. } if error.kind() == std::io::ErrorKind::NotFound => Exit::Input,
        BundleError::Io { .. } => Exit::Machine,
        BundleError::Import(error) => exit(error),
        _ => Exit::Input,
    };
    render::refused(exit, error)
}

pub(crate) fn check(arguments: &crate::Arguments, into: &std::path::Path) {
    let into = plain(into);
    // `--into .` has no part left.
    let inside = arguments.for_directory(if into.as_os_str().is_empty() { std::path::Path::new(".") } else { &into });
    let shown = inside.directory.join(WORKSPACE_FILE);
    match checked(&inside, &[], (None, false), false) {
        Ok(selected) if selected.broken.is_empty() => {
            render::say(&format!(
                "{}: imgbuild check finds no error in {} images",
                shown.display(),
                selected.recipes.len()
            ));
        }
        Ok(selected) => render::say(&format!(
            "{}: imgbuild check finds errors in {}: run it with -C {}",
            shown.display(),
            selected.broken.join(", "),
            inside.directory.display()
        )),
        Err(findings) => print_findings(&findings, arguments.verbose),
    }
}
