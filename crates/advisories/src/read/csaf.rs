//! CSAF 2.0, with VEX in it. Source: OASIS, Common Security Advisory Framework 2.0, section 3.2; Red Hat's and SUSE's files.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;

use super::few::List;
use super::{cut, is_name, title};
use crate::model::{Advisory, Affected, Database, Names, Product, Statement, Status};
use crate::platform::Scope;
use crate::purl::Purl;
use crate::version::Versions;
use crate::{AdvisoryError, Severity};

#[derive(Deserialize)]
struct Document {
    document: Meta,
    #[serde(default)]
    product_tree: Tree,
    #[serde(default)]
    vulnerabilities: List<Vulnerability>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    title: String,
    #[serde(default)]
    publisher: Publisher,
    #[serde(default)]
    tracking: Tracking,
    #[serde(default)]
    aggregate_severity: Option<Text>,
}

#[derive(Default, Deserialize)]
struct Publisher {
    #[serde(default)]
    name: String,
}

#[derive(Default, Deserialize)]
struct Tracking {
    #[serde(default)]
    id: String,
}

#[derive(Deserialize)]
struct Text {
    #[serde(default)]
    text: String,
}

#[derive(Default, Deserialize)]
struct Tree {
    #[serde(default)]
    branches: List<Branch>,
    #[serde(default)]
    full_product_names: List<Named>,
    #[serde(default)]
    relationships: List<Relationship>,
}

#[derive(Deserialize)]
struct Branch {
    #[serde(default)]
    branches: List<Branch>,
    #[serde(default)]
    product: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    product_id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    product_identification_helper: Helper,
}

#[derive(Default, Deserialize)]
struct Helper {
    #[serde(default)]
    cpe: Option<String>,
    #[serde(default)]
    purl: Option<String>,
}

#[derive(Deserialize)]
struct Relationship {
    full_product_name: Named,
    product_reference: String,
    relates_to_product_reference: String,
}

#[derive(Deserialize)]
struct Vulnerability {
    #[serde(default)]
    cve: Option<String>,
    #[serde(default)]
    ids: List<Text>,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    product_status: Groups,
    #[serde(default)]
    scores: List<Score>,
    #[serde(default)]
    threats: List<Threat>,
    #[serde(default)]
    flags: List<Flag>,
}

#[derive(Default, Deserialize)]
struct Groups {
    #[serde(default)]
    fixed: List<String>,
    #[serde(default)]
    first_fixed: List<String>,
    #[serde(default)]
    recommended: List<String>,
    #[serde(default)]
    known_affected: List<String>,
    #[serde(default)]
    first_affected: List<String>,
    #[serde(default)]
    last_affected: List<String>,
    #[serde(default)]
    known_not_affected: List<String>,
}

#[derive(Deserialize)]
struct Score {
    #[serde(default)]
    cvss_v3: Option<Cvss>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cvss {
    #[serde(default)]
    base_score: Option<f64>,
}

#[derive(Deserialize)]
struct Threat {
    #[serde(default)]
    category: String,
    #[serde(default)]
    details: String,
}

#[derive(Deserialize)]
struct Flag {
    #[serde(default)]
    label: String,
    #[serde(default)]
    product_ids: List<String>,
}

/// How many relationships lead from a package to its platform at most: package, module, platform.
const LONGEST_CHAIN: usize = 8;

/// Products of a document by their ids.
struct Products<'a> {
    named: BTreeMap<&'a str, &'a Named>,
    related: BTreeMap<&'a str, &'a Relationship>,
}

/// A package of a product.
#[derive(Clone)]
struct Package {
    name: String,
    version: Option<String>,
    arch: Option<String>,
    is_source: bool,
    scope: Scope,
    module: Option<String>,
}

impl<'a> Products<'a> {
    fn of(tree: &'a Tree) -> Self {
        let mut named: BTreeMap<&str, &Named> = BTreeMap::new();
        let mut left: Vec<&Branch> = tree.branches.0.iter().collect();
        while let Some(branch) = left.pop() {
            named.extend(branch.product.iter().map(|one| (one.product_id.as_str(), one)));
            left.extend(&branch.branches.0);
        }
        named.extend(tree.full_product_names.0.iter().map(|one| (one.product_id.as_str(), one)));
        let related = tree.relationships.0.iter().map(|one| (one.full_product_name.product_id.as_str(), one)).collect();
        Self { named, related }
    }

    /// The package that an id means, with the platform that it is a component of; none for what is no package.
    fn package(&self, id: &str) -> Option<Package> {
        let (mut part, mut of) = (id, None);
        let mut module = None;
        for _ in 0..LONGEST_CHAIN {
            match self.related.get(of.unwrap_or(part)) {
                Some(relation) if of.is_none() => {
                    part = relation.product_reference.as_str();
                    of = Some(relation.relates_to_product_reference.as_str());
                }
                Some(relation) => {
                    // A component of a stream of a module, which is one of a platform.
                    module = module.or_else(|| self.module(&relation.product_reference));
                    of = Some(relation.relates_to_product_reference.as_str());
                }
                None => break,
            }
        }
        let named = self.named.get(part)?;
        let scope = |of: &str| {
            let platform = self.named.get(of)?;
            let cpe = platform.product_identification_helper.cpe.clone();
            Some(Scope::Product(cpe.unwrap_or_else(|| platform.name.clone())))
        };
        let purl = named.product_identification_helper.purl.as_deref().and_then(Purl::parse);
        let purl = purl.filter(is_package);
        let of_purl = purl.as_ref().map(Product::of_purl);
        if let (Some(purl), Some(Product::Package { name, version, arch, scope: own, .. })) = (&purl, of_purl) {
            let scope = of.and_then(scope).unwrap_or(own);
            let module = module.or_else(|| purl.stream());
            return Some(Package { name, version, arch, is_source: purl.is_source(), scope, module });
        }
        // Without a platform it is one itself, or a name that says nothing of where it counts.
        let scope = scope(of?)?;
        // `nodejs:18/nodejs` is a package of a stream.
        let (stream, name) = named.name.split_once('/').unwrap_or(("", named.name.as_str()));
        let module = module.or_else(|| stream.contains(':').then(|| stream.to_owned()));
        let (name, version, arch) = parts_of(name);
        let is_source = matches!(arch, Some("src" | "nosrc"));
        let arch = arch.filter(|_| !is_source).map(str::to_owned);
        Some(Package { name: name.to_owned(), version: version.map(str::to_owned), arch, is_source, scope, module })
    }

    fn module(&self, id: &str) -> Option<String> {
        let purl = self.named.get(id)?.product_identification_helper.purl.as_deref().and_then(Purl::parse)?;
        let name = match purl.version.as_deref().and_then(|version| version.split(':').next()) {
            Some(stream) => format!("{}:{stream}", purl.name),
            // `pkg:rpmmod/redhat/nodejs:18`: all builds of a stream.
            None => purl.name.clone(),
        };
        (purl.kind == "rpmmod" && name.contains(':')).then_some(name)
    }
}

/// Whether a package URL is that of a package: a module as a whole does not count, and a package of a stream is named behind it.
fn is_package(purl: &Purl) -> bool {
    matches!(purl.kind.as_str(), "rpm" | "deb" | "generic") || purl.kind == "rpmmod" && purl.stream().is_some()
}

/// Name, version and architecture of `kernel-0:5.14.0-427.13.1.el9_4.x86_64`, `libopenssl1_1-1.1.1w-150600.5.3`, `openssl`.
fn parts_of(text: &str) -> (&str, Option<&str>, Option<&str>) {
    const ARCHITECTURES: [&str; 10] =
        ["noarch", "src", "nosrc", "i686", "x86_64", "aarch64", "ppc64le", "s390x", "armv7hl", "riscv64"];
    let (rest, arch) = match text.rsplit_once('.') {
        Some((rest, arch)) if ARCHITECTURES.contains(&arch) => (rest, Some(arch)),
        _ => (text, None),
    };
    let mut dashes = rest.rmatch_indices('-').map(|(at, _)| at);
    let version = dashes.nth(1).map(|at| (&rest[..at], &rest[at + 1..]));
    match version.filter(|(name, version)| !name.is_empty() && version.starts_with(|c: char| c.is_ascii_digit())) {
        Some((name, version)) => (name, Some(version.strip_prefix("0:").unwrap_or(version)), arch),
        None => (rest, None, arch),
    }
}

/// Adds a document; gives how many vulnerabilities it has.
pub(super) fn read(database: &mut Database, at: usize, file: &str, bytes: &[u8]) -> Result<usize, AdvisoryError> {
    let document: Document =
        serde_json::from_slice(bytes).map_err(|error| AdvisoryError::json(file, "a document of CSAF 2.0", &error))?;
    let products = Products::of(&document.product_tree);
    let meta = &document.document;
    let of_document = meta.aggregate_severity.as_ref().and_then(|one| Severity::of_word(&one.text));
    for vulnerability in &document.vulnerabilities.0 {
        let mut names = vulnerability.cve.iter().chain(vulnerability.ids.0.iter().map(|id| &id.text));
        let Some(name) = names.find(|name| is_name(name)) else {
            return Err(AdvisoryError::whole(
                file,
                "has a vulnerability without `cve` and `ids`: CSAF 2.0 was expected",
            ));
        };
        for name in [name, &meta.tracking.id] {
            database.meet(name);
        }
        // What cannot be computed may be bad.
        let is_scored = !vulnerability.scores.0.is_empty();
        let severity = rated(vulnerability).or(of_document).or(is_scored.then_some(Severity::High)).unwrap_or_default();
        let groups = &vulnerability.product_status;
        let wanted = |ids: &[&List<String>]| -> Vec<(String, Package)> {
            // A list may name a product any number of times.
            let mut seen = HashSet::new();
            let ids = ids.iter().flat_map(|ids| ids.0.iter()).filter(|id| seen.insert(id.as_str()));
            let all = ids.filter_map(|id| Some((id.clone(), products.package(id)?)));
            all.filter(|(_, one)| database.wants(&one.name) && is_name(&one.name)).collect()
        };
        let mut affected: Vec<Affected> = Vec::new();
        let mut add = |package: &Package, versions: Versions| {
            let names = if package.is_source { Names::Source } else { Names::Either };
            let Package { name, scope, arch, module, .. } = package.clone();
            affected.push(Affected { name, names, scope, versions, severity, arch, module });
        };
        let fixed = wanted(&[&groups.fixed, &groups.first_fixed, &groups.recommended]);
        for (_, package) in &fixed {
            if let Some(version) = &package.version {
                add(package, Versions::before(version));
            }
        }
        let is_mended: HashSet<_> = fixed.iter().map(|(_, one)| (&one.name, &one.scope, &one.module)).collect();
        for (_, package) in wanted(&[&groups.known_affected, &groups.first_affected, &groups.last_affected]) {
            match &package.version {
                Some(version) => add(&package, Versions::only(version)),
                None if is_mended.contains(&(&package.name, &package.scope, &package.module)) => {}
                None => add(&package, Versions::all()),
            }
        }
        let reasons = reasons(vulnerability);
        let statements = wanted(&[&groups.known_not_affected]).into_iter().map(|(id, package)| Statement {
            vulnerabilities: vec![name.clone()],
            reason: reasons.get(id.as_str()).map_or_else(|| "known_not_affected".to_owned(), |text| cut(text, 200)),
            products: vec![product_of(package)],
            status: Status::NotAffected,
            author: cut(&meta.publisher.name, 100),
            time: None,
            until: None,
            database: at,
        });
        let statements: Vec<Statement> = statements.collect();
        statements.into_iter().for_each(|one| database.keep_statement(one));
        if !affected.is_empty() {
            let id = if is_name(&meta.tracking.id) { meta.tracking.id.clone() } else { name.clone() };
            database.keep(Advisory {
                id,
                vulnerabilities: vec![name.clone()],
                title: title(vulnerability.title.as_deref().unwrap_or(&meta.title)),
                affected,
                database: at,
            });
        }
    }
    Ok(document.vulnerabilities.0.len())
}

fn product_of(package: Package) -> Product {
    let names = if package.is_source { Names::Source } else { Names::Either };
    let Package { name, version, arch, scope, module, .. } = package;
    // A package outside of modules is another one than that of a stream.
    Product::Package { names, name, version, arch, scope, module: Some(module.unwrap_or_default()) }
}

/// Why products are not affected: by the first flag that names each.
fn reasons(vulnerability: &Vulnerability) -> HashMap<&str, &str> {
    let mut reasons = HashMap::new();
    for flag in &vulnerability.flags.0 {
        for id in &flag.product_ids.0 {
            reasons.entry(id.as_str()).or_insert(flag.label.as_str());
        }
    }
    reasons
}

/// The publisher's own word goes before the score.
fn rated(vulnerability: &Vulnerability) -> Option<Severity> {
    let words = vulnerability.threats.0.iter().filter(|threat| threat.category == "impact");
    let scores = vulnerability.scores.0.iter().filter_map(|score| score.cvss_v3.as_ref()?.base_score);
    words
        .filter_map(|threat| Severity::of_word(&threat.details))
        .max()
        .or_else(|| scores.filter_map(Severity::of_score).max())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_products_have_name_version_and_architecture() {
        for (text, parts) in [
            ("kernel-0:5.14.0-427.13.1.el9_4.x86_64", ("kernel", Some("5.14.0-427.13.1.el9_4"), Some("x86_64"))),
            ("bind-32:9.16.23-18.el9.src", ("bind", Some("32:9.16.23-18.el9"), Some("src"))),
            ("libopenssl1_1-1.1.1w-150600.5.3", ("libopenssl1_1", Some("1.1.1w-150600.5.3"), None)),
            ("python3-dnf-plugin-x", ("python3-dnf-plugin-x", None, None)),
            ("openssl", ("openssl", None, None)),
            ("", ("", None, None)),
        ] {
            assert_eq!(parts_of(text), parts);
        }
    }
}
