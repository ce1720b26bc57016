//! Keys: one walk over an action's inputs, many sinks.
//!
//! | input | in the key of | why |
//! |---|---|---|
//! | `action` kind and version | all | another implementation may give other bytes |
//! | `parameter ...` | those whose result it changes | settings of the recipe, the epoch, the platform |
//! | `package name:arch` | tools, package layers, kernel payload | version and digest, never where it came from |
//! | `file ...` | postinstall, sync, system, initrd | content and counted mode |
//! | `layer ...`, `value ...` | users of other actions | the *output*: a rerun that gives the same changes nothing below |

use super::{Action, Input};
use base::digest::{Digest, FieldHasher};

/// Takes an action's inputs in their fixed order.
pub trait InputSink {
    fn input(&mut self, name: &str, value: &str);
}

pub trait Known {
    fn output(&self, action: &str, output: &str) -> Option<String>;
}

/// Walks an action's inputs; false when an upstream output is not known yet, and the walk ended there.
pub fn describe(action: &Action, known: &dyn Known, sink: &mut dyn InputSink) -> bool {
    sink.input("action", &format!("{} version {}", action.kind, action.version));
    for Input { name, value, .. } in &action.inputs {
        sink.input(name, value);
    }
    for upstream in &action.upstream {
        let Some(value) = known.output(&upstream.action, &upstream.output) else { return false };
        sink.input(&format!("{} {}", upstream.output, upstream.action), &value);
    }
    true
}

pub struct KeyHasher(FieldHasher);

impl Default for KeyHasher {
    fn default() -> Self {
        Self(FieldHasher::new("imgbuild action key v1"))
    }
}

impl InputSink for KeyHasher {
    fn input(&mut self, name: &str, value: &str) {
        self.0.text(name).text(value);
    }
}

/// The sink that keeps the plaintext.
#[derive(Default)]
pub struct TraceWriter(pub Vec<(String, String)>);

impl InputSink for TraceWriter {
    fn input(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), value.to_owned()));
    }
}

struct Both(KeyHasher, TraceWriter);

impl InputSink for Both {
    fn input(&mut self, name: &str, value: &str) {
        self.0.input(name, value);
        self.1.input(name, value);
    }
}

/// Key, if all upstream outputs are known, and the plaintext as far as it goes.
pub fn key_and_trace(action: &Action, known: &dyn Known) -> (Option<Digest>, Vec<(String, String)>) {
    let mut sinks = Both(KeyHasher::default(), TraceWriter::default());
    let whole = describe(action, known, &mut sinks);
    (whole.then(|| sinks.0.0.finish()), sinks.1.0)
}
