use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::audit::Subject;
use crate::model::{Kind, SourceFrom};
use crate::{Component, Ecosystem, Finding, Platform, Report, Severity, audit};

const OSV: &str = r#"{"schema_version":"1.7.3","id":"DEBIAN-CVE-2024-5535","modified":"2026-01-01T00:00:00Z","upstream":["CVE-2024-5535"],
 "details":"a buffer overread","severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N"}],
 "affected":[
  {"package":{"ecosystem":"Debian:12","name":"openssl","purl":"pkg:deb/debian/openssl?arch=source"},
   "ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"3.0.14-1~deb12u1"}]}],"ecosystem_specific":{"urgency":"not yet assigned"}},
  {"package":{"ecosystem":"Debian:13","name":"openssl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"3.2.2-1"}]}]},
  {"package":{"ecosystem":"Debian:12","name":"unknown"},"ranges":[{"type":"GIT","repo":"x","events":[{"introduced":"0"}]}]}]}"#;

const TRACKER: &str = r#"{"bash":{"CVE-1999-0001":{"description":"x","releases":{"bookworm":{"status":"open","urgency":"low","repositories":{}}}}},
 "openssl":{
  "CVE-2024-5535":{"releases":{"bookworm":{"status":"resolved","fixed_version":"3.0.14-1~deb12u1","urgency":"high**"},"trixie":{"status":"resolved","fixed_version":"3.2.2-1"}}},
  "CVE-2024-0002":{"releases":{"bookworm":{"status":"resolved","fixed_version":"0","urgency":"unimportant"}}},
  "CVE-2024-0003":{"releases":{"bookworm":{"status":"open","urgency":"unimportant"}}},
  "CVE-2024-0004":{"releases":{"bookworm":{"status":"undetermined"}}},
  "TEMP-0000000-ABCDEF":{"releases":{"bookworm":{"status":"open"}}}}}"#;

const UPDATEINFO: &str = r#"<?xml version="1.0"?><updates>
 <update from="errata@example" type="security"><id>RLSA-2024:2570</id><title>Important: gnutls security update</title><severity>Important</severity>
  <references><reference type="cve" id="CVE-2024-28834" href=""/><reference type="cve" id="CVE-2024-28835"/></references>
  <pkglist><collection><name>BaseOS</name>
   <package name="gnutls" epoch="0" version="3.8.3" release="4.el9_4" arch="x86_64" src="gnutls-3.8.3-4.el9_4.src.rpm"><filename>x.rpm</filename></package>
   <package name="gnutls" version="3.8.3" release="4.el9_4" arch="aarch64"/></collection></pkglist></update>
 <update type="bugfix"><id>RLBA-1</id><pkglist><collection><package name="gnutls" version="9" release="1.el9" arch="x86_64"/></collection></pkglist></update>
 <update type="security"><id>RLSA-2024:9999</id><title>nodejs</title><severity>Moderate</severity>
  <pkglist><collection><module name="nodejs" stream="20" version="9040" context="rhel9" arch="x86_64"/>
   <package name="nodejs" epoch="1" version="20.18.2" release="1.module+el9.4.0+1" arch="x86_64"/></collection></pkglist></update></updates>"#;

const CSAF: &str = r#"{"document":{"category":"csaf_vex","title":"openssl: x","publisher":{"name":"Red Hat Product Security"},"tracking":{"id":"CVE-2024-7777"},
  "aggregate_severity":{"text":"low"}},
 "product_tree":{"branches":[{"branches":[
   {"product":{"name":"Red Hat Enterprise Linux BaseOS (v. 9)","product_id":"BaseOS-9.4.0.Z.MAIN","product_identification_helper":{"cpe":"cpe:/o:redhat:enterprise_linux:9::baseos"}}},
   {"product":{"name":"Red Hat Enterprise Linux 8","product_id":"rhel8","product_identification_helper":{"cpe":"cpe:/o:redhat:enterprise_linux:8"}}},
   {"product":{"name":"openssl-libs-1:3.0.7-28.el9_4.x86_64","product_id":"openssl-libs-1:3.0.7-28.el9_4.x86_64","product_identification_helper":{"purl":"pkg:rpm/redhat/openssl-libs@3.0.7-28.el9_4?arch=x86_64&epoch=1"}}},
   {"product":{"name":"openssl-1:3.0.7-28.el9_4.src","product_id":"src"}},
   {"product":{"name":"gnutls","product_id":"gnutls","product_identification_helper":{"purl":"pkg:rpm/redhat/gnutls?arch=src"}}},
   {"product":{"name":"bash","product_id":"bash","product_identification_helper":{"purl":"pkg:rpm/redhat/bash?arch=src"}}}]}],
  "relationships":[
   {"category":"default_component_of","full_product_name":{"name":"x","product_id":"BaseOS:libs"},"product_reference":"openssl-libs-1:3.0.7-28.el9_4.x86_64","relates_to_product_reference":"BaseOS-9.4.0.Z.MAIN"},
   {"category":"default_component_of","full_product_name":{"name":"x","product_id":"BaseOS:src"},"product_reference":"src","relates_to_product_reference":"BaseOS-9.4.0.Z.MAIN"},
   {"category":"default_component_of","full_product_name":{"name":"x","product_id":"rhel9:gnutls"},"product_reference":"gnutls","relates_to_product_reference":"BaseOS-9.4.0.Z.MAIN"},
   {"category":"default_component_of","full_product_name":{"name":"x","product_id":"rhel8:bash"},"product_reference":"bash","relates_to_product_reference":"rhel8"},
   {"category":"default_component_of","full_product_name":{"name":"x","product_id":"rhel9:bash"},"product_reference":"bash","relates_to_product_reference":"BaseOS-9.4.0.Z.MAIN"}]},
 "vulnerabilities":[{"cve":"CVE-2024-7777","product_status":{"fixed":["BaseOS:libs","BaseOS:src"],"known_affected":["rhel9:gnutls","rhel8:bash"],"known_not_affected":["rhel9:bash"]},
  "scores":[{"products":["BaseOS:libs"],"cvss_v3":{"baseScore":9.8}}],"threats":[{"category":"impact","details":"Moderate"}],
  "flags":[{"label":"vulnerable_code_not_present","product_ids":["rhel9:bash"]}]}]}"#;

const VEX: &str = r#"{"@context":"https://openvex.dev/ns/v0.2.0","@id":"site","author":"Anna Admin","timestamp":"2026-01-01T00:00:00Z","version":1,"statements":[
 {"vulnerability":{"name":"CVE-2024-5535"},"products":[{"@id":"pkg:deb/debian/openssl"}],"status":"not_affected","justification":"vulnerable_code_not_in_execute_path","until":"2026-12-31"}]}"#;

fn component(name: &str, version: &str, arch: &str, source: (&str, &str)) -> Component {
    let source = (source.0.to_owned(), source.1.to_owned());
    let (name, version, arch) = (name.to_owned(), version.to_owned(), arch.to_owned());
    Component {
        kind: Kind::Package,
        ecosystem: Ecosystem::Distribution,
        file: String::new(),
        pass: "base".to_owned(),
        name,
        version,
        arch,
        source,
        source_from: SourceFrom::Package,
    }
}

fn debian() -> Subject {
    Subject {
        image: "compute".to_owned(),
        platform: Platform::of_target("debian bookworm x86_64").unwrap(),
        modules: None,
        components: vec![
            component("libssl3", "3.0.11-1~deb12u2", "amd64", ("openssl", "3.0.11-1~deb12u2")),
            component("openssl", "3.0.11-1~deb12u2", "amd64", ("openssl", "3.0.11-1~deb12u2")),
        ],
    }
}

fn rpm(target: &str) -> Subject {
    Subject {
        image: "compute".to_owned(),
        platform: Platform::of_target(target).unwrap(),
        modules: None,
        components: vec![
            component("gnutls", "3.8.3-1.el9", "x86_64", ("gnutls", "3.8.3-1.el9")),
            component("openssl-libs", "1:3.0.7-27.el9", "x86_64", ("openssl", "1:3.0.7-27.el9")),
            component("bash", "5.1.8-9.el9", "x86_64", ("bash", "5.1.8-9.el9")),
            component("nodejs", "1:18.20.4-1.module+el9.4.0+1", "x86_64", ("nodejs", "1:18.20.4-1.module+el9.4.0+1")),
        ],
    }
}

fn report(subject: &Subject, texts: &[&str], day: &str) -> Report {
    let mut database = Database::about(&subject.components);
    for (at, text) in texts.iter().enumerate() {
        database.read(&format!("db{at}"), Cursor::new(text.as_bytes().to_vec())).unwrap();
    }
    audit(&database, std::slice::from_ref(subject), format!("{day}T00:00:00Z").parse().unwrap())
}

/// Vulnerability, packages, fix and severity of each.
fn shown(findings: &[Finding]) -> Vec<String> {
    let line = |one: &Finding| {
        let fix = one.fixed.as_deref().unwrap_or("-");
        format!("{} {} {fix} {}", one.id.as_deref().unwrap_or("-"), one.packages.join(","), one.severity.name())
    };
    findings.iter().map(line).collect()
}

#[test]
fn osv_is_by_source_and_release() {
    let found = report(&debian(), &[OSV], "2026-06-01");
    assert_eq!(shown(&found.findings), ["CVE-2024-5535 libssl3,openssl 3.0.14-1~deb12u1 high"]);
    assert_eq!(found.findings[0].advisories, ["DEBIAN-CVE-2024-5535"]);
    let withdrawn = OSV.replace("\"upstream\"", "\"withdrawn\":\"2026-01-02T00:00:00Z\",\"upstream\"");
    assert!(report(&debian(), &[&withdrawn], "2026-06-01").findings.is_empty());
    let mut other = debian();
    other.platform = Platform::of_target("debian bullseye x86_64").unwrap();
    assert!(report(&other, &[OSV], "2026-06-01").findings.is_empty());
}

#[test]
fn the_tracker_has_a_fix_for_each_release_and_zero_means_never() {
    let found = report(&debian(), &[TRACKER], "2026-06-01");
    assert_eq!(
        shown(&found.findings),
        ["CVE-2024-5535 libssl3,openssl 3.0.14-1~deb12u1 high", "CVE-2024-0003 libssl3,openssl - negligible"]
    );
    assert_eq!(found.databases[0].records, 6);
    // Two files with the same vulnerability are one finding.
    let both = report(&debian(), &[TRACKER, OSV], "2026-06-01");
    assert_eq!((both.findings.len(), both.findings[0].databases.len()), (2, 2));
}

#[test]
fn updateinfo_is_by_package_and_stream() {
    let found = report(&rpm("rocky 9 x86_64"), &[UPDATEINFO], "2026-06-01");
    assert_eq!(
        shown(&found.findings),
        [
            "CVE-2024-28834 gnutls 3.8.3-4.el9_4 high",
            "CVE-2024-28835 gnutls 3.8.3-4.el9_4 high",
            "RLSA-2024:9999 nodejs 1:20.18.2-1.module+el9.4.0+1 medium"
        ]
    );
    let mut subject = rpm("rocky 9 x86_64");
    subject.modules = Some(vec!["nodejs:18".to_owned()]);
    assert_eq!(report(&subject, &[UPDATEINFO], "2026-06-01").findings.len(), 2);
    subject.modules = Some(vec!["nodejs:20".to_owned()]);
    assert_eq!(report(&subject, &[UPDATEINFO], "2026-06-01").findings.len(), 3);
    // A package of no module is not mended by one of a module, nor one of release 8 by one of 9.
    subject.components[3].version = "1:18.20.4-1.el9".to_owned();
    subject.components[0].version = "3.6.16-8.el8".to_owned();
    assert!(report(&subject, &[UPDATEINFO], "2026-06-01").findings.is_empty());
}

#[test]
fn csaf_has_fixed_affected_and_sound_products_of_each_platform() {
    let found = report(&rpm("rhel 9 x86_64"), &[CSAF], "2026-06-01");
    assert_eq!(
        shown(&found.findings),
        ["CVE-2024-7777 gnutls - medium", "CVE-2024-7777 openssl-libs 1:3.0.7-28.el9_4 medium"]
    );
    assert!(report(&rpm("rocky 9 x86_64"), &[CSAF], "2026-06-01").findings.is_empty());
    // What another file says of bash does not count: its vendor says why.
    let osv = r#"{"id":"RHSA-2024:1","modified":"","related":["CVE-2024-7777"],"affected":[{"package":{"ecosystem":"Red Hat:enterprise_linux:9::baseos","name":"bash"},
      "ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"5.1.8-10.el9"}]}]}]}"#;
    assert_eq!(report(&rpm("rhel 9 x86_64"), &[osv], "2026-06-01").findings.len(), 1);
    let both = report(&rpm("rhel 9 x86_64"), &[osv, CSAF], "2026-06-01");
    assert_eq!((both.findings.len(), both.silenced.len()), (2, 1));
    assert_eq!(both.silenced[0].reason, "vulnerable_code_not_present");
    assert_eq!(both.silenced[0].author, "Red Hat Product Security");
}

/// Packages of two streams of a module, and one outside of modules; all of them with unfixed vulnerabilities.
const STREAMS: &str = r#"{"document":{"title":"nodejs","publisher":{"name":"Vendor"},"tracking":{"id":"CVE-2025-1"}},
 "product_tree":{"branches":[
   {"product":{"name":"RHEL 9","product_id":"rhel9","product_identification_helper":{"cpe":"cpe:/o:redhat:enterprise_linux:9"}}},
   {"product":{"name":"nodejs:18/nodejs","product_id":"eighteen","product_identification_helper":{"purl":"pkg:rpmmod/redhat/nodejs:18/nodejs"}}},
   {"product":{"name":"nodejs","product_id":"twenty","product_identification_helper":{"purl":"pkg:rpm/redhat/nodejs?arch=src&rpmmod=nodejs:20"}}},
   {"product":{"name":"nodejs:22/nodejs","product_id":"twentytwo"}},
   {"product":{"name":"nodejs-1:20.9.0-1.module+el9.src","product_id":"mended","product_identification_helper":{"purl":"pkg:rpm/redhat/nodejs@20.9.0-1.module+el9?arch=src&epoch=1&rpmmod=nodejs:20"}}},
   {"product":{"name":"nodejs","product_id":"plain","product_identification_helper":{"purl":"pkg:rpm/redhat/nodejs?arch=src"}}}],
  "relationships":[
   {"full_product_name":{"product_id":"r18"},"product_reference":"eighteen","relates_to_product_reference":"rhel9"},
   {"full_product_name":{"product_id":"r20"},"product_reference":"twenty","relates_to_product_reference":"rhel9"},
   {"full_product_name":{"product_id":"r22"},"product_reference":"twentytwo","relates_to_product_reference":"rhel9"},
   {"full_product_name":{"product_id":"rmended"},"product_reference":"mended","relates_to_product_reference":"rhel9"},
   {"full_product_name":{"product_id":"rplain"},"product_reference":"plain","relates_to_product_reference":"rhel9"}]},
 "vulnerabilities":[{"cve":"CVE-2025-1","product_status":{"known_affected":[AFFECTED],"known_not_affected":[SOUND],"fixed":[FIXED]}}]}"#;

#[test]
fn what_csaf_says_of_a_stream_counts_for_no_other() {
    let says = |affected: &str, sound: &str, fixed: &str| {
        let text = STREAMS.replace("AFFECTED", affected).replace("SOUND", sound);
        text.replace("FIXED", fixed)
    };
    let with = |version: &str, stream: Option<&str>| {
        let mut subject = rpm("rhel 9 x86_64");
        subject.modules = Some(stream.into_iter().map(str::to_owned).collect());
        subject.components = vec![component("nodejs", version, "x86_64", ("nodejs", version))];
        subject
    };
    let (eighteen, twenty) = ("1:18.20.4-1.module+el9.4.0+1", "1:20.1.0-1.module+el9.4.0+1");
    let count = |subject: &Subject, text: &str| report(subject, &[text], "2026-06-01").findings.len();
    for (stream, id) in [("nodejs:18", "r18"), ("nodejs:20", "r20"), ("nodejs:22", "r22")] {
        let text = says(&format!("\"{id}\""), "", "");
        for own in ["nodejs:18", "nodejs:20", "nodejs:22"] {
            assert_eq!(count(&with(twenty, Some(own)), &text), usize::from(own == stream), "{id} {own}");
        }
    }
    // A fix in stream 20 does not count in 18.
    let text = says("\"r18\",\"r20\"", "", "\"rmended\"");
    let found = report(&with(eighteen, Some("nodejs:18")), &[&text], "2026-06-01").findings;
    assert_eq!(shown(&found), ["CVE-2025-1 nodejs - unknown"]);
    let found = report(&with(twenty, Some("nodejs:20")), &[&text], "2026-06-01").findings;
    assert_eq!(shown(&found), ["CVE-2025-1 nodejs 1:20.9.0-1.module+el9 unknown"]);
    // What is sound in one stream silences nothing in another, nor where the stream is not known.
    let osv = r#"{"id":"RHSA-2025:1","modified":"","related":["CVE-2025-1"],"affected":[{"package":{"ecosystem":"Red Hat:enterprise_linux:9","name":"nodejs"},
      "ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}]}]}"#;
    for (sound, version, stream, left) in [
        ("r18", eighteen, Some("nodejs:18"), 0),
        ("r18", twenty, Some("nodejs:20"), 1),
        ("r18", twenty, None, 1),
        ("rplain", twenty, Some("nodejs:20"), 1),
        ("rplain", "1:16.20.2-8.el9", None, 0),
    ] {
        let vex = says("", &format!("\"{sound}\""), "");
        let found = report(&with(version, stream), &[osv, &vex], "2026-06-01");
        assert_eq!(found.findings.len(), left, "{sound} {version} {stream:?}");
    }
}

#[test]
fn a_vector_that_is_not_computed_counts_as_high() {
    let of = |rating: &str| {
        let text = OSV.replace(r#"{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N"}"#, rating);
        report(&debian(), &[&text], "2026-06-01").findings[0].severity
    };
    let four = r#"{"type":"CVSS_V4","score":"CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:L/VI:N/VA:N/SC:N/SI:N/SA:N"}"#;
    assert_eq!(of(four), Severity::High);
    assert_eq!(of(&format!(r#"{four},{{"type":"CVSS_V3","score":3.1}}"#)), Severity::Low);
    assert_eq!(of(&format!(r#"{four},{{"type":"Ubuntu","score":"medium"}}"#)), Severity::Medium);
    assert_eq!(of(""), Severity::Unknown);
    let csaf = CSAF.replace("\"Moderate\"", "\"-\"").replace(r#""aggregate_severity":{"text":"low"}"#, r#""notes":[]"#);
    let csaf = csaf.replace(r#""cvss_v3":{"baseScore":9.8}"#, r#""cvss_v4":{"baseScore":1.0}"#);
    let found = report(&rpm("rhel 9 x86_64"), &[&csaf], "2026-06-01").findings;
    assert!(!found.is_empty() && found.iter().all(|one| one.severity == Severity::High), "{found:?}");
}

#[test]
fn what_was_compared_with_nothing_is_known() {
    let compared = |subjects: &[Subject], text: &str| {
        let mut database = Database::about(subjects.iter().flat_map(|one| &one.components));
        database.read("db", Cursor::new(text.as_bytes().to_vec())).unwrap();
        let sources = (database.has_advisories(), database.names_sources());
        let found = audit(&database, subjects, "2026-06-01T00:00:00Z".parse().unwrap());
        (found.compared.into_iter().collect::<Vec<_>>(), sources)
    };
    let both = [debian(), rpm("rocky 9 x86_64")];
    assert_eq!(compared(&both, OSV), (vec![0], (true, true)));
    assert_eq!(compared(&both, UPDATEINFO).1, (true, false));
    // One that is sound was compared.
    let mut sound = debian();
    sound.components = vec![component("openssl", "3.0.14-1~deb12u1", "amd64", ("openssl", "3.0.14-1~deb12u1"))];
    assert_eq!(compared(&[sound], OSV).0, [0]);
    // The site's own statements say nothing of all versions.
    let affected = VEX.replace("not_affected", "affected");
    assert_eq!(compared(&[debian()], &affected), (vec![], (false, false)));
}

#[test]
fn a_statement_of_the_site_counts_until_its_day_has_ended() {
    let found = report(&debian(), &[OSV, VEX], "2026-12-31");
    assert!(found.findings.is_empty() && found.expired.is_empty());
    let silenced = &found.silenced[0];
    assert_eq!(
        (silenced.author.as_str(), silenced.reason.as_str()),
        ("Anna Admin", "vulnerable_code_not_in_execute_path")
    );
    let found = report(&debian(), &[OSV, VEX], "2027-01-01");
    assert_eq!((found.findings.len(), found.silenced.len(), found.expired.len()), (1, 0, 1));
    assert_eq!(found.expired[0].until.to_string(), "2027-01-01T00:00:00Z");
}

#[test]
fn a_statement_is_about_what_it_names_alone() {
    let about = |product: &str| {
        let vex = VEX.replace(r#"{"@id":"pkg:deb/debian/openssl"}"#, product);
        let found = report(&debian(), &[OSV, &vex], "2026-06-01");
        found.findings.iter().flat_map(|one| one.packages.clone()).collect::<Vec<_>>().join(",")
    };
    for silences_all in [
        r#"{"@id":"pkg:deb/debian/openssl@3.0.11-1~deb12u2?arch=source&distro=debian-12"}"#,
        r#"{"@id":"compute"}"#,
        r#"{"@id":"pkg:oci/compute","subcomponents":[{"@id":"pkg:deb/debian/openssl"}]}"#,
        r#""compute""#,
    ] {
        assert_eq!(about(silences_all), "", "{silences_all}");
    }
    assert_eq!(about(r#"{"@id":"pkg:deb/debian/libssl3"}"#), "openssl");
    for silences_none in [
        r#"{"@id":"pkg:deb/debian/openssl@3.0.9-1"}"#,
        r#"{"@id":"pkg:deb/debian/openssl?distro=debian-11"}"#,
        r#"{"@id":"pkg:deb/ubuntu/openssl"}"#,
        r#"{"@id":"pkg:rpm/redhat/openssl"}"#,
        r#"{"@id":"login"}"#,
        r#"{"@id":"compute","subcomponents":[{"@id":"pkg:deb/debian/bash"}]}"#,
    ] {
        assert_eq!(about(silences_none), "libssl3,openssl", "{silences_none}");
    }
    // What is mended in no version that is named, is mended in all or in none: that silences nothing.
    let fixed = |product: &str| {
        let vex = VEX.replace(r#"{"@id":"pkg:deb/debian/openssl"}"#, product).replace("not_affected", "fixed");
        report(&debian(), &[OSV, &vex], "2026-06-01").findings.len()
    };
    assert_eq!(fixed(r#"{"@id":"pkg:deb/debian/openssl@3.0.11-1~deb12u2?arch=source"}"#), 0);
    assert_eq!(fixed(r#"{"@id":"compute","subcomponents":["pkg:deb/debian/openssl@3.0.11-1~deb12u2"]}"#), 0);
    for without_version in [r#""pkg:deb/debian/openssl""#, r#""compute""#, r#""pkg:deb/debian/openssl@3.0.14-1""#] {
        assert_eq!(fixed(without_version), 1, "{without_version}");
    }
    // The last word counts.
    let taken_back = VEX.replace("2026-01-01", "2026-02-01").replace("not_affected", "under_investigation");
    assert_eq!(report(&debian(), &[OSV, VEX, &taken_back], "2026-06-01").findings.len(), 1);
}

#[test]
fn a_statement_without_reason_author_or_product_is_refused() {
    for (from, to, problem) in [
        (r#","justification":"vulnerable_code_not_in_execute_path""#, "", "has no reason"),
        ("Anna Admin", "", "does not say who"),
        (r#"{"@id":"pkg:deb/debian/openssl"}"#, "", "names no product"),
        ("pkg:deb/debian/openssl", "pkg:openssl", "not a package URL"),
        ("pkg:deb/debian/openssl", "pkg:oci/compute@sha256:00ff", "one version of an image"),
        ("pkg:deb/debian/openssl", "pkg:oci/compute?tag=1", "one version of an image"),
        ("2026-12-31", "next year", "a date or a time was expected"),
        ("not_affected", "harmless", "has the status `harmless`"),
        (r#""name":"CVE-2024-5535""#, "", "names no vulnerability"),
    ] {
        let error = Database::of_text(&[], &VEX.replace(from, to)).unwrap_err();
        assert!(error.problem.contains(problem) && error.problem.starts_with("statement 1"), "{error}");
    }
}

#[test]
fn exploited_vulnerabilities_come_first() {
    let kev = r#"{"title":"x","catalogVersion":"2026.01.01","vulnerabilities":[{"cveID":"CVE-2024-0003","dateAdded":"2026-01-02","dueDate":"2026-01-20","knownRansomwareCampaignUse":"Known"}]}"#;
    let epss = "#model_version:v2025,score_date:2026-01-01\ncve,epss,percentile\nCVE-2024-5535,0.5,0.97\n";
    let found = report(&debian(), &[TRACKER, kev, epss], "2026-06-01");
    let first = &found.findings[0];
    assert_eq!((first.id.as_deref(), first.exploited.as_ref().unwrap().ransomware), (Some("CVE-2024-0003"), true));
    assert_eq!(found.findings[1].epss.unwrap().percentile, 0.97);
    assert_eq!(found.databases.iter().map(|one| one.records).collect::<Vec<_>>(), [6, 1, 1]);
}

#[test]
fn backports_are_of_the_release_after() {
    let mut subject = debian();
    let version = "3.2.2-1~bpo12+1";
    subject.components = vec![component("libssl3", version, "amd64", ("openssl", version))];
    // Fixed in 3.2.2-1 of trixie, before which the backport's own number sorts.
    assert!(report(&subject, &[TRACKER], "2026-06-01").findings.is_empty());
    subject.components[0].source.1 = "3.2.1-3~bpo12+1".to_owned();
    assert_eq!(shown(&report(&subject, &[TRACKER], "2026-06-01").findings), ["CVE-2024-5535 libssl3 3.2.2-1 unknown"]);
}

#[test]
fn headers_do_not_have_the_vulnerabilities_of_the_kernel() {
    let mut subject = debian();
    let names = ["linux-image-6.1.0-30-amd64", "linux-libc-dev", "linux-headers-6.1.0-30-common"];
    subject.components = names.map(|name| component(name, "6.1.124-1", "amd64", ("linux", "6.1.124-1"))).to_vec();
    let text = TRACKER.replace("\"openssl\"", "\"linux\"").replace("3.0.14-1~deb12u1", "6.1.128-1");
    let found = report(&subject, &[&text], "2026-06-01");
    assert!(found.findings.iter().all(|one| one.packages == ["linux-image-6.1.0-30-amd64"]), "{:?}", found.findings);
    assert_eq!(found.findings.len(), 2);
}

#[test]
fn zips_have_a_record_a_member_and_an_error_names_it() {
    let zip = zip::written;
    let subject = debian();
    let mut database = Database::about(&subject.components);
    database.read("all.zip", Cursor::new(zip(&[("a.json", OSV), ("b.json", OSV)]))).unwrap();
    assert_eq!((database.loaded.len(), database.loaded[0].records), (1, 2));
    let error = database
        .read("all.zip", Cursor::new(zip(&[("a.json", OSV), ("b.json", "{\"id\": 1,\n \"affected\": []}")])))
        .unwrap_err();
    assert_eq!((error.file.as_str(), error.place.as_str()), ("all.zip: b.json", ":1:8"));
    assert!(error.problem.contains("OSV"), "{error}");
    let whole = zip(&[("a.json", OSV)]);
    assert!(Database::default().read("x", Cursor::new(whole[..whole.len() / 2].to_vec())).is_err());
    assert!(Database::default().read("x", Cursor::new(zip(&[]))).unwrap_err().problem.contains("without files"));
}

#[test]
fn what_is_nothing_known_is_refused_with_its_place() {
    for (text, place, problem) in [
        ("", "", "is empty"),
        ("hello", "", "is not a file of advisories"),
        ("{\"a\": [1,}", ":1:", "not JSON that can be read"),
        ("{}", "", "has no vulnerabilities"),
        ("{\"openssl\": {\"CVE-1\": {\"releases\": 3}}}", ":1:", "Debian's security tracker"),
        ("{\"bash\": 3}", ":1:", "Debian's security tracker"),
        ("<html></html>", "", "contains `html` instead of `updates`"),
        ("<updates><update>", "", "it ends within `update`"),
        ("<!DOCTYPE a [<!ENTITY b \"c\">]><updates/>", "", "DOCTYPE"),
        ("cve,epss,percentile\nCVE-1,2,0.5\n", ":2", "is not a line of EPSS"),
        ("{\"document\":{},\"vulnerabilities\":[{}]}", "", "without `cve`"),
        ("{\"document\":{},\"vulnerabilities\":[{\"cve\":3}]}", ":1:", "CSAF"),
        ("{\"id\":\"a b\",\"affected\":[]}", "", "not a name"),
    ] {
        let error = Database::of_text(&["openssl"], text).unwrap_err();
        let is_place = error.place.starts_with(place) && error.place.is_empty() == place.is_empty();
        assert!(error.problem.contains(problem) && is_place, "{text}: {error}");
    }
    let deep = format!("{{\"id\":\"x\",\"affected\":[],\"database_specific\":{}1", "[".repeat(100_000));
    assert!(Database::of_text(&[], &deep).is_err());
    let deep = format!("<updates>{}", "<a>".repeat(100_000));
    assert!(Database::of_text(&[], &deep).is_err());
}

#[test]
fn files_in_bzip2_are_read() {
    use std::io::Write;
    let mut bzip = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
    bzip.write_all(UPDATEINFO.as_bytes()).unwrap();
    let mut database = Database::about(&rpm("rocky 9 x86_64").components);
    database.read("updateinfo.xml.bz2", Cursor::new(bzip.finish().unwrap())).unwrap();
    assert_eq!((database.loaded[0].kind.as_str(), database.loaded[0].records), ("updateinfo", 3));
    assert!(Database::default().read("x", Cursor::new(b"BZh9 no".to_vec())).is_err());
}

#[test]
fn what_is_kept_has_a_limit() {
    // Small in a compressed file, and all in one list.
    let entries = "0,".repeat(few::MOST_ENTRIES);
    for text in [
        format!(r#"{{"id":"a","affected":[],"aliases":[{}"x"]}}"#, r#""x","#.repeat(few::MOST_ENTRIES)),
        format!(r#"{{"document":{{}},"product_tree":{{"branches":[{}{{}}]}}}}"#, "{},".repeat(few::MOST_ENTRIES)),
        format!(
            r#"{{"@context":"","statements":[{{"vulnerability":"x","status":"","products":[{}""]}}]}}"#,
            "\"\",".repeat(few::MOST_ENTRIES)
        ),
        format!(
            r#"{{"catalogVersion":"","vulnerabilities":[{}{{"cveID":""}}]}}"#,
            r#"{"cveID":""},"#.repeat(few::MOST_ENTRIES)
        ),
    ] {
        let error = Database::of_text(&[], &text).unwrap_err();
        assert!(error.problem.contains("more than 1000000 entries"), "{error}");
    }
    // What is not used is passed over.
    let text =
        format!(r#"{{"id":"a","affected":[],"database_specific":{{"severity":[{entries}0],"other":[{entries}0]}}}}"#);
    assert!(Database::of_text(&[], &text).is_ok());
    let long = format!(r#"{{"id":"a","affected":[],"other":"{}"}}"#, " ".repeat(LONGEST_MEMBER as usize));
    assert!(Database::of_text(&[], &long).unwrap_err().problem.contains("the limit of such a document"));
    let names: Vec<String> = (0..=MOST_VULNERABILITIES).map(|number| format!("\"CVE-1-{number}\"")).collect();
    let text = OSV.replace(r#""CVE-2024-5535""#, &names.join(","));
    assert!(Database::of_text(&["openssl"], &text).unwrap_err().problem.contains("on more than 10000 vulnerabilities"));
    let reference = r#"<reference id="CVE-1-1"/>"#.repeat(100_001);
    let text = format!("<updates><update type=\"security\"><id>a</id>{reference}</update></updates>");
    assert!(Database::of_text(&[], &text).unwrap_err().problem.contains("references in the update `a`"));
    // All that is kept counts: versions of a package and lines of EPSS, too.
    let versions: Vec<String> = (0..100).map(|number| format!("\"{number}\"")).collect();
    let ranges = r#""ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"3.0.14-1~deb12u1"}]}],"ecosystem_specific""#;
    let text = OSV.replace(ranges, &format!("\"versions\":[{}],\"ecosystem_specific\"", versions.join(",")));
    let kept = |text: &str| Database::of_text(&["openssl"], text).unwrap().kept;
    assert_eq!(kept(&text) - kept(OSV), 100 - 3);
    // Versions that the ranges have are not kept twice.
    let twice = OSV.replace("\"ecosystem_specific\"", "\"versions\":[\"1\",\"2\"],\"ecosystem_specific\"");
    assert_eq!(kept(&twice), kept(OSV));
    let mut full = Database { kept: MOST_KEPT, ..Database::default() };
    let error = full.read("db", Cursor::new(b"cve,epss,percentile\nCVE-1,0,0\n".to_vec())).unwrap_err();
    assert!(error.problem.contains("than is kept"), "{error}");
    let mut full = Database { kept: MOST_KEPT, wanted: ["gnutls".to_owned()].into(), ..Database::default() };
    assert!(full.read("db", Cursor::new(UPDATEINFO.as_bytes().to_vec())).unwrap_err().problem.contains("than is kept"));
    let mut full = Database { kept: MOST_KEPT, wanted: ["openssl".to_owned()].into(), ..Database::default() };
    assert!(full.read("db", Cursor::new(TRACKER.as_bytes().to_vec())).unwrap_err().problem.contains("than is kept"));
}

#[test]
fn more_than_is_read_is_refused() {
    assert!(bounded(Cursor::new(vec![b' '; 11]), 10).unwrap_err().contains("more than 10 bytes"));
    assert_eq!(bounded(Cursor::new(vec![b' '; 10]), 10).unwrap().len(), 10);
    assert_eq!(title(&"é".repeat(400)).chars().count(), LONGEST_TEXT + 2);
    assert_eq!(cut("a\n \u{1b}b", 9), "a \u{1b}b");
}

/// A sound text in which bytes were changed, taken out or put in.
fn broken(text: &'static str) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, any::<u8>()), 1..8).prop_map(move |edits| {
        let mut bytes = text.as_bytes().to_vec();
        for (index, kind, byte) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = index.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, byte),
                _ => bytes.truncate(at.max(1)),
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_reader_panics(
        osv in broken(OSV), tracker in broken(TRACKER), info in broken(UPDATEINFO), csaf in broken(CSAF), vex in broken(VEX)
    ) {
        for (subject, bytes) in [(debian(), osv), (debian(), tracker), (rpm("rocky 9 x86_64"), info), (rpm("rhel 9 x86_64"), csaf), (debian(), vex)] {
            let mut database = Database::about(&subject.components);
            let _ = database.read("db", Cursor::new(bytes));
            let _ = audit(&database, std::slice::from_ref(&subject), "2026-06-01T00:00:00Z".parse().unwrap());
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0..4_usize) {
        let start: &[u8] = [&b"PK\x03\x04"[..], b"\x1f\x8b\x08", b"{\"affected\":", b""][kind];
        let _ = Database::default().read("db", Cursor::new([start, &bytes].concat()));
    }
}

/// A record on a module of Go and a package of Python.
const LANGUAGES: &str = r#"{"schema_version":"1.7.3","id":"GO-2023-2102","modified":"2026-01-01T00:00:00Z","aliases":["CVE-2023-39325"],"affected":[
 {"package":{"ecosystem":"Go","name":"golang.org/x/net"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"0.17.0"}]}]},
 {"package":{"ecosystem":"PyPI","name":"Some_Package"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"1.10"}]}]}]}"#;

fn part(ecosystem: Ecosystem, name: &str, version: &str) -> Component {
    let file = "/opt/bin/tool".to_owned();
    let kind = Kind::File;
    Component { kind, ecosystem, file, pass: String::new(), ..component(name, version, "", (name, version)) }
}

#[test]
fn parts_of_files_are_compared_with_what_is_said_of_their_language() {
    let with = |parts: &[Component]| Subject { components: [&debian().components[..], parts].concat(), ..debian() };
    let old = [part(Ecosystem::Go, "golang.org/x/net", "0.9.0"), part(Ecosystem::PyPi, "some-package", "1.9")];
    let found = report(&with(&old), &[LANGUAGES], "2026-06-01");
    let all: Vec<_> = found.findings.iter().map(|one| (one.source.as_str(), one.fixed.as_deref())).collect();
    assert_eq!(all, [("golang.org/x/net", Some("0.17.0")), ("some-package", Some("1.10"))]);
    assert_eq!((found.findings[0].kind, &found.findings[0].files[..]), (Kind::File, &["/opt/bin/tool".to_owned()][..]));
    // The distribution's packages were compared with nothing.
    assert!(found.compared.is_empty());
    let new = [part(Ecosystem::Go, "golang.org/x/net", "0.17.0"), part(Ecosystem::PyPi, "some-package", "1.10.0")];
    assert_eq!(report(&with(&new), &[LANGUAGES], "2026-06-01").findings, []);
    // Packages of other makers with the name.
    let other =
        [part(Ecosystem::CratesIo, "golang.org/x/net", "0.9.0"), component("some-package", "1.9", "", ("x", "1"))];
    assert_eq!(report(&with(&other), &[LANGUAGES], "2026-06-01").findings, []);
    let mut database = Database::about(&old);
    database.read("db", Cursor::new(LANGUAGES.as_bytes().to_vec())).unwrap();
    assert!(database.has_language(Ecosystem::Go) && !database.has_language(Ecosystem::CratesIo));
    assert!(!database.has_advisories() && !database.names_sources());
}

#[test]
fn a_statement_on_a_name_of_another_kind_says_nothing() {
    let silenced = |product: &str, subject: &Subject, text: &str, id: &str| {
        let vex = VEX.replace(r#"{"@id":"pkg:deb/debian/openssl"}"#, product).replace("CVE-2024-5535", id);
        report(subject, &[text, &vex], "2026-06-01").silenced.len()
    };
    for (product, count) in [
        (r#""pkg:pypi/openssl""#, 0),
        (r#""pkg:generic/openssl""#, 0),
        (r#""pkg:rpm/openssl""#, 0),
        (r#""pkg:cargo/openssl@3.0.11""#, 0),
        (r#""pkg:deb/openssl""#, 1),
    ] {
        assert_eq!(silenced(product, &debian(), OSV, "CVE-2024-5535"), count, "{product}");
    }
    let subject = Subject { components: vec![part(Ecosystem::Go, "golang.org/x/net", "0.9.0")], ..debian() };
    for (product, count) in [
        (r#""pkg:golang/golang.org/x/net""#, 1),
        (r#""pkg:golang/golang.org/x/net@v0.9.0""#, 1),
        (r#""pkg:golang/golang.org/x/net@v0.8.0""#, 0),
        (r#""pkg:golang/golang.org/x/text""#, 0),
        (r#""pkg:deb/debian/golang.org%2Fx%2Fnet""#, 0),
    ] {
        assert_eq!(silenced(product, &subject, LANGUAGES, "CVE-2023-39325"), count, "{product}");
    }
}

#[test]
fn lists_of_any_length_are_read_in_a_time_of_their_length() {
    const MANY: usize = 100_000;
    let began = std::time::Instant::now();
    // Products that are affected, as many that are mended elsewhere, and as many with a flag.
    let ids = |kind: &str| (0..MANY).map(|number| format!("\"{kind}{number}:openssl\"")).collect::<Vec<_>>().join(",");
    let related = |kind: &str, to: &str| {
        let one = |number: usize| {
            format!(
                r#"{{"category":"default_component_of","full_product_name":{{"name":"x","product_id":"{kind}{number}:openssl"}},"product_reference":"openssl","relates_to_product_reference":"{to}"}}"#
            )
        };
        (0..MANY).map(one).collect::<Vec<_>>().join(",")
    };
    let document = format!(
        r#"{{"document":{{"category":"csaf_vex","title":"x","publisher":{{"name":"x"}},"tracking":{{"id":"x"}}}},
        "product_tree":{{"full_product_names":[
         {{"product_id":"openssl","name":"openssl","product_identification_helper":{{"purl":"pkg:rpm/redhat/openssl"}}}},
         {{"product_id":"one","name":"one","product_identification_helper":{{"cpe":"cpe:/o:redhat:enterprise_linux:9"}}}},
         {{"product_id":"two","name":"two","product_identification_helper":{{"cpe":"cpe:/o:redhat:enterprise_linux:8"}}}}],
        "relationships":[{},{}]}},
        "vulnerabilities":[{{"cve":"CVE-2024-1","product_status":{{"known_affected":[{}],"fixed":[{}]}}}}]}}"#,
        related("a", "one"),
        related("b", "two"),
        ids("a"),
        ids("b"),
    );
    Database::of_text(&["openssl"], &document).unwrap();
    let versions = (0..MANY).map(|number| format!("\"{number}-1\"")).collect::<Vec<_>>().join(",");
    let events = (0..MANY).map(|number| format!(r#"{{"introduced":"{number}-2"}}"#)).collect::<Vec<_>>().join(",");
    let record = format!(
        r#"{{"id":"CVE-2024-2","modified":"x","affected":[{{"package":{{"ecosystem":"Debian:12","name":"openssl"}},"ranges":[{{"type":"ECOSYSTEM","events":[{events}]}}],"versions":[{versions}]}}]}}"#
    );
    Database::of_text(&["openssl"], &record).unwrap();
    // With each pair compared it would take a quarter of an hour.
    assert!(began.elapsed().as_secs() < 120, "{:?}", began.elapsed());
    // Packages and vulnerabilities, each with each.
    let aliases = (0..9_000).map(|number| format!("\"CVE-2024-{number}\"")).collect::<Vec<_>>().join(",");
    let one = r#"{"package":{"ecosystem":"Debian:12","name":"openssl"},"versions":["1"]}"#;
    let affected = vec![one; 1_000].join(",");
    let record = format!(r#"{{"id":"X-1","modified":"x","aliases":[{aliases}],"affected":[{affected}]}}"#);
    let problem = Database::of_text(&["openssl"], &record).unwrap_err().problem;
    assert!(problem.contains("9000 vulnerabilities of 1000 packages"), "{problem}");
}
