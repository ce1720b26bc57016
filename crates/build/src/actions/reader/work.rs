//! The seam between descriptions and what is done inside: request and answer of an action.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::graph::StageGraph;
use crate::StageError;
use crate::bench::Bench;
use crate::bench::keyed::InputFile;
use crate::bench::report::Report;
use crate::bench::results::{Done, below, missing};
use crate::inside::removal::remove_damaged;
use crate::supply::Supply;
use base::digest::Digest;
use base::source::{Finding, Severity};
use plan::Action;
use recipe::Lock;
use sandbox::CommandResult;
use store::{Outputs, Store, StoreError};

/// What is known when an action runs.
pub(crate) struct Context<'a> {
    /// The actions.
    pub stages: &'a StageGraph,
    pub lock: &'a Lock,
    pub given: Given<'a>,
}

/// What requests are made of besides descriptions.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// Results so far.
    pub done: &'a Done,
    pub supply: &'a Supply<'a>,
}

/// The work of one kind of action.
pub(crate) trait Work {
    /// What the inside calls it, where it is always the same.
    const OPERATION: &'static str = "";
    /// What is asked: values of the key, files by digest, layers, and places below the store's directory.
    type Request: Serialize;
    type Answer: DeserializeOwned;

    fn operation(&self) -> &'static str {
        Self::OPERATION
    }

    /// Says and refuses what is known before.
    ///
    /// # Errors
    /// [`StageError`] of its kind.
    fn before(&self, _bench: &Bench<'_>, _above: &Above<'_>) -> Result<(), StageError> {
        Ok(())
    }

    /// Makes the request. The recipe is not in reach here.
    ///
    /// # Errors
    /// [`StageError`] of a file that changed or is missing.
    fn request(&self, above: &Above<'_>, place: &Place) -> Result<Self::Request, StageError>;

    /// A file of the store that is not what its name says; there is nothing else in the answer then.
    fn damaged(_answer: &Self::Answer) -> Option<&str> {
        None
    }

    /// Says what came of it, and stores it.
    ///
    /// # Errors
    /// [`StageError`] of its kind.
    fn finish(&self, desk: &Desk<'_>, answer: Self::Answer) -> Result<Outputs, StageError>;
}

/// What requests are made of besides the description: results of those actions that the action names, and the store.
pub struct Above<'a> {
    bench: &'a Bench<'a>,
    action: &'a Action,
    given: Given<'a>,
    pub store: &'a Store,
    pub report: &'a dyn Report,
}

impl<'a> Above<'a> {
    pub fn new(bench: &'a Bench<'a>, action: &'a Action, given: Given<'a>) -> Self {
        Self { bench, action, given, store: bench.store, report: bench.report }
    }

    /// The action's id.
    pub fn id(&self) -> &str {
        &self.action.id
    }

    /// The transaction's name.
    pub fn pass(&self) -> &str {
        self.action.layer()
    }

    /// Packages.
    pub fn supply(&self) -> &Supply<'_> {
        self.given.supply
    }

    /// Whether it is made with what is not in its key by itself.
    pub fn needs(&self, id: &str) -> bool {
        self.action.needs.iter().any(|named| named == id)
    }

    fn named(&self, id: &str) -> Result<(), StageError> {
        let upstream = self.action.upstream.iter().map(|upstream| &upstream.action);
        if upstream.chain(&self.action.needs).any(|named| named == id) { Ok(()) } else { Err(missing(id)) }
    }

    /// Whether its key has this output of another action.
    pub fn takes(&self, id: &str, output: &str) -> bool {
        self.action.upstream.iter().any(|upstream| upstream.action == id && upstream.output == output)
    }

    /// The layer of an action.
    ///
    /// # Errors
    /// [`StageError::Gate`] for one that the action does not name.
    pub fn layer(&self, id: &str) -> Result<Digest, StageError> {
        self.named(id)?;
        self.given.done.layer(id)
    }

    /// A value of an action.
    ///
    /// # Errors
    /// As [`Above::layer`].
    pub fn value(&self, id: &str, name: &str) -> Result<String, StageError> {
        self.named(id)?;
        self.given.done.value(id, name)
    }

    /// Layers that the action stands on, lowest first.
    ///
    /// # Errors
    /// As [`Above::layer`].
    pub fn below(&self) -> Result<Vec<Digest>, StageError> {
        below(self.action, self.given.done)
    }

    /// The layer that the image's last build made of the same action: what did not change need not be written again.
    pub fn earlier_layer(&self) -> Option<Digest> {
        let recipe = self.bench.recipe;
        let root = self.store.root(&recipe.directory, &recipe.model.image.name)?;
        self.store.record(root.actions.get(&self.action.id)?)?.outputs.layer
    }

    /// Has a file of the build host in the store, whole; gives its path there.
    /// Errors: As [`InputFile::content`].
    pub fn content(&self, file: &InputFile) -> Result<String, StageError> {
        file.whole_content(self.store)
    }

    /// Has bytes in the store; gives their path there.
    ///
    /// # Errors
    /// [`StageError::Store`].
    pub fn kept(&self, bytes: &[u8]) -> Result<String, StageError> {
        Ok(Store::blob_name(&self.store.ensure_blob(bytes)?.digest))
    }
}

/// Where work is done, relative to the store's directory.
pub struct Place {
    /// Scratch directory.
    pub scratch: String,
    /// Log file.
    pub log: String,
    /// A file for the host process, and the start of the names of more.
    pub handover: String,
}

/// Where answers are taken.
pub(crate) struct Desk<'a> {
    pub bench: &'a Bench<'a>,
    pub above: &'a Above<'a>,
    pub place: &'a Place,
}

impl Desk<'_> {
    /// The action's id.
    pub(crate) fn id(&self) -> &str {
        self.above.id()
    }

    /// The log, as messages name it.
    pub(crate) fn log(&self) -> std::path::PathBuf {
        self.bench.store.directory().join(&self.place.log)
    }

    /// A command of the action failed.
    pub(crate) fn failed(&self, what: &str, result: &CommandResult) -> StageError {
        StageError::Script {
            what: what.to_owned(),
            status: result.status,
            lines: result.last_lines.join("\n"),
            remedy: String::new(),
            log: self.log().display().to_string(),
        }
    }
}

/// Asks for work and takes the answer.
///
/// # Errors
/// [`StageError`] of its kind.
pub(crate) fn perform<W: Work>(
    work: &W,
    bench: &Bench<'_>,
    action: &Action,
    given: Given<'_>,
) -> Result<Outputs, StageError> {
    let above = Above::new(bench, action, given);
    work.before(bench, &above)?;
    let scratch = bench.store.scratch()?;
    let handover = format!("handover/{}-{}", scratch.name.replace('/', "-"), action.layer());
    let place = Place { scratch: scratch.name.clone(), log: bench.log_name(action), handover };
    let _left = bench.handover(&place.handover);
    let ask = || -> Result<W::Answer, StageError> {
        let request = work.request(&above, &place)?;
        Ok(bench.namespace.call(work.operation(), &request, &mut |text| bench.report.progress(text))?)
    };
    let damaged = |answer: &W::Answer| {
        let path = bench.store.directory().join(W::damaged(answer)?);
        Some(StoreError::Damaged { path, problem: "does not match the digest in its name".to_owned() })
    };
    let mut answer = ask()?;
    let mut removed = None;
    while let Some(error) = damaged(&answer) {
        let path = W::damaged(&answer).map(str::to_owned);
        // It was taken once more, and is damaged again.
        if path == removed {
            return Err(error.into());
        }
        // What the store had is taken out, and taken from the file once more.
        remove_damaged(bench.store, bench.namespace, &error)?;
        let text = format!("{error}; it was removed and will be rebuilt");
        bench.report.finding(&Finding::nowhere(Severity::Warning, "store::damaged", text));
        removed = path;
        answer = ask()?;
    }
    work.finish(&Desk { bench, above: &above, place: &place }, answer)
}
