//! What `audit` learns from repositories without a file: newer packages of a suite of security updates, updateinfo.xml. Nothing is built.

use serde_json::Value;

use crate::audit::{Pass, lock};
use crate::support::{Ran, Space};
use base::digest::Sha256;

fn findings(ran: &Ran) -> Vec<Value> {
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    document["findings"].as_array().unwrap().clone()
}

#[test]
fn a_package_that_the_security_suite_has_newer_is_a_finding() {
    let space = Space::new();
    let archive = space.path().join("archive");
    let recipe = format!(
        "[image]\nname = \"compute\"\nrelease = \"bookworm\"\n\n[[repo]]\nuri = \"file:{}\"\nsuites = [\"bookworm\", \"bookworm-security\"]\ncomponents = [\"main\"]\ntrusted = true\n",
        archive.display()
    );
    space.write("image.toml", &recipe);
    let passes: &[Pass] = &[(
        "base",
        &["?essential"],
        &[("libssl3", "3.0.11-1~deb12u2", "openssl"), ("bash", "5.2.15-2", "bash"), ("less", "590-2", "less")],
    )];
    space.write("image.lock", &lock("debian bookworm x86_64", passes));
    let stanza = |name: &str, version: &str| {
        let digest = Sha256::of(name.as_bytes());
        format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: pool/{name}.deb\nSize: 1\nSHA256: {digest}\n\n"
        )
    };
    let index = |suite: &str, stanzas: &[String]| {
        space.write(&format!("archive/dists/{suite}/main/binary-amd64/Packages"), &stanzas.concat());
    };
    // What the release itself has newer is no matter of security.
    index("bookworm", &[stanza("libssl3", "3.0.11-1~deb12u2"), stanza("bash", "5.2.15-3"), stanza("less", "590-2")]);
    index(
        "bookworm-security",
        &[stanza("libssl3", "3.0.14-1~deb12u1"), stanza("libssl3", "3.0.13-1~deb12u1"), stanza("less", "590-1")],
    );
    let ran = space.run(&["audit", "--json"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    let found = findings(&ran);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (&found[0]["packages"][0], &found[0]["fixed"]),
        (&Value::from("libssl3"), &Value::from("3.0.14-1~deb12u1"))
    );
    assert_eq!((&found[0]["id"], &found[0]["databases"][0]), (&Value::Null, &Value::from("bookworm-security")));
    assert!(space.run(&["audit"]).out.contains("newer in bookworm-security"));
    assert_eq!(space.run(&["audit", "--offline"]).code, 1);
    index("bookworm-security", &[]);
    assert_eq!(space.run(&["audit"]).good().out, "");
}

#[test]
fn advisories_of_an_rpm_repository_need_no_file() {
    let space = Space::new();
    let repository = space.path().join("repository");
    let recipe = format!(
        "[image]\nname = \"compute\"\ndistro = \"rocky\"\nrelease = \"9\"\n\n[[repo]]\nid = \"baseos\"\nuri = \"file:{}\"\ncheck-packages = false\n",
        repository.display()
    );
    space.write("image.toml", &recipe);
    let passes: &[Pass] = &[("base", &["gnutls"], &[("gnutls", "3.8.3-1.el9", "gnutls")])];
    let lock = lock("rocky 9 x86_64", passes).replace("arch = \"amd64\"", "arch = \"x86_64\"");
    space.write("image.lock", &lock);
    let primary = format!(
        "<metadata xmlns=\"http://linux.duke.edu/metadata/common\" xmlns:rpm=\"http://linux.duke.edu/metadata/rpm\" packages=\"1\"><package type=\"rpm\"><name>gnutls</name><arch>x86_64</arch><version epoch=\"0\" ver=\"3.8.3\" rel=\"4.el9_4\"/><checksum type=\"sha256\" pkgid=\"YES\">{}</checksum><size package=\"1\" installed=\"1\" archive=\"1\"/><location href=\"gnutls.rpm\"/><format/></package></metadata>",
        Sha256::of(b"gnutls")
    );
    let updates = "<updates><update type=\"security\"><id>RLSA-2024:2570</id><title>Important: gnutls</title><severity>Important</severity><references><reference type=\"cve\" id=\"CVE-2024-28834\"/></references><pkglist><collection><package name=\"gnutls\" epoch=\"0\" version=\"3.8.3\" release=\"4.el9_4\" arch=\"x86_64\"/></collection></pkglist></update></updates>";
    let mut data = String::new();
    let empty = "<filelists xmlns=\"http://linux.duke.edu/metadata/filelists\" packages=\"0\"></filelists>";
    for (kind, text) in [("primary", primary.as_str()), ("filelists", empty), ("updateinfo", updates)] {
        space.write(&format!("repository/repodata/{kind}.xml"), text);
        let digest = Sha256::of(text.as_bytes());
        data += &format!(
            "<data type=\"{kind}\"><checksum type=\"sha256\">{digest}</checksum><location href=\"repodata/{kind}.xml\"/><size>{}</size></data>",
            text.len()
        );
    }
    space.write(
        "repository/repodata/repomd.xml",
        &format!("<repomd xmlns=\"http://linux.duke.edu/metadata/repo\"><revision>1</revision>{data}</repomd>"),
    );
    let ran = space.run(&["audit", "--json"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    let found = findings(&ran);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((&found[0]["id"], &found[0]["severity"]), (&Value::from("CVE-2024-28834"), &Value::from("high")));
    assert_eq!(
        (&found[0]["advisories"][0], &found[0]["fixed"]),
        (&Value::from("RLSA-2024:2570"), &Value::from("3.8.3-4.el9_4"))
    );
}
