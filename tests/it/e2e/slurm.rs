//! `build --executor slurm` with real daemons of Slurm: three nodes as namespaces of this machine, one more that has no user
//! namespaces. A node dies, a job is preempted, someone presses Ctrl-C, and the images are those of a build here.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::offline::{SAME, fresh, vendored, warm};
use crate::support::{Ran, Space, copy_locked};

/// Nodes of the partition that is used if no other is named.
const NODES: [&str; 3] = ["cn1", "cn2", "cn3"];
/// A node that allows no user namespaces.
const BARE: &str = "bare1";

/// A node's own host name, processes, and disk; the first argument is its name, the second the cluster's directory.
const NODE: &str = r#"set -e
mount --make-rprivate /
hostname "$1"
mount --bind "$2/$1/disk" "$2/disk"
mount -t tmpfs hidden "$2/hidden"
[ "$1" != bare1 ] || echo 0 >/proc/sys/user/max_user_namespaces
slurmd -D -f "$2/slurm.conf" >"$2/$1/out" 2>&1 &
wait
"#;

struct Cluster {
    directory: tempfile::TempDir,
    munge: Child,
    controller: Child,
    nodes: Vec<(&'static str, Child)>,
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Cluster {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        let all = || NODES.into_iter().chain([BARE]);
        for name in ["state", "run", "disk", "hidden"] {
            std::fs::create_dir_all(path.join(name)).unwrap();
        }
        for name in all() {
            std::fs::create_dir_all(path.join(name).join("spool")).unwrap();
            std::fs::create_dir_all(path.join(name).join("disk")).unwrap();
        }
        let key = path.join("munge.key");
        std::fs::write(&key, [7; 1024]).unwrap();
        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
        let (host, at) = (rustix::system::uname().nodename().to_string_lossy().into_owned(), path.display());
        let host = host.split('.').next().unwrap_or_default().to_owned();
        let mut text = format!(
            "ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmUser=root\nAuthType=auth/munge\n\
             AuthInfo=socket={at}/run/munge,cred_expire=5\nSlurmctldPort={}\nStateSaveLocation={at}/state\n\
             SlurmdSpoolDir={at}/%n/spool\nSlurmctldPidFile={at}/run/ctld.pid\nSlurmdPidFile={at}/%n/pid\n\
             SlurmctldLogFile={at}/ctld.log\nSlurmdLogFile={at}/%n/log\n\
             ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nSwitchType=switch/none\nMpiDefault=none\nReturnToService=2\n\
             SelectType=select/cons_tres\nSelectTypeParameters=CR_CPU\nSlurmdParameters=config_overrides\n\
             SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1\nSlurmdTimeout=20\nKillWait=5\n\
             PreemptType=preempt/partition_prio\nPreemptMode=REQUEUE\n\
             JobAcctGatherType=jobacct_gather/none\nAccountingStorageType=accounting_storage/none\n",
            free_port()
        );
        for name in all() {
            let port = free_port();
            text += &format!("NodeName={name} NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory=4000 State=UNKNOWN\n");
        }
        text += "PartitionName=p Nodes=cn[1-3] Default=YES State=UP PriorityTier=1\n\
                 PartitionName=urgent Nodes=cn[1-3] State=UP PriorityTier=9 PreemptMode=off\n\
                 PartitionName=bare Nodes=bare1 State=UP\n";
        std::fs::write(path.join("slurm.conf"), text).unwrap();
        let munge = [
            "--foreground".to_owned(),
            "--force".to_owned(),
            format!("--key-file={}", key.display()),
            format!("--socket={at}/run/munge"),
            format!("--log-file={at}/munge.log"),
            format!("--pid-file={at}/run/munge.pid"),
            format!("--seed-file={at}/seed"),
        ];
        let munge = Command::new("munged")
            .args(munge)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("munged");
        wait("munge", || path.join("run/munge").exists());
        let controller = Self::controller(path);
        let mut cluster = Self { munge, controller, nodes: Vec::new(), directory };
        for name in all() {
            cluster.start_node(name);
        }
        // cn1 to cn3 are in two partitions.
        wait("idle nodes", || cluster.ask(&["sinfo", "-h", "-N", "-o", "%N %t"]).matches(" idle").count() == 7);
        cluster
    }

    fn controller(path: &Path) -> Child {
        let output = std::fs::File::create(path.join("ctld.out")).unwrap();
        let mut command = Command::new("slurmctld");
        command.args(["-D", "-f"]).arg(path.join("slurm.conf"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output).spawn().expect("slurmctld")
    }

    fn start_node(&mut self, name: &'static str) {
        let own = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", NODE];
        let words = own.iter().copied().chain(["node", name, self.directory.path().to_str().unwrap()]);
        // The limit of user namespaces is one of each user namespace: the bare node's has the ids of the host.
        let user = ["unshare", "--user", "sh", "-c", "read go; exec \"$@\"", "sh"];
        let words: Vec<&str> = user.into_iter().filter(|_| name == BARE).chain(words).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        if name == BARE {
            let own = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
            wait("a user namespace", || own(&child.id().to_string()) != own("self"));
            for map in ["uid_map", "gid_map"] {
                std::fs::write(format!("/proc/{}/{map}", child.id()), "0 0 4294967295\n").unwrap();
            }
            std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n").unwrap();
        }
        self.nodes.push((name, child));
    }

    fn kill_node(&mut self, name: &str) {
        let at = self.nodes.iter().position(|(other, _)| *other == name).unwrap();
        let (_, mut node) = self.nodes.remove(at);
        node.kill().unwrap();
        node.wait().unwrap();
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SLURM_CONF", self.directory.path().join("slurm.conf")).env("NO_COLOR", "1").env("COLUMNS", "140");
        command
    }

    fn ask(&self, words: &[&str]) -> String {
        let output = self.command(words[0]).args(&words[1..]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Ids of jobs that are not over.
    fn queue(&self) -> Vec<String> {
        self.ask(&["squeue", "-h", "-r", "-o", "%i"]).lines().map(str::to_owned).collect()
    }

    fn imgbuild(&self, space: &Space, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_imgbuild"));
        command.arg("-C").arg(space.path()).arg("--store").arg(space.store()).args(arguments);
        command.env("IMGBUILD_VENDOR", vendored());
        command
    }

    fn run(&self, space: &Space, arguments: &[&str]) -> Ran {
        self.imgbuild(space, arguments).output().unwrap().into()
    }

    /// The file of a workspace; `more` are lines of its `[executor]`.
    fn workspace(&self, space: &Space, images: &str, more: &str) {
        let store = self.directory.path().join("disk/store");
        space.write(
            "imgbuild.toml",
            &format!(
                "images = [\"{images}\"]\nout = \"out\"\n\n[executor]\nname = \"slurm\"\nstore = \"{}\"\ncpus = 1\n{more}",
                store.display()
            ),
        );
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (_, node) in &mut self.nodes {
            let _ = node.kill();
            let _ = node.wait();
        }
        for daemon in [&mut self.controller, &mut self.munge] {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

#[track_caller]
fn wait(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(400);
    while !is_so() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

struct Building {
    child: Child,
    said: PathBuf,
}

/// A test that failed leaves none.
impl Drop for Building {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Building {
    fn start(cluster: &Cluster, space: &Space, arguments: &[&str]) -> Self {
        let said = cluster.directory.path().join("said");
        let log = std::fs::File::create(&said).unwrap();
        let child = cluster.imgbuild(space, arguments).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Self { child, said }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap()
    }

    #[track_caller]
    fn wait_for(&mut self, word: &str) {
        let until = Instant::now() + Duration::from_secs(400);
        while !self.said().contains(word) {
            let is_over = self.child.try_wait().unwrap().is_some();
            assert!(!is_over && Instant::now() < until, "never said: {word}\n{}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn image(number: usize) -> String {
    format!("img{number}")
}

/// Eight images that have most in common, each with a script of its own that takes a while.
fn eight(space: &Space) {
    let one = fresh();
    for number in 1..=8 {
        let name = image(number);
        let directory = space.path().join("images").join(&name);
        copy_locked(one.path(), &directory);
        space.edit(&format!("images/{name}/image.toml"), "name = \"tiny\"", &format!("name = \"{name}\""));
        let own = std::fs::read_to_string(directory.join("tiny.postinstall")).unwrap();
        let script = format!("{own}\nsleep 5\necho {name} >\"$1/etc/which\"\n");
        space.write(&format!("images/{name}/tiny.postinstall"), &script);
    }
}

/// The program stays in the user's directory, and nothing else.
fn assert_clean(space: &Space) {
    let shared = space.path().join(".imgbuild-slurm");
    let left: Vec<PathBuf> = walkdir::WalkDir::new(&shared)
        .min_depth(2)
        .into_iter()
        .flatten()
        .map(walkdir::DirEntry::into_path)
        .filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with("imgbuild-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn privileged_eight_images_with_a_node_that_dies_and_a_job_that_is_preempted() {
    let (local, space) = (Space::new(), Space::new());
    eight(&local);
    eight(&space);
    local.write("imgbuild.toml", "images = [\"images/*\"]\nout = \"out\"\n");
    let mut cluster = Cluster::start();
    cluster.workspace(&space, "images/*", "");
    // The machine that submits has nothing: all is made by jobs.
    let mut building = Building::start(&cluster, &space, &["build", "--locked"]);
    building.wait_for("rootfs/postinstall");
    let on = |said: &str, node: &str| {
        said.lines().any(|line| line.contains("rootfs/postinstall") && line.contains(&format!("runs on {node}")))
    };
    wait("scripts on two nodes", || on(&building.said(), "cn1") && on(&building.said(), "cn2"));
    cluster.kill_node("cn2");
    cluster.ask(&["sbatch", "--partition=urgent", "--nodelist=cn1", "--output=/dev/null", "--wrap=sleep 3"]);
    building.wait_for("Slurm took node cn1 from job");
    building.wait_for("node cn2 of job");
    let code = building.child.wait().unwrap().code();
    let said = building.said();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("is down; it was requeued") && said.contains("runs again on"), "{said}");
    assert!(said.contains("note: submitted ") && !said.contains("error"), "{said}");
    // Nothing ran here, and nothing is left.
    assert!(said.matches("ran nothing; kept ").count() == 8, "{said}");
    assert_clean(&space);

    let store = local.path().join("plain-store");
    let copied = Command::new("cp").arg("-a").arg(warm().store()).arg(&store).status().unwrap();
    assert!(copied.success());
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgbuild"));
    command.arg("-C").arg(local.path()).arg("--store").arg(&store).args(["build", "--locked"]);
    Ran::from(command.env("IMGBUILD_VENDOR", vendored()).output().unwrap()).good();
    for number in 1..=8 {
        for name in SAME {
            let [one, other] =
                [&local, &space].map(|space| std::fs::read(space.path().join("out").join(image(number)).join(name)));
            assert!(one.unwrap() == other.unwrap(), "{number} {name}");
        }
    }

    // The log names jobs and nodes.
    let log = space.run(&["log", "--json", "img1"]).good();
    let log: serde_json::Value = serde_json::from_str(&log.out).unwrap();
    let runs = log["images"][0]["builds"][0]["ran"].as_array().unwrap().clone();
    let own = runs.iter().find(|run| run["action"] == "rootfs/postinstall").unwrap();
    assert!(own["node"].as_str().unwrap().starts_with("cn") && !own["job"].as_str().unwrap().is_empty(), "{own}");
    let text = space.run(&["log", "img1"]).good().out;
    assert!(text.contains("(job ") && text.contains(" on cn"), "{text}");
    // Once more: no job is submitted, and neither is Slurm asked.
    let ran = space.run(&["build", "--locked"]).good();
    assert!(ran.err.matches("ran nothing").count() == 8 && !ran.err.contains("submitted"), "{}", ran.err);
}

/// A space with the tiny image in which something is to be done.
fn one_more(script: &str) -> Space {
    let space = warm();
    let own = std::fs::read_to_string(space.path().join("tiny.postinstall")).unwrap();
    space.write("tiny.postinstall", &format!("{own}\n{script}\n"));
    space
}

#[test]
fn privileged_what_goes_wrong_with_jobs_is_said_exactly() {
    let mut cluster = Cluster::start();
    let at = cluster.directory.path().to_owned();
    // An action that fails: the code and the words of a build here, with the job and its node.
    let space = one_more("echo the license server is down >&2; exit 3");
    cluster.workspace(&space, ".", "");
    let here = space.run(&["build", "--executor", "local"]);
    let there = cluster.run(&space, &["build"]);
    assert_eq!((here.code, there.code), (4, 4), "{}", there.err);
    for said in ["the license server is down", "tiny.postinstall", "failed in job", " on cn", "slurm::failed"] {
        assert!(there.err.contains(said), "{said}: {}", there.err);
    }
    assert!(!there.err.contains("/runs-"), "{}", there.err);
    assert_clean(&space);
    let log = space.run(&["log"]).good().out;
    assert!(log.contains("rootfs/postinstall failed after") && log.contains(" on cn"), "{log}");

    // squeue that does not answer for a while is no end of any job.
    let space = one_more("sleep 6");
    cluster.workspace(&space, ".", "");
    let stubs = at.join("stubs");
    std::fs::create_dir(&stubs).unwrap();
    let squeue = stubs.join("squeue");
    let text = "#!/bin/sh\nn=$(cat ${0}.count 2>/dev/null || echo 0)\necho $((n + 1)) >${0}.count\n\
                [ $n -ge 2 ] || { echo 'slurm_load_jobs error: Socket timed out on send/recv operation' >&2; exit 0; }\n\
                exec /usr/bin/squeue \"$@\"\n";
    std::fs::write(&squeue, text).unwrap();
    std::fs::set_permissions(&squeue, PermissionsExt::from_mode(0o755)).unwrap();
    let path = |first: &Path| format!("{}:{}", first.display(), std::env::var("PATH").unwrap());
    // In a directory whose name is hard to write, from within another job.
    let odd = "100% of it's \"all\" $HOME";
    std::fs::create_dir(space.path().join(odd)).unwrap();
    let mut command = cluster.imgbuild(&space, &["build", "--cache", &space.path().join(odd).display().to_string()]);
    command.env("PATH", path(&stubs)).env("SLURM_JOB_ID", "77").env("SLURM_ARRAY_TASK_ID", "9");
    command.env("SLURM_MEM_PER_CPU", "1").env("SBATCH_WAIT", "1").env("SBATCH_EXPORT", "NONE").env("LC_ALL", "C.UTF-8");
    let ran = Ran::from(command.output().unwrap()).good();
    assert_eq!(ran.err.matches("squeue does not answer").count(), 1, "{}", ran.err);
    assert!(ran.err.contains("done in job"), "{}", ran.err);

    // Someone ends a job; a job that runs into its time limit.
    let space = one_more("sleep 100");
    cluster.workspace(&space, ".", "");
    let mut building = Building::start(&cluster, &space, &["build"]);
    building.wait_for(" runs on cn");
    for job in cluster.queue() {
        cluster.ask(&["scancel", &job]);
    }
    assert_eq!(building.child.wait().unwrap().code(), Some(4), "{}", building.said());
    assert!(building.said().contains("was cancelled"), "{}", building.said());

    // A directory in which others could put another one in its place.
    let open = at.join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let space = one_more("sleep 1");
    cluster.workspace(&space, ".", &format!("shared = \"{}\"\n", open.join("below").display()));
    let ran = cluster.run(&space, &["build"]);
    assert!(ran.code == 3 && ran.err.contains("slurm::directory"), "{} {}", ran.code, ran.err);
    assert!(ran.err.contains("others can replace what is in"), "{}", ran.err);

    // A directory that nodes do not have.
    let space = one_more("sleep 1");
    cluster.workspace(&space, ".", &format!("shared = \"{}\"\n", at.join("hidden").display()));
    let ran = cluster.run(&space, &["build"]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.contains("slurm::not_shared") && ran.err.contains(" on cn"), "{}", ran.err);
    assert!(ran.err.contains(&at.join("hidden").display().to_string()), "{}", ran.err);

    // A node without user namespaces.
    cluster.workspace(&space, ".", "options = [\"--partition=bare\"]\n");
    let ran = cluster.run(&space, &["build"]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.contains("user namespace") && ran.err.contains("on bare1"), "{}", ran.err);

    // What sbatch says.
    cluster.workspace(&space, ".", "options = [\"--partition=nowhere\"]\n");
    let ran = cluster.run(&space, &["build"]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.contains("slurm::refused") && ran.err.contains("invalid partition"), "{}", ran.err);
    cluster.workspace(&space, ".", "memory = 900000\n");
    let ran = cluster.run(&space, &["build"]);
    assert!(ran.code == 3 && ran.err.contains("lower `cpus` or `memory`"), "{}", ran.err);
    // Options that are not sbatch's to take are refused with their place, before anything else.
    cluster.workspace(&space, ".", "options = [\"--array=0-3\"]\n");
    let ran = cluster.run(&space, &["build"]);
    assert!(
        ran.code == 1 && ran.err.contains("workspace::option") && ran.err.contains("imgbuild.toml:8"),
        "{}",
        ran.err
    );
    cluster.workspace(&space, ".", "");
    for (words, said) in [(vec!["--only", "rootfs/sync"], "--only"), (vec!["--verify"], "--verify")] {
        let ran = cluster.run(&space, &[&["build", "--executor", "slurm"], words.as_slice()].concat());
        assert!(ran.code == 64 && ran.err.contains(said), "{} {}", ran.code, ran.err);
    }
    let mut command = cluster.imgbuild(&space, &["build"]);
    let ran = Ran::from(command.env("PATH", "/nowhere").output().unwrap());
    assert!(ran.code == 3 && ran.err.contains("slurm::no_command"), "{} {}", ran.code, ran.err);
    cluster.munge.kill().unwrap();
    cluster.munge.wait().unwrap();
    let ran = cluster.run(&space, &["build"]);
    assert!(ran.code == 3 && ran.err.contains("systemctl status munge"), "{} {}", ran.code, ran.err);
}

#[test]
fn privileged_each_chain_waits_for_its_own_and_one_that_fails_ends_no_other() {
    // All that the images share is there.
    let space = warm();
    let cluster = Cluster::start();
    cluster.workspace(&space, "images/*", "");
    let first = fresh();
    for number in 1..=3 {
        let (name, directory) = (image(number), space.path().join("images").join(image(number)));
        copy_locked(first.path(), &directory);
        let (recipe, script) = (format!("images/{name}/image.toml"), format!("images/{name}/tiny.postinstall"));
        space.edit(&recipe, "name = \"tiny\"", &format!("name = \"{name}\""));
        let text = std::fs::read_to_string(directory.join("image.toml")).unwrap();
        // After the script two jobs: the initrd and the packed image.
        space.write(&recipe, &format!("{text}\n[initrd]\nmodules_from = \"rootfs\"\n"));
        let own = std::fs::read_to_string(directory.join("tiny.postinstall")).unwrap();
        // The third takes longer than the others with all that follows.
        let end = ["sleep 4", "sleep 4; exit 7", "sleep 40"][number - 1];
        space.write(&script, &format!("{own}\necho {name} >\"$1/etc/which\"\n{end}\n"));
    }
    let mut building = Building::start(&cluster, &space, &["build", "--locked", "--keep-going"]);
    building.wait_for("note: submitted ");
    // As Slurm has it: the tasks of an array wait for those of another.
    let dependencies = cluster.ask(&["squeue", "-h", "-r", "-o", "%i %E"]);
    assert!(dependencies.contains("aftercorr:"), "{dependencies}");
    let done = |said: &str, image: &str| {
        said.lines().any(|line| line.contains(&format!("{image}/rootfs/gate, pack")) && line.contains("done in job"))
    };
    wait("the first image is packed", || done(&building.said(), "img1"));
    assert!(!done(&building.said(), "img3"), "{}", building.said());
    let code = building.child.wait().unwrap().code();
    let said = building.said();
    assert_eq!(code, Some(4), "{said}");
    // The failure, as it was, at the end once more.
    assert!(said.matches("img2/rootfs/postinstall failed in job").count() >= 2 && !done(&said, "img2"), "{said}");
    assert!(!said.contains("on::other"), "{said}");
    assert!(done(&said, "img3"), "{said}");
    let published = |number| space.path().join("out").join(image(number)).join("build.json").exists();
    assert!(published(1) && !published(2) && published(3), "{said}");
    wait("nothing waits for ever", || cluster.queue().is_empty());
    assert_clean(&space);
}

#[test]
fn privileged_ctrl_c_cancels_what_was_submitted_and_nothing_else() {
    let cluster = Cluster::start();
    let space = one_more("sleep 120");
    cluster.workspace(&space, ".", "");
    let other = cluster.ask(&["sbatch", "--parsable", "--output=/dev/null", "--wrap=sleep 300"]);
    let mut building = Building::start(&cluster, &space, &["build"]);
    building.wait_for(" runs on cn");
    assert!(cluster.queue().len() >= 2);
    assert!(Command::new("kill").args(["-INT", &building.child.id().to_string()]).status().unwrap().success());
    assert_eq!(building.child.wait().unwrap().code(), Some(130), "{}", building.said());
    assert!(building.said().contains("interrupted: nothing was published"), "{}", building.said());
    wait("its jobs are gone", || cluster.queue() == [other.trim()]);
    assert_clean(&space);

    // Killed: the next build ends what it left, and goes on.
    let mut building = Building::start(&cluster, &space, &["build"]);
    building.wait_for(" runs on cn");
    building.child.kill().unwrap();
    building.child.wait().unwrap();
    let own = std::fs::read_to_string(space.path().join("tiny.postinstall")).unwrap();
    space.write("tiny.postinstall", &own.replace("sleep 120", "sleep 1"));
    let ran = cluster.run(&space, &["build"]).good();
    assert!(ran.err.contains("done in job"), "{}", ran.err);
    wait("jobs of the killed one are gone", || cluster.queue() == [other.trim()]);
    assert_clean(&space);
}
