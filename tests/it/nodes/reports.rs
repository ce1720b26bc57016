//! What is known of nodes by their reports: what they booted, not what they are to boot; and what anyone may say of them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nodes::State;

use super::nodeset::{nodeset, publish, published};
use crate::support::Space;
use crate::support::server::{Running, command, started};

/// The first node's UUID.
const UUID: &str = "4c4c4544-0043-4810-8057-b4c04f4d3232";

/// The cluster with a build that its nodes have, and a server in a network of its own that hears xCAT's words, too. None where that cannot
/// be made.
fn running() -> Option<(Space, String, Running)> {
    if !rustix::process::geteuid().is_root() {
        crate::support::skip("a network of its own needs root");
        return None;
    }
    let (space, first) = published();
    space.edit("nodes.toml", "52:54:00:00:00:01\"", &format!("52:54:00:00:00:01\"\nuuid = \"{UUID}\""));
    space.edit("nodes.toml", "[node.cn003]", "[node.cn003]\nserial = \"S3\"");
    nodeset(&space, &["@compute", "compute"]).good();
    let mut command = Command::new("unshare");
    let script = "ip link set lo up\nfor one in 1 11 12 99; do ip address add 10.0.0.$one/32 dev lo; done\nexec \"$@\"";
    command.args(["-n", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_imgbuild"), "-v", "serve"]);
    command.args(["--listen", "10.0.0.1:80", "--xcat", "10.0.0.1:3002"]).current_dir(space.path());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let server = started(command);
    Some((space, first, server))
}

/// What a client at an address of the server's network says, and hears.
fn talk(server: &Running, last: u8, port: u16, said: &str) -> String {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let namespace = std::fs::File::open(format!("/proc/{}/ns/net", server.child.id())).unwrap();
    let client = || {
        // Of this thread alone.
        let kind = rustix::thread::LinkNameSpaceType::Network;
        rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind)).unwrap();
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &SocketAddr::new(Ipv4Addr::new(10, 0, 0, last).into(), 0)).unwrap();
        connect(&socket, &SocketAddr::new(Ipv4Addr::new(10, 0, 0, 1).into(), port)).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.write_all(said.as_bytes()).unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        heard
    };
    std::thread::scope(|scope| scope.spawn(client).join().unwrap())
}

/// What a client at an address gets; 99 is no node's.
fn get_from(server: &Running, last: u8, path: &str) -> String {
    talk(server, last, 80, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
}

/// Where a node reports, by its script.
pub(super) fn address_from(script: &str) -> String {
    script.split_whitespace().find_map(|word| word.strip_prefix("imgbuild.report=http://x")).unwrap().to_owned()
}

fn address(server: &Running, node: &str) -> String {
    address_from(&get_from(server, 99, &format!("/-/boot/ipxe/{node}")))
}

fn tell(server: &Running, report: &str, state: &str) {
    let answer = get_from(server, 99, &format!("{report}/{state}"));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_report_says_what_was_booted_and_not_what_is_to_boot() {
    let Some((space, first, server)) = running() else { return };
    let old = address(&server, "cn001");
    tell(&server, &old, "up");
    let listed = || space.run(&["nodes", "cn001"]).good().out;
    assert!(listed().trim_end().ends_with(" up"), "{}", listed());
    let second = publish(&space, "compute", "second");
    nodeset(&space, &["@compute", "compute", "--canary", "1"]).good();
    // The old build still runs, and says so once more.
    tell(&server, &old, "up");
    let refused = |what: &str| {
        let ran = nodeset(&space, &["--continue"]);
        assert!(ran.code == 2 && ran.err.contains(what), "{what}: {}", ran.err);
    };
    refused("cn001 (booted another build)");
    assert!(listed().contains(&format!("up (runs {first})")), "{}", listed());
    assert!(get_from(&server, 99, "/").contains(&format!("up (runs <code>{first}</code>)")));
    // A token from before tokens named builds counts, and says nothing of the build.
    let legacy = State::at(space.path().join(".imgbuild/nodes")).tokens().unwrap().of("cn001");
    tell(&server, &format!("/-/report/cn001/{legacy}"), "up");
    refused("cn001 (runs an unknown build)");
    assert!(listed().contains("up (runs an unknown build)"), "{}", listed());
    // Neither do xCAT's words: the build is that of the last report by a token.
    let words = |text: &str| {
        assert_eq!(talk(&server, 11, 3002, &format!("{text}\n")), "ready\ndone\n");
        let began = Instant::now();
        let state = if text.ends_with("booted") { "up" } else { "booting" };
        while !listed().contains(state) {
            assert!(began.elapsed() < Duration::from_secs(90), "{}", listed());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    words("installstatus booted");
    refused("cn001 (runs an unknown build)");
    // `--watch` waits for the build that was given.
    let mut watching = crate::support::imgbuild();
    watching.arg("-C").arg(space.path()).args(["nodes", "cn001", "--watch"]).stdout(std::process::Stdio::piped());
    let mut watching = watching.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(watching.try_wait().unwrap().is_none(), "the old build is no reason to end");
    // A node that goes over without its loader gets its token for the new build by the old one.
    let answer = get_from(&server, 99, &old.replace("/-/report/", "/-/token/"));
    let next: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap_or_default();
    assert_eq!((next["image"].as_str(), next["build"].as_str()), (Some("compute"), Some(&*second)), "{answer}");
    let new = next["report"].as_str().unwrap().strip_prefix("http://x").unwrap();
    assert_eq!(new, address(&server, "cn001"));
    // With the words that its loader would give it.
    let given: Vec<&str> = next["words"].as_array().unwrap().iter().filter_map(|word| word.as_str()).collect();
    let url = format!("imgurl=http://x/.builds/compute/{second}/");
    assert!(given.iter().any(|word| word.starts_with(&url)) && given.contains(&"NODE=cn001"), "{answer}");
    assert_eq!(given.last(), Some(&&*format!("imgbuild.report={}", next["report"].as_str().unwrap())));
    assert!(get_from(&server, 99, "/-/token/cn001/0000").starts_with("HTTP/1.1 403"));
    tell(&server, new, "booting");
    refused("cn001 (not up yet)");
    words("installstatus booted");
    assert_eq!(watching.wait().unwrap().code(), Some(0));
    // A rollback while it boots: what comes up is the new build, and is called so.
    nodeset(&space, &["cn001", "--rollback"]).good();
    tell(&server, new, "up");
    assert!(listed().contains(&format!("up (runs {second})")), "{}", listed());
    nodeset(&space, &["cn001", &format!("compute@{second}")]).good();
    tell(&server, new, "up");
    nodeset(&space, &["--continue"]).good();
    // xCAT's first word says that it starts: which build is not known then.
    words("installstatus netbooting");
    assert!(listed().contains("booting (runs an unknown build)"), "{}", listed());
}

#[test]
fn a_node_that_reads_its_root_says_so_and_its_build_is_kept_as_long() {
    let Some((space, first, server)) = running() else { return };
    let one = address(&server, "cn001");
    let root = |word: &str| get_from(&server, 99, &format!("{one}?root={word}"));
    let note = || {
        let note = space.path().join("images/compute/out/.builds/compute/.pins-reports");
        std::fs::read_to_string(note).unwrap_or_default()
    };
    let listed = || space.run(&["nodes", "cn001"]).good().out;
    tell(&server, &one, "image");
    assert!(root("lazy").starts_with("HTTP/1.1 200"));
    assert!(note().contains(&first), "{}", note());
    tell(&server, &one, "up");
    assert!(listed().contains(&format!("up, reads its root from compute@{first}")), "{}", listed());
    // What is no word of it changes nothing.
    assert!(root("all").starts_with("HTTP/1.1 400"));
    assert!(get_from(&server, 99, &format!("{one}?root=lazy&state=x")).starts_with("HTTP/1.1 400"));
    assert!(get_from(&server, 99, &format!("{one}0?root=hydrated")).starts_with("HTTP/1.1 403"));
    assert!(listed().contains("reads its root"), "{}", listed());
    assert!(root("hydrated").starts_with("HTTP/1.1 200"));
    assert!(listed().contains("up, hydrated") && note().is_empty(), "{} {}", listed(), note());
    // It starts again.
    tell(&server, &one, "booting");
    assert!(!listed().contains("hydrated"), "{}", listed());
}

#[test]
fn who_asks_for_a_script_alters_neither_state_nor_results() {
    let Some((space, _, server)) = running() else { return };
    let (one, two) = (address(&server, "cn001"), address(&server, "cn002"));
    tell(&server, &one, "up");
    tell(&server, &two, "failed");
    let results =
        r#"{"phase": "postscripts", "results": [{"name": "x", "outcome": "failed", "reason": "r", "seconds": 1}]}"#;
    let scripts = one.replace("/-/report/", "/-/scripts/");
    let length = results.len();
    let post =
        format!("POST {scripts} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{results}");
    let answer = talk(&server, 99, 80, &post);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    std::thread::sleep(Duration::from_millis(10));
    for node in ["cn001", "cn002", "cn003"] {
        address(&server, node);
    }
    let ran = space.run(&["nodes"]);
    assert_eq!(ran.code, 2, "{}", ran.out);
    for (node, words) in [
        ("cn001", "up? (asked for its script 0 s ago from 10.0.0.99) (x: r)"),
        ("cn002", "failed? (asked for its script"),
        ("cn003", " ? (asked for its script"),
    ] {
        let line = ran.out.lines().find(|line| line.starts_with(node)).unwrap();
        assert!(line.contains(words), "{words}: {line}");
    }
    let page = get_from(&server, 99, "/");
    assert!(page.contains("s up\">up? (asked for its script"), "{page}");
    let document: serde_json::Value = serde_json::from_str(&space.run(&["nodes", "--json"]).out).unwrap();
    crate::schemas::assert_valid("nodelist", &document);
    assert_eq!(document["nodes"][0]["asked"]["from"], "10.0.0.99");
    // A token speaks: what was asked before is answered.
    tell(&server, &one, "booting");
    let out = space.run(&["nodes", "cn001"]).out;
    assert!(out.trim_end().ends_with(" booting"), "{out}");
}

#[test]
fn a_client_that_is_no_node_or_several_gets_no_script_and_no_token_is_logged() {
    let Some((_space, _, mut server)) = running() else { return };
    let got = |last: u8, path: &str| get_from(&server, last, path);
    // By its address alone, and by what fits.
    for path in [
        "grub",
        "ipxe?mac=52:54:00:00:00:01",
        "ipxe?mac=52:54:00:00:00:01&uuid={UUID}&serial=none",
        "ipxe?mac=&uuid=ffff",
    ] {
        let last = if path == "grub" {
            11
        } else if path.ends_with("ffff") {
            12
        } else {
            99
        };
        let node = if last == 12 { "cn002" } else { "cn001" };
        let text = got(last, &format!("/-/boot/{path}"));
        assert!(text.contains(&format!("/-/report/{node}/")), "{path}: {text}");
    }
    // A second card, by what the firmware says.
    assert!(got(99, &format!("/-/boot/ipxe?mac=52:54:00:00:00:99&uuid={UUID}")).contains("/-/report/cn001/"));
    for path in [
        "ipxe?mac=52:54:00:00:00:99",
        "ipxe/52-54-00-00-00-99",
        "ipxe/cn009",
        "ipxe?node=cn009",
        "ipxe?mac=nonsense",
        "ipxe?uuid=ffff",
        "ipxe?mac=52:54:00:00:00:02&uuid={UUID}",
        "ipxe?uuid={UUID}&serial=s3",
        "ipxe/cn002?mac=52:54:00:00:00:01",
    ] {
        let text = got(11, &format!("/-/boot/{}", path.replace("{UUID}", UUID)));
        assert!(text.starts_with("HTTP/1.1 404") && !text.contains("/-/report/"), "{path}: {text}");
    }
    let report = address(&server, "cn003");
    tell(&server, &report, "up");
    let metrics = get_from(&server, 99, "/metrics");
    assert!(metrics.contains("imgbuild_strangers_total 9\n"), "{metrics}");
    server.signal("TERM");
    server.child.wait().unwrap();
    let mut log = String::new();
    server.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains("that is several nodes (cn002 by mac, cn001 by uuid)"), "{log}");
    assert!(log.contains("GET /-/report/cn003/TOKEN/up 200"), "{log}");
    let digits = report.rsplit('.').next().unwrap();
    assert!(!log.contains(digits), "{log}");
}

/// A node of a server at the loopback interface comes up; where it reported.
pub(super) fn up(server: &Running, node: &str) -> String {
    let report = address_from(&String::from_utf8(server.get(&format!("/-/boot/ipxe/{node}"), "").1).unwrap());
    assert!(server.get(&format!("{report}/up"), "").0.starts_with("http/1.1 200"));
    report
}

#[test]
fn server_and_commands_have_one_state() {
    let (space, first) = published();
    space.write("elsewhere/kept", "");
    let serving = |more: &[&str]| {
        let mut command = command(&[&["--listen", "127.0.0.1:0"], more].concat());
        command.current_dir(space.path());
        started(command)
    };
    let other = serving(&["--state", "elsewhere"]);
    let ran = nodeset(&space, &["@compute", "compute"]);
    assert!(ran.code == 1 && ran.err.contains(&format!("(process {})", other.child.id())), "{}", ran.err);
    assert!(ran.err.contains("elsewhere`") && ran.err.contains("[nodes] state"), "{}", ran.err);
    let ran = space.run(&["sync", "@compute"]);
    assert!(ran.code == 1 && ran.err.contains(&format!("(process {})", other.child.id())), "{}", ran.err);
    assert!(!space.path().join("tftpboot").exists() && !space.path().join(".imgbuild/nodes/assigned.json").exists());
    assert!(space.run(&["nodes"]).good().err.contains("warning: `imgbuild serve` runs for these nodes"));
    let stated = space.path().join("elsewhere").display().to_string();
    nodeset(&space, &["@compute", "compute", "--state", &stated]).good();
    assert!(!space.run(&["nodes", "--state", &stated]).good().err.contains("warning"));
    // Named once for all.
    space.write("imgbuild.toml", "images = [\"images/*\"]\n\n[nodes]\nstate = \"elsewhere\"\n");
    nodeset(&space, &["@compute", "compute"]).good();
    up(&other, "cn001");
    let ran = space.run(&["nodes", "cn001"]).good();
    assert!(ran.out.contains(&first[..12]) && ran.out.contains(" up"), "{}", ran.out);
    drop(other);
    let _named = serving(&[]);
    assert!(!space.run(&["nodes"]).good().err.contains("warning"));
    space.write("imgbuild.toml", "images = [\"images/*\"]\n\n[nodes]\nstat = \"elsewhere\"\n");
    assert_eq!(space.run(&["nodes"]).code, 1);
}

#[test]
fn a_server_with_an_account_of_its_own_and_roots_commands_share_the_state() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (space, first) = published();
    std::fs::set_permissions(space.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    nodeset(&space, &["@compute", "compute"]).good();
    space.run(&["nodes"]).good();
    let state = space.path().join(".imgbuild/nodes");
    std::fs::hard_link(space.path().join("imgbuild.toml"), state.join("linked")).unwrap();
    // Without root's help it says what it needs.
    let mut alone = command(&["--listen", "127.0.0.1:0"]);
    let output = alone.current_dir(space.path()).uid(65534).gid(65534).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        output.status.code() == Some(3) && said.contains("permission denied") && said.contains("chown -R"),
        "{said}"
    );
    let mut command = command(&["--listen", "127.0.0.1:0", "--user", "nobody"]);
    command.current_dir(space.path());
    let server = started(command);
    let owner = |path: &str| std::fs::metadata(state.join(path)).unwrap().uid();
    assert_eq!((owner("."), owner("assigned.json"), owner("secret")), (65534, 65534, 65534));
    assert_eq!(owner("linked"), 0, "what has another name elsewhere stays root's");
    up(&server, "cn001");
    assert!(space.run(&["nodes", "cn001"]).good().out.contains(" up"));
    // What root writes later is the account's, too: it is read and replaced by the server.
    let second = publish(&space, "compute", "second");
    nodeset(&space, &["cn001", "compute"]).good();
    assert_eq!((owner("assigned.json"), owner(".lock")), (65534, 65534));
    let report = up(&server, "cn001");
    assert!(report.contains(&second) && !report.contains(&first), "{report}");
    // What the account puts where root looks leads root nowhere.
    let precious = space.path().join("precious");
    std::fs::create_dir(&precious).unwrap();
    std::fs::write(precious.join("cn001.json"), "precious").unwrap();
    for name in ["reports", "keys", ".lock"] {
        let path = state.join(name);
        let _ = std::fs::remove_dir_all(&path);
        let _ = std::fs::remove_file(&path);
        std::os::unix::fs::symlink(if name == ".lock" { precious.join("cn001.json") } else { precious.clone() }, path)
            .unwrap();
    }
    let ran = nodeset(&space, &["cn001", "compute"]);
    assert!(
        ran.code == 1 && ran.err.contains("nodes::damaged") && ran.err.contains(".lock"),
        "{} {}",
        ran.code,
        ran.err
    );
    std::fs::remove_file(state.join(".lock")).unwrap();
    nodeset(&space, &["cn001", "compute"]).good();
    assert!(!space.run(&["nodes", "cn001"]).good().out.contains(" up"));
    for path in [precious.clone(), precious.join("cn001.json")] {
        assert_eq!(std::fs::metadata(&path).unwrap().uid(), 0, "{}", path.display());
    }
    assert_eq!(std::fs::read_to_string(precious.join("cn001.json")).unwrap(), "precious");
}

/// What an account of the server may leave in its directory, root's commands neither follow nor wait for.
#[test]
fn what_the_servers_account_leaves_in_the_state_leads_root_nowhere() {
    use std::os::unix::fs::{MetadataExt, lchown, symlink};
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (space, _) = published();
    nodeset(&space, &["@compute", "compute"]).good();
    let state = space.path().join(".imgbuild/nodes");
    let secret = space.path().join("roots");
    std::fs::write(&secret, "root's\n").unwrap();
    for path in [state.clone(), state.join("assigned.json")] {
        lchown(path, Some(65534), Some(65534)).unwrap();
    }
    for name in ["asked", "keys"] {
        std::fs::create_dir_all(state.join(name)).unwrap();
        let pipe = state.join(name).join("cn001.json");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    }
    space.write("elsewhere/gone9.json", "{}");
    symlink(space.path().join("elsewhere"), state.join("reports")).unwrap();
    std::fs::remove_file(state.join(".lock")).unwrap();
    symlink(&secret, state.join(".lock")).unwrap();
    let ran = nodeset(&space, &["@compute", "compute"]);
    assert!(ran.code == 1 && ran.err.contains("is not used: it is a link"), "{} {}", ran.code, ran.err);
    assert_eq!(std::fs::metadata(&secret).unwrap().uid(), 0);
    std::fs::remove_file(state.join(".lock")).unwrap();
    for words in [&["nodes"][..], &["nodes", "--format", "known-hosts"]] {
        space.run(words).good();
    }
    nodeset(&space, &["--clear"]).good();
    assert!(space.path().join("elsewhere/gone9.json").exists());
    std::fs::remove_file(state.join("assigned.json")).unwrap();
    assert!(Command::new("mkfifo").arg(state.join("assigned.json")).status().unwrap().success());
    assert_eq!(nodeset(&space, &["@compute", "compute"]).code, 1);
}

#[cfg(feature = "e2e")]
#[test]
fn a_killed_handing_over_of_the_state_is_ended_by_the_next() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (space, _) = published();
    std::fs::set_permissions(space.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    nodeset(&space, &["@compute", "compute"]).good();
    space.write(".imgbuild/nodes/reports/cn001.json", "{}").write(".imgbuild/nodes/keys/cn001.json", "{}");
    let state = space.path().join(".imgbuild/nodes");
    let owners = || -> Vec<u32> {
        walkdir::WalkDir::new(&state).into_iter().map(|entry| entry.unwrap().metadata().unwrap().uid()).collect()
    };
    let as_nobody = || {
        let mut command = command(&["--listen", "127.0.0.1:0", "--user", "nobody"]);
        command.current_dir(space.path());
        command
    };
    let file = space.path().join("fault");
    let mut killed = as_nobody();
    let mut child = killed.env("IMGBUILD_FAULT", "state.given").env("IMGBUILD_FAULT_FILE", &file).spawn().unwrap();
    while !file.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it was not reached");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // Some are given, and the directory is not: root's commands go on with all of them.
    assert!(owners().contains(&0) && owners().contains(&65534) && owners()[0] == 0, "{:?}", owners());
    nodeset(&space, &["cn001", "compute"]).good();
    let server = started(as_nobody());
    assert!(owners().iter().all(|owner| *owner == 65534), "{:?}", owners());
    up(&server, "cn001");
}

/// A disk that is full for some time: what a node reports then is lost, that is said, and what comes later is kept.
#[test]
fn a_full_disk_loses_reports_and_keys_until_there_is_room_again() {
    use std::os::unix::fs::PermissionsExt;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (space, first) = published();
    std::fs::set_permissions(space.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let state = space.path().join(".imgbuild/nodes");
    std::fs::create_dir_all(&state).unwrap();
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs -o nr_inodes=60 none \"$STATE\"\nexec \"$@\"";
    command.args(["-m", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_imgbuild"), "serve", "--user", "nobody"]);
    command.args(["--listen", "127.0.0.1:0"]).env("STATE", &state).current_dir(space.path());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = started(command);
    let inside = std::path::PathBuf::from(format!("/proc/{}/root{}", server.child.id(), state.display()));
    let script = String::from_utf8(server.get("/-/boot/ipxe/cn001", "").1).unwrap();
    let report = address_from(&script);
    let say = |state: &str| {
        let encoded: String = KEYS[0].bytes().map(|byte| format!("%{byte:02X}")).collect();
        let form = format!("state={state}&host_keys={encoded}");
        let length = form.len();
        let request =
            format!("POST {report} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{form}");
        server.ask(&request).0
    };
    assert!(say("booting").starts_with("http/1.1 200"));
    let filling: Vec<std::path::PathBuf> = (0..60).map(|at| inside.join(format!("full{at}"))).collect();
    let full = filling.iter().any(|path| std::fs::write(path, "").is_err());
    assert!(full, "there is room left");
    // Nothing is answered that would keep the node from trying again.
    let answer = say("up");
    assert!(answer.starts_with("http/1.1 5"), "{answer}");
    // Files and boot scripts are served all the same.
    assert!(server.get("/-/boot/ipxe/cn001", "").0.starts_with("http/1.1 200"));
    let kept = |kind: &str| std::fs::read_to_string(inside.join(kind).join("cn001.json")).unwrap_or_default();
    assert!(kept("reports").contains("booting") && kept("keys").is_empty(), "{}", kept("reports"));
    filling.iter().for_each(|path| drop(std::fs::remove_file(path)));
    assert!(say("up").starts_with("http/1.1 200"));
    assert!(kept("reports").contains("\"up\"") && kept("reports").contains(&first), "{}", kept("reports"));
    assert!(kept("keys").contains(KEYS[0]), "{}", kept("keys"));
    server.signal("TERM");
    let mut said = String::new();
    server.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("no space left while imgbuild tried to"), "{said}");
}

/// Public halves of ssh host keys, as a node has them.
const KEYS: [&str; 2] = [
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEoNXlh/Gz8i0sz/YqU4GFLKauvK6uUwfX2IaF60/DNV",
    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBCaiLSLLvK7u/MRJ7yGAYF1i/8u5qYlNffhEfx3DFiqW4Z/SjsgzWWXuBQ+6H8tSCrcvumQru7HyEqO2wjJl12o=",
];

#[test]
fn host_keys_are_those_of_the_last_report() {
    let Some((space, _, server)) = running() else { return };
    // As imgbuild-init does.
    let say = |report: &str, state: &str, keys: &str| {
        let encoded: String = keys.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let form = format!("state={state}&host_keys={encoded}");
        let head = format!("POST {report} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}", form.len());
        talk(&server, 99, 80, &format!("{head}\r\n\r\n{form}"))
    };
    let kept = |report: &str, state: &str, keys: &str| {
        let answer = say(report, state, keys);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    };
    let known = || space.run(&["nodes", "--format", "known-hosts"]).good();
    let (one, two) = (address(&server, "cn001"), address(&server, "cn002"));
    let ran = known();
    assert!(ran.out.is_empty() && ran.err.contains("cn[001-003],login1"), "{}", ran.err);
    kept(&one, "up", &format!("{} root@cn001\n{}\n", KEYS[0], KEYS[1]));
    kept(&two, "up", KEYS[1]);
    let both = format!("cn001 {}\ncn001 {}\ncn002 {}\n", KEYS[0], KEYS[1], KEYS[1]);
    let ran = known();
    assert_eq!(ran.out, both);
    assert!(ran.err.contains("no report with ssh host keys since their start: cn003,login1"), "{}", ran.err);
    assert_eq!(space.run(&["nodes", "cn002", "--format", "known-hosts"]).good().out, format!("cn002 {}\n", KEYS[1]));
    // Without the node's token nothing is kept, and anyone may ask for scripts.
    let stolen = one.replace("/cn001/", "/cn002/");
    assert!(say(&stolen, "up", KEYS[0]).starts_with("HTTP/1.1 403"));
    address(&server, "cn001");
    // What its scripts come to later says nothing of keys.
    let results = r#"{"phase": "postbootscripts", "fails": true, "results": [{"name": "x", "outcome": "failed", "reason": "r", "seconds": 1}]}"#;
    let scripts = two.replace("/-/report/", "/-/scripts/");
    let head = format!("POST {scripts} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}", results.len());
    let answer = talk(&server, 99, 80, &format!("{head}\r\n\r\n{results}"));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(known().out, both);
    // What a list would read as something else is no key; the rest of the report counts.
    let hostile = format!(
        "@cert-authority * {}\n* {}\ncn001,* {}\r\n#\n{}\n{}\u{0}\n",
        KEYS[0], KEYS[0], KEYS[1], KEYS[0], KEYS[1]
    );
    kept(&two, "up", &hostile);
    assert_eq!(space.run(&["nodes", "cn002", "--format", "known-hosts"]).good().out, format!("cn002 {}\n", KEYS[0]));
    kept(&two, "up", &format!("{}\n", KEYS[0]).repeat(100));
    let out = space.run(&["nodes", "cn002", "--format", "known-hosts"]).good().out;
    assert_eq!(out.lines().count(), 8, "{out}");
    // A report without keys, and a start: what it had is gone.
    tell(&server, &two, "up");
    kept(&one, "booting", KEYS[0]);
    let ran = known();
    assert!(ran.out.is_empty(), "{}", ran.out);
    // Another build than the one that it reported last: its own report comes later.
    kept(&one, "up", KEYS[0]);
    publish(&space, "compute", "second");
    nodeset(&space, &["cn001", "compute"]).good();
    assert!(!known().out.is_empty());
    let scripts = address(&server, "cn001").replace("/-/report/", "/-/scripts/");
    let head = format!("POST {scripts} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}", results.len());
    talk(&server, 99, 80, &format!("{head}\r\n\r\n{results}"));
    assert!(known().out.is_empty());
}
