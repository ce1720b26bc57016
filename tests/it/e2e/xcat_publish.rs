//! `build --publish xcat:DIR`: what is in the directory, and nodes that boot it with xCAT's own command line.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::OnceLock;

use boot::{Board, Machine};

use super::locked_copy as copy;
use super::machine::{QUICK, Server, expect};
use super::namespaced::{Lan, Node};
use super::{shared, store, tiny};
use crate::support::{Space, copy_locked, copy_tree};

/// The osimage's rootimgdir, below what the server serves.
const ROOTIMGDIR: &str = "install/netboot/debian12/x86_64/compute";

fn copy_into(space: &Space) {
    copy_locked(tiny().space.path(), space.path());
}

fn target(space: &Space) -> PathBuf {
    space.path().canonicalize().unwrap().join(ROOTIMGDIR)
}

fn publish(space: &Space) -> crate::support::Ran {
    space.run(&["build", "--locked", "--publish", &format!("xcat:{}", target(space).display())])
}

/// The tiny image published for xCAT, by a recipe that packs zstd; once for all tests of a run.
fn published() -> &'static Space {
    static SPACE: OnceLock<Space> = OnceLock::new();
    SPACE.get_or_init(|| {
        shared::space("published", |space| {
            copy_into(space);
            publish(space).good();
        })
    })
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const PUBLISHED: [&str; 5] =
    ["initrd-stateless.gz", "kernel", "rootimg.cpio.gz", "rootimg.cpio.gz.index", "rootimg.cpio.gz.sha256"];

#[track_caller]
fn shell(directory: &Path, script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn other_tools_read_what_is_published_for_xcat() {
    let directory = target(published());
    assert_eq!(names(&directory), PUBLISHED);
    for name in PUBLISHED {
        let metadata = directory.join(name).symlink_metadata().unwrap();
        assert!(metadata.is_file(), "{name}");
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o644, "{name}");
    }
    assert_eq!(shell(&directory, "sha256sum -c rootimg.cpio.gz.sha256").lines().count(), 2);
    shell(&directory, "gzip -t rootimg.cpio.gz initrd-stateless.gz");
    assert_eq!(shell(&directory, "gzip -dc initrd-stateless.gz | cpio -it --quiet | grep -cx init"), "1");
    // xCAT's own initrd does no more than this.
    assert_eq!(shell(&directory, "gzip -dc rootimg.cpio.gz | cpio -it --quiet | grep -cx sbin/init || true"), "0");
    assert_eq!(shell(&directory, "gzip -dc rootimg.cpio.gz | cpio -it --quiet | grep -cx usr/sbin/init"), "1");
    // The recipe's own form is as it was.
    assert!(published().artefact("tiny", "rootimg.cpio.zst").exists());
}

#[test]
fn publishing_again_runs_nothing_mends_and_keeps_what_is_foreign() {
    let space = copy();
    let directory = target(&space);
    std::fs::create_dir_all(directory.join("rootimg/etc")).unwrap();
    std::fs::write(directory.join("rootimg/etc/hostname"), "tree\n").unwrap();
    std::fs::write(directory.join("site-notes.txt"), "ours\n").unwrap();
    std::fs::write(directory.join("initrd-statelite.gz"), "statelite\n").unwrap();
    // As packimage and genimage leave them.
    std::fs::write(directory.join("rootimg.tar.gz"), "stale\n").unwrap();
    std::fs::write(directory.join("kernel"), "stale\n").unwrap();
    std::fs::set_permissions(directory.join("kernel"), PermissionsExt::from_mode(0o600)).unwrap();
    let ran = publish(&space).good();
    assert!(ran.err.contains("removed rootimg.tar.gz: boot entries naming it"), "{}", ran.err);
    let all = || {
        let mut all = PUBLISHED.to_vec();
        all.extend(["initrd-statelite.gz", "rootimg", "site-notes.txt"]);
        all.sort_unstable();
        all
    };
    assert_eq!(names(&directory), all());
    let sums = |directory: &Path| shell(directory, "sha256sum kernel initrd-stateless.gz rootimg.cpio.gz*");
    assert_eq!(sums(&directory), sums(&target(published())));
    assert_eq!(std::fs::read_to_string(directory.join("rootimg/etc/hostname")).unwrap(), "tree\n");
    let before = sums(&directory);
    std::fs::write(directory.join("rootimg.cpio.gz"), "damaged\n").unwrap();
    std::fs::remove_file(directory.join("kernel")).unwrap();
    // What a killed run leaves.
    std::fs::create_dir_all(directory.join(".imgbuild-publish/new")).unwrap();
    std::fs::write(directory.join(".imgbuild-publish/new/rootimg.cpio.gz"), "half").unwrap();
    let option = format!("xcat:{}", directory.display());
    let plan = || space.run(&["plan", "--publish", &option]).good().out;
    let drift = plan();
    assert!(
        drift.contains("/compute kernel is missing") && drift.contains("/compute rootimg.cpio.gz is missing"),
        "{drift}"
    );
    let ran = publish(&space).good();
    assert!(ran.err.contains("ran nothing"), "{}", ran.err);
    assert!(!plan().contains("is missing or was modified"), "{}", plan());
    assert_eq!((sums(&directory), names(&directory)), (before, all().into_iter().map(str::to_owned).collect()));
}

#[test]
fn links_of_others_where_it_is_published_lead_nowhere() {
    let space = copy();
    let directory = target(&space);
    std::fs::create_dir_all(&directory).unwrap();
    space.write("outside/victim", "precious\n").write("outside/new/kernel", "precious\n");
    let outside = || shell(&space.path().join("outside"), "find . -printf '%p %m %l\\n' | sort; cat victim new/kernel");
    let before = outside();
    let there = |name: &str| space.path().canonicalize().unwrap().join("outside").join(name);
    for (name, to) in [
        ("kernel", "victim"),
        ("rootimg.cpio.gz.sha256", "created"),
        (".imgbuild-publish", ""),
        (".imgbuild-publish.lock", "created"),
        (".imgbuild-publish.lock", "victim"),
    ] {
        let link = directory.join(name);
        let _ = std::fs::remove_file(&link);
        symlink(there(to), &link).unwrap();
        let ran = publish(&space);
        assert_eq!(outside(), before, "{name}: {}", ran.err);
        if link.is_symlink() {
            assert!(ran.code != 0 && ran.err.contains("link"), "{name}: {} {}", ran.code, ran.err);
            std::fs::remove_file(&link).unwrap();
        } else {
            assert_eq!(ran.code, 0, "{name}: {}", ran.err);
        }
    }
    // The image's own names.
    for (name, to) in [("out/.tiny.new", "victim"), ("out/.builds/tiny/.lock", "created"), ("out/.builds", "")] {
        let link = space.path().join(name);
        let _ = std::fs::remove_dir_all(&link);
        let _ = std::fs::remove_file(&link);
        symlink(there(to), &link).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::lchown(&link, Some(1234), Some(1234)).unwrap();
        }
        let ran = publish(&space);
        assert_eq!(outside(), before, "{name}: {}", ran.err);
        assert!(ran.code == 0 || ran.err.contains("link"), "{name}: {} {}", ran.code, ran.err);
        let _ = std::fs::remove_file(&link);
    }
    publish(&space).good();
}

#[test]
fn a_recipe_that_packs_gzip_is_packed_once() {
    let space = copy();
    space.edit("image.toml", "[boot]", "[pack]\ncompress = \"gzip\"\n\n[initrd]\ncompress = \"gzip\"\n\n[boot]");
    let ran = publish(&space).good();
    assert!(ran.err.contains(" of 10;") && !ran.err.contains("-gzip"), "{}", ran.err);
    for (own, theirs) in [("rootimg.cpio.gz", "rootimg.cpio.gz"), ("initrd-stateless", "initrd-stateless.gz")] {
        let own = std::fs::read(space.artefact("tiny", own)).unwrap();
        assert!(own == std::fs::read(target(&space).join(theirs)).unwrap(), "{theirs}");
        // The form that is made for xCAT alone is the same.
        assert!(own == std::fs::read(target(published()).join(theirs)).unwrap(), "{theirs}");
    }
}

#[test]
fn a_full_disk_leaves_the_old_files_and_a_mount_behind_a_link_is_published_into() {
    let space = published();
    let other = tempfile::tempdir().unwrap();
    std::fs::create_dir(other.path().join("mount")).unwrap();
    symlink("mount", other.path().join("dir")).unwrap();
    // Room for the kernel and the initrd, but not for the image. A mount of our own needs root.
    let script = format!(
        "cd '{here}' && mount -t tmpfs -o size=24m none mount && for name in {names}; do echo old >mount/$name; done && \
         build() {{ '{program}' -C '{recipe}' --store '{store}' build --locked --publish 'xcat:{here}/dir' >&2; }} && \
         {{ build; echo $?; ls -A mount; cat mount/*; mount -o remount,size=256m mount && build; echo $?; \
         ls -A mount; cd mount && sha256sum --quiet -c rootimg.cpio.gz.sha256 && test -L ../dir && echo whole; }}",
        here = other.path().display(),
        names = PUBLISHED.join(" "),
        program = env!("CARGO_BIN_EXE_imgbuild"),
        recipe = space.path().display(),
        store = store().display(),
    );
    let output = Command::new("unshare").args(["-m", "sh", "-c", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let names = PUBLISHED.join("\n");
    let expected = format!("3\n{names}\n{}0\n{names}\nwhole\n", "old\n".repeat(PUBLISHED.len()));
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{said}");
    assert!(said.contains("rootimg.cpio.gz") && said.contains("still has the earlier files"), "{said}");
}

#[test]
fn two_publishers_at_once_wait_for_one_another() {
    let space = published();
    let directory = tempfile::tempdir().unwrap();
    let option = format!("xcat:{}", directory.path().join("a/b").display());
    std::thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| space.run(&["build", "--locked", "--publish", &option])));
        for one in both {
            one.join().unwrap().good();
        }
    });
    assert_eq!(names(&directory.path().join("a/b")), PUBLISHED);
    shell(&directory.path().join("a/b"), "sha256sum -c rootimg.cpio.gz.sha256");
}

/// What xCAT's nodeset has a node started with: its words, its order, its two slashes.
fn words(port: u16, card: &str) -> String {
    format!(
        "imgurl=http://10.0.2.2:{port}//{ROOTIMGDIR}/rootimg.cpio.gz XCAT=10.0.2.2:3001 NODE=node1 FC=0 XCATHTTPPORT=80 {card} console=ttyS0"
    )
}

/// Starts a node in namespaces from a directory's initrd.
fn node(lan: &Lan, directory: &Path, server: &Server, card: &str) -> Node {
    lan.start(&directory.join("initrd-stateless.gz"), &words(server.port, card), 1024)
}

const CARD: &str = "BOOTIF=52:54:00:12:34:56";

#[test]
fn boot_by_xcats_command_line_checks_the_digest_file() {
    let server = Server::start(published().path(), 0, Arc::new(|_: &str, _, bytes| Some(bytes)));
    let directory = target(published());
    let machine = Machine {
        kernel: directory.join("kernel"),
        initrd: directory.join("initrd-stateless.gz"),
        cmdline: format!("{} {QUICK}", words(server.port, CARD)),
        memory_mib: 1024,
        cpus: 1,
        board: Board::of("x86_64"),
        processor: Machine::MODERN,
        firmware: None,
        network: vec![Machine::user_network("52:54:00:12:34:56", None)],
        disks: Vec::new(),
    };
    let running = machine.start().unwrap();
    expect(&running, "NODE IS UP: node1 ");
    expect(&running, "ROOT IS TMPFS");
    let console = running.console();
    assert!(console.contains("rootimg.cpio.gz.sha256: integrity, not authenticity"), "{console}");
}

#[test]
fn privileged_without_a_digest_file_it_says_so_and_comes_up() {
    // By the names that a node's own udev would give: nobody is called eno1 here.
    let gone = |name: &str, _, bytes| (!name.ends_with(".sha256")).then_some(bytes);
    let space = copy();
    publish(&space).good();
    std::fs::remove_file(target(&space).join("rootimg.cpio.gz.sha256")).unwrap();
    let lan = Lan::new();
    let server = Server::start_in(&lan, space.path(), 0, Arc::new(gone));
    let mut node = node(&lan, &target(&space), &server, "netdev=eno1");
    node.expect("no interface is named eno1");
    node.expect("NODE IS UP: node1 ");
    let console = node.console();
    assert!(
        console.contains("there is no http://10.0.2.2:") && console.contains("but not for who made it"),
        "{console}"
    );
}

#[test]
fn privileged_a_digest_file_of_another_image_is_refused() {
    let other = |name: &str, _, bytes: Vec<u8>| match name.ends_with(".sha256") {
        true => Some(String::from_utf8(bytes).unwrap().replace(['1', '2', '3'], "0").into_bytes()),
        false => Some(bytes),
    };
    let lan = Lan::new();
    let server = Server::start_in(&lan, published().path(), 0, Arc::new(other));
    let mut node = node(&lan, &target(published()), &server, "ifname=eno1:52:54:00:12:34:56 netdev=eno1");
    node.expect("wrong digest: http://10.0.2.2:");
    node.expect("rootimg.cpio.gz.sha256 lists");
    node.expect_times("wrong digest:", 3);
    let console = node.console();
    assert!(!console.contains("fetching") && !console.contains("NODE IS UP"), "{console}");
}

#[test]
fn privileged_a_boot_of_an_image_that_is_replaced_meanwhile_starts_over() {
    let space = Arc::new(copy());
    publish(&space).good();
    let directory = target(&space);
    let machine = tempfile::tempdir().unwrap();
    copy_tree(&directory, machine.path());
    let index = std::fs::read(directory.join("rootimg.cpio.gz.index")).unwrap();
    space.edit("tiny.postinstall", "set -e\n", "set -e\nseq 100000 >$1/etc/changed\n");
    let publisher = Arc::clone(&space);
    let misdeed = move |name: &str, number: usize, bytes: Vec<u8>| {
        if !name.ends_with("rootimg.cpio.gz") {
            return Some(bytes);
        }
        if number == 0 {
            // The node has the old index by now.
            publish(&publisher).good();
        }
        std::fs::read(target(&publisher).join("rootimg.cpio.gz")).ok()
    };
    let lan = Lan::new();
    let server = Server::start_in(&lan, space.path(), 0, Arc::new(misdeed));
    let mut node = node(&lan, machine.path(), &server, CARD);
    node.expect("was replaced on the server while it was fetched: starting over");
    node.expect("NODE IS UP: node1 ");
    assert_ne!(std::fs::read(directory.join("rootimg.cpio.gz.index")).unwrap(), index);
}

#[test]
fn forms_that_xcat_knows_keep_their_names_and_the_one_before_goes() {
    let space = copy();
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    let directory = target(&space);
    for (pack, rootimg, check) in [
        ("archive = \"squashfs\"", "rootimg.sfs", "unsquashfs -s rootimg.sfs | grep -q 'Compression zstd'"),
        ("archive = \"tar\"\ncompress = \"xz\"", "rootimg.tar.xz", "tar -tJf rootimg.tar.xz | grep -qx usr/sbin/init"),
        ("compress = \"xz\"", "rootimg.cpio.xz", "xz -dc rootimg.cpio.xz | cpio -it --quiet | grep -qx usr/sbin/init"),
        ("archive = \"erofs\"", "rootimg.cpio.gz", "gzip -t rootimg.cpio.gz"),
    ] {
        space.write("image.toml", &format!("{recipe}\n[pack]\n{pack}\n"));
        publish(&space).good();
        let expected = ["initrd-stateless.gz".to_owned(), "kernel".to_owned()]
            .into_iter()
            .chain(["", ".index", ".sha256"].map(|end| format!("{rootimg}{end}")));
        assert_eq!(names(&directory), expected.collect::<Vec<_>>(), "{pack}");
        shell(&directory, check);
        assert_eq!(shell(&directory, &format!("sha256sum -c {rootimg}.sha256")).lines().count(), 2);
        assert_eq!(space.to_do(), Vec::<String>::new(), "{pack}");
    }
}
