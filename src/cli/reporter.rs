//! Shows what a build does: a moving line on a terminal, plain lines elsewhere, or JSON.

use std::collections::HashMap;
use std::sync::Mutex;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::documents::ProgressEvent;
use super::{ProgressKind, render};
use crate::plan::Cause;
use crate::source::{Finding, Severity};
use crate::stage::Report;

/// Plain lines come no more often than this while one action runs.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// Takes news of a build and prints it to the standard error.
pub struct Reporter {
    kind: ProgressKind,
    bar: Option<ProgressBar>,
    verbose: u8,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What each thread is doing, and when it last said something.
    threads: HashMap<ThreadId, (String, Instant)>,
}

impl Reporter {
    /// Makes a reporter; `auto` becomes a moving line only on a terminal.
    pub fn new(kind: ProgressKind, verbose: u8) -> Self {
        use std::io::IsTerminal;
        let moving = kind == ProgressKind::Auto && std::io::stderr().is_terminal();
        let bar = moving.then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {wide_msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { kind, bar, verbose, state: Mutex::default() }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| render::say(text)),
            None => render::say(text),
        }
    }

    fn event(&self, event: &ProgressEvent) {
        self.line(&serde_json::to_string(event).unwrap_or_default());
    }

    /// Takes the moving line away.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Report for Reporter {
    fn started(&self, action: &str, causes: &[Cause]) {
        if let Ok(mut state) = self.state.lock() {
            state.threads.insert(std::thread::current().id(), (action.to_owned(), Instant::now()));
        }
        if self.kind == ProgressKind::Json {
            return self.event(&ProgressEvent::Started { action: action.to_owned(), causes: causes.to_vec() });
        }
        if let Some(bar) = &self.bar {
            bar.set_prefix(action.to_owned());
            bar.set_message("");
        } else {
            self.line(&format!("{action}: started"));
        }
        if self.verbose > 0 {
            for cause in causes {
                self.line(&format!("  because {}", cause.message));
            }
        }
    }

    fn progress(&self, text: &str) {
        if self.kind == ProgressKind::Json {
            return self.event(&ProgressEvent::Progress { text: text.to_owned() });
        }
        let Ok(mut state) = self.state.lock() else { return };
        let before = Instant::now().checked_sub(PLAIN_INTERVAL).unwrap_or_else(Instant::now);
        // Downloads have threads of their own.
        let (action, last) =
            state.threads.entry(std::thread::current().id()).or_insert_with(|| ("imgbuild".to_owned(), before));
        if let Some(bar) = &self.bar {
            bar.set_prefix(action.clone());
            bar.set_message(text.to_owned());
        } else if last.elapsed() >= PLAIN_INTERVAL || self.verbose > 1 {
            *last = Instant::now();
            self.line(&format!("{action}: {text}"));
        }
    }

    fn finished(&self, action: &str, took: Duration) {
        if let Ok(mut state) = self.state.lock() {
            state.threads.remove(&std::thread::current().id());
        }
        if self.kind == ProgressKind::Json {
            let milliseconds = took.as_millis() as u64;
            return self.event(&ProgressEvent::Finished { action: action.to_owned(), milliseconds });
        }
        self.line(&format!("{action}: done in {}", render::took(took)));
    }

    fn finding(&self, finding: &Finding) {
        if self.kind == ProgressKind::Json {
            let place = finding.span.as_ref().map(ToString::to_string);
            return self.event(&ProgressEvent::Finding {
                severity: finding.severity.into(),
                code: finding.code.to_owned(),
                message: finding.message.clone(),
                place,
                help: finding.help.clone(),
            });
        }
        if finding.severity == Severity::Note && self.verbose == 0 {
            return self.line(&format!("note: {}", finding.message));
        }
        self.line(render::finding(finding).trim_end());
    }
}
