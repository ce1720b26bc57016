//! Metadata of CentOS Stream 9: 18,000 packages, read, and resolved as libsolv resolves them. Media of SUSE in susetags.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use packages::rpm::{Candidate, Capability, Package, Repository};

use super::corpus;
use crate::e2e::closure::{Random, against_libsolv, read_all};
use crate::support::collected;

/// BaseOS and AppStream as repositories of plain files. Of AppStream the file lists are not in the corpus.
pub fn stream(place: &Path) -> Vec<(u32, PathBuf)> {
    let mut all = Vec::new();
    for name in ["osbuild-images-cs9-baseos", "osbuild-cs9-appstream"] {
        let from = corpus().join("repodata").join(name).join("repodata");
        let to = place.join(name);
        std::fs::create_dir_all(to.join("repodata")).unwrap();
        let mut repomd = String::from("<repomd xmlns=\"http://linux.duke.edu/metadata/repo\"><revision>1</revision>\n");
        for kind in ["primary", "filelists"] {
            let file = std::fs::read_dir(&from).unwrap().map(|one| one.unwrap().path());
            let file =
                file.into_iter().find(|path| path.to_string_lossy().ends_with(&format!("-{kind}.xml.gz"))).unwrap();
            let bytes = std::fs::read(&file).unwrap();
            // Where it could not be had there is a pointer to it.
            let text = match bytes.starts_with(b"version https://git-lfs") {
                true => b"<filelists xmlns=\"http://linux.duke.edu/metadata/filelists\" packages=\"0\"></filelists>"
                    .to_vec(),
                false => {
                    let mut text = Vec::new();
                    std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&bytes[..]), &mut text).unwrap();
                    text
                }
            };
            std::fs::write(to.join(format!("repodata/{kind}.xml")), &text).unwrap();
            repomd += &format!(
                "<data type=\"{kind}\"><checksum type=\"sha256\">{}</checksum><location href=\"repodata/{kind}.xml\"/><size>{}</size></data>\n",
                base::digest::Sha256::of(&text),
                text.len()
            );
        }
        // As they are, packed or not.
        for (kind, part) in [("group", "-comps-"), ("modules", "-modules.")] {
            let file = std::fs::read_dir(&from).unwrap().map(|one| one.unwrap().path());
            let Some(file) = file.into_iter().find(|path| path.to_string_lossy().contains(part)) else { continue };
            let bytes = std::fs::read(&file).unwrap();
            let name = file.file_name().unwrap().to_str().unwrap();
            std::fs::write(to.join("repodata").join(name), &bytes).unwrap();
            repomd += &format!(
                "<data type=\"{kind}\"><checksum type=\"sha256\">{}</checksum><location href=\"repodata/{name}\"/><size>{}</size></data>\n",
                base::digest::Sha256::of(&bytes),
                bytes.len()
            );
        }
        std::fs::write(to.join("repodata/repomd.xml"), repomd + "</repomd>\n").unwrap();
        all.push((99, to));
    }
    all
}

#[test]
fn wishes_over_stream_9_are_resolved_as_libsolv_does() {
    if collected("corpus/rpm").is_none() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let repositories = stream(place.path());
    let read: Vec<Repository> = read_all(place.path(), &repositories);
    let counts: Vec<usize> = read.iter().map(|one| one.candidates.len()).collect();
    assert_eq!(counts, [1125, 17649]);
    let mut names: Vec<String> = read
        .iter()
        .flat_map(|one| &one.candidates)
        .filter(|one| one.arch != "i686")
        .map(|one| one.name.clone())
        .collect();
    names.sort();
    names.dedup();
    let mut random = Random(0x5152_5354_5556);
    // 300 by hand: a tenth of them costs the gate half a minute.
    let wishes = std::env::var("IMGBUILD_TEST_WISHES").ok().and_then(|text| text.parse().ok()).unwrap_or(30);
    let mut sets: Vec<Vec<String>> = (0..wishes)
        .map(|_| (0..1 + random.below(3)).map(|_| names[random.below(names.len())].clone()).collect())
        .collect();
    // What tools roots are made of.
    for seeds in [
        &["rpm", "kmod"][..],
        &["dnf", "rpm", "bash", "coreutils"],
        &["dracut", "dracut-network", "systemd"],
        &["kernel", "kmod"],
    ] {
        sets.push(seeds.iter().map(|seed| (*seed).to_owned()).collect());
    }
    let (equal, solvable, differences) = against_libsolv(place.path(), &repositories, &sets);
    println!("{equal} of {} sets are equal; {solvable} of them can be installed", sets.len());
    assert!(
        differences.is_empty(),
        "{equal} of {} equal, {solvable} solvable:\n{}",
        sets.len(),
        differences.join("\n")
    );
    assert!(solvable > sets.len() / 2);
}

const SUSETAGS: &str = "
import json, solv, sys
pool = solv.Pool()
pool.setdisttype(solv.Pool.DISTTYPE_RPM)
pool.setarch('x86_64')
repo = pool.add_repo('r')
assert repo.add_susetags(solv.xfopen(sys.argv[1]), 0, None, 0)
kinds = [solv.SOLVABLE_PROVIDES, solv.SOLVABLE_REQUIRES, solv.SOLVABLE_CONFLICTS, solv.SOLVABLE_OBSOLETES,
         solv.SOLVABLE_RECOMMENDS, solv.SOLVABLE_SUGGESTS]
found = {}
for one in pool.solvables:
    if one.arch in ('src', 'nosrc'):
        continue
    lists = [{str(dep).replace(' :', ' ') for dep in one.lookup_deparray(kind, 0)} for kind in kinds]
    # Files that others need stand among what is provided.
    lists[0] = {dep for dep in lists[0] if not dep.startswith('/')}
    lists = [sorted(one - {'solvable:prereqmarker', 'solvable:fileprovides'}) for one in lists]
    location, disc = one.lookup_location()
    found.setdefault(str(one), []).append(['suse/' + location, one.lookup_num(solv.SOLVABLE_DOWNLOADSIZE), lists])
json.dump(found, sys.stdout)
";

/// A medium in susetags with digests that count: those of the original are SHA-1.
fn medium(name: &str, place: &Path) -> PathBuf {
    let from = corpus().join("repodata").join(name);
    let to = place.join(name.replace('/', "-"));
    std::fs::create_dir_all(to.join("suse/setup/descr")).unwrap();
    let bytes = std::fs::read(from.join("suse/setup/descr/packages.gz")).unwrap();
    let text = std::io::read_to_string(flate2::read::MultiGzDecoder::new(&bytes[..])).unwrap();
    let line = |line: &str| match line.strip_prefix("=Cks: SHA1 ") {
        Some(digits) => format!("=Cks: SHA256 {digits}{}\n", "0".repeat(24)),
        None => format!("{line}\n"),
    };
    let text: String = text.lines().map(line).collect();
    std::fs::write(to.join("suse/setup/descr/packages"), &text).unwrap();
    let digest = base::digest::Sha256::of(text.as_bytes());
    let content = std::fs::read_to_string(from.join("content")).unwrap();
    let other: String =
        content.lines().filter(|line| !line.starts_with("META")).map(|line| format!("{line}\n")).collect();
    std::fs::write(to.join("content"), format!("{other}META SHA256 {digest}  packages\n")).unwrap();
    to
}

#[test]
fn media_in_susetags_are_read_as_libsolv_reads_them() {
    if collected("corpus/rpm").is_none() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    for (name, count) in [("suse-media-gms", 31), ("libzypp/openSUSE-11.1", 3400)] {
        let medium = medium(name, place.path());
        let read = read_all(place.path(), &[(99, medium.clone())]).remove(0);
        let script = Command::new("/usr/bin/python3")
            .args(["-c", SUSETAGS])
            .arg(medium.join("suse/setup/descr/packages"))
            .output()
            .unwrap();
        assert!(script.status.success(), "{}", String::from_utf8_lossy(&script.stderr));
        let theirs: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&script.stdout).unwrap();
        let mut own: BTreeMap<String, Vec<serde_json::Value>> = BTreeMap::new();
        for one in &read.candidates {
            let texts = |all: Vec<String>| all.into_iter().collect::<BTreeSet<String>>();
            let plain = |all: &[Capability]| texts(all.iter().map(ToString::to_string).collect());
            let weak = &one.weak;
            let requires = texts(one.requires.iter().map(|one| one.capability.to_string()).collect());
            let mut provides = plain(&one.provides);
            // libsolv says of each that it provides itself.
            provides.insert(format!("{} = {}", one.name, one.evr));
            let lists = [
                provides,
                requires,
                plain(&one.conflicts),
                plain(&one.obsoletes),
                plain(&weak.recommends),
                plain(&weak.suggests),
                // What is supplemented libsolv writes in words of its own (namespace:modalias, packageand).
            ];
            own.entry(one.nevra()).or_default().push(serde_json::json!([one.location, one.size, lists]));
        }
        assert!(own.len() >= count, "{name}: {}", own.len());
        let mut differences = Vec::new();
        for (nevra, lists) in &theirs {
            if own.get(nevra).map(|own| serde_json::json!(own)).as_ref() != Some(lists) {
                differences.push(format!("{nevra}\n  here: {:?}\n  libsolv: {lists}", own.get(nevra)));
            }
        }
        assert!(
            differences.is_empty(),
            "{name}: {} differ; {}",
            differences.len(),
            differences[..differences.len().min(3)].join("\n")
        );
        assert_eq!(own.len(), theirs.len());
    }
}

#[test]
fn a_real_medium_of_sles_12_says_of_its_packages_what_they_say_themselves() {
    if collected("corpus/rpm").is_none() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let read = read_all(place.path(), &[(99, corpus().join("repodata/suse-media-gms"))]).remove(0);
    let mut found = 0;
    for entry in std::fs::read_dir(corpus().join("rpms/sles12-gms")).unwrap() {
        let package = Package::read(&entry.unwrap().path()).unwrap().candidate;
        let Some(listed) = read.candidates.iter().find(|one| one.nevra() == package.nevra()) else { continue };
        found += 1;
        assert_eq!((&listed.checksum, listed.size), (&package.checksum, package.size), "{}", package.nevra());
        let set = |all: &[Capability]| all.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        assert_eq!(set(&listed.provides), set(&package.provides), "{}", package.nevra());
        assert_eq!(set(&listed.obsoletes), set(&package.obsoletes));
        let wants =
            |one: &Candidate| one.requires.iter().map(|one| one.capability.to_string()).collect::<BTreeSet<_>>();
        assert_eq!(wants(listed), wants(&package), "{}", package.nevra());
        assert!(listed.files.iter().all(|file| package.files.contains(file)), "{}", package.nevra());
    }
    assert!(found > 10, "{found}");
}
