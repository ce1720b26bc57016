//! What watches dnsmasq: it is started again when it ends, or when the nodes or the site's own lines change.

use std::collections::VecDeque;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::own::{Change, OwnLines};
use super::process::{PROGRAM, cannot_write, check, conf_argument, end, tell, write_aside};
use super::signed::Behind;
use super::{Places, Plan, conf, leases, notes, problem_of};
use crate::Say;
use crate::error::ServeError;
use crate::site::desk::Desk;
use nodes::Nodes;

const STARTS_WITHIN: Duration = Duration::from_secs(15);
/// How often it may end within [`WITHIN`] before the pauses stay as they are: files and boot scripts are served whatever happens to it.
const MANY_ENDS: usize = 5;
const WITHIN: Duration = Duration::from_secs(60);
/// Between two tries when it has ended so often.
const LONGEST_PAUSE: Duration = Duration::from_secs(16);
/// How often nodes.toml and the site's own lines are looked at.
const LOOK: Duration = Duration::from_secs(1);

pub(super) struct Watch {
    plan: Plan,
    own: OwnLines,
    places: Places,
    desk: Arc<Desk>,
    say: Say,
    is_verbose: bool,
    /// When it ended by itself, or could not be started.
    ends: VecDeque<Instant>,
    /// When it was given the nodes last.
    renewed: Instant,
    hosts: String,
    nodes: Arc<Nodes>,
    behind: Behind,
    /// What was said of nodes that are not answered.
    noted: Vec<String>,
    /// Why the nodes of now are not taken over, as it was said.
    trouble: Option<String>,
    /// Whether the site's own lines are those of before because it did not start with others.
    has_gone_back: bool,
}

impl Watch {
    pub(super) fn new(
        (plan, own, places): (Plan, OwnLines, Places),
        (desk, say, is_verbose): (Arc<Desk>, Say, bool),
        (nodes, hosts, noted): (Arc<Nodes>, String, Vec<String>),
        behind: Behind,
    ) -> Self {
        Self {
            plan,
            own,
            places,
            desk,
            say,
            is_verbose,
            ends: VecDeque::new(),
            renewed: Instant::now(),
            hosts,
            nodes,
            behind,
            noted,
            trouble: None,
            has_gone_back: false,
        }
    }

    /// Starts it, and waits until it runs.
    /// Errors: What it says before it ends.
    pub(super) fn spawn(&self) -> Result<Child, ServeError> {
        leases::settle(&self.places.leases(), &self.nodes).map_err(|error| cannot_write("its leases", &error))?;
        let mut command = Command::new(PROGRAM);
        command.args(["--keep-in-foreground", "--log-facility=-", &conf_argument(&self.places)]);
        command.arg(format!("--pid-file={}", self.places.pid().display()));
        if self.is_verbose {
            command.arg("--log-dhcp");
        }
        // Ctrl-C at a terminal is this server's, which ends it.
        command.env("LC_ALL", "C").process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(ServeError::Machine)?;
        let (started, starts) = channel();
        let kept: Arc<Mutex<VecDeque<String>>> = Arc::default();
        if let Some(stderr) = child.stderr.take() {
            let (say, kept) = (Arc::clone(&self.say), Arc::clone(&kept));
            std::thread::spawn(move || tell(stderr, &say, &kept, &started));
        }
        if starts.recv_timeout(STARTS_WITHIN).is_ok() {
            return Ok(child);
        }
        let _ = child.kill();
        let _ = child.wait();
        let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        // What it ends with is its last line.
        let said = kept.back().cloned().unwrap_or_else(|| "it does not say why".to_owned());
        Err(ServeError::dhcp_machine(
            format!("{PROGRAM} does not start: {said}"),
            "`ss -lunp` names who has ports 67 and 69, `ip address` the addresses of this machine".to_owned(),
        ))
    }

    pub(super) fn run(mut self, child: Child, ended: &Receiver<()>) {
        let mut child = Some(child);
        let mut again = Instant::now();
        let mut looked = Instant::now();
        loop {
            // A server that is gone has dropped its end.
            if !matches!(ended.recv_timeout(Duration::from_millis(200)), Err(RecvTimeoutError::Timeout)) {
                return end(child);
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.behind.look(&self.desk, &self.say);
            }
            if let Some(running) = &mut child {
                if let Ok(Some(status)) = running.try_wait() {
                    (self.say)(&format!("{PROGRAM} ended: {status}"));
                    child = None;
                    again = Instant::now() + self.pause();
                } else if self.renew() {
                    // A hangup would not do: dnsmasq 2.90 dies of it when there is a lease, and it keeps to leases of before.
                    end(child.take());
                    again = Instant::now();
                }
            }
            if child.is_none() && Instant::now() >= again {
                self.renew();
                match self.spawn() {
                    Ok(running) => {
                        (self.say)(&format!("{PROGRAM} runs again"));
                        self.own.have_started();
                        self.has_gone_back = false;
                        child = Some(running);
                    }
                    Err(error) => {
                        (self.say)(&error.to_string());
                        again = Instant::now() + self.go_back();
                    }
                }
            }
        }
    }

    /// Goes back to what it started with before, if the site's own lines may be why it does not start; how long to wait before it is
    /// started again.
    fn go_back(&mut self) -> Duration {
        match self.own.go_back(&self.plan, &self.places) {
            Ok(true) => {
                (self.say)(&self.own.refusal(&format!("{PROGRAM} does not start with it")));
                self.has_gone_back = true;
                return Duration::ZERO;
            }
            Ok(false) => {}
            Err(error) => (self.say)(&error.to_string()),
        }
        if std::mem::take(&mut self.has_gone_back) {
            // They were not why.
            self.own.try_again();
        }
        self.pause()
    }

    /// Notes that it ended without being asked to; how long to wait before it is started again.
    fn pause(&mut self) -> Duration {
        self.ends.retain(|at| at.elapsed() < WITHIN);
        self.ends.push_back(Instant::now());
        let count = self.ends.len();
        if count == MANY_ENDS {
            (self.say)(&format!(
                "{PROGRAM} ended {MANY_ENDS} times within a minute: the lines above are what it said; it is started again every {} s, and nodes \
                 that boot meanwhile get no address from it; files and boot scripts are served",
                LONGEST_PAUSE.as_secs()
            ));
        }
        Duration::from_secs(1 << (count - 1).min(10)).min(LONGEST_PAUSE)
    }

    /// Writes what has changed of the nodes and the site's own lines; whether dnsmasq has to read it.
    fn renew(&mut self) -> bool {
        if self.renewed.elapsed() < LOOK {
            return false;
        }
        self.renewed = Instant::now();
        let nodes = self.desk.nodes();
        self.desk.say_errors(&self.say);
        let own = self.own.renew(&self.plan, &self.places).unwrap_or_else(|why| {
            (self.say)(&why);
            Change::None
        });
        match own {
            Change::None => {}
            Change::Other => (self.say)("loaders/dnsmasq.conf has changed: dnsmasq is started again with it"),
            Change::Gone => (self.say)("loaders/dnsmasq.conf is gone: dnsmasq is started again without it"),
        }
        let are_same = Arc::ptr_eq(&nodes, &self.nodes);
        let are_new = !are_same
            && self.take(nodes).unwrap_or_else(|error| {
                let why = format!("{PROGRAM} does not get the new nodes, which is tried again: {}", problem_of(&error));
                if self.trouble.as_ref() != Some(&why) {
                    (self.say)(&why);
                }
                self.trouble = Some(why);
                false
            });
        if are_new {
            (self.say)("nodes.toml has changed: dnsmasq is started again with its nodes");
        }
        if !are_same || own != Change::None {
            self.say_notes();
        }
        are_new || own != Change::None
    }

    /// Takes nodes over; whether dnsmasq has to read them.
    /// Errors: It could not be started again, or they cannot be written: the nodes stay as they were.
    fn take(&mut self, nodes: Arc<Nodes>) -> Result<bool, ServeError> {
        let hosts = conf::hosts(&nodes);
        let are_new = hosts != self.hosts;
        if are_new {
            // The site's own lines may read further files.
            check(&self.places.conf(), &self.places.own_lines(), self.own.path())?;
            write_aside(&self.places.hosts(), hosts.as_bytes()).map_err(|error| cannot_write("its nodes", &error))?;
            self.hosts = hosts;
        }
        self.nodes = nodes;
        self.trouble = None;
        Ok(are_new)
    }

    /// Says which nodes are not answered as the file is now, as far as it was not said before.
    fn say_notes(&mut self) {
        let notes = notes(&self.plan, &self.nodes, &self.own);
        notes.iter().filter(|note| !self.noted.contains(note)).for_each(|note| (self.say)(&format!("note: {note}")));
        self.noted = notes;
    }
}
