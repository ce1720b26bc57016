//! Which distribution and release an image is of, and whether what an advisory says is about it.

use recipe::{Distro, Family, release_named};

use crate::Order;

/// Distribution and release of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// The distribution.
    pub distro: Distro,
    /// The release, as recipes name it: a code name of Debian and Ubuntu, a number of others.
    pub release: String,
}

/// What an advisory says of where it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// In what it was found in: the repository itself, or a product that is named by the package alone.
    Anywhere,
    /// Packages whose URLs are of this type, whatever distribution they are of: `deb`, `golang`, `generic`.
    Kind(String),
    /// OSV's ecosystem, and the release that the package URL names.
    Ecosystem { ecosystem: String, release: Option<String> },
    /// A release of a distribution, by its code name or number.
    Release(Distro, String),
    /// A Common Platform Enumeration, or the name of a product that has none.
    Product(String),
    /// Namespace and release of a package URL.
    Purl { namespace: String, release: Option<String> },
}

impl std::hash::Hash for Scope {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        match self {
            Self::Anywhere => {}
            Self::Kind(text) | Self::Product(text) => text.hash(state),
            Self::Release(distro, release) => (distro.name(), release).hash(state),
            Self::Ecosystem { ecosystem: text, release } | Self::Purl { namespace: text, release } => {
                (text, release).hash(state);
            }
        }
    }
}

impl Platform {
    /// Reads a lock's target: `debian bookworm x86_64`.
    pub fn of_target(target: &str) -> Option<Self> {
        let mut words = target.split(' ');
        let distro = serde_json::from_value(serde_json::Value::String(words.next()?.to_owned())).ok()?;
        Some(Self { distro, release: words.next()?.to_owned() })
    }

    /// What repositories of it say: about it alone.
    pub(crate) fn scope(&self) -> Scope {
        Scope::Release(self.distro, self.release.clone())
    }

    /// How its versions are compared.
    pub fn order(&self) -> Order {
        Order::of(self.distro.family())
    }

    /// The type of package URLs of its packages.
    pub(crate) fn purl_type(&self) -> &'static str {
        match self.distro.family() {
            Family::Debian => "deb",
            Family::RedHat | Family::Suse => "rpm",
        }
    }

    /// The release after it, from which its backports come.
    pub(crate) fn of_backports(&self, number: &str) -> Option<Self> {
        let next = number.parse::<u32>().ok()?.checked_add(1)?.to_string();
        Some(Self { release: release_named(self.distro, &next)?.to_owned(), ..self.clone() })
    }

    /// Whether a code name or a number means this release: `9` is any of `9.4`, too.
    fn is_release(&self, text: &str) -> bool {
        if text.eq_ignore_ascii_case(&self.release) || release_named(self.distro, text) == Some(self.release.as_str()) {
            return true;
        }
        match self.distro.family() {
            Family::Debian => false,
            Family::RedHat => self.release.split('.').next() == Some(text),
            Family::Suse => suse_release(text).is_some_and(|number| suse_release(&self.release) == Some(number)),
        }
    }

    /// The same; a minor release counts, too, where the recipe names the major one alone: `9.4` for `9`.
    fn is_release_or_minor(&self, text: &str) -> bool {
        let is_minor = || {
            let major = text.split_once('.').map(|(major, _)| major);
            self.distro.family() == Family::RedHat && major == Some(self.release.as_str())
        };
        self.is_release(text) || is_minor()
    }

    /// Whether what an advisory says counts here.
    pub(crate) fn is_in(&self, scope: &Scope) -> bool {
        match scope {
            Scope::Anywhere => true,
            Scope::Kind(kind) => kind == self.purl_type() || kind == "rpmmod" && self.purl_type() == "rpm",
            Scope::Release(distro, name) => self.distro == *distro && self.is_release(name),
            Scope::Ecosystem { ecosystem, release } => self.is_ecosystem(ecosystem, release.as_deref()),
            Scope::Product(text) => self.is_product(text),
            Scope::Purl { namespace, release } => {
                let own = [self.distro.name()];
                let known: &[&str] = match self.distro {
                    Distro::Rhel => &["redhat", "rhel"],
                    Distro::Rocky => &["rocky", "rocky-linux"],
                    Distro::Alma => &["almalinux", "alma"],
                    Distro::Sles => &["suse", "sles"],
                    Distro::Opensuse => &["opensuse", "opensuse-leap", "opensuse-tumbleweed"],
                    // os-release calls it so.
                    Distro::Oracle => &["oracle", "oraclelinux", "ol"],
                    _ => &own,
                };
                // `debian-12`, `rhel-9.4`, `noble`.
                let plain = |text: &str| text.rsplit_once('-').map_or(text.to_owned(), |(_, number)| number.to_owned());
                known.contains(&namespace.as_str())
                    && release.as_ref().is_none_or(|one| self.is_release(one) || self.is_release_or_minor(&plain(one)))
            }
        }
    }

    fn is_ecosystem(&self, ecosystem: &str, release: Option<&str>) -> bool {
        let (head, rest) = ecosystem.split_once(':').unwrap_or((ecosystem, ""));
        let own = match self.distro {
            Distro::Debian => "Debian",
            Distro::Ubuntu => "Ubuntu",
            Distro::Rhel => "Red Hat",
            Distro::Rocky => "Rocky Linux",
            Distro::Alma => "AlmaLinux",
            Distro::Sles => "SUSE",
            Distro::Opensuse => "openSUSE",
            Distro::Centos | Distro::Oracle | Distro::Fedora => return false,
        };
        if head != own {
            return false;
        }
        let mut parts = rest.split(':');
        match (self.distro, parts.next().unwrap_or_default()) {
            (_, "") => release.is_none_or(|one| self.is_release(one)),
            // What only subscribers get.
            (Distro::Ubuntu, "Pro") => false,
            // Since RHEL 10 with the minor release: `10.0`.
            (Distro::Rhel, "enterprise_linux") => parts.next().is_some_and(|number| self.is_release_or_minor(number)),
            (Distro::Rhel, name) => is_longer(name) && parts.next() == Some(self.release.as_str()),
            (_, number) => self.is_release(number) || release.is_some_and(|one| self.is_release(one)),
        }
    }

    /// By a CPE of an operating system (`cpe:/o:redhat:enterprise_linux:9::baseos`, `cpe:2.3:o:..`), or by a name of SUSE's products.
    fn is_product(&self, text: &str) -> bool {
        let Some(cpe) = text.strip_prefix("cpe:/").or_else(|| text.strip_prefix("cpe:2.3:")) else {
            let is_own = match self.distro {
                Distro::Sles => text.starts_with("SUSE Linux Enterprise"),
                Distro::Opensuse => text.starts_with("openSUSE"),
                _ => return false,
            };
            return is_own && self.is_release(text);
        };
        let parts: Vec<&str> = cpe.split(':').collect();
        let part = |at: usize| parts.get(at).copied().unwrap_or_default();
        let (vendor, product, version, update) = (part(1), part(2), part(3), part(4));
        match self.distro {
            Distro::Rhel if vendor == "redhat" && product == "enterprise_linux" => self.is_release_or_minor(version),
            Distro::Rhel => vendor == "redhat" && is_longer(product) && version == self.release,
            Distro::Debian | Distro::Ubuntu => {
                vendor == if self.distro == Distro::Debian { "debian" } else { "canonical" } && self.is_release(version)
            }
            Distro::Rocky => vendor.starts_with("rocky") && self.is_release(version),
            Distro::Alma => vendor == "almalinux" && self.is_release(version),
            Distro::Sles => {
                vendor == "suse" && product.starts_with("sle") && self.is_release(&format!("{version} {update}"))
            }
            Distro::Opensuse => vendor == "opensuse" && self.is_release(version),
            Distro::Centos | Distro::Oracle | Distro::Fedora => false,
        }
    }
}

/// Whether a product of Red Hat has minor releases that are maintained for longer, each by itself. Since RHEL 10 it is called
/// `enterprise_linux_eus`.
fn is_longer(product: &str) -> bool {
    product.starts_with("rhel_") || product == "enterprise_linux_eus"
}

/// The release of SUSE's products as a number: `15 SP6`, `SUSE Linux Enterprise Server 15 SP6`, `Leap 15.6`, `15-SP6`, `15.6` are (15, 6).
/// Tumbleweed has none.
fn suse_release(text: &str) -> Option<(u32, u32)> {
    // Other numbers may stand before: `Linux Enterprise Module for Python 3 15 SP6`.
    let words: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let pack = |word: &str| -> Option<u32> {
        let (start, number) = word.split_at_checked(2)?;
        if start.eq_ignore_ascii_case("sp") { number.parse().ok() } else { None }
    };
    let with_pack = words.windows(2).find_map(|pair| Some((pair[0].parse().ok()?, pack(pair[1])?)));
    if with_pack.is_some() {
        return with_pack;
    }
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
    let major = numbers.next()?.parse().ok()?;
    Some((major, numbers.next().map_or(Some(0), |minor| minor.parse().ok())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(target: &str) -> Platform {
        Platform::of_target(target).unwrap()
    }

    #[test]
    fn ecosystems_of_osv_name_one_release() {
        let eco = |text: &str| Scope::Ecosystem { ecosystem: text.to_owned(), release: None };
        for (target, own) in [
            ("debian bookworm x86_64", "Debian:12"),
            ("ubuntu noble x86_64", "Ubuntu:24.04:LTS"),
            ("rhel 9.4 x86_64", "Red Hat:enterprise_linux:9::baseos"),
            ("rhel 9.4 x86_64", "Red Hat:rhel_eus:9.4::appstream"),
            ("rocky 9 x86_64", "Rocky Linux:9"),
            ("alma 9.5 x86_64", "AlmaLinux:9"),
            ("sles 15.6 x86_64", "SUSE:Linux Enterprise Module for Basesystem 15 SP6"),
            ("sles 15.6 x86_64", "SUSE:Linux Enterprise Module for Python 3 15 SP6"),
            ("rhel 10 x86_64", "Red Hat:enterprise_linux:10.0"),
            ("rhel 10.2 x86_64", "Red Hat:enterprise_linux_eus:10.2"),
            ("opensuse 15.6 x86_64", "openSUSE:Leap 15.6"),
        ] {
            assert!(platform(target).is_in(&eco(own)), "{target} {own}");
        }
        for (target, other) in [
            ("debian bookworm x86_64", "Debian:11"),
            ("debian bookworm x86_64", "Ubuntu:24.04:LTS"),
            ("ubuntu noble x86_64", "Ubuntu:Pro:24.04:LTS"),
            ("rhel 9.4 x86_64", "Red Hat:rhel_eus:9.2::appstream"),
            ("rhel 10 x86_64", "Red Hat:enterprise_linux_eus:10.2"),
            ("rhel 1 x86_64", "Red Hat:enterprise_linux:10.0"),
            ("rhel 9.4 x86_64", "Red Hat:openshift:4.15::el9"),
            ("rocky 9 x86_64", "Rocky Linux:8"),
            ("rocky 9 x86_64", "AlmaLinux:9"),
            ("sles 15.6 x86_64", "SUSE:Linux Enterprise Server 15 SP5"),
            ("fedora 41 x86_64", "Red Hat:enterprise_linux:9::baseos"),
        ] {
            assert!(!platform(target).is_in(&eco(other)), "{target} {other}");
        }
    }

    #[test]
    fn products_of_csaf_name_one_release() {
        let product = |text: &str| Scope::Product(text.to_owned());
        for (target, text, is_own) in [
            ("rhel 9 x86_64", "cpe:/o:redhat:enterprise_linux:9::baseos", true),
            ("rhel 9.2 x86_64", "cpe:/a:redhat:rhel_eus:9.2::appstream", true),
            ("rhel 9 x86_64", "cpe:/a:redhat:rhel_eus:9.2::appstream", false),
            ("rhel 8 x86_64", "cpe:/o:redhat:enterprise_linux:9::baseos", false),
            ("rhel 10 x86_64", "cpe:/o:redhat:enterprise_linux:10.0", true),
            ("rhel 10.1 x86_64", "cpe:/o:redhat:enterprise_linux:10.0", false),
            ("rhel 10.2 x86_64", "cpe:/a:redhat:enterprise_linux_eus:10.2", true),
            ("rhel 10 x86_64", "cpe:/a:redhat:enterprise_linux_eus:10.2", false),
            ("sles 15.6 x86_64", "SUSE Linux Enterprise Module for Python 3 15 SP6", true),
            ("sles 15.3 x86_64", "SUSE Linux Enterprise Module for Python 3 15 SP6", false),
            ("sles 15.6 x86_64", "cpe:/o:suse:sles:15:sp6", true),
            ("sles 15.6 x86_64", "SUSE Linux Enterprise Server 15 SP6", true),
            ("sles 15.6 x86_64", "SUSE Linux Enterprise Server 15 SP7", false),
            ("debian bookworm x86_64", "cpe:2.3:o:debian:debian_linux:12.0:*:*:*:*:*:*:*", true),
            ("rocky 9 x86_64", "cpe:/o:redhat:enterprise_linux:9::baseos", false),
        ] {
            assert_eq!(platform(target).is_in(&product(text)), is_own, "{target} {text}");
        }
    }

    #[test]
    fn package_urls_name_a_distribution_and_perhaps_a_release() {
        let purl = |namespace: &str, release: Option<&str>| Scope::Purl {
            namespace: namespace.to_owned(),
            release: release.map(str::to_owned),
        };
        let debian = platform("debian bookworm x86_64");
        for (namespace, release, is_own) in [
            ("debian", None, true),
            ("debian", Some("debian-12"), true),
            ("debian", Some("bookworm"), true),
            ("debian", Some("debian-11"), false),
            ("ubuntu", None, false),
        ] {
            assert_eq!(debian.is_in(&purl(namespace, release)), is_own, "{namespace} {release:?}");
        }
        assert!(platform("rhel 9.4 x86_64").is_in(&purl("redhat", Some("rhel-9.4"))));
        // As the bills of imgbuild name them.
        assert!(platform("rocky 9 x86_64").is_in(&purl("rocky", Some("rocky-9.4"))));
        assert!(!platform("rocky 9.4 x86_64").is_in(&purl("rocky", Some("rocky-9.5"))));
        assert!(platform("oracle 9 x86_64").is_in(&purl("ol", Some("ol-9.4"))));
        assert!(!platform("oracle 8 x86_64").is_in(&purl("ol", Some("ol-9.4"))));
        assert_eq!(debian.of_backports("12").unwrap().release, "trixie");
    }
}
