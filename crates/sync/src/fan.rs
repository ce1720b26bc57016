//! Many nodes at once: as many as are allowed, each with its time, none waiting for another.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::NamedTempFile;

use super::Answer;
use super::connection::{Connection, Pool, Way, known, last_of};
use super::node::{Mode, bring};
use super::wanted::Job;

#[derive(Debug, Clone)]
pub struct Settings {
    pub ssh: Vec<String>,
    pub fanout: usize,
    pub timeout: Duration,
    pub connect: Duration,
}

#[derive(Debug)]
pub struct Reached {
    pub answer: Answer,
    pub took: Duration,
    /// Whether its turn came.
    pub tried: bool,
}

pub enum News<'a> {
    Done(&'a Job, &'a Reached),
    /// So many are done, and these are in work.
    Working(usize, Vec<&'a str>),
}

/// How often the table of those in work is looked at.
const TICK: Duration = Duration::from_millis(40);
/// How long a process has to end when it is asked to.
const GRACE: Duration = Duration::from_secs(2);

struct Working {
    process: Pid,
    until: Instant,
    is_late: bool,
    is_asked_to_end: Option<Instant>,
}

struct Shared {
    next: AtomicUsize,
    stop: AtomicBool,
    working: Mutex<BTreeMap<usize, Working>>,
    results: Mutex<Vec<Option<Reached>>>,
    workers: AtomicUsize,
    pool: Pool,
    /// The host keys that nodes reported, as long as ssh reads them.
    known_hosts: Result<Option<NamedTempFile>, String>,
}

/// Brings all nodes up to date, or looks at them; in the order of the jobs.
pub fn run(
    jobs: &[Job],
    settings: &Settings,
    mode: Mode,
    stopped: &(dyn Fn() -> bool + Sync),
    news: &(dyn Fn(News<'_>) + Sync),
) -> Vec<Reached> {
    let count = settings.fanout.clamp(1, 4096).min(jobs.len());
    let shared = Shared {
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        working: Mutex::default(),
        results: Mutex::new(jobs.iter().map(|_| None).collect()),
        workers: AtomicUsize::new(count),
        pool: Pool::of(count),
        known_hosts: known(jobs),
    };
    std::thread::scope(|scope| {
        let mut started = 0;
        for _ in 0..count {
            let worker = || {
                work(jobs, settings, mode, &shared, news);
                shared.workers.fetch_sub(1, Ordering::SeqCst);
            };
            match std::thread::Builder::new().stack_size(1 << 20).spawn_scoped(scope, worker) {
                Ok(_) => started += 1,
                Err(_) => drop(shared.workers.fetch_sub(1, Ordering::SeqCst)),
            }
        }
        // Without a single thread the work is done here.
        if started == 0 {
            work(jobs, settings, mode, &shared, news);
        }
        watch(jobs, &shared, stopped, news);
    });
    let results = shared.results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let untried = || Reached { answer: Answer::default(), took: Duration::ZERO, tried: false };
    results.into_iter().map(|result| result.unwrap_or_else(untried)).collect()
}

/// Takes one node after the other.
fn work(jobs: &[Job], settings: &Settings, mode: Mode, shared: &Shared, news: &(dyn Fn(News<'_>) + Sync)) {
    loop {
        let index = shared.next.fetch_add(1, Ordering::SeqCst);
        let Some(job) = jobs.get(index).filter(|_| !shared.stop.load(Ordering::SeqCst)) else { return };
        let began = Instant::now();
        let mut answer = Answer::default();
        if job.has_work() {
            answer.problem = one(job, index, settings, mode, shared, &mut answer).err();
        }
        let reached = Reached { answer, took: began.elapsed(), tried: true };
        news(News::Done(job, &reached));
        if let Ok(mut results) = shared.results.lock() {
            results[index] = Some(reached);
        }
    }
}

fn one(
    job: &Job,
    index: usize,
    settings: &Settings,
    mode: Mode,
    shared: &Shared,
    answer: &mut Answer,
) -> Result<(), String> {
    let way = Way {
        ssh: &settings.ssh,
        connect: settings.connect.as_secs().max(1),
        // The node's own end comes after ours.
        seconds: settings.timeout.as_secs() + 10,
        known_hosts: shared.known_hosts.as_ref().map_err(String::clone)?.as_ref().map(NamedTempFile::path),
    };
    let mut connection = Connection::start(&job.node, job.address, &way, shared.pool.purse())?;
    let process = i32::try_from(connection.id()).ok().and_then(Pid::from_raw);
    let until = Instant::now() + settings.timeout;
    if let (Some(process), Ok(mut working)) = (process, shared.working.lock()) {
        working.insert(index, Working { process, until, is_late: false, is_asked_to_end: None });
    }
    let mut outcome = bring(&mut connection, job, mode, until, answer).map_err(|problem| last_of(problem.as_bytes()));
    if let Err(problem) = connection.keep(answer.surplus()) {
        *answer = Answer::default();
        outcome = outcome.and(Err(problem));
    }
    connection.wait_at_most(GRACE);
    // It is no one's process any longer once it was waited for.
    let entry = shared.working.lock().ok().and_then(|mut working| {
        if let Some(process) = process.filter(|_| !connection.has_ended()) {
            let _ = kill_process_group(process, Signal::KILL);
        }
        working.remove(&index)
    });
    connection.wait();
    match outcome {
        Err(_) if entry.as_ref().is_some_and(|entry| entry.is_late) => {
            Err(format!("not done after {} s", settings.timeout.as_secs()))
        }
        Err(_) if shared.stop.load(Ordering::SeqCst) => Err("interrupted".to_owned()),
        outcome => outcome,
    }
}

/// Ends what is late, and all when someone asks to stop.
fn watch(jobs: &[Job], shared: &Shared, stopped: &(dyn Fn() -> bool + Sync), news: &(dyn Fn(News<'_>) + Sync)) {
    while shared.workers.load(Ordering::SeqCst) > 0 {
        std::thread::sleep(TICK);
        let stop = stopped();
        if stop {
            shared.stop.store(true, Ordering::SeqCst);
        }
        let mut names = Vec::new();
        let now = Instant::now();
        if let Ok(mut working) = shared.working.lock() {
            for (index, one) in working.iter_mut() {
                names.extend(jobs.get(*index).map(|job| job.node.as_str()));
                let is_late = now >= one.until;
                if !(is_late || stop) {
                    continue;
                }
                one.is_late |= is_late && !stop;
                let signal = match one.is_asked_to_end {
                    None => Signal::TERM,
                    Some(since) if now.duration_since(since) >= GRACE => Signal::KILL,
                    Some(_) => continue,
                };
                one.is_asked_to_end.get_or_insert(now);
                let _ = kill_process_group(one.process, signal);
            }
        }
        let done = shared.results.lock().map_or(0, |results| results.iter().filter(|result| result.is_some()).count());
        news(News::Working(done, names));
    }
}
