//! `imgbuild nodes --needs`: the smallest restart that brings each node from the build that it runs to the one that it is to boot.

mod pairs;
mod shown;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

pub(crate) use self::pairs::Unbuilt;
use self::pairs::{Build, Pairs};
use super::{Site, failed};
use crate::Exit;
use crate::output::render;
use crate::published::published_here;
use base::format::Version;
use nodes::state::now;
use nodes::{Assigned, Boots, NodeSet, Report, ReportState};
use restart::{Answer, Restart};

const NEEDS_FORMAT: Version = Version::new(1, 0);

/// What `nodes --needs --json` prints. Readers ignore fields that they do not know.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "imgbuild nodes --needs --json")]
pub(crate) struct NeedsDocument {
    /// Version of this form.
    pub format_version: String,
    /// When it was printed, in milliseconds since 1970.
    pub time: u64,
    /// One entry per node, in the order of their names.
    pub nodes: Vec<NodeNeeds>,
    /// Pairs of builds, each compared once.
    pub comparisons: Vec<Comparison>,
}

/// A node.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct NodeNeeds {
    /// Its name.
    pub name: String,
    /// The build that it reported; left out if it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs: Option<BuildName>,
    /// The build that it is to boot: what `nodeset` gave it, else the published one of its image; left out if it has no build to boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boots: Option<BuildName>,
    /// What it needs; null if it boots no build.
    pub restart: Option<Restart>,
    /// The entry of `comparisons` that has the reasons, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<usize>,
    /// Why, where no builds were compared. It begins with `not known: ` if a restart stands for what is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to do about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// A build of an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub(crate) struct BuildName {
    /// The image.
    pub image: String,
    /// Name of the build, as its directory is called.
    pub build: String,
}

/// What two builds have differently, as a restart.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Comparison {
    /// The build that runs.
    pub runs: BuildName,
    /// The build that is to boot.
    pub boots: BuildName,
    /// What is needed, and why.
    pub answer: Answer,
}

/// What is known of a node before builds are compared.
enum Standing {
    /// It runs one build and is to boot another.
    Between(Build, Build),
    /// Builds need not be compared, or cannot be.
    Alone(Alone),
    /// It runs what it is to boot.
    Same,
}

/// What a node needs without a comparison, and why; what to do about that.
struct Alone(Option<Restart>, String, Option<&'static str>);

const REPORT: &str =
    "a node reports while it boots: `imgbuild nodes RANGE --watch` shows it; a restart of the machine is always enough";
const PUBLISH: &str = "`imgbuild build` publishes the image, and `imgbuild nodeset` gives nodes its build";
const NODESET: &str = "`imgbuild nodeset RANGE IMAGE` gives nodes the build that is published now";

/// The build that a report names, if it can be one.
fn reported_name(report: &Report) -> Option<BuildName> {
    let (image, build) = (report.image.clone()?, report.build.clone()?);
    let is_name = recipe::is_image_name(&image) && !build.starts_with('.') && !build.contains('/');
    is_name.then_some(BuildName { image, build })
}

/// Images and what is published of them, each looked up once.
struct Published<'a> {
    arguments: &'a crate::Arguments,
    outs: Option<BTreeMap<String, PathBuf>>,
    builds: BTreeMap<String, Option<Build>>,
}

impl Published<'_> {
    /// The directory that the builds of an image are published in.
    fn out(&mut self, image: &str) -> Option<PathBuf> {
        let arguments = self.arguments;
        let all = || published_here(arguments, true).into_iter().map(|place| (place.name, place.out)).collect();
        self.outs.get_or_insert_with(all).get(image).cloned()
    }

    /// The published build of an image.
    fn build(&mut self, image: &str) -> Option<Build> {
        if let Some(known) = self.builds.get(image) {
            return known.clone();
        }
        let of_directory = |directory: PathBuf| {
            let build = directory.file_name()?.to_str()?.to_owned();
            Some(Build { name: BuildName { image: image.to_owned(), build }, directory })
        };
        let directory = self.out(image).and_then(|out| build::published(&out, image));
        let build = directory.and_then(|(directory, _)| of_directory(directory));
        self.builds.insert(image.to_owned(), build.clone());
        build
    }

    /// Where a build is that a node reported: beside the one that it is to boot, or where its image is published.
    fn reported(&mut self, name: &BuildName, boots: &Build) -> Build {
        let beside = boots.directory.parent().map(PathBuf::from).filter(|_| boots.name.image == name.image);
        let builds = beside.or_else(|| self.out(&name.image).map(|out| out.join(".builds").join(&name.image)));
        Build { name: name.clone(), directory: builds.unwrap_or_default().join(&name.build) }
    }

    /// What a node is to boot.
    /// Errors: Why that is no build.
    fn boots(
        &mut self,
        assigned: Option<&Assigned>,
        image: Option<&str>,
        report: Option<&Report>,
    ) -> Result<Build, Alone> {
        let is_running = report.is_some_and(|report| report.state != ReportState::Failed && report.build.is_some());
        let leaves = |text: &str| match is_running {
            true => Alone(Some(Restart::Reboot), format!("it runs a build, and {text}"), None),
            false => Alone(None, text.to_owned(), None),
        };
        match (assigned.map(|one| &one.boots), image) {
            (Some(Boots::Image { image, build, directory }), _) => {
                let name = BuildName { image: image.clone(), build: build.clone() };
                Ok(Build { name, directory: directory.clone() })
            }
            (Some(Boots::Disk), _) => Err(leaves("it is to boot its disk")),
            (Some(Boots::Nothing), _) => Err(leaves("it is to boot nothing")),
            (None, Some(image)) => self
                .build(image)
                .ok_or_else(|| Alone(None, format!("nothing is published of `{image}`"), Some(PUBLISH))),
            (None, None) => Err(Alone(None, "it has no image".to_owned(), Some(NODESET))),
        }
    }

    /// What a node runs and needs, by its report; whether it has started again since.
    fn standing(&mut self, boots: &Build, report: Option<&Report>, has_started: bool) -> (Option<BuildName>, Standing) {
        let reboot = |text: &str| Standing::Alone(Alone(Some(Restart::Reboot), text.to_owned(), Some(REPORT)));
        let Some(report) = report else { return (None, reboot("not known: it has not reported which build it runs")) };
        if has_started {
            return (None, reboot("not known: it has started again and has not reported since"));
        }
        if report.state == ReportState::Failed {
            let why = report.reason.as_deref().unwrap_or("without a reason");
            let text = format!("its last start failed: {}", crate::output::harmless::one_line(why));
            return (reported_name(report), Standing::Alone(Alone(Some(Restart::Reboot), text, None)));
        }
        let Some(name) = reported_name(report) else {
            return (None, reboot("not known: its report names no build that it runs"));
        };
        if name == boots.name {
            return (Some(name), Standing::Same);
        }
        let runs = self.reported(&name, boots);
        (Some(name), Standing::Between(runs, boots.clone()))
    }
}

/// Builds that are compared with one that nodes are to get.
pub(crate) struct Compared<'a> {
    pairs: Pairs<'a>,
    published: Published<'a>,
    boots: Build,
}

impl<'a> Compared<'a> {
    /// For a build in its directory.
    pub(crate) fn with(arguments: &'a crate::Arguments, name: BuildName, directory: PathBuf) -> Self {
        let published = Published { arguments, outs: None, builds: BTreeMap::new() };
        Self { pairs: Pairs::new(arguments), published, boots: Build { name, directory } }
    }

    /// What takes a node from another build to it.
    /// Errors: The exit code, after a store that a later imgbuild wrote was reported.
    pub(crate) fn answer(&mut self, runs: &BuildName) -> Result<&Answer, Exit> {
        let runs = self.published.reported(runs, &self.boots);
        let at = self.pairs.compared(&runs, &self.boots)?;
        self.pairs.all.get(at).map(|one| &one.answer).ok_or(Exit::Mistake)
    }

    /// What a sync would bring otherwise than the build has it.
    /// Errors: The exit code; as text, why that is not known.
    pub(crate) fn unbuilt(&mut self) -> Result<Result<Unbuilt, String>, Exit> {
        self.pairs.unbuilt(&self.boots)
    }
}

/// The lines that start services again on a node.
pub(crate) fn restart_lines(services: &[String]) -> String {
    let mut answer = Answer::of(Vec::new());
    (answer.restart, answer.services) = (Restart::Services, services.to_vec());
    shown::commands(&answer, "").pop().unwrap_or_default()
}

/// What the nodes of a set need, in their order, and the builds that were compared for it.
/// Errors: The exit code, after what is wrong with the nodes' state or the store was printed.
pub(crate) fn needs(
    arguments: &crate::Arguments,
    site: &Site,
    set: &NodeSet,
) -> Result<(Vec<NodeNeeds>, Vec<Comparison>), Exit> {
    let assigned = site.state.assignments().map_err(failed)?;
    let (mut reports, asked) = (site.state.reports(), site.state.asked());
    let mut published = Published { arguments, outs: None, builds: BTreeMap::new() };
    let mut pairs = Pairs::new(arguments);
    let mut nodes = Vec::new();
    for name in set.iter() {
        let Some(node) = site.nodes.get(name) else { continue };
        let report = reports.remove(name);
        let has_started = asked.get(name).is_some_and(|asked| asked.is_open(report.as_ref()));
        let boots = published.boots(assigned.nodes.get(name), node.image(), report.as_ref());
        let (boots, (runs, standing)) = match boots {
            Ok(boots) => {
                let standing = published.standing(&boots, report.as_ref(), has_started);
                (Some(boots.name), standing)
            }
            Err(alone) => (None, (report.as_ref().and_then(reported_name), Standing::Alone(alone))),
        };
        let mut entry = NodeNeeds {
            name: name.to_owned(),
            runs,
            boots,
            restart: Some(Restart::Nothing),
            comparison: None,
            reason: None,
            help: None,
        };
        match standing {
            Standing::Same => {}
            Standing::Alone(Alone(restart, reason, help)) => {
                (entry.restart, entry.reason, entry.help) = (restart, Some(reason), help.map(str::to_owned));
            }
            Standing::Between(runs, boots) => {
                let at = pairs.compared(&runs, &boots)?;
                entry.restart = Some(pairs.all[at].answer.restart);
                entry.comparison = Some(at);
            }
        }
        nodes.push(entry);
    }
    Ok((nodes, pairs.all))
}

/// Prints what the nodes of a set need.
pub(crate) fn run(arguments: &crate::Arguments, site: &Site, set: &NodeSet, json: bool) -> Result<Exit, Exit> {
    let (nodes, comparisons) = needs(arguments, site, set)?;
    if json {
        let format_version = NEEDS_FORMAT.to_string();
        let document = NeedsDocument { format_version, time: now(), nodes, comparisons };
        render::print_json(&format!("{}\n", serde_json::to_string_pretty(&document).unwrap_or_default()));
    } else {
        render::print(&shown::text(&nodes, &comparisons, arguments.verbose > 0));
        render::say(&shown::summary(&nodes));
    }
    Ok(Exit::Done)
}
