//! `.repo` files, as dnf and zypper read them. Source: dnf.conf(5), zypper(8), and INI as Python's configparser has it.

pub(super) mod asking;
mod lines;
mod variables;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::fetch::credentials::access::Access;
use base::source::{Finding, SourceFile, Span, nearest};

use asking::{ProxyWords, path_of};
use lines::{Setting, sections};
pub use variables::Variables;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoEntry {
    pub id: String,
    pub name: String,
    /// URLs, best first.
    pub baseurl: Vec<String>,
    pub mirrorlist: Option<String>,
    pub metalink: Option<String>,
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
    /// Where the file says that it is done without, where it cannot be reached.
    pub skip_if_unavailable: Option<Span>,
    /// How it is asked: passwords, certificates, a proxy.
    pub access: Access,
    /// Where the file says that the server's certificate is not looked at.
    pub unverified: Option<Span>,
    /// Where the section begins.
    pub span: Span,
}

/// Options that do not change which packages there are, and so are passed over in silence.
const PASSED_OVER: [&str; 25] = [
    "autorefresh",
    "bandwidth",
    "cost",
    "countme",
    "deltarpm",
    "enabled_metadata",
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
    "retries",
    "sslverifystatus",
    "service",
    "throttle",
    "timeout",
    "type",
    "ui_repoid_vars",
];

const UNDERSTOOD: [&str; 25] = [
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
    "username",
    "password",
    "sslcacert",
    "sslclientcert",
    "sslclientkey",
    "sslverify",
    "proxy",
    "proxy_username",
    "proxy_password",
    "skip_if_unavailable",
];

/// Reads a `.repo` file; every finding that is an error means that the entries must not be used.
pub fn read_repo_file(file: &Arc<SourceFile>, variables: &Variables) -> (Vec<RepoEntry>, Vec<Finding>) {
    let (sections, mut findings) = sections(file);
    let mut entries = Vec::new();
    // Options for all repositories, as in zypper's and dnf's own files, are theirs.
    let (mut seen, mut written_ids) = (BTreeSet::new(), BTreeSet::new());
    for (written, span, settings) in sections.into_iter().filter(|(id, _, _)| id != "main") {
        // No one asks one that is switched off: what is wrong with it is no matter.
        let mut passed_over = Vec::new();
        let is_off = is_off(&settings, variables);
        let findings = if is_off { &mut passed_over } else { &mut findings };
        let Some(id) = id_of(&written, &span, variables, findings) else { continue };
        let is_new = seen.insert(id.clone());
        // Two of one spelling were reported already.
        if !is_off && !is_new && !written_ids.contains(&written) {
            let message = format!("the repository `{}` is defined twice in this file", id.escape_default());
            findings.push(Finding::error("repo_file::twice", &span, message).help("give each its own name"));
        }
        written_ids.insert(written);
        entries.extend(entry(id, span, &settings, variables, findings, true));
    }
    (entries, findings)
}

fn is_off(settings: &[Setting], variables: &Variables) -> bool {
    let said = settings.iter().rev().find(|setting| setting.name == "enabled");
    said.is_some_and(|said| variables.expand(&said.value).ok().and_then(|value| flag(&value)) == Some(false))
}

/// A section's name without variables. Source: dnf, `repo_id_invalid`: letters, digits and `-_.:`.
fn id_of(written: &str, span: &Span, variables: &Variables, findings: &mut Vec<Finding>) -> Option<String> {
    let shown = written.escape_default();
    let wrong = |message: String| Finding::error("repo_file::id", span, message);
    let id = match variables.expand(written) {
        Ok(id) => id,
        Err(name) => {
            let message = format!("the variable `{}` in the name of `{shown}` has no value", name.escape_default());
            findings.push(wrong(message).help("give it a value in ‹[repo_variables]›, or write `enabled=0`"));
            return None;
        }
    };
    match id.chars().find(|c| !(c.is_ascii_alphanumeric() || "-_.:".contains(*c))) {
        None => Some(id),
        Some(bad) => {
            let message =
                format!("`{shown}` is not a repository's name: it has the character `{}`", bad.escape_default());
            findings.push(wrong(message).help("use letters, digits and `-_.:`, as dnf requires"));
            None
        }
    }
}

fn entry(
    id: String,
    span: Span,
    settings: &[Setting],
    variables: &Variables,
    findings: &mut Vec<Finding>,
    is_repository: bool,
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
        skip_if_unavailable: None,
        access: Access::default(),
        unverified: None,
        span,
    };
    let mut proxy = ProxyWords::default();
    for setting in settings {
        let value = match variables.expand(&setting.value) {
            Ok(value) => value,
            // A name for people may say what it likes.
            Err(_) if ["name", "username", "password", "proxy_password"].contains(&setting.name.as_str()) => {
                setting.value.clone()
            }
            Err(name) => {
                let known: Vec<&str> = variables.0.keys().map(String::as_str).collect();
                // A `$` of a password or a token in an address is no variable.
                let is_secret = setting.name == "baseurl" && setting.value.contains(['@', '?']);
                let message = match is_secret {
                    true => "a variable of this address has no value".to_owned(),
                    false => format!("the variable `{}` has no value", name.escape_default()),
                };
                let help = format!("supported: {}", known.join(", "));
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
            "username" => entry.access.user.get_or_insert_default().0 = value,
            "password" => entry.access.user.get_or_insert_default().1 = value,
            "sslcacert" => entry.access.tls.ca = one().map(path_of),
            "sslclientcert" => entry.access.tls.client_certificate = one().map(path_of),
            "sslclientkey" => entry.access.tls.client_key = one().map(path_of),
            "proxy" => proxy.address = Some(value),
            "proxy_username" => proxy.user = one(),
            "proxy_password" => proxy.password = value,
            "enabled"
            | "gpgcheck"
            | "pkg_gpgcheck"
            | "repo_gpgcheck"
            | "module_hotfixes"
            | "sslverify"
            | "skip_if_unavailable" => match flag(&value) {
                None => findings.push(wrong_value(setting, "0 or 1")),
                Some(on) => match setting.name.as_str() {
                    "enabled" => entry.enabled = on,
                    "repo_gpgcheck" => entry.repo_gpgcheck = Some(on),
                    "module_hotfixes" => entry.module_hotfixes = on,
                    "skip_if_unavailable" => entry.skip_if_unavailable = on.then(|| setting.span.clone()),
                    "sslverify" => {
                        entry.access.tls.unverified = Some(!on);
                        entry.unverified = (!on).then(|| setting.span.clone());
                    }
                    _ => {
                        entry.gpgcheck = Some(on);
                        entry.unsigned = (!on).then(|| setting.span.clone());
                    }
                },
            },
            name if PASSED_OVER.contains(&name) || UNDERSTOOD.contains(&name) => {}
            name => {
                let near = nearest(name, UNDERSTOOD);
                let message = format!("the option `{}` is unknown and ignored", name.escape_default());
                let finding = Finding::warning("repo_file::option", &setting.span, message);
                findings.push(match near.first() {
                    Some(near) => finding.help(format!("did you mean `{near}`?")),
                    None => finding,
                });
            }
        }
    }
    entry.access.proxy = proxy.proxy();
    let broken = findings[before..].iter().any(|finding| finding.severity == base::source::Severity::Error);
    let has_place = !entry.baseurl.is_empty() || entry.mirrorlist.is_some() || entry.metalink.is_some();
    // No one asks one that is switched off.
    if !has_place && !broken && is_repository && entry.enabled {
        let message = format!("the repository `{}` has no address", entry.id.escape_default());
        findings.push(
            Finding::error("repo_file::no_place", &entry.span, message)
                .help("give `baseurl`, `mirrorlist` or `metalink`"),
        );
        return None;
    }
    (!broken || !is_repository).then_some(entry)
}

/// What the section `[main]` of a package manager's own settings says of how servers are asked.
pub fn read_main(file: &Arc<SourceFile>, variables: &Variables) -> Access {
    let (sections, _) = sections(file);
    let settings: Vec<Setting> =
        sections.into_iter().filter(|(id, ..)| id == "main").flat_map(|(_, _, settings)| settings).collect();
    let whole = Span::new(file, 0..0);
    // What else stands there is not for images, and mistakes in it are not theirs.
    let main = entry("main".to_owned(), whole, &settings, variables, &mut Vec::new(), false);
    main.map(|main| main.access).unwrap_or_default()
}

fn wrong_value(setting: &Setting, expected: &str) -> Finding {
    // What follows on indented lines may be meant for another option, a password's.
    let value = setting.value.lines().next().unwrap_or_default();
    let message = format!("`{}` has the value `{}`", setting.name.escape_default(), value.escape_default());
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
        let notes = findings
            .iter()
            .map(|finding| format!("{}: {}", finding.span.as_ref().map_or(0, Span::line), finding.message));
        (entries, notes.collect())
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
                "1: an indented line does not continue any option",
                "4: a section is not closed, or has no name",
                "11: a line is not an option",
                "12: the repository `d` is defined twice in this file",
                "3: the variable `relasever` has no value",
                "5: the repository `c` has no address",
                "9: `priority` has the value `high`",
                "10: the option `basurl` is unknown and ignored",
            ]
        );
    }

    #[test]
    fn sections_have_names_as_dnf_has_them_and_those_that_are_off_do_no_harm() {
        let (entries, findings) = read(
            "[site-$releasever_major${releasever_minor:+.z}]\nbaseurl=http://a/\nskip_if_unavailable=1\n\
             [off]\nenabled=0\nbaseurl=http://b/$unset\npriority=high\n[off $x]\nbaseurl=http://c/\nenabled = false\n\
             [site repo]\nbaseurl=http://d/\n[x-$unset]\nbaseurl=http://e/\n[site-9.z]\nbaseurl=http://f/\n[$basearch]\nbaseurl=http://g\n[${arch}]\nbaseurl=http://h\n",
        );
        let ids: Vec<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(ids, ["site-9.z", "site-9.z", "x86_64", "x86_64"]);
        assert_eq!(entries[0].skip_if_unavailable.as_ref().map(Span::line), Some(3));
        assert_eq!(
            findings,
            [
                "11: `site repo` is not a repository's name: it has the character ` `",
                "13: the variable `unset` in the name of `x-$unset` has no value",
                "15: the repository `site-9.z` is defined twice in this file",
                "19: the repository `x86_64` is defined twice in this file",
            ]
        );
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[\\[\\]a=: \n${}é-]{0,60}") {
            let _ = read(&text);
        }
    }
}
