//! Words of lists and of `.repo` files, as dnf, yum and zypper themselves read them.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use sha2::Digest;

use super::compute::lock;
use super::machine::Server;
use super::rpm_node::{repository, write_keys, write_rpm};
use super::store;
use crate::support::{Ran, Space};

/// A recipe of the test distribution, with a list and one more [[repo]].
pub fn with(distro: &str, release: &str, more: &str, list: &str) -> Space {
    let space = Space::new().with_store(&store());
    write_keys(&space);
    space.write("few.pkglist", list);
    let own = match distro {
        "rocky" => repository("distro"),
        _ => repository("distro") + "\n" + &repository("suse"),
    };
    space.write(
        "image.toml",
        &format!(
            "[image]\nname = \"few\"\ndistro = \"{distro}\"\nrelease = \"{release}\"\n\n{own}\n{more}\n\n[packages]\n\
             lists = [\"few.pkglist\"]\n\n[system]\nauthorized_keys = [\"keys/admin.pub\"]\n"
        ),
    );
    space
}

fn index(directory: &Path) {
    let made = Command::new("createrepo_c").args(["--quiet", "--no-database"]).arg(directory).status().unwrap();
    assert!(made.success());
}

/// Packages of the lock's lists by name, each with its repository.
fn locked(space: &Space) -> Vec<(String, String)> {
    let passes = lock(space).pass.into_iter().filter(|pass| !pass.name.starts_with("tools"));
    passes.flat_map(|pass| pass.packages).map(|one| (one.name, one.origin)).collect()
}

/// What was said, without the frame's marks and line breaks.
pub fn flat(ran: &Ran) -> String {
    ran.err.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

/// Metapackages, which have no files and no bytes, and what needs them.
pub fn write_metapackages(directory: &Path, spec: &str) {
    let name = "site-with-a-name-that-is-wider-than-the-columns-of-tables-for-people";
    write_rpm(directory, "site-meta", "1", spec);
    write_rpm(directory, "site-needs-meta", "1", &format!("{spec}Requires: site-meta"));
    write_rpm(directory, name, "1", &format!("{spec}Requires: site-needs-meta"));
    write_rpm(directory, "site-other-meta", "1", spec);
    write_rpm(directory, "site-stays", "1", spec);
}

/// A list that installs them, and a second pass that removes two.
pub const METAPACKAGES: &str = "site-meta\nsite-needs-meta\nsite-with-a-name-that-is-wider-than-the-columns-of-tables-for-people\n\
    site-other-meta\nsite-stays\n#NEW_INSTALL_LIST#\n-site-meta\n-site-other-meta\n";

/// That the lock removes what needs the two, too.
#[track_caller]
pub fn assert_gone(space: &Space) {
    let lock = lock(space);
    let pass = lock.pass.iter().find(|pass| pass.remove == ["site-meta", "site-other-meta"]).unwrap();
    assert_eq!(
        pass.remove_with,
        ["site-needs-meta", "site-with-a-name-that-is-wider-than-the-columns-of-tables-for-people"]
    );
}

#[test]
fn packages_without_files_are_removed_with_what_needs_them() {
    for distro in ["rocky", "opensuse"] {
        let site = tempfile::tempdir().unwrap();
        write_metapackages(site.path(), "");
        let more =
            format!("[[repo]]\nid = \"site\"\nuri = \"file:{}\"\ncheck-packages = false\n", site.path().display());
        let space = with(distro, "1", &more, &format!("rpm\n{METAPACKAGES}"));
        space.run(&["update"]).good();
        assert_gone(&space);
        if distro == "rocky" {
            space.run(&["build", "--until", "rootfs"]).good();
            // Where the lock answers, a repository that is gone is a warning; where it does not, the image cannot be built.
            std::fs::remove_dir_all(site.path()).unwrap();
            let ran = space.run(&["check"]).good();
            let words = flat(&ran);
            assert!(words.contains("is not a directory") && words.contains("image.lock is enough"), "{}", ran.err);
            space.write("few.pkglist", "rpm\nsite-stays\n");
            let ran = space.run(&["check"]);
            assert!(ran.code == 1 && ran.err.contains("is not a directory"), "{} {}", ran.code, ran.err);
        }
    }
}

#[test]
fn files_and_what_packages_provide_stand_in_lists_and_folders_do_not() {
    for distro in ["rocky", "opensuse"] {
        let site = tempfile::tempdir().unwrap();
        write_rpm(site.path(), "site-perl", "1", "Provides: perl(Site::Thing)");
        let more =
            format!("[[repo]]\nid = \"site\"\nuri = \"file:{}\"\ncheck-packages = false\n", site.path().display());
        let space = with(distro, "1", &more, "rpm\n/usr/bin/less\nperl(Site::Thing)\n");
        space.run(&["check"]).good();
        space.run(&["update"]).good();
        let names: Vec<String> = locked(&space).into_iter().map(|(name, _)| name).collect();
        assert!(names.iter().any(|name| name == "less") && names.iter().any(|name| name == "site-perl"), "{names:?}");
        for unknown in ["/usr/bin/no-such-program", "perl(No::Such)"] {
            space.write("few.pkglist", &format!("rpm\n{unknown}\n"));
            let ran = space.run(&["update"]);
            let words = flat(&ran);
            assert!(
                ran.code == 1 && words.contains(&format!("no repository has `{unknown}`")),
                "{distro}: {}",
                ran.err
            );
            assert!(words.contains("few.pkglist:2:1"), "{distro}: {}", ran.err);
        }
    }
}

#[test]
fn repo_files_are_read_as_dnf_reads_them() {
    let served = tempfile::tempdir().unwrap();
    let site = served.path().join("site/1");
    // A name that is not an address: the server is asked for it with escapes.
    std::fs::rename(write_rpm(&site, "site-app", "1", ""), site.join("site#app?1.rpm")).unwrap();
    index(&site);
    std::fs::rename(site.join("site#app?1.rpm"), site.join("site%23app%3f1.rpm")).unwrap();
    let server = Server::start(served.path(), 0, Arc::new(|_: &str, _, bytes| Some(bytes)));
    let space = with("rocky", "10.1", "[[repo]]\nfile = \"site.repo\"\ncheck-packages = false", "rpm\nsite-app\n");
    space.write(
        "site.repo",
        &format!(
            "[site-${{releasever_major}}${{releasever_minor:+-z}}${{nothing:-}}]\nmirrorlist=http://127.0.0.1:1/list\n\
             baseurl=http://127.0.0.1:{}/${{flavour:-site}}/$releasever_minor\n\n\
             [off]\nenabled=0\nbaseurl=http://127.0.0.1:1/$never_set\n\n\
             [gone]\nbaseurl=http://127.0.0.1:1/gone\nskip_if_unavailable=1\n\n\
             [absent]\nbaseurl=file:/nonexistent/absent\nskip_if_unavailable=True\n",
            server.port
        ),
    );
    let ran = space.run(&["check"]).good();
    assert!(!ran.err.contains("never_set"), "{}", ran.err);
    let ran = space.run(&["update"]).good();
    let words = flat(&ran);
    for word in [
        "the mirror list of `site-10-z` was skipped",
        "site.repo:11:1",
        "the repository `gone` cannot be reached and is skipped",
        "the repository `absent` cannot be reached and is skipped",
    ] {
        assert!(words.contains(word), "`{word}` is not in {}", ran.err);
    }
    assert!(locked(&space).contains(&("site-app".to_owned(), "site-10-z".to_owned())), "{:?}", locked(&space));
    // A version that no repository has: what there is.
    space.write("few.pkglist", "rpm\nsite-app-9.9\n");
    let ran = space.run(&["update"]);
    assert!(
        ran.code == 1 && flat(&ran).contains("available versions of `site-app`: 1-1 (site-10-z)"),
        "{} {}",
        ran.code,
        ran.err
    );
    assert!(flat(&ran).contains("few.pkglist:2:1"), "{}", ran.err);
    space.write("few.pkglist", "rpm\nsite-app\n");
    // Without the option it is an error.
    space.edit("site.repo", "skip_if_unavailable=1", "");
    let ran = space.run(&["update"]);
    assert!(ran.code == 4 && ran.err.contains("127.0.0.1:1/gone"), "{} {}", ran.code, ran.err);
}

type Packer<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;

/// Writes a repository's primary and filelists again: with this ending and compression, and digests of one kind in repomd.xml.
fn rewrite(directory: &Path, kind: &str, ending: &str, packed: Packer<'_>) {
    index(directory);
    let mut entries = String::new();
    for name in ["primary", "filelists"] {
        let mut found = std::fs::read_dir(directory.join("repodata")).unwrap().map(|entry| entry.unwrap().path());
        let path = found.find(|path| path.to_str().unwrap().ends_with(&format!("{name}.xml.gz"))).unwrap();
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(std::fs::File::open(&path).unwrap()).read_to_end(&mut text).unwrap();
        std::fs::remove_file(path).unwrap();
        let bytes = packed(&text);
        let location = format!("repodata/{name}#1?a+b.xml{ending}");
        std::fs::write(directory.join(&location), &bytes).unwrap();
        let digits: Vec<u8> = match kind {
            "sha384" => sha2::Sha384::digest(&bytes).to_vec(),
            "sha512" => sha2::Sha512::digest(&bytes).to_vec(),
            _ => sha2::Sha256::digest(&bytes).to_vec(),
        };
        let digits: String = digits.iter().map(|byte| format!("{byte:02x}")).collect();
        entries.push_str(&format!(
            "<data type=\"{name}\"><checksum type=\"{kind}\">{digits}</checksum><location href=\"{location}\"/><size>{}</size></data>\n",
            bytes.len()
        ));
    }
    let text =
        format!("<repomd xmlns=\"http://linux.duke.edu/metadata/repo\">\n<revision>1</revision>\n{entries}</repomd>\n");
    std::fs::write(directory.join("repodata/repomd.xml"), text).unwrap();
}

#[test]
fn metadata_in_every_compression_and_with_every_strong_digest_is_read() {
    let bzip2 = |bytes: &[u8]| {
        let mut packer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    };
    let lzma = |bytes: &[u8]| {
        let options = liblzma::stream::LzmaOptions::new_preset(6).unwrap();
        let stream = liblzma::stream::Stream::new_lzma_encoder(&options).unwrap();
        let mut packer = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    };
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    let plain = |bytes: &[u8]| bytes.to_vec();
    let forms: [(&str, &str, Packer<'_>); 4] =
        [("sha512", ".bz2", &bzip2), ("sha384", ".lzma", &lzma), ("sha512", ".zst", &zstd), ("sha384", "", &plain)];
    let site = tempfile::tempdir().unwrap();
    let (mut more, mut list) = (String::new(), "rpm\n".to_owned());
    for (number, (kind, ending, packed)) in forms.into_iter().enumerate() {
        let place = site.path().join(number.to_string());
        write_rpm(&place, &format!("site-{number}"), "1", "");
        rewrite(&place, kind, ending, packed);
        more.push_str(&format!(
            "[[repo]]\nid = \"site-{number}\"\nuri = \"file:{}\"\ncheck-packages = false\n\n",
            place.display()
        ));
        list.push_str(&format!("site-{number}\n"));
    }
    for distro in ["rocky", "opensuse"] {
        let space = with(distro, "1", &more, &list);
        space.run(&["update"]).good();
        let found = locked(&space).into_iter().filter(|(name, origin)| name == origin).count();
        assert_eq!(found, 4, "{distro}: {:?}", locked(&space));
    }
    // Packages without a SHA-256 cannot be pinned: the remedy is said, and is one.
    let place = site.path().join("only");
    write_rpm(&place, "site-only", "1", "");
    let made = |kind: &str| {
        let ran =
            Command::new("createrepo_c").args(["--quiet", "--no-database", "--checksum", kind]).arg(&place).status();
        assert!(ran.unwrap().success());
    };
    made("sha512");
    let more = format!("[[repo]]\nid = \"only\"\nuri = \"file:{}\"\ncheck-packages = false\n", place.display());
    let space = with("rocky", "1", &more, "rpm\nsite-only\n");
    let ran = space.run(&["update"]);
    assert!(ran.code == 4 && flat(&ran).contains("createrepo_c --checksum sha256"), "{} {}", ran.code, ran.err);
    made("sha256");
    space.run(&["update"]).good();
}

#[test]
fn versions_and_architectures_of_packages_are_meant_or_refused() {
    let site = tempfile::tempdir().unwrap();
    for version in ["1", "2"] {
        write_rpm(site.path(), "site-app", version, "");
    }
    let foreign = rpm::PackageBuilder::new("site-foreign", "1", "GPL", "i686", "x").build().unwrap();
    foreign.write_file(site.path().join("site-foreign.rpm")).unwrap();
    let more = format!("[[repo]]\nid = \"site\"\nuri = \"file:{}\"\ncheck-packages = false\n", site.path().display());
    for distro in ["rocky", "opensuse"] {
        let space = with(distro, "1", &more, "rpm\n");
        let update = |word: &str| {
            space.write("few.pkglist", &format!("rpm\n{word}\n"));
            let _ = std::fs::remove_file(space.path().join("image.lock"));
            let checked = space.run(&["check"]);
            (checked, space.run(&["update"]))
        };
        for (word, version) in [
            ("site-app", "2-1"),
            ("site-app=1", "1-1"),
            ("site-app=1*", "1-1"),
            ("site-app=2-1", "2-1"),
            ("site-app-1", "1-1"),
            ("site-app.noarch", "2-1"),
        ] {
            let (checked, ran) = update(word);
            checked.good();
            assert_eq!(ran.code, 0, "{distro} {word}: {}", ran.err);
            let packages = lock(&space).pass.into_iter().flat_map(|pass| pass.packages);
            let found: Vec<String> =
                packages.filter(|one| one.name == "site-app").map(|package| package.version).collect();
            assert_eq!(found, [version], "{distro} {word}");
        }
        // One of another architecture, as dnf takes it: by its name where there is no other, too.
        for word in ["site-foreign", "site-foreign.i686"].into_iter().filter(|_| distro == "rocky") {
            update(word).1.good();
            let mut packages = lock(&space).pass.into_iter().flat_map(|pass| pass.packages);
            assert!(packages.any(|one| one.name == "site-foreign" && one.architecture == "i686"), "{word}");
        }
        // What no build takes is refused with what can be written instead.
        for (word, words) in [
            ("site-app=9*", "available versions of `site-app`: 2-1 (site), 1-1 (site)"),
            ("no-such=1*", "no repository has `no-such=1*`"),
            ("site-app/el9", "no repository has `el9`"),
        ] {
            let (_, ran) = update(word);
            let said = flat(&ran);
            assert!(ran.code == 1 && said.contains(words), "{distro} {word}: {} {}", ran.code, ran.err);
        }
        for word in ["site-app:x86_64", "libc6:i386", "-libc6:i386"] {
            let (checked, ran) = update(word);
            for ran in [checked, ran] {
                let said = flat(&ran);
                assert!(
                    ran.code == 1 && said.contains("names an architecture as Debian's lists do"),
                    "{distro} {word}: {} {}",
                    ran.code,
                    ran.err
                );
            }
        }
    }
}
