//! How far a sync is: a moving line on a terminal, lines elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::ProgressKind;
use crate::output::documents::ProgressEvent;
use crate::output::harmless::one_line;
use crate::output::render;
use nodes::NodeSet;
use sync::News;

/// Lines about nodes that are still in work come no more often.
const INTERVAL: Duration = Duration::from_secs(5);

pub(super) struct Progress {
    kind: ProgressKind,
    bar: Option<ProgressBar>,
    all: usize,
    said: Mutex<Instant>,
}

impl Progress {
    pub(super) fn new(kind: ProgressKind, all: usize) -> Self {
        let is_moving = kind == ProgressKind::Auto && std::io::stderr().is_terminal();
        let bar = is_moving.then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { kind, bar, all, said: Mutex::new(Instant::now()) }
    }

    pub(super) fn take(&self, news: News<'_>) {
        match news {
            News::Done(job, reached) => {
                let problem = reached.answer.problem.as_deref().map(one_line);
                if self.kind == ProgressKind::Json {
                    let event = ProgressEvent::Node { node: job.node.clone(), problem };
                    return self.line(&serde_json::to_string(&event).unwrap_or_default());
                }
                if let Some(problem) = problem {
                    self.line(&format!("{}: {problem}", job.node));
                }
            }
            News::Working(done, names) => {
                let text = || {
                    let shown = NodeSet::of(names.iter().copied()).folded();
                    format!("{done} of {} nodes done; in work: {shown}", self.all)
                };
                if let Some(bar) = &self.bar {
                    return bar.set_message(text());
                }
                let is_due = self.said.lock().is_ok_and(|mut said| {
                    let is_due = said.elapsed() >= INTERVAL;
                    if is_due {
                        *said = Instant::now();
                    }
                    is_due
                });
                if is_due && !names.is_empty() && self.kind != ProgressKind::Json {
                    self.line(&text());
                }
            }
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| render::say(text)),
            None => render::say(text),
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
