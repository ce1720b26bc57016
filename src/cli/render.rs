//! How messages look.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use miette::{Diagnostic, LabeledSpan, NamedSource, Severity as Level, SourceCode};

use crate::recipe::in_kdl;
use crate::source::{Finding, Severity};

/// Whether remedies show lines of KDL: the recipe that the command is for is written in it.
static IN_KDL: AtomicBool = AtomicBool::new(false);

/// Says in which format the recipe is written whose problems are told from now on.
pub fn speak_kdl(kdl: bool) {
    IN_KDL.store(kdl, Ordering::Relaxed);
}

/// A text of a message in the recipe's own format.
fn said(text: &str) -> String {
    if IN_KDL.load(Ordering::Relaxed) { in_kdl(text) } else { text.to_owned() }
}

/// An error whose words are in the recipe's own format.
#[derive(Debug)]
struct Said<E>(E);

impl<E: Diagnostic> std::fmt::Display for Said<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&said(&self.0.to_string()))
    }
}

impl<E: Diagnostic> std::error::Error for Said<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl<E: Diagnostic> Diagnostic for Said<E> {
    fn code<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        self.0.code()
    }

    fn severity(&self) -> Option<Level> {
        self.0.severity()
    }

    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        self.0.help().map(|help| Box::new(said(&help.to_string())) as Box<dyn std::fmt::Display>)
    }

    fn url<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        self.0.url()
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.0.source_code()
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.0.labels()
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        self.0.related()
    }

    fn diagnostic_source(&self) -> Option<&dyn Diagnostic> {
        self.0.diagnostic_source()
    }
}

/// Sets up the look of messages: colours only on terminals, and never with NO_COLOR.
pub fn install() {
    let _ = miette::set_hook(Box::new(|_| {
        let width = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
        Box::new(miette::MietteHandlerOpts::new().terminal_links(false).width(width).context_lines(1).build())
    }));
}

/// Prints to the standard output; a closed pipe is no error.
pub fn print(text: &str) {
    let mut out = anstream::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints a line to the standard error.
pub fn say(text: &str) {
    let mut out = anstream::stderr().lock();
    let _ = writeln!(out, "{text}");
}

/// A finding in the form that is rendered.
#[derive(Debug)]
struct Shown {
    finding: Finding,
    source: Option<NamedSource<Arc<String>>>,
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.finding.message)
    }
}

impl std::error::Error for Shown {}

impl Diagnostic for Shown {
    fn code<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        Some(Box::new(self.finding.code))
    }

    fn severity(&self) -> Option<Level> {
        Some(match self.finding.severity {
            Severity::Error => Level::Error,
            Severity::Warning => Level::Warning,
            Severity::Note => Level::Advice,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        self.finding.help.as_ref().map(|help| Box::new(help) as Box<dyn std::fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.finding.span.as_ref()?;
        let label = (!self.finding.label.is_empty()).then(|| self.finding.label.clone());
        let label = label.or_else(|| Some("here".to_owned()));
        Some(Box::new(std::iter::once(LabeledSpan::new(label, span.start, span.end.saturating_sub(span.start)))))
    }
}

/// The whole text of a finding.
pub fn finding(finding: &Finding) -> String {
    let source = finding.span.as_ref().map(|span| NamedSource::new(&span.file.name, Arc::new(span.file.text.clone())));
    format!("{:?}", miette::Report::new(Said(Shown { finding: finding.clone(), source })))
}

/// The whole text of an error.
pub fn error(error: impl Diagnostic + Send + Sync + 'static) -> String {
    format!("{:?}", miette::Report::new(Said(error)))
}

/// Bytes for people.
pub fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.2} GB", count as f64 / 1e9),
    }
}

/// A duration for people.
pub fn took(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 0.1 {
        format!("{:.0} ms", seconds * 1e3)
    } else if seconds < 100.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{:.0} min {:.0} s", (seconds / 60.0).floor(), seconds % 60.0)
    }
}
