//! The readers, and what each is fed with.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use archive::{self, Member, MemberKind};
use base::source::SourceFile;
use nodes::Nodes;
use nodes::xcat_range::Files;
use packages::{self, installed, rpm};
use xcat::{self, Flavor, LoadError, Loader};

use crate::mutate::Form::{self, Bytes, Tar, Text};
use crate::{node, seeds};

#[path = "../../imgbuild-init/src/cmdline.rs"]
#[allow(dead_code, unreachable_pub, reason = "the node's own file, of which only the reader is fed")]
mod cmdline;
#[path = "../../imgbuild-init/src/network/message.rs"]
#[allow(dead_code, unreachable_pub, reason = "the node's own file, of which only the reader is fed")]
mod message;
#[path = "../../imgbuild-init/src/network/v6"]
#[allow(dead_code, unreachable_pub, reason = "the node's own files, of which only the readers are fed")]
mod v6 {
    pub mod announcement;
    pub mod message;
}

pub struct Target {
    pub name: &'static str,
    pub form: Form,
    pub made: fn(&Path) -> Vec<Vec<u8>>,
    /// Folders with seeds, and how their names end.
    pub folders: &'static [(&'static str, &'static str)],
    /// Reads an input; the folder is the reader's own.
    pub read: fn(&[u8], &Path),
}

const RPM: &str = "../shared/corpus/rpm";
const XCAT: &str = "../shared/corpus/xcat";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn file(name: &str, bytes: &[u8]) -> Arc<SourceFile> {
    SourceFile::new(name, name, text(bytes))
}

fn none(_: &Path) -> Vec<Vec<u8>> {
    Vec::new()
}

/// Reads an archive's members and their contents.
fn member(member: Member<'_>) -> Result<(), String> {
    if let MemberKind::File(content) = member.kind {
        std::io::copy(content, &mut std::io::sink()).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Lists a packed tree as `size` does, with its package database.
fn packed(bytes: &[u8], place: &Path) {
    let path = place.join("packed");
    std::fs::write(&path, bytes).unwrap();
    let _ = build::sized_tree(&path);
}

struct Alone;

impl Loader for Alone {
    fn load(&self, _: &str, from: &SourceFile) -> Result<Arc<SourceFile>, LoadError> {
        // A list that includes itself, by another name.
        Ok(SourceFile::new(format!("{}+", from.name), &from.path, from.text.as_str()))
    }

    fn exists(&self, _: &str, from: &SourceFile) -> bool {
        from.name.len() < 40
    }

    fn variable(&self, name: &str) -> Option<String> {
        (name.len() < 9).then(|| "value".to_owned())
    }
}

fn imgbuild(arguments: &[&str], place: &Path) {
    let ran = std::process::Command::new(env!("CARGO_BIN_EXE_imgbuild"))
        .args(arguments)
        .env("IMGBUILD_STORE", place.join("store"))
        .env("TMPDIR", place)
        .output()
        .unwrap();
    let code = ran.status.code();
    assert!(matches!(code, Some(0 | 1 | 3 | 4)), "{arguments:?}: {code:?} {}", text(&ran.stderr));
    let said = text(&ran.stderr);
    assert!(!said.contains("panicked") && code != Some(3), "{arguments:?}: {said}");
}

/// A published image whose index or build.json is the input; the other fits to it.
fn fetched(place: &Path, change: impl FnOnce(&Path)) {
    let origin = place.join("origin");
    std::fs::create_dir_all(&origin).unwrap();
    change(&origin);
    let url = format!("file://{}", origin.display());
    let fetcher = packages::Fetcher::new();
    struct Quiet;
    impl packages::Progress for Quiet {
        fn downloaded(&self, _: usize, _: usize, _: u64, _: u64) {}
    }
    let _ = build::delta(&url, &url, &fetcher);
    let _ = build::fetch(&url, &place.join("copy"), None, &fetcher, &Quiet);
    let _ = std::fs::remove_dir_all(&origin);
    let _ = std::fs::remove_dir_all(place.join("copy"));
    let _ = std::fs::remove_dir_all(place.join(".copy.fetching"));
}

fn build_text(index: &[u8]) -> String {
    let sha = |bytes: &[u8]| base::digest::Sha256::of(bytes).to_string();
    serde_json::json!({
        "format_version": "1.0", "name": "made-up", "target": "debian 12 x86_64", "epoch": 1, "kernel_release": "6.1",
        "cmdline": [], "memory": 1, "layers": [], "not_reproducible": [],
        "artefacts": [
            {"name": "rootimg.cpio.zst", "size": 5, "sha256": sha(b"image")},
            {"name": "rootimg.cpio.zst.index", "size": index.len(), "sha256": sha(index)},
        ],
    })
    .to_string()
}

fn index_text() -> Vec<u8> {
    let frame = base::digest::Sha256::of(b"image").to_string();
    let frames = serde_json::json!([{"offset": 0, "size": 5, "unpacked": 9, "sha256": frame}]);
    serde_json::json!({"format": 1, "archive": "cpio", "compress": "zstd", "size": 5, "frames": frames})
        .to_string()
        .into_bytes()
}

fn database(place: &Path, schema: &str) -> Vec<u8> {
    let path = place.join("made.sqlite");
    let _ = std::fs::remove_file(&path);
    let database = rusqlite::Connection::open(&path).unwrap();
    database.execute_batch(schema).unwrap();
    drop(database);
    std::fs::read(&path).unwrap()
}

const OSIMAGE: &str = "create table osimage (imagename text, osvers text, osarch text, profile text, disable text);
    insert into osimage values ('i', 'rocky9.4', 'x86_64', 'compute', null);
    create table linuximage (imagename text, pkglist text, disable text); insert into linuximage values ('i', '/x', '');";
const PACKAGES: &str = "create table Packages (hnum integer primary key, blob blob not null); insert into Packages values (1, x'8eade801');";

/// A set of readers in the words of one table.
macro_rules! target {
    ($name:literal, $form:expr, $made:expr, $folders:expr, $read:expr) => {
        Target { name: $name, form: $form, made: $made, folders: $folders, read: $read }
    };
}

const LISTS: &[(&str, &str)] = &[(XCAT, ".pkglist"), ("examples", ".pkglist")];

/// All readers of what others wrote.
pub const TARGETS: &[Target] = &[
    target!("deb", Tar, |_| vec![seeds::deb()], &[], |bytes, _| {
        let _ = archive::read_deb(bytes, &mut member);
        let _ = archive::control_stanza(bytes);
        let _ = archive::deb_architecture(bytes);
    }),
    target!("rpm", Bytes, none, &[("../shared/corpus/rpm/rpms", ".rpm")], |bytes, place| {
        let _ = rpm::read_members(Cursor::new(bytes), &mut member);
        let path = place.join("a.rpm");
        std::fs::write(&path, bytes).unwrap();
        let _ = rpm::Package::paths(&path);
        let _ = rpm::Package::script_texts(&path);
    }),
    target!(
        "rpm_header",
        Bytes,
        |_| vec![
            b"\x8e\xad\xe8\x01\0\0\0\0\0\0\0\x01\0\0\0\x06\0\0\x03\xe8\0\0\0\x06\0\0\0\0\0\0\0\x01name\0\0".to_vec()
        ],
        &[],
        |bytes, _| {
            let _ = rpm::InstalledHeader::read(bytes);
        }
    ),
    target!(
        "primary",
        Text,
        |_| vec![PRIMARY.into()],
        &[("tests/fixtures/rpm-metadata", "primary.xml")],
        |bytes, _| {
            let _ = rpm::read_primary(bytes);
        }
    ),
    target!("repomd", Text, none, &[("tests/fixtures/rpm-metadata", "repomd.xml"), (RPM, "repomd.xml")], |bytes, _| {
        let _ = rpm::Repomd::parse(bytes);
    }),
    target!(
        "comps",
        Text,
        |_| {
            vec![b"<comps><group><id>a</id><packagelist><packagereq type=\"default\">b</packagereq></packagelist></group></comps>".to_vec()]
        },
        &[(RPM, ".xml")],
        |bytes, _| {
            let _ = rpm::Comps::parse(bytes);
        }
    ),
    target!("modules", Text, |_| vec![MODULES.into()], &[(RPM, ".yaml")], |bytes, _| {
        let _ = rpm::Modules::parse(&text(bytes));
    }),
    target!("metalink", Text, |_| vec![METALINK.into()], &[], |bytes, _| {
        let _ = rpm::read_metalink(bytes);
        let _ = rpm::read_mirrorlist(&text(bytes));
    }),
    target!("repofile", Text, none, &[(RPM, ".repo"), (RPM, ".cfg"), (RPM, ".tpl")], |bytes, _| {
        let _ = rpm::read_repo_file(&file("a.repo", bytes), &rpm::Variables::default());
    }),
    target!(
        "control",
        Text,
        |_| vec![
            seeds::STATUS.into(),
            b"Package: a\nVersion: 1\nArchitecture: all\nFilename: a.deb\nSize: 1\nSHA256: 0\nProvides: x (= 1), y\n\n"
                .to_vec()
        ],
        &[],
        |bytes, _| {
            let index = packages::apt::SuiteIndex::new("o".to_owned(), "http://h".to_owned(), text(bytes));
            let archive = packages::apt::Archive { indices: vec![index] };
            for name in archive.names().into_iter().take(50) {
                let _ = archive.newest(name).map(|one| (one.pin(false).is_ok(), one.version()));
            }
            let _ = archive.providers();
        }
    ),
    target!("inrelease", Text, |_| vec![INRELEASE.into()], &[], |bytes, _| {
        if let Ok(keyring) = packages::Keyring::debian() {
            let _ = packages::verify_clear_signed(bytes, &keyring);
            let _ = packages::verify_detached(b"data", bytes, &keyring);
        }
        let _ = packages::Keyring::parse(bytes);
    }),
    target!(
        "sources",
        Text,
        |_| {
            vec![b"Types: deb\nURIs: http://m/debian\nSuites: bookworm\nComponents: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n".to_vec(), b"deb [arch=amd64 signed-by=/x] http://h/d bookworm main # x\n".to_vec()]
        },
        &[],
        |bytes, _| {
            let _ = packages::apt::read_sources_file(&file("a.sources", bytes));
            let _ = packages::apt::read_sources_file(&file("a.list", bytes));
        }
    ),
    target!("cpio", Bytes, |_| vec![seeds::cpio()], &[], |bytes, place| {
        let _ = archive::read_cpio(&mut Cursor::new(bytes), &mut member);
        let _ = archive::read_archive(&mut Cursor::new(bytes));
        packed(bytes, place);
    }),
    target!("tar", Tar, |_| vec![seeds::tar()], &[], |bytes, place| {
        let _ = archive::read_tar(&mut Cursor::new(bytes), &mut member);
        packed(bytes, place);
    }),
    target!(
        "packed",
        Bytes,
        |_| vec![zstd::encode_all(&seeds::tar()[..], 1).unwrap(), zstd::encode_all(&seeds::cpio()[..], 1).unwrap()],
        &[("tests/fixtures/hostile", ".zst"), ("../shared/corpus/hostile", ".zst")],
        packed
    ),
    target!("node_cpio", Bytes, node::cpios, &[], node::unpacked),
    target!("node_tar", Tar, node::tars, &[], node::unpacked),
    target!("node_frames", Bytes, node::in_frames, &[], node::unpacked),
    target!("squashfs", Bytes, none, &[("tests/fixtures/squashfs", ""), ("tests/fixtures/hostile", ".sfs")], packed),
    target!("erofs", Bytes, none, &[("tests/fixtures/erofs", ".erofs")], packed),
    target!("iso", Bytes, |place| seeds_of_iso(place), &[], |bytes, _| {
        let _ = archive::read_iso(&mut Cursor::new(bytes), &mut member);
    }),
    target!("bundle", Tar, |_| vec![seeds::tar(), bundle()], &[], |bytes, place| {
        let path = place.join("bundle.tar");
        std::fs::write(&path, bytes).unwrap();
        let into = place.join("into");
        imgbuild(&["import", "bundle", path.to_str().unwrap(), "--into", into.to_str().unwrap(), "--dry-run"], place);
    }),
    target!("manifest_xml", Text, |_| vec![MANIFEST.into()], &[(XCAT, "manifest.xml")], |bytes, _| {
        let _ = xcat::definitions::parse_manifest(&file("manifest.xml", bytes));
    }),
    target!(
        "stanzas",
        Text,
        |_| vec![
            b"# x\ni:\n    objtype=osimage\n    imagetype=linux\n    pkglist=/a,/b\n    osvers=rocky9.4\n".to_vec()
        ],
        &[(XCAT, ".stanza"), ("examples", ".stanza")],
        |bytes, _| {
            let _ = xcat::definitions::parse_stanzas(&file("a.stanza", bytes));
        }
    ),
    target!(
        "csv",
        Text,
        |_| vec![b"#imagename,osvers,comments,disable\n\"i\",\"rocky9.4\",\"a \"\"b\"\"\",\n\"j\",,,\"1\"\n".to_vec()],
        &[(XCAT, ".csv"), ("examples", ".csv")],
        |bytes, _| {
            let _ = xcat::definitions::parse_tables(&file("osimage.csv", bytes));
        }
    ),
    target!(
        "sqlite",
        Bytes,
        |place| vec![database(place, OSIMAGE)],
        &[("../shared/corpus/hostile", ".sqlite")],
        |bytes, place| {
            let path = place.join("osimage.sqlite");
            std::fs::write(&path, bytes).unwrap();
            let _ = site::definitions::read(&[path]);
        }
    ),
    target!("dpkg", Text, |_| vec![seeds::STATUS.into()], &[], |bytes, _| {
        let names = [
            "var/lib/dpkg/status",
            "var/lib/dpkg/diversions",
            "var/lib/dpkg/statoverride",
            "var/lib/apt/extended_states",
            "var/lib/dpkg/info/a.list",
            "var/lib/dpkg/info/a.md5sums",
        ];
        let files: BTreeMap<String, Vec<u8>> = names.iter().map(|name| ((*name).to_owned(), bytes.to_vec())).collect();
        let _ = installed::read(&files);
    }),
    target!(
        "rpmdb",
        Bytes,
        |place| vec![database(place, PACKAGES)],
        &[("../shared/corpus/rpm/rpmdb", "")],
        |bytes, _| {
            for path in
                ["usr/lib/sysimage/rpm/rpmdb.sqlite", "usr/lib/sysimage/rpm/Packages.db", "var/lib/rpm/Packages"]
            {
                let _ = installed::read(&BTreeMap::from([(path.to_owned(), bytes.to_vec())]));
            }
        }
    ),
    target!("index_json", Text, |_| vec![index_text()], &[], |bytes, place| fetched(place, |origin| {
        std::fs::write(origin.join("rootimg.cpio.zst"), b"image").unwrap();
        std::fs::write(origin.join("rootimg.cpio.zst.index"), bytes).unwrap();
        std::fs::write(origin.join("build.json"), build_text(bytes)).unwrap();
    })),
    target!("build_json", Text, |_| vec![build_text(&index_text()).into_bytes()], &[], |bytes, place| fetched(
        place,
        |origin| {
            std::fs::write(origin.join("rootimg.cpio.zst"), b"image").unwrap();
            std::fs::write(origin.join("rootimg.cpio.zst.index"), index_text()).unwrap();
            std::fs::write(origin.join("build.json"), bytes).unwrap();
        }
    )),
    target!(
        "pkglist",
        Text,
        |_| vec![b"a\n-b\n#INCLUDE:x#\n@group\n#NEW_INSTALL_LIST#\nc=1\nd/backports\n$VAR\n".to_vec()],
        LISTS,
        |bytes, _| {
            for flavor in [Flavor::Packages, Flavor::DebianPackages] {
                let _ = xcat::parse_pkglist(&[file("a.pkglist", bytes)], flavor, &Alone);
            }
        }
    ),
    target!("otherpkgs", Text, |_| vec![b"dir/a\n--b\n#ENV:X=y#\n#INCLUDE:x#\n".to_vec()], LISTS, |bytes, _| {
        let _ = xcat::parse_pkglist(&[file("a.pkglist", bytes)], Flavor::OtherPackages, &Alone);
    }),
    target!(
        "exlist",
        Text,
        |_| vec![b"./usr/share/man/*\n+./usr/share/man/a*\n#INCLUDE:x#\n./a[!b-c]?\n".to_vec()],
        &[(XCAT, ".exlist"), ("examples", ".exlist")],
        |bytes, _| {
            let list = xcat::parse_exlist(&[file("a.exlist", bytes)], &Alone);
            drop(list);
            let words = text(bytes);
            for pattern in words.lines().take(20) {
                let _ = xcat::matches(pattern, "usr/share/man/man1/ls.1.gz");
            }
        }
    ),
    target!(
        "noderange",
        Text,
        |_| [
            "cn[001-003],-n2",
            "a-1-x:a-3-x@(rack1,login)",
            "^few,/cn.*,nodetype.arch!=x86_64",
            "cn[1-3]a[1,4-9]+3,cn01+20"
        ]
        .map(|one| one.as_bytes().to_vec())
        .to_vec(),
        &[],
        |bytes, place| {
            std::fs::write(place.join("few"), bytes).unwrap();
            let nodes = file("nodes.toml", b"[node.\"cn[001-100]\"]\n[group.rack1]\nnodes = \"cn[001-050]\"\n");
            let nodes = Nodes::of_file(&nodes).unwrap();
            let _ = nodes.select_xcat(&text(bytes), Files::Below(place));
            let _ = nodes.select(&text(bytes));
        }
    ),
    target!(
        "synclist",
        Text,
        |_| vec![
            b"/a -> /b\n/c /d -> (n1) /e/\n/f -> ${X}\nEXECUTE:\n/g\nAPPEND:\n/h -> /i\nMERGE:\n/j -> /etc/passwd\n"
                .to_vec()
        ],
        &[(XCAT, ".synclist"), ("examples", ".synclist")],
        |bytes, _| {
            let _ =
                xcat::parse_synclist(&file("a.synclist", bytes), &|name| (name.len() < 9).then(|| "value".to_owned()));
        }
    ),
    target!("toml", Text, none, &[("examples", ".toml"), ("tests/fixtures", ".toml")], |bytes, _| document(
        "image.toml",
        bytes
    )),
    target!("kdl", Text, kdl_seeds, &[("examples", ".kdl")], |bytes, _| document("image.kdl", bytes)),
    target!("lock", Text, |_| vec![LOCK.into()], &[("examples", ".lock"), ("tests/fixtures", ".lock")], |bytes, _| {
        let _ = recipe::Lock::parse_bytes("image.lock", bytes.to_vec()).map(|lock| (lock.to_text(), lock.whole()));
    }),
    target!("saved", Tar, saved_seeds, &[], |bytes, place| {
        let path = place.join("saved");
        std::fs::write(&path, bytes).unwrap();
        let directory = place.join("store");
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let store = store::Store::open(&directory, "uid 0:0:1 gid 0:0:1", (uid, gid)).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let _ = store.load::<store::StoreError>(&path, file, &mut |_| Ok(store::Loaded::default()));
        let _ = std::fs::remove_dir_all(&directory);
    }),
    target!("dhcp", Bytes, dhcp_seeds, &[], |bytes, _| {
        if let Some(read) = message::Message::decode(bytes) {
            let _ = (
                read.kind(),
                read.encode(),
                read.number(message::Code::LeaseTime),
                read.addresses(message::Code::NameServer),
            );
            let _ = (
                read.text(message::Code::HostName),
                read.short(message::Code::Mtu),
                read.address(message::Code::Router),
            );
        }
    }),
    target!("dhcp6", Bytes, dhcp6_seeds, &[], |bytes, _| {
        if let Some(read) = v6::message::Message::decode(bytes) {
            let _ = read.encode(std::time::Duration::from_secs(1));
        }
    }),
    target!("router", Bytes, router_seeds, &[], |bytes, _| {
        let _ = v6::announcement::Announcement::read(bytes);
    }),
    target!(
        "cmdline",
        Text,
        |_| {
            vec![b"quiet imgurl=http://10.0.0.1:80/i imgdigest=sha256:AB BOOTIF=01-52-54-00-aa-bb-cc ip=10.0.0.2::10.0.0.1:255.255.255.0:n:eth0:none:10.0.0.3 rootlimit=2g imgbuild.reboot_after=5 ifname=e:52:54:00:aa:bb:cc NODE=n imgcache=LABEL=x".to_vec(),
                b"bond=bond0:eno1,eno2:mode=active-backup,arp_ip_target=10.0.0.1;10.0.0.2:9000 vlan=vlan0020:bond0 ip=[fd00::5]::[fd00::1]:64::vlan0020:none:[fd00::2]".to_vec()]
        },
        &[],
        |bytes, _| {
            let _ = cmdline::Parameters::parse(&text(bytes));
        }
    ),
];

/// A recipe's file: read, compared with its schema, written in the other format, edited.
fn document(name: &str, bytes: &[u8]) {
    let file = file(name, bytes);
    let schema = recipe::file_schema();
    if let Ok(document) = recipe::document_from(&file, schema) {
        let _ = recipe::check_against_schema(&document, schema);
    }
}

fn kdl_seeds(_: &Path) -> Vec<Vec<u8>> {
    vec![b"image {\n    name \"a\"\n    release \"12\"\n}\npackages {\n    lists \"a.pkglist\" \"b\"\n    // x\n}\nrepo uri=\"http://h\" suites=(array)\"s\"\n/- gone 1\n".to_vec()]
}

fn dhcp_seeds(_: &Path) -> Vec<Vec<u8>> {
    let mut bytes = message::Message::question(message::Kind::Discover, [0x52, 0x54, 0, 0, 0, 2], 7, 0).encode();
    bytes[0] = 2;
    let mut answer = bytes.clone();
    answer.truncate(240);
    answer.extend([
        53, 1, 5, 51, 4, 0, 0, 14, 16, 52, 1, 3, 6, 8, 1, 2, 3, 4, 5, 6, 7, 8, 12, 3, b'a', b'.', b'b', 26, 2, 5, 220,
        255,
    ]);
    vec![bytes, answer]
}

fn dhcp6_seeds(_: &Path) -> Vec<Vec<u8>> {
    let mut answer = v6::message::Message::question(v6::message::Kind::Reply, [0x52, 0x54, 0, 0, 0, 2], 7);
    answer.server = Some(vec![0, 1, 9]);
    answer.address = Some(std::net::Ipv6Addr::LOCALHOST);
    let mut bytes = answer.encode(std::time::Duration::ZERO);
    bytes.extend([0, 23, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
    bytes.extend(b"\0\x18\0\x0e\x07cluster\x04site\0\0\x0d\0\x04\0\x02no");
    vec![bytes]
}

fn router_seeds(_: &Path) -> Vec<Vec<u8>> {
    let mut bytes = vec![134, 0, 0, 0, 64, 0xc0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0x52, 0x54, 0, 0, 0, 1];
    bytes.extend([25, 3, 0, 0, 0, 0, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
    bytes.extend(b"\x1f\x03\0\0\0\0\x07\x08\x07cluster\x04site\0\0\0\0");
    vec![bytes]
}

fn saved_seeds(place: &Path) -> Vec<Vec<u8>> {
    let directory = place.join("seed-store");
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let store = store::Store::open(&directory, "uid 0:0:1 gid 0:0:1", (uid, gid)).unwrap();
    let mut out = Vec::new();
    std::fs::write(place.join("layers"), b"layers").unwrap();
    store::Carried::of(&store, Vec::new(), true).write(&store, &place.join("layers"), &mut out).unwrap();
    let _ = std::fs::remove_dir_all(&directory);
    vec![out]
}

fn bundle() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in [("./i/manifest.xml", MANIFEST), ("./i/compute.pkglist", "a\n"), ("./i/kernel", "k")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(7);
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A small image by xorriso, where that is there; without one, the beginning of one.
fn seeds_of_iso(place: &Path) -> Vec<Vec<u8>> {
    let tree = place.join("tree");
    std::fs::create_dir_all(tree.join("a/b")).unwrap();
    std::fs::write(tree.join("a/b/a-long-name.text"), "text").unwrap();
    let _ = std::os::unix::fs::symlink("a/b", tree.join("link"));
    let to = place.join("made.iso");
    let _ = std::process::Command::new("xorriso")
        .args(["-as", "mkisofs", "-quiet", "-R", "-J", "-o"])
        .arg(&to)
        .arg(&tree)
        .output();
    let mut whole = std::fs::read(to).unwrap_or_default();
    whole.truncate(192 << 10);
    let mut start = vec![0u8; 40 << 10];
    start[32 * 1024] = 1;
    start[32 * 1024 + 1..32 * 1024 + 6].copy_from_slice(b"CD001");
    if whole.is_empty() { vec![start] } else { vec![whole, start] }
}

const PRIMARY: &str = r#"<?xml version="1.0"?><metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="1"><package type="rpm"><name>a</name><arch>x86_64</arch><version epoch="0" ver="1" rel="2"/><checksum type="sha256" pkgid="YES">0000000000000000000000000000000000000000000000000000000000000000</checksum><size package="1" installed="2" archive="3"/><location href="a.rpm"/><format><rpm:provides><rpm:entry name="a" flags="EQ" epoch="0" ver="1" rel="2"/></rpm:provides><rpm:requires><rpm:entry name="(b if c)"/></rpm:requires><file>/usr/bin/a</file></format></package></metadata>"#;
const METALINK: &str = r#"<metalink><files><file name="repomd.xml"><size>7</size><verification><hash type="sha256">00</hash></verification><resources><url protocol="https" preference="100">https://h/repodata/repomd.xml</url></resources></file></files></metalink>"#;
const MODULES: &str = "---\ndocument: modulemd\nversion: 2\ndata:\n  name: a\n  stream: \"1\"\n  version: 3\n  context: c\n  arch: x86_64\n  artifacts:\n    rpms: [a-0:1-2.x86_64]\n  dependencies:\n  - requires: {platform: [el9]}\n...\n---\ndocument: modulemd-defaults\nversion: 1\ndata:\n  module: a\n  stream: \"1\"\n...\n";
const MANIFEST: &str = "<?xml version=\"1.0\"?>\n<xcatimage><osimage><imagename>i</imagename><osvers>rocky9.4</osvers><osarch>x86_64</osarch><profile>compute</profile><provmethod>netboot</provmethod></osimage><linuximage><pkglist>/install/custom/compute.pkglist</pkglist></linuximage><kernel>/install/netboot/kernel</kernel><extra><src>/a</src><dest>/b</dest></extra></xcatimage>\n";
const INRELEASE: &str = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: x\nSHA256:\n 00 1 main/a\n-----BEGIN PGP SIGNATURE-----\n\niHUEARYIAB0WIQQ=\n=AAAA\n-----END PGP SIGNATURE-----\n";
const LOCK: &str = "# Written by imgbuild\nformat = 1\nminor = 3\nepoch = 1\n\n[[suite]]\nname = \"bookworm\"\nrelease = \"00\"\n\n[[pass]]\nname = \"base\"\n\n[[pass.packages]]\nname = \"a\"\nversion = \"1\"\n";
