//! Asks for transactions, and says what became of them.

use super::inputs::Transaction;
use crate::StageError;
use crate::actions::reader::work::{Above, Desk, Place, Work};
use crate::bench::ids;
use packages::{self, DistroError, Made, Makes, Uname};
use recipe::{Accounts, PassRole};
use store::{Outputs, ScanAnswer};

impl Work for Transaction {
    type Request = serde_json::Value;
    type Answer = Made;

    fn operation(&self) -> &'static str {
        self.manager.operation(self.makes)
    }

    fn request(&self, above: &Above<'_>, place: &Place) -> Result<serde_json::Value, StageError> {
        above.supply().have(&self.packages)?;
        let release = above.takes(ids::PAYLOAD, "value release").then(|| above.value(ids::PAYLOAD, "release"));
        Ok(self.manager.asked(&packages::Transaction {
            makes: self.makes,
            scratch: place.scratch.clone(),
            tools: above.needs(ids::TOOLS).then(|| above.layer(ids::TOOLS)).into_iter().collect::<Result<_, _>>()?,
            base: above.below()?,
            packages: &self.packages,
            ready: above.supply().directory(),
            accounts: &self.accounts,
            uname: Uname {
                release: release.transpose()?,
                machine: self.machine.clone(),
                is_of_image: self.makes == Makes::Layer && !self.role.is_aside(),
            },
            over_payload: self.role == PassRole::Kernel,
            remove: &self.remove,
            remove_after: &self.remove_after,
            remove_with: &self.remove_with,
            conflicting: &self.conflicting,
            installed: self.installed.0.as_deref(),
            modules: &self.modules,
            variables: &self.variables,
            epoch: *self.epoch,
            log: place.log.clone(),
        }))
    }

    fn finish(&self, desk: &Desk<'_>, answer: Made) -> Result<Outputs, StageError> {
        let log = desk.log();
        match answer {
            Made::Layer(answer, accounts) => match self.manager.failing(&log, &self.failing) {
                Some(error) if self.makes != Makes::Root => Err(error.into()),
                _ => {
                    self.manager.complaints(&log).iter().for_each(|finding| desk.bench.report.finding(finding));
                    Ok(with_accounts(&answer, &accounts))
                }
            },
            Made::AsksRelease => Err(StageError::AsksRelease {
                lock: desk.bench.recipe.lock_name(),
                pass: desk.above.pass().to_owned(),
                is_final: desk.bench.is_locked,
            }),
            Made::Otherwise { lacks, has } => Err(StageError::Distro(DistroError::NotAsLocked {
                lock: desk.bench.recipe.lock_name(),
                problem: otherwise(&lacks, &has),
                log: log.display().to_string(),
            })),
            Made::Failed(result) => Err(self.manager.failure(self.makes, &result, &log).into()),
        }
    }
}

/// So many packages are shown.
const SHOWN: usize = 10;

fn otherwise(lacks: &[String], has: &[String]) -> String {
    let named = |lines: &[String]| {
        let shown: Vec<String> = lines.iter().take(SHOWN).map(|line| line.escape_default().to_string()).collect();
        let more = lines.len().saturating_sub(SHOWN);
        shown.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
    };
    match (lacks, has) {
        (lacks, []) => format!("it lacks {}", named(lacks)),
        ([], has) => format!("it has {}, which the lock does not", named(has)),
        (lacks, has) => format!("it lacks {} and has {}, which the lock does not", named(lacks), named(has)),
    }
}

/// A layer, and the accounts that came with it.
pub(crate) fn with_accounts(answer: &ScanAnswer, accounts: &Accounts) -> Outputs {
    let mut outputs = crate::bench::results::layer_outputs(answer);
    if !accounts.is_empty() {
        let text = serde_json::to_string(accounts).unwrap_or_default();
        outputs.values.insert(super::accounts::VALUE.to_owned(), text);
    }
    outputs
}
