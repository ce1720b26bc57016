//! The comparison: components of images with all that was read.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use crate::model::{
    Advisory, Affected, Component, Database, Epss, Exploited, Kind, Loaded, Names, Product, Statement, Status,
    has_versions,
};
use crate::platform::Scope;
use crate::{Ecosystem, Order, Platform, Severity};

/// An image, or a build of one.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The image's name, as statements call it.
    pub image: String,
    /// What it is made of.
    pub platform: Platform,
    /// Streams of modules that are switched on: `nodejs:20`. None: not known.
    pub modules: Option<Vec<String>>,
    /// Its components.
    pub components: Vec<Component>,
}

/// A vulnerability of a component, or a newer version in a suite of security updates.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Which of the subjects.
    pub subject: usize,
    /// The vulnerability; none where only a newer version is known.
    pub id: Option<String>,
    /// Advisories that name it: `DSA-5532-1`, `RLSA-2024:1234`.
    pub advisories: Vec<String>,
    /// What it is about; may be empty.
    pub title: String,
    /// How bad it is, by the worst of the files.
    pub severity: Severity,
    /// What the component is.
    pub kind: Kind,
    /// The transaction of image.lock that has it.
    pub pass: String,
    /// Its source package.
    pub source: String,
    /// Names of the packages of this source and version, sorted.
    pub packages: Vec<String>,
    /// Files that they are parts of, where no package brings these; sorted.
    pub files: Vec<String>,
    /// Version of these packages.
    pub installed: String,
    /// The version that mends it, if there is one yet.
    pub fixed: Option<String>,
    /// Names of the files that say so.
    pub databases: Vec<String>,
    /// What the catalogue of exploited vulnerabilities says.
    pub exploited: Option<Exploited>,
    /// What EPSS says.
    pub epss: Option<Epss>,
}

/// A finding that does not count, because someone answers for that.
#[derive(Debug, Clone, PartialEq)]
pub struct Silenced {
    /// What was found.
    pub finding: Finding,
    /// Why it does not count.
    pub reason: String,
    /// Who says so.
    pub author: String,
    /// Until when; none: for ever.
    pub until: Option<Timestamp>,
    /// The file that says it.
    pub file: String,
}

/// A statement that would silence a finding, and counts no more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expired {
    /// The vulnerability.
    pub id: String,
    /// The source package.
    pub source: String,
    /// Who made it.
    pub author: String,
    /// When it ended.
    pub until: Timestamp,
    /// The file that has it.
    pub file: String,
}

/// What came out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// What counts: the worst first, then by subject and package.
    pub findings: Vec<Finding>,
    /// What does not count.
    pub silenced: Vec<Silenced>,
    /// Statements that ended.
    pub expired: Vec<Expired>,
    /// The files, each with how many of its records are about a subject's packages.
    pub databases: Vec<Loaded>,
    /// Subjects of which a file says something of the release and a package: the others were compared with nothing.
    pub compared: BTreeSet<usize>,
    /// Whether there is more than is kept.
    pub is_cut: bool,
}

/// Most findings that are kept, those that do not count among them.
const MOST_FINDINGS: usize = 1_000_000;

/// What is the same finding: all packages of a source and a version in one place.
type Key = (usize, String, String, String, String);

/// Compares images with what was read, as of `now`.
pub fn audit(database: &Database, subjects: &[Subject], now: Timestamp) -> Report {
    let mut report = Report { databases: database.loaded.clone(), ..Report::default() };
    let mut expired = BTreeSet::new();
    let mut by_vulnerability: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, statement) in database.statements.iter().enumerate() {
        for name in &statement.vulnerabilities {
            by_vulnerability.entry(name).or_default().push(at);
        }
    }
    let mut about: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); database.loaded.len()];
    let (mut open, mut silenced) = (BTreeMap::<Key, Finding>::new(), BTreeMap::<Key, (Finding, usize)>::new());
    for (index, subject) in subjects.iter().enumerate() {
        let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, component) in subject.components.iter().enumerate() {
            for name in BTreeSet::from([component.name.as_str(), component.source.0.as_str()]) {
                by_name.entry(name).or_default().push(at);
            }
        }
        for (number, advisory) in database.advisories.iter().enumerate() {
            // A file may have any number of versions and statements: those on a component are looked for once.
            let mut known: HashMap<(usize, &str), Said> = HashMap::new();
            for affected in &advisory.affected {
                for at in by_name.get(affected.name.as_str()).into_iter().flatten() {
                    let component = &subject.components[*at];
                    let Some(verdict) = compared(subject, component, affected) else { continue };
                    about[advisory.database].insert(number);
                    if has_versions(&database.loaded[advisory.database].kind)
                        && component.ecosystem == Ecosystem::Distribution
                        && component.kind != Kind::File
                    {
                        report.compared.insert(index);
                    }
                    let Verdict::Vulnerable(fix) = verdict else { continue };
                    for vulnerability in &advisory.vulnerabilities {
                        let said = known.entry((*at, vulnerability.as_str())).or_insert_with(|| {
                            let names = [vulnerability.as_str(), advisory.id.as_str()];
                            let all = names.iter().filter_map(|name| by_vulnerability.get(name)).flatten().copied();
                            said(database, all, (subject, component), now)
                        });
                        let key = key_of(index, component, vulnerability);
                        let is_known = open.contains_key(&key) || silenced.contains_key(&key);
                        if !is_known && open.len() + silenced.len() >= MOST_FINDINGS {
                            report.is_cut = true;
                            continue;
                        }
                        let entry = match said.last {
                            Some(statement) => {
                                &mut silenced
                                    .entry(key)
                                    .or_insert_with(|| (new(index, component, vulnerability), statement))
                                    .0
                            }
                            None => {
                                for at in std::mem::take(&mut said.ended) {
                                    let statement = &database.statements[at];
                                    expired.extend(statement.until.map(|until| Expired {
                                        id: vulnerability.clone(),
                                        source: component.source.0.clone(),
                                        author: statement.author.clone(),
                                        until,
                                        file: database.loaded[statement.database].name.clone(),
                                    }));
                                }
                                open.entry(key).or_insert_with(|| new(index, component, vulnerability))
                            }
                        };
                        add(entry, subject, component, (database, advisory, affected), fix.clone());
                    }
                }
            }
        }
    }
    let known = |finding: &mut Finding| {
        let id = finding.id.as_deref().unwrap_or_default();
        finding.exploited = database.exploited.get(id).cloned();
        finding.epss = database.epss.get(id).copied();
    };
    report.findings = open.into_values().collect();
    report.findings.iter_mut().for_each(known);
    report.findings.sort_by_key(order);
    report.silenced = silenced
        .into_values()
        .map(|(mut finding, at)| {
            known(&mut finding);
            let statement = &database.statements[at];
            let (reason, author, until) = (statement.reason.clone(), statement.author.clone(), statement.until);
            Silenced { finding, reason, author, until, file: database.loaded[statement.database].name.clone() }
        })
        .collect();
    report.silenced.sort_by_key(|one| order(&one.finding));
    report.expired = expired.into_iter().collect();
    for (loaded, about) in report.databases.iter_mut().zip(about) {
        loaded.about = about.len();
    }
    report
}

fn order(finding: &Finding) -> impl Ord + use<> {
    let Finding { severity, exploited, subject, source, installed, id, .. } = finding;
    (std::cmp::Reverse((exploited.is_some(), *severity)), *subject, source.clone(), installed.clone(), id.clone())
}

fn key_of(subject: usize, component: &Component, vulnerability: &str) -> Key {
    // A file is mended by another file, a package by the next one: they are two findings.
    let place = match component.kind {
        Kind::Tools => component.pass.clone(),
        Kind::File => format!("{:?} of a file", component.ecosystem),
        Kind::Package | Kind::Kernel | Kind::Driver => String::new(),
    };
    (subject, place, component.source.0.clone(), component.version.clone(), vulnerability.to_owned())
}

fn new(subject: usize, component: &Component, vulnerability: &str) -> Finding {
    Finding {
        subject,
        id: Some(vulnerability.to_owned()).filter(|id| !id.is_empty()),
        advisories: Vec::new(),
        title: String::new(),
        severity: Severity::Unknown,
        kind: component.kind,
        pass: component.pass.clone(),
        source: component.source.0.clone(),
        packages: Vec::new(),
        files: Vec::new(),
        installed: component.version.clone(),
        fixed: None,
        databases: Vec::new(),
        exploited: None,
        epss: None,
    }
}

/// Adds what an advisory says of a component to a finding.
fn add(
    finding: &mut Finding,
    subject: &Subject,
    component: &Component,
    said: (&Database, &Advisory, &Affected),
    fix: Option<String>,
) {
    let (database, advisory, affected) = said;
    let with = |list: &mut Vec<String>, text: &str| {
        if let Err(at) = list.binary_search_by(|one| one.as_str().cmp(text)) {
            list.insert(at, text.to_owned());
        }
    };
    with(&mut finding.packages, &component.name);
    if component.kind == Kind::Kernel {
        // Headers or tools of the same source may have been the first.
        (finding.kind, finding.pass) = (component.kind, component.pass.clone());
    }
    if !component.file.is_empty() {
        with(&mut finding.files, &component.file);
    }
    with(&mut finding.databases, &database.loaded[advisory.database].name);
    if !advisory.id.is_empty() && finding.id.as_deref() != Some(advisory.id.as_str()) {
        with(&mut finding.advisories, &advisory.id);
    }
    if finding.title.is_empty() {
        finding.title.clone_from(&advisory.title);
    }
    finding.severity = Severity::worst([finding.severity, affected.severity]);
    // All of them have to be satisfied.
    if let Some(fix) = fix
        && finding.fixed.as_ref().is_none_or(|known| order_of(subject, component).compare(known, &fix).is_lt())
    {
        finding.fixed = Some(fix);
    }
}

/// What an advisory says of a component.
enum Verdict {
    Sound,
    /// With the version that mends it, where there is one.
    Vulnerable(Option<String>),
}

/// Compares a component with what an advisory says of its name; none where that counts elsewhere.
fn compared(subject: &Subject, component: &Component, affected: &Affected) -> Option<Verdict> {
    let is_binary = component.name == affected.name && affected.names != Names::Source;
    let is_source = component.source.0 == affected.name && affected.names != Names::Binary;
    let installed = match (is_binary, is_source) {
        (true, _) => component.version.as_str(),
        (false, true) if is_kernel_text(component) => return None,
        (false, true) => component.source.1.as_str(),
        (false, false) => return None,
    };
    let order = order_of(subject, component);
    let backport = backport_of(order, installed).filter(|_| affected.scope != Scope::Anywhere);
    let (platform, installed) =
        match backport.and_then(|(plain, number)| Some((subject.platform.of_backports(number)?, plain))) {
            Some((platform, plain)) => (platform, plain),
            None => (subject.platform.clone(), installed),
        };
    if !is_in(&platform, component, &affected.scope) || !is_arch(affected.arch.as_deref(), component) {
        return None;
    }
    if let Some(module) = &affected.module
        && !has_module(subject, component, module)
    {
        return None;
    }
    let Some(fix) = affected.versions.has(order, installed) else { return Some(Verdict::Sound) };
    let is_elsewhere = |fix: &String| order == Order::Rpm && is_of_other_packages(fix, installed);
    if fix.as_ref().is_some_and(is_elsewhere) { None } else { Some(Verdict::Vulnerable(fix)) }
}

/// How the versions of a component are compared.
fn order_of(subject: &Subject, component: &Component) -> Order {
    Order::of_language(component.ecosystem).unwrap_or(subject.platform.order())
}

/// Whether what is said of a scope counts for a component of an image.
fn is_in(platform: &Platform, component: &Component, scope: &Scope) -> bool {
    match (component.ecosystem, scope) {
        (Ecosystem::Distribution, Scope::Kind(_)) if fault::planted("audit-name-of-any-kind") => true,
        (Ecosystem::Distribution, _) => platform.is_in(scope),
        (own, Scope::Kind(kind)) => own.purl_type() == Some(kind.as_str()),
        (own, Scope::Ecosystem { ecosystem, .. }) => Ecosystem::of_osv(ecosystem) == Some(own),
        _ => false,
    }
}

/// Whether a package of a kernel's source has nothing of it that runs: headers, sources, documentation.
fn is_kernel_text(component: &Component) -> bool {
    const STARTS: [&str; 6] =
        ["linux-libc-dev", "linux-headers-", "linux-kbuild-", "linux-source-", "linux-doc-", "linux-support-"];
    let source = component.source.0.as_str();
    (source == "linux" || source.starts_with("linux-")) && STARTS.iter().any(|start| component.name.starts_with(start))
}

/// Version and number of a backport: `6.12.90-2~bpo12+1` is 6.12.90-2 for Debian 12, made from the release after it.
fn backport_of(order: Order, version: &str) -> Option<(&str, &str)> {
    let (plain, rest) = version.split_once("~bpo").filter(|_| order == Order::Debian)?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    (digits > 0).then(|| (plain, &rest[..digits]))
}

/// Whether what is said of an architecture counts for a component.
fn is_arch(arch: Option<&str>, component: &Component) -> bool {
    let is_any = |arch: &str| matches!(arch, "" | "noarch" | "all" | "source" | "src");
    let own = component.arch.as_str();
    arch.is_none_or(|arch| is_any(arch) || is_any(own) || own == arch || own.split("_v").next() == Some(arch))
}

/// Whether a package is of a stream of a module. What is of none has no mark of modules in its release.
fn has_module(subject: &Subject, component: &Component, module: &str) -> bool {
    if fault::planted("audit-any-stream") {
        return true;
    }
    if !component.version.contains(".module") {
        return false;
    }
    let name = module.split(':').next().unwrap_or_default();
    match &subject.modules {
        // A stream that came with a package, without being asked for, is not in the lock.
        Some(enabled) if enabled.iter().any(|one| one.split(':').next() == Some(name)) => {
            enabled.iter().any(|one| one.eq_ignore_ascii_case(module))
        }
        _ => true,
    }
}

/// Whether a package is surely of a stream of a module, or of none where that is empty: what is not known silences nothing.
fn is_of_stream(subject: &Subject, component: &Component, module: &str) -> bool {
    let is_modular = component.version.contains(".module");
    let is_enabled = || subject.modules.iter().flatten().any(|one| one.eq_ignore_ascii_case(module));
    if module.is_empty() { !is_modular } else { is_modular && is_enabled() }
}

/// Whether two versions are of repositories that do not mend each other: they have the marks of different distributions' releases (`.el8`
/// and `.el9_4`, `.fc41` and `.fc42`), or one alone is of a module.
fn is_of_other_packages(one: &str, two: &str) -> bool {
    let mark = |text: &str| -> Option<String> {
        [".el", ".fc", "+el"].iter().find_map(|kind| {
            let (_, rest) = text.split_once(kind)?;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            (!digits.is_empty()).then(|| format!("{}{digits}", &kind[1..]))
        })
    };
    let is_modular = |text: &str| text.contains(".module");
    is_modular(one) != is_modular(two) || matches!((mark(one), mark(two)), (Some(one), Some(two)) if one != two)
}

/// What statements say of a vulnerability of a component.
struct Said {
    /// The last that counts, if it silences the finding.
    last: Option<usize>,
    /// Those that have ended.
    ended: Vec<usize>,
}

fn said(
    database: &Database,
    statements: impl Iterator<Item = usize>,
    (subject, component): (&Subject, &Component),
    now: Timestamp,
) -> Said {
    let matching = statements.filter(|at| covers(&database.statements[*at], subject, component));
    let (counts, ended): (Vec<usize>, Vec<usize>) = matching.partition(|at| is_valid(&database.statements[*at], now));
    let last = counts.into_iter().max_by_key(|at| (database.statements[*at].time, *at));
    Said { last: last.filter(|at| database.statements[*at].status != Status::Other), ended }
}

fn is_valid(statement: &Statement, now: Timestamp) -> bool {
    statement.until.is_none_or(|until| now < until || fault::planted("audit-expired-counts"))
}

/// Whether a statement is about a component of an image.
fn covers(statement: &Statement, subject: &Subject, component: &Component) -> bool {
    let is_package = |product: &Product| match product {
        Product::Package { names, name, version, arch, scope, module } => {
            let order = order_of(subject, component);
            let is_version = |own: &str| version.as_ref().is_none_or(|wanted| order.compare(own, wanted).is_eq());
            // Package URLs of languages are in small letters.
            let is_name = |own: &str| match component.ecosystem {
                Ecosystem::Distribution | Ecosystem::Generic => own == name,
                _ => own.eq_ignore_ascii_case(name),
            };
            let is_binary = is_name(&component.name) && *names != Names::Source && is_version(&component.version);
            let is_source = is_name(&component.source.0) && *names != Names::Binary && is_version(&component.source.1);
            (is_binary || is_source)
                && is_arch(arch.as_deref(), component)
                && is_in(&subject.platform, component, scope)
                && module.as_ref().is_none_or(|module| is_of_stream(subject, component, module))
        }
        Product::Image { .. } => false,
    };
    statement.products.iter().any(|product| match product {
        Product::Image { name, packages } => {
            *name == subject.image && (packages.is_empty() || packages.iter().any(is_package))
        }
        package => is_package(package),
    })
}
