//! SPDX 2.3 in JSON. Source: <https://spdx.github.io/spdx-spec/v2.3/>.
//!
//! Files of no package belong to a package of their own: one whose files were not analysed, as the image is, must contain none.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use crate::model::{Bill, Source};

const NOTHING: &str = "NOASSERTION";

/// An identifier within the document: a kind, a number, and of a name what may stand in one.
fn id(kind: &str, number: usize, name: &str) -> String {
    let name: String =
        name.chars().map(|one| if one.is_ascii_alphanumeric() || one == '.' { one } else { '-' }).collect();
    format!("SPDXRef-{kind}-{number}-{name}")
}

fn package(id: &str, name: &str, version: &str, purpose: &str) -> Value {
    let mut all = json!({"SPDXID": id, "name": name});
    if !version.is_empty() {
        all["versionInfo"] = version.into();
    }
    all["downloadLocation"] = NOTHING.into();
    all["filesAnalyzed"] = false.into();
    for key in ["licenseConcluded", "licenseDeclared", "copyrightText", "supplier"] {
        all[key] = NOTHING.into();
    }
    all["primaryPackagePurpose"] = purpose.into();
    all
}

fn with_purl(mut package: Value, purl: &str) -> Value {
    package["externalRefs"] =
        json!([{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}]);
    package
}

/// Source: SPDX 2.3, 7.9: SHA-1 of the files' SHA-1 in hexadecimal, sorted.
fn verification_code(digests: impl Iterator<Item = [u8; 20]>) -> String {
    let mut all: Vec<String> = digests.map(|digest| HEXLOWER.encode(&digest)).collect();
    all.sort_unstable();
    HEXLOWER.encode(&<sha1::Sha1 as sha1::Digest>::digest(all.concat()))
}

pub(crate) fn document(bill: &Bill) -> Value {
    const IMAGE: &str = "SPDXRef-Image";
    const FILES: &str = "SPDXRef-Files";
    let image = &bill.image;
    let identity = image.identity();
    let mut packages = vec![package(IMAGE, &image.name, &identity.short(), "OPERATING-SYSTEM")];
    let mut relations = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", IMAGE)];
    let mut add = |relations: &mut Vec<Value>, one: Value| {
        relations.push(relation(IMAGE, "CONTAINS", one["SPDXID"].as_str().unwrap_or_default()));
        packages.push(one);
    };
    let of_lock = bill.lock.map(|digest| (recipe::LOCK_FILE, digest));
    let parts = image.parts().map(|one| (one.name.as_str(), one.sha256)).chain(of_lock);
    for (number, (name, sha256)) in parts.enumerate() {
        let mut one = package(&id("Artefact", number, name), name, "", "FILE");
        one["checksums"] = json!([{"algorithm": "SHA256", "checksumValue": sha256.to_string()}]);
        add(&mut relations, one);
    }
    for (number, driver) in image.own_drivers.iter().enumerate() {
        add(&mut relations, package(&id("Driver", number, driver), driver, "", "SOURCE"));
    }
    let mut sources: BTreeMap<&Source, String> = BTreeMap::new();
    for (number, installed) in bill.packages.iter().enumerate() {
        let own = id("Package", number, &installed.name);
        let mut one = with_purl(package(&own, &installed.name, &installed.version, "LIBRARY"), &bill.purl(installed));
        if let Some(supplier) = &installed.supplier {
            one["supplier"] = format!("Organization: {supplier}").into();
        }
        if let Some(sha256) = installed.sha256 {
            one["checksums"] = json!([{"algorithm": "SHA256", "checksumValue": sha256.to_string()}]);
        }
        add(&mut relations, one);
        if let Some(source) = &installed.source {
            let count = sources.len();
            let of = sources.entry(source).or_insert_with(|| id("Source", count, &source.name));
            relations.push(relation(&own, "GENERATED_FROM", of));
        }
    }
    let mut files = Vec::new();
    if !bill.files.is_empty() {
        let mut one = package(FILES, &format!("{}: files that no package provides", image.name), "", "FILE");
        one["filesAnalyzed"] = true.into();
        let code = verification_code(bill.files.iter().map(|file| file.sha1));
        one["packageVerificationCode"] = json!({"packageVerificationCodeValue": code});
        one["licenseInfoFromFiles"] = json!([NOTHING]);
        add(&mut relations, one);
        for (number, file) in bill.files.iter().enumerate() {
            let own = format!("SPDXRef-File-{number}");
            relations.push(relation(FILES, "CONTAINS", &own));
            let mut one = json!({
                "SPDXID": own,
                "fileName": format!("./{}", file.path),
                "checksums": [
                    {"algorithm": "SHA1", "checksumValue": HEXLOWER.encode(&file.sha1)},
                    {"algorithm": "SHA256", "checksumValue": file.sha256.to_string()},
                ],
                "licenseConcluded": NOTHING,
                "licenseInfoInFiles": [NOTHING],
                "copyrightText": NOTHING,
            });
            if let Some(package) = &file.changed {
                one["comment"] = format!("differs from the file of the package {package}").into();
            }
            files.push(one);
        }
    }
    for (number, (url, (part, paths))) in bill.parts().into_iter().enumerate() {
        let own = id("Part", number, &part.name);
        add(&mut relations, with_purl(package(&own, &part.name, &part.version, "LIBRARY"), &url));
        for path in paths {
            if let Ok(at) = bill.files.binary_search_by(|file| file.path.as_str().cmp(path)) {
                relations.push(relation(&own, "CONTAINED_BY", &format!("SPDXRef-File-{at}")));
            }
        }
    }
    let mut sources: Vec<(&Source, String)> = sources.into_iter().collect();
    sources.sort_by(|a, b| a.0.cmp(b.0));
    for (source, own) in sources {
        packages.push(with_purl(package(&own, &source.name, &source.version, "SOURCE"), &bill.source_purl(source)));
    }
    let mut document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": image.name,
        "documentNamespace": "",
        "creationInfo": {"created": image.time(), "creators": [format!("Tool: imgbuild-{}", env!("CARGO_PKG_VERSION"))]},
        "packages": packages,
        "relationships": relations,
    });
    if !files.is_empty() {
        document["files"] = files.into();
    }
    let digest = base::digest::Sha256::of(document.to_string().as_bytes());
    document["documentNamespace"] = format!("https://imgbuild.invalid/spdx/{}-{digest}", image.name).into();
    document
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Format;
    use crate::model::tests::{INSTALLED, bill, lock};

    #[test]
    fn the_code_of_files_is_that_of_the_specification() {
        // As sha1sum(1) gives it of the two digests in hexadecimal, sorted, without newlines.
        let digest = |text: &str| <sha1::Sha1 as sha1::Digest>::digest(text).into();
        let codes = [
            verification_code([digest("a"), digest("b")].into_iter()),
            verification_code([digest("b"), digest("a")].into_iter()),
        ];
        assert_eq!(codes, ["5463504435e4dbf2b93a3a8a00ca78e36ea40e24"; 2]);
    }

    #[test]
    fn each_relation_leads_to_what_there_is_and_names_differ() {
        let lock = lock(&INSTALLED);
        let text = bill(Some(&lock)).document(Format::Spdx);
        assert_eq!(text, bill(Some(&lock)).document(Format::Spdx));
        let document: Value = serde_json::from_str(&text).unwrap();
        let all = |key: &str| document[key].as_array().unwrap().clone();
        let mut ids: Vec<String> =
            all("packages").iter().chain(&all("files")).map(|one| one["SPDXID"].as_str().unwrap().to_owned()).collect();
        ids.push("SPDXRef-DOCUMENT".to_owned());
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count);
        for one in all("relationships") {
            for end in ["spdxElementId", "relatedSpdxElement"] {
                assert!(ids.iter().any(|id| one[end] == **id), "{one}");
            }
        }
        let named = |name: &str| all("packages").into_iter().find(|one| one["name"] == name).unwrap();
        assert_eq!(
            named("glibc")["externalRefs"][0]["referenceLocator"],
            "pkg:deb/debian/glibc@2.36-9%2Bdeb12u9?arch=source&distro=debian-12"
        );
        assert_eq!(named("libc6")["supplier"], "Organization: GNU Libc Maintainers");
        assert!(
            named("image.lock")["checksums"][0]["checksumValue"].is_string() && named("kernel")["checksums"].is_array()
        );
        assert_eq!(document["creationInfo"]["created"], "2026-11-01T00:00:00Z");
        assert_ne!(
            document["documentNamespace"],
            serde_json::from_str::<Value>(&bill(None).document(Format::Spdx)).unwrap()["documentNamespace"]
        );
    }
}
