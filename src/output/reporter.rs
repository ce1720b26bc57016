//! Shows what a build does: a moving line on a terminal, plain lines elsewhere, or JSON.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::documents::ProgressEvent;
use super::harmless::one_line;
use super::render;
use super::steps::Steps;
use crate::{Arguments, ProgressKind};
use base::source::{Finding, Severity};
use build::{Report, ids};
use plan::Cause;

/// Plain lines come no more often than this while one action runs.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// Takes news of a build and prints it to the standard error.
pub(crate) struct Reporter {
    kind: ProgressKind,
    bar: Option<ProgressBar>,
    verbose: u8,
    /// Warnings and errors alone.
    quiet: bool,
    steps: Arc<Mutex<Steps>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What each thread is doing, and when it last said something.
    threads: HashMap<ThreadId, (String, Instant)>,
    /// When the downloads of an image last said something: they have threads of their own, and many.
    downloads: HashMap<Option<String>, Instant>,
    /// What was said of places in files: several images may inherit one.
    reported: HashSet<(String, String)>,
    /// What was said: image, code, message, place.
    said: HashSet<[String; 4]>,
}

impl Reporter {
    /// Makes a reporter; `auto` becomes a moving line only on a terminal that can take a line back.
    pub(crate) fn new(arguments: &Arguments) -> Self {
        Self::with(arguments, arguments.progress)
    }

    /// One that never moves: a terminal is somebody else's meanwhile.
    pub(crate) fn plain(arguments: &Arguments) -> Self {
        Self::with(arguments, ProgressKind::Plain)
    }

    fn with(arguments: &Arguments, kind: ProgressKind) -> Self {
        use std::io::IsTerminal;
        let steps: Arc<Mutex<Steps>> = Arc::default();
        let is_dumb = std::env::var_os("TERM").is_none_or(|name| name == "dumb");
        let quiet = arguments.quiet && kind != ProgressKind::Json;
        let moving = kind == ProgressKind::Auto && !quiet && !is_dumb && std::io::stderr().is_terminal();
        let bar = moving.then(|| {
            let bar = ProgressBar::new_spinner();
            let counted = Arc::clone(&steps);
            if let Ok(style) = ProgressStyle::with_template("{spinner} {steps}{wide_msg}") {
                let style = style.with_key("steps", move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
                    let _ = out.write_str(&counted.lock().unwrap_or_else(PoisonError::into_inner).line());
                });
                // What every terminal has.
                bar.set_style(if in_utf8() { style } else { style.tick_chars("|/-\\ ") });
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { kind, bar, verbose: arguments.verbose, quiet, steps, state: Mutex::default() }
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

    /// Does something that prints, without the moving line in between.
    pub(crate) fn pause(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Whether the terminal's characters are Unicode's, as locale(7) says it.
fn in_utf8() -> bool {
    let locale =
        ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| std::env::var(name).ok().filter(|one| !one.is_empty()));
    let locale = locale.unwrap_or_default().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

pub(crate) struct ImageReporter<'a> {
    reporter: &'a Reporter,
    image: Option<String>,
}

impl Reporter {
    /// For an image; where it is the only one, its name is not said.
    pub(crate) fn of(&self, image: Option<&str>) -> ImageReporter<'_> {
        ImageReporter { reporter: self, image: image.map(str::to_owned) }
    }
}

impl Report for ImageReporter<'_> {
    fn steps(&self, steps: usize, milliseconds: Option<u64>) {
        self.reporter.steps.lock().unwrap_or_else(PoisonError::into_inner).add(steps, milliseconds);
    }

    fn step_kept(&self) {
        self.reporter.steps.lock().unwrap_or_else(PoisonError::into_inner).one_less();
    }

    fn started(&self, action: &str, causes: &[Cause]) {
        self.reporter.started(self.image.as_deref(), action, causes);
    }

    fn progress(&self, text: &str) {
        self.reporter.progress(self.image.as_deref(), text);
    }

    fn finished(&self, action: &str, took: Duration) {
        self.reporter.finished(self.image.as_deref(), action, took);
    }

    fn finding(&self, finding: &Finding) {
        self.reporter.finding(self.image.as_deref(), finding);
    }

    fn printed(&self, action: &str, log: &std::path::Path) {
        if self.reporter.verbose == 0 || self.reporter.kind == ProgressKind::Json {
            return;
        }
        let text = std::fs::read(log).unwrap_or_default();
        for line in String::from_utf8_lossy(&text).lines() {
            self.reporter.line(&format!("{} | {}", named(self.image.as_deref(), action), one_line(line)));
        }
    }
}

/// An action as messages call it: with the image's name where there are several.
fn named(image: Option<&str>, action: &str) -> String {
    image.map_or_else(|| action.to_owned(), |image| format!("{image}: {action}"))
}

impl Reporter {
    fn started(&self, image: Option<&str>, action: &str, causes: &[Cause]) {
        let shown = named(image, action);
        if let Ok(mut state) = self.state.lock() {
            state.threads.insert(std::thread::current().id(), (shown.clone(), Instant::now()));
        }
        if self.kind == ProgressKind::Json {
            let (image, action) = (image.map(str::to_owned), action.to_owned());
            return self.event(&ProgressEvent::Started { image, action, causes: causes.to_vec() });
        }
        if let Some(bar) = &self.bar {
            bar.set_message(format!(": {shown}"));
        } else if !self.quiet {
            self.line(&format!("{shown}: started"));
        }
        if self.verbose > 0 {
            for cause in causes {
                self.line(&format!("  because {}", one_line(&cause.message)));
            }
        }
    }

    fn progress(&self, image: Option<&str>, text: &str) {
        if self.kind == ProgressKind::Json {
            return self.event(&ProgressEvent::Progress { image: image.map(str::to_owned), text: text.to_owned() });
        }
        let Ok(mut state) = self.state.lock() else { return };
        let before = Instant::now().checked_sub(PLAIN_INTERVAL).unwrap_or_else(Instant::now);
        let state = &mut *state;
        let (text, last) = match state.threads.get_mut(&std::thread::current().id()) {
            Some((action, last)) => (format!("{action}: {text}"), last),
            None => {
                let last = state.downloads.entry(image.map(str::to_owned)).or_insert(before);
                (image.map_or_else(|| text.to_owned(), |image| format!("{image}: {text}")), last)
            }
        };
        if let Some(bar) = &self.bar {
            // One field, which is cut to the terminal's width: a line that wraps could not be taken away.
            bar.set_message(format!(": {text}"));
        } else if !self.quiet && (last.elapsed() >= PLAIN_INTERVAL || self.verbose > 1) {
            *last = Instant::now();
            self.line(&text);
        }
    }

    fn finished(&self, image: Option<&str>, action: &str, took: Duration) {
        if let Ok(mut state) = self.state.lock() {
            state.threads.remove(&std::thread::current().id());
            if let Some(bar) = &self.bar {
                // What still runs, if anything does.
                let other = state.threads.values().map(|(name, _)| format!(": {name}")).min();
                bar.set_message(other.unwrap_or_default());
            }
        }
        // Resolving packages comes before there is a plan, and is no step of it.
        if action != ids::LOCK {
            self.steps.lock().unwrap_or_else(PoisonError::into_inner).one_done();
        }
        if self.kind == ProgressKind::Json {
            let (image, action, milliseconds) = (image.map(str::to_owned), action.to_owned(), took.as_millis() as u64);
            return self.event(&ProgressEvent::Finished { image, action, milliseconds });
        }
        if self.quiet {
            return;
        }
        self.line(&format!("{}: done in {}", named(image, action), render::took(took)));
    }

    fn finding(&self, image: Option<&str>, finding: &Finding) {
        let finding = &render::worded(finding);
        // Steps of one build read the same files: what was said in full is not said again.
        let place = finding.span.as_ref().map(ToString::to_string).unwrap_or_default();
        let whole = [image.unwrap_or_default(), finding.code, &finding.message, &place].map(str::to_owned);
        if self.state.lock().is_ok_and(|mut state| !state.said.insert(whole)) {
            return;
        }
        if self.kind == ProgressKind::Json {
            let place = finding.span.as_ref().map(ToString::to_string);
            return self.event(&ProgressEvent::Finding {
                image: image.map(str::to_owned),
                severity: finding.severity.into(),
                code: finding.code.to_owned(),
                message: finding.message.clone(),
                place,
                help: finding.help.clone(),
            });
        }
        if finding.severity == Severity::Note && self.quiet {
            return;
        }
        if finding.severity == Severity::Note && self.verbose == 0 {
            return self.line(&format!("note: {}", named(image, &one_line(&finding.message))));
        }
        if let Some(image) = image {
            if let Some(span) = &finding.span
                && let Ok(mut state) = self.state.lock()
                && !state
                    .reported
                    .insert((format!("{}:{}", span.file.path.display(), span.start), finding.message.clone()))
            {
                drop(state);
                let text = format!("{image}: {} ({span}, as reported above)", one_line(&finding.message));
                return self.line(&text);
            }
            self.line(&format!("{image}:"));
        }
        self.line(render::finding(finding).trim_end());
    }
}
