//! Metadata of CentOS Stream 9: 18,000 packages, read, and resolved as libsolv resolves them.

use std::path::{Path, PathBuf};

use imgbuild::distro::rpm::Repository;

use super::corpus;
use crate::e2e::closure::{Random, against_libsolv, read_all};

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
                imgbuild::digest::Sha256::of(&text),
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
                imgbuild::digest::Sha256::of(&bytes),
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
