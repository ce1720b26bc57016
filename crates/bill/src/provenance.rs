//! What a build was made from, as an in-toto statement with SLSA's provenance, and what such a statement says of files. Sources:
//! <https://github.com/in-toto/attestation/tree/main/spec/v1>, <https://slsa.dev/spec/v1.0/provenance>.
//!
//! It has no time, no host and no user: the same build gives the same statement.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use base::digest::Sha256;
use recipe::{LOCK_FILE, Lock};

use crate::image::{BUILD, Image};
use crate::model::{Bill, Package};

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://slsa.dev/provenance/v1";
/// What the parameters mean: docs/sbom.md.
const BUILD_TYPE: &str = "https://imgbuild.invalid/build/v1";

/// The commit of a recipe that gives this build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The whole name of the commit, in hexadecimal.
    pub commit: String,
    /// The recipe's directory below the repository's root.
    pub directory: String,
}

/// What is said of a build.
#[derive(Debug)]
pub struct Provenance<'a> {
    pub bill: &'a Bill,
    /// Digest of build.json.
    pub build: Sha256,
    /// The lock that the image was built by.
    pub lock: Option<&'a Lock>,
    pub revision: Option<Revision>,
    /// Who builds: an address that means something to those who read it.
    pub builder: &'a str,
}

fn digest(sha256: Sha256) -> Value {
    json!({"sha256": sha256.to_string()})
}

impl Provenance<'_> {
    fn image(&self) -> &Image {
        &self.bill.image
    }

    /// The lock, where it is the build's, and all that it pins: tools too.
    fn dependencies(&self) -> Vec<Value> {
        let mut all = Vec::new();
        if let Some(Revision { commit, directory }) = &self.revision {
            // SHA-1 or SHA-256. Source: in-toto's DigestSet.
            all.push(
                json!({"name": "recipe", "digest": {"gitCommit": commit}, "annotations": {"directory": directory}}),
            );
        }
        let (Some(lock), Some(own)) = (self.lock, self.bill.lock) else { return all };
        all.push(json!({"name": LOCK_FILE, "digest": digest(own)}));
        if let Some(base) = &lock.base {
            all.push(json!({"name": "container image", "digest": digest(base.manifest.sha256)}));
        }
        let sources: BTreeMap<(&str, &str, &str), &Package> = self
            .bill
            .packages
            .iter()
            .map(|one| ((one.name.as_str(), one.version.as_str(), one.architecture.as_str()), one))
            .collect();
        let mut seen = BTreeSet::new();
        for pass in &lock.pass {
            for one in &pass.packages {
                if !seen.insert((one.sha256, &one.name)) {
                    continue;
                }
                let known = sources.get(&(one.name.as_str(), one.version.as_str(), one.architecture.as_str()));
                let plain = Package {
                    name: one.name.clone(),
                    version: one.version.clone(),
                    architecture: one.architecture.clone(),
                    source: known.and_then(|known| known.source.clone()),
                    supplier: None,
                    sha256: None,
                };
                all.push(json!({
                    "uri": self.bill.purl(&plain),
                    "digest": digest(one.sha256),
                    "name": one.name,
                    "annotations": {"pass": pass.name},
                }));
            }
        }
        all
    }

    /// The statement, on one line.
    pub fn statement(&self) -> String {
        let image = self.image();
        let subject = image.artefacts.iter().map(|one| json!({"name": one.name, "digest": digest(one.sha256)}));
        let subject: Vec<Value> =
            std::iter::once(json!({"name": BUILD, "digest": digest(self.build)})).chain(subject).collect();
        let layers: Vec<Value> =
            image.layers.iter().map(|(name, digest)| json!({"name": name, "blake3": digest})).collect();
        let statement = json!({
            "_type": STATEMENT,
            "subject": subject,
            "predicateType": PREDICATE,
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": {"image": image.name, "target": image.target},
                    "internalParameters": {"epoch": image.epoch, "kernelRelease": image.kernel_release, "layers": layers},
                    "resolvedDependencies": self.dependencies(),
                },
                // Which imgbuild built it is not known: another one may write this.
                "runDetails": {"builder": {"id": self.builder}},
            },
        });
        statement.to_string()
    }
}

/// What is read of a statement.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Form {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(rename = "predicateType")]
    predicate_kind: String,
    subject: Vec<Named>,
    predicate: Predicate,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Predicate {
    build_definition: Definition,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Definition {
    resolved_dependencies: Vec<Named>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    name: Option<String>,
    digest: Option<Digests>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Digests {
    sha256: Option<String>,
}

/// Digests by name, of those that have both.
fn named(list: Vec<Named>) -> BTreeMap<String, Sha256> {
    let one = |one: Named| Some((one.name?, Sha256::parse(&one.digest?.sha256?).ok()?));
    list.into_iter().filter_map(one).collect()
}

/// What a statement says of files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statement {
    /// Files by name; what has no SHA-256 is not among them.
    pub subjects: BTreeMap<String, Sha256>,
    /// The lock.
    pub lock: Option<Sha256>,
}

impl Statement {
    /// Reads a statement.
    /// Errors: What is wrong with it.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        let form: Form = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        for (key, found, expected) in
            [("_type", &form.kind, STATEMENT), ("predicateType", &form.predicate_kind, PREDICATE)]
        {
            if found != expected {
                return Err(format!("its {key} is not {expected}"));
            }
        }
        let mut dependencies = named(form.predicate.build_definition.resolved_dependencies);
        Ok(Self { subjects: named(form.subject), lock: dependencies.remove(LOCK_FILE) })
    }

    /// Files of an image that it does not describe, or describes otherwise, each with what is wrong.
    pub fn unlike(&self, image: &Image, build: Sha256, lock: Option<Sha256>) -> Vec<(String, String)> {
        let artefacts = image.artefacts.iter().map(|one| (one.name.as_str(), one.sha256));
        let all = std::iter::once((BUILD, build)).chain(artefacts);
        let mut wrong: Vec<(String, String)> = Vec::new();
        for (name, found) in all {
            match self.subjects.get(name) {
                Some(expected) if *expected == found || fault::planted("bill-other-subject") => {}
                Some(expected) => wrong.push((
                    name.to_owned(),
                    format!("has the SHA-256 {found}, but the statement of provenance is about {expected}"),
                )),
                None => wrong.push((name.to_owned(), "is not in the statement of provenance".to_owned())),
            }
        }
        let problem = match (lock, self.lock) {
            (Some(found), Some(expected)) if found != expected => {
                format!("has the SHA-256 {found}, but the statement of provenance names {expected}")
            }
            (Some(_), None) => "is not in the statement of provenance".to_owned(),
            _ => return wrong,
        };
        wrong.push((LOCK_FILE.to_owned(), problem));
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tests::{read, sample};
    use crate::model::tests::{INSTALLED, bill, lock};

    fn statement(revision: Option<Revision>) -> String {
        let lock = lock(&INSTALLED);
        let bill = bill(Some(&lock));
        let build = Sha256::of(b"build");
        Provenance { bill: &bill, build, lock: Some(&lock), revision, builder: "https://ci.example/1" }.statement()
    }

    #[test]
    fn a_statement_names_what_was_built_and_what_from() {
        let revision = Revision { commit: "a".repeat(40), directory: "images/compute".to_owned() };
        let value: Value = serde_json::from_str(&statement(Some(revision.clone()))).unwrap();
        assert_eq!(value["subject"][0]["name"], "build.json");
        assert_eq!(value["subject"].as_array().unwrap().len(), 4);
        let dependencies = value["predicate"]["buildDefinition"]["resolvedDependencies"].as_array().unwrap();
        let names: Vec<&str> = dependencies.iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["recipe", "image.lock", "apt", "libc6", "python3"]);
        assert_eq!(dependencies[0]["digest"]["gitCommit"], revision.commit);
        assert_eq!(dependencies[2]["annotations"]["pass"], "tools");
        assert_eq!(
            dependencies[3]["uri"],
            "pkg:deb/debian/libc6@2.36-9%2Bdeb12u9?arch=amd64&distro=debian-12&upstream=glibc"
        );
        assert_eq!(value["predicate"]["runDetails"]["builder"], json!({"id": "https://ci.example/1"}));
        let longer = Revision { commit: "b".repeat(64), ..revision };
        let value: Value = serde_json::from_str(&statement(Some(longer))).unwrap();
        let recipe = &value["predicate"]["buildDefinition"]["resolvedDependencies"][0];
        assert_eq!(recipe["digest"], json!({"gitCommit": "b".repeat(64)}));
        assert_eq!(statement(None), statement(None));
    }

    #[test]
    fn each_file_that_a_statement_is_not_about_is_named() {
        let image = read(&sample()).unwrap();
        let own = Statement::read(statement(None).as_bytes()).unwrap();
        let build = Sha256::of(b"build");
        let lock_digest = own.lock;
        assert!(lock_digest.is_some());
        assert_eq!(own.unlike(&image, build, lock_digest), Vec::new());
        let other = Sha256::of(b"other");
        let names = |wrong: Vec<(String, String)>| wrong.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(own.unlike(&image, other, None)), ["build.json"]);
        assert_eq!(names(own.unlike(&image, build, Some(other))), ["image.lock"]);
        // A lock that the statement does not name is vouched for by no signature.
        let without = Statement { lock: None, ..own.clone() };
        assert_eq!(names(without.unlike(&image, build, lock_digest)), ["image.lock"]);
        assert_eq!(names(without.unlike(&image, build, None)), Vec::<String>::new());
        for at in 0..3 {
            let mut value = sample();
            value["artefacts"][at]["sha256"] = other.to_string().into();
            assert_eq!(
                names(own.unlike(&read(&value).unwrap(), build, None)),
                [value["artefacts"][at]["name"].as_str().unwrap()]
            );
            value["artefacts"][at]["name"] = "new".into();
            assert_eq!(names(own.unlike(&read(&value).unwrap(), build, None)), ["new"]);
        }
        assert!(Statement::read(b"{}").unwrap_err().contains("_type"));
        assert!(Statement::read(b"x").is_err());
        // What another program wrote may have no names, and other digests.
        let text = json!({
            "_type": STATEMENT, "predicateType": PREDICATE,
            "subject": [{"digest": {"sha512": "0"}}, {"name": "a", "digest": null}, {"name": "b", "digest": {"sha256": build}}],
            "predicate": {"buildDefinition": {"resolvedDependencies": [{"uri": "git+https://x"}]}, "more": [1]},
        });
        let read = Statement::read(text.to_string().as_bytes()).unwrap();
        assert_eq!((read.subjects.into_iter().collect::<Vec<_>>(), read.lock), (vec![("b".to_owned(), build)], None));
    }
}
