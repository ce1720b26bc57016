//! `imgbuild import warewulf`, `openchami`, `confluent`, `kiwi`: recipes of what other provisioners build images from.

use std::path::PathBuf;

use crate::Exit;
use crate::output::harmless::push_line;
use crate::output::render;
use crate::verbs::recipe::init::distro;
use movein::{MoveReport, MoveRequest, MovedImage, Row, Source, State, Verdict, move_in};
use recipe::{Arch, Distro};

use super::import::check;

/// What all of them have.
#[derive(Debug, clap::Args)]
pub struct MoveArguments {
    /// The workspace; created if missing. Images that exist are kept
    #[arg(long, value_name = "DIR")]
    pub into: PathBuf,
    /// Name of the image [default: as the input calls it]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Distribution, if the input does not say it
    #[arg(long, value_name = "NAME", value_parser = distro)]
    pub distro: Option<Distro>,
    /// Release, if the input does not say it
    #[arg(long, value_name = "RELEASE")]
    pub release: Option<String>,
    /// CPU, as `uname -m` prints it
    #[arg(long, value_name = "ARCH", value_parser = arch)]
    pub arch: Option<Arch>,
    /// Directory with the files of the other host: absolute paths of the input are found below it
    #[arg(long, value_name = "DIR")]
    pub files: Option<PathBuf>,
    /// Show what would be written, without writing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `import kiwi`.
#[derive(Debug, clap::Args)]
pub struct KiwiArguments {
    /// config.xml or *.kiwi, or the directory with it
    #[arg(value_name = "FILE|DIR", required = true)]
    pub paths: Vec<PathBuf>,
    /// Profile whose sections are taken; may be repeated [default: those that KIWI takes by itself]
    #[arg(long = "profile", value_name = "NAME")]
    pub profiles: Vec<String>,
    #[command(flatten)]
    pub all: MoveArguments,
}

/// Arguments of `import openchami`.
#[derive(Debug, clap::Args)]
pub struct OpenChamiArguments {
    /// YAML files of image-builder, or configurations and manifests of image-thrillhouse; parents before their children
    #[arg(value_name = "FILE", required = true)]
    pub paths: Vec<PathBuf>,
    #[command(flatten)]
    pub all: MoveArguments,
}

/// Arguments of `import warewulf`.
#[derive(Debug, clap::Args)]
pub struct WarewulfArguments {
    /// Containerfile, a directory with one, or an image of Warewulf (chroots/NAME)
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Containerfile that the image was made from
    #[arg(long, value_name = "FILE")]
    pub containerfile: Option<PathBuf>,
    /// Overlay, or a directory of overlays (/var/lib/warewulf/overlays); may be repeated
    #[arg(long = "overlay", value_name = "DIR")]
    pub overlays: Vec<PathBuf>,
    #[command(flatten)]
    pub all: MoveArguments,
}

/// Arguments of `import confluent`.
#[derive(Debug, clap::Args)]
pub struct ConfluentArguments {
    /// Directory of a profile: pkglist, syncfiles, scripts, profile.yaml
    #[arg(value_name = "DIR")]
    pub path: PathBuf,
    /// Package list, as `imgutil build -p` and `-a` take it; may be repeated [default: DIR/pkglist]
    #[arg(long = "packages", value_name = "FILE")]
    pub lists: Vec<PathBuf>,
    #[command(flatten)]
    pub all: MoveArguments,
}

fn arch(text: &str) -> Result<Arch, String> {
    Arch::named(text).ok_or_else(|| format!("supported: {}", Arch::names()))
}

pub(crate) fn kiwi(arguments: &crate::Arguments, own: &KiwiArguments) -> Exit {
    let request = request(arguments, &own.all, Source::Kiwi, &own.paths);
    run(arguments, &own.all, &MoveRequest { profiles: own.profiles.clone(), ..request })
}

pub(crate) fn openchami(arguments: &crate::Arguments, own: &OpenChamiArguments) -> Exit {
    run(arguments, &own.all, &request(arguments, &own.all, Source::OpenChami, &own.paths))
}

pub(crate) fn warewulf(arguments: &crate::Arguments, own: &WarewulfArguments) -> Exit {
    let below = |path: &PathBuf| arguments.directory.join(path);
    let request = request(arguments, &own.all, Source::Warewulf, std::slice::from_ref(&own.path));
    let (overlays, containerfile) = (own.overlays.iter().map(below).collect(), own.containerfile.as_ref().map(below));
    run(arguments, &own.all, &MoveRequest { overlays, containerfile, ..request })
}

pub(crate) fn confluent(arguments: &crate::Arguments, own: &ConfluentArguments) -> Exit {
    let lists = own.lists.iter().map(|path| arguments.directory.join(path)).collect();
    let request = request(arguments, &own.all, Source::Confluent, std::slice::from_ref(&own.path));
    run(arguments, &own.all, &MoveRequest { lists, ..request })
}

fn request(arguments: &crate::Arguments, own: &MoveArguments, source: Source, paths: &[PathBuf]) -> MoveRequest {
    let below = |path: &PathBuf| arguments.directory.join(path);
    MoveRequest {
        source,
        paths: paths.iter().map(below).collect(),
        shown: paths.iter().map(|path| path.display().to_string()).collect(),
        into: below(&own.into),
        name: own.name.clone(),
        distro: own.distro,
        release: own.release.clone(),
        arch: own.arch,
        files: own.files.as_ref().map(below),
        profiles: Vec::new(),
        overlays: Vec::new(),
        containerfile: None,
        lists: Vec::new(),
        dry_run: own.dry_run,
    }
}

fn run(arguments: &crate::Arguments, own: &MoveArguments, request: &MoveRequest) -> Exit {
    let report = match move_in(request) {
        Ok(report) => report,
        Err(error) => {
            let exit = if error.is_of_input() { Exit::Input } else { Exit::Machine };
            return render::refused(exit, error);
        }
    };
    match own.json {
        true => render::print_json(&format!("{:#}\n", serde_json::json!(report))),
        false => render::print(&text_of(&report, arguments.verbose)),
    }
    if report.images.iter().all(|image| image.state == State::Skipped) {
        render::say("error: no recipe was made; nothing was written");
        return Exit::Input;
    }
    if !own.dry_run {
        check(arguments, &request.into);
    }
    Exit::Done
}

fn text_of(report: &MoveReport, verbose: u8) -> String {
    let mut text = String::new();
    for image in &report.images {
        image_text(&mut text, image, report.dry_run, verbose);
    }
    text
}

fn image_text(text: &mut String, image: &MovedImage, dry_run: bool, verbose: u8) {
    let recipe = image.recipe.as_deref().unwrap_or_default();
    let what = match (image.state, dry_run) {
        (State::Skipped, _) => "no recipe".to_owned(),
        (State::New, true) => format!("would write {recipe} and {} files", image.files.len().saturating_sub(1)),
        (State::New, false) => format!("wrote {recipe} and {} files", image.files.len().saturating_sub(1)),
    };
    push_line(text, &format!("{}: {what}", image.name));
    if let Some(reason) = &image.reason {
        push_line(text, &format!("  {reason}"));
        return;
    }
    let of = |verdict: Verdict| image.keys.iter().filter(move |row| row.verdict == verdict);
    for verdict in [Verdict::Exact, Verdict::Stays] {
        let mut names: Vec<String> = Vec::new();
        for row in of(verdict) {
            // One word for all items of a list.
            let name = row.key.split('[').next().unwrap_or(&row.key).to_owned();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if !names.is_empty() {
            push_line(text, &format!("  {:<8} {}", verdict.name(), names.join(", ")));
        }
    }
    let is_found = |row: &&Row| row.verdict == Verdict::Exact && row.value.is_empty() && !row.reason.is_empty();
    // A part of a key has the reason of the whole one.
    let is_said = |row: &&Row| {
        !row.reason.is_empty() && (verbose > 0 || matches!(row.verdict, Verdict::Differs | Verdict::Decide))
            || is_found(row)
    };
    for verdict in [Verdict::Exact, Verdict::Stays, Verdict::Differs, Verdict::Decide] {
        for row in of(verdict).filter(is_said) {
            let value = if row.value.is_empty() { String::new() } else { format!(" ({})", row.value) };
            push_line(text, &format!("  {:<8} {}: {}{value}: {}", verdict.name(), row.place(), row.key, row.reason));
        }
    }
}
