//! Asks for transactions, and says what became of them.

use super::inputs::Transaction;
use crate::distro::{self, DistroError, Made, Makes, Uname};
use crate::recipe::{Accounts, PassRole};
use crate::stage::StageError;
use crate::stage::actions::reader::work::{Above, Desk, Place, Work};
use crate::stage::bench::ids;
use crate::store::{Outputs, ScanAnswer};

impl Work for Transaction {
    type Request = serde_json::Value;
    type Answer = Made;

    fn operation(&self) -> &'static str {
        self.manager.operation(self.makes)
    }

    fn request(&self, above: &Above<'_>, place: &Place) -> Result<serde_json::Value, StageError> {
        above.supply().have(&self.packages)?;
        let release = above.takes(ids::PAYLOAD, "value release").then(|| above.value(ids::PAYLOAD, "release"));
        Ok(self.manager.asked(&distro::Transaction {
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
                _ => Ok(with_accounts(&answer, &accounts)),
            },
            Made::AsksRelease => Err(StageError::AsksRelease {
                lock: desk.bench.recipe.lock_name(),
                pass: desk.above.pass().to_owned(),
                is_final: desk.bench.is_locked,
            }),
            Made::Lacking(names) => Err(StageError::Distro(DistroError::PackageManager {
                what: format!("installing packages: afterwards the package database lacks {}", names.join(", ")),
                status: 0,
                lines: String::new(),
                log: log.display().to_string(),
            })),
            Made::Failed(result) => Err(self.manager.failure(self.makes, &result, &log).into()),
        }
    }
}

/// A layer, and the accounts that came with it.
pub fn with_accounts(answer: &ScanAnswer, accounts: &Accounts) -> Outputs {
    let mut outputs = crate::stage::bench::results::layer_outputs(answer);
    if !accounts.is_empty() {
        let text = serde_json::to_string(accounts).unwrap_or_default();
        outputs.values.insert(super::accounts::VALUE.to_owned(), text);
    }
    outputs
}
