use std::io::{Cursor, Write};

use proptest::prelude::*;

use super::*;

/// A 64-bit ELF file with sections.
fn elf(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut names = vec![0u8];
    let mut body = Vec::new();
    let mut table = vec![0u8; 64];
    let add = |table: &mut Vec<u8>, name: u32, at: usize, size: usize| {
        let mut entry = vec![0u8; 64];
        entry[0..4].copy_from_slice(&name.to_le_bytes());
        entry[24..32].copy_from_slice(&(at as u64).to_le_bytes());
        entry[32..40].copy_from_slice(&(size as u64).to_le_bytes());
        table.extend(entry);
    };
    for (name, content) in sections {
        add(&mut table, names.len() as u32, 64 + body.len(), content.len());
        names.extend(name.as_bytes());
        names.push(0);
        body.extend(*content);
    }
    let at = names.len() as u32;
    names.extend(b".shstrtab\0");
    add(&mut table, at, 64 + body.len(), names.len());
    body.extend(&names);
    let mut head = vec![0u8; 64];
    head[..6].copy_from_slice(b"\x7fELF\x02\x01");
    head[40..48].copy_from_slice(&(64 + body.len() as u64).to_le_bytes());
    head[58..60].copy_from_slice(&64u16.to_le_bytes());
    head[60..62].copy_from_slice(&(sections.len() as u16 + 2).to_le_bytes());
    head[62..64].copy_from_slice(&(sections.len() as u16 + 1).to_le_bytes());
    [head, body, table].concat()
}

fn go(modules: &str) -> Vec<u8> {
    let modules = format!("{}{modules}{}", "s".repeat(16), "e".repeat(16));
    let mut info = b"\xff Go buildinf:\x08\x02".to_vec();
    info.resize(32, 0);
    info.push(8);
    info.extend(b"go1.22.3");
    info.extend([(modules.len() & 0x7f) as u8 | 0x80, (modules.len() >> 7) as u8]);
    info.extend(modules.as_bytes());
    info
}

fn zlib(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn found(path: &str, bytes: &[u8]) -> Vec<(Ecosystem, String, String)> {
    parts(path, Cursor::new(bytes)).into_iter().map(|one| (one.ecosystem, one.name, one.version)).collect()
}

fn named(ecosystem: Ecosystem, name: &str, version: &str) -> (Ecosystem, String, String) {
    (ecosystem, name.to_owned(), version.to_owned())
}

#[test]
fn programs_say_what_they_are_made_of() {
    let modules = "path\texample.org/tool\nmod\texample.org/tool\t(devel)\t\n\
                   dep\tgolang.org/x/net\tv0.17.0\th1:x\ndep\tgithub.com/old/Name\tv1.0.0\n=>\tgithub.com/new/Name\tv1.2.0\th1:y\n\
                   build\t-compiler=gc\n";
    let bytes = elf(&[(".text", b"code"), (".go.buildinfo", &go(modules))]);
    assert_eq!(
        found("opt/bin/tool", &bytes),
        [
            named(Ecosystem::Go, "github.com/new/Name", "1.2.0"),
            named(Ecosystem::Go, "golang.org/x/net", "0.17.0"),
            named(Ecosystem::Go, "stdlib", "1.22.3"),
        ]
    );
    let crates = r#"{"packages":[{"name":"tool","version":"0.1.0","source":"local","root":true},
        {"name":"time","version":"0.1.40","source":"crates.io"},{"name":"cc","version":"1.0.0","source":"crates.io","kind":"build"}]}"#;
    let bytes = elf(&[(".dep-v0", &zlib(crates))]);
    assert_eq!(
        found("tool", &bytes),
        [named(Ecosystem::CratesIo, "time", "0.1.40"), named(Ecosystem::Generic, "tool", "0.1.0")]
    );
    assert_eq!(found("tool", &elf(&[(".text", b"code")])), []);
}

#[test]
fn drivers_have_a_version_packed_or_not() {
    let module = elf(&[(".modinfo", b"license=GPL\0name=igb\0version=5.16.1\0vermagic=6.1.0-31-amd64 SMP\0")]);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&module).unwrap();
    let packed = encoder.finish().unwrap();
    for (path, bytes) in [("lib/modules/igb.ko", &module), ("lib/modules/igb.ko.gz", &packed)] {
        let found = parts(path, Cursor::new(bytes));
        assert_eq!(found.len(), 1, "{path}");
        assert!(found[0].is_driver && (found[0].name.as_str(), found[0].version.as_str()) == ("igb", "5.16.1"));
    }
    // The kernel's own have none.
    assert_eq!(found("a.ko", &elf(&[(".modinfo", b"license=GPL\0name=virtio\0")])), []);
}

#[test]
fn wheels_jars_and_installed_packages_of_python_are_named_by_their_texts() {
    let metadata = "Metadata-Version: 2.1\nName: Jinja2_Some.Thing\nVersion: 3.1.2\n\nName: other\n";
    let expected = [named(Ecosystem::PyPi, "jinja2-some-thing", "3.1.2")];
    let wheel = zip::written(&[("a/b.py", "x"), ("Jinja2-3.1.2.dist-info/METADATA", metadata)]);
    assert_eq!(found("Jinja2-3.1.2-py3-none-any.whl", &wheel), expected);
    assert_eq!(found("usr/lib/python3/Jinja2-3.1.2.dist-info/METADATA", metadata.as_bytes()), expected);
    assert_eq!(found("usr/share/METADATA", metadata.as_bytes()), []);
    let properties = "#Created by Maven\nversion=2.14.1\ngroupId=org.apache.logging.log4j\nartifactId=log4j-core\n";
    let jar = zip::written(&[("META-INF/maven/org.apache.logging.log4j/log4j-core/pom.properties", properties)]);
    assert_eq!(found("opt/app.jar", &jar), [named(Ecosystem::Maven, "org.apache.logging.log4j:log4j-core", "2.14.1")]);
}

#[test]
fn a_package_of_debian_has_its_source() {
    let control = "Package: libssl3\nSource: openssl\nVersion: 3.0.11-1\nArchitecture: amd64\nMaintainer: a <a@b>\nDescription: x\n";
    let mut tar = vec![0u8; 512];
    tar[..9].copy_from_slice(b"./control");
    tar[100..108].copy_from_slice(b"0000644\0");
    tar[124..136].copy_from_slice(format!("{:011o}\0", control.len()).as_bytes());
    tar[136..148].copy_from_slice(b"00000000000\0");
    tar[148..156].fill(b' ');
    tar[156] = b'0';
    tar[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = tar.iter().map(|byte| u32::from(*byte)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend(control.as_bytes());
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in [("debian-binary", &b"2.0\n"[..]), ("control.tar", &tar), ("data.tar", &[0; 1024])] {
        bytes.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len()).as_bytes());
        bytes.extend(content);
    }
    let found = parts("opt/libssl3.deb", Cursor::new(&bytes));
    assert_eq!((found[0].name.as_str(), found[0].arch.as_str()), ("libssl3", "amd64"));
    assert_eq!(found[0].source, Some(("openssl".to_owned(), "3.0.11-1".to_owned())));
}

#[test]
fn a_table_that_claims_too_much_is_not_read() {
    let mut bytes = elf(&[(".go.buildinfo", &go("dep\ta.org/b\tv1\n"))]);
    bytes[60..62].copy_from_slice(&u16::MAX.to_le_bytes());
    assert_eq!(found("tool", &bytes), []);
    // A text that is longer than its section.
    let mut info = go("");
    info[32] = 0x7f;
    assert_eq!(found("tool", &elf(&[(".go.buildinfo", &info)])), []);
}

proptest! {
    #[test]
    fn anything_is_read(rest in proptest::collection::vec(any::<u8>(), 0..400), kind in 0usize..4, flip in 0usize..600) {
        let starts: [&[u8]; 4] = [b"\x7fELF\x02\x01", &[0xed, 0xab, 0xee, 0xdb], b"!<arch>\n", b"PK\x03\x04"];
        parts("a.jar", Cursor::new([starts[kind], &rest].concat()));
        let mut bytes = elf(&[(".go.buildinfo", &go("dep\ta.org/b\tv1\n"))]);
        let at = flip % bytes.len();
        bytes[at] ^= 0xff;
        parts("tool", Cursor::new(bytes));
    }
}
