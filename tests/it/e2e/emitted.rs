//! The graph as other programs' files: real ninja, make and Slurm run them, and what GitLab and GitHub would run is run job by job.
//! The images are those of a plain build.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::offline::{SAME, fresh, vendored, warm};
use super::tiny;
use crate::support::{Ran, Space, copy_locked, needed, project};

/// The image `tiny`, and one more that has a file besides; both locked.
fn workspace() -> Space {
    let (space, one) = (Space::new(), fresh());
    for name in ["tiny", "beta"] {
        let image = space.path().join("images").join(name);
        copy_locked(one.path(), &image);
    }
    space.edit("images/beta/image.toml", "name = \"tiny\"", "name = \"beta\"");
    let text = std::fs::read_to_string(space.path().join("images/beta/image.toml")).unwrap();
    space.write("images/beta/image.toml", &(text + "\n[sync]\nlists = [\"b.synclist\"]\n"));
    space.write("images/beta/b.synclist", "motd -> /etc/motd\n").write("images/beta/motd", "beta\n");
    space.write("imgbuild.toml", "images = [\"images/*\"]\nout = \"out\"\n");
    space
}

fn warm_store(space: &Space, name: &str) -> PathBuf {
    let to = space.path().join(name);
    let copied = Command::new("cp").arg("-a").arg(warm().store()).arg(&to).status().unwrap();
    assert!(copied.success());
    to
}

/// A command in a space as a user starts it: the program in the path, its store and packages in the environment.
fn command(space: &Space, store: &Path, program: &str) -> Command {
    let directory = Path::new(env!("CARGO_BIN_EXE_imgbuild")).parent().unwrap();
    let mut command = Command::new(program);
    let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap());
    command.current_dir(space.path()).env("PATH", path).env("NO_COLOR", "1");
    command.env("IMGBUILD_STORE", store).env("IMGBUILD_VENDOR", vendored()).env_remove("MAKEFLAGS");
    command
}

fn run(space: &Space, store: &Path, words: &[&str]) -> Ran {
    command(space, store, words[0]).args(&words[1..]).output().unwrap().into()
}

fn emitted(space: &Space, engine: &str, more: &[&str]) -> String {
    let words = [&["imgbuild", "plan", "--emit", engine], more].concat();
    let first = run(space, &space.store(), &words).good().out;
    // It says the same each time.
    assert_eq!(run(space, &space.store(), &words).good().out, first);
    first
}

/// The files of both images, as a build without any of this makes them.
fn plain(space: &Space) -> BTreeMap<String, Vec<u8>> {
    let store = warm_store(space, "plain-store");
    run(space, &store, &["imgbuild", "build", "--locked", "--out", "plain"]).good();
    let all = published(space, "plain");
    for name in SAME {
        let known = std::fs::read(tiny().space.artefact("tiny", name)).unwrap();
        assert!(all[&format!("tiny/{name}")] == known, "{name}");
    }
    all
}

fn published(space: &Space, out: &str) -> BTreeMap<String, Vec<u8>> {
    let names = ["tiny", "beta"].into_iter().flat_map(|image| SAME.map(|name| format!("{image}/{name}")));
    names.map(|name| (name.clone(), std::fs::read(space.path().join(out).join(&name)).expect(&name))).collect()
}

#[track_caller]
fn assert_plain(space: &Space, out: &str, plain: &BTreeMap<String, Vec<u8>>) {
    for (name, bytes) in published(space, out) {
        assert!(bytes == plain[&name], "{name} in {out}");
    }
}

/// How many steps said that they did something.
fn ran(text: &str) -> usize {
    text.lines()
        .filter(|line| line.contains("ran ") && !line.contains("ran nothing") && line.contains("; kept"))
        .count()
}

#[test]
fn ninja_and_make_build_what_a_plain_build_does_and_then_nothing() {
    let space = workspace();
    let plain = plain(&space);
    run(&space, &space.store(), &["imgbuild", "plan", "--emit", "ninja", "-o", "build.ninja"]).good();
    let text = std::fs::read_to_string(space.path().join("build.ninja")).unwrap();
    assert_eq!(text, emitted(&space, "ninja", &[]));
    // What images share is one step, and no path of this machine is in it.
    assert_eq!(text.matches("/rootfs/base").count(), 2, "{text}");
    assert!(!text.contains(space.path().to_str().unwrap()), "{text}");
    let store = space.path().join("ninja-store");
    let first = run(&space, &store, &["ninja"]).good();
    assert!(ran(&first.out) > 6, "{}", first.out);
    assert_plain(&space, "out", &plain);
    let again = run(&space, &store, &["ninja", "-v"]).good();
    assert!(ran(&again.out) == 0 && again.out.contains("ran nothing"), "{}", again.out);
    // An edit runs what comes after it, and only where that changed.
    space.write("images/beta/motd", "other\n");
    let edited = run(&space, &store, &["ninja", "beta"]).good();
    assert!(edited.out.contains("ran rootfs/sync") && edited.out.contains("ran pack/rootimg"), "{}", edited.out);
    assert!(!edited.out.contains("ran rootfs/base") && !edited.out.contains("tiny/publish"), "{}", edited.out);
    space.write("images/beta/motd", "beta\n");
    run(&space, &store, &["imgbuild", "plan", "--detailed-exitcode", "tiny"]).good();

    // make, with a cache whose name no program reads as it stands: it is filled, and a new store takes all from there.
    let cache = "of all: $HOME ${x} $$ it's #1 \"a\"";
    std::fs::create_dir(space.path().join(cache)).unwrap();
    let makefile = emitted(&space, "make", &["--cache", cache, "--out", "made"]);
    space.write("Makefile", &makefile);
    let made = run(&space, &store, &["make", "-j", "2"]).good();
    assert!(made.err.contains("were written to the cache"), "{}", made.err);
    assert_plain(&space, "made", &plain);
    let empty = space.path().join("empty-store");
    space.write("build.ninja", &emitted(&space, "ninja", &["--cache", cache, "--out", "cached"]));
    let cached = command(&space, &empty, "ninja").env_remove("IMGBUILD_VENDOR").output().unwrap();
    let cached = Ran::from(cached).good();
    assert!(cached.out.contains("rootfs/base is in the cache") && ran(&cached.out) == 0, "{}", cached.out);
    assert_plain(&space, "cached", &plain);
    // What publishing does not read is not copied.
    let stats: serde_json::Value =
        serde_json::from_str(&run(&space, &empty, &["imgbuild", "cache", "stats", cache, "--json"]).good().out)
            .unwrap();
    let layers = walkdir::WalkDir::new(empty.join("v1/manifests")).into_iter().flatten();
    let layers = layers.filter(|entry| entry.file_type().is_file()).count() as u64;
    assert!(layers + 5 < stats["actions"].as_u64().unwrap(), "{layers} {stats}");

    // Damaged files of the cache are named with what mends them, and then it goes on.
    let objects = walkdir::WalkDir::new(space.path().join(cache).join("v1/objects")).into_iter().flatten();
    let large = objects.filter(|entry| entry.file_type().is_file() && entry.metadata().unwrap().len() > 1 << 20);
    for path in large.map(walkdir::DirEntry::into_path) {
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x20;
        std::fs::write(&path, &bytes).unwrap();
    }
    space.write("images/beta/motd", "another\n");
    let new = space.path().join("new-store");
    let sync = ["imgbuild", "build", "--only", "beta/rootfs/sync", "--cache", cache];
    let ran = run(&space, &new, &sync);
    assert!(ran.code == 4 && ran.err.contains("only::damaged") && ran.err.contains("--repair"), "{}", ran.err);
    run(&space, &new, &["imgbuild", "cache", "verify", cache, "--repair"]).good();
    run(&space, &store, &["imgbuild", "build", "--locked", "tiny", "--cache", cache]).good();
    let ran = run(&space, &new, &sync).good();
    assert!(ran.err.contains("ran rootfs/sync"), "{}", ran.err);
}

#[test]
fn a_step_that_fails_stops_what_needs_it_and_nothing_else() {
    let space = workspace();
    space.write("images/beta/tiny.postinstall", "#!/bin/sh\necho no licence\nexit 7\n");
    let store = warm_store(&space, "store");
    space.write("Makefile", &emitted(&space, "make", &[])).write("build.ninja", &emitted(&space, "ninja", &[]));
    for words in [["make", "-k"], ["ninja", "-k0"]] {
        let _ = std::fs::remove_dir_all(space.path().join("out"));
        let ran = run(&space, &store, &words);
        let said = ran.out.clone() + &ran.err;
        assert!(ran.code != 0 && said.contains("no licence"), "{words:?} {said}");
        assert!(space.path().join("out/tiny/build.json").exists(), "{words:?} {said}");
        assert!(!space.path().join("out/beta").exists() && !said.contains("only::missing"), "{words:?} {said}");
    }
    let ran = run(&space, &store, &["imgbuild", "build", "--only", "beta/rootfs/postinstall"]);
    assert!(ran.code == 4 && ran.err.contains("no licence"), "{} {}", ran.code, ran.err);
}

#[test]
fn an_action_alone_says_what_it_lacks_and_which_command_makes_that() {
    let space = workspace();
    let store = warm_store(&space, "store");
    let plain = plain(&space);
    // Following what it says ends with the image, and each command made what it said.
    let mut words = vec!["imgbuild".to_owned(), "build".to_owned(), "--only".to_owned(), "beta/publish".to_owned()];
    let wanted = words.clone();
    let mut made = Vec::new();
    for _ in 0..12 {
        let ran = run(&space, &store, &words.iter().map(String::as_str).collect::<Vec<_>>());
        if ran.code == 0 && words == wanted {
            break;
        }
        if ran.code == 0 {
            made.push(words.last().unwrap().clone());
            words.clone_from(&wanted);
            continue;
        }
        assert!(ran.code == 4 && ran.err.contains("only::missing") && ran.err.contains("none is named"), "{}", ran.err);
        let text = ran.err.replace(['\n', '│'], " ");
        let help = text.split("first: ").nth(1).unwrap().split_whitespace();
        words = help.take_while(|word| word.starts_with(['i', 'b', '-'])).map(str::to_owned).collect();
    }
    assert!(made.len() >= 2 && made.iter().any(|one| one == "beta/pack/rootimg"), "{made:?}");
    run(&space, &store, &["imgbuild", "build", "--only", "publish", "tiny"]).good();
    assert_plain(&space, "out", &plain);

    for (words, code, said) in [
        (vec!["--only", "beta/rootfs/synk"], 1, "did you mean rootfs/sync"),
        (vec!["--only", "gamma/rootfs/sync"], 1, "gamma"),
        (vec!["--only", "beta/rootfs/sync", "tiny"], 64, "not for"),
        (vec!["--only", "sync"], 64, "IMAGE/rootfs/base"),
        (vec!["--only", "beta/rootfs/sync", "--until", "rootfs"], 64, "cannot be used"),
    ] {
        let ran = run(&space, &store, &[&["imgbuild", "build"], words.as_slice()].concat());
        assert!(ran.code == code && ran.err.contains(said), "{words:?} {} {}", ran.code, ran.err);
    }
    // The lock is not renewed by a step.
    space.edit("images/beta/image.toml", "base = \"essential\"", "base = \"essential\"\ninstall = [\"less\"]");
    let ran = run(&space, &store, &["imgbuild", "build", "--only", "beta/rootfs/sync"]);
    assert!(ran.code == 1 && ran.err.contains("lock::stale"), "{} {}", ran.code, ran.err);
    let ran = run(&space, &store, &["imgbuild", "plan", "--emit", "ninja"]);
    assert!(ran.code == 1 && ran.err.contains("plan::not_locked"), "{} {}", ran.code, ran.err);
}

/// Commands of a job, in order, with its name; taken from the file as it stands: scalars are JSON's strings there.
fn jobs(text: &str) -> Vec<(String, Vec<String>, Vec<String>)> {
    let json = |text: &str| serde_json::from_str::<String>(text).unwrap();
    let mut jobs: Vec<(String, Vec<String>, Vec<String>)> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_suffix(':').filter(|name| name.starts_with('"')) {
            jobs.push((json(name), Vec::new(), Vec::new()));
        } else if let Some(name) = line.strip_prefix("    name: ") {
            jobs.push((json(name), Vec::new(), Vec::new()));
        } else if let Some(list) = line.trim_start().strip_prefix("needs: ") {
            let needs = list.trim_matches(['[', ']']).split(", ").filter(|one| !one.is_empty());
            jobs.last_mut()
                .unwrap()
                .1
                .extend(needs.map(|one| if one.starts_with('"') { json(one) } else { one.to_owned() }));
        } else if let Some(command) = line.strip_prefix("    - \"").or_else(|| line.strip_prefix("      - run: \"")) {
            jobs.last_mut().unwrap().2.push(json(&format!("\"{command}")));
        }
    }
    jobs
}

#[test]
fn jobs_on_machines_that_share_a_cache_alone_build_what_a_plain_build_does() {
    let space = workspace();
    let plain = plain(&space);
    let ran = run(&space, &space.store(), &["imgbuild", "plan", "--emit", "gitlab"]);
    assert!(ran.code == 1 && ran.err.contains("emit::no_cache"), "{} {}", ran.code, ran.err);
    let secret = ["imgbuild", "plan", "--emit", "github", "--cache", "https://me:hidden@cache.example.org/x"];
    let ran = run(&space, &space.store(), &secret);
    assert!(ran.code == 1 && ran.err.contains("emit::password") && !ran.err.contains("hidden"), "{}", ran.err);
    std::fs::create_dir(space.path().join("the cache")).unwrap();
    // What compares and what is gentle with the network is so in each step, too.
    let more = ["--cache", "the cache", "--cache-trust", "outputs-only", "--cache-sample", "7%", "--cache-rate", "20M"];
    let text = emitted(&space, "gitlab", &more);
    assert!(text.contains("--cache-sample") && text.contains("7%") && text.contains("--cache-rate"), "{text}");
    let text = emitted(&space, "gitlab", &["--cache", "the cache"]);
    let mut seen = Vec::new();
    let all = jobs(&text);
    assert!(all.len() > 8, "{text}");
    // Each as early as its file allows: of those that may run, the last one.
    let mut waiting: Vec<_> = all.iter().collect();
    while !waiting.is_empty() {
        let may_run = |job: &&(String, Vec<String>, Vec<String>)| job.1.iter().all(|need| seen.contains(need));
        let (name, _, commands) = waiting.remove(waiting.iter().rposition(may_run).expect("a job that may run"));
        seen.push(name.clone());
        // Each job has a machine of its own.
        let store = space.path().join("machine");
        let _ = std::fs::remove_dir_all(&store);
        for one in commands {
            run(&space, &store, &["bash", "-e", "-c", one]).good();
        }
    }
    assert_plain(&space, "published", &plain);
    // The pipeline of the examples makes this file anew each time.
    let example = std::fs::read_to_string(project().join("examples/ci/spread.gitlab-ci.yml")).unwrap();
    let scripts: Vec<&str> = example.lines().filter_map(|line| line.strip_prefix("    - imgbuild ")).collect();
    assert_eq!(scripts.len(), 2, "{example}");
    for script in scripts {
        let script = format!("CACHE='the cache'; imgbuild {script}");
        run(&space, &space.store(), &["bash", "-e", "-c", &script]).good();
    }
    assert_eq!(std::fs::read_to_string(space.path().join("images.gitlab-ci.yml")).unwrap(), text);
    run(&space, &space.store(), &["tar", "-tf", "tiny.tar", "tiny/kernel"]).good();
    // GitHub's has the same jobs, in the same order.
    let github = emitted(&space, "github", &["--cache", "the cache"]);
    let commands = |all: &[(String, Vec<String>, Vec<String>)]| -> Vec<(String, Vec<String>)> {
        all.iter().map(|(name, _, commands)| (name.clone(), commands.clone())).collect()
    };
    assert_eq!(commands(&jobs(&github)), commands(&all));
    // An expression is written as text that stays itself, and names of images that are one id of a job are two.
    let odd = emitted(&space, "github", &["--cache", "the ${{ secrets.x }}"]);
    assert!(odd.contains("the ${{ '${{' }} secrets.x }}"), "{odd}");
    space.edit("images/beta/image.toml", "name = \"beta\"", "name = \"a.b\"");
    space.edit("images/tiny/image.toml", "name = \"tiny\"", "name = \"a_b\"");
    let two = emitted(&space, "github", &["--cache", "the cache"]);
    assert!(two.contains("\n  a_b_publish:\n") && two.contains("\n  a_b_publish___2:\n"), "{two}");
    for (name, engine, schema) in
        [("w.yml", "github", "vendor.github-workflows"), ("g.yml", "gitlab", "vendor.gitlab-ci")]
    {
        space.write(name, &emitted(&space, engine, &["--cache", "the cache"]));
        let checker = project().join("target/check-tools/bin/check-jsonschema");
        let Some(checker) = needed(checker, "tests/run installs it") else { continue };
        let checker = checker.to_str().unwrap().to_owned();
        run(&space, &space.store(), &[&checker, "--builtin-schema", schema, name]).good();
        // It would find a mistake.
        let text = std::fs::read_to_string(space.path().join(name)).unwrap();
        space.write(name, &text.replace("script:", "skript:").replace("runs-on:", "runs-in:"));
        assert_ne!(run(&space, &space.store(), &[&checker, "--builtin-schema", schema, name]).code, 0, "{engine}");
    }
}

struct Slurm {
    daemons: Vec<Child>,
    conf: PathBuf,
}

impl Slurm {
    fn start(directory: &Path) -> Self {
        use std::os::unix::fs::PermissionsExt;
        for name in ["state", "spool", "run"] {
            std::fs::create_dir_all(directory.join(name)).unwrap();
        }
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
        let key = directory.join("munge.key");
        std::fs::write(&key, [7; 1024]).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let port = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (host, at) = (rustix::system::uname().nodename().to_string_lossy().into_owned(), directory.display());
        let host = host.split('.').next().unwrap_or_default();
        let conf = directory.join("slurm.conf");
        let text = format!(
            "ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmUser=root\nAuthType=auth/munge\nAuthInfo=socket={at}/run/munge\n\
             SlurmctldPort={}\nSlurmdPort={}\nStateSaveLocation={at}/state\nSlurmdSpoolDir={at}/spool\n\
             SlurmctldPidFile={at}/run/ctld.pid\nSlurmdPidFile={at}/run/d.pid\nSlurmctldLogFile={at}/ctld.log\nSlurmdLogFile={at}/d.log\n\
             ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nSwitchType=switch/none\nMpiDefault=none\nReturnToService=2\n\
             SelectType=select/cons_tres\nSelectTypeParameters=CR_CPU\nSchedulerParameters=sched_interval=1,batch_sched_delay=0\n\
             JobAcctGatherType=jobacct_gather/none\nAccountingStorageType=accounting_storage/none\n\
             NodeName={host} NodeAddr=127.0.0.1 CPUs=1 State=UNKNOWN\nPartitionName=p Nodes={host} Default=YES State=UP\n",
            port(),
            port()
        );
        std::fs::write(&conf, text).unwrap();
        let socket = format!("--socket={at}/run/munge");
        let (log, pid, seed) = (
            format!("--log-file={at}/munge.log"),
            format!("--pid-file={at}/run/munge.pid"),
            format!("--seed-file={at}/seed"),
        );
        let munge = ["--foreground", "--force", &format!("--key-file={}", key.display()), &socket, &log, &pid, &seed];
        let daemon = |program: &str, words: &[&str]| {
            let output = std::fs::File::create(directory.join(format!("{program}.out"))).unwrap();
            let mut command = Command::new(program);
            command.args(words).env("SLURM_CONF", &conf).stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
            command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"))
        };
        let mut slurm = Self { daemons: vec![daemon("munged", &munge)], conf: conf.clone() };
        wait("munge", || directory.join("run/munge").exists());
        slurm.daemons.push(daemon("slurmctld", &["-D", "-f", conf.to_str().unwrap()]));
        slurm.daemons.push(daemon("slurmd", &["-D", "-f", conf.to_str().unwrap()]));
        wait("a node of Slurm", || {
            Command::new("sinfo").args(["-h", "-o", "%t"]).env("SLURM_CONF", &conf).output().unwrap().stdout
                == b"idle\n"
        });
        slurm
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        for daemon in self.daemons.iter_mut().rev() {
            let _ = Command::new("kill").arg(daemon.id().to_string()).status();
            let _ = daemon.wait();
        }
    }
}

fn wait(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..1200 {
        if is_so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("{what} is not there");
}

#[test]
fn privileged_slurm_runs_the_chain_and_what_needs_a_failed_job_is_cancelled() {
    let space = workspace();
    let plain = plain(&space);
    let directory = tempfile::tempdir().unwrap();
    let slurm = Slurm::start(directory.path());
    std::fs::create_dir(space.path().join("it's a cache")).unwrap();
    space.write("chain.sh", &emitted(&space, "slurm", &["--cache", "it's a cache", "--out", "out of slurm"]));
    let store = warm_store(&space, "store");
    let submitted = |more: &[&str]| {
        let mut sh = command(&space, &store, "sh");
        Ran::from(sh.arg("chain.sh").args(more).env("SLURM_CONF", &slurm.conf).output().unwrap())
    };
    let states = || -> BTreeMap<String, String> {
        let all =
            command(&space, &store, "scontrol").args(["-o", "show", "jobs"]).env("SLURM_CONF", &slurm.conf).output();
        let text = String::from_utf8_lossy(&all.unwrap().stdout).into_owned();
        let field = |line: &str, name: &str| {
            line.split_whitespace().find_map(|word| word.strip_prefix(name)).unwrap_or_default().to_owned()
        };
        text.lines()
            .map(|line| (field(line, "JobName="), field(line, "JobState=")))
            .filter(|one| !one.0.is_empty())
            .collect()
    };
    let is_over = || states().values().all(|state| !["PENDING", "RUNNING", "COMPLETING"].contains(&state.as_str()));
    let ran = submitted(&[]).good();
    assert!(ran.out.lines().count() > 8 && ran.out.contains("beta/publish"), "{}", ran.out);
    wait("the end of all jobs", is_over);
    let ended = states();
    assert!(ended.values().all(|state| state == "COMPLETED"), "{ended:?}");
    assert_plain(&space, "out of slurm", &plain);

    // A job that fails takes those with it that need it, and no others.
    std::fs::remove_dir_all(space.path().join("out of slurm")).unwrap();
    space.write("images/beta/tiny.postinstall", "#!/bin/sh\nexit 7\n");
    submitted(&[]).good();
    wait("the end of all jobs", is_over);
    let ended = states();
    assert_eq!(ended["beta/rootfs/postinstall"], "FAILED", "{ended:?}");
    assert_eq!(
        (ended["beta/publish"].as_str(), ended["tiny/publish"].as_str()),
        ("CANCELLED", "COMPLETED"),
        "{ended:?}"
    );
    assert!(space.path().join("out of slurm/tiny/kernel").exists() && !space.path().join("out of slurm/beta").exists());
    // Where the third job cannot be submitted, the two before it are taken back.
    space.write(
        "stubs/sbatch",
        "#!/bin/sh\necho x >>count\nn=$(wc -l <count)\n[ $n -lt 3 ] || exit 9\necho \"$n;cluster\"\n",
    );
    space.write("stubs/scancel", "#!/bin/sh\necho \"$*\" >cancelled\n");
    for name in ["sbatch", "scancel"] {
        let path = space.path().join("stubs").join(name);
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", space.path().join("stubs").display(), std::env::var("PATH").unwrap());
    let ran = Ran::from(command(&space, &store, "sh").arg("chain.sh").env("PATH", path).output().unwrap());
    assert_eq!((ran.code, ran.out.lines().count()), (9, 2), "{}", ran.err);
    assert_eq!(std::fs::read_to_string(space.path().join("cancelled")).unwrap(), "1 2\n");
}
