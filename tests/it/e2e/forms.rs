//! Images in other forms than cpio in zstd: what independent readers find in them, what nodes do with them, what an edit costs.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::machine::{Server, cmdline_of, expect, start};
use super::namespaced::Lan;
use super::offline::vendored;
use super::same_bytes::Mounted;
use super::{Built, store, tiny};
use crate::support::{Space, copy_locked, copy_tree};

/// What images hold that archives lose: in a script, with its first argument the root.
const ODD: &str = r#"
odd="$1/srv/odd"; mkdir -p "$odd/sub"
printf 'some text\n' >"$odd/first"; ln "$odd/first" "$odd/sub/second"; cp "$odd/first" "$odd/alike"
printf a >"$odd/one-byte"; : >"$odd/empty"; ln -s "$(printf '%0300d' 7)" "$odd/long-link"
truncate -s 1000000 "$odd/sparse"; printf end >>"$odd/sparse"
mkfifo "$odd/fifo"; chmod 4755 "$odd/one-byte"; chmod 1777 "$odd/sub"; chown 33:65534 "$odd/empty"
cp "$1/usr/bin/dpkg" "$odd/large"; cat "$1/usr/bin/dpkg" "$1/usr/lib/x86_64-linux-gnu/libc.so.6" >>"$odd/large"
touch "$(printf "$odd/caf\351")" "$odd/$(printf '%0250d' 1)"
perl -e 'my ($n, $v) = ("user.note", "kept"); syscall(188, $ARGV[0], $n, $v, 4, 0) == 0 or die $!' "$odd/first"
mkdir "$odd/many"; for n in $(seq 600); do echo "$n" >"$odd/many/file-$n"; done
mkdir "$odd/small"; for n in $(seq 3000); do printf '%01000d' "$n" >"$odd/small/$n"; done
"#;

/// The tiny image in a form, with what archives lose; its init says what it finds.
pub fn image(pack: &str, more: &str) -> Space {
    let space = Space::new().with_store(&store());
    copy_locked(tiny().space.path(), space.path());
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    space.write("image.toml", &format!("{recipe}\n[pack]\n{pack}\n"));
    space.edit(
        "tiny.postinstall",
        "while :;",
        "grep -q ' / overlay ' /proc/mounts && echo \"ROOT IS OVERLAY\"\n\
         echo new >/srv/written && echo more >>/etc/hostname && cat /srv/written && echo \"WRITES ARE TAKEN\"\n\
         cat /usr/bin/* /usr/lib/*/*.so* >/dev/null && echo \"READS ARE WHOLE\"\nwhile :;",
    );
    let script = std::fs::read_to_string(space.path().join("tiny.postinstall")).unwrap();
    space.write("tiny.postinstall", &format!("{script}\n{more}"));
    space
}

pub fn build(space: &Space) -> String {
    space.run(&["build", "--locked", "--vendor", vendored().to_str().unwrap()]).good().err
}

/// Every path below a directory: kind, mode, owners, links, size, time, target, and the digest of its content.
pub fn listed(root: &Path) -> String {
    let script = "cd \"$1\" && find . -mindepth 1 -printf '%P %y %m %U %G %n %T@ %l ' \\( -type f -printf '%s ' -o -true \\) -printf '\\n' | sort; \
                  find . -type f -exec sha256sum {} + | sort -k2";
    let ran = Command::new("sh").args(["-c", script, "list"]).arg(root).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    // Names of tests' odd files are no UTF-8.
    String::from_utf8_lossy(&ran.stdout).lines().map(|line| format!("{}\n", comparable(line))).collect()
}

/// A directory's number of names depends on the file system that GNU cpio unpacks to, and it sets no times of links.
fn comparable(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    match words.get(1) {
        Some(&"d") => [&words[..5], &words[6..]].concat().join(" "),
        Some(&"l") => [&words[..6], &words[7..]].concat().join(" "),
        _ => line.to_owned(),
    }
}

pub fn mounted(image: &Path, kind: &str) -> Mounted {
    Mounted::of(image.to_str().unwrap(), &["-t", kind, "-o", "ro,loop"])
}

fn note(root: &Path) -> Vec<u8> {
    let mut value = [0; 16];
    let size = rustix::fs::getxattr(root.join("srv/odd/sub/second"), "user.note", &mut value).unwrap();
    value[..size].to_vec()
}

/// What GNU cpio finds in the image with all that archives lose.
fn expected() -> (String, u64) {
    let cpio = image("compress = \"none\"", ODD);
    build(&cpio);
    let plain = tempfile::tempdir().unwrap();
    let unpacked = Command::new("sh")
        .args(["-c", "cd \"$1\" && cpio -idm --quiet <\"$2\"", "unpack"])
        .arg(plain.path())
        .arg(cpio.artefact("tiny", "rootimg.cpio").canonicalize().unwrap())
        .status()
        .unwrap();
    assert!(unpacked.success());
    let expected = listed(plain.path());
    assert!(expected.contains("srv/odd/sub/second f 644 0 0 2 ") && expected.lines().count() > 3000);
    (expected, unpacked_bytes(&cpio))
}

/// What `imgbuild size` counts before compression.
fn unpacked_bytes(space: &Space) -> u64 {
    let sizes: serde_json::Value = serde_json::from_str(&space.run(&["size", "--json"]).good().out).unwrap();
    sizes["images"][0]["raw"].as_u64().unwrap()
}

#[test]
fn erofs_and_tar_hold_what_cpio_holds_by_the_kernel_fsck_and_gnu_tar() {
    let (expected, bytes) = expected();
    for pack in [
        "archive = \"erofs\"",
        "archive = \"erofs\"\nblock_size = 524288",
        "archive = \"erofs\"\nblock_size = 8192",
        "archive = \"erofs\"\ncompress = \"none\"",
    ] {
        let space = image(pack, ODD);
        build(&space);
        let image = space.artefact("tiny", "rootimg.erofs").canonicalize().unwrap();
        let checked = Command::new("fsck.erofs").arg("--extract").arg(&image).output().unwrap();
        assert!(checked.status.success(), "{pack}: {}", String::from_utf8_lossy(&checked.stderr));
        let kernel = mounted(&image, "erofs");
        similar_asserts(&listed(&kernel.path), &expected, pack);
        assert_eq!(note(&kernel.path), b"kept", "{pack}");
        // imgbuild's own reader, against the kernel; and of what mkfs.erofs makes, in each way that Debian 12's knows.
        let same = |image: &Path, tree: &Path| {
            let ran = space.run(&["diff", image.to_str().unwrap(), tree.to_str().unwrap(), "--detailed-exitcode"]);
            assert_eq!(ran.code, 0, "{pack}: {}{}", ran.out, ran.err);
        };
        same(&image, &kernel.path);
        if pack != "archive = \"erofs\"" {
            continue;
        }
        let directory = tempfile::tempdir().unwrap();
        let odd = kernel.path.join("srv");
        for (number, words) in
            [&["-T0"][..], &["-zlz4"], &["-zlz4hc,9", "-C65536"], &["-zlz4", "-x-1"]].iter().enumerate()
        {
            let made = directory.path().join(format!("{number}.erofs"));
            let ran = Command::new("mkfs.erofs").arg("--quiet").args(*words).args([&made, &odd]).output().unwrap();
            assert!(ran.status.success(), "{words:?}: {}", String::from_utf8_lossy(&ran.stderr));
            // What is inside, by the kernel: times and attributes are not in all of them.
            same(&made, &mounted(&made, "erofs").path);
        }
    }
    for (compress, end) in [("zstd", ".zst"), ("gzip", ".gz"), ("xz", ".xz"), ("none", "")] {
        let space = image(&format!("archive = \"tar\"\ncompress = \"{compress}\""), ODD);
        build(&space);
        let tar = space.artefact("tiny", &format!("rootimg.tar{end}")).canonicalize().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let ran = Command::new("tar")
            .args(["--auto-compress", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf"])
            .arg(&tar)
            .arg("-C")
            .arg(directory.path())
            .output()
            .unwrap();
        assert!(ran.status.success() && ran.stderr.is_empty(), "{compress}: {}", String::from_utf8_lossy(&ran.stderr));
        similar_asserts(&listed(directory.path()), &expected, compress);
        assert_eq!(note(directory.path()), b"kept", "{compress}");
        assert_eq!(unpacked_bytes(&space), bytes, "{compress}");
    }
}

#[test]
fn squashfs_holds_what_cpio_holds_by_the_kernel_and_by_unsquashfs() {
    let (expected, _) = expected();
    for pack in [
        "archive = \"squashfs\"",
        "archive = \"squashfs\"\ncompress = \"gzip\"\nblock_size = 4096",
        "archive = \"squashfs\"\ncompress = \"xz\"\nlevel = 1\nblock_size = 1048576",
        "archive = \"squashfs\"\ncompress = \"lz4\"",
        "archive = \"squashfs\"\ncompress = \"none\"",
    ] {
        let space = image(pack, ODD);
        build(&space);
        let sfs = space.artefact("tiny", "rootimg.sfs").canonicalize().unwrap();
        let kernel = mounted(&sfs, "squashfs");
        assert_eq!(note(&kernel.path), b"kept", "{pack}");
        similar_asserts(&listed(&kernel.path), &expected, pack);
        // imgbuild's own reader, against the kernel.
        let mount = kernel.path.to_str().unwrap();
        let same = |image: &Path, tree: &str| {
            let ran = space.run(&["diff", image.to_str().unwrap(), tree, "--detailed-exitcode"]);
            assert_eq!(ran.code, 0, "{pack}: {}{}", ran.out, ran.err);
        };
        same(&sfs, mount);
        let directory = tempfile::tempdir().unwrap();
        // What mksquashfs makes, which xCAT's packimage calls.
        let odd = format!("{mount}/srv");
        for compressor in ["gzip", "xz", "lz4", "zstd"] {
            let made = directory.path().join(compressor);
            let words = ["-comp", compressor, "-quiet", "-no-progress"];
            let ran = Command::new("mksquashfs").arg(&odd).arg(&made).args(words).output().unwrap();
            assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
            same(&made, &odd);
        }
        let ran = Command::new("unsquashfs")
            .args(["-no-progress", "-d"])
            .arg(directory.path().join("root"))
            .arg(&sfs)
            .output()
            .unwrap();
        assert!(ran.status.success(), "{pack}: {}", String::from_utf8_lossy(&ran.stderr));
        similar_asserts(&listed(&directory.path().join("root")), &expected, pack);
    }
}

/// Shows the first line that differs, not thousands.
#[track_caller]
pub fn similar_asserts(found: &str, expected: &str, what: &str) {
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected, "{what}");
    }
    assert_eq!(found.lines().count(), expected.lines().count(), "{what}");
}

#[test]
fn a_file_more_costs_a_squashfs_its_own_frame_and_the_tables_and_the_bytes_are_a_clean_builds() {
    let sync = "[sync]\nlists = [\"a.synclist\"]";
    let space = image("archive = \"squashfs\"", "");
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    space.write("image.toml", &format!("{recipe}\n{sync}\n"));
    space.write("a.synclist", "site/motd -> /etc/motd\n").write("site/motd", "a node\n");
    build(&space);
    let frames = || -> Vec<(String, u64)> {
        let text = std::fs::read(space.artefact("tiny", "rootimg.sfs.index")).unwrap();
        let index: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(index["archive"], "squashfs");
        let frames = index["frames"].as_array().unwrap().iter();
        frames.map(|frame| (frame["sha256"].as_str().unwrap().to_owned(), frame["size"].as_u64().unwrap())).collect()
    };
    let before: BTreeSet<(String, u64)> = frames().into_iter().collect();
    space.write("site/motd", "a node, with news\n");
    build(&space);
    let after = frames();
    let changed: Vec<u64> = after.iter().filter(|frame| !before.contains(*frame)).map(|frame| frame.1).collect();
    // The file's frame, the tables, and the superblock, unless all that it names stands where it stood: parts begin at whole pages.
    assert_eq!(after[0].1, 4096, "the superblock is a frame of its own");
    assert!((1..=3).contains(&changed.len()), "{changed:?} of {}", after.len());
    assert!(changed.iter().sum::<u64>() < after.iter().map(|frame| frame.1).sum::<u64>() / 4, "{changed:?}");
    // One job, trees copied, a store of its own; and not the only form: it has the bytes that it has alone.
    let clean = Space::new();
    copy_tree(space.path(), clean.path());
    clean.edit("image.toml", "[pack]\narchive", "[[pack.also]]\narchive");
    std::fs::copy(space.path().join("image.lock"), clean.path().join("image.lock")).unwrap();
    let vendored = vendored().to_str().unwrap();
    clean.run(&["-j1", "--assemble", "copy", "build", "--locked", "--vendor", vendored]).good();
    for name in ["rootimg.sfs", "rootimg.sfs.index", "initrd-stateless"] {
        let read = |space: &Space| std::fs::read(space.artefact("tiny", name)).unwrap();
        assert!(read(&space) == read(&clean), "{name} differs");
    }
}

#[test]
fn boot_what_stays_packed_is_mounted_below_an_overlay_and_a_flipped_byte_is_refused() {
    let pack = "archive = \"squashfs\"\n\n[[pack.also]]\narchive = \"erofs\"";
    let built = Built { space: image(pack, ""), key: tiny().key.clone() };
    build(&built.space);
    let directory = built.space.artefact("tiny", ".").canonicalize().unwrap();
    for rootimg in ["rootimg.sfs", "rootimg.erofs"] {
        let misdeed = move |name: &str, number: usize, mut bytes: Vec<u8>| {
            if name.ends_with(rootimg) && number == 0 {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            Some(bytes)
        };
        let server = Server::start(&directory, 0, Arc::new(misdeed));
        let url = format!("http://10.0.2.2:{}", server.port);
        let words = cmdline_of(&built, "tiny", rootimg, &url);
        let running = start(&built, "tiny", words, |machine| machine.memory_mib = 512);
        expect(&running, "NODE IS UP: node-525400123456");
        for text in ["ROOT IS OVERLAY", "WRITES ARE TAKEN", "READS ARE WHOLE"] {
            expect(&running, text);
        }
        let console = running.console();
        assert!(
            console.contains("wrong digest: bytes") && console.contains("the image is mounted as it is"),
            "{console}"
        );
    }
}

/// Gives a file `cap_net_raw`: setxattr is 188 here. Source: linux/capability.h, VFS_CAP_REVISION_2.
const CAPABLE: &str = r#"
perl -e 'my ($n, $v) = ("security.capability", pack("V5", 0x02000001, 1 << 13, 0, 0, 0)); syscall(188, $ARGV[0], $n, $v, 20, 0) == 0 or die $!' "$1/usr/bin/dpkg"
"#;

/// Prints it: getxattr is 191.
const SHOWS_CAPABILITY: &str = r#"perl -e 'my ($f, $n, $v) = ("/usr/bin/dpkg", "security.capability", "\0" x 32); my $l = syscall(191, $f, $n, $v, 32); print "CAPABILITY ", unpack("H*", substr($v, 0, $l)), "\n"'"#;

#[test]
fn privileged_other_compressions_and_tar_are_unpacked_on_a_node() {
    let also = ["cpio\"\ncompress = \"lz4", "cpio\"\ncompress = \"none", "tar\"\ncompress = \"gzip"];
    let also = also.map(|form| format!("\n[[pack.also]]\narchive = \"{form}\"\n")).concat();
    let space = image(&format!("compress = \"xz\"\n{also}"), CAPABLE);
    space.edit("tiny.postinstall", "cat /usr/bin/* ", &format!("{SHOWS_CAPABILITY}\ncat /usr/bin/* "));
    let built = Built { space, key: tiny().key.clone() };
    build(&built.space);
    let directory = built.space.artefact("tiny", ".").canonicalize().unwrap();
    for rootimg in ["rootimg.cpio.xz", "rootimg.cpio.lz4", "rootimg.cpio", "rootimg.tar.gz"] {
        let lan = Lan::new();
        let server = Server::start_in(&lan, &directory, 0, Arc::new(|_: &str, _, bytes| Some(bytes)));
        let words = cmdline_of(&built, "tiny", rootimg, &format!("http://10.0.2.2:{}", server.port));
        let mut node = lan.start(&directory.join("initrd-stateless"), &words, 1024);
        node.expect("NODE IS UP: node-525400123456");
        node.expect("ROOT IS TMPFS");
        node.expect("READS ARE WHOLE");
        node.expect(&format!("CAPABILITY {}", "0100000200200000000000000000000000000000"));
    }
}

#[test]
fn several_forms_of_an_image_are_published_side_by_side_and_each_is_an_action_of_its_own() {
    let also = "[[pack.also]]\narchive = \"squashfs\"\n\n[[pack.also]]\narchive = \"tar\"\ncompress = \"gzip\"\n";
    // Bytes that no other test packs: a form that was packed once is not packed again, whoever asked.
    let own = "echo several >\"$1/etc/several\"\n";
    let space = image("compress = \"zstd\"", own);
    build(&space);
    let before = std::fs::read(space.artefact("tiny", "rootimg.cpio.zst")).unwrap();
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    space.write("image.toml", &format!("{recipe}\n{also}"));
    let plan = space.run(&["plan"]).good().out;
    for line in ["rootimg-sfs    run", "rootimg-tar.gz run", "pack.also += \"rootimg.sfs\""] {
        assert!(plan.contains(line), "{line}: {plan}");
    }
    let sizes = |space: &Space| space.run(&["size", "tiny", "--json"]).good().out;
    let sizes_before = sizes(&space);
    let err = build(&space);
    // Sizes are those of one form.
    assert_eq!(sizes(&space), sizes_before);
    assert!(err.contains("pack/rootimg-sfs: done") && !err.contains("pack/rootimg: "), "{err}");
    assert!(before == std::fs::read(space.artefact("tiny", "rootimg.cpio.zst")).unwrap());
    let directory = space.artefact("tiny", ".").canonicalize().unwrap();
    let checked = Command::new("sha256sum").args(["-c", "SHA256SUMS"]).current_dir(&directory).output().unwrap();
    let sums = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success() && sums.contains("rootimg.tar.gz.index: OK"), "{sums}");
    let info: serde_json::Value =
        serde_json::from_slice(&std::fs::read(directory.join("build.json")).unwrap()).unwrap();
    assert_eq!(info["cmdline"][0], "imgurl={url}/rootimg.cpio.zst");
    assert_eq!([&info["also"][0]["rootimg"], &info["also"][1]["rootimg"]], ["rootimg.sfs", "rootimg.tar.gz"]);
    assert_eq!(info["also"][0]["cmdline"][0], "imgurl={url}/rootimg.sfs");
    assert!(info["also"][0]["memory"].as_u64().unwrap() < info["memory"].as_u64().unwrap(), "{info}");
    let wrong = space.run(&["boot-entry", "tiny", "--url", "http://one", "--rootimg", "rootimg.erofs"]);
    assert!(
        wrong.code == 64 && wrong.err.contains("it has rootimg.cpio.zst, rootimg.sfs, rootimg.tar.gz"),
        "{}",
        wrong.err
    );
    space.run(&["plan", "--detailed-exitcode"]).good();

    // xCAT gets the form that it has a name for, and no other is made for it.
    let osimage = format!("xcat:{}", space.path().join("osimage").display());
    let err = space.run(&["build", "--locked", "--publish", &osimage]).good().err;
    assert!(space.path().join("osimage/rootimg.sfs").is_file() && !err.contains("pack/rootimg-gzip"), "{err}");
    // A shell stands in the file of each form, and in the layers.
    let seen = |image: &str| {
        let script = "stat -c '%a %u %g' /; stat -c '%a %u %g %Y %n' /usr /etc/several /etc/shadow /usr/bin/perl; cat /etc/several; echo ---; \
                      find /etc /usr /sbin -xdev -printf '%p %m %U %G %n %l\n' | sort";
        let out = space.run(&["shell", image, "--", "/bin/sh", "-c", script]).good().out;
        let (first, all) = out.split_once("several\n---\n").unwrap();
        (first.to_owned(), all.to_owned())
    };
    let packed = ["rootimg.cpio.zst", "rootimg.sfs", "rootimg.tar.gz"];
    let packed = packed.map(|name| seen(directory.join(name).to_str().unwrap()));
    // The layers have what the exclude list takes, too.
    assert_eq!(packed[0].0, seen("tiny").0);
    assert!(packed[0].1.lines().count() > 1000 && packed[0] == packed[1] && packed[1] == packed[2]);
    let refused = |file: &str, part: &str| {
        let said = space.run(&["shell", file, "--", "/bin/true"]);
        assert!(said.code == 1 && said.err.contains(part), "{file}: {} {}", said.code, said.err);
    };
    // A command's own status, and that of a command which is not there.
    for (words, code) in [("exit 7", 7), ("kill -9 $$", 137), ("exec /no/such", 127), ("exec /etc/passwd", 126)] {
        assert_eq!(space.run(&["shell", "tiny", "--", "/bin/sh", "-c", words]).code, code, "{words}");
    }
    for (program, code) in [("/no/such", 127), ("/etc/passwd", 126)] {
        let ran = space.run(&["shell", "tiny", "--", program]);
        assert!(ran.code == code && ran.err.contains(program), "{program}: {} {}", ran.code, ran.err);
    }
    refused("out/tiny/", "it is a directory; name a packed image");
    refused("./image.toml", "neither an archive in cpio or tar, nor squashfs or erofs");
    refused("out/nothing", "cannot read `out/nothing`");

    // A fetched copy has all forms.
    let server = Server::start(&directory, 0, Arc::new(|_: &str, _, bytes| Some(bytes)));
    let copy = space.path().join("copy");
    space.run(&["fetch", &format!("http://127.0.0.1:{}", server.port), copy.to_str().unwrap()]).good();
    for name in ["rootimg.cpio.zst", "rootimg.sfs", "rootimg.tar.gz.index"] {
        assert!(std::fs::read(copy.join(name)).unwrap() == std::fs::read(directory.join(name)).unwrap(), "{name}");
    }

    // A form that is taken out is published no longer, though nothing has to be packed for that.
    space.edit("image.toml", "[[pack.also]]\narchive = \"tar\"\ncompress = \"gzip\"\n", "");
    let plan = space.run(&["plan"]).good().out;
    assert!(plan.contains("rootimg.tar.gz"), "{plan}");
    build(&space);
    assert!(!space.artefact("tiny", "rootimg.tar.gz").exists() && space.artefact("tiny", "rootimg.sfs").exists());
    // Two of one name, and what a form cannot have.
    for (line, problem) in [
        (
            "archive = \"cpio\"",
            "two image formats would have the same file name: rootimg.cpio.zst is already made for `pack`",
        ),
        ("archive = \"erofs\"\ncompress = \"xz\"", "imgbuild does not write erofs with xz"),
        ("archive = \"tar\"\nblock_size = 65536", "tar has no blocks"),
        ("archive = \"tar\"\nframes = \"single\"", "`frames` is not a key of [pack.also[1]]"),
    ] {
        space.write(
            "image.toml",
            &format!("{recipe}\n{also}\n[[pack.also]]\n{line}\n")
                .replace(also, "[[pack.also]]\narchive = \"squashfs\"\n"),
        );
        let ran = space.run(&["check"]);
        let said = ran.err.replace(['\n', '│'], " ");
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(ran.code == 1 && said.contains(problem), "{said}");
    }
}
