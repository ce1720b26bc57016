//! pkglist and otherpkgs pkglist (reference, section 2).

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::Loader;
use super::include::{Included, Reads, resolve_include};
use base::source::{Finding, Severity, SourceFile, Span};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    Packages,
    /// The same of Debian and its kin: a suite may follow the name, as apt has it.
    DebianPackages,
    /// Other packages: a folder in front of the name selects the repository.
    OtherPackages,
}

impl Flavor {
    /// Whether it names the distribution's packages.
    pub fn is_of_distribution(self) -> bool {
        self != Self::OtherPackages
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Name, with `@` in front of a group.
    pub name: String,
    /// Folder below otherpkgdir.
    pub subdirectory: Option<String>,
    pub span: Span,
}

/// One variable of an `#ENV:` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    pub name: String,
    pub value: String,
    pub span: Span,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassList {
    pub install: Vec<Item>,
    /// `-name`: to remove before.
    pub remove_before: Vec<Item>,
    /// `--name`: to remove afterwards.
    pub remove_after: Vec<Item>,
    pub environment: Vec<Variable>,
}

impl PassList {
    fn is_empty(&self) -> bool {
        self.install.is_empty() && self.remove_before.is_empty() && self.remove_after.is_empty()
    }
}

#[derive(Debug, Clone, Default)]
pub struct PackageList {
    /// Transactions, in order; empty ones are left out.
    pub passes: Vec<PassList>,
    pub findings: Vec<Finding>,
    pub included: Vec<Arc<SourceFile>>,
}

struct Reader<'a> {
    loader: &'a dyn Loader,
    flavor: Flavor,
    passes: Vec<PassList>,
    findings: Vec<Finding>,
    included: Vec<Arc<SourceFile>>,
    /// Index of the pass that items go to; starts at 0 again in each top-level file.
    pass: usize,
    /// What each pass has already: index, dashes, folder, name.
    seen: HashSet<(usize, usize, Option<String>, String)>,
    /// Files that were included in a pass and would add nothing to it a second time.
    reads: Reads<(PathBuf, usize)>,
}

/// Reads lists in order. Files share the passes: pass 1 of each is one transaction.
pub fn parse_pkglist(files: &[Arc<SourceFile>], flavor: Flavor, loader: &dyn Loader) -> PackageList {
    let mut reader = Reader {
        loader,
        flavor,
        passes: Vec::new(),
        findings: Vec::new(),
        included: Vec::new(),
        pass: 0,
        seen: HashSet::new(),
        reads: Reads::default(),
    };
    for file in files {
        reader.pass = 0;
        let mut chain = vec![Arc::clone(file)];
        let before: usize = reader
            .passes
            .iter()
            .map(|pass| pass.install.len() + pass.remove_before.len() + pass.remove_after.len())
            .sum();
        let errors = reader.findings.iter().filter(|finding| finding.severity == Severity::Error).count();
        reader.file(&mut chain);
        let after: usize = reader
            .passes
            .iter()
            .map(|pass| pass.install.len() + pass.remove_before.len() + pass.remove_after.len())
            .sum();
        let errors_now = reader.findings.iter().filter(|finding| finding.severity == Severity::Error).count();
        if before == after && errors == errors_now && flavor.is_of_distribution() && files.len() == 1 {
            let span = Span::new(file, 0..0);
            let finding = Finding::error("pkglist::empty", &span, format!("`{}` names no packages", file.name))
                .help("add a package, or remove the list from the recipe");
            reader.findings.push(finding);
        }
    }
    reader.passes.retain(|pass| !pass.is_empty() || !pass.environment.is_empty());
    // An environment without a package means nothing.
    reader.passes.retain(|pass| !pass.is_empty());
    PackageList { passes: reader.passes, findings: reader.findings, included: reader.included }
}

enum Element<'t> {
    Include(&'t str),
    NewPass,
    Environment(&'t str),
}

fn directive(text: &str) -> Option<(Element<'_>, usize)> {
    if text.starts_with("#NEW_INSTALL_LIST#") {
        return Some((Element::NewPass, "#NEW_INSTALL_LIST#".len()));
    }
    let inner = |head: &str| {
        let rest = text.strip_prefix(head)?;
        let end = rest.find('#')?;
        Some((&rest[..end], head.len() + end + 1))
    };
    if let Some((path, length)) = inner("#INCLUDE:") {
        return Some((Element::Include(path), length));
    }
    if let Some((words, length)) = inner("#ENV:") {
        return Some((Element::Environment(words), length));
    }
    None
}

/// Whether a comment looks like a directive that was misspelt.
pub(super) fn looks_like_directive(comment: &str) -> bool {
    let folded: String = comment.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_uppercase();
    let folded = folded.trim_start_matches('#');
    let known = ["INCLUDE:", "NEW_INSTALL_LIST", "ENV:"].iter().any(|word| folded.starts_with(word));
    let unknown = comment.strip_prefix('#').and_then(|rest| rest.split_once(':')).is_some_and(|(word, rest)| {
        word.len() > 2 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_') && rest.trim_end().ends_with('#')
    });
    known || unknown
}

/// Whether a word is what packages provide, `perl(Foo::Bar)`, `libfoo.so.1()(64bit)`, or a pattern of apt, `?name(^lib)` or `~n^lib$`.
/// Sources: RPM's dependencies, as spec files write them; apt-patterns(7).
fn is_provided(word: &str) -> bool {
    let mut open = 0i32;
    let is_short = word.strip_prefix('~').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()));
    let is_pattern = is_short || word.starts_with('?');
    // A suite may follow a pattern.
    let end = if is_pattern { word.rfind(')').map_or(word, |at| &word[..=at]) } else { word };
    word.starts_with(|c: char| c.is_ascii_alphanumeric() || is_pattern)
        && (is_short || end.ends_with(')'))
        && word.chars().all(|c| {
            open += i32::from(c == '(') - i32::from(c == ')');
            open >= 0 && (is_name_character(c) || "()[]".contains(c) || is_pattern && "$|\\".contains(c))
        })
        && open == 0
}

/// Characters of package names, versions and wildcards; `=` is for apt's `name=version`.
fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._+:~*?@^/=-".contains(c)
}

/// Whether an absolute path is written plainly.
fn is_path(word: &str) -> bool {
    word.chars().all(is_name_character)
        && !word[1..].split('/').any(|part| part.is_empty() || part == "." || part == "..")
}

impl Reader<'_> {
    fn current(&mut self) -> &mut PassList {
        while self.passes.len() <= self.pass {
            self.passes.push(PassList::default());
        }
        &mut self.passes[self.pass]
    }

    fn file(&mut self, chain: &mut Vec<Arc<SourceFile>>) {
        let Some(file) = chain.last().cloned() else { return };
        let mut start = 0;
        for line in file.text.split_inclusive('\n') {
            self.line(&file, start, line.trim_end(), chain);
            start += line.len();
        }
    }

    fn line(&mut self, file: &Arc<SourceFile>, start: usize, line: &str, chain: &mut Vec<Arc<SourceFile>>) {
        let mut at = 0;
        let mut first = true;
        let mut pieces: Vec<(usize, usize, bool)> = Vec::new();
        while at < line.len() {
            let rest = &line[at..];
            let blank = rest.len() - rest.trim_start().len();
            let here = at + blank;
            let text = &line[here..];
            if text.starts_with('#') {
                if let Some((element, length)) = directive(text) {
                    let span = Span::new(file, start + here..start + here + length);
                    let after = text[length..].trim_start();
                    let comment =
                        after.starts_with('#') && text[length..].starts_with([' ', '\t']) && directive(after).is_none();
                    if comment {
                        self.findings.push(
                            Finding::warning("pkglist::trailing_comment", &span, "a comment follows a directive")
                                .help("put comments on lines of their own"),
                        );
                    }
                    let clean = after.is_empty() || after.starts_with(',') || comment;
                    if !clean {
                        self.findings.push(
                            Finding::error(
                                "pkglist::text_after_directive",
                                &span,
                                format!("text follows the directive `{}`", span.text()),
                            )
                            .label("xCAT would lose or glue that text")
                            .help("put what follows on a line of its own"),
                        );
                        return;
                    }
                    self.directive(element, &span, chain);
                    at = here + length;
                    at += line[at..]
                        .find(',')
                        .filter(|_| after.starts_with(','))
                        .map_or(line.len() - at, |comma| comma + 1);
                    first = false;
                    continue;
                }
                if first && looks_like_directive(text) {
                    let span = Span::new(file, start + here..start + line.len());
                    self.findings.push(
                        Finding::warning("pkglist::looks_like_directive", &span, format!("`{text}` is a comment, but looks like a directive"))
                            .help("directives are upper case, contain no space, and end in `#`: #INCLUDE:path#, #NEW_INSTALL_LIST#, #ENV:NAME=value#"),
                    );
                }
                if first {
                    break;
                }
                // An item that starts with `#` is ignored, and only that item.
                let end = text.find(',').map_or(line.len(), |comma| here + comma);
                let span = Span::new(file, start + here..start + end);
                self.findings.push(
                    Finding::warning(
                        "pkglist::ignored_item",
                        &span,
                        format!("`{}` is ignored up to the next comma", span.text()),
                    )
                    .help("put comments on lines of their own"),
                );
                at = end + 1;
                continue;
            }
            let mut end = rest.find(',').map_or(line.len(), |comma| at + comma);
            let item = &line[at..end];
            if let Some(comment) = item.match_indices('#').find(|(place, _)| item[..*place].ends_with([' ', '\t'])) {
                let span = Span::new(file, start + at + comment.0..start + line.len());
                self.findings.push(
                    Finding::warning("pkglist::trailing_comment", &span, "a comment follows a package")
                        .label("xCAT hands this to a shell, which drops the rest of the list")
                        .help("put comments on lines of their own"),
                );
                end = at + comment.0;
                pieces.push((at, end, first));
                break;
            }
            pieces.push((at, end, first));
            first = false;
            at = end + 1;
        }
        for (from, to, first) in pieces {
            self.item(file, start, line, from, to, first);
        }
    }

    fn item(&mut self, file: &Arc<SourceFile>, start: usize, line: &str, from: usize, to: usize, _first: bool) {
        let raw = &line[from..to];
        let text = raw.trim();
        if text.is_empty() {
            return;
        }
        let lead = raw.len() - raw.trim_start().len();
        let span = Span::new(file, start + from + lead..start + from + lead + text.len());
        if let Some(group) = text.strip_prefix('@') {
            let group = group.trim();
            if group.is_empty() || group.chars().any(|c| !is_name_character(c) && c != ' ') {
                self.findings.push(
                    Finding::error("pkglist::group", &span, format!("`{text}` names no group")).help("write `@name`"),
                );
                return;
            }
            self.add(Item { name: format!("@{group}"), subdirectory: None, span }, 0);
            return;
        }
        if text.starts_with("---") {
            self.findings.push(
                Finding::error("pkglist::three_dashes", &span, format!("`{text}` starts with three dashes"))
                    .help("`-name` removes before the transaction, `--name` after it"),
            );
            return;
        }
        let (dashes, names) = match text.strip_prefix("--") {
            Some(rest) => (2, rest),
            None => text.strip_prefix('-').map_or((0, text), |rest| (1, rest)),
        };
        if dashes > 0 && lead > 0 {
            self.findings.push(
                Finding::warning("pkglist::blank_before_removal", &span, format!("`{text}` has a leading space"))
                    .label("xCAT takes this as a package to install; imgbuild removes it")
                    .help("remove the space"),
            );
        }
        if dashes > 0 && (names.trim().is_empty() || names.trim_start().starts_with('@')) {
            self.findings.push(
                Finding::error("pkglist::no_name", &span, format!("`{text}` names no package"))
                    .help("write `-name`; groups cannot be removed"),
            );
            return;
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        if words.len() > 1 {
            self.findings.push(
                Finding::warning(
                    "pkglist::blank_between",
                    &span,
                    format!("`{text}` is read as {} packages", words.len()),
                )
                .help("write one package per line, or separate them by commas"),
            );
        }
        for word in words {
            let (dashes, name) = match word.strip_prefix("--") {
                Some(rest) => (2, rest),
                None => word.strip_prefix('-').map_or((0, word), |rest| (1, rest)),
            };
            if !name.is_empty() {
                self.word(name, dashes, &span);
            }
        }
    }

    fn word(&mut self, word: &str, dashes: usize, whole: &Span) {
        let offset = whole.text().find(word).unwrap_or(0);
        let span =
            Span { start: whole.start + offset, end: whole.start + offset + word.len(), file: Arc::clone(&whole.file) };
        let error = |code, message: String, help: &str| Finding::error(code, &span, message).help(help);
        // A file or a capability chooses among the distribution's packages.
        let is_meant =
            self.flavor.is_of_distribution() && (is_provided(word) || (word.starts_with('/') && is_path(word)));
        if is_meant && dashes > 0 {
            let message = format!("`{word}` names no package");
            self.findings.push(error("pkglist::no_name", message, "name the package to remove"));
            return;
        }
        if is_meant {
            self.add(Item { name: word.to_owned(), subdirectory: None, span }, 0);
            return;
        }
        if let Some(bad) = word.chars().find(|c| !is_name_character(*c)) {
            let finding = if word.contains("#INCLUDE:") || word.contains("#ENV:") {
                error(
                    "pkglist::glued_directive",
                    format!("`{word}` has a directive in its middle"),
                    "put the directive on a line of its own",
                )
            } else {
                error(
                    "pkglist::character",
                    format!("`{word}` has the character `{bad}`, which a package name cannot have"),
                    "remove it; xCAT would hand it to a shell",
                )
            };
            self.findings.push(finding);
            return;
        }
        if word.ends_with('/') {
            self.findings.push(error(
                "pkglist::ends_in_slash",
                format!("`{word}` ends in `/`"),
                "name a package after the folder",
            ));
            return;
        }
        if word.starts_with('/') {
            let (message, help) = match self.flavor {
                Flavor::OtherPackages => {
                    (format!("`{word}` is an absolute path"), "folders are relative to the otherpkgs directory")
                }
                Flavor::Packages | Flavor::DebianPackages => (
                    format!("`{word}` is not a path that a package can contain"),
                    "write it without `//`, `.` and `..`, for instance /usr/bin/less, or name the package",
                ),
            };
            self.findings.push(error("pkglist::absolute", message, help));
            return;
        }
        let (folder, name) = match word.rsplit_once('/') {
            Some((folder, name)) => (Some(folder), name),
            None => (None, word),
        };
        if folder.is_some_and(|folder| {
            folder.split('/').any(|part| part == ".." || part == "." || part.is_empty() || part.starts_with('-'))
        }) {
            self.findings.push(error(
                "pkglist::folder",
                format!("`{word}` has a folder that is empty, `.`, `..` or starts with a dash"),
                "write the folder relative to the otherpkgs directory",
            ));
            return;
        }
        if name.starts_with('-') || name == "." || name == ".." || name.chars().all(|c| c == '*' || c == '?') {
            self.findings.push(error(
                "pkglist::no_name",
                format!("`{word}` names no package"),
                "write a package's name",
            ));
            return;
        }
        if name.starts_with('=') || name.ends_with('=') {
            let (message, help) = match name.trim_matches('=') {
                "" => (format!("`{word}` names no package"), "write `name=version`".to_owned()),
                rest if name.starts_with('=') => {
                    (format!("`{word}` names no package before the version"), format!("write `name={rest}`"))
                }
                rest => {
                    let help = format!("write `{rest}=VERSION`, or `{rest}` for any version");
                    (format!("`{word}` names no version after the `=`"), help)
                }
            };
            self.findings.push(error("pkglist::version", message, &help));
            return;
        }
        // `name/suite`: one folder in front of a name would look the same, and means nothing in these lists.
        let of_suite = folder.is_some_and(|folder| !folder.contains('/'));
        if of_suite && self.flavor == Flavor::DebianPackages && dashes == 0 {
            self.add(Item { name: word.to_owned(), subdirectory: None, span }, 0);
            return;
        }
        if folder.is_some() && self.flavor.is_of_distribution() && dashes == 0 {
            self.findings.push(
                Finding::warning(
                    "pkglist::folder_ignored",
                    &span,
                    format!("the folder of `{word}` has no effect in a pkglist"),
                )
                .help(format!("write `{name}`, or put the line into an otherpkgs list")),
            );
        }
        if dashes > 0 && self.flavor.is_of_distribution() {
            self.findings.push(
                Finding::warning(
                    "pkglist::removal",
                    &span,
                    format!("xCAT ignores the removal of `{name}` in a pkglist"),
                )
                .label("imgbuild removes it")
                .help("remove the line to keep the package"),
            );
        }
        let subdirectory = folder.filter(|_| self.flavor == Flavor::OtherPackages && dashes == 0).map(str::to_owned);
        self.add(Item { name: name.to_owned(), subdirectory, span }, dashes);
    }

    fn add(&mut self, item: Item, dashes: usize) {
        let identity = (self.pass, dashes, item.subdirectory.clone(), item.name.clone());
        if !self.seen.insert(identity) {
            return;
        }
        let pass = self.current();
        match dashes {
            0 => pass.install.push(item),
            1 => pass.remove_before.push(item),
            _ => pass.remove_after.push(item),
        }
    }

    fn directive(&mut self, element: Element<'_>, span: &Span, chain: &mut Vec<Arc<SourceFile>>) {
        match element {
            Element::NewPass => {
                // The pass that is left exists, even if it stays empty: files share the numbering.
                self.current();
                self.pass += 1;
            }
            Element::Environment(words) => self.environment(words, span),
            Element::Include(path) => self.include(path, span, chain),
        }
    }

    fn environment(&mut self, words: &str, span: &Span) {
        if words.contains(',') {
            self.findings.push(
                Finding::warning("pkglist::comma_in_env", span, "the variables of `#ENV:` are separated by a comma")
                    .label("xCAT breaks the line there and loses them")
                    .help("separate them by spaces"),
            );
        }
        for word in words.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
            match word.split_once('=') {
                Some((name, value))
                    if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') =>
                {
                    let variable = Variable { name: name.to_owned(), value: value.to_owned(), span: span.clone() };
                    self.current().environment.push(variable);
                }
                _ => self.findings.push(
                    Finding::error("pkglist::env", span, format!("`{word}` is not `NAME=value`"))
                        .help("write #ENV:NAME=value OTHER=value#"),
                ),
            }
        }
    }

    fn include(&mut self, path: &str, span: &Span, chain: &mut Vec<Arc<SourceFile>>) {
        let Some(file) = resolve_include(path, span, chain, self.loader, &mut self.findings) else { return };
        let here = (file.path.clone(), self.pass);
        match self.reads.begin(&here, span) {
            Included::Again => return,
            Included::TooMany(finding) => return self.findings.extend(finding),
            Included::Read => {}
        }
        let variables = self.current().environment.len();
        self.included.push(Arc::clone(&file));
        chain.push(file);
        self.file(chain);
        chain.pop();
        // What begins a pass or sets a variable means the same again each time, as for xCAT.
        if self.pass == here.1 && self.current().environment.len() == variables {
            self.reads.done(here);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
