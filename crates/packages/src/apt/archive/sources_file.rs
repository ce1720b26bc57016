//! Files that name archives: the one-line form and the deb822 form of sources.list(5).

use std::path::PathBuf;
use std::sync::Arc;

use crate::without_password;
use base::source::{Finding, SourceFile, Span};

/// Whose signatures count, as such a file says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignedBy {
    File(PathBuf),
    Text(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Root of the archive, without a slash at the end.
    pub uri: String,
    /// Suites; one that ends in a slash is a directory below the root (a flat archive).
    pub suites: Vec<String>,
    /// Components; flat archives have none.
    pub components: Vec<String>,
    /// Architectures, by Debian's names; none: all.
    pub architectures: Vec<String>,
    pub signed_by: Option<SignedBy>,
    /// Whether it need not be signed.
    pub trusted: bool,
    /// Whether a Release file past its `Valid-Until` is refused.
    pub check_valid_until: bool,
    pub span: Span,
}

/// Options that do not change what is taken from an archive. Source: sources.list(5), apt 2.6 and 3.0.
const PASSED_OVER: [&str; 11] = [
    "lang",
    "target",
    "pdiffs",
    "by-hash",
    "inrelease-path",
    "description",
    "repolib-name",
    "repolib-default-mirror",
    "repolib-id",
    "languages",
    "targets",
];

/// Whether a suite is a directory with the index itself: a flat archive.
pub(crate) fn is_flat(suite: &str) -> bool {
    suite.ends_with('/')
}

/// Reads a file of archives by its name's ending: `.sources` is deb822, everything else has one archive a line.
pub fn read_sources_file(file: &Arc<SourceFile>) -> (Vec<Entry>, Vec<Finding>) {
    let mut reader = Reader { file, entries: Vec::new(), findings: Vec::new() };
    if file.name.ends_with(".sources") {
        reader.stanzas()
    } else {
        reader.lines()
    }
    (reader.entries, reader.findings)
}

struct Reader<'a> {
    file: &'a Arc<SourceFile>,
    entries: Vec<Entry>,
    findings: Vec<Finding>,
}

struct Said {
    uri: String,
    suites: Vec<String>,
    components: Vec<String>,
    options: Vec<(String, String)>,
    span: Span,
}

impl Reader<'_> {
    fn complain(&mut self, span: &Span, message: impl Into<String>, help: &str) {
        self.findings.push(Finding::error("sources::form", span, message).help(help));
    }

    fn lines(&mut self) {
        let mut start = 0;
        for line in self.file.text.split_inclusive('\n') {
            let span = Span::new(self.file, start..start + line.trim_end().len());
            start += line.len();
            let text = line.split('#').next().unwrap_or_default().trim();
            if text.is_empty() {
                continue;
            }
            let form = "write: deb [signed-by=KEYFILE] URI SUITE COMPONENT..., or for a flat archive deb URI ./";
            let (kind, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
            match kind {
                "deb" => {}
                "deb-src" => continue,
                _ => {
                    self.complain(
                        &span,
                        format!("`{}` does not start a valid sources.list line", kind.escape_debug()),
                        form,
                    );
                    continue;
                }
            }
            let mut rest = rest.trim_start();
            let mut options = Vec::new();
            if let Some(inside) = rest.strip_prefix('[') {
                let Some((inside, after)) = inside.split_once(']') else {
                    self.complain(&span, "the options are not closed by `]`", form);
                    continue;
                };
                for option in inside.split_whitespace() {
                    let (name, value) = option.split_once('=').unwrap_or((option, ""));
                    options.push((name.trim_end_matches(['+', '-']).to_ascii_lowercase(), value.replace(',', " ")));
                }
                rest = after;
            }
            let mut words = rest.split_whitespace().map(str::to_owned);
            let (Some(uri), Some(suite)) = (words.next(), words.next()) else {
                self.complain(&span, "an archive needs an address and a suite", form);
                continue;
            };
            self.entry(Said { uri, suites: vec![suite], components: words.collect(), options, span });
        }
    }

    fn stanzas(&mut self) {
        let mut start = 0;
        let text = self.file.text.clone();
        // Blank lines part stanzas; deb822 knows of no position.
        let mut stanza: Option<std::ops::Range<usize>> = None;
        let mut all = Vec::new();
        for line in text.split_inclusive('\n') {
            let end = start + line.len();
            if line.trim().is_empty() {
                all.extend(stanza.take());
            } else if !line.starts_with('#') {
                stanza = Some(stanza.map_or(start..end, |known| known.start..end));
            }
            start = end;
        }
        all.extend(stanza);
        for range in all {
            let first = text[range.clone()].lines().next().unwrap_or_default().len();
            let span = Span::new(self.file, range.start..range.start + first);
            self.stanza(&text[range], &span);
        }
    }

    fn stanza(&mut self, text: &str, span: &Span) {
        let mut fields: Vec<(String, Vec<String>)> = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if line.starts_with([' ', '\t']) {
                match fields.last_mut() {
                    Some((_, lines)) => lines.push(line.trim().to_owned()),
                    None => {
                        return self.complain(
                            span,
                            "an indented line does not continue any field",
                            "start fields in the first column",
                        );
                    }
                }
                continue;
            }
            let Some((name, value)) = line.split_once(':') else {
                let message = format!("`{}` is not a field", line.trim().escape_debug());
                return self.complain(span, message, "write NAME: VALUE; the fields are in sources.list(5)");
            };
            fields.push((name.trim().to_ascii_lowercase(), vec![value.trim().to_owned()]));
        }
        let words = |name: &str| -> Vec<String> {
            let found = fields.iter().find(|(known, _)| known == name);
            found
                .into_iter()
                .flat_map(|(_, lines)| lines)
                .flat_map(|line| line.split_whitespace())
                .map(str::to_owned)
                .collect()
        };
        let is_no = |word: &String| {
            matches!(word.to_ascii_lowercase().as_str(), "no" | "false" | "off" | "without" | "disable")
        };
        if words("enabled").first().is_some_and(is_no) || !words("types").iter().any(|kind| kind == "deb") {
            return;
        }
        let options: Vec<(String, String)> = fields
            .iter()
            .filter(|(name, _)| !["types", "uris", "suites", "components", "enabled"].contains(&name.as_str()))
            .map(|(name, lines)| {
                let name = if name == "architectures" { "arch" } else { name.as_str() };
                (name.to_owned(), lines.join("\n"))
            })
            .collect();
        let (uris, suites, components) = (words("uris"), words("suites"), words("components"));
        if uris.is_empty() || suites.is_empty() {
            return self.complain(span, "an archive needs URIs and Suites", "the fields are in sources.list(5)");
        }
        for uri in uris {
            let (suites, components, options) = (suites.clone(), components.clone(), options.clone());
            self.entry(Said { uri, suites, components, options, span: span.clone() });
        }
    }

    fn entry(&mut self, said: Said) {
        let Said { uri, suites, components, options, span } = said;
        if !["http://", "https://", "file:"].iter().any(|scheme| uri.starts_with(scheme)) {
            let message = format!("`{}` is not a supported URI", uri.escape_debug());
            return self.complain(&span, message, "http://, https:// and file: are supported");
        }
        let flat = suites.iter().filter(|suite| is_flat(suite)).count();
        if flat > 0 && (flat < suites.len() || !components.is_empty()) {
            let help = "a suite that ends in a slash is a directory: it must be the only suite, without components";
            return self.complain(&span, "a flat archive has no components", help);
        }
        if flat == 0 && components.is_empty() {
            let help = "for instance `main`; for a flat archive, end the suite in a slash: ./";
            return self.complain(&span, "an archive needs components", help);
        }
        let mut entry = Entry {
            uri: without_password(uri.trim_end_matches('/')),
            suites,
            components,
            architectures: Vec::new(),
            signed_by: None,
            trusted: false,
            check_valid_until: true,
            span,
        };
        for (name, value) in options {
            let is_yes = || matches!(value.trim(), "yes" | "true" | "on" | "with" | "enable" | "1");
            match name.as_str() {
                "arch" => entry.architectures = value.split_whitespace().map(str::to_owned).collect(),
                "trusted" => entry.trusted = is_yes(),
                "check-valid-until" => entry.check_valid_until = is_yes(),
                "signed-by" => entry.signed_by = signed_by(&value),
                name if PASSED_OVER.contains(&name) || name.starts_with("x-") => {}
                name => {
                    let message = format!("the option `{}` is not supported", name.escape_debug());
                    let help = "imgbuild supports arch, signed-by, trusted and check-valid-until";
                    self.findings.push(Finding::warning("sources::option", &entry.span, message).help(help));
                }
            }
        }
        self.entries.push(entry);
    }
}

/// A path, or certificates that stand there themselves; a lone dot is an empty line. Fingerprints choose among the host's
/// keys, which do not count here.
fn signed_by(value: &str) -> Option<SignedBy> {
    if value.contains("-----BEGIN") {
        let lines = value.lines().map(|line| if line.trim() == "." { "" } else { line.trim() });
        return Some(SignedBy::Text(lines.skip_while(|line| line.is_empty()).collect::<Vec<_>>().join("\n") + "\n"));
    }
    let path = value.split_whitespace().next()?;
    let is_fingerprint = path.len() >= 16 && path.trim_end_matches('!').bytes().all(|byte| byte.is_ascii_hexdigit());
    (!is_fingerprint).then(|| SignedBy::File(PathBuf::from(path)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(name: &str, text: &str) -> (Vec<Entry>, Vec<String>) {
        let (entries, findings) = read_sources_file(&SourceFile::new(name, name, text));
        (entries, findings.into_iter().map(|finding| finding.message).collect())
    }

    #[test]
    fn both_forms_say_the_same() {
        let line = "# NVIDIA\ndeb [arch=amd64,arm64 signed-by=keys/cuda.gpg] https://m/cuda/ /\n\
                    deb-src https://m/x y main\ndeb [trusted=yes] file:/srv/local ./ # ours\ndeb http://m/docker bookworm stable\n";
        let stanzas = "# NVIDIA\nTypes: deb\nURIs: https://m/cuda/\nSuites: /\nArchitectures: amd64 arm64\nSigned-By: keys/cuda.gpg\n\n\
                       Types: deb-src\nURIs: https://m/x\nSuites: y\nComponents: main\n\n\n\
                       Types: deb\nURIs: file:/srv/local\nSuites: ./\nTrusted: yes\n\n\
                       Types: deb deb-src\nURIs: http://m/docker\nSuites: bookworm\nComponents:\n stable\n# c\n\n\
                       Types: deb\nEnabled: no\nURIs: http://m/off\nSuites: x\nComponents: main\n";
        let (one, complaints) = read("cuda.list", line);
        assert_eq!(complaints, [""; 0]);
        let (two, complaints) = read("cuda.sources", stanzas);
        assert_eq!(complaints, [""; 0]);
        let plain = |entries: &[Entry]| {
            entries
                .iter()
                .map(|entry| {
                    (
                        entry.uri.clone(),
                        entry.suites.clone(),
                        entry.components.clone(),
                        entry.architectures.clone(),
                        entry.signed_by.clone(),
                        entry.trusted,
                    )
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(plain(&one), plain(&two));
        assert_eq!((one.len(), one[0].architectures.len(), one[1].trusted), (3, 2, true));
        assert_eq!(two[1].span.line(), 14);
    }

    #[test]
    fn keys_in_the_file_are_whole_again() {
        let text = "Types: deb\nURIs: https://m\nSuites: ./\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n -----END PGP PUBLIC KEY BLOCK-----\n";
        let (entries, _) = read("a.sources", text);
        let whole = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQINBF\n-----END PGP PUBLIC KEY BLOCK-----\n";
        assert_eq!(entries[0].signed_by, Some(SignedBy::Text(whole.to_owned())));
    }

    #[test]
    fn mistakes_are_told() {
        for (text, said) in [
            ("rpm http://m x main\n", "`rpm` does not start a valid"),
            ("deb http://m\n", "needs an address and a suite"),
            ("deb [arch=amd64 http://m x main\n", "not closed"),
            ("deb ftp://m x main\n", "not a supported URI"),
            ("deb http://m x\n", "needs components"),
            ("deb http://m ./ main\n", "no components"),
            ("deb [magic=1] http://m x main\n", "`magic` is not supported"),
        ] {
            let (_, complaints) = read("a.list", text);
            assert!(complaints.iter().any(|one| one.contains(said)), "{text}: {complaints:?}");
        }
        assert_eq!(read("a.sources", "Types: deb\nURIs: http://m\n").1, ["an archive needs URIs and Suites"]);
        assert_eq!(read("a.sources", "hello\n").1, ["`hello` is not a field"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[ -~\n\tä]{0,200}") {
            read("a.list", &text);
            read("a.sources", &text);
        }
    }
}
