//! `.repo` files, as dnf and zypper read them. Source: dnf.conf(5), zypper(8), and INI as Python's configparser has it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::source::{Finding, SourceFile, Span, nearest};

/// How deep variables may be nested in one another's defaults.
const DEPTH_LIMIT: usize = 8;

/// Variables that `.repo` files may use: `releasever`, `basearch`, `arch`, and those of /etc/dnf/vars.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables(pub BTreeMap<String, String>);

impl Variables {
    /// Those that a release and an architecture give.
    pub fn of(release: &str, arch: &str) -> Self {
        // Source: dnf's arch table; other names stand for themselves.
        let base = match arch {
            "i486" | "i586" | "i686" | "athlon" => "i386",
            "armv7hl" | "armv7hnl" => "armhfp",
            other => other,
        };
        let mut all: BTreeMap<String, String> = [("releasever", release), ("arch", arch), ("basearch", base)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let (major, minor) = release.split_once('.').unwrap_or((release, ""));
        all.insert("releasever_major".to_owned(), major.to_owned());
        all.insert("releasever_minor".to_owned(), minor.to_owned());
        Self(all)
    }

    /// Puts values in the place of `$name`, `${name}`, `${name:-default}` and `${name:+instead}`.
    ///
    /// # Errors
    /// The name of a variable that has no value.
    pub fn expand(&self, text: &str) -> Result<String, String> {
        self.expand_at(text, 0)
    }

    fn expand_at(&self, text: &str, depth: usize) -> Result<String, String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if let Some(inner) = rest.strip_prefix('{') {
                let mut open = 1usize;
                let end = inner.char_indices().find_map(|(at, c)| {
                    match c {
                        '{' => open += 1,
                        '}' => open -= 1,
                        _ => {}
                    }
                    (open == 0).then_some(at)
                });
                let Some(end) = end.filter(|_| depth < DEPTH_LIMIT) else {
                    return Err(inner.chars().take_while(|c| is_name(*c)).collect());
                };
                let (name, other) = match inner[..end].split_once(':') {
                    Some((name, other)) => (name, Some(other)),
                    None => (&inner[..end], None),
                };
                let value = self.0.get(name).filter(|value| other.is_none() || !value.is_empty());
                match (value, other) {
                    (Some(value), None) => out.push_str(value),
                    (value, Some(other)) if other.starts_with('+') => {
                        if value.is_some() {
                            out.push_str(&self.expand_at(&other[1..], depth + 1)?);
                        }
                    }
                    (Some(value), Some(_)) => out.push_str(value),
                    (None, Some(other)) if other.starts_with('-') => {
                        out.push_str(&self.expand_at(&other[1..], depth + 1)?);
                    }
                    (None, _) => return Err(name.to_owned()),
                }
                rest = &inner[end + 1..];
                continue;
            }
            let end = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
            let name = &rest[..end];
            match self.0.get(name) {
                Some(value) => out.push_str(value),
                // A lone dollar is one.
                None if name.is_empty() => out.push('$'),
                None => return Err(name.to_owned()),
            }
            rest = &rest[end..];
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// One section of a `.repo` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoEntry {
    /// Name of the section.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// URLs, best first.
    pub baseurl: Vec<String>,
    /// URL of a list of URLs.
    pub mirrorlist: Option<String>,
    /// URL of a metalink.
    pub metalink: Option<String>,
    /// Whether it is used.
    pub enabled: bool,
    /// Whether packages must be signed; none: as the package manager has it.
    pub gpgcheck: Option<bool>,
    /// Where the file says that packages need not be signed.
    pub unsigned: Option<Span>,
    /// Whether repomd.xml must be signed; none: as the package manager has it.
    pub repo_gpgcheck: Option<bool>,
    /// URLs or paths of keys.
    pub gpgkey: Vec<String>,
    /// The lower, the more it is preferred.
    pub priority: Option<u32>,
    /// Globs of packages that must not be used.
    pub exclude: Vec<String>,
    /// Globs of packages that alone may be used.
    pub include: Vec<String>,
    /// Whether modular filtering leaves it alone.
    pub module_hotfixes: bool,
    /// Where the section begins.
    pub span: Span,
}

/// Options that do not change which packages there are, and so are passed over in silence.
const PASSED_OVER: [&str; 32] = [
    "autorefresh",
    "bandwidth",
    "cost",
    "countme",
    "deltarpm",
    "enablegroups",
    "failovermethod",
    "fastestmirror",
    "http_caching",
    "ip_resolve",
    "keepalive",
    "keeppackages",
    "max_parallel_downloads",
    "mdpolicy",
    "metadata_expire",
    "minrate",
    "path",
    "proxy",
    "proxy_password",
    "proxy_username",
    "retries",
    "skip_if_unavailable",
    "sslcacert",
    "sslclientcert",
    "sslclientkey",
    "sslverify",
    "throttle",
    "timeout",
    "type",
    "ui_repoid_vars",
    "username",
    "password",
];

/// Options that are understood.
const UNDERSTOOD: [&str; 15] = [
    "name",
    "baseurl",
    "mirrorlist",
    "metalink",
    "enabled",
    "gpgcheck",
    "pkg_gpgcheck",
    "repo_gpgcheck",
    "gpgkey",
    "priority",
    "exclude",
    "excludepkgs",
    "includepkgs",
    "module_hotfixes",
    "mirrorlist_expire",
];

/// An option: its name, its value with continuation lines, where it stands.
struct Setting {
    name: String,
    value: String,
    span: Span,
}

/// Reads a `.repo` file; every finding that is an error means that the entries must not be used.
pub fn read_repo_file(file: &Arc<SourceFile>, variables: &Variables) -> (Vec<RepoEntry>, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut sections: Vec<(String, Span, Vec<Setting>)> = Vec::new();
    let mut start = 0;
    for line in file.text.split_inclusive('\n') {
        let text = line.trim_end();
        let span = Span::new(file, start..start + text.len());
        start += line.len();
        let trimmed = text.trim_start();
        if trimmed.is_empty() || trimmed.starts_with('#') || trimmed.starts_with(';') {
            continue;
        }
        if text.starts_with(char::is_whitespace) {
            let last = sections.last_mut().and_then(|(_, _, settings)| settings.last_mut());
            match last {
                Some(setting) => {
                    setting.value.push('\n');
                    setting.value.push_str(trimmed);
                }
                None => findings.push(
                    Finding::error("repo_file::indented", &span, "an indented line continues nothing")
                        .help("begin options in the first column"),
                ),
            }
            continue;
        }
        if let Some(id) = text.strip_prefix('[') {
            let Some(id) = id.strip_suffix(']').map(str::trim).filter(|id| !id.is_empty()) else {
                findings.push(
                    Finding::error("repo_file::section", &span, "a section is not closed, or has no name")
                        .help("write `[name]` on a line of its own"),
                );
                continue;
            };
            if sections.iter().any(|(known, _, _)| known == id) {
                let message = format!("the repository `{}` stands twice in this file", id.escape_default());
                findings.push(Finding::error("repo_file::twice", &span, message).help("give each its own name"));
            }
            sections.push((id.to_owned(), span, Vec::new()));
            continue;
        }
        let Some((name, value)) = text.split_once(['=', ':']) else {
            findings.push(
                Finding::error("repo_file::line", &span, "a line is not an option")
                    .label("expected `option = value`")
                    .help("comments begin with `#`"),
            );
            continue;
        };
        let Some((_, _, settings)) = sections.last_mut() else {
            findings.push(
                Finding::error("repo_file::no_section", &span, "an option stands before the first section")
                    .help("begin with `[name]`"),
            );
            continue;
        };
        let setting = Setting { name: name.trim().to_ascii_lowercase(), value: value.trim().to_owned(), span };
        settings.push(setting);
    }
    let mut entries = Vec::new();
    // Options for all repositories, as in zypper's and dnf's own files, are theirs.
    for (id, span, settings) in sections.into_iter().filter(|(id, _, _)| id != "main") {
        entries.extend(entry(id, span, &settings, variables, &mut findings));
    }
    (entries, findings)
}

fn entry(
    id: String,
    span: Span,
    settings: &[Setting],
    variables: &Variables,
    findings: &mut Vec<Finding>,
) -> Option<RepoEntry> {
    let before = findings.len();
    let mut entry = RepoEntry {
        name: id.clone(),
        id,
        baseurl: Vec::new(),
        mirrorlist: None,
        metalink: None,
        enabled: true,
        gpgcheck: None,
        unsigned: None,
        repo_gpgcheck: None,
        gpgkey: Vec::new(),
        priority: None,
        exclude: Vec::new(),
        include: Vec::new(),
        module_hotfixes: false,
        span,
    };
    for setting in settings {
        let value = match variables.expand(&setting.value) {
            Ok(value) => value,
            // A name for people may say what it likes.
            Err(_) if setting.name == "name" => setting.value.clone(),
            Err(name) => {
                let known: Vec<&str> = variables.0.keys().map(String::as_str).collect();
                let message = format!("the variable `{}` has no value", name.escape_default());
                let help = format!("known are {}", known.join(", "));
                findings.push(Finding::error("repo_file::variable", &setting.span, message).help(help));
                continue;
            }
        };
        let list =
            || value.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty()).map(str::to_owned);
        let one = || Some(value.clone()).filter(|value| !value.is_empty());
        match setting.name.as_str() {
            "name" => entry.name = value,
            "baseurl" => entry.baseurl.extend(list().map(|url| url.trim_end_matches('/').to_owned())),
            "mirrorlist" => entry.mirrorlist = one(),
            "metalink" => entry.metalink = one(),
            "gpgkey" => entry.gpgkey.extend(list()),
            "exclude" | "excludepkgs" => entry.exclude.extend(list()),
            "includepkgs" => entry.include.extend(list()),
            "priority" => match value.parse() {
                Ok(priority) => entry.priority = Some(priority),
                Err(_) => findings.push(wrong_value(setting, "a number from 1 to 99 and more")),
            },
            "enabled" | "gpgcheck" | "pkg_gpgcheck" | "repo_gpgcheck" | "module_hotfixes" => match flag(&value) {
                None => findings.push(wrong_value(setting, "0 or 1")),
                Some(on) => match setting.name.as_str() {
                    "enabled" => entry.enabled = on,
                    "repo_gpgcheck" => entry.repo_gpgcheck = Some(on),
                    "module_hotfixes" => entry.module_hotfixes = on,
                    _ => {
                        entry.gpgcheck = Some(on);
                        entry.unsigned = (!on).then(|| setting.span.clone());
                    }
                },
            },
            name if PASSED_OVER.contains(&name) || UNDERSTOOD.contains(&name) => {}
            name => {
                let near = nearest(name, UNDERSTOOD);
                let message = format!("the option `{}` is not known and is passed over", name.escape_default());
                let finding = Finding::warning("repo_file::option", &setting.span, message);
                findings.push(match near.first() {
                    Some(near) => finding.help(format!("did you mean `{near}`?")),
                    None => finding,
                });
            }
        }
    }
    let broken = findings[before..].iter().any(|finding| finding.severity == crate::source::Severity::Error);
    if entry.baseurl.is_empty() && entry.mirrorlist.is_none() && entry.metalink.is_none() && !broken {
        let message = format!("the repository `{}` does not say where it is", entry.id.escape_default());
        findings.push(
            Finding::error("repo_file::no_place", &entry.span, message)
                .help("give `baseurl`, `mirrorlist` or `metalink`"),
        );
        return None;
    }
    (!broken).then_some(entry)
}

fn wrong_value(setting: &Setting, expected: &str) -> Finding {
    let message = format!("`{}` has the value `{}`", setting.name.escape_default(), setting.value.escape_default());
    Finding::error("repo_file::value", &setting.span, message).label(format!("expected {expected}"))
}

fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "true" | "on" => Some(true),
        "0" | "no" | "false" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> (Vec<RepoEntry>, Vec<String>) {
        let file = SourceFile::new("site.repo", "/site.repo", text);
        let (entries, findings) = read_repo_file(&file, &Variables::of("9.4", "x86_64"));
        let told = findings
            .iter()
            .map(|finding| format!("{}: {}", finding.span.as_ref().map_or(0, Span::line), finding.message));
        (entries, told.collect())
    }

    #[test]
    fn a_repository_is_read_with_its_variables() {
        let (entries, findings) = read(
            "# comment\n[main]\ncachedir=/x\n\n[base]\nname=Base $releasever - $unknown\nbaseurl = http://one.example/$releasever_major/$basearch/os/\n\
             \thttp://two.example/${releasever}/${flavour:-server}/\nenabled=1\ngpgcheck=yes\nrepo_gpgcheck=0\n\
             gpgkey=file:///etc/pki/one, file:///etc/pki/two\npriority=10\nexcludepkgs=kernel* foo\nmodule_hotfixes=1\n\
             metadata_expire=6h\n[off]\nmetalink=https://three.example/?repo=x-$arch\nenabled=0\n",
        );
        assert!(findings.is_empty(), "{findings:?}");
        let [base, off] = &entries[..] else { panic!("{entries:?}") };
        assert_eq!(base.baseurl, ["http://one.example/9/x86_64/os", "http://two.example/9.4/server"]);
        assert_eq!((base.gpgcheck, base.repo_gpgcheck, base.priority), (Some(true), Some(false), Some(10)));
        assert_eq!((base.gpgkey.len(), base.exclude.len()), (2, 2));
        assert!(base.enabled && base.module_hotfixes && base.name == "Base $releasever - $unknown");
        assert_eq!(off.metalink.as_deref(), Some("https://three.example/?repo=x-x86_64"));
        assert!(!off.enabled && off.span.line() == 17);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let (entries, findings) = read(
            " x\n[a]\nbaseurl=http://x/$relasever\n[b\n[c]\nname=c\n[d]\nbaseurl=http://d\npriority=high\nbasurl=x\nnonsense\n[d]\nbaseurl=http://e\n",
        );
        assert_eq!(entries.len(), 1);
        assert_eq!(
            findings,
            [
                "1: an indented line continues nothing",
                "4: a section is not closed, or has no name",
                "11: a line is not an option",
                "12: the repository `d` stands twice in this file",
                "3: the variable `relasever` has no value",
                "5: the repository `c` does not say where it is",
                "9: `priority` has the value `high`",
                "10: the option `basurl` is not known and is passed over",
            ]
        );
    }

    #[test]
    fn variables_have_defaults_and_replacements() {
        let variables = Variables(BTreeMap::from([("a".to_owned(), "1".to_owned()), ("e".to_owned(), String::new())]));
        for (text, expected) in [
            ("$a/${a}", "1/1"),
            ("${b:-x}${e:-y}${b:-${a}}", "xy1"),
            ("${a:+z}${b:+z}", "z"),
            ("cost 5$ or $", "cost 5$ or $"),
        ] {
            assert_eq!(variables.expand(text).unwrap(), expected, "{text}");
        }
        assert_eq!(variables.expand("$b").unwrap_err(), "b");
        assert!(variables.expand("${a").is_err() && variables.expand(&"${b:-".repeat(50)).is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[\\[\\]a=: \n${}é-]{0,60}") {
            let _ = read(&text);
        }
    }
}
