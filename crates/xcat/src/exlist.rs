//! Exclude lists (reference, section 3).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::glob::{Glob, after_first};
use super::include::{Included, Reads, resolve_include};
use super::pkglist::looks_like_directive;
use super::{Loader, matches};
use base::source::counted_as;
use base::source::{Finding, SourceFile, Span};

pub const ALWAYS_EXCLUDED: [&str; 5] =
    ["./etc/init.d/statelite", "./etc/rc.sysinit.backup", "./.statelite*", "./.default*", "./.statebackup*"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// As it is matched against `./path`.
    pub text: String,
    pub span: Span,
}

/// What lists mean together; the order of lines has no meaning.
#[derive(Debug, Clone, Default)]
pub struct ExcludeList {
    /// Left out of the pack.
    pub exclude: Vec<Pattern>,
    /// Brought back: these win.
    pub include: Vec<Pattern>,
    pub findings: Vec<Finding>,
    pub included: Vec<Arc<SourceFile>>,
}

pub fn parse_exlist(files: &[Arc<SourceFile>], loader: &dyn Loader) -> ExcludeList {
    let mut list = ExcludeList::default();
    let mut reads = Reads::default();
    for file in files {
        read_file(&mut vec![Arc::clone(file)], loader, &mut list, &mut reads);
    }
    list
}

fn read_file(
    chain: &mut Vec<Arc<SourceFile>>,
    loader: &dyn Loader,
    list: &mut ExcludeList,
    reads: &mut Reads<PathBuf>,
) {
    let Some(file) = chain.last().cloned() else { return };
    let mut start = 0;
    for line in file.text.split_inclusive('\n') {
        let here = start;
        start += line.len();
        let line = line.trim_end_matches(['\n', '\r']);
        if let Some(rest) = line.trim_start().strip_prefix("#INCLUDE:")
            && let Some((path, after)) = rest.split_once('#')
            && (after.trim().is_empty() || after.trim_start() != after && after.trim_start().starts_with('#'))
        {
            let span = Span::new(&file, here..here + line.len());
            if let Some(included) = resolve_include(path, &span, chain, loader, &mut list.findings) {
                let path = included.path.clone();
                match reads.begin(&path, &span) {
                    // The order of lines has no meaning: once is enough.
                    Included::Again => continue,
                    Included::TooMany(finding) => {
                        list.findings.extend(finding);
                        continue;
                    }
                    Included::Read => {}
                }
                list.included.push(Arc::clone(&included));
                chain.push(included);
                read_file(chain, loader, list, reads);
                chain.pop();
                reads.done(path);
            }
            continue;
        }
        if line.contains("#INCLUDE:") && !line.trim_start().starts_with("##")
            || looks_like_directive(line.trim_start()) && line.trim_start().starts_with('#')
        {
            let span = Span::new(&file, here..here + line.len());
            let finding = if line.contains("#INCLUDE:") {
                Finding::error("exlist::include", &span, "`#INCLUDE:path#` must be alone on its line")
            } else {
                Finding::warning(
                    "exlist::looks_like_directive",
                    &span,
                    format!("`{}` is a comment, but looks like a directive", line.trim()),
                )
            };
            list.findings.push(finding.help("write #INCLUDE:path# on a line of its own"));
            continue;
        }
        let (text, commented) = match line.split_once('#') {
            Some((text, _)) => (text.trim_end(), true),
            None => (line, false),
        };
        let trimmed = text.trim();
        if trimmed.is_empty() {
            continue;
        }
        let lead = text.len() - text.trim_start().len();
        let span = Span::new(&file, here + lead..here + lead + trimmed.len());
        if trimmed != text && !commented || lead > 0 {
            list.findings.push(
                Finding::warning("exlist::blanks", &span, format!("`{trimmed}` has spaces around it"))
                    .label("with them xCAT matches nothing; imgbuild ignores them")
                    .help("remove the spaces"),
            );
        }
        let (is_include, raw) = match trimmed.strip_prefix('+') {
            Some(pattern) => (true, pattern),
            None => (false, trimmed.strip_prefix('-').unwrap_or(trimmed)),
        };
        let pattern = raw.trim_start();
        if pattern != raw {
            list.findings.push(
                Finding::warning("exlist::blanks", &span, format!("`{trimmed}` has a space after its sign"))
                    .label("with it xCAT matches nothing; imgbuild ignores it")
                    .help("remove the space"),
            );
        }
        judge(pattern, is_include, &span, &mut list.findings);
        let target = if is_include { &mut list.include } else { &mut list.exclude };
        target.push(Pattern { text: pattern.to_owned(), span });
    }
}

/// Says what can be said of a pattern without a tree.
fn judge(pattern: &str, is_include: bool, span: &Span, findings: &mut Vec<Finding>) {
    // `]` right behind the bracket, or behind `!`, is one of its characters. Source: fnmatch(3), glob(7).
    let open = pattern.match_indices('[').find(|(at, _)| {
        let inside = pattern[at + 1..].trim_start_matches(['!', '^']);
        !inside.get(1..).unwrap_or_default().contains(']')
    });
    let is_escaped = |at: usize| at > 0 && pattern.as_bytes()[at - 1] == b'\\';
    if open.is_some_and(|(at, _)| !is_escaped(at)) {
        findings.push(
            Finding::warning("exlist::bracket", span, format!("a bracket of `{pattern}` is not closed"))
                .label("it is literal, so this matches no other name")
                .help("close it, for instance [a-z]; for the character itself write \\["),
        );
    }
    let braces = pattern.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    if braces.is_some_and(|(inside, _)| inside.contains(',')) && !pattern.contains('\\') {
        findings.push(
            Finding::warning("exlist::braces", span, format!("the braces of `{pattern}` are literal"))
                .label("only a shell makes several names of them")
                .help("write one line for each"),
        );
    }
    let takes_all = ["./x", "./usr/share/doc/a", "./etc/passwd"].iter().all(|name| matches(pattern, name));
    if takes_all && !is_include {
        findings.push(
            Finding::error("exlist::everything", span, format!("`{pattern}` excludes the whole image"))
                .help("write what to remove, for instance `./usr/share/doc*`"),
        );
    } else if pattern.ends_with('/') {
        let folder = pattern.trim_end_matches('/');
        let help = if folder.len() > 2 && folder.starts_with("./") {
            format!("write `{folder}` and `{folder}/*`, which remove the folder and its content")
        } else {
            "name a folder, for instance `./usr/share/doc` and `./usr/share/doc/*`".to_owned()
        };
        findings.push(
            Finding::warning(
                "exlist::trailing_slash",
                span,
                format!("`{pattern}` can never match: no path ends in `/`"),
            )
            .help(help),
        );
    } else if !could_match(pattern) {
        let plain = pattern.trim_start_matches('/');
        let help = if plain.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            format!("write `./{plain}`")
        } else {
            "start it with `./`, for instance `./usr/share/doc*`".to_owned()
        };
        findings.push(
            Finding::warning("exlist::absolute_path", span, format!("`{pattern}` can never match"))
                .label("patterns are matched against `./path`")
                .help(help),
        );
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exclusion {
    /// Paths (without `./`; `.` is the root) that are left out.
    pub excluded: BTreeSet<String>,
    /// For each of them, the number of the first pattern that names it; none for what is always left out.
    pub by: BTreeMap<String, Option<usize>>,
    pub findings: Vec<Finding>,
}

impl ExcludeList {
    /// Applies the list to a tree: sorted paths without `./`, `.` for the root, and whether each is a directory.
    ///
    /// A path that is brought back brings its parents back too, which xCAT does not do.
    pub fn apply(&self, tree: &BTreeMap<String, bool>) -> Exclusion {
        // As find(1) says them, in one text: there may be many.
        let mut text = String::new();
        for path in tree.keys().filter(|path| *path != ".") {
            text.extend(["./", path]);
        }
        let mut rest = text.as_str();
        let mut name_of = |path: &'_ str| match path {
            "." => ".",
            _ => {
                let (name, later) = rest.split_at(2 + path.len());
                rest = later;
                name
            }
        };
        let names: Vec<(&str, &str)> = tree.keys().map(|path| (name_of(path), path.as_str())).collect();
        let mut outcome = Exclusion::default();
        let mut unmatched = Vec::new();
        let mut dropped_by: BTreeMap<&str, Option<usize>> = BTreeMap::new();
        for pattern in ALWAYS_EXCLUDED {
            let glob = Glob::new(pattern);
            for (_, path) in names.iter().filter(|(name, _)| glob.matches(name)) {
                dropped_by.insert(path, None);
            }
        }
        for (number, pattern) in self.exclude.iter().enumerate() {
            let (mut used, glob) = (false, Glob::new(&pattern.text));
            for (_, path) in names.iter().filter(|(name, _)| glob.matches(name)) {
                used = true;
                dropped_by.entry(path).or_insert(Some(number));
            }
            if !used && could_match(&pattern.text) {
                unmatched.push(pattern);
            }
        }
        let mut kept: BTreeSet<&str> = BTreeSet::new();
        for pattern in &self.include {
            let (mut used, glob) = (false, Glob::new(&pattern.text));
            for (_, path) in names.iter().filter(|(name, _)| glob.matches(name)) {
                used = true;
                kept.insert(path);
                let mut above = *path;
                while let Some((parent, _)) = above.rsplit_once('/') {
                    kept.insert(parent);
                    above = parent;
                }
                kept.insert(".");
            }
            if !used {
                outcome.findings.push(
                    Finding::warning(
                        "exlist::unused_include",
                        &pattern.span,
                        format!("`+{}` matches nothing", pattern.text),
                    )
                    .help("remove the line, or correct the path"),
                );
            }
        }
        dropped_by.retain(|path, _| !kept.contains(path));
        outcome.excluded = dropped_by.keys().map(|path| (*path).to_owned()).collect();
        outcome.by = dropped_by.iter().map(|(path, number)| ((*path).to_owned(), *number)).collect();
        outcome.findings.extend(orphans(tree, &outcome, &self.exclude));
        if let Some(first) = unmatched.first() {
            let shown: Vec<String> = unmatched
                .iter()
                .take(5)
                .map(|pattern| format!("{}:{} {}", pattern.span.file.name, pattern.span.line(), pattern.text))
                .collect();
            let more = if unmatched.len() > 5 { format!(" and {} more", unmatched.len() - 5) } else { String::new() };
            let count = counted_as(unmatched.len(), "pattern", "patterns");
            let text = format!("{count} matched nothing this time: {}{more}", shown.join("; "));
            let finding = Finding::note("exlist::unmatched", &first.span, text).label("the first of them");
            // In images whose /lib is a link all is below /usr.
            let merged = unmatched.iter().find_map(|pattern| {
                let (top, _) = pattern.text.strip_prefix("./")?.split_once('/')?;
                let is_link = tree.get(top) == Some(&false) && tree.get(&format!("usr/{top}")) == Some(&true);
                is_link.then(|| {
                    format!("/{top} is a link to /usr/{top} in this image: write ./usr/{}", &pattern.text[2..])
                })
            });
            outcome.findings.push(match merged {
                Some(help) => finding.help(help),
                None => finding,
            });
        }
        outcome
    }
}

/// Whether some path can match: every name is `.` or starts with `./`.
fn could_match(pattern: &str) -> bool {
    if pattern.ends_with('/') {
        return false;
    }
    match after_first(pattern, '.') {
        None => false,
        Some("") => true,
        Some(_) if pattern.starts_with('*') => true,
        Some(rest) => after_first(rest, '/').is_some(),
    }
}

/// Directories that go while something in them stays: the archive gets them back with default mode and owner.
fn orphans(
    tree: &BTreeMap<String, bool>,
    Exclusion { excluded, by, .. }: &Exclusion,
    patterns: &[Pattern],
) -> Vec<Finding> {
    let mut said: BTreeMap<&str, Finding> = BTreeMap::new();
    for path in tree.keys().filter(|path| !excluded.contains(*path)) {
        let Some((parent, _)) = path.rsplit_once('/') else { continue };
        if excluded.contains(parent)
            && let Some(pattern) = by.get(parent).copied().flatten().and_then(|number| patterns.get(number))
        {
            said.entry(&pattern.text).or_insert_with(|| {
                Finding::warning(
                    "exlist::parent_dropped",
                    &pattern.span,
                    format!("`{}` drops the folder `{parent}` but keeps `{path}`", pattern.text),
                )
                .label("the node creates the folder with default mode and owner")
                .help(format!("write `{0}*` to drop both, or `{0}/*` to keep the empty folder", pattern.text))
            });
        }
    }
    said.into_values().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::pkglist::tests::Memory;

    fn tree() -> BTreeMap<String, bool> {
        let files = [
            "boot/vmlinuz",
            "bootx",
            "tmp/t",
            "usr/share/doc/a/README",
            "usr/share/man/m.1",
            "usr/share/locale/C",
            "usr/share/locale/de/y",
            "usr/share/locale/en_US/x",
            "usr/share/locale/locale.alias",
            "usr/lpp/mmfs/bin/mmfsd",
            "a'b1",
        ];
        let mut tree = BTreeMap::from([(".".to_owned(), true)]);
        for file in files {
            tree.insert(file.to_owned(), false);
            let mut path = file;
            while let Some((parent, _)) = path.rsplit_once('/') {
                tree.insert(parent.to_owned(), true);
                path = parent;
            }
        }
        tree
    }

    fn read(files: &[&str]) -> String {
        let files: Vec<_> = files.iter().map(|text| SourceFile::new("list", "/D/list", *text)).collect();
        let list = parse_exlist(&files, &Memory(HashMap::new(), HashMap::new()));
        let outcome = list.apply(&tree());
        let mut out = outcome.excluded.iter().cloned().collect::<Vec<_>>().join(" ");
        for finding in list.findings.iter().chain(&outcome.findings) {
            let mark = match finding.severity {
                base::source::Severity::Error => "E",
                base::source::Severity::Warning => "W",
                base::source::Severity::Note => "N",
            };
            out.push_str(&format!(" {mark}:{}", finding.code));
        }
        out.trim_start().to_owned()
    }

    #[test]
    fn what_matched_nothing_is_named_once_and_merged_folders_have_their_remedy() {
        let files = [SourceFile::new("list", "/D/list", "./lib/none*\n./opt/none\n")];
        let list = parse_exlist(&files, &Memory(HashMap::new(), HashMap::new()));
        let mut tree = tree();
        // Debian's image: /lib is a link.
        tree.insert("lib".to_owned(), false);
        tree.insert("usr/lib".to_owned(), true);
        let findings = list.apply(&tree).findings;
        assert_eq!(findings.len(), 1, "{findings:?}");
        let text = "2 patterns matched nothing this time: list:1 ./lib/none*; list:2 ./opt/none";
        assert_eq!(findings[0].message, text);
        let help = findings[0].help.as_deref().unwrap_or_default();
        assert!(help.contains("/lib is a link to /usr/lib") && help.contains("write ./usr/lib/none*"), "{help}");
    }

    #[test]
    fn vectors_of_exclude_lists() {
        let doc = "usr/share/doc usr/share/doc/a usr/share/doc/a/README";
        let boot = "boot boot/vmlinuz bootx";
        let locale = "usr/share/locale/C usr/share/locale/de usr/share/locale/de/y";
        let all_locale =
            format!("{locale} usr/share/locale/en_US usr/share/locale/en_US/x usr/share/locale/locale.alias");
        let usr = "usr/share usr/share/doc usr/share/doc/a usr/share/doc/a/README usr/share/locale usr/share/locale/C \
                   usr/share/locale/de usr/share/locale/de/y usr/share/locale/en_US usr/share/locale/en_US/x \
                   usr/share/locale/locale.alias usr/share/man usr/share/man/m.1";
        let table: Vec<(&str, Vec<&str>, String)> = vec![
            ("X1", vec!["./boot*\n"], boot.to_owned()),
            ("X2", vec!["./usr/share/doc*\n"], doc.to_owned()),
            ("X3", vec!["./usr/share/locale/*\n"], all_locale),
            ("X4", vec!["./tmp\n"], "tmp W:exlist::parent_dropped".to_owned()),
            ("X5", vec!["./usr/share/doc/\n"], "W:exlist::trailing_slash".to_owned()),
            ("X6", vec!["usr/share/doc*\n"], "W:exlist::absolute_path".to_owned()),
            ("X6", vec!["/usr/share/doc*\n"], "W:exlist::absolute_path".to_owned()),
            ("X7", vec!["./[bt]*\n"], format!("{boot} tmp tmp/t")),
            ("braces", vec!["./usr/share/{doc,man}\n"], "W:exlist::braces N:exlist::unmatched".to_owned()),
            ("X8", vec!["./*.1\n"], "usr/share/man/m.1".to_owned()),
            ("X10", vec!["./usr/share/doc \n"], "usr/share/doc W:exlist::blanks W:exlist::parent_dropped".to_owned()),
            ("X11", vec!["  ./boot*\n"], format!("{boot} W:exlist::blanks")),
            ("X12", vec!["-./boot*\n"], boot.to_owned()),
            (
                "X13",
                vec!["./usr/share/locale/*\n+./usr/share/locale/en_US*\n+./usr/share/locale/locale.alias\n"],
                locale.to_owned(),
            ),
            (
                "X14",
                vec!["+./usr/share/locale/en_US*\n./usr/share/locale/*\n"],
                format!("{locale} usr/share/locale/locale.alias"),
            ),
            ("X15", vec!["./usr*\n+./usr/lpp/mmfs/bin/mm*\n"], usr.to_owned()),
            ("X16", vec!["./boot* # kernels\n"], boot.to_owned()),
            ("X17", vec!["#INCLUDE:nosuch#\n"], "E:include::missing".to_owned()),
            ("X18", vec!["+./nothing*\n"], "W:exlist::unused_include".to_owned()),
            ("X19", vec!["+./bootx\n"], String::new()),
            ("X20", vec!["./tmp*"], "tmp tmp/t".to_owned()),
            ("X21", vec!["./a'b*\n"], "a'b1".to_owned()),
            ("X22", vec!["./boot*\n", "+./boot/vmlinuz\n"], "bootx".to_owned()),
        ];
        for (id, files, expected) in table {
            assert_eq!(read(&files), expected, "{id}");
        }
        for all in ["*\n", "**\n", ".*\n", "?*\n", "./*\n"] {
            assert!(read(&[all]).ends_with("E:exlist::everything"), "X9 {all}");
        }
        for (text, expected) in [
            ("\\./boot*\n", boot),
            ("[.]/bootx\n", "bootx"),
            ("+*\n", ""),
            ("- ./bootx\n", "bootx W:exlist::blanks"),
            (".x\n", "W:exlist::absolute_path"),
            ("./bootx #INCLUDE:nosuch#\n", "E:exlist::include"),
            ("#INCLUDE:nosuch\n", "E:exlist::include"),
            ("# INCLUDE:nosuch#\n", "W:exlist::looks_like_directive"),
        ] {
            assert_eq!(read(&[text]), expected, "{text}");
        }
        assert!(read(&["./nowhere*\n./nothing*\n"]).contains("N:exlist::unmatched"));
    }
}
