//! Every kind that is a directory, published for real.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use base::digest::Sha256;

use super::{Consent, Request, apply, plan};
use crate::facts::tests::{image, node};
use crate::{Change, Destination, Error, Image, Node, Report};

const KINDS: [&str; 4] = ["warewulf", "confluent", "tree", "systemd"];

fn request<'a>(image: &'a Image, nodes: &'a [Node], destination: &'a Destination) -> Request<'a> {
    Request { image, nodes, destination, consent: Consent::KeepForeign }
}

fn destination(kind: &str, directory: &Path) -> Destination {
    format!("{kind}:{}", directory.display()).parse().unwrap()
}

/// All files with their digests, without what is imgbuild's own; a link's target for a link.
fn files(directory: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let found = path.symlink_metadata().unwrap();
            if found.is_dir() {
                open.push(path);
            } else if found.is_symlink() {
                all.insert(name(directory, &path), std::fs::read_link(&path).unwrap().display().to_string());
            } else {
                all.insert(name(directory, &path), Sha256::of(&std::fs::read(&path).unwrap()).to_string());
            }
        }
    }
    all.retain(|path, _| !path.starts_with(".imgbuild-publish/"));
    all
}

fn name(directory: &Path, path: &Path) -> String {
    path.strip_prefix(directory).unwrap().display().to_string()
}

fn changes(report: &Report) -> Vec<(&str, Change)> {
    let changed = report.items.iter().filter(|item| item.change != Change::Unchanged);
    changed.map(|item| (item.name.as_str(), item.change)).collect()
}

#[test]
fn each_kind_is_published_once_and_then_nothing_changes() {
    for kind in KINDS {
        let place = tempfile::tempdir().unwrap();
        let image = image(&place.path().join("out"), "one");
        let to = place.path().join("to");
        let destination = destination(kind, &to);
        let nodes = [node("n01", "aa:bb:cc:00:00:01")];
        let request = request(&image, &nodes, &destination);
        let planned = plan(&request).unwrap();
        assert!(!to.exists(), "{kind}: a plan writes nothing");
        let done = apply(&request).unwrap();
        assert_eq!(planned.items, done.items, "{kind}");
        assert!(done.items.iter().all(|item| item.change == Change::New), "{kind}: {done:?}");
        let there = files(&to);
        assert!(there.len() > 4, "{kind}: {there:?}");
        assert!(there.keys().eq(done.items.iter().map(|item| &item.name).collect::<std::collections::BTreeSet<_>>()));
        for path in there.keys().filter(|path| !path.ends_with("xattrs")) {
            assert_eq!(to.join(path).metadata().unwrap().permissions().mode() & 0o7777, 0o644, "{kind}: {path}");
        }
        let again = apply(&request).unwrap();
        assert!(!again.changes(), "{kind}: {:?}", changes(&again));
        assert_eq!(files(&to), there);
    }
}

#[test]
fn all_kinds_have_the_bytes_of_the_same_image() {
    let place = tempfile::tempdir().unwrap();
    let image = image(&place.path().join("out"), "one");
    for kind in KINDS {
        let to = place.path().join(kind);
        let destination = destination(kind, &to);
        apply(&request(&image, &[], &destination)).unwrap();
        let record = std::fs::read_to_string(to.join(".imgbuild-publish/compute.json")).unwrap();
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
        assert_eq!(record["build"], image.build.as_str(), "{kind}");
        // Both forms have the same index here.
        assert_eq!(record["image"], image.forms[0].index.sha256.to_string(), "{kind}");
        let there = files(&to);
        let kernel = image.kernel.sha256.to_string();
        assert!(there.values().any(|digest| *digest == kernel), "{kind}: {there:?}");
    }
    let squashfs = image.forms[1].rootimg.sha256.to_string();
    for kind in ["confluent", "systemd", "tree"] {
        assert!(files(&place.path().join(kind)).values().any(|digest| *digest == squashfs), "{kind}");
    }
    let plain = place.path().join("warewulf/provision/images/compute.img");
    assert_eq!(std::fs::read(&plain).unwrap(), b"an archive");
    let mut unpacked = Vec::new();
    let packed = std::fs::File::open(plain.with_extension("img.gz")).unwrap();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed), &mut unpacked).unwrap();
    assert_eq!(unpacked, b"an archive");
}

#[test]
fn a_later_build_replaces_names_and_keeps_what_nodes_read() {
    for kind in KINDS {
        let place = tempfile::tempdir().unwrap();
        let to = place.path().join("to");
        let destination = destination(kind, &to);
        let builds = ["one", "two", "three"].map(|seed| image(&place.path().join(seed), seed));
        for build in &builds {
            apply(&request(build, &[], &destination)).unwrap();
        }
        let there = files(&to);
        let has = |seed: &str| there.values().any(|digest| *digest == Sha256::of(seed.as_bytes()).to_string());
        let keeps = ["tree", "systemd"].contains(&kind);
        assert!(has("three"), "{kind}");
        assert_eq!(has("two"), keeps, "{kind}");
        assert!(!has("one"), "{kind}");
        if keeps {
            let folders = std::fs::read_dir(to.join("builds")).unwrap().count();
            assert_eq!(folders, 2, "{kind}: what is empty goes");
        } else {
            let kept = std::fs::read_dir(to.join(".imgbuild-publish/compute/previous")).unwrap();
            let is_two = |path: &Path| std::fs::read(path).is_ok_and(|bytes| bytes == b"two");
            assert!(kept.flatten().any(|entry| is_two(&entry.path())), "{kind}");
        }
    }
}

#[test]
fn drift_is_named_and_mended_and_what_is_the_sites_is_refused() {
    for (kind, path) in [
        ("warewulf", "ipxe/imgbuild-compute.ipxe"),
        ("confluent", "profile.yaml"),
        ("tree", "boot.ipxe"),
        ("systemd", "boot.ipxe"),
    ] {
        let place = tempfile::tempdir().unwrap();
        let image = image(&place.path().join("out"), "one");
        let to = place.path().join("to");
        let destination = destination(kind, &to);
        let mut request = request(&image, &[], &destination);
        // The site has a file with one of the names.
        let at = to.join(path);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(&at, "the site's").unwrap();
        for refused in [plan(&request), apply(&request)] {
            assert!(matches!(refused, Err(Error::NotOurs { .. })), "{kind}: {refused:?}");
        }
        assert_eq!(files(&to).len(), 1, "{kind}");
        request.consent = Consent::ReplaceForeign;
        apply(&request).unwrap();
        let good = std::fs::read(&at).unwrap();
        assert_ne!(good, b"the site's");
        request.consent = Consent::KeepForeign;
        // Someone edits it, and someone removes it.
        std::fs::write(&at, "edited").unwrap();
        let planned = plan(&request).unwrap();
        assert_eq!(changes(&planned), [(path, Change::Drift)], "{kind}");
        assert_eq!(std::fs::read(&at).unwrap(), b"edited", "{kind}: a plan changes nothing");
        let done = apply(&request).unwrap();
        assert!(done.warnings.iter().any(|text| text.contains("changed by hand")), "{kind}: {:?}", done.warnings);
        assert_eq!(std::fs::read(&at).unwrap(), good);
        std::fs::remove_file(&at).unwrap();
        assert_eq!(changes(&apply(&request).unwrap()), [(path, Change::Drift)], "{kind}");
        assert_eq!(std::fs::read(&at).unwrap(), good);
        assert!(!apply(&request).unwrap().changes(), "{kind}");
    }
}

#[test]
fn nothing_is_written_through_links() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    for (kind, link, folder) in [
        ("warewulf", "provision", true),
        ("confluent", "boot", true),
        ("tree", "builds", true),
        ("systemd", "builds", true),
        ("tree", "boot.ipxe", false),
        ("confluent", "rootimg.sfs", false),
        ("tree", ".imgbuild-publish", true),
    ] {
        let place = tempfile::tempdir().unwrap();
        let image = image(&place.path().join("out"), "one");
        let to = place.path().join("to");
        std::fs::create_dir(&to).unwrap();
        std::fs::write(&victim, "precious").unwrap();
        symlink(if folder { outside.path() } else { &victim }, to.join(link)).unwrap();
        let destination = destination(kind, &to);
        let refused = apply(&request(&image, &[], &destination));
        assert!(refused.is_err(), "{kind}: {link}");
        assert_eq!(std::fs::read(&victim).unwrap(), b"precious", "{kind}: {link}");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1, "{kind}: {link}");
    }
}

#[test]
fn a_publication_that_was_killed_is_completed_by_the_next_one() {
    for kind in KINDS {
        let place = tempfile::tempdir().unwrap();
        let to = place.path().join("to");
        let destination = destination(kind, &to);
        let (one, two) = (image(&place.path().join("one"), "one"), image(&place.path().join("two"), "two"));
        apply(&request(&one, &[], &destination)).unwrap();
        let before = files(&to);
        apply(&request(&two, &[], &destination)).unwrap();
        let after = files(&to);
        let state = to.join(".imgbuild-publish");
        // As a run leaves it that was killed when one name was changed: the decision is there, and what is new of the others.
        let record = std::fs::read_to_string(state.join("compute.json")).unwrap();
        std::fs::write(state.join("compute.next.json"), &record).unwrap();
        let parsed: serde_json::Value = serde_json::from_str(&record).unwrap();
        let mut undone = 0;
        for (number, file) in parsed["files"].as_array().unwrap().iter().enumerate().skip(1) {
            let path = file["path"].as_str().unwrap();
            if before.get(path) == after.get(path) {
                continue;
            }
            std::fs::rename(to.join(path), state.join(format!("compute/new/{number}"))).unwrap();
            undone += 1;
        }
        assert!(undone > 0, "{kind}");
        assert_ne!(files(&to), after, "{kind}");
        let planned = plan(&request(&two, &[], &destination)).unwrap();
        assert!(planned.warnings.iter().any(|text| text.contains("interrupted")), "{kind}");
        let done = apply(&request(&two, &[], &destination)).unwrap();
        assert!(done.warnings.iter().any(|text| text.contains("interrupted")), "{kind}");
        assert_eq!(files(&to), after, "{kind}");
        assert!(!state.join("compute.next.json").exists());
        assert_eq!(std::fs::read_dir(state.join("compute/new")).unwrap().count(), 0, "{kind}");
    }
}

#[test]
fn a_build_whose_bytes_changed_is_not_published() {
    for kind in KINDS {
        let place = tempfile::tempdir().unwrap();
        let to = place.path().join("to");
        let destination = destination(kind, &to);
        for damaged in ["kernel", "rootimg.cpio.zst", "rootimg.sfs"] {
            let image = image(&place.path().join("out"), "one");
            if damaged == "rootimg.sfs" && kind == "warewulf"
                || damaged == "rootimg.cpio.zst" && ["confluent", "systemd"].contains(&kind)
            {
                continue;
            }
            // An archive that is whole, and another one.
            let bytes = zstd::stream::encode_all(&b"the archive of others"[..], 1).unwrap();
            std::fs::write(image.kernel.path.with_file_name(damaged), bytes).unwrap();
            let refused = apply(&request(&image, &[], &destination));
            assert!(matches!(refused, Err(Error::Damaged { .. })), "{kind}: {damaged}: {refused:?}");
            assert!(files(&to).is_empty(), "{kind}: {damaged}");
        }
    }
}

#[test]
fn what_cannot_work_on_a_node_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let mut image = image(&place.path().join("out"), "one");
    let squashfs = image.forms.pop().unwrap();
    for kind in ["confluent", "systemd"] {
        let destination = destination(kind, &place.path().join(kind));
        let refused = plan(&request(&image, &[], &destination)).unwrap_err();
        assert!(matches!(&refused, Error::Unfit { help, .. } if help.contains("squashfs")), "{refused:?}");
    }
    image.forms = vec![squashfs];
    let warewulf = destination("warewulf", &place.path().join("warewulf"));
    assert!(matches!(plan(&request(&image, &[], &warewulf)), Err(Error::Unfit { .. })));
    image.forms[0].words.push("imgbuild.statelite=sha256:00".to_owned());
    let systemd = destination("systemd", &place.path().join("systemd"));
    assert!(matches!(plan(&request(&image, &[], &systemd)), Err(Error::Unfit { .. })));
}

#[test]
fn two_images_share_a_directory_only_where_their_names_differ() {
    for (kind, is_shared) in [("warewulf", true), ("tree", false), ("confluent", false), ("systemd", false)] {
        let place = tempfile::tempdir().unwrap();
        let (one, mut two) = (image(&place.path().join("one"), "one"), image(&place.path().join("two"), "two"));
        two.name = "login".to_owned();
        let destination = destination(kind, &place.path().join("to"));
        apply(&request(&one, &[], &destination)).unwrap();
        let second = apply(&Request { consent: Consent::ReplaceForeign, ..request(&two, &[], &destination) });
        match second {
            Ok(_) => assert!(is_shared, "{kind}"),
            Err(Error::OfAnotherImage { image, .. }) => assert!(!is_shared && image == "compute", "{kind}"),
            Err(error) => panic!("{kind}: {error}"),
        }
        assert!(!apply(&request(&one, &[], &destination)).unwrap().changes(), "{kind}");
    }
}

#[test]
fn nodes_that_are_pinned_are_named_where_nothing_keeps_them_there() {
    let place = tempfile::tempdir().unwrap();
    let image = image(&place.path().join("out"), "one");
    let mut nodes = [node("n01", "aa:bb:cc:00:00:01"), node("n02", "aa:bb:cc:00:00:02")];
    nodes[1].build = Some("0123456789abcdef".to_owned());
    for kind in ["warewulf", "confluent", "systemd"] {
        let report = apply(&request(&image, &nodes, &destination(kind, &place.path().join(kind)))).unwrap();
        let named = |text: &String| text.starts_with("n02 is pinned to build 0123456789abcdef");
        assert!(report.warnings.iter().any(named), "{kind}: {:?}", report.warnings);
    }
}

#[test]
fn an_image_of_the_same_name_from_elsewhere_is_named() {
    for kind in KINDS {
        let place = tempfile::tempdir().unwrap();
        let destination = destination(kind, &place.path().join("to"));
        let at = |path: &str| place.path().join(path);
        let publish = |path: &str, seed: &str| {
            let report = apply(&request(&image(&at(path), seed), &[], &destination)).unwrap();
            report.warnings.iter().any(|text| text.contains("was published there from"))
        };
        assert!(!publish("here/one", "one") && !publish("here/two", "two"), "{kind}");
        assert!(publish("elsewhere/one", "three") && !publish("elsewhere/two", "four"), "{kind}");
    }
}

#[test]
fn boot_files_say_what_their_readers_expect() {
    let place = tempfile::tempdir().unwrap();
    let image = image(&place.path().join("out"), "one");
    let (build, digest) = (&image.build, image.forms[0].index.sha256);
    let nodes = [node("n01", "aa:bb:cc:00:00:01")];
    let text = |kind: &str, file: &str| {
        let to = place.path().join(kind);
        apply(&request(&image, &nodes, &destination(kind, &to))).unwrap();
        std::fs::read_to_string(to.join(file)).unwrap()
    };
    let head = |name: &str| {
        format!(
            "#!ipxe\n# compute {build}, written by imgbuild\n\
             isset ${{imgbuild-base}} || set imgbuild-base http://${{next-server}}/{name}\n"
        )
    };
    let url = format!("${{imgbuild-base}}/builds/{build}");
    let kernel = format!(
        "kernel {url}/kernel initrd=initrd-stateless imgurl={url}/rootimg.cpio.zst imgdigest=sha256:{digest} rootlimit=2G console=ttyS0"
    );
    let tail = format!("BOOTIF=01-${{netX/mac:hexhyp}}\ninitrd --name initrd-stateless {url}/initrd-stateless\nboot\n");
    let chain = "chain ${imgbuild-base}/nodes/01-${netX/mac:hexhyp}.ipxe ||\n";
    assert_eq!(text("tree", "boot.ipxe"), format!("{}{chain}{kernel} {tail}", head("tree")));
    assert_eq!(
        text("tree", "nodes/01-aa-bb-cc-00-00-01.ipxe"),
        format!("{}{kernel} systemd.hostname=n01 {tail}", head("tree"))
    );
    let pull = format!(
        "rd.systemd.pull=raw,machine,blockdev,verify=checksum:root:{url}/rootimg.sfs root=/dev/disk/by-loop-ref/root.raw \
         rootfstype=squashfs ro systemd.volatile=overlay ip=any console=ttyS0"
    );
    assert_eq!(
        text("systemd", "boot.ipxe"),
        format!(
            "{}kernel {url}/kernel initrd=initrd {pull}\ninitrd --name initrd ${{imgbuild-base}}/initrd\nboot\n",
            head("systemd")
        )
    );
    let sums = text("systemd", &format!("builds/{build}/SHA256SUMS"));
    assert_eq!(sums, format!("{} *kernel\n{} *rootimg.sfs\n", image.kernel.sha256, image.forms[1].rootimg.sha256));
    assert_eq!(
        text("confluent", "profile.yaml"),
        format!(
            "label: 'compute {build}'\nkernelargs: 'imgurl=http://${{next-server}}/confluent-public/os/confluent/rootimg.sfs \
             imgdigest=sha256:{digest} rootlimit=2G console=ttyS0'\n"
        )
    );
    let served = place.path().join("served");
    let served_at: Destination = format!("confluent:{}?files=http://10.0.0.5/p", served.display()).parse().unwrap();
    let report = apply(&request(&image, &nodes, &served_at)).unwrap();
    assert!(!report.warnings.iter().any(|text| text.contains("next-server")), "{:?}", report.warnings);
    let profile = std::fs::read_to_string(served.join("profile.yaml")).unwrap();
    assert!(profile.contains("kernelargs: 'imgurl=http://10.0.0.5/p/rootimg.sfs "), "{profile}");
    let template = text("warewulf", "ipxe/imgbuild-compute.ipxe");
    let url = format!("{{{{ index .Tags \"imgbuild\" }}}}/builds/{build}");
    let kernel = format!(
        "kernel --name kernel {url}/kernel initrd=initramfs wwid={{{{.Hwaddr}}}} {{{{.KernelArgs}}}} \
         imgurl={url}/rootimg.cpio.zst imgdigest=sha256:{digest} "
    );
    assert!(template.contains(&kernel), "{template}");
    assert!(template.contains(&format!("initrd --name initramfs {url}/initrd-stateless ||")), "{template}");
}
