//! Renders findings, errors, sizes and times, and prints them.

use std::borrow::Cow;
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use miette::{Diagnostic, LabeledSpan, Severity as Level, SourceCode};

use super::excerpt::Excerpt;
use super::harmless::{harmless, in_json, one_line};
use super::masked::masked;
use crate::{ColorWhen, Exit};
use base::source::{Finding, Severity};
use recipe::{Format, in_format};

pub(crate) use base::source::{counted, counted_as};

/// Whether remedies show lines of KDL: the recipe that the command is for is written in it.
static IN_KDL: AtomicBool = AtomicBool::new(false);

/// Says in which format the recipe is written whose problems are reported from now on.
pub(crate) fn speak_kdl(kdl: bool) {
    IN_KDL.store(kdl, Ordering::Relaxed);
}

fn format() -> Format {
    if IN_KDL.load(Ordering::Relaxed) { Format::Kdl } else { Format::Toml }
}

/// A text of a message, with its lines for a recipe in the recipe's own format.
pub(crate) fn said(text: &str) -> String {
    in_format(&harmless(&cut(text)), format())
}

/// Longest value in backticks that a message shows whole, and how much is shown of a longer one, in bytes.
const LONG_VALUE: usize = 1000;
const SHOWN_OF_VALUE: usize = 200;

/// A text whose values in backticks have a bound: a file may have one of megabytes.
fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= LONG_VALUE {
        return Cow::Borrowed(text);
    }
    let parts: Vec<&str> = text.split('`').collect();
    let is_value = |at: usize| at % 2 == 1 && at + 1 < parts.len() && !parts[at].contains('\n');
    let shown = parts.iter().enumerate().map(|(at, part)| match part.len() > LONG_VALUE && is_value(at) {
        true => Cow::Owned(format!("{}..", &part[..part.floor_char_boundary(SHOWN_OF_VALUE)])),
        false => Cow::Borrowed(*part),
    });
    Cow::Owned(shown.collect::<Vec<_>>().join("`"))
}

/// A word of a command, as a shell takes it.
pub(crate) fn shell_word(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=+@%~".contains(c);
    match !word.is_empty() && !word.starts_with('~') && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// A finding, with its lines for a recipe in the format of the file that it is about: a workspace may have both.
pub(crate) fn worded(finding: &Finding) -> Finding {
    let of_file = finding.span.as_ref().map(|span| span.file.name.as_str());
    let of_file = of_file.filter(|name| name.ends_with(".toml") || name.ends_with(".kdl")).map(Format::of);
    recipe::worded(finding, of_file.unwrap_or_else(format))
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
    /// What is not said already.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source().filter(|source| !self.0.to_string().ends_with(&source.to_string()))
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

/// Sets up the look of messages: colours only on terminals, and never with NO_COLOR, unless somebody says otherwise.
pub(crate) fn install(color: ColorWhen) {
    let color = match color {
        ColorWhen::Auto => None,
        ColorWhen::Always => Some(true),
        ColorWhen::Never => Some(false),
    };
    if let Some(color) = color {
        let choice = if color { anstream::ColorChoice::Always } else { anstream::ColorChoice::Never };
        choice.write_global();
    }
    let _ = miette::set_hook(Box::new(move |_| {
        let columns: Option<usize> = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
        let width = columns.unwrap_or(100).clamp(20, 1000);
        let look = miette::MietteHandlerOpts::new().terminal_links(false).width(width).context_lines(1);
        Box::new(color.map_or(look.clone(), |color| look.color(color)).build())
    }));
}

/// Why the standard output could not be written, the first time.
static OUTPUT_PROBLEM: OnceLock<std::io::Error> = OnceLock::new();

/// Why something printed did not get to where it was to go. A closed pipe is no problem: who reads had enough.
pub(crate) fn output_problem() -> Option<&'static std::io::Error> {
    OUTPUT_PROBLEM.get()
}

/// Prints a text for people to the standard output: nothing in it is obeyed by a terminal. A failure is remembered for
/// the end of the command.
pub(crate) fn print(text: &str) {
    print_whole(&harmless(text));
}

/// Prints what programs read as it is, but without passwords; a terminal gets what it does not obey.
pub(crate) fn print_as_is(text: &str) {
    match std::io::stdout().is_terminal() {
        true => print_whole(&harmless(text)),
        false => print_whole(&masked(text)),
    }
}

/// Prints JSON: what a terminal would obey is written as an escape, which means the same to programs.
pub(crate) fn print_json(text: &str) {
    print_whole(&masked(&in_json(text)));
}

/// Prints what clap says of a command line: help to the standard output, errors to the standard error.
pub(crate) fn of_command_line(error: &clap::Error) {
    let text = error.render().ansi().to_string();
    match error.use_stderr() {
        true => say(text.trim_end()),
        false => print_console(&text),
    }
}

/// Prints what is coloured or is another machine's console, but without passwords.
pub(crate) fn print_console(text: &str) {
    print_whole(&masked(text));
}

/// Prints what becomes a file that is to work, passwords and all.
pub(crate) fn print_whole(text: &str) {
    let mut out = anstream::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush())
        && error.kind() != ErrorKind::BrokenPipe
    {
        let _ = OUTPUT_PROBLEM.set(error);
    }
}

/// Prints a line to the standard error, lines for a recipe in its format. Colours stay: they are those of messages.
pub(crate) fn say(text: &str) {
    let mut out = anstream::stderr().lock();
    let text = in_format(&cut(text), format());
    let mut safe = String::with_capacity(text.len() + 1);
    let mut rest = text.as_str();
    while let Some(at) = rest.find('\x1b') {
        let length = colour(&rest[at..]);
        safe.push_str(&harmless(&rest[..at]));
        safe.push_str(if length > 0 { &rest[at..at + length] } else { "\\u{1b}" });
        rest = &rest[at + length.max(1)..];
    }
    safe.push_str(&harmless(rest));
    let _ = writeln!(out, "{safe}");
}

/// How many bytes the colour takes that a text starts with: `ESC [ numbers m`. Source: ECMA-48, SGR.
fn colour(text: &str) -> usize {
    let Some(numbers) = text.strip_prefix("\x1b[") else { return 0 };
    let end = numbers.find(|character: char| !character.is_ascii_digit() && character != ';');
    end.filter(|end| numbers[*end..].starts_with('m')).map_or(0, |end| end + 3)
}

#[derive(Debug)]
struct Shown {
    finding: Finding,
    excerpt: Option<Excerpt>,
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&one_line(&self.finding.message))
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
        self.excerpt.as_ref().map(|excerpt| excerpt as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let excerpt = self.excerpt.as_ref()?;
        let label = (!self.finding.label.is_empty()).then(|| one_line(&self.finding.label));
        let label = label.or_else(|| Some("here".to_owned()));
        Some(Box::new(std::iter::once(LabeledSpan::new(label, excerpt.start, excerpt.length))))
    }
}

pub(crate) fn finding(finding: &Finding) -> String {
    let excerpt = finding.span.as_ref().map(Excerpt::of);
    format!("{:?}", miette::Report::new(Said(Shown { finding: worded(finding), excerpt })))
}

pub(crate) fn error(error: impl Diagnostic + Send + Sync + 'static) -> String {
    format!("{:?}", miette::Report::new(Said(error)))
}

/// Prints an error, and gives the exit code that its kind has.
pub(crate) fn failed<E: Diagnostic + Send + Sync + 'static>(error: E) -> Exit
where
    for<'e> Exit: From<&'e E>,
{
    refused(Exit::from(&error), error)
}

/// Prints an error, and gives the exit code back.
pub(crate) fn refused(exit: Exit, error: impl Diagnostic + Send + Sync + 'static) -> Exit {
    say(&self::error(error));
    exit
}

pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.2} GB", count as f64 / 1e9),
    }
}

pub(crate) fn utc(milliseconds: u64) -> String {
    let time = jiff::Timestamp::from_millisecond(i64::try_from(milliseconds).unwrap_or(0)).unwrap_or_default();
    time.round(jiff::Unit::Second).unwrap_or(time).to_string()
}

pub(crate) fn took(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 0.1 {
        format!("{:.0} ms", seconds * 1e3)
    } else if seconds < 100.0 {
        format!("{seconds:.1} s")
    } else {
        let whole = seconds.round() as u64;
        format!("{} min {} s", whole / 60, whole % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_take_them_apart() {
        for word in ["imgbuild", "tree:/srv/www/a", "--db=a,b", "1.0~rc1"] {
            assert_eq!(shell_word(word), word);
        }
        assert_eq!(
            shell_word("cobbler:http://h?dir=/a&files=http://h/b"),
            "'cobbler:http://h?dir=/a&files=http://h/b'"
        );
        for (word, quoted) in
            [("it's", "'it'\\''s'"), ("", "''"), ("~root", "'~root'"), ("a b", "'a b'"), ("$x", "'$x'")]
        {
            assert_eq!(shell_word(word), quoted);
        }
    }

    #[test]
    fn no_minute_has_sixty_seconds() {
        let shown = |seconds: f64| took(std::time::Duration::from_secs_f64(seconds));
        assert_eq!([0.05, 99.94, 179.6, 3599.7].map(shown), ["50 ms", "99.9 s", "3 min 0 s", "60 min 0 s"]);
    }

    #[test]
    fn long_values_are_cut_and_other_text_is_whole() {
        let long = "é".repeat(40_000);
        let text = cut(&format!("`{long}` is longer than `{}`: {long}", "a".repeat(900))).into_owned();
        assert_eq!(text, format!("`{}..` is longer than `{}`: {long}", "é".repeat(100), "a".repeat(900)));
        // What a script prints has quotes of its own.
        let printed = format!("cannot stat `a'\n{long}\nand `b'");
        assert_eq!(cut(&printed), printed);
    }

    #[test]
    fn a_colour_is_told_from_other_escapes() {
        assert_eq!(colour("\x1b[1;31mx"), 7);
        assert_eq!(colour("\x1b[2J"), 0);
        assert_eq!(colour("\x1b["), 0);
    }
}
