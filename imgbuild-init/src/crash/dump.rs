//! The first process of the kernel that writes a dump. It never stays: whatever fails, the node starts again.

use std::io::Write;
use std::time::{Duration, Instant};

use super::collect::{Programs, write_into};
use super::{places, ssh};
use crate::attempts::Message;
use crate::cmdline::Parameters;
use crate::image::servers::Servers;
use crate::kdump::{Afterwards, FORMAT, ORDER, Order, Target};
use crate::modules::Modules;
use crate::network;
use crate::node::report;
use crate::sys::Worker;
use crate::{say, sys};

/// How often it is tried.
const ATTEMPTS: usize = 3;
/// How long an attempt may make no progress; a switch may need a minute, a server that restarts some more.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a report may take.
const TO_REPORT: Duration = Duration::from_secs(120);
/// How long a process that was ended may take to end.
const TO_END: Duration = Duration::from_secs(30);

/// Tells that something moved.
pub(super) type Moved<'a> = &'a dyn Fn(u64);

/// Writes the dump and ends the machine.
pub(crate) fn run(parameters: &Parameters) -> ! {
    let order = read_order();
    let outcome = match &order {
        Ok(order) => attempts(parameters, order),
        Err(problem) => Err(problem.clone()),
    };
    let text = match &outcome {
        Ok(done) => format!("the kernel crashed; {done}"),
        Err(problem) => format!("the kernel crashed, but no dump was written: {problem}"),
    };
    say!("{text}");
    if parameters.report.is_some() {
        let reported = in_a_process(TO_REPORT, |tell| {
            network_for(parameters, &modules()).map(|_| {
                report::tell(&Servers::of(parameters).reports(), report::State::Failed, Some(&text));
                tell(1);
                String::new()
            })
        });
        if let Err(problem) = reported {
            say!("the server did not get that: {problem}");
        }
    }
    // A disk or a server that never answers would hold this process, which has to start the node again.
    let _ = in_a_process(TO_REPORT, |_| {
        sys::write_out();
        Ok(String::new())
    });
    match order.map(|order| order.afterwards).unwrap_or_default() {
        Afterwards::Poweroff => {
            say!("switching off");
            sys::power_off()
        }
        Afterwards::Halt => {
            say!("stopping here, as the recipe says");
            sys::stop_here()
        }
        Afterwards::Reboot => {
            say!("rebooting");
            sys::reboot()
        }
    }
}

fn read_order() -> Result<Order, String> {
    let path = format!("/{ORDER}");
    let text = std::fs::read(&path).map_err(|error| format!("{path}: {error}"))?;
    let order: Order = serde_json::from_slice(&text).map_err(|error| format!("{path}: {error}"))?;
    match order.format {
        FORMAT => Ok(order),
        other => Err(format!("{path} has format {other}")),
    }
}

fn attempts(parameters: &Parameters, order: &Order) -> Result<String, String> {
    if !std::path::Path::new(super::collect::VMCORE).exists() {
        return Err(format!("{} is missing: this kernel does not run after a crash", super::collect::VMCORE));
    }
    let target = Target::parse(&order.to).map_err(|problem| format!("`{}`: {}", order.to, problem.text()))?;
    say!("the kernel crashed: its memory is written to {target}");
    let mut last = String::new();
    // One for all attempts: what an earlier one left there is written over.
    let name = super::collect::name(parameters.node.as_deref());
    for attempt in 1..=ATTEMPTS {
        match in_a_process(PATIENCE, |moved| write(parameters, order, (&target, &name), moved)) {
            Ok(done) => return Ok(done),
            Err(problem) => last = problem,
        }
        say!("attempt {attempt} of {ATTEMPTS}: {last}");
        std::thread::sleep(Duration::from_secs(5));
    }
    Err(last)
}

/// The drivers of all devices, loaded.
fn modules() -> Modules {
    let modules = Modules::read();
    modules.load_for_devices();
    modules
}

fn network_for(parameters: &Parameters, modules: &Modules) -> Result<network::lease::Lease, String> {
    std::thread::spawn(sys::ask_for_randomness);
    // Servers of NFS know a client by it.
    if let Some(node) = &parameters.node {
        sys::set_host_name(node);
    }
    let lease = network::bring_up(parameters, modules)?;
    // It may be shorter than the dump takes; this goes with the process.
    if lease.dhcp().is_some() && lease.address.is_ipv4() {
        let kept = lease.clone();
        std::thread::spawn(move || network::dhcp::keep(&kept));
    }
    Ok(lease)
}

/// One attempt; says where the dump is.
fn write(
    parameters: &Parameters,
    order: &Order,
    (target, name): (&Target, &str),
    moved: Moved<'_>,
) -> Result<String, String> {
    let modules = modules();
    let programs = Programs::find(order);
    match target {
        Target::Disk { device, directory } => {
            let base = places::disk(device, directory, &order.options, &modules)?;
            let written = write_into(&base, name, &programs, moved);
            let done = written.and_then(|written| places::close().map(|()| written));
            done.map(|(file, size)| said(&format!("{target}/{name}/{file}"), size))
        }
        Target::Nfs { server, directory } => {
            let lease = network_for(parameters, &modules)?;
            moved(0);
            let server = server.as_deref().or(parameters.dump.as_deref()).unwrap_or_default();
            let base = places::nfs(server, directory, &order.options, &lease, &modules)?;
            let written = write_into(&base, name, &programs, moved);
            let done = written.and_then(|written| places::close().map(|()| written));
            done.map(|(file, size)| said(&format!("nfs://{server}{directory}/{name}/{file}"), size))
        }
        Target::Ssh { user, host, port, directory } => {
            network_for(parameters, &modules)?;
            moved(0);
            let login = ssh::Login { user, host, port: *port };
            let (file, size) =
                ssh::send(&login, &format!("{}/{name}", directory.trim_end_matches('/')), &programs, moved)?;
            Ok(said(&format!("{target}/{name}/{file}"), size))
        }
    }
}

fn said(place: &str, size: u64) -> String {
    format!("its dump is {place}, {} MiB", size.div_ceil(1 << 20))
}

/// Works in a process of its own, which is ended when it makes no progress.
fn in_a_process(
    patience: Duration,
    work: impl FnOnce(&dyn Fn(u64)) -> Result<String, String>,
) -> Result<String, String> {
    let started = Worker::start(|file| {
        let send = |line: Vec<u8>| {
            let _ = (&file).write_all(&[&line[..], b"\n"].concat());
        };
        let moved = |bytes: u64| send(serde_json::to_vec(&Message::Fetched(bytes)).unwrap_or_default());
        let outcome = work(&moved);
        send(serde_json::to_vec(&outcome).unwrap_or_default());
    });
    let mut worker = started.map_err(|error| format!("no process can be started: {error}"))?;
    let (mut text, mut outcome) = (Vec::new(), None);
    let (mut since, mut most, mut ended_at) = (Instant::now(), None, None::<Instant>);
    loop {
        let (bytes, ended) = worker.wait();
        text.extend_from_slice(&bytes);
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            if let Ok(Message::Fetched(bytes)) = serde_json::from_slice(&line) {
                if most.is_none_or(|most| bytes > most) {
                    (most, since) = (Some(bytes), Instant::now());
                }
            } else if let Ok(found) = serde_json::from_slice::<Result<String, String>>(&line) {
                outcome = Some(found);
            }
        }
        if let Some(ended) = ended {
            return outcome.unwrap_or_else(|| Err(format!("it ended early, with {ended}")));
        }
        match ended_at {
            None if outcome.is_none() && since.elapsed() > patience => {
                say!("no progress for {} seconds: this attempt is given up", since.elapsed().as_secs());
                worker.end_all();
                ended_at = Some(Instant::now());
            }
            // A disk or a driver that never answers holds its process for ever.
            Some(at) if at.elapsed() > TO_END => {
                say!("a process that was ended does not end: rebooting");
                sys::reboot();
            }
            _ => {}
        }
    }
}
