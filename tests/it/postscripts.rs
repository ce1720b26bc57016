//! Postscripts: what `check` says of them, what `serve` gives to nodes, and the program that runs them on a node, as a process.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::Space;
use crate::support::server::{Running, command, site, started};

/// The root of a node with scripts in its image, and the program that runs them.
struct Node {
    space: Space,
    server: Option<String>,
}

impl Node {
    fn new(plan: &Value) -> Self {
        let space = Space::new();
        let program = build::init_program();
        std::fs::write(space.path().join("imgbuild-init"), program).unwrap();
        std::fs::set_permissions(space.path().join("imgbuild-init"), PermissionsExt::from_mode(0o755)).unwrap();
        space.write("usr/libexec/imgbuild/postscripts.json", &plan.to_string());
        Self { space, server: None }
    }

    fn script(&self, name: &str, text: &str) -> &Self {
        let path = format!("usr/libexec/imgbuild/postscripts/{name}");
        self.space.write(&path, text);
        std::fs::set_permissions(self.space.path().join(path), PermissionsExt::from_mode(0o755)).unwrap();
        self
    }

    fn reports_to(&mut self, server: &Running, address: &str) {
        self.server = Some(server.address.to_string());
        self.space.write("run/imgbuild/report", &format!("http://{}{address}\n", server.address));
    }

    /// Runs a list; the exit status, and what it printed.
    fn run(&self, phase: &str) -> (i32, String) {
        let ran = Command::new(self.space.path().join("imgbuild-init"))
            .args(["scripts", phase])
            .arg(self.space.path())
            .env("SECRET_OF_SYSTEMD", "x")
            .output()
            .unwrap();
        (ran.status.code().unwrap(), String::from_utf8(ran.stdout).unwrap())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.space.path().join("var/log/imgbuild/postscripts").join(format!("{name}.log"))
    }
}

fn line<'a>(printed: &'a str, name: &str) -> &'a str {
    let start = format!("imgbuild: postscripts: {name}: ");
    printed.lines().find_map(|line| line.strip_prefix(&*start)).unwrap_or_else(|| panic!("{name}: {printed}"))
}

/// Whether a process with a word in its arguments is there.
fn runs(word: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let words = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    words.into_iter().any(|words| String::from_utf8_lossy(&words).contains(word))
}

#[test]
fn each_way_to_fail_is_told_and_none_holds_up_the_next() {
    let names = [
        "good", "fails", "hangs", "deaf", "shell", "group", "behind", "plain", "noexec", "crlf", "nobody", "gone",
        "last", "good 2",
    ];
    let node = Node::new(&json!({"timeout": 5, "on_failure": "report", "postscripts": names}));
    let mark = format!("imgbuild-test-{}", std::process::id());
    node.script("good", "#!/bin/sh\necho good $# $0\n")
        .script("fails", "#!/bin/sh\necho one\necho two >&2\nexit 3\n")
        .script("hangs", &format!("#!/bin/sh\necho waits\nsh -c 'sleep 600 # {mark}-hangs'\n"))
        .script("deaf", "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n")
        .script("shell", "#!/bin/sh\necho before\nkill -9 $$\n")
        .script("group", "#!/bin/sh\necho before\nkill -9 0\n")
        // In a session of its own, with the output still open.
        .script("behind", &format!("#!/bin/sh\nsetsid sh -c 'sleep 600 # {mark}-behind' &\necho started\n"))
        .script("plain", "echo no interpreter is named\n")
        .script("noexec", "#!/bin/sh\n")
        .script("crlf", "#!/bin/sh\r\necho\r\n")
        .script("nobody", "#!/opt/site/python9\n")
        .script("last", "#!/bin/sh\necho last\n");
    let noexec = node.space.path().join("usr/libexec/imgbuild/postscripts/noexec");
    std::fs::set_permissions(noexec, PermissionsExt::from_mode(0o644)).unwrap();
    let began = Instant::now();
    let (status, printed) = node.run("postscripts");
    assert_eq!(status, 1, "{printed}");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}: {printed}", began.elapsed());
    for (name, reason) in [
        ("good", "done"),
        ("fails", "exit status 3"),
        ("hangs", "not done after 5 seconds: ended"),
        ("deaf", "not done after 5 seconds: ended"),
        ("shell", "ended by signal 9"),
        ("group", "ended by signal 9"),
        ("plain", "done"),
        ("noexec", "it is not executable, or its file system is mounted noexec"),
        ("nobody", "the image has no `/opt/site/python9`, which its first line names"),
        ("gone", "the image has no script of this name"),
        ("last", "done"),
    ] {
        assert_eq!(line(&printed, name), reason, "{printed}");
    }
    assert!(line(&printed, "crlf").contains("Windows line endings"), "{printed}");
    assert!(line(&printed, "behind").starts_with("done; it left "), "{printed}");
    assert!(!runs(&format!("{mark}-hangs")) && !runs(&format!("{mark}-behind")), "nothing is left running");
    // Logs: root's alone, and bounded.
    let text = std::fs::read_to_string(node.log("good-2")).unwrap();
    assert!(text.starts_with("good 1 "), "{text}");
    let text = std::fs::read_to_string(node.log("fails")).unwrap();
    assert_eq!(text, "one\ntwo\n");
    let directory = node.log("x").parent().unwrap().metadata().unwrap();
    assert_eq!(directory.permissions().mode() & 0o777, 0o700);
    // A node without a server, and one that may not fail.
    assert!(!node.space.path().join("run/imgbuild/postscripts-failed").exists());
    let strict = Node::new(&json!({"timeout": 0, "on_failure": "fail", "postbootscripts": ["fails"]}));
    strict.script("fails", "#!/bin/sh\nexit 1\n");
    assert_eq!(strict.run("postscripts").0, 0);
    assert_eq!(strict.run("postbootscripts").0, 1);
    let why = std::fs::read_to_string(strict.space.path().join("run/imgbuild/postscripts-failed")).unwrap();
    assert_eq!(why, "postbootscripts: fails: exit status 1");
}

#[test]
fn a_script_that_prints_without_end_fills_neither_memory_nor_disk() {
    let node = Node::new(&json!({"timeout": 600, "on_failure": "report", "postscripts": ["large"]}));
    node.script("large", "#!/bin/sh\necho first\nhead -c 1000000000 /dev/zero | tr '\\0' x\necho; echo end\n");
    let (status, printed) = node.run("postscripts");
    assert_eq!((status, line(&printed, "large")), (0, "done"));
    let large = std::fs::metadata(node.log("large")).unwrap();
    assert!(large.len() < 1 << 20 && large.permissions().mode() & 0o777 == 0o600, "{}", large.len());
    let text = std::fs::read(node.log("large")).unwrap();
    assert!(text.starts_with(b"first\nxxx") && text.ends_with(b"xxx\nend\n"));
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(text.contains("bytes are left out here]"));
}

/// The server of a site with scripts, and the address to which cn1 reports.
fn site_with_scripts(space: &Space) -> (Running, String) {
    site(space);
    let nodes = std::fs::read_to_string(space.path().join("nodes.toml")).unwrap();
    let nodes = nodes
        .replace("image = \"compute\"\n", "image = \"compute\"\npostbootscripts = [\"settmpsize\", \"servicenode\"]\n")
        .replace(
            "ip = \"10.9.0.11\"\n",
            "ip = \"10.9.0.11\"\nnic = \"eno1\"\npostscripts = [\"mine  two  words\", \"image-s\", \"custom/deep\"]\n\
             variables = { RACK = \"r1\", SITE = \"node\" }\n",
        );
    space.write("nodes.toml", &format!("[defaults]\npostscripts = [\"first\", \"absent\"]\n\n{nodes}"));
    let server = started({
        let mut command = command(&["--listen", "127.0.0.1:0"]);
        command.current_dir(space.path());
        command
    });
    let script = String::from_utf8(server.get("/-/boot/ipxe/cn1", "").1).unwrap();
    let report = script.split_whitespace().find_map(|word| word.strip_prefix("imgbuild.report=http://x")).unwrap();
    let report = report.to_owned();
    // A client that does not say how it calls the server: by the address to which it came.
    let (head, script) = server.ask("GET /-/boot/ipxe/cn1 HTTP/1.0\r\n\r\n");
    let script = String::from_utf8(script).unwrap();
    assert!(
        head.starts_with("http/1.0 200") && script.contains("imgbuild.report=http://127.0.0.1:"),
        "{head} {script}"
    );
    (server, report)
}

/// Seed 000: the postscript that sets the sizes of /tmp, as it stands there; without an interpreter, and not executable. Its programs
/// are stand-ins that say what they were called with.
const SETTMPSIZE: &str = "logger -t xcat \"$0: BEGIN\"\nmount -o remount,size=50m /tmp/\nmount -o remount,size=50m /var/tmp/\n\
                          logger -t xcat \"$0: END\"\n";

#[test]
fn scripts_of_server_and_image_run_in_xcats_order_with_its_environment() {
    let space = Space::new();
    let (server, report) = site_with_scripts(&space);
    let said = "#!/bin/sh\necho \"$(basename $0) $*\" >>$LIST\n";
    space.write("postscripts/first", said).write("postscripts/mine", said).write("postscripts/custom/deep", said);
    space.write("postscripts/settmpsize", SETTMPSIZE).write("postscripts/not-cn1s", "#!/bin/sh\n");
    // Seed 004's: what makes a node a service node asks the management node by xCAT's variables.
    space.write(
        "postscripts/servicenode",
        "#!/bin/bash\n[ \"$NODESETSTATE\" = netboot ] && [ \"$UPDATENODE\" = 0 ] || exit 1\necho \"of $MASTER for $NODE\"\n",
    );
    let mut node = Node::new(&json!({
        "timeout": 60, "on_failure": "fail", "postscripts": ["image-one", "image-s"],
        "environment": {"OSVER": "debian-bookworm", "SITE": "image", "NODESETSTATE": "netboot", "UPDATENODE": "0"}
    }));
    let list = node.space.path().join("list");
    node.script("image-one", "#!/bin/sh\nenv | sort >$LIST.env; echo image-one >>$LIST; pwd >>$LIST.env\n");
    node.script("image-s", said);
    // Stand-ins for what a test may not do to its own machine; scripts' directory is first in their path.
    std::fs::create_dir_all(node.space.path().join("run/imgbuild/postscripts")).unwrap();
    for program in ["mount", "logger"] {
        let path = format!("run/imgbuild/postscripts/{program}");
        node.space.write(&path, &format!("#!/bin/sh\necho {program} \"$@\"\n"));
        std::fs::set_permissions(node.space.path().join(path), PermissionsExt::from_mode(0o755)).unwrap();
    }
    let nodes = std::fs::read_to_string(space.path().join("nodes.toml")).unwrap();
    let nodes = nodes.replace("RACK = \"r1\"", &format!("RACK = \"r1\", LIST = \"{}\"", list.display()));
    space.write("nodes.toml", &nodes);
    node.reports_to(&server, &report);
    let (status, printed) = node.run("postscripts");
    // One is nowhere.
    assert_eq!((status, line(&printed, "absent")), (1, "neither the server nor the image has a script of this name"));
    let order = std::fs::read_to_string(&list).unwrap();
    assert_eq!(order, "first \nimage-one\nimage-s \nmine two words\ndeep \n");
    let environment = std::fs::read_to_string(list.with_extension("env")).unwrap();
    let host = node.server.clone().unwrap();
    let (host, port) = host.split_once(':').unwrap();
    for (name, value) in [
        ("NODE", "cn1"),
        ("IPADDR", "10.9.0.11"),
        ("MACADDRESS", "52:54:00:00:00:01"),
        ("INSTALLNIC", "eno1"),
        ("GROUP", "compute"),
        ("MASTER", host),
        ("MASTER_IP", host),
        ("HTTPPORT", port),
        ("OSVER", "debian-bookworm"),
        ("SITE", "node"),
        ("RACK", "r1"),
    ] {
        assert!(environment.lines().any(|line| line == format!("{name}={value}")), "{name}: {environment}");
    }
    assert!(!environment.contains("SECRET_OF_SYSTEMD") && environment.ends_with("usr/libexec/imgbuild/postscripts\n"));
    let token = report.rsplit('/').next().unwrap();
    assert!(!environment.contains(token) && !printed.contains(token), "{printed}");
    // The server knows, and the node has failed by it.
    let ran = space.run(&["nodes"]);
    assert_eq!(ran.code, 2);
    assert!(ran.out.contains("failed: postscripts: absent: neither the server nor the image"), "{}", ran.out);
    let (status, printed) = node.run("postbootscripts");
    assert_eq!(status, 0, "{printed}");
    let shown = space.run(&["nodes", "cn1", "--scripts"]).out;
    for words in [
        "cn1: postscripts: mine: done, 0 s",
        "cn1: postbootscripts: settmpsize: done",
        "    mount -o remount,size=50m /tmp/",
        "    mount -o remount,size=50m /var/tmp/",
        "    of 127.0.0.1 for cn1",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let document: Value = serde_json::from_str(&space.run(&["nodes", "--json"]).out).unwrap();
    crate::schemas::assert_valid("nodelist", &document);
    let first = &document["nodes"][0]["scripts"]["lists"]["postscripts"][1];
    assert_eq!((&first["name"], &first["outcome"]), (&json!("absent"), &json!("unstarted")));
    // Anyone can ask for its script: that is no start. A start later nothing is known of them.
    server.get("/-/boot/ipxe/cn1", "");
    assert!(space.run(&["nodes", "cn1", "--scripts"]).out.contains("cn1: postscripts: mine: done"));
    assert!(server.get(&format!("{report}/booting"), "").0.starts_with("http/1.1 200"));
    assert!(space.run(&["nodes", "cn1", "--scripts"]).out.contains("no script has been reported"));
}

#[test]
fn a_report_and_what_became_of_scripts_survive_an_outage() {
    let space = Space::new();
    let (server, report) = site_with_scripts(&space);
    let mut node = Node::new(&json!({"timeout": 60, "on_failure": "report", "postscripts": ["bad"]}));
    node.script("bad", "#!/bin/sh\necho no disk\nexit 3\n");
    node.reports_to(&server, &report);
    let address = server.address;
    drop(server);
    // The boot goes on without the server.
    let began = Instant::now();
    let (status, printed) = node.run("postscripts");
    assert!(status == 1 && printed.contains("bad: exit status 3") && printed.contains("did not get"), "{printed}");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    struct Ended(std::process::Child);
    impl Drop for Ended {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let mut up = Command::new(node.space.path().join("imgbuild-init"));
    up.args(["report", "up"]).arg(node.space.path()).stdout(std::process::Stdio::null());
    let mut up = Ended(up.spawn().unwrap());
    // Something is there, and takes nothing: it is asked again after 1, 2 and 4 seconds, or half as long.
    let other = std::net::TcpListener::bind(address).unwrap();
    other.set_nonblocking(true).unwrap();
    let (began, mut tries) = (Instant::now(), Vec::new());
    while began.elapsed() < Duration::from_secs(8) {
        match other.accept() {
            Ok(_) => tries.push(began.elapsed().as_secs_f64()),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    drop(other);
    assert!((3..=6).contains(&tries.len()), "{tries:?}");
    assert!(tries[tries.len() - 1] - tries[tries.len() - 2] > 0.9, "{tries:?}");
    assert!(up.0.try_wait().unwrap().is_none(), "it gave up");
    let _server = started({
        let mut command = command(&["--listen", &address.to_string()]);
        command.current_dir(space.path());
        command
    });
    let began = Instant::now();
    while up.0.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(60), "the server is there again");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(up.0.wait().unwrap().code(), Some(0));
    let shown = space.run(&["nodes", "cn1", "--scripts"]).out;
    assert!(shown.contains("cn1: postscripts: bad: exit status 3") && shown.contains("    no disk"), "{shown}");
    assert!(space.run(&["nodes", "cn1"]).out.contains("up ("), "{}", space.run(&["nodes", "cn1"]).out);
    assert!(std::fs::read_dir(node.space.path().join("run/imgbuild/results")).unwrap().next().is_none());
}

#[test]
fn a_node_gets_its_own_scripts_by_their_digests_and_no_others() {
    let space = Space::new();
    let (server, report) = site_with_scripts(&space);
    space.write("postscripts/mine", "#!/bin/sh\n").write("postscripts/not-cn1s", "#!/bin/sh\necho secret\n");
    space.write("secret", "secret");
    std::os::unix::fs::symlink("../secret", space.path().join("postscripts/first")).unwrap();
    let address = report.replace("/-/report/", "/-/scripts/");
    let (head, body) = server.get(&address, "");
    assert!(head.starts_with("http/1.1 200") && head.contains("no-store"), "{head}");
    let plan: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(plan["defaults"]["postscripts"], json!(["first", "absent"]));
    assert_eq!(plan["own"]["postscripts"], json!(["mine two words", "image-s", "custom/deep"]));
    assert_eq!(plan["own"]["postbootscripts"], json!(["settmpsize", "servicenode"]));
    // A link that leads out is none, and neither is what only others run.
    assert_eq!(plan["files"].as_object().unwrap().keys().collect::<Vec<_>>(), ["mine"]);
    let digest = plan["files"]["mine"]["sha256"].as_str().unwrap();
    assert_eq!(server.get(&format!("{address}/{digest}"), "").1, b"#!/bin/sh\n");
    let secret = base::digest::Sha256::of(b"#!/bin/sh\necho secret\n").to_string();
    for (path, code) in [
        (format!("{address}/{secret}"), 404),
        (format!("{address}/mine"), 404),
        (format!("{address}/{digest}/x"), 404),
        (address.replace("cn1", "cn2"), 403),
        ("/-/scripts/cn1/0000".to_owned(), 403),
        ("/-/scripts/cn1".to_owned(), 404),
        ("/postscripts/mine".to_owned(), 404),
    ] {
        assert!(server.get(&path, "").0.starts_with(&format!("http/1.1 {code}")), "{path}");
    }
    let post = |path: &str, body: &str| {
        let length = body.len();
        server
            .ask(&format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            ))
            .0
    };
    assert!(post(&address, "{}").starts_with("http/1.1 400"));
    assert!(post(&address, &"x".repeat(2 << 20)).starts_with("http/1.1 413"));
    assert!(post(&address, r#"{"phase": "../x", "results": []}"#).starts_with("http/1.1 400"));
    let told = r#"{"phase": "postscripts", "results": [{"name": "mine", "outcome": "failed", "reason": "exit status 4\u001b[2J", "seconds": 1, "lines": ["a\nb"]}]}"#;
    assert!(post(&address.replace("cn1", "cn2"), told).starts_with("http/1.1 403"));
    assert!(post(&address, told).starts_with("http/1.1 200"));
    assert!(post(&format!("{report}/up"), "").starts_with("http/1.1 200"));
    // It is up, and what failed is told beside that.
    let ran = space.run(&["nodes", "cn1"]);
    assert!(ran.code == 0 && ran.out.contains("up (mine: exit status 4 [2J)"), "{}", ran.out);
    // The directory of a site.
    let elsewhere = Space::new();
    elsewhere.write("mine", "#!/bin/sh\necho elsewhere\n");
    let nodes = std::fs::read_to_string(space.path().join("nodes.toml")).unwrap();
    space.write("nodes.toml", &format!("[nodeset]\npostscripts = \"{}\"\n\n{nodes}", elsewhere.path().display()));
    let plan: Value = serde_json::from_slice(&server.get(&address, "").1).unwrap();
    assert_ne!(plan["files"]["mine"]["sha256"], digest);
}

fn executable(space: &Space, name: &str, text: &str) {
    space.write(name, text);
    std::fs::set_permissions(space.path().join(name), PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn what_cannot_be_run_is_refused_with_place_and_remedy() {
    let recipe = "[image]\nname = \"node\"\nrelease = \"bookworm\"\n\n[packages]\ninstall = [\"systemd-sysv\"]\n\n[kernel]\npackage = \"linux-image-amd64\"\n\n";
    let space = Space::new();
    for name in ["good", "site/good", "my script", "a,b"] {
        executable(&space, name, "#!/bin/sh\n");
    }
    executable(&space, "crlf", "#!/bin/sh\r\n");
    executable(&space, "none", "echo\n");
    executable(&space, "relative", "#!sh\n");
    space.write("plain", "#!/bin/sh\n");
    std::fs::set_permissions(space.path().join("plain"), PermissionsExt::from_mode(0o644)).unwrap();
    for (table, said, remedy) in [
        ("postscripts = [\"absent\"]", "`absent` cannot be read", "correct the path"),
        ("postscripts = [\"plain\"]", "`plain` is not executable", "chmod +x plain"),
        ("postscripts = [\"none\"]", "`none` does not say which interpreter runs it", "#!/bin/sh"),
        ("postscripts = [\"relative\"]", "`sh`, which is not an absolute path", "#!/bin/sh"),
        ("postscripts = [\"crlf\"]", "has Windows line endings", "sed -i"),
        ("postscripts = [\"my script\"]", "the name `my script` has a blank", "rename the file"),
        ("postscripts = [\"a,b\"]", "`a,b` cannot be the name of a script on nodes", "rename the file"),
        ("postscripts = [\"site\"]", "`site` is a directory", "name the files in it"),
        ("postscripts = [\"\"]", "no script is named here", "remove it"),
        ("postscripts = [\"good\", \"good\"]", "`good` is in `postscripts` twice", "remove one"),
        ("postscripts = [\"good\", \"site/good\"]", "two files are called `good`", "rename one"),
        ("postbootscripts = [\"good\"]\non_failure = \"stop\"", "on_failure", "report"),
        ("timeout = -1", "timeout", "0"),
    ] {
        space.write("image.toml", &format!("{recipe}[node]\n{table}\n"));
        let ran = space.run(&["check"]);
        let told = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(ran.code, 1, "{table}: {told}");
        for words in [said, remedy, "image.toml:"] {
            assert!(told.contains(words), "{table}: {words}: {told}");
        }
    }
    space.write(
        "image.toml",
        &format!("{recipe}[node]\npostscripts = [\"good x\", \"good y\"]\npostbootscripts = [\"good\"]\n"),
    );
    space.run(&["check"]).good();
    // nodes.toml.
    space.write("imgbuild.toml", "images = [\".\"]\n");
    for (item, said) in [
        ("[\"/install/x\"]", "`/install/x` is not a name of a script"),
        ("[\"../x\"]", "`../x` is not a name of a script"),
        ("[\"-x\"]", "`-x` is not a name of a script"),
        ("[\"good\", \"good\"]", "`good` is in this list twice"),
    ] {
        space.write("nodes.toml", &format!("[node.cn1]\nimage = \"node\"\npostscripts = {item}\n"));
        let ran = space.run(&["check"]);
        let told = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(ran.code == 1 && told.contains(said) && told.contains("nodes.toml:3:"), "{item}: {told}");
    }
    space.write("nodes.toml", "[node.cn1]\nimage = \"node\"\npostscripts = [\"good\", \"typo\", \"crlf\"]\n");
    space.write("postscripts/crlf", "#!/bin/sh\r\n");
    let ran = space.run(&["check"]).good();
    let told = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        told.contains("nor does an image have a script `typo`") && told.contains("postscripts/crlf` has Windows"),
        "{told}"
    );
    assert!(!told.contains("script `good`"), "{told}");
}
