//! `imgbuild capture`: creates a recipe from a node or a tree.

use std::io::ErrorKind;
use std::path::PathBuf;

use crate::Exit;
use crate::output::harmless::push_line;
use crate::output::render;
use site::capture::{CaptureError, CaptureReport, CaptureRequest, Rules, Source, Why, capture};

use super::import::check;
use super::rootimg;
use crate::setup::recipe;

/// Arguments of `capture`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A running node as ssh://[USER@]NODE[:PORT], a directory, or a tar or cpio archive
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// Workspace for the recipe; created if missing
    #[arg(long, value_name = "DIR")]
    pub into: PathBuf,
    /// Name of the image [default: the node's or the file's]
    #[arg(short, long, value_name = "NAME")]
    pub name: Option<String>,
    /// Write no recipe: give this image of the workspace an overlay of the tree's differences from its packages, for instance for an xCAT rootimg that was changed by hand
    #[arg(long, value_name = "IMAGE", conflicts_with_all = ["name", "pin"])]
    pub overlay: Option<String>,
    /// Command that reaches the node, arguments separated by spaces
    #[arg(long, value_name = "COMMAND", default_value = "ssh")]
    pub ssh: String,
    /// Exclude list in imgcapture's format: one find(1) pattern per line. It replaces the paths that
    /// are left out because they are recreated at each boot
    #[arg(long, value_name = "FILE")]
    pub exclude_list: Option<PathBuf>,
    /// Keep secrets, and root's password: they are then in the workspace, and anyone who can fetch the image can read them
    #[arg(long)]
    pub secrets: bool,
    /// Pin the node's package versions. The archives must still have them
    #[arg(long)]
    pub pin: bool,
    /// Replace existing files; the old ones are kept as FILE.ORIG
    #[arg(long)]
    pub force: bool,
    /// Show what would be written, without writing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Exit {
    match captured(arguments, own) {
        Ok(()) => Exit::Done,
        Err(Failed::Reported(exit)) => exit,
        Err(Failed::Capture(error)) => {
            let exit = match &error {
                // An archive's own mistakes have no number of the system's.
                CaptureError::Io { error, .. }
                    if error.kind() == ErrorKind::NotFound || error.raw_os_error().is_none() =>
                {
                    Exit::Input
                }
                CaptureError::Io { .. } | CaptureError::Node { .. } => Exit::Machine,
                _ => Exit::Input,
            };
            render::refused(exit, error)
        }
    }
}

enum Failed {
    Reported(Exit),
    Capture(CaptureError),
}

impl From<CaptureError> for Failed {
    fn from(error: CaptureError) -> Self {
        Self::Capture(error)
    }
}

fn captured(arguments: &crate::Arguments, own: &Arguments) -> Result<(), Failed> {
    let source = Source::parse(&own.source, &arguments.directory)?;
    let listed = match &own.exclude_list {
        None => None,
        Some(path) => {
            let path = arguments.directory.join(path);
            let text = std::fs::read(&path).map_err(|error| CaptureError::Io { path, error })?;
            Some(Rules::read_list(&String::from_utf8_lossy(&text)))
        }
    };
    let mut request = CaptureRequest {
        name: own.name.clone().unwrap_or_else(|| source.name()),
        source,
        shown: own.source.clone(),
        into: arguments.directory.join(&own.into),
        ssh: own.ssh.split_whitespace().map(str::to_owned).collect(),
        rules: Rules { listed, keep_secrets: own.secrets, is_of_xcat: false },
        pinned: own.pin,
        force: own.force,
        dry_run: own.dry_run,
        overlay_for: None,
        synced: std::collections::BTreeMap::new(),
        of_recipe: site::capture::OfRecipe::default(),
    };
    if let Some(image) = &own.overlay {
        let recipe = recipe(&arguments.for_directory(&request.into), Some(image)).map_err(Failed::Reported)?;
        rootimg::overlay(&mut request, &recipe);
    }
    let bar = indicatif::ProgressBar::new_spinner().with_message("reading");
    if let Ok(style) = indicatif::ProgressStyle::with_template("{spinner} {msg} {bytes} ({bytes_per_sec})") {
        bar.set_style(style);
    }
    // On a terminal indicatif draws; a log gets a line per gigabyte.
    let is_log = !std::io::IsTerminal::is_terminal(&std::io::stderr());
    let mut said = 0;
    let report = capture(&request, &mut |bytes| {
        bar.set_position(bytes);
        if is_log && bytes / 1_000_000_000 > said {
            said = bytes / 1_000_000_000;
            render::say(&format!("reading: {said} GB"));
        }
    });
    bar.finish_and_clear();
    let report = report?;
    match (own.json, &own.overlay) {
        (true, _) => render::print_json(&format!("{:#}\n", serde_json::json!(report))),
        (false, None) => render::print(&text_of(&report)),
        (false, Some(image)) => render::print(&rootimg::text_of(&report, &request, image, own)),
    }
    if !own.dry_run && own.overlay.is_none() {
        check(arguments, &request.into);
    }
    Ok(())
}

fn text_of(report: &CaptureReport) -> String {
    let would = if report.dry_run { "would write" } else { "wrote" };
    let mut text = String::new();
    let mut line = |words: String| push_line(&mut text, &words);
    line(format!(
        "{would} {}: {}, {} packages, {} unmodified files of theirs",
        report.directory, report.osvers, report.packages, report.as_packaged
    ));
    for (reason, (count, bytes)) in &report.overlay {
        let bytes = if *bytes > 0 { format!(" ({})", render::bytes(*bytes)) } else { String::new() };
        line(format!("  overlay: {count} {reason}{bytes}"));
    }
    if !report.emptied.is_empty() {
        let folders: Vec<String> =
            report.emptied.iter().take(5).map(|(folder, count)| format!("{folder} ({count})")).collect();
        let more = if report.emptied.len() > 5 { ", ..." } else { "" };
        line(format!("  excluded, as they were empty: {}{more}", folders.join(", ")));
    }
    if !report.largest.is_empty() {
        let folders: Vec<String> =
            report.largest.iter().take(5).map(|(path, bytes)| format!("{path} {}", render::bytes(*bytes))).collect();
        line(format!("  largest: {}", folders.join(", ")));
    }
    if !report.disabled.is_empty() {
        line(format!("  disabled units: {}", report.disabled.join(", ")));
    }
    for (why, (count, some)) in &report.left_out {
        let meaning = Why::ALL.iter().find(|one| one.name() == why).map_or("", |one| one.text());
        let more = if *count > some.len() { ", ..." } else { "" };
        line(format!("  left out: {count} {why}: {meaning}"));
        line(format!("    {}{more}", some.join(", ")));
    }
    if report.unknown > 0 {
        line(format!(
            "  {} files of packages have no digest in the database: the image gets the packages' own",
            report.unknown
        ));
    }
    for note in &report.notes {
        line(format!("note: {note}"));
    }
    text
}
