//! Final summary of a multi-image or failed build.

use std::path::Path;
use std::time::Instant;

use super::documents::{EndedFailure, EndedImage, ProgressEvent};
use super::{estimate, render};
use crate::{Arguments, Exit, ProgressKind};
use build::{Facts, Failure, ImageOutcome, StageError, Total};

pub(crate) fn tell(failures: Vec<Failure>) -> Exit {
    let mut exit = Exit::Done;
    for failure in failures {
        exit = worse(exit, Exit::from(&failure.error));
        if !failure.error.is_told() {
            render::say(&render::error(failure.error));
        }
    }
    exit
}

/// The exit code of two failures: 1 only where nothing but input is wrong; a failed stage goes before that, and before what
/// this machine lacks.
fn worse(one: Exit, other: Exit) -> Exit {
    let rank = |exit: Exit| match exit {
        Exit::Done => 0,
        Exit::Input => 1,
        Exit::Machine => 2,
        Exit::Stage => 3,
        _ => 4,
    };
    if rank(other) > rank(one) { other } else { one }
}

/// What the end of a build of several images is reported from.
pub(crate) struct Summary<'a> {
    /// Names of the images that were to be built, in the order of their outcomes.
    pub names: Vec<&'a str>,
    pub broken: &'a [String],
    pub store: &'a Path,
    pub arguments: &'a Arguments,
    pub expected: Option<Total>,
    pub began: Instant,
}

struct Line {
    image: String,
    state: &'static str,
    failures: Vec<(Option<String>, String, Option<String>)>,
}

impl From<&Line> for EndedImage {
    fn from(line: &Line) -> Self {
        let failure = |(action, problem, log): &(Option<String>, String, Option<String>)| EndedFailure {
            action: action.clone(),
            problem: problem.clone(),
            log: log.clone(),
        };
        Self {
            image: line.image.clone(),
            state: line.state.to_owned(),
            failures: line.failures.iter().map(failure).collect(),
        }
    }
}

impl Summary<'_> {
    /// Says what failed, why, and where its log is; gives the exit code.
    pub(crate) fn tell(&self, outcomes: Vec<Option<ImageOutcome>>) -> Exit {
        let mut exit = if self.broken.is_empty() { Exit::Done } else { Exit::Input };
        let mut lines: Vec<Line> = self
            .broken
            .iter()
            .map(|name| {
                let why = "its recipe has errors, reported above".to_owned();
                Line { image: name.clone(), state: "failed", failures: vec![(None, why, None)] }
            })
            .collect();
        let mut facts = Facts { milliseconds: self.began.elapsed().as_millis() as u64, ..Facts::default() };
        for built in outcomes.iter().flatten().filter_map(|outcome| outcome.result.as_ref().ok()) {
            facts.written_bytes += built.facts.written_bytes;
            facts.downloaded_bytes += built.facts.downloaded_bytes;
        }
        for (name, outcome) in self.names.iter().zip(outcomes) {
            let (state, failures) = match outcome.map(|outcome| outcome.result) {
                None => ("not tried", Vec::new()),
                Some(Ok(_)) => ("built", Vec::new()),
                Some(Err(failures)) if failures.iter().all(|one| matches!(one.error, StageError::Stopped)) => {
                    ("stopped", Vec::new())
                }
                Some(Err(failures)) => ("failed", failures),
            };
            let failures = failures
                .into_iter()
                .map(|failure| {
                    exit = worse(exit, Exit::from(&failure.error));
                    let log = failure.error.log().map(|log| self.log(log));
                    // The last lines were shown above.
                    let why = render::said(&failure.error.to_string()).lines().next().unwrap_or_default().to_owned();
                    let why = why.trim_end_matches(":").trim_end_matches("; its last lines").to_owned();
                    if self.arguments.progress != ProgressKind::Json && !failure.error.is_told() {
                        let of = failure.action.as_ref().map_or_else(String::new, |action| format!(" {action}"));
                        render::say(&format!("{name}:{of}\n{}", render::error(failure.error)));
                    }
                    (failure.action, why, log)
                })
                .collect();
            lines.push(Line { image: (*name).to_owned(), state, failures });
        }
        lines.sort_by(|a, b| a.image.cmp(&b.image));
        self.show(&lines, facts);
        exit
    }

    fn log(&self, name: &str) -> String {
        if Path::new(name).is_absolute() { name.to_owned() } else { self.store.join(name).display().to_string() }
    }

    fn show(&self, lines: &[Line], facts: Facts) {
        if self.arguments.progress == ProgressKind::Json {
            let images = lines.iter().map(EndedImage::from).collect();
            let event = ProgressEvent::End { images, estimate: self.expected.clone().map(Box::new), facts };
            render::say(&serde_json::to_string(&event).unwrap_or_default());
            return;
        }
        if self.arguments.quiet && lines.iter().all(|line| line.state == "built") {
            return;
        }
        let count = |state: &str| lines.iter().filter(|line| line.state == state).count();
        let mut text = format!("{} of {} images were built", count("built"), lines.len());
        for line in lines.iter().filter(|line| line.state != "built") {
            text.push_str(&format!("\n  {} {}", line.image, line.state));
            for (action, why, log) in &line.failures {
                let action = action.as_ref().map(|action| format!("{action}: ")).unwrap_or_default();
                text.push_str(&format!("\n    {action}{why}"));
                if let Some(log) = log {
                    text.push_str(&format!("\n    log: {log}"));
                }
            }
        }
        // Beside what a part of them took it would say nothing.
        if let Some(expected) = self.expected.as_ref().filter(|_| count("built") == lines.len()) {
            text.push_str(&format!("\n{}", estimate::together_beside(expected, &facts)));
        }
        if count("not tried") + count("stopped") > 0 {
            text.push_str("\n`imgbuild build --keep-going` continues with the others");
        }
        render::say(&text);
    }
}
