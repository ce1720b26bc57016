//! What `imgbuild build` is asked for.

use std::path::PathBuf;

use super::only::Only;
use crate::setup::PlacesArguments;
use crate::verbs::keeping::cache::CacheArguments;
use build::Target;
use plan::Stage;
use recipe::{Destination, ExecutorKind, PublishKind};
use remote::away::Host;

/// Arguments of `build`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Images, by name or glob [default: the recipe in the current directory, or all in the workspace]
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Where artefacts go [default: `out` next to the recipe]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Fail if image.lock is out of date instead of updating it
    #[arg(long)]
    pub locked: bool,
    /// After a failure, continue with images and actions that do not depend on it
    #[arg(short, long)]
    pub keep_going: bool,
    /// Memory limit in MiB for the estimates of running actions [default: free memory]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..))]
    pub memory: Option<u64>,
    /// Show what would be done and why, as `imgbuild plan` does, and do nothing
    #[arg(long, conflicts_with_all = ["verify", "until", "only", "on", "executor", "plan"])]
    pub dry_run: bool,
    /// Build again in an empty store and report the first file that differs
    #[arg(long, conflicts_with = "until")]
    pub verify: bool,
    /// Verify all layers of the last build first and rebuild modified ones
    #[arg(long)]
    pub thorough: bool,
    /// Stop after a stage, without publishing (except for `pack`)
    #[arg(long, value_name = "STAGE", value_parser = parse_stage)]
    pub until: Option<Stage>,
    /// Build this action alone, as `imgbuild plan` shows it: rootfs/base, IMAGE/rootfs/base, or publish; what it uses is taken
    /// from the store or a cache; implies --locked; repeatable
    #[arg(long, value_name = "ACTION", conflicts_with_all = ["until", "verify", "thorough", "plan", "on"])]
    pub only: Vec<Only>,
    /// Where packages come from
    #[command(flatten)]
    pub places: PlacesArguments,
    /// Caches that machines share
    #[command(flatten)]
    pub caches: CacheArguments,
    /// Also publish for another provisioner, after what the recipe's `[publish]` lists: xcat:DIR, warewulf:DIR, confluent:DIR, tree:DIR,
    /// systemd:DIR, openchami:URL, grendel:FILE, grendel:URL, cobbler:URL; repeatable
    #[arg(long, value_name = "KIND:WHERE")]
    pub publish: Vec<Destination>,
    /// Let a publication replace files that have its names and that imgbuild did not write
    #[arg(long)]
    pub replace: bool,
    /// Build what is missing on another machine, over ssh: ssh://[USER@]HOST[:PORT][/DIRECTORY]
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["plan", "verify", "thorough", "vendor"])]
    pub on: Option<Host>,
    /// Where actions run: here, or as jobs of Slurm [default: as `[executor]` of imgbuild.toml says, or else local]
    #[arg(long, value_name = "WHERE", value_enum)]
    pub executor: Option<ExecutorKind>,
    /// Seconds after which the other machine ends a build that no one follows
    #[arg(long, value_name = "SECONDS", env = "IMGBUILD_ON_PATIENCE", default_value = "3600", hide = true)]
    pub on_patience: u64,
    /// Build what another machine asked for
    #[arg(long, value_name = "DIR", hide = true)]
    pub away: Option<PathBuf>,
    /// Build what a job of a batch system is to
    #[arg(long, value_name = "DIR", hide = true)]
    pub job: Option<PathBuf>,
    /// Run exactly this plan from `imgbuild plan -o`; fail if anything changed since
    #[arg(long, value_name = "FILE", conflicts_with_all = ["images", "out", "publish", "until", "thorough"])]
    pub plan: Option<PathBuf>,
}

/// The destinations that a build writes itself.
pub(super) fn targets(publish: &[Destination]) -> Vec<Target> {
    let xcat = publish.iter().filter(|one| one.kind == PublishKind::Xcat);
    xcat.filter_map(|one| Some(Target::Xcat(one.path()?.to_owned()))).collect()
}

impl Arguments {
    /// What `plan` is asked for in place of a build.
    pub fn as_plan(&self) -> super::plan::Arguments {
        super::plan::Arguments {
            images: self.images.clone(),
            json: false,
            format: crate::plans::formats::Format::Text,
            against: None,
            databases: Vec::new(),
            thorough: self.thorough,
            detailed_exitcode: false,
            out: self.out.clone(),
            publish: self.publish.clone(),
            output: None,
            emit: None,
            caches: self.caches.clone(),
            no_memo: false,
        }
    }
}

fn parse_stage(text: &str) -> Result<Stage, String> {
    Stage::ALL
        .into_iter()
        .find(|stage| stage.name() == text)
        .ok_or_else(|| "one of rootfs, kernel, initrd, pack".to_owned())
}
