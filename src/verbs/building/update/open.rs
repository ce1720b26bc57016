//! Why a vulnerability is left in an image.

use std::collections::BTreeMap;

use crate::verbs::keeping::audit::subjects::Audited;
use advisories::{Finding, Kind};
use build::Refused;
use packages::manager;
use recipe::{Family, Lock, Recipe};
use schemars::JsonSchema;
use serde::Serialize;

/// What keeps a vulnerable version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    /// No version mends it yet.
    NoFix,
    /// No repository of the recipe has the version that mends it.
    NotInRepositories,
    /// A line of the recipe asks for a version, or for a package whose name has one.
    Pinned,
    /// A line of the recipe asks for a version of another package of the same source.
    SiblingPinned,
    /// It comes with the container image below.
    ContainerImage,
    /// It is a driver that the recipe compiles from source.
    Driver,
    /// A file that the recipe brings is made of it.
    File,
    /// The package manager's solver refuses.
    Refused,
    /// Other packages keep it.
    Kept,
}

/// What keeps a vulnerable version, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub reason: Reason,
    pub why: String,
}

/// Versions that repositories have, by the names of packages.
type Offers = BTreeMap<String, Vec<String>>;

/// Whether it depends on what repositories have why a finding is left.
pub(super) fn depends_on_offers(finding: &Finding, lock: &Lock) -> bool {
    before_offers(finding, lock).is_none()
}

/// Why a finding is left in an image with a lock, after packages were moved as far as they can be.
pub(super) fn why(
    finding: &Finding,
    (audited, recipe, lock): (&Audited, &Recipe, &Lock),
    refused: &[Refused],
    offers: &Offers,
) -> Held {
    if let Some(held) = before_offers(finding, lock) {
        return held;
    }
    let held = |reason, why: String| Held { reason, why };
    let fixed = finding.fixed.as_deref().unwrap_or_default();
    let order = audited.subject.platform.order();
    let versions = || finding.packages.iter().filter_map(|name| offers.get(name)).flatten();
    let newest = versions().max_by(|a, b| order.compare(a, b));
    if !newest.is_some_and(|newest| order.compare(newest, fixed).is_ge()) {
        let newest = newest.map_or(String::new(), |newest| format!(" (newest there: {newest})"));
        let why = format!("no repository of the recipe has {fixed}{newest}: add the one that has it as a ‹[[repo]]›");
        return held(Reason::NotInRepositories, crate::output::render::said(&why));
    }
    let words = words(recipe, lock);
    let is_rpm = recipe.model.image.distro.family() != Family::Debian;
    let pin = |name: &String| words.iter().find(|(plain, word)| is_pin(is_rpm, name, (plain, word)));
    if let Some((_, word)) = finding.packages.iter().find_map(pin) {
        return held(Reason::Pinned, format!("the recipe asks for `{word}`: change that line"));
    }
    let own = |(plain, word): &&(String, String)| finding.packages.contains(plain) && plain == word;
    if let Some((_, word)) = words.iter().find(own).filter(|_| finding.kind == Kind::Kernel)
        && word.bytes().any(|byte| byte.is_ascii_digit())
    {
        let why = format!("the recipe asks for `{word}`, whose next version has another name: change that line");
        return held(Reason::Pinned, why);
    }
    if let Some(version) = recipe.model.kernel.version.as_ref().filter(|_| finding.kind == Kind::Kernel) {
        return held(Reason::Pinned, format!("the recipe asks for the kernel {version}: change that line"));
    }
    let siblings = audited.subject.components.iter().filter(|one| one.source.0 == finding.source);
    if let Some((_, word)) = siblings.map(|one| &one.name).find_map(pin) {
        let why = format!(
            "the recipe asks for `{word}`, of the same source ({}), which needs this version: change that line",
            finding.source
        );
        return held(Reason::SiblingPinned, why);
    }
    let is_of = |one: &&Refused| finding.packages.iter().any(|name| one.names.contains(name));
    match refused.iter().find(is_of) {
        Some(refused) => held(Reason::Refused, refused.why.clone()),
        None => held(
            Reason::Kept,
            "other packages need this version: `imgbuild update` without --security moves those, too".to_owned(),
        ),
    }
}

/// Whether a word of a list asks for a version of a package: `openssl=3.0.11-1`; of RPM packages also `openssl-3.0.7-27.el9`.
fn is_pin(is_rpm: bool, name: &str, (plain, word): (&str, &str)) -> bool {
    let rest = word.strip_prefix(name).unwrap_or_default();
    let is_version = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    plain == name && plain != word
        || is_rpm && (rest.trim_start().starts_with(['=', '<']) || rest.strip_prefix('-').is_some_and(is_version))
}

/// What is known without the repositories.
fn before_offers(finding: &Finding, lock: &Lock) -> Option<Held> {
    let held = |reason, why: &str| Some(Held { reason, why: why.to_owned() });
    let is_locked = |name: &String| lock.pass.iter().flat_map(|pass| &pass.packages).any(|one| one.name == *name);
    if finding.kind == Kind::Driver {
        return held(
            Reason::Driver,
            "it is compiled from source: change the source that the recipe names, or state why it does not count in an .openvex.json",
        );
    }
    if finding.kind == Kind::File {
        return held(Reason::File, "a file that the recipe brings is made of it: replace the file");
    }
    if finding.fixed.is_none() {
        return held(Reason::NoFix, "no fixed version is published yet");
    }
    if lock.base.is_some() && !finding.packages.iter().any(is_locked) {
        return held(
            Reason::ContainerImage,
            "it comes with the container image: `imgbuild update` without --security takes a newer one, or add the package to a list of the recipe",
        );
    }
    None
}

/// Words of the lock's transactions and of the recipe, each with the name that it means.
fn words(recipe: &Recipe, lock: &Lock) -> Vec<(String, String)> {
    let manager = manager(recipe);
    let words = lock.pass.iter().flat_map(|pass| &pass.install);
    words.map(|word| (manager.plain_name(word).to_owned(), word.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_with_a_version_is_a_pin() {
        for (is_rpm, name, plain, word, pins) in [
            (false, "openssl", "openssl", "openssl=3.0.11-1", true),
            (false, "openssl", "openssl", "openssl", false),
            (false, "python3", "python3-7zip", "python3-7zip", false),
            (true, "openssl", "openssl-3.0.7-27.el9", "openssl-3.0.7-27.el9", true),
            (true, "openssl", "openssl-libs", "openssl-libs", false),
            (true, "openssl", "openssl = 3.0.7", "openssl = 3.0.7", true),
            (true, "openssl", "bash", "bash", false),
        ] {
            assert_eq!(is_pin(is_rpm, name, (plain, word)), pins, "{word}");
        }
    }

    #[test]
    fn what_comes_with_the_container_image_is_named_unless_a_transaction_has_it() {
        let digest = base::digest::Sha256::of(b"x");
        let document = || recipe::LockedDocument { sha256: digest, size: 1 };
        let package = format!(
            "{{ name = \"bash\", version = \"5.1.8-6.el9\", arch = \"x86_64\", size = 1, sha256 = \"{digest}\", origin = \"baseos\", file = \"bash.rpm\" }}"
        );
        let text = format!(
            "format = 1\nminor = 7\nepoch = 0\ntarget = \"rocky 9 x86_64\"\nsuite = []\n\n[[pass]]\nname = \"packages\"\ninstall = []\npackages = [\n    {package},\n]\n"
        );
        let lock = Lock::parse_bytes("image.lock", text.into_bytes()).unwrap();
        let base =
            recipe::LockedBase { manifest: document(), config: document(), layers: Vec::new(), packages: Vec::new() };
        let below = Lock { base: Some(base), ..lock.clone() };
        let finding = |name: &str| super::super::mend::tests::finding("CVE-1", name, &[name], Kind::Package, Some("2"));
        let reason = |lock: &Lock, name: &str| before_offers(&finding(name), lock).map(|held| held.reason);
        assert_eq!(reason(&below, "openssl-libs"), Some(Reason::ContainerImage));
        assert_eq!(reason(&below, "bash"), None);
        assert_eq!(reason(&lock, "openssl-libs"), None);
    }
}
