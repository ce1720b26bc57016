//! Names that others gave: what a terminal would obey in them is shown as an escape, and none starts a line of its own, in whatever
//! is printed.

use std::path::Path;

use base::digest::Sha256;

use crate::support::{Ran, Space, imgbuild};

/// Names with what terminals obey: an escape sequence, one in a single character, turned text, ends of lines.
const NAMES: [&str; 7] = [
    "esc\u{1b}[2Jx",
    "c1\u{9b}2Jx",
    "bidi\u{202e}txt.exe",
    "mark\u{200f}x",
    "line\nFORGED all is well",
    "cr\rFORGED",
    "sep\u{2028}FORGED",
];

/// The names that can stand in a line of a file.
fn in_lines() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter().filter(|name| !name.contains(['\n', '\r']))
}

fn is_obeyed(character: char) -> bool {
    (character.is_control() && !['\n', '\t'].contains(&character))
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Fails where something was printed raw; gives what was printed.
#[track_caller]
fn harmless(ran: Ran, command: &[&str]) -> Ran {
    for said in [&ran.out, &ran.err] {
        let bad = said.lines().find(|line| line.contains(is_obeyed) || line.starts_with("FORGED"));
        assert!(bad.is_none(), "{command:?} prints {bad:?}");
    }
    ran
}

#[track_caller]
fn run(space: &Space, command: &[&str]) -> Ran {
    harmless(space.run(command), command)
}

/// What was printed, with the names in the form in which they are shown.
#[track_caller]
fn shows(ran: &Ran, words: &str) {
    assert!(ran.out.contains(words) || ran.err.contains(words), "{words}: {} {}", ran.out, ran.err);
}

/// A tree of a node whose files, packages and accounts have such names.
fn node(space: &Space, folder: &str) {
    for name in NAMES {
        space.write(&format!("{folder}/srv/{name}"), name);
    }
    let packages: String = in_lines()
        .map(|name| format!("Package: {name}\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\n\n"))
        .collect();
    let base = "Package: base-files\nStatus: install ok installed\nVersion: 12\u{1b}[2J\u{202e}\nArchitecture: amd64\n";
    space
        .write(&format!("{folder}/var/lib/dpkg/status"), &format!("{packages}{base}"))
        .write(&format!("{folder}/var/lib/dpkg/info/base-files.list"), "/.\n/etc\n/etc/os-release\n/usr/x\u{1b}[2J\n")
        .write(
            &format!("{folder}/etc/os-release"),
            "ID=debian\nVERSION_ID=12\nVERSION_CODENAME=bookworm\nPRETTY_NAME=\"Debian\u{1b}[2J\u{202e} 12\"\n",
        )
        .write(
            &format!("{folder}/etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nu\u{1b}[2J:x:1000:1000:g\u{202e}:/home/u\u{9b}2J:/bin/sh\n",
        );
}

#[test]
fn of_files_in_trees_and_archives() {
    let space = Space::new();
    node(&space, "tree");
    let archive = space.path().join("a.tar");
    let mut packed = std::process::Command::new("tar");
    packed.arg("-cf").arg(&archive).arg("-C").arg(space.path().join("tree"));
    assert!(packed.arg(".").status().unwrap().success());
    for name in NAMES {
        space.write(&format!("other/srv/{name}"), "changed").write(&format!("other/new/{name}"), "new");
    }
    let at = |name: &str| space.path().join(name).display().to_string();
    let (archive, tree, other) = (at("a.tar"), at("tree"), at("other"));
    for more in [&[][..], &["-v"], &["--json"]] {
        let all = |words: &[&str]| run(&space, &[words, more].concat());
        all(&["size", &archive]);
        shows(&all(&["diff", &tree, &other]), if more == ["--json"] { "line\\nFORGED" } else { "srv/line\\nFORGED" });
        all(&["diff", &archive, &other]);
        all(&["capture", &tree, "--into", "into", "--name", "n", "--dry-run"]);
        all(&["capture", &archive, "--into", "into", "--name", "n", "--dry-run"]);
    }
    run(&space, &["diff", &tree, &other, "--format", "markdown"]);
    run(&space, &["capture", &tree, "--into", "into", "--name", "n"]);
    run(&space, &["import", "bundle", &archive, "--into", "new"]);
    run(&space, &["store", "load", &archive]);
}

#[test]
fn of_definitions_hosts_and_media() {
    let space = Space::new();
    let database = rusqlite::Connection::open(space.path().join("x.sqlite")).unwrap();
    database
        .execute_batch(
            "create table osimage (imagename text, osvers text, osarch text, profile text, provmethod text, imagetype text);
             create table linuximage (imagename text, pkglist text, exlist text, postinstall text);
             insert into osimage values ('good', 'debian12', 'x86_64', 'compute', 'netboot', 'linux');",
        )
        .unwrap();
    for name in NAMES {
        let image = format!("i{name}");
        database
            .execute("insert into osimage values (?1, 'debian12', 'x86_64', ?2, 'netboot', 'linux')", (&image, name))
            .unwrap();
        let list = format!("/x/{name}");
        database.execute("insert into linuximage values ('good', ?1, ?1, ?1)", (&list,)).unwrap();
    }
    drop(database);
    let stanza = |name: &str| {
        format!(
            "i{name}:\n    objtype=osimage\n    imagetype=linux\n    osarch=x86_64\n    osvers=debian12\n    profile={name}\n    provmethod=netboot\n    pkglist=/x/{name}\n"
        )
    };
    space.write("defs/all.stanza", &in_lines().map(stanza).collect::<String>());
    for more in [&[][..], &["-v"], &["--json"]] {
        let ran = run(&space, &[&["import", "xcat", "x.sqlite", "--into", "new", "--dry-run"], more].concat());
        shows(&ran, "iline\\nFORGED");
        run(&space, &[&["import", "xcat", "defs", "--into", "new", "--dry-run"], more].concat());
    }
    // Nodes.
    space.write("hosts", &in_lines().map(|name| format!("10.0.0.1 n{name}\n")).collect::<String>());
    let rows: String = NAMES.map(|name| format!("\"n{name}\",\"g{name}\",\"s\"\n")).concat();
    space.write("nodelist.csv", &format!("#node,groups,status\n{rows}"));
    for file in ["hosts", "nodelist.csv"] {
        run(&space, &["import", "nodes", file, "--into", "nodes", "--dry-run"]);
    }
    // A medium.
    let info = "Debian GNU/Linux 12.5.0 \"Book\u{1b}[2J\u{202e}worm\" - Official amd64 DVD Binary-1 with firmware 20240210-11:28";
    space
        .write("disc/.disk/info", info)
        .write("disc/dists/bookworm/main/binary-amd64/Packages", "Package: a\n")
        .write("disc/dists/bookworm/Release", "Codename: bookworm\nSuite: s\u{1b}[2J\n");
    for name in NAMES {
        space.write(&format!("disc/{name}"), "x");
    }
    for more in [&["--dry-run"][..], &["--json", "--dry-run"], &[], &["--json"]] {
        run(&space, &[&["import", "media", "disc", "--into", "media"], more].concat());
    }
}

#[test]
fn of_recipes_lists_and_what_they_name() {
    let space = Space::new();
    for name in NAMES {
        space.write(&format!("files/{name}"), "x");
    }
    let lines: String = in_lines().map(|name| format!("/nonexistent/{name} -> /x/{name}\n")).collect();
    space
        .write("a.synclist", &format!("files/* -> /srv/\n{lines}"))
        .write("a.pkglist", &format!("bash\n{}", in_lines().map(|name| format!("{name}\n")).collect::<String>()))
        .write("a.exlist", &in_lines().map(|name| format!("./usr/{name}\n")).collect::<String>())
        .write("script", "#!/bin/sh\n")
        .write("good.synclist", "files/* -> /srv/\n");
    let lists = "[packages]\nlists = [\"a.pkglist\"]\n\n[sync]\nlists = [\"a.synclist\"]\n\n[exclude]\nlists = [\"a.exlist\"]\n\n[postinstall]\nscript = \"gone\\u001b[2J\\u202e\\nFORGED\"\ninputs = [\"files/**\"]\n";
    let good = "[packages]\ninstall = [\"bash\"]\n\n[sync]\nlists = [\"good.synclist\"]\n\n[postinstall]\nscript = \"script\"\ninputs = [\"files/**\"]\n\n[boot]\ncmdline = [\"a=\\u009b\\u202e\"]\n";
    for tables in [lists, good] {
        space.write("image.toml", &format!("[image]\nname = \"x\"\nrelease = \"bookworm\"\n\n{tables}"));
        for command in [
            &["check"][..],
            &["check", "-v"],
            &["check", "--json"],
            &["plan"],
            &["plan", "--json"],
            &["list"],
            &["list", "--json"],
            &["show"],
            &["show", "--json"],
            &["show", "--effective"],
            &["explain"],
            &["explain", "--json"],
            &["graph"],
            &["log"],
            &["log", "--json"],
            &["check", "--list", "a.pkglist"],
            &["set", "image.name=\u{1b}[2J\u{202e}"],
            &["show", "image.\u{1b}[2J\nFORGED"],
            &["set", "x\u{1b}[2J\nFORGED=1"],
            &["--nope\u{202e}\u{1b}[2J"],
            &["store", "load", "no\u{1b}[2J\u{202e}"],
            &["fetch", "file:///no\u{1b}[2J\u{202e}", "copy"],
            &["nodeset", "n\u{1b}[2J\u{202e}", "x"],
        ] {
            run(&space, command);
        }
    }
    // Nodes by their file.
    space.write("imgbuild.toml", "images = [\"images/*\"]\n");
    for nodes in [
        "[node.\"n\\u001b[2J\\u202e\"]\nimage = \"x\\u202e\\nFORGED\"\n",
        "[node.n1]\nmac = \"52:54:00:00:00:01\"\nimage = \"x\\u202e\\nFORGED\"\n",
        "[node.n1]\nmac = \"52:54:00:00:00:01\"\nkernel_args = [\"a\\u001b[2J\\u202e\"]\n",
        "[node.n1]\nmac = \"52\\u009b2J\\nFORGED\"\n",
    ] {
        space.write("nodes.toml", nodes);
        for command in [&["nodes"][..], &["nodes", "--effective"], &["nodes", "--json", "--effective"], &["check"]] {
            run(&space, command);
        }
    }
}

/// A published image whose artefacts have such names.
fn publish(directory: &Path) {
    let digest = |bytes: &[u8]| Sha256::of(bytes).to_string();
    let frames = serde_json::json!([{"offset": 0, "size": 5, "unpacked": 9, "sha256": digest(b"image")}]);
    let index = serde_json::json!({"format": 1, "archive": "cpio", "compress": "zstd", "size": 5, "frames": frames});
    let index = index.to_string().into_bytes();
    let artefact =
        |name: &str, bytes: &[u8]| serde_json::json!({"name": name, "size": bytes.len(), "sha256": digest(bytes)});
    let mut all = vec![artefact("rootimg.cpio.zst", b"image"), artefact("rootimg.cpio.zst.index", &index)];
    all.extend(NAMES.map(|name| artefact(name, b"image")));
    let build = serde_json::json!({
        "format_version": "1.0", "name": "n\u{1b}[2J\nFORGED", "target": "debian\u{9b}2J 12", "epoch": 1,
        "kernel_release": "6.1\u{202e}", "cmdline": ["a\u{1b}[2J"], "memory": 1, "layers": [["l\u{202e}", "0".repeat(64)]],
        "not_reproducible": ["x\u{1b}[2J\nFORGED"], "artefacts": all,
    });
    std::fs::create_dir_all(directory).unwrap();
    std::fs::write(directory.join("build.json"), build.to_string()).unwrap();
    std::fs::write(directory.join("rootimg.cpio.zst"), "image").unwrap();
    std::fs::write(directory.join("rootimg.cpio.zst.index"), index).unwrap();
}

#[test]
fn of_what_a_server_publishes() {
    let space = Space::new();
    publish(&space.path().join("origin"));
    let url = format!("file://{}", space.path().join("origin").display());
    for command in [&["delta", &url, &url][..], &["delta", &url, &url, "--json"], &["fetch", &url, "copy"]] {
        let ran = run(&space, command);
        assert_eq!(ran.code, 1, "{command:?} {}", ran.err);
    }
    // What a node reports.
    space.write("imgbuild.toml", "images = []\n").write("nodes.toml", "[node.n1]\nmac = \"52:54:00:00:00:01\"\n");
    let report = serde_json::json!({
        "format_version": "1.0", "state": "failed", "reason": "no\u{1b}[2J\nFORGED\u{202e}", "time": 1, "build": "b\u{9b}2J",
    });
    space.write(".imgbuild/nodes/reports/n1.json", &report.to_string());
    for command in [&["nodes"][..], &["nodes", "--json"], &["nodes", "--watch"]] {
        shows(&run(&space, command), "no\\u");
    }
}

#[test]
fn a_terminal_gets_no_control_characters_of_what_is_meant_for_programs() {
    let space = Space::new();
    space.write(
        "image.toml",
        "[image]\nname = \"x\"\nrelease = \"bookworm\"\n\n[boot]\ncmdline = [\"a=\\u009b\\u202e\\u001b[2J\"]\n",
    );
    // util-linux's script gives the program a terminal.
    let line = format!("{} -C {} list -l", imgbuild().get_program().display(), space.path().display());
    let output = std::process::Command::new("script").args(["-qec", &line, "/dev/null"]).env("NO_COLOR", "1").output();
    let said = String::from_utf8_lossy(&output.unwrap().stdout).replace("\r\n", "\n");
    assert!(said.contains("debian") || said.contains("bookworm") || said.contains('x'), "{said}");
    assert!(!said.contains(is_obeyed), "{said:?}");
}
