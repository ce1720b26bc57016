//! image.lock: what the recipe's packages meant when they were resolved (D10 to D14).
//!
//! TOML, written by imgbuild, one package a line so that a merge request shows each change. It holds no URL.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::base::LockedBase;
use crate::{Accounts, Distro, Family, LockedGroup, LockedUser, PassRole};
use base::digest::Sha256;

/// Version of the lock's form. A lock of a later form is refused, an earlier one is renewed.
pub(crate) const LOCK_FORMAT: u32 = 1;
/// Its minor version; the lock has a key `minor` from 1 on. What a later one adds is left alone.
pub const LOCK_MINOR: u32 = 7;
/// The minor version since which a lock says what stands beside other versions of itself.
pub const SAYS_BESIDE: u32 = 7;

/// A package that is pinned: what it is called and what its file holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PinnedPackage {
    /// Name.
    pub name: String,
    /// Version, as the package manager writes it.
    pub version: String,
    /// Architecture: the image's or `all`.
    #[serde(rename = "arch")]
    pub architecture: String,
    /// Size of the file in bytes.
    pub size: u64,
    /// Content of the file.
    #[schemars(with = "String")]
    pub sha256: Sha256,
    /// Which suite or local directory it comes from.
    pub origin: String,
    /// Path of the file below the archive's or the directory's root.
    pub file: String,
    /// Whether it came in only because another package needs it.
    #[serde(rename = "auto", default)]
    pub automatic: bool,
    /// Whether other versions of it stay installed beside it: a kernel or its modules, of RPM distributions.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub beside: bool,
}

impl PinnedPackage {
    /// The file name that apt gives to a downloaded package; a colon of the epoch is written `%3a`.
    pub fn file_name(&self) -> String {
        format!("{}_{}_{}.deb", self.name, self.version.replace(':', "%3a"), self.architecture)
    }
}

/// A suite at the time of locking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockedSuite {
    /// Name.
    pub name: String,
    /// Digest of the signed text of its Release file.
    #[schemars(with = "String")]
    pub release: Sha256,
}

/// What a recipe says of one of its repositories, by field; its address is not among them (D14).
pub type LockedRepo = BTreeMap<String, String>;

/// One transaction: what was asked for and what it takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockedPass {
    /// Which transaction: `tools`, `base`, `packages-1`, `otherpkgs-1`, `kernel`. Further parts of a long one are `packages-1.2` and
    /// so on.
    pub name: String,
    /// What was asked for.
    pub install: Vec<String>,
    /// Names removed in the same transaction.
    #[serde(default)]
    pub remove: Vec<String>,
    /// Names removed afterwards.
    #[serde(default)]
    pub remove_after: Vec<String>,
    /// Names of packages that go with those, because they need one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_with: Vec<String>,
    /// Names of RPM packages of the container image that go because others of this transaction conflict with them or replace them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicting: Vec<String>,
    /// Names of installed packages that the package manager takes away by itself, because others of this transaction conflict with
    /// them, replace them or no longer have what they need.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<String>,
    /// Streams of modules that are switched on with it: `name:stream`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<String>,
    /// Whether its packages' scripts ask for the kernel's release (`uname -r`): what is made then depends on the kernel.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asks_release: bool,
    /// Releases of the kernels that its packages bring, where no package's name tells them; of `tools-driver` that of the kernel
    /// whose headers it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernel_releases: Vec<String>,
    /// The packages, in the package manager's order.
    pub packages: Vec<PinnedPackage>,
}

impl LockedPass {
    pub fn role(&self) -> PassRole {
        PassRole::of(&self.name)
    }
}

/// The whole lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "imgbuild lock")]
pub struct Lock {
    /// Version of this form.
    pub format: u32,
    /// Its minor version; 0 in a lock of an imgbuild that did not write it.
    #[serde(default)]
    pub minor: u32,
    /// SOURCE_DATE_EPOCH: no time in the image is later, in seconds since 1970 (D10).
    pub epoch: i64,
    /// Distribution, release and architecture that it was made for.
    pub target: String,
    /// Digest of the names and contents of all package files of the otherpkgs directory.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub otherpkgs: Option<Sha256>,
    /// Digest of the names and contents of all package files of the directory of kernels.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub kernels: Option<Sha256>,
    /// What the recipe says of its repositories. None in a lock of an imgbuild that did not write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<Vec<LockedRepo>>,
    /// The container image that the root file system begins with, where the recipe names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<LockedBase>,
    /// Suites.
    pub suite: Vec<LockedSuite>,
    /// Transactions, in order.
    pub pass: Vec<LockedPass>,
    /// Users that packages made.
    #[serde(default)]
    pub users: Vec<LockedUser>,
    /// Groups that packages made.
    #[serde(default)]
    pub groups: Vec<LockedGroup>,
}

/// The epoch of a lock that is made now: the start of the day (UTC), in seconds since 1970. Recipes that are locked on
/// one day share the layers that they agree on, in whatever order and from whichever directory they are built.
pub fn epoch_of_today() -> i64 {
    const DAY: i64 = 86_400;
    jiff::Timestamp::now().as_second().div_euclid(DAY) * DAY
}

/// Family of a target text: `debian bookworm x86_64`.
pub fn family_of(target: &str) -> Family {
    let name = target.split(' ').next().unwrap_or_default();
    let distro: Option<Distro> = serde_json::from_value(serde_json::Value::String(name.to_owned())).ok();
    distro.map_or(Family::Debian, Distro::family)
}

impl Lock {
    pub fn to_text(&self) -> String {
        use std::fmt::Write;
        let text = |value: &str| ::toml::Value::String(value.to_owned()).to_string();
        let list = |items: &[String]| items.iter().map(|item| text(item)).collect::<Vec<_>>().join(", ");
        let mut out = String::from(
            "# Written by imgbuild; `imgbuild build` renews it when the recipe asks for other packages.\n",
        );
        let _ = writeln!(out, "format = {}", self.format);
        if self.minor > 0 {
            let _ = writeln!(out, "minor = {}", self.minor);
        }
        let _ = write!(out, "epoch = {}\ntarget = {}\n", self.epoch, text(&self.target));
        if let Some(digest) = &self.otherpkgs {
            let _ = writeln!(out, "otherpkgs = \"{digest}\"");
        }
        if let Some(digest) = &self.kernels {
            let _ = writeln!(out, "kernels = \"{digest}\"");
        }
        if let Some(repos) = &self.repo {
            out.push_str("repo = [\n");
            for repo in repos {
                let fields: Vec<String> =
                    repo.iter().map(|(name, value)| format!("{name} = {}", text(value))).collect();
                let _ = writeln!(out, "    {{ {} }},", fields.join(", "));
            }
            out.push_str("]\n");
        }
        self.write_accounts(&mut out);
        if let Some(base) = &self.base {
            base.write(&mut out);
        }
        for suite in &self.suite {
            let _ = write!(out, "\n[[suite]]\nname = {}\nrelease = \"{}\"\n", text(&suite.name), suite.release);
        }
        for pass in &self.pass {
            let _ = write!(out, "\n[[pass]]\nname = {}\ninstall = [{}]\n", text(&pass.name), list(&pass.install));
            let lists = [
                ("remove", &pass.remove),
                ("remove_after", &pass.remove_after),
                ("remove_with", &pass.remove_with),
                ("conflicting", &pass.conflicting),
                ("replaced", &pass.replaced),
                ("modules", &pass.modules),
                ("kernel_releases", &pass.kernel_releases),
            ];
            for (name, items) in lists {
                if !items.is_empty() {
                    let _ = writeln!(out, "{name} = [{}]", list(items));
                }
            }
            if pass.asks_release {
                out.push_str("asks_release = true\n");
            }
            out.push_str("packages = [\n");
            for package in &pass.packages {
                let _ = write!(
                    out,
                    "    {{ name = {}, version = {}, arch = {}, size = {}, sha256 = \"{}\", origin = {}, file = {}",
                    text(&package.name),
                    text(&package.version),
                    text(&package.architecture),
                    package.size,
                    package.sha256,
                    text(&package.origin),
                    text(&package.file),
                );
                out.push_str(if package.automatic { ", auto = true" } else { "" });
                // One of an earlier form is read by an imgbuild that knows no such key.
                let beside = package.beside && self.minor >= SAYS_BESIDE;
                out.push_str(if beside { ", beside = true },\n" } else { " },\n" });
            }
            out.push_str("]\n");
        }
        out
    }

    /// Users and groups, one a line; before the first table, to whose keys they would belong otherwise.
    fn write_accounts(&self, out: &mut String) {
        use std::fmt::Write;
        let text = |value: &str| ::toml::Value::String(value.to_owned()).to_string();
        let tail = |package: &str, fixed: bool| {
            let package = if package.is_empty() { String::new() } else { format!(", package = {}", text(package)) };
            format!("{package}{} }},\n", if fixed { ", fixed = true" } else { "" })
        };
        if !self.users.is_empty() {
            out.push_str("users = [\n");
            for user in &self.users {
                let _ = write!(out, "    {{ name = {}, uid = {}, gid = {}", text(&user.name), user.uid, user.gid);
                for (key, value) in [("gecos", &user.gecos), ("home", &user.home), ("shell", &user.shell)] {
                    if !value.is_empty() {
                        let _ = write!(out, ", {key} = {}", text(value));
                    }
                }
                let _ = write!(out, ", pass = {}{}", text(&user.pass), tail(&user.package, user.fixed));
            }
            out.push_str("]\n");
        }
        if !self.groups.is_empty() {
            out.push_str("groups = [\n");
            for group in &self.groups {
                let _ = write!(
                    out,
                    "    {{ name = {}, gid = {}, pass = {}",
                    text(&group.name),
                    group.gid,
                    text(&group.pass)
                );
                out.push_str(&tail(&group.package, group.fixed));
            }
            out.push_str("]\n");
        }
    }

    /// The family of the distribution that it was made for.
    pub fn family(&self) -> Family {
        family_of(&self.target)
    }

    pub fn accounts(&self) -> Accounts {
        Accounts { users: self.users.clone(), groups: self.groups.clone() }
    }

    pub fn image_passes(&self) -> impl Iterator<Item = &LockedPass> {
        self.pass.iter().filter(|pass| pass.role().is_in_image())
    }

    /// What changed since an earlier lock: a line a package, user or group. Packages of tools roots are left out.
    pub fn difference(&self, earlier: &Self) -> Vec<String> {
        let versions = |lock: &Self| -> BTreeMap<String, String> {
            let of_base = lock.base.iter().flat_map(|base| &base.packages);
            let of_base = of_base.map(|package| (package.name.clone(), package.version.clone()));
            let of_passes = lock.image_passes().flat_map(|pass| &pass.packages);
            of_base.chain(of_passes.map(|package| (package.name.clone(), package.version.clone()))).collect()
        };
        let (was, now) = (versions(earlier), versions(self));
        let mut lines = Vec::new();
        let manifest = |lock: &Self| lock.base.as_ref().map(|base| format!("sha256:{}", base.manifest.sha256));
        match (manifest(earlier), manifest(self)) {
            (Some(was), Some(now)) if was != now => lines.push(format!("the container image {was} -> {now}")),
            (None, Some(now)) => lines.push(format!("the container image {now} added")),
            (Some(was), None) => lines.push(format!("the container image {was} removed")),
            _ => {}
        }
        for (name, version) in &now {
            match was.get(name) {
                None => lines.push(format!("{name} {version} added")),
                Some(before) if before != version => lines.push(format!("{name} {before} -> {version}")),
                Some(_) => {}
            }
        }
        lines.extend(
            was.iter()
                .filter(|(name, _)| !now.contains_key(*name))
                .map(|(name, version)| format!("{name} {version} removed")),
        );
        let users = |lock: &Self| -> BTreeMap<String, String> {
            lock.users.iter().map(|user| (user.name.clone(), format!("{}:{}", user.uid, user.gid))).collect()
        };
        let groups = |lock: &Self| -> BTreeMap<String, String> {
            lock.groups.iter().map(|group| (group.name.clone(), group.gid.to_string())).collect()
        };
        for (kind, was, now) in [("user", users(earlier), users(self)), ("group", groups(earlier), groups(self))] {
            for (name, id) in &now {
                match was.get(name) {
                    None => lines.push(format!("{kind} {name} {id} added")),
                    Some(before) if before != id => lines.push(format!("{kind} {name} {before} -> {id}")),
                    Some(_) => {}
                }
            }
            let gone = was.iter().filter(|(name, _)| !now.contains_key(*name));
            lines.extend(gone.map(|(name, id)| format!("{kind} {name} {id} removed")));
        }
        if earlier.epoch != self.epoch {
            lines.push(format!("epoch {} -> {}", earlier.epoch, self.epoch));
        }
        lines
    }

    /// A transaction, or a part of one, by name.
    pub fn pass(&self, name: &str) -> Option<&LockedPass> {
        self.pass.iter().find(|pass| pass.name == name)
    }

    /// The parts of a transaction, in order; one where it is not cut.
    pub fn parts(&self, name: &str) -> Vec<LockedPass> {
        self.pass.iter().filter(|pass| PassRole::whole_name(&pass.name) == name).cloned().collect()
    }

    /// The same with the parts of each transaction in one piece again, as a recipe asks for them.
    pub fn whole(&self) -> Self {
        let mut whole: Vec<LockedPass> = Vec::new();
        for part in &self.pass {
            let name = PassRole::whole_name(&part.name);
            match whole.iter_mut().find(|pass| pass.name == name) {
                Some(pass) => {
                    pass.install.extend(part.install.iter().cloned());
                    pass.modules.extend(part.modules.iter().cloned());
                    pass.kernel_releases.extend(part.kernel_releases.iter().cloned());
                    pass.packages.extend(part.packages.iter().cloned());
                }
                None => whole.push(LockedPass { name: name.to_owned(), ..part.clone() }),
            }
        }
        Self { pass: whole, ..self.clone() }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::LockError;
    use crate::lock::base::{BasePackage, LockedDocument, LockedLayer};

    pub(crate) fn sample() -> Lock {
        let package = PinnedPackage {
            name: "bash".into(),
            version: "1:5.2\"-2".into(),
            architecture: "amd64".into(),
            size: 7,
            sha256: Sha256::of(b"x"),
            origin: "bookworm".into(),
            file: "pool/b/bash.deb".into(),
            automatic: true,
            beside: true,
        };
        let pass = LockedPass {
            name: "base".into(),
            install: vec!["bash".into()],
            packages: vec![package],
            asks_release: true,
            ..LockedPass::default()
        };
        Lock {
            format: 1,
            minor: LOCK_MINOR,
            epoch: 1_700_000_000,
            target: "debian bookworm x86_64".into(),
            otherpkgs: Some(Sha256::of(b"z")),
            kernels: None,
            repo: Some(vec![LockedRepo::from([("suites".into(), "bookworm".into())])]),
            base: Some(LockedBase {
                manifest: LockedDocument { sha256: Sha256::of(b"m"), size: 7 },
                config: LockedDocument { sha256: Sha256::of(b"c"), size: 8 },
                layers: vec![LockedLayer { sha256: Sha256::of(b"l"), size: 9, diff: Sha256::of(b"d") }],
                packages: vec![BasePackage {
                    name: "dpkg".into(),
                    version: "1.21".into(),
                    architecture: "amd64".into(),
                }],
            }),
            suite: vec![LockedSuite { name: "bookworm".into(), release: Sha256::of(b"y") }],
            pass: vec![pass],
            users: vec![LockedUser {
                name: "munge".into(),
                uid: 104,
                gid: 110,
                gecos: String::new(),
                home: "/nonexistent".into(),
                shell: "/usr/sbin/nologin".into(),
                pass: "packages-1".into(),
                package: "munge".into(),
                fixed: true,
            }],
            groups: vec![LockedGroup {
                name: "munge".into(),
                gid: 110,
                pass: "packages-1".into(),
                package: String::new(),
                fixed: false,
            }],
        }
    }

    #[test]
    fn a_lock_reads_back() {
        assert_eq!(Lock::parse(&sample().to_text()).unwrap(), sample());
    }

    #[test]
    fn the_difference_names_packages_and_versions() {
        let (earlier, mut now) = (sample(), sample());
        assert!(now.difference(&earlier).is_empty());
        now.pass[0].packages[0].version = "2".into();
        let another = PinnedPackage { name: "zsh".into(), ..now.pass[0].packages[0].clone() };
        now.pass[0].packages.push(another);
        now.users[0].uid = 105;
        now.groups.clear();
        assert_eq!(
            now.difference(&earlier),
            ["bash 1:5.2\"-2 -> 2", "zsh 2 added", "user munge 104:110 -> 105:110", "group munge 110 removed"]
        );
    }

    #[test]
    fn what_a_later_minor_form_adds_is_left_alone() {
        let text = sample().to_text();
        let newer = text
            .replacen(&format!("minor = {LOCK_MINOR}\n"), &format!("minor = {}\nseal = [\"x\"]\n", LOCK_MINOR + 1), 1)
            .replace("beside = true }", "beside = true, licence = \"MIT\" }")
            .replace("name = \"base\"\n", "name = \"base\"\nhints = { a = 1 }\n");
        assert_eq!(Lock::parse(&newer).unwrap(), sample());
        // In the form that is known, what is not known is a mistake.
        let unknown = text.replacen("format = 1\n", "format = 1\nseal = 1\n", 1);
        assert!(matches!(Lock::parse(&unknown), Err(LockError::Format { .. })));
    }

    #[test]
    fn a_later_form_and_a_path_that_leads_elsewhere_are_refused() {
        let Err(LockError::Newer(newer)) = Lock::parse("format = 99\nneeds_imgbuild = \"9.1.0\"\nnew = 1\n") else {
            panic!("a later form was read");
        };
        assert_eq!(newer.needs, "imgbuild 9.1.0 or later");
        let mut lock = sample();
        lock.pass[0].packages[0].file = "../../etc/passwd".into();
        assert!(matches!(Lock::parse(&lock.to_text()), Err(LockError::Format { .. })));
        let mut lock = sample();
        lock.pass[0].packages[0].name = "a/b".into();
        assert!(Lock::parse(&lock.to_text()).is_err());
    }
}
