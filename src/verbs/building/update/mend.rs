//! Which packages are moved for findings, and what became of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::verbs::keeping::audit::subjects::Audited;
use advisories::{Component, Finding, Kind};
use recipe::{Lock, is_kernel_name};

/// A package that moved, came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Move {
    pub name: String,
    /// Its versions before and after; none where it was not there.
    pub from: Option<String>,
    pub to: Option<String>,
    /// Whether the version that the lock had is no longer in any repository.
    pub is_lost: bool,
}

impl Move {
    /// The same, with what the repositories have.
    pub(super) fn judged(self, offers: &BTreeMap<String, Vec<String>>) -> Self {
        let versions = offers.get(&self.name);
        let mut gone = list(self.from.as_ref()).difference(&list(self.to.as_ref())).copied().collect::<Vec<_>>();
        gone.retain(|version| versions.is_some_and(|versions| !versions.iter().any(|one| one == version)));
        let is_lost = !gone.is_empty();
        Self { is_lost, ..self }
    }
}

/// Between versions of one name, of which an image has several: kernels, and what roots of tools have, too.
const BETWEEN: &str = ", ";

fn list(versions: Option<&String>) -> BTreeSet<&str> {
    versions.into_iter().flat_map(|versions| versions.split(BETWEEN)).collect()
}

/// Packages that findings ask to move, those of one source together; without what has no mend, and what no transaction brings.
pub(super) fn groups(lock: &Lock, findings: &[Finding]) -> Vec<Vec<String>> {
    let all: Vec<&str> = lock.pass.iter().flat_map(|pass| &pass.packages).map(|one| one.name.as_str()).collect();
    let mut groups: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for finding in findings.iter().filter(|one| one.fixed.is_some() && !matches!(one.kind, Kind::Driver | Kind::File)) {
        let mut names: BTreeSet<String> =
            finding.packages.iter().filter(|name| all.contains(&name.as_str())).cloned().collect();
        if names.is_empty() {
            continue;
        }
        if finding.kind == Kind::Kernel {
            // The next kernel's package may have another name: what leads to it has to move, and what is built for it.
            names.extend(all.iter().filter(|name| goes_with_kernels(name)).map(|name| (*name).to_owned()));
        }
        groups.entry(&finding.source).or_default().extend(names);
    }
    groups.into_values().map(|names| names.into_iter().collect()).collect()
}

/// Whether a package is a kernel, a part of one, or made for one: its version is that of the kernel.
fn goes_with_kernels(name: &str) -> bool {
    const STARTS: [&str; 8] = [
        "linux-image",
        "linux-headers",
        "linux-modules",
        "linux-generic",
        "linux-kbuild",
        "linux-compiler",
        "linux-base-",
        "linux-virtual",
    ];
    is_kernel_name(name) || name.starts_with("kernel-devel") || STARTS.iter().any(|start| name.starts_with(start))
}

pub(super) fn names(groups: &[Vec<String>]) -> BTreeSet<&String> {
    groups.iter().flatten().collect()
}

pub(super) fn without(groups: Vec<Vec<String>>, names: &BTreeSet<String>) -> Vec<Vec<String>> {
    let left = groups.into_iter().map(|group| group.into_iter().filter(|name| !names.contains(name)).collect());
    left.filter(|group: &Vec<String>| !group.is_empty()).collect()
}

/// Packages that were free to move, moved, and mend nothing: all findings of their source are left. A kernel's parts count as one.
pub(super) fn useless(
    (earlier, lock): (&Lock, &Lock),
    groups: &[Vec<String>],
    found: &[Finding],
    left: &[Finding],
) -> BTreeSet<String> {
    let is_mended = |finding: &Finding| !left.iter().any(|other| is_same(finding, other));
    let moved: BTreeSet<String> = moves(earlier, lock).into_iter().map(|one| one.name).collect();
    let mut useless = BTreeSet::new();
    for group in groups {
        let of_group = |finding: &&Finding| finding.packages.iter().any(|name| group.contains(name));
        let is_kernel = found.iter().filter(of_group).any(|finding| finding.kind == Kind::Kernel);
        if fault::planted("mend-takes-what-mends-nothing") || is_kernel && found.iter().filter(of_group).any(is_mended)
        {
            continue;
        }
        for name in group.iter().filter(|name| moved.contains(*name)) {
            let mends = found.iter().any(|finding| {
                finding.packages.contains(name)
                    && !left.iter().any(|other| is_same(finding, other) && other.packages.contains(name))
            });
            if !mends {
                useless.insert(name.clone());
            }
        }
    }
    useless
}

/// Whether two findings, of different locks, are the same vulnerability of the same source in the same place.
pub(super) fn is_same(one: &Finding, other: &Finding) -> bool {
    // What a file is made of is mended by another file, whatever becomes of the package of that name.
    let place = |finding: &Finding| match finding.kind {
        Kind::Tools => Some(finding.pass.clone()),
        Kind::File => Some(format!("files: {}", finding.files.join(BETWEEN))),
        Kind::Package | Kind::Kernel | Kind::Driver => None,
    };
    one.id == other.id && one.source == other.source && place(one) == place(other)
}

/// Packages whose versions differ between two locks.
pub(super) fn moves(earlier: &Lock, lock: &Lock) -> Vec<Move> {
    let versions = |lock: &Lock| {
        let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for package in lock.pass.iter().flat_map(|pass| &pass.packages) {
            all.entry(package.name.clone()).or_default().insert(package.version.clone());
        }
        let joined = |versions: BTreeSet<String>| versions.into_iter().collect::<Vec<_>>().join(BETWEEN);
        all.into_iter().map(|(name, versions)| (name, joined(versions))).collect::<BTreeMap<_, _>>()
    };
    let (was, now) = (versions(earlier), versions(lock));
    let names: BTreeSet<&String> = was.keys().chain(now.keys()).collect();
    let moved = names.into_iter().filter(|name| was.get(*name) != now.get(*name));
    moved
        .map(|name| Move {
            name: name.clone(),
            from: was.get(name).cloned(),
            to: now.get(name).cloned(),
            is_lost: false,
        })
        .collect()
}

/// What moved besides the packages that mend something, those of the same source among it. A kernel's next packages have other names.
pub(super) fn also(moves: Vec<Move>, found: &[Finding], left: &[Finding], after: &Audited) -> Vec<Move> {
    let is_of = |one: &Move, finding: &Finding| {
        let is_kernel =
            |own: &Component| own.kind == Kind::Kernel && own.name == one.name && own.source.0 == finding.source;
        finding.packages.contains(&one.name)
            || finding.kind == Kind::Kernel && after.subject.components.iter().any(is_kernel)
    };
    let is_mend = |one: &Move| mended(found, left).any(|finding| is_of(one, finding));
    moves.into_iter().filter(|one| !is_mend(one)).collect()
}

/// Findings that are in the new lock no longer.
pub(super) fn mended<'f>(found: &'f [Finding], left: &'f [Finding]) -> impl Iterator<Item = &'f Finding> {
    found.iter().filter(|finding| !left.iter().any(|other| is_same(finding, other)))
}

/// The version that a source's packages have now, in the place of a finding; none where they are gone.
pub(super) fn version_of<'a>(after: &'a Audited, finding: &Finding) -> Option<&'a str> {
    let is_there = |one: &&Component| {
        let is_place = (one.kind == Kind::Tools) == (finding.kind == Kind::Tools);
        is_place && (finding.kind != Kind::Tools || one.pass == finding.pass)
    };
    let there = || after.subject.components.iter().filter(is_there);
    let of_name = there().find(|one| finding.packages.contains(&one.name));
    let of_kernel = || there().find(|one| one.kind == Kind::Kernel && one.source.0 == finding.source);
    of_name.or_else(of_kernel).map(|one| one.version.as_str())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use advisories::Severity;

    pub(crate) fn finding(id: &str, source: &str, packages: &[&str], kind: Kind, fixed: Option<&str>) -> Finding {
        Finding {
            subject: 0,
            id: Some(id.to_owned()),
            advisories: Vec::new(),
            title: String::new(),
            severity: Severity::High,
            kind,
            pass: "base".to_owned(),
            source: source.to_owned(),
            packages: packages.iter().map(|name| (*name).to_owned()).collect(),
            files: Vec::new(),
            installed: "1".to_owned(),
            fixed: fixed.map(str::to_owned),
            databases: Vec::new(),
            exploited: None,
            epss: None,
        }
    }

    fn lock(packages: &[(&str, &str)]) -> Lock {
        let rows = packages.iter().map(|(name, version)| {
            let digest = base::digest::Sha256::of(name.as_bytes());
            format!("    {{ name = \"{name}\", version = \"{version}\", arch = \"amd64\", size = 1, sha256 = \"{digest}\", origin = \"bookworm\", file = \"{name}.deb\" }},\n")
        });
        let text = format!(
            "format = 1\nminor = 7\nepoch = 0\ntarget = \"debian bookworm x86_64\"\nsuite = []\n\n[[pass]]\nname = \"base\"\ninstall = []\npackages = [\n{}]\n",
            rows.collect::<String>()
        );
        Lock::parse_bytes("image.lock", text.into_bytes()).unwrap()
    }

    #[test]
    fn only_what_has_a_mend_and_is_in_a_transaction_is_free_to_move() {
        let lock = lock(&[
            ("bash", "1"),
            ("libssl3", "1"),
            ("openssl", "1"),
            ("linux-image-amd64", "1"),
            ("linux-image-6.1.0-30-amd64", "1"),
            ("linux-headers-6.1.0-30-amd64", "1"),
            ("linux-libc-dev", "1"),
            ("zlib1g", "1"),
        ]);
        let found = [
            finding("CVE-1", "openssl", &["libssl3", "openssl"], Kind::Package, Some("2")),
            finding("CVE-2", "openssl", &["libssl3"], Kind::Tools, Some("2")),
            finding("CVE-3", "zlib", &["zlib1g"], Kind::Package, None),
            finding("CVE-4", "linux", &["linux-image-6.1.0-30-amd64"], Kind::Kernel, Some("2")),
            // The container image below has it.
            finding("CVE-5", "tar", &["tar"], Kind::Package, Some("2")),
        ];
        let kernel = ["linux-headers-6.1.0-30-amd64", "linux-image-6.1.0-30-amd64", "linux-image-amd64"];
        assert_eq!(
            groups(&lock, &found),
            [kernel.map(str::to_owned).to_vec(), vec!["libssl3".into(), "openssl".into()]]
        );
    }

    #[test]
    fn a_package_is_mended_although_a_file_of_the_same_source_is_not() {
        let package = finding("CVE-1", "openssl", &["openssl"], Kind::Package, Some("2"));
        let file = Finding {
            files: vec!["/opt/openssl.deb".to_owned()],
            ..finding("CVE-1", "openssl", &["openssl"], Kind::File, Some("2"))
        };
        let found = [package, file.clone()];
        assert_eq!(mended(&found, std::slice::from_ref(&file)).count(), 1);
        let locks = (&lock(&[("openssl", "1")]), &lock(&[("openssl", "2")]));
        let groups = groups(locks.0, &found);
        assert_eq!(groups, [["openssl"]]);
        assert!(useless(locks, &groups, &found, &[file]).is_empty());
    }

    #[test]
    fn kernels_beside_each_other_are_judged_one_by_one() {
        // An RPM lock: two kernels, epochs, a package of a module's stream.
        let modular = "1:20.1-1.module+el9.4+1+abc";
        let before = [("kernel-core", "5.14.0-1.el9"), ("kernel-core", "5.14.0-2.el9"), ("nodejs", modular)];
        let after = [("kernel-core", "5.14.0-2.el9"), ("kernel-core", "5.14.0-3.el9"), ("nodejs", modular)];
        let all = moves(&lock(&before), &lock(&after));
        let [one] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!(
            (one.from.as_deref(), one.to.as_deref()),
            (Some("5.14.0-1.el9, 5.14.0-2.el9"), Some("5.14.0-2.el9, 5.14.0-3.el9"))
        );
        let offers = |versions: &[&str]| {
            BTreeMap::from([("kernel-core".to_owned(), versions.iter().map(|one| (*one).to_owned()).collect())])
        };
        // The older one is there still: it moved because others asked for that.
        assert!(!one.clone().judged(&offers(&["5.14.0-1.el9", "5.14.0-3.el9"])).is_lost);
        assert!(one.clone().judged(&offers(&["5.14.0-3.el9"])).is_lost);
        let epoch = moves(&lock(&[("bind", "32:9.16-1.el9")]), &lock(&[("bind", "32:9.16-2.el9")])).remove(0);
        let offers = |version: &str| BTreeMap::from([("bind".to_owned(), vec![version.to_owned()])]);
        assert!(!epoch.clone().judged(&offers("32:9.16-1.el9")).is_lost);
        assert!(epoch.judged(&offers("9.16-1.el9")).is_lost);
    }

    #[test]
    fn kernels_and_streams_of_rpm_locks_are_groups() {
        let modular = "1:20.1-1.module+el9.4+1+abc";
        let lock = lock(&[
            ("kernel", "5.14.0-1.el9"),
            ("kernel-core", "5.14.0-1.el9"),
            ("kernel-core", "5.14.0-2.el9"),
            ("kernel-devel", "5.14.0-2.el9"),
            ("kernel-modules", "5.14.0-2.el9"),
            ("bind", "32:9.16-1.el9"),
            ("nodejs", modular),
            ("npm", modular),
        ]);
        let found = [
            finding("CVE-1", "kernel", &["kernel-core"], Kind::Kernel, Some("5.14.0-3.el9")),
            finding("CVE-2", "bind", &["bind"], Kind::Package, Some("32:9.16-2.el9")),
            finding("CVE-3", "nodejs", &["nodejs", "npm"], Kind::Package, Some("1:20.2-1.module+el9.4+2+abc")),
        ];
        let groups = groups(&lock, &found);
        let kernel = ["kernel", "kernel-core", "kernel-devel", "kernel-modules"].map(str::to_owned).to_vec();
        assert_eq!(groups, [vec!["bind".into()], kernel, vec!["nodejs".into(), "npm".into()]]);
    }

    #[test]
    fn what_moved_and_mends_nothing_is_held_again() {
        let before = lock(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let after = lock(&[("a", "2"), ("b", "1.1"), ("c", "1")]);
        let found = [
            finding("CVE-1", "a", &["a"], Kind::Package, Some("2")),
            finding("CVE-2", "b", &["b"], Kind::Package, Some("2")),
            finding("CVE-3", "c", &["c"], Kind::Package, Some("2")),
        ];
        let groups = vec![vec!["a".to_owned()], vec!["b".to_owned()], vec!["c".to_owned()]];
        let held = useless((&before, &after), &groups, &found, &found[1..]);
        assert_eq!(held, BTreeSet::from(["b".to_owned()]));
        assert_eq!(without(groups, &held).concat(), ["a", "c"]);
    }

    #[test]
    fn a_finding_that_a_pinned_sibling_keeps_is_not_mended() {
        let found = [finding("CVE-1", "openssl", &["libssl3", "openssl"], Kind::Package, Some("2"))];
        let left = [finding("CVE-1", "openssl", &["openssl"], Kind::Package, Some("2"))];
        assert_eq!(mended(&found, &left).count(), 0);
        assert_eq!(mended(&found, &[]).count(), 1);
        // In the tools' root it is another one.
        let tools = [finding("CVE-1", "openssl", &["libssl3"], Kind::Tools, Some("2"))];
        assert_eq!(mended(&found, &tools).count(), 1);
    }
}
