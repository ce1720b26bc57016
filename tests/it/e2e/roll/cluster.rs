//! Real daemons of Slurm on this machine, jobs, and nodes with a real sshd each, whose restarts are played by a program that reports as
//! a node does.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::e2e::sync::{Node, make_keys, ssh_config};
use crate::nodes::needs::{publish, report, site, tree};
use crate::support::server::{Running, command, started};
use crate::support::{Ran, Space, imgbuild};

/// The first node's number; all have three digits.
pub(super) const FIRST: usize = 100;

/// A node's own host name and processes; the first argument is its name, the second the cluster's directory. When it is to restart, its
/// slurmd is killed, and the next one says that the node has booted.
const SLURMD: &str = r#"mount --make-rprivate /
hostname "$1"
again=
while :; do
    slurmd -D $again -f "$2/slurm.conf" >>"$2/$1/out" 2>&1 &
    slurmd=$!
    while [ ! -e "$2/$1/reboot" ] && kill -0 $slurmd; do sleep 0.2; done
    rm -f "$2/$1/reboot"
    kill -9 $slurmd
    wait $slurmd
    again=-b
    sleep 1
done
"#;

/// What a node has for systemd: it restarts the machine, which asks for its words and reports as imgbuild-init does.
const SYSTEMCTL: &str = r#"#!/bin/bash
case "$*" in *reboot*) ;; *) exit 0 ;; esac
name=$(cat /etc/nodename)
[ -z "$(ls -A "PLACE/jobs/$name")" ] || echo "restart of $name" >>PLACE/killed
echo restart >>"PLACE/$name/restarts"
get() {
    exec 3<>/dev/tcp/127.0.0.1/PORT
    printf 'GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' "$1" >&3
    cat <&3
}
mkdir -p /run/imgbuild
boot() {
    date +%s%N >/run/imgbuild/booted
    touch "PLACE/$name/reboot"
    sleep 1
    report=$(get "/-/boot/ipxe/$name" | grep -o 'imgbuild.report=http://x[^ ]*' | head -n 1)
    report=${report#*http://x}
    get "$report/booting"
    printf hello >/etc/motd
    sleep 1
    get "$report/up"
}
boot </dev/null >>"PLACE/$name/boots" 2>&1 &
"#;

const HEALTHY: &str = r#"#!/bin/sh
name=$(cat /etc/nodename)
echo "$name" >>PLACE/health
[ -z "$(ls -A "PLACE/jobs/$name")" ] || echo "look at $name" >>PLACE/killed
[ ! -e "PLACE/sick/$name" ] || { echo "no GPU" >&2; exit 1; }
"#;

/// A job says that it runs while it does.
const JOB: &str = r#"set -e
running="PLACE/jobs/$SLURMD_NODENAME/$SLURM_JOB_ID"
: >"$running"
sleep SECONDS
rm "$running"
echo "$SLURM_JOB_ID" >>PLACE/ended
"#;

pub(super) struct Cluster {
    // In memory that nodes see, too.
    pub(super) place: tempfile::TempDir,
    pub(super) space: Space,
    pub(super) names: Vec<String>,
    pub(super) nodes: Vec<Node>,
    daemons: Vec<Child>,
    pub(super) controller: Child,
    _server: Running,
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[track_caller]
pub(super) fn wait(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn quiet(program: &str, words: &[&str]) -> Child {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"))
}

pub(super) fn write(path: &Path, text: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

impl Cluster {
    /// So many nodes, of which the first half has a build with another synced file, the others one with another kernel command line.
    pub(super) fn start(count: usize) -> Self {
        let place = tempfile::tempdir_in("/dev/shm").unwrap();
        let at = place.path();
        let last = FIRST + count - 1;
        let space = site(&format!("cn[{FIRST}-{last}]"));
        let nodes = std::fs::read_to_string(space.path().join("nodes.toml")).unwrap();
        let (out, end) = (space.path().join("tftpboot"), count - 1);
        std::fs::create_dir(&out).unwrap();
        let more = format!(
            "mac = \"52:54:00:00:01:[00-{end:02}]\"\n\n[nodeset]\nout = \"{}\"\nurl = \"http://10.0.0.1\"\n\n[defaults]\nloader = \"ipxe\"\n",
            out.display()
        );
        space.write("nodes.toml", &format!("{nodes}{more}"));
        let mut edited = tree();
        edited.insert("etc/motd", "before");
        let edited = publish(&space, &edited, &[], "rootimg.sfs");
        let words = publish(&space, &tree(), &["nosmt"], "rootimg.sfs");
        publish(&space, &tree(), &[], "rootimg.sfs");
        let names: Vec<String> = (FIRST..=last).map(|number| format!("cn{number}")).collect();
        for (at, name) in names.iter().enumerate() {
            report(&space, name, "up", Some(if at < count / 2 { &edited } else { &words }));
        }
        let mut serve = command(&["--listen", "127.0.0.1:0"]);
        serve.current_dir(space.path());
        let server = started(serve);
        let text = |text: &str| {
            text.replace("PLACE", at.to_str().unwrap()).replace("PORT", &server.address.port().to_string())
        };
        let below = at.join("nodes");
        make_keys(&below);
        for name in &names {
            for folder in [format!("{name}/spool"), format!("jobs/{name}"), "sick".to_owned(), "state".to_owned()] {
                std::fs::create_dir_all(at.join(folder)).unwrap();
            }
            let image = below.join(format!("{name}.image"));
            write(&image.join("usr/bin/systemctl"), &text(SYSTEMCTL), 0o755);
            write(&image.join("usr/bin/healthy"), &text(HEALTHY), 0o755);
            write(&image.join("etc/nodename"), name, 0o644);
            write(&image.join("etc/motd"), "before", 0o644);
        }
        write(&at.join("job"), &text(JOB), 0o755);
        let nodes: Vec<Node> = names.iter().map(|name| Node::start(&below, name, &[])).collect();
        space.write("ssh_config", &ssh_config(&below, &nodes));
        slurm_conf(at, &names);
        let munge = munge(at);
        let controller = Self::controller(at);
        let own = ["--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", SLURMD, "node"];
        let slurmd = |name: &String| quiet("unshare", &[&own[..], &[name, at.to_str().unwrap()]].concat());
        let daemons = std::iter::once(munge).chain(names.iter().map(slurmd)).collect();
        nodes.iter().for_each(|node| node.wait(&below));
        let cluster = Self { place, space, names, nodes, daemons, controller, _server: server };
        wait("idle nodes", || cluster.ask(&["sinfo", "-h", "-N", "-o", "%t"]).matches("idle").count() == count);
        cluster
    }

    pub(super) fn controller(at: &Path) -> Child {
        quiet("slurmctld", &["-D", "-f", at.join("slurm.conf").to_str().unwrap()])
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// The lines of a file that nodes or jobs write.
    pub(super) fn lines(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.at(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(super) fn ask(&self, words: &[&str]) -> String {
        let output =
            Command::new(words[0]).args(&words[1..]).env("SLURM_CONF", self.at("slurm.conf")).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// So many jobs of so many seconds, of which each takes a node.
    pub(super) fn submit(&self, count: usize, seconds: &str, more: &[&str]) {
        let name = format!("job-{seconds}");
        let text = std::fs::read_to_string(self.at("job")).unwrap().replace("SECONDS", seconds);
        write(&self.at(&name), &format!("#!/bin/sh\n{text}"), 0o755);
        let (array, job) = (format!("--array=1-{count}"), self.at(&name));
        let words = ["sbatch", "--parsable", "--output=/dev/null", &array];
        let id = self.ask(&[&words[..], more, &[job.to_str().unwrap()]].concat());
        assert!(!id.is_empty(), "sbatch");
    }

    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = imgbuild();
        command.arg("-C").arg(self.space.path()).arg("roll").args(words).env("SLURM_CONF", self.at("slurm.conf"));
        command.env("IMGBUILD_SSH", format!("ssh -F {}", self.space.path().join("ssh_config").display()));
        command
    }

    /// The words of a roll over all nodes, with more.
    pub(super) fn words<'a>(&self, range: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let all = ["compute", "--scheduler", "slurm", "--node-timeout", "2", "--health", "/usr/bin/healthy"];
        [&[range], &all[..], more].concat()
    }

    pub(super) fn roll(&self, range: &str, more: &[&str]) -> Ran {
        self.command(&self.words(range, more)).output().unwrap().into()
    }

    /// Starts a roll in the background; what it says goes to a file.
    pub(super) fn begin(&self, words: &[&str], variables: &[(&str, &str)]) -> Child {
        let said = std::fs::File::create(self.at("said")).unwrap();
        let mut command = self.command(words);
        command.envs(variables.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        command.spawn().unwrap()
    }

    pub(super) fn said(&self) -> String {
        std::fs::read_to_string(self.at("said")).unwrap_or_default()
    }

    /// How often a node was restarted.
    pub(super) fn restarts(&self, name: &str) -> usize {
        self.lines(&format!("{name}/restarts")).len()
    }

    /// Nodes that are drained, with the reasons.
    pub(super) fn drained(&self) -> String {
        self.ask(&["sinfo", "-h", "-N", "-t", "drain,drained,draining", "-o", "%N %E"])
    }

    /// All jobs ended by themselves, on nodes that nobody touched.
    #[track_caller]
    pub(super) fn assert_no_job_was_killed(&self, count: usize) {
        wait("all jobs have ended", || self.ask(&["squeue", "-h", "-r", "-o", "%i"]).trim().is_empty());
        assert_eq!(self.lines("killed"), [""; 0]);
        assert_eq!(self.lines("ended").len(), count);
        let jobs = self.ask(&["scontrol", "-o", "show", "job"]);
        for job in jobs.lines().filter(|line| line.contains("JobId=")) {
            assert!(job.contains("JobState=COMPLETED") && job.contains(" Restarts=0"), "{job}");
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for daemon in self.daemons.iter_mut().rev().chain([&mut self.controller]) {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

fn slurm_conf(at: &Path, names: &[String]) {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host = host.split('.').next().unwrap_or_default().to_owned();
    let path = at.display();
    let mut text = format!(
        "ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmUser=root\nAuthType=auth/munge\n\
         AuthInfo=socket={path}/munge.socket,cred_expire=5\nSlurmctldPort={}\nStateSaveLocation={path}/state\n\
         SlurmdSpoolDir={path}/%n/spool\nSlurmctldPidFile={path}/ctld.pid\nSlurmdPidFile={path}/%n/pid\n\
         SlurmctldLogFile={path}/ctld.log\nSlurmdLogFile={path}/%n/log\n\
         ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nSwitchType=switch/none\nMpiDefault=none\nReturnToService=1\n\
         SelectType=select/cons_tres\nSelectTypeParameters=CR_CPU\nSlurmdParameters=config_overrides\n\
         SchedulerParameters=sched_interval=1,batch_sched_delay=0\nSlurmdTimeout=20\nKillWait=5\n\
         JobAcctGatherType=jobacct_gather/none\nAccountingStorageType=accounting_storage/none\n",
        free_port()
    );
    for name in names {
        let port = free_port();
        text += &format!("NodeName={name} NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory=4000 State=UNKNOWN\n");
    }
    text += &format!("PartitionName=p Nodes={} Default=YES State=UP\n", names.join(","));
    write(&at.join("slurm.conf"), &text, 0o644);
}

fn munge(at: &Path) -> Child {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(at, PermissionsExt::from_mode(0o755)).unwrap();
    let key = at.join("munge.key");
    std::fs::write(&key, [7; 1024]).unwrap();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    let word = |name: &str, file: &str| format!("--{name}={}", at.join(file).display());
    let words = [
        word("key-file", "munge.key"),
        word("socket", "munge.socket"),
        word("log-file", "munge.log"),
        word("pid-file", "munge.pid"),
        word("seed-file", "seed"),
    ];
    let words: Vec<&str> = ["--foreground", "--force"].into_iter().chain(words.iter().map(String::as_str)).collect();
    let munge = quiet("munged", &words);
    wait("munge", || at.join("munge.socket").exists());
    munge
}
