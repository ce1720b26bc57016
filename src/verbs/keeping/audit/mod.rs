//! `imgbuild audit`: compares the packages of images, or of what nodes boot, with advisories.

pub(crate) mod between;
mod builds;
pub(crate) mod document;
mod files;
pub(crate) mod repositories;
mod sarif;
pub(crate) mod shown;
pub(crate) mod subjects;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::Exit;
use crate::output::render;
use crate::setup::PlacesArguments;
use crate::verbs::nodes::StateArguments;
use advisories::{AdvisoryError, Database, Finding, Report, Severity};
use base::source::counted_as;
use subjects::Audited;

/// Arguments of `audit`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Images, by name or glob [default: the recipe in the current directory, or all in the workspace]
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Audit the builds that these nodes boot and run now, instead of image.lock: cn[001-040], @compute
    #[arg(long, value_name = "RANGE")]
    pub nodes: Option<String>,
    /// File of advisories: OSV (zip or record), Debian's security tracker, CSAF, OpenVEX, updateinfo.xml, CISA's exploited
    /// vulnerabilities, EPSS; repeatable [default: what the image's repositories publish]
    #[arg(long = "db", value_name = "FILE")]
    pub databases: Vec<PathBuf>,
    /// Least severity of a finding that makes the exit code 2; exploited vulnerabilities always do
    #[arg(long, value_name = "SEVERITY", default_value = "any")]
    pub fail_on: FailOn,
    /// Query no repositories: compare with the files of --db alone
    #[arg(long)]
    pub offline: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "sarif")]
    pub json: bool,
    /// Print SARIF 2.1.0, which code hosts show at the lines of image.lock
    #[arg(long)]
    pub sarif: bool,
    /// Where packages come from
    #[command(flatten)]
    pub places: PlacesArguments,
    /// Where the state of nodes is
    #[command(flatten)]
    pub state: StateArguments,
}

/// Least severity that counts. What is not rated counts as medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FailOn {
    /// Every finding
    Any,
    /// Low and worse
    Low,
    /// Medium and worse
    Medium,
    /// High and critical
    High,
    /// Critical
    Critical,
}

impl FailOn {
    fn counts(self, finding: &Finding) -> bool {
        let least = match self {
            Self::Any => return true,
            Self::Low => Severity::Low,
            Self::Medium => Severity::Medium,
            Self::High => Severity::High,
            Self::Critical => Severity::Critical,
        };
        finding.exploited.is_some() || finding.severity.is_at_least(least)
    }
}

/// What images are compared with.
pub(crate) struct Sources<'a> {
    /// Files of advisories.
    pub databases: &'a [PathBuf],
    /// Query no repositories.
    pub offline: bool,
    pub places: &'a PlacesArguments,
    /// Whether what is not known of the repositories is said.
    pub says: bool,
    /// Names of vulnerabilities and advisories of which it is to be known whether anything names them.
    pub asked: &'a [String],
}

/// What was read of the sources, and what of the images could not be compared with it.
pub(crate) struct Comparison {
    pub database: Database,
    /// Images whose repositories were queried.
    settled: BTreeSet<usize>,
    /// What is not known of the repositories.
    unknown: Vec<String>,
}

impl Comparison {
    /// Reads files, or queries repositories where none has versions. Says what is not known.
    /// Errors: A file or a repository cannot be read, or there is nothing to compare with.
    pub(crate) fn of(arguments: &crate::Arguments, own: &Sources, audited: &[Audited]) -> Result<Self, Exit> {
        let components = audited.iter().flat_map(|one| &one.subject.components);
        let mut database = Database::about(components).asking(own.asked);
        for path in subjects::statements(arguments, audited).iter().chain(own.databases) {
            read(&mut database, path)?;
        }
        let mut queried = repositories::Queried::default();
        if !own.offline && !database.has_advisories() && !audited.is_empty() {
            queried = repositories::query(arguments, own.places, &mut database, audited)?;
            if own.says {
                warn(&queried.unknown);
            }
        }
        if !database.has_advisories() && !audited.is_empty() {
            render::say(
                "error: there is nothing to compare with: no repository of these images was queried that publishes security updates\n  help: name a file of advisories with --db, for instance the zip of your distribution that OSV publishes",
            );
            return Err(Exit::Input);
        }
        Ok(Self { database, settled: queried.settled, unknown: queried.unknown })
    }

    /// The findings, and what could not be looked at: all of it in words, and what of that was not said yet.
    pub(crate) fn report(&self, audited: &[Audited]) -> (Report, Vec<String>, Vec<String>) {
        let subjects: Vec<advisories::Subject> = audited.iter().map(|one| one.subject.clone()).collect();
        let report = advisories::audit(&self.database, &subjects, jiff::Timestamp::now());
        let rest = not_compared(audited, &self.database, &report, &self.settled);
        (report, self.unknown.iter().chain(&rest).cloned().collect(), rest)
    }
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Exit> {
    let (audited, mut unknown) = match &own.nodes {
        Some(range) => builds::of_nodes(arguments, own, range)?,
        None => (subjects::of_images(arguments, &own.images)?, Vec::new()),
    };
    warn(&unknown);
    let sources =
        Sources { databases: &own.databases, offline: own.offline, places: &own.places, says: true, asked: &[] };
    let comparison = Comparison::of(arguments, &sources, &audited)?;
    let (report, all, rest) = comparison.report(&audited);
    warn(&rest);
    unknown.extend(all);
    if own.json {
        let document = document::document((&audited, &own.databases), &report, &unknown);
        render::print_json(&format!("{}\n", serde_json::to_string_pretty(&document).unwrap_or_default()));
    } else if own.sarif {
        let document = sarif::document((&audited, &own.databases), &report);
        render::print_json(&format!("{}\n", serde_json::to_string_pretty(&document).unwrap_or_default()));
    } else {
        render::print(&shown::text((&audited, &own.databases), &report, arguments.verbose));
    }
    say_what_else(&audited, &report);
    Ok(match () {
        () if report.findings.iter().any(|finding| own.fail_on.counts(finding)) => Exit::Work,
        // What could not be looked at may have any of them.
        () if !unknown.is_empty() => Exit::Input,
        () => Exit::Done,
    })
}

/// Says what is not known.
pub(crate) fn warn(unknown: &[String]) {
    for problem in unknown {
        render::say(&format!("warning: {problem}"));
    }
}

/// What was compared with nothing: `settled` are images whose repositories were queried.
fn not_compared(audited: &[Audited], database: &Database, report: &Report, settled: &BTreeSet<usize>) -> Vec<String> {
    let mut unknown = Vec::new();
    for (at, one) in audited.iter().enumerate() {
        if !settled.contains(&at) && !report.compared.contains(&at) {
            unknown.push(format!(
                "no file is about packages of `{}` ({}): it was compared with nothing; name one for its distribution and release with --db",
                one.name(),
                one.target
            ));
        } else if database.names_sources() {
            unknown.extend(one.unknown_sources());
        }
        unknown.extend(one.files.problem(&one.name()));
        unknown.extend(files::without_advisories(one, database));
    }
    if report.is_cut {
        unknown.push("there are more findings than are kept: audit fewer images at a time".to_owned());
    }
    unknown
}

fn read(database: &mut Database, path: &Path) -> Result<(), Exit> {
    let name = path.display().to_string();
    let wrong = |problem: String| AdvisoryError { file: name.clone(), place: String::new(), problem };
    // A pipe would be waited for.
    let file = match path.metadata() {
        Ok(found) if found.is_file() => File::open(path).map_err(|error| wrong(format!("cannot be opened: {error}"))),
        Ok(_) => Err(wrong("is not a file".to_owned())),
        Err(error) => Err(wrong(format!("cannot be opened: {error}"))),
    };
    file.and_then(|file| database.read(&name, file)).map_err(|error| render::refused(Exit::Input, error))
}

/// What belongs to no table: statements that ended, files that say nothing of these images, sums.
fn say_what_else(audited: &[Audited], report: &Report) {
    for one in &report.expired {
        render::say(&format!(
            "warning: the statement of {} on {} of {} ended at {}: it no longer counts ({})",
            one.author, one.id, one.source, one.until, one.file
        ));
    }
    let says_versions = |kind: &str| !matches!(kind, "kev" | "epss" | "openvex" | "suite");
    for one in report.databases.iter().filter(|one| one.about == 0 && says_versions(&one.kind)) {
        render::say(&format!(
            "note: nothing in {} ({}) is about packages and releases of these images",
            one.name,
            counted_as(one.records, "record", "records")
        ));
    }
    for note in audited.iter().filter_map(|one| one.files.note(&one.name())) {
        render::say(&format!("note: {note}"));
    }
    let by_path = audited.iter().map(Audited::by_path).sum::<usize>();
    if by_path > 0 {
        render::say(&format!(
            "note: the store lacks {}: their source versions are taken from their own; build or vendor first for exact ones",
            counted_as(by_path, "package", "packages")
        ));
    }
    let counts = Severity::ALL.into_iter().filter_map(|severity| {
        let count = report.findings.iter().filter(|finding| finding.severity == severity).count();
        (count > 0).then(|| format!("{count} {}", severity.name()))
    });
    let counts: Vec<String> = counts.collect();
    let counts = if counts.is_empty() { String::new() } else { format!(": {}", counts.join(", ")) };
    let silenced = match report.silenced.len() {
        0 => String::new(),
        count => format!("; {} by a statement (-v shows them)", counted_as(count, "does not count", "do not count")),
    };
    render::say(&format!(
        "{} in {}{counts}{silenced}",
        counted_as(report.findings.len(), "finding", "findings"),
        counted_as(audited.len(), "image", "images")
    ));
}
