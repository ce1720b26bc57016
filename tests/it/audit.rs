//! `audit`: which packages of images, and of what nodes boot, have vulnerabilities that files of advisories name.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::nodes::nodeset::{nodeset, publish};
use crate::schemas::assert_valid;
use crate::support::{Ran, Space};

/// A transaction of a lock: its name, what was asked for, and packages with version and source.
pub type Pass<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, &'a str, &'a str)]);

/// A lock of Debian's release in the recipe: transactions with packages, each with its source.
pub fn lock(target: &str, passes: &[Pass]) -> String {
    let mut text = format!(
        "# Written by imgbuild.\nformat = 1\nminor = 7\nepoch = 1700000000\ntarget = \"{target}\"\nsuite = []\n"
    );
    for (name, install, packages) in passes {
        let install: Vec<String> = install.iter().map(|name| format!("\"{name}\"")).collect();
        let _ = write!(text, "\n[[pass]]\nname = \"{name}\"\ninstall = [{}]\npackages = [\n", install.join(", "));
        for (package, version, source) in *packages {
            let digest = base::digest::Sha256::of(format!("{package} {version}").as_bytes());
            let file = format!("pool/main/{}/{source}/{package}.deb", &source[..1]);
            let _ = writeln!(
                text,
                "    {{ name = \"{package}\", version = \"{version}\", arch = \"amd64\", size = 1, sha256 = \"{digest}\", origin = \"bookworm\", file = \"{file}\" }},"
            );
        }
        text.push_str("]\n");
    }
    text
}

fn compute(openssl: &str) -> String {
    lock(
        "debian bookworm x86_64",
        &[
            ("tools", &["apt"], &[("apt", "2.6.1", "apt"), ("libssl3", openssl, "openssl")]),
            (
                "base",
                &["?essential"],
                &[("bash", "5.2.15-2+b7", "bash"), ("libssl3", openssl, "openssl"), ("openssl", openssl, "openssl")],
            ),
            ("kernel", &["linux-image-amd64"], &[("linux-image-6.1.0-30-amd64", "6.1.124-1", "linux-signed-amd64")]),
        ],
    )
}

/// A recipe with its lock, and files of advisories beside it.
fn space() -> Space {
    let space = Space::new();
    space.write("image.toml", "[image]\nname = \"compute\"\nrelease = \"bookworm\"\n");
    space.write("image.lock", &compute("3.0.11-1~deb12u2"));
    let affected = |name: &str, fixed: &str, urgency: &str| {
        json!({
            "package": { "ecosystem": "Debian:12", "name": name, "purl": format!("pkg:deb/debian/{name}?arch=source") },
            "ranges": [{ "type": "ECOSYSTEM", "events": [{ "introduced": "0" }, { "fixed": fixed }] }],
            "ecosystem_specific": { "urgency": urgency },
        })
    };
    let record = |id: &str, affected: Value| json!({ "id": id, "modified": "2026-01-01T00:00:00Z", "summary": "a \u{1b}[2Jhole", "affected": [affected] });
    let openssl = record("DEBIAN-CVE-2024-5535", affected("openssl", "3.0.14-1~deb12u1", "high"));
    space.write("openssl.json", &openssl.to_string());
    space.write("linux.json", &record("CVE-2025-0001", affected("linux", "6.1.128-1", "medium")).to_string());
    space
}

fn audit(space: &Space, databases: &[&str], more: &[&str]) -> Ran {
    let paths: Vec<String> = databases.iter().map(|name| space.path().join(name).display().to_string()).collect();
    let words: Vec<&str> = paths.iter().flat_map(|path| ["--db", path.as_str()]).collect();
    space.run(&[&["audit"], &words[..], more].concat())
}

/// Cells of the table's lines.
fn rows(ran: &Ran) -> Vec<Vec<String>> {
    let cells =
        |line: &str| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect();
    ran.out.lines().skip(1).map(cells).collect()
}

#[test]
fn findings_have_their_severity_fix_and_command() {
    let space = space();
    let ran = audit(&space, &["openssl.json", "linux.json"], &[]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    let id = "CVE-2024-5535 (DEBIAN-CVE-2024-5535)";
    let files = ["openssl.json", "linux.json"].map(|name| format!(" --db {}", space.path().join(name).display()));
    let update = |id: &str| format!("imgbuild update compute --security {id}{}", files.concat());
    let (openssl, linux) = (update("CVE-2024-5535"), update("CVE-2025-0001"));
    let expected = [
        ["high", "compute", "openssl (libssl3)", "3.0.11-1~deb12u2", "3.0.14-1~deb12u1", id, openssl.as_str()],
        ["high", "compute (tools)", "libssl3 (openssl)", "3.0.11-1~deb12u2", "3.0.14-1~deb12u1", id, &openssl],
        ["medium", "compute", "linux-image-6.1.0-30-amd64 (linux)", "6.1.124-1", "6.1.128-1", "CVE-2025-0001", &linux],
    ];
    assert_eq!(rows(&ran), expected.map(|row| row.map(str::to_owned).to_vec()));
    assert!(ran.err.contains("3 findings in 1 image: 2 high, 1 medium"), "{}", ran.err);
    assert!(ran.err.contains("the store lacks 6 packages"), "{}", ran.err);
}

#[test]
fn the_exit_code_is_two_from_a_severity_on() {
    let space = space();
    let code = |databases: &[&str], more: &[&str]| audit(&space, databases, more).code;
    assert_eq!(code(&["linux.json"], &["--fail-on", "medium"]), 2);
    assert_eq!(code(&["linux.json"], &["--fail-on", "high"]), 0);
    // What is exploited always counts.
    space.write(
        "kev.json",
        &json!({"catalogVersion": "1", "vulnerabilities": [{"cveID": "CVE-2025-0001", "dateAdded": "2026-01-02"}]})
            .to_string(),
    );
    let ran = audit(&space, &["linux.json", "kev.json"], &["--fail-on", "critical"]);
    assert_eq!((ran.code, rows(&ran)[0][0].as_str()), (2, "medium, exploited"));
    // The mend is locked.
    space.write("image.lock", &compute("3.0.14-1~deb12u1"));
    let ran = audit(&space, &["openssl.json"], &[]).good();
    assert!(ran.out.is_empty() && ran.err.contains("0 findings in 1 image"), "{}{}", ran.out, ran.err);
    assert_eq!(code(&["linux.json"], &["--fail-on", "nonsense"]), 64);
}

#[test]
fn what_cannot_be_compared_is_an_error_with_its_remedy() {
    let space = space();
    let refused = |databases: &[&str], more: &[&str], problem: &str| {
        let ran = audit(&space, databases, more);
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert!(ran.err.contains(problem) && ran.out.is_empty(), "{problem}: {}{}", ran.err, ran.out);
    };
    refused(&[], &["--offline"], "name a file of advisories with --db");
    space.write("broken.json", "{\"affected\": [\n  3]}");
    refused(&["broken.json"], &[], "broken.json:2:3: not a record of OSV");
    refused(&["nothing.json"], &[], "cannot be opened");
    refused(&["."], &[], "is not a file");
    space.write("page.html", "<html><body>Not found</body></html>");
    refused(&["page.html"], &[], "contains `html` instead of `updates`");
    std::fs::remove_file(space.path().join("image.lock")).unwrap();
    refused(&["openssl.json"], &[], "`imgbuild build compute` or `imgbuild update compute` writes it");
}

#[test]
fn files_about_other_releases_are_named() {
    let space = space();
    space.edit("openssl.json", "Debian:12", "Debian:11");
    let ran = audit(&space, &["openssl.json"], &[]);
    assert!(ran.err.contains("openssl.json (1 record) is about packages and releases of these images"), "{}", ran.err);
    // Nothing was compared: that is no good answer.
    assert!(
        ran.code == 1 && ran.err.contains("`compute` (debian bookworm x86_64): it was compared with nothing"),
        "{}",
        ran.err
    );
}

#[test]
fn each_image_has_to_be_compared_with_something() {
    let space = Space::new();
    space.write("imgbuild.toml", "images = [\"images/*\"]\n");
    space.write("images/compute/image.toml", "[image]\nname = \"compute\"\nrelease = \"bookworm\"\n");
    space.write("images/compute/image.lock", &compute("3.0.14-1~deb12u1"));
    space.write(
        "images/login/image.toml",
        "[image]\nname = \"login\"\ndistro = \"rocky\"\nrelease = \"9\"\n\n[[repo]]\nsource = \"distribution\"\n",
    );
    let passes: &[Pass] = &[("base", &["openssl"], &[("openssl-libs", "1:3.0.7-27.el9", "openssl")])];
    let rocky = lock("rocky 9 x86_64", passes).replace("arch = \"amd64\"", "arch = \"x86_64\"");
    space.write("images/login/image.lock", &rocky);
    space.write("openssl.json", &std::fs::read_to_string(self::space().path().join("openssl.json")).unwrap());
    let ran = audit(&space, &["openssl.json"], &["--json"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    assert_valid("audit", &document);
    let unknown = document["unknown"].as_array().unwrap();
    assert_eq!(unknown.len(), 1, "{unknown:?}");
    assert!(unknown[0].as_str().unwrap().contains("`login` (rocky 9 x86_64): it was compared with nothing"));
    audit(&space, &["openssl.json"], &["compute"]).good();
}

#[test]
fn packages_without_a_known_source_are_not_compared_with_advisories_of_sources() {
    let space = Space::new();
    space.write(
        "image.toml",
        "[image]\nname = \"compute\"\ndistro = \"rocky\"\nrelease = \"9\"\n\n[[repo]]\nsource = \"distribution\"\n",
    );
    let packages = [("openssl-libs", "1:3.0.7-27.el9", "openssl"), ("openssl", "1:3.0.7-28.el9_4", "openssl")];
    let passes: &[Pass] = &[("base", &["openssl"], &packages)];
    let lock = lock("rocky 9 x86_64", passes).replace("arch = \"amd64\"", "arch = \"x86_64\"");
    space.write("image.lock", &lock);
    // The record never names openssl-libs, and the store has no package that says its source.
    let record = json!({ "id": "RLSA-2024:1", "modified": "2026-01-01T00:00:00Z", "affected": [{
        "package": { "ecosystem": "Rocky Linux:9", "name": "openssl" },
        "ranges": [{ "type": "ECOSYSTEM", "events": [{ "introduced": "0" }, { "fixed": "1:3.0.7-28.el9_4" }] }] }] });
    space.write("rocky.json", &record.to_string());
    let ran = audit(&space, &["rocky.json"], &[]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("the sources of 2 packages of `compute` are not known"), "{}", ran.err);
    assert!(ran.err.contains("build or vendor first"), "{}", ran.err);
    // What names packages needs no sources.
    space.write(
        "updateinfo.xml",
        "<updates><update type=\"security\"><id>RLSA-2024:1</id><pkglist><collection><package name=\"openssl-libs\" epoch=\"1\" version=\"3.0.7\" release=\"27.el9\" arch=\"x86_64\"/></collection></pkglist></update></updates>",
    );
    audit(&space, &["updateinfo.xml"], &[]).good();
}

#[test]
fn a_statement_of_the_site_alone_is_nothing_to_compare_with() {
    let space = space();
    let affected = json!({"@context": "https://openvex.dev/ns/v0.2.0", "author": "Anna", "statements": [
        {"vulnerability": "CVE-2025-0001", "products": ["pkg:deb/debian/openssl"], "status": "affected"}]});
    space.write("site.openvex.json", &affected.to_string());
    let ran = audit(&space, &[], &["--offline"]);
    assert!(ran.code == 1 && ran.err.contains("there is nothing to compare with"), "{}", ran.err);
}

#[test]
fn repositories_of_another_release_are_not_asked() {
    let space = space();
    space.edit("image.lock", "debian bookworm x86_64", "debian bullseye x86_64");
    let ran = audit(&space, &[], &[]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    let problem = "`compute` is of debian bullseye x86_64, but its recipe is of debian bookworm x86_64 now";
    assert!(ran.err.contains(problem), "{}", ran.err);
}

#[test]
fn json_fits_its_schema_and_names_lines_of_the_lock() {
    let space = space();
    space.write("epss.csv", "#model_version:v1\ncve,epss,percentile\nCVE-2025-0001,0.25,0.9\n");
    let ran = audit(&space, &["openssl.json", "linux.json", "epss.csv"], &["--json"]);
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    assert_valid("audit", &document);
    assert_eq!(ran.code, 2);
    let lock = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
    for finding in document["findings"].as_array().unwrap() {
        let line = lock.lines().nth(finding["line"].as_u64().unwrap() as usize - 1).unwrap();
        assert!(line.contains(&format!("name = {}", finding["packages"][0])), "{line}: {finding}");
    }
    let kernel = document["findings"].as_array().unwrap().iter().find(|one| one["kind"] == "kernel").unwrap();
    let update: Vec<&str> = kernel["update"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(update[..6], ["imgbuild", "update", "compute", "--security", "CVE-2025-0001", "--db"]);
    assert_eq!(kernel["epss"]["score"], 0.25);
    assert_eq!(document["images"][0]["components"], 6);
    assert!(!ran.out.contains('\u{1b}'));
}

#[test]
fn sarif_has_a_rule_for_each_vulnerability_and_a_place_for_each_result() {
    let space = space();
    let site = json!({"@context": "https://openvex.dev/ns/v0.2.0", "author": "Anna", "statements": [
        {"vulnerability": {"name": "CVE-2025-0001"}, "products": [{"@id": "pkg:deb/debian/linux"}], "status": "not_affected", "impact_statement": "the driver is not built"}]});
    space.write("site.openvex.json", &site.to_string());
    let ran = audit(&space, &["openssl.json", "linux.json"], &["--sarif"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(document["version"], "2.1.0");
    let run = &document["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    assert_eq!(
        rules.iter().map(|rule| rule["id"].as_str().unwrap()).collect::<Vec<_>>(),
        ["CVE-2024-5535", "CVE-2025-0001"]
    );
    let lock = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    for result in results {
        let rule = &rules[result["ruleIndex"].as_u64().unwrap() as usize];
        assert_eq!(rule["id"], result["ruleId"]);
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "image.lock");
        assert!(
            lock.lines().nth(place["region"]["startLine"].as_u64().unwrap() as usize - 1).unwrap().contains("name =")
        );
        let score: f64 = rule["properties"]["security-severity"].as_str().unwrap().parse().unwrap();
        assert!(score > 0.0 && score <= 10.0);
    }
    let suppressed: Vec<&Value> = results.iter().filter(|result| result["suppressions"].is_array()).collect();
    assert_eq!(suppressed.len(), 1);
    assert_eq!(suppressed[0]["suppressions"][0]["justification"], "the driver is not built");
}

#[test]
fn a_statement_of_the_site_silences_a_finding_until_it_ends() {
    let space = space();
    let site = |until: &str| {
        let statement = json!({"vulnerability": "CVE-2024-5535", "products": ["compute"], "status": "not_affected",
            "justification": "component_not_present", "until": until});
        let document =
            json!({"@context": "https://openvex.dev/ns/v0.2.0", "author": "Anna", "statements": [statement]});
        space.write("site.openvex.json", &document.to_string());
    };
    site("2999-01-01");
    let ran = audit(&space, &["openssl.json"], &["-v"]).good();
    assert!(ran.out.contains("component_not_present (Anna, until 2999-01-02T00:00:00Z;"), "{}", ran.out);
    assert!(ran.err.contains("0 findings in 1 image; 2 do not count by a statement"), "{}", ran.err);
    site("2026-01-31");
    let ran = audit(&space, &["openssl.json"], &[]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.err.contains("the statement of Anna on CVE-2024-5535 of openssl ended at 2026-02-01T00:00:00Z"),
        "{}",
        ran.err
    );
}

#[test]
fn variants_and_all_images_of_a_workspace_are_compared() {
    let space = Space::new();
    space.write("imgbuild.toml", "images = [\"images/*\"]\n");
    for (name, openssl) in [("compute", "3.0.11-1~deb12u2"), ("login", "3.0.14-1~deb12u1")] {
        space.write(
            &format!("images/{name}/image.toml"),
            &format!("[image]\nname = \"{name}\"\nrelease = \"bookworm\"\n"),
        );
        space.write(&format!("images/{name}/image.lock"), &compute(openssl));
    }
    space.write("openssl.json", &std::fs::read_to_string(self::space().path().join("openssl.json")).unwrap());
    let ran = audit(&space, &["openssl.json"], &["--json"]);
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(document["images"].as_array().unwrap().len(), 2);
    assert!(document["findings"].as_array().unwrap().iter().all(|finding| finding["image"] == "compute"));
    assert_eq!(audit(&space, &["openssl.json"], &["login"]).code, 0);
}

#[test]
fn nodes_are_audited_by_what_they_boot_and_run() {
    let (space, old) = crate::nodes::nodeset::published();
    space.write("openssl.json", &std::fs::read_to_string(self::space().path().join("openssl.json")).unwrap());
    nodeset(&space, &["cn[001-002]", "compute"]).good();
    let new = publish(&space, "compute", "second");
    nodeset(&space, &["cn002", "compute"]).good();
    // As `pull` writes them beside a build.
    let builds = "images/compute/out/.builds/compute";
    space.write(&format!("{builds}/{old}/image.lock"), &compute("3.0.11-1~deb12u2"));
    space.write(&format!("{builds}/{new}/image.lock"), &compute("3.0.14-1~deb12u1"));
    // What is published and locked plays no part.
    space.write("images/compute/image.lock", &compute("3.0.14-1~deb12u1"));
    let report = json!({"format_version": "1.0", "state": "up", "image": "compute", "build": old, "time": 1});
    space.write(".imgbuild/nodes/reports/cn002.json", &report.to_string());
    let nodes = |range: &str, more: &[&str]| audit(&space, &["openssl.json"], &[&["--nodes", range], more].concat());
    let ran = nodes("cn[001-002]", &["--json"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    assert_valid("audit", &document);
    let images = document["images"].as_array().unwrap();
    let image = |build: &str| images.iter().find(|one| one["build"] == build).unwrap();
    assert_eq!((&image(&old)["boots"], &image(&old)["runs"]), (&json!("cn001"), &json!("cn002")));
    assert_eq!((&image(&new)["boots"], &image(&new)["runs"]), (&json!("cn002"), &Value::Null));
    assert!(document["findings"].as_array().unwrap().iter().all(|finding| finding["build"] == old.as_str()));
    // What they run is known of those that reported, and only if nothing was brought to them since.
    assert!(ran.err.contains("note: cn001 never reported"), "{}", ran.err);
    assert!(!ran.err.contains("imgbuild sync"), "{}", ran.err);
    let synced = json!({"format_version": "1.0", "time": 5});
    space.write(".imgbuild/nodes/synced/cn002.json", &synced.to_string());
    let ran = nodes("cn[001-002]", &[]);
    assert!(ran.err.contains("note: cn002 got files or packages by `imgbuild sync` since the start"), "{}", ran.err);
    // Images are meant by globs, and what means none is refused.
    assert_eq!(nodes("cn[001-002]", &["comp*"]).code, 2);
    let ran = nodes("cn[001-002]", &["computes"]);
    assert!(ran.code == 1 && ran.err.contains("boots or runs an image that `computes` means"), "{}", ran.err);
    // A node without a build, and one whose build went: not knowing is no good answer.
    let ran = nodes("cn003", &[]);
    assert!(ran.code == 1 && ran.err.contains("has not given cn003 a build yet"), "{}", ran.err);
    std::fs::remove_dir_all(space.path().join(format!("{builds}/{old}"))).unwrap();
    let ran = nodes("cn001", &[]);
    assert!(ran.code == 1 && ran.err.contains("which cn001 has, no longer exists"), "{}", ran.err);
    let ran = nodes("cn002", &["--fail-on", "critical"]);
    assert!(ran.code == 1 && ran.err.contains("which cn002 has, no longer exists"), "{}", ran.err);
    // It boots another one the next time: that is no matter of `nodeset`.
    assert!(ran.err.contains("`imgbuild nodes cn002 --needs`") && !ran.err.contains("imgbuild nodeset"), "{}", ran.err);
    // What a node says is no path.
    let report = json!({"format_version": "1.0", "state": "up", "image": "compute", "build": "../../../..", "time": 1});
    space.write(".imgbuild/nodes/reports/cn002.json", &report.to_string());
    assert!(nodes("cn002", &[]).err.contains("which cn002 has, no longer exists"));
}

#[test]
fn files_that_no_package_provides_are_compared_or_named() {
    let space = space();
    space.write("image.lock", &compute("3.0.14-1~deb12u1"));
    space.write(
        "image.toml",
        "[image]\nname = \"compute\"\nrelease = \"bookworm\"\n\n[sync]\nlists = [\"compute.synclist\"]\n\n[postinstall]\nscript = \"post\"\ninputs = [\"in/Flask-2.0.dist-info/METADATA\"]\n",
    );
    space.write("post", "#!/bin/sh\n");
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(space.path().join("post"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let to = "/opt/app/Jinja2-3.1.2.dist-info/METADATA";
    space.write("compute.synclist", &format!("site/Jinja2-3.1.2.dist-info/METADATA -> {to}\nsite/motd -> /etc/motd\n"));
    space.write("site/Jinja2-3.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: Jinja2\nVersion: 3.1.2\n");
    space.write("site/motd", "hello\n");
    space.write("in/Flask-2.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: Flask\nVersion: 2.0\n");
    // Of what could be compared, and was not, is said what to name.
    let ran = audit(&space, &["openssl.json"], &[]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("in files of `compute` were compared with nothing: 2 of PyPI"), "{}", ran.err);
    assert!(ran.err.contains("download PyPI/all.zip from OSV, and name each with --db"), "{}", ran.err);
    let note = "1 file of `compute` that no package provides is compared with nothing (/etc/motd)";
    assert!(ran.err.contains(note), "{}", ran.err);
    let python = |fixed: &str| {
        let record = json!({ "id": "PYSEC-2024-1", "modified": "2026-01-01T00:00:00Z", "aliases": ["CVE-2024-22195"], "affected": [{
            "package": { "ecosystem": "PyPI", "name": "Jinja2" },
            "ranges": [{ "type": "ECOSYSTEM", "events": [{ "introduced": "0" }, { "fixed": fixed }] }] }] });
        space.write("python.json", &record.to_string());
    };
    python("3.1.3");
    let ran = audit(&space, &["openssl.json", "python.json"], &["--json"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    assert_valid("audit", &document);
    let findings = document["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{findings:?}");
    let found = &findings[0];
    assert_eq!(
        (&found["kind"], &found["files"], &found["id"]),
        (&json!("file"), &json!([to]), &json!("CVE-2024-22195"))
    );
    assert_eq!((&found["fixed"], &found["update"], &found["line"]), (&json!("3.1.3"), &Value::Null, &Value::Null));
    let image = &document["images"][0];
    assert_eq!((&image["components"], &image["silent_files"]), (&json!(8), &json!(1)));
    let shown = audit(&space, &["openssl.json", "python.json"], &[]);
    assert!(shown.out.contains(&format!("compute ({to})  jinja2")), "{}", shown.out);
    assert!(shown.out.trim_end().ends_with("  replace the file"), "{}", shown.out);
    let sarif: Value =
        serde_json::from_str(&audit(&space, &["openssl.json", "python.json"], &["--sarif"]).out).unwrap();
    let message = sarif["runs"][0]["results"][0]["message"]["text"].as_str().unwrap();
    assert_eq!(message, format!("jinja2 3.1.2 of compute (in {to}) is mended by 3.1.3: replace the file"));
    // No lock moves it.
    let [one, two] = ["openssl.json", "python.json"].map(|name| space.path().join(name).display().to_string());
    let ran = space.run(&["update", "--security", "--json", "--db", &one, "--db", &two]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    let open = &document["images"][0]["open"][0];
    assert_eq!((&open["reason"], &open["finding"]["files"]), (&json!("file"), &json!([to])));
    // A version that is mended, and packages of a distribution that no file is about.
    python("3.1.2");
    audit(&space, &["openssl.json", "python.json"], &[]).good();
    let ran = audit(&space, &["python.json"], &["--offline"]);
    assert!(ran.code == 1 && ran.err.contains("there is nothing to compare with"), "{}", ran.err);
}
