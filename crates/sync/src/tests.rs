//! What goes through a node's shell comes out as it was, and the stream has whole records.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::fan::{Reached, Settings, run};
use super::node::Mode;
use super::stream::{Bytes, Entry, RECORD, aside, records, send};
use super::wanted::{Content, Item, Job, Script, sha256_of};
use super::words::{encoded, quoted};
use base::source::{SourceFile, Span};
use nodes::HostKey;
use recipe::{Clause, SyncedKind};

proptest::proptest! {
    #[test]
    fn names_go_through_a_shell_as_they_are(name in proptest::collection::vec(1u8..=255, 0..40)) {
        let word = encoded(Path::new(OsStr::from_bytes(&name)));
        assert!(!word.contains([' ', '\n', '\'', '"', '*']), "{word}");
        // As node.sh undoes it.
        let script = format!("v=$(printf '%b.' {}); printf '%s' \"${{v%.}}\"", quoted(&word));
        let output = Command::new("sh").args(["-c", &script]).env("LC_ALL", "C").output().unwrap();
        assert_eq!(output.stdout, name);
    }
}

#[test]
fn a_stream_has_whole_records_and_a_file_that_shrank_its_size() {
    let entry = |path: &str, bytes: Bytes| Entry { path: path.into(), mode: 0o600, uid: 0, gid: 0, bytes };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "short").unwrap();
    let long = format!("/etc/{}", "x/".repeat(100));
    let entries = [
        entry("/etc/motd", Bytes::Text(Arc::new(b"text".to_vec()))),
        entry(&format!("{long}name"), Bytes::File(file, 4000)),
    ];
    let mut all = Vec::new();
    send(&mut all, &entries).unwrap();
    assert_eq!(all.len() as u64, records(&entries).unwrap() * RECORD);
    let mut archive = tar::Archive::new(all.as_slice());
    let sizes: Vec<(String, u64)> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.path().unwrap().display().to_string(), entry.size()))
        .collect();
    assert_eq!(sizes, [("etc/motd".to_owned(), 4), (format!("{}name", &long[1..]), 4000)]);
}

#[test]
fn what_is_put_aside_lies_beside_its_destination() {
    assert_eq!(aside(Path::new("/etc/motd"), "7", 0), Path::new("/etc/.imgbuild-sync.7.0"));
    assert_eq!(aside(Path::new("/motd"), "7", 1), Path::new("/.imgbuild-sync.7.1"));
}

/// An ssh that is a program of this host.
fn settings(folder: &Path, script: &str) -> Settings {
    let program = folder.join("ssh");
    std::fs::write(&program, script).unwrap();
    let second = Duration::from_secs(1);
    let ssh = vec!["sh".to_owned(), program.display().to_string()];
    Settings { ssh, fanout: 8, timeout: 60 * second, connect: second }
}

/// A node that is this host, by one of its shells.
fn local(folder: &Path, shell: &str) -> Settings {
    settings(folder, &format!("while [ \"$1\" != -- ]; do shift; done\nexec {shell} -c \"$3\"\n"))
}

fn item(clause: Clause, source: &Path, destination: &Path, name_in_folder: Option<&str>) -> Arc<Item> {
    let bytes = std::fs::read(source).unwrap();
    let (size, sha256) = (bytes.len() as u64, sha256_of(&bytes));
    let bytes = (clause != Clause::Copy).then_some(bytes);
    Arc::new(Item {
        kind: SyncedKind::File,
        clause,
        destination: destination.to_owned(),
        name_in_folder: name_in_folder.map(str::to_owned),
        content: Some(Content { size, sha256: sha256.clone(), bytes }),
        mode: 0o644,
        uid: 0,
        gid: 0,
        user: None,
        group: None,
        home: None,
        source: source.to_owned(),
        key: sha256,
        span: Span::new(&SourceFile::new("list", "/list", "line"), 0..4),
    })
}

fn synced(settings: &Settings, items: &[Arc<Item>]) -> Reached {
    let job = Job { items: items.to_vec(), ..Job::of("n1", "image") };
    run(&[job], settings, Mode::Write, &|| false, &|_| {}).remove(0)
}

/// Directories of root, and of another user of the node with the links that he put there.
struct Places {
    folder: tempfile::TempDir,
    theirs: PathBuf,
    secret: PathBuf,
}

impl Places {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["theirs", "theirs/own", "etc", "open"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        let (theirs, secret) = (root.join("theirs"), root.join("etc/secret"));
        std::fs::write(root.join("source"), "new\n").unwrap();
        std::fs::write(&secret, "root's\n").unwrap();
        symlink(&secret, theirs.join("link")).unwrap();
        symlink(root.join("etc"), theirs.join("folder")).unwrap();
        symlink(root.join("etc"), root.join("etc/itself")).unwrap();
        symlink("secret", root.join("etc/good")).unwrap();
        symlink("nowhere", root.join("etc/broken")).unwrap();
        symlink(theirs.join("link"), root.join("etc/through")).unwrap();
        symlink(&secret, root.join("open/link")).unwrap();
        std::fs::write(theirs.join("file"), "theirs\n").unwrap();
        std::fs::set_permissions(root.join("open"), PermissionsExt::from_mode(0o1777)).unwrap();
        for path in ["theirs", "theirs/own", "theirs/file", "theirs/link", "theirs/folder", "open/link"] {
            lchown(root.join(path), Some(4321), Some(4321)).unwrap();
        }
        Self { folder, theirs, secret }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(path)
    }
}

#[test]
fn links_are_followed_where_root_made_them() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let shells = ["dash", "bash", "busybox sh"];
    let is_there = |shell: &&str| Command::new(shell.split(' ').next().unwrap()).args(["-c", ":"]).output().is_ok();
    for shell in shells.into_iter().filter(is_there) {
        for clause in [Clause::Copy, Clause::Append, Clause::Merge] {
            let secret = |place: &str, name: Option<&str>| {
                let places = Places::new();
                let one = item(clause, &places.at("source"), &places.at(place), name);
                let reached = synced(&local(places.folder.path(), shell), &[one]);
                let now = std::fs::read_to_string(&places.secret).unwrap();
                let names = std::fs::read_dir(places.at("etc")).unwrap().count();
                (now, names, reached.answer.problem, places)
            };
            let context = format!("{shell} {clause:?}");
            let wanted = if clause == Clause::Copy { "new\n" } else { "root's\nnew\n" };
            // Links of root, also over a directory.
            for place in ["etc/good", "etc/itself/secret", "etc/itself/itself/good"] {
                let (now, _, problem, places) = secret(place, None);
                assert_eq!((now.as_str(), problem), (wanted, None), "{context} {place}");
                assert!(places.at("etc/good").is_symlink());
            }
            // Links of others: a file takes the place of the link itself, anything else is refused.
            for place in [
                "theirs/link",
                "theirs/folder/secret",
                "theirs/folder/new",
                "theirs/folder/a/b",
                "open/link",
                "etc/through",
                "theirs/own/../link",
            ] {
                let (now, names, problem, places) = secret(place, None);
                assert_eq!((now.as_str(), names), ("root's\n", 5), "{context} {place}");
                let is_end = !place.contains("folder") && clause == Clause::Copy;
                match problem {
                    None => {
                        assert!(is_end, "{context} {place}");
                        let link = if place.contains("etc") || place.contains("..") {
                            places.theirs.join("link")
                        } else {
                            places.at(place)
                        };
                        assert!(!link.is_symlink(), "{context} {place}");
                        assert_eq!(std::fs::read_to_string(link).unwrap(), "new\n", "{context} {place}");
                    }
                    Some(problem) => {
                        assert!(
                            !is_end && problem.contains("is a link on the node that root did not make"),
                            "{context} {place}: {problem}"
                        );
                    }
                }
            }
            if clause == Clause::Copy {
                let (now, names, problem, places) = secret("theirs/folder", Some("secret"));
                assert_eq!((now.as_str(), names, problem), ("root's\n", 5, None), "{context}");
                assert_eq!(std::fs::read_to_string(places.theirs.join("folder")).unwrap(), "new\n");
                let (.., problem, places) = secret("etc/broken", None);
                assert_eq!((problem, places.at("etc/broken").is_symlink()), (None, false), "{context}");
                let (.., problem, places) = secret("theirs/own/deep/er", None);
                assert_eq!((problem, places.theirs.join("own/deep/er").is_file()), (None, true), "{context}");
            }
            // What is a file in a directory of theirs is written, and nothing is left aside.
            let (.., problem, places) = secret("theirs/file", None);
            let text = std::fs::read_to_string(places.theirs.join("file")).unwrap();
            assert_eq!((problem, text.ends_with("new\n")), (None, true), "{context}");
            assert_eq!(std::fs::read_dir(&places.theirs).unwrap().count(), 4, "{context}");
        }
    }
}

#[test]
fn scripts_after_a_file_run_where_it_was_written_and_not_behind_a_link_of_another() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let shells = ["dash", "bash", "busybox sh"];
    let is_there = |shell: &&str| Command::new(shell.split(' ').next().unwrap()).args(["-c", ":"]).output().is_ok();
    for shell in shells.into_iter().filter(is_there) {
        for (place, is_refused) in [
            ("etc/good", false),
            ("etc/itself/secret", false),
            ("theirs/own/new", false),
            // The file takes the place of the link.
            ("theirs/link", false),
            ("open/link", false),
            ("theirs/folder/secret", true),
            ("theirs/folder/new", true),
            ("theirs/folder/a/b", true),
        ] {
            let context = format!("{shell} {place}");
            let places = Places::new();
            let (source, ran) = (places.at("source"), places.at("ran"));
            // He has put links where the script could be written, too.
            symlink(&places.secret, places.theirs.join("source.post")).unwrap();
            lchown(places.theirs.join("source.post"), Some(4321), Some(4321)).unwrap();
            let bytes = format!("#!/bin/sh\necho $NODE >>{}\n", ran.display()).into_bytes();
            let key = sha256_of(format!("{}", ran.display()).as_bytes());
            let script = Script {
                name: "source.post".to_owned(),
                bytes,
                interpreter: ("/bin/sh".to_owned(), String::new()),
                after: Some(source.clone()),
                key: key.clone(),
                span: Span::new(&SourceFile::new("list", "/list", "line"), 0..4),
            };
            let job = Job {
                items: vec![item(Clause::Copy, &source, &places.at(place), None)],
                scripts: vec![Arc::new(script)],
                ..Job::of("n1", "image")
            };
            let settings = local(places.folder.path(), shell);
            let synced =
                || run(std::slice::from_ref(&job), &settings, Mode::Write, &|| false, &|_| {}).remove(0).answer;
            let answer = synced();
            let text = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
            let is_of_root = place.starts_with("etc");
            assert_eq!(text(&places.secret), if is_of_root { "new\n" } else { "root's\n" }, "{context}");
            let wanted = if is_refused { (None, "", 0) } else { (Some(0), "n1\n", 1) };
            let exit = answer.scripts.first().map(|script| script.exit);
            assert_eq!((exit, text(&ran).as_str(), answer.scripts.len()), wanted, "{context}: {:?}", answer.problem);
            let is_told = |problem: &String| problem.contains("is a link on the node that root did not make");
            assert_eq!(answer.problem.as_ref().is_some_and(is_told), is_refused, "{context}: {:?}", answer.problem);
            // Nothing is left for it to run later, and it runs once.
            assert_eq!((synced().scripts.len(), text(&ran).as_str()), (0, wanted.1), "{context}");
            assert!(!Path::new("/var/lib/imgbuild/sync/pending").join(&key).exists(), "{context}");
        }
    }
}

#[test]
fn directories_are_made_where_no_one_puts_a_link_meanwhile() {
    use std::os::unix::fs::MetadataExt;
    use std::sync::atomic::{AtomicBool, Ordering};
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for shell in ["dash", "bash", "busybox sh"] {
        if Command::new(shell.split(' ').next().unwrap()).args(["-c", ":"]).output().is_err() {
            continue;
        }
        for round in 0..8 {
            let places = Places::new();
            let (etc, own) = (places.at("etc"), places.theirs.join("own"));
            let is_over = AtomicBool::new(false);
            // Another user of the node: what comes into his directory is moved away, and a link takes its place.
            let (made, gone) = (own.join("deep"), own.join("gone"));
            let swap = || {
                while !is_over.load(Ordering::Relaxed) {
                    if made.symlink_metadata().is_ok_and(|found| found.is_dir())
                        && std::fs::rename(&made, &gone).is_ok()
                    {
                        let _ = symlink(&etc, &made);
                    }
                }
            };
            let one = item(Clause::Copy, &places.at("source"), Path::new("/x"), None);
            let destination = own.join(if round % 3 == 2 { "deep/er" } else { "deep" });
            let directory = Item {
                kind: SyncedKind::Directory,
                destination,
                content: None,
                mode: 0o777,
                uid: 4321,
                gid: 4321,
                ..Arc::try_unwrap(one).unwrap()
            };
            std::thread::scope(|scope| {
                scope.spawn(swap);
                synced(&local(places.folder.path(), shell), &[Arc::new(directory)]);
                is_over.store(true, Ordering::Relaxed);
            });
            let found = std::fs::metadata(&etc).unwrap();
            assert_eq!((found.uid(), found.mode() & 0o777), (0, 0o755), "{shell}, round {round}");
            assert_eq!(std::fs::read_dir(&etc).unwrap().count(), 5, "{shell}, round {round}");
        }
    }
}

#[test]
fn files_come_where_they_belong_while_another_user_swaps_their_directory() {
    use std::sync::atomic::{AtomicBool, Ordering};
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for (round, clause) in [Clause::Copy, Clause::Append, Clause::Merge].into_iter().cycle().take(24).enumerate() {
        let places = Places::new();
        let (etc, own, aside) = (places.at("etc"), places.theirs.join("own"), places.theirs.join("aside"));
        std::fs::write(own.join("secret"), "theirs\n").unwrap();
        let is_over = AtomicBool::new(false);
        let swap = || {
            while !is_over.load(Ordering::Relaxed) {
                let _ = std::fs::rename(&own, &aside).and_then(|()| symlink(&etc, &own));
                std::thread::sleep(Duration::from_micros(300));
                let _ = std::fs::remove_file(&own).and_then(|()| std::fs::rename(&aside, &own));
                std::thread::sleep(Duration::from_micros(700));
            }
        };
        let one = item(clause, &places.at("source"), &own.join("secret"), None);
        std::thread::scope(|scope| {
            scope.spawn(swap);
            synced(&local(places.folder.path(), "sh"), &[one]);
            is_over.store(true, Ordering::Relaxed);
        });
        assert_eq!(std::fs::read_to_string(&places.secret).unwrap(), "root's\n", "{clause:?}, round {round}");
    }
}

#[test]
fn what_nodes_say_is_kept_within_a_limit_for_all() {
    let folder = tempfile::tempdir().unwrap();
    let place = |index: usize| data_encoding::BASE64.encode(format!("/{index}{}", "x".repeat(45_000)).as_bytes());
    let answers: String = (0..30).map(|index| format!("l {index} {}\n", place(index))).collect();
    std::fs::write(folder.path().join("answers"), format!("{answers}F 0\n.\n.\nok\n")).unwrap();
    std::fs::write(folder.path().join("source"), "new\n").unwrap();
    let script = format!(
        "read -r line\necho \"imgbuild-sync 1 ${{line#nonce=}} 0 /var/lib/imgbuild/sync 77\"\necho ready\ncat {}/answers\nexec cat >/dev/null\n",
        folder.path().display()
    );
    let items: Vec<Arc<Item>> = (0..30)
        .map(|index| item(Clause::Copy, &folder.path().join("source"), Path::new(&format!("/etc/{index}")), None))
        .collect();
    let jobs: Vec<Job> =
        (0..80).map(|index| Job { items: items.clone(), ..Job::of(&format!("n{index}"), "image") }).collect();
    let reached = run(&jobs, &settings(folder.path(), &script), Mode::Look, &|| false, &|_| {});
    let kept: usize = reached.iter().flat_map(|one| &one.answer.changes).map(|change| change.path.len()).sum();
    assert!((40 << 20..65 << 20).contains(&kept), "{kept}");
    let problems = reached.iter().filter_map(|one| one.answer.problem.as_deref()).collect::<Vec<_>>();
    assert!(
        problems.len() > 20 && problems.iter().all(|problem| problem.contains("the limit for all nodes")),
        "{problems:?}"
    );
}

/// Public halves of two keys, as files have them.
const KEYS: [&str; 2] = [
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEoNXlh/Gz8i0sz/YqU4GFLKauvK6uUwfX2IaF60/DNV",
    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBCaiLSLLvK7u/MRJ7yGAYF1i/8u5qYlNffhEfx3DFiqW4Z/SjsgzWWXuBQ+6H8tSCrcvumQru7HyEqO2wjJl12o=",
];

#[test]
fn reported_host_keys_are_in_a_file_that_is_gone_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let shown = folder.path().display();
    std::fs::write(at("source"), "new\n").unwrap();
    // It takes no connection, and leaves what it was given.
    let script = format!(
        "#!/bin/sh\nfor word; do\n case $word in\n -G) printf 'hostname n1\\nglobalknownhostsfile /etc/a /etc/b\\n'; exit 0 ;;\n \
         GlobalKnownHostsFile=*) echo \"$word\" >>{shown}/words; word=${{word#*\\\"}}; word=${{word%%\\\"*}}\n \
         stat -c %a \"$word\" >{shown}/mode; cat \"$word\" >{shown}/copy ;;\n esac\ndone\nexit 1\n"
    );
    std::fs::write(at("ssh"), script).unwrap();
    std::fs::set_permissions(at("ssh"), PermissionsExt::from_mode(0o700)).unwrap();
    let second = Duration::from_secs(1);
    let ssh = vec![at("ssh").display().to_string()];
    let settings = Settings { ssh, fanout: 1, timeout: 60 * second, connect: second };
    let items = vec![item(Clause::Copy, &at("source"), Path::new("/etc/x"), None)];
    let job = |node: &str, keys: &[&str]| {
        let host_keys = keys.iter().map(|key| HostKey::of(key).unwrap()).collect();
        Job { items: items.clone(), host_keys, ..Job::of(node, "image") }
    };
    let jobs = [job("n1", &KEYS), job("n2", &[]), job("n3", &KEYS[..1])];
    run(&jobs, &settings, Mode::Look, &|| false, &|_| {});
    let read = |name: &str| std::fs::read_to_string(at(name)).unwrap();
    assert_eq!(read("copy"), format!("n1 {}\nn1 {}\nn3 {}\n", KEYS[0], KEYS[1], KEYS[0]));
    assert_eq!(read("mode"), "600\n");
    let words = read("words");
    assert_eq!(words.lines().count(), 3, "{words}");
    for word in words.lines() {
        let (file, others) = word.strip_prefix("GlobalKnownHostsFile=\"").unwrap().split_once('"').unwrap();
        assert!(others == " /etc/a /etc/b" && !Path::new(file).exists(), "{word}");
    }
    // Without keys ssh gets what it got before.
    run(&[job("n1", &[])], &settings, Mode::Look, &|| false, &|_| {});
    assert_eq!(read("words"), words);
}

/// A server on the loopback.
struct Sshd(std::process::Child);

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_node_with_other_host_keys_is_believed_by_its_report() {
    if !rustix::process::geteuid().is_root() || !Path::new("/usr/sbin/sshd").is_file() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    for key in ["now", "before", "admin"] {
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &at(key)]).status();
        assert!(made.unwrap().success());
    }
    std::fs::write(at("source"), "new\n").unwrap();
    std::fs::create_dir_all("/run/sshd").unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n",
        at("now"),
        at("admin.pub")
    );
    std::fs::write(at("config"), config).unwrap();
    let mut server = Command::new("/usr/sbin/sshd");
    server.args(["-D", "-e", "-f", &at("config")]).stdin(std::process::Stdio::null());
    server.stderr(std::fs::File::create(at("log")).unwrap());
    let _server = Sshd(server.spawn().unwrap());
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(std::time::Instant::now() < until, "{:?}", std::fs::read_to_string(at("log")));
        std::thread::sleep(Duration::from_millis(20));
    }
    // What keeps the node out, by what the administrator knows it by and by what it reported.
    let problem = |known: Option<&str>, reported: Option<&str>| {
        let public = |key: &str| std::fs::read_to_string(at(&format!("{key}.pub"))).unwrap();
        std::fs::write(at("user"), known.map(|key| format!("n1 {}", public(key))).unwrap_or_default()).unwrap();
        let (port, file) = (port.to_string(), format!("UserKnownHostsFile={}", at("user")));
        let ssh = ["ssh", "-F", "none", "-p", &port, "-i", &at("admin"), "-o", &file].map(str::to_owned).to_vec();
        let second = Duration::from_secs(1);
        let settings = Settings { ssh, fanout: 1, timeout: 60 * second, connect: 20 * second };
        let job = Job {
            items: vec![item(Clause::Copy, Path::new(&at("source")), Path::new(&at("new")), None)],
            address: "127.0.0.1".parse().ok(),
            host_keys: reported.into_iter().filter_map(|key| HostKey::of(public(key).trim())).collect(),
            ..Job::of("n1", "image")
        };
        run(&[job], &settings, Mode::Look, &|| false, &|_| {}).remove(0).answer.problem
    };
    assert_eq!(problem(Some("now"), None), None);
    assert_eq!(problem(None, Some("now")), None);
    assert_eq!(problem(Some("before"), Some("now")), None, "it was started again, and has reported since");
    let said = problem(Some("before"), None).unwrap();
    let remedy = format!("{} has another ED25519 key of it", at("user"));
    assert!(said.contains(&remedy) && said.contains(" -R n1`"), "{said}");
    let said = problem(None, Some("before")).unwrap();
    assert!(said.contains("another ED25519 key than it reported"), "{said}");
    let said = problem(None, None).unwrap();
    assert!(said.contains("it has not reported the host key"), "{said}");
}
