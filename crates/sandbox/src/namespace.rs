//! The host's side: starts the helper, writes its id map, sends one request and takes the answer.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ScriptLimits;
use super::emulator::{self, Emulation, Emulator};
use super::helper::{Asking, Message};
use super::memory::OUT_OF_MEMORY_STATUS;
use super::{Assembly, IdMap, SandboxError, Substitute};

/// A place to run operations in: the store's directory and the id map that goes with it.
#[derive(Debug, Clone)]
pub struct Namespace {
    directory: PathBuf,
    map: IdMap,
    assembly: Assembly,
    substitute: Option<Substitute>,
    /// How long a command inside may take.
    limit: Option<ScriptLimits>,
    /// What operations left for those after them.
    left: Arc<Mutex<BTreeSet<String>>>,
    /// What runs programs of another CPU.
    emulation: Option<Emulation>,
}

impl Namespace {
    /// Makes a namespace whose operations see `directory` as their working directory.
    pub fn new(directory: impl Into<PathBuf>, map: IdMap) -> Self {
        Self {
            directory: directory.into(),
            map,
            assembly: Assembly::default(),
            substitute: None,
            limit: None,
            left: Arc::default(),
            emulation: None,
        }
    }

    /// The same with another way to assemble trees.
    pub fn assembling(self, assembly: Assembly) -> Self {
        Self { assembly, ..self }
    }

    /// The same, with commands that may take so much.
    pub fn limiting(self, limit: ScriptLimits) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// The same, with a command on the caller's terminal in place of each operation's own: see [`Substitute`].
    pub fn with_substitute(&self, substitute: Substitute) -> Self {
        Self { substitute: Some(substitute), ..self.clone() }
    }

    pub fn in_directory(&self, directory: impl Into<PathBuf>) -> Self {
        let emulation = self.emulation.as_ref().and_then(|emulation| Emulation::of(emulation.machine));
        Self { directory: directory.into(), left: Arc::default(), emulation, ..self.clone() }
    }

    /// The same for images of a machine, named as `uname -m` does. Where this host does not run its programs, operations need an
    /// emulator: [`Namespace::emulated_by`].
    pub fn for_machine(&self, machine: &'static str) -> Self {
        Self { emulation: Emulation::of(machine), ..self.clone() }
    }

    /// The machine whose programs an emulator would run, where none is known yet.
    pub fn lacks_emulator(&self) -> Option<&'static str> {
        self.emulation.as_ref().filter(|emulation| emulation.known().is_none()).map(|emulation| emulation.machine)
    }

    /// The machine whose programs are emulated.
    pub fn emulates(&self) -> Option<&'static str> {
        self.emulation.as_ref().map(|emulation| emulation.machine)
    }

    /// From now on this program runs programs of the images' machine; also for clones of this.
    pub fn emulated_by(&self, program: PathBuf) {
        if let Some(emulation) = &self.emulation {
            let emulator = Emulator { machine: emulation.machine.to_owned(), program };
            *emulation.emulator.lock().unwrap_or_else(PoisonError::into_inner) = Some(emulator);
        }
    }

    pub fn map(&self) -> &IdMap {
        &self.map
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Runs one operation inside and waits for its answer.
    ///
    /// `progress` receives the lines that the operation reports while it runs.
    /// Errors: [`SandboxError::Operation`] when the operation says that it failed, other variants when the sandbox itself
    /// could not be had.
    pub fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        operation: &str,
        request: &Q,
        progress: &mut dyn FnMut(&str),
    ) -> Result<A, SandboxError> {
        self.run(operation, request, progress, self.substitute.is_some())
    }

    /// Runs an operation whose command talks to the caller's terminal.
    /// Errors: As [`Namespace::call`].
    pub fn call_on_terminal<Q: Serialize, A: DeserializeOwned>(
        &self,
        operation: &str,
        request: &Q,
    ) -> Result<A, SandboxError> {
        self.run(operation, request, &mut |_| {}, true)
    }

    fn run<Q: Serialize, A: DeserializeOwned>(
        &self,
        operation: &str,
        request: &Q,
        progress: &mut dyn FnMut(&str),
        terminal: bool,
    ) -> Result<A, SandboxError> {
        let (mut child, channel) = self.start(operation, terminal)?;
        let answer = self.converse(&mut child, channel, operation, request, progress);
        if answer.is_err() {
            let _ = child.kill();
        }
        let _ = child.wait();
        answer
    }

    fn start(&self, operation: &str, terminal: bool) -> Result<(Child, UnixStream), SandboxError> {
        let failed = |source| SandboxError::io("start the sandbox helper", source);
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let mut command = Command::new(OsString::from("/proc/self/exe"));
        command
            .arg(super::helper::ARGUMENT)
            .arg(operation)
            .arg(std::process::id().to_string())
            .arg(if terminal { "terminal" } else { "quiet" })
            .arg(self.assembly.name())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("RAYON_NUM_THREADS", rayon::current_num_threads().to_string())
            .envs(fault::VARIABLES.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))))
            .envs(
                self.limit
                    .iter()
                    .map(|limit| (super::LIMIT_VARIABLE, serde_json::to_string(limit).unwrap_or_default())),
            )
            .envs(
                self.substitute
                    .iter()
                    .filter_map(|one| Some((super::substitute::VARIABLE, serde_json::to_string(one).ok()?))),
            )
            .envs(
                self.emulation
                    .iter()
                    .filter_map(Emulation::known)
                    .map(|emulator| (emulator::VARIABLE, serde_json::to_string(&emulator).unwrap_or_default())),
            )
            .envs(self.emulates().map(|machine| (emulator::MACHINE_VARIABLE, machine)))
            .current_dir(&self.directory)
            .stdin(if terminal { Stdio::inherit() } else { Stdio::null() })
            .stdout(if terminal { Stdio::inherit() } else { Stdio::null() })
            .stderr(if terminal { Stdio::inherit() } else { Stdio::piped() });
        let descriptor = theirs.as_raw_fd();
        // SAFETY: only system calls between fork and exec; `theirs` is open until after spawn.
        unsafe {
            command.pre_exec(move || {
                super::command::caller::make_room(terminal);
                let kept = if descriptor == super::helper::CHANNEL {
                    libc::fcntl(descriptor, libc::F_SETFD, 0)
                } else {
                    libc::dup2(descriptor, super::helper::CHANNEL)
                };
                if kept < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
            });
        }
        let child = command.spawn().map_err(|source| SandboxError::starting("the sandbox helper", source))?;
        Ok((child, ours))
    }

    fn converse<Q: Serialize, A: DeserializeOwned>(
        &self,
        child: &mut Child,
        mut channel: UnixStream,
        operation: &str,
        request: &Q,
        progress: &mut dyn FnMut(&str),
    ) -> Result<A, SandboxError> {
        let pid = child.id();
        let stderr = child.stderr.take();
        let complaints = std::thread::Builder::new().spawn(move || {
            let Some(mut stderr) = stderr else { return String::new() };
            let mut bytes = Vec::new();
            let _ = stderr.by_ref().take(64 * 1024).read_to_end(&mut bytes);
            let _ = std::io::copy(&mut stderr, &mut std::io::sink());
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let complaints = complaints.map_err(|source| SandboxError::starting("a thread", source))?;
        let left = || self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let asking = Asking { left: left().iter().cloned().collect(), request };
        let mut request =
            serde_json::to_vec(&asking).map_err(|source| SandboxError::io("write the request", source))?;
        request.push(b'\n');
        let reader = channel.try_clone().map_err(|source| SandboxError::io("talk to the sandbox helper", source))?;
        let mut lines = BufReader::new(reader).lines();
        while let Some(Ok(line)) = lines.next() {
            match serde_json::from_str(&line) {
                Ok(Message::Unshared) => {
                    self.write_map(pid)?;
                    channel.write_all(b"m").map_err(|source| SandboxError::io("wake the sandbox helper", source))?;
                    // A request is written from here only after the helper reads, and it reads all before it answers.
                    let _ = channel.write_all(&request).and_then(|()| channel.flush());
                }
                Ok(Message::Progress(text)) => progress(&text),
                Ok(Message::Leaves(words)) => left().extend(words),
                Ok(Message::NoNamespace(detail)) => return Err(SandboxError::NoUserNamespace { detail }),
                Ok(Message::NoEmulator(detail)) => {
                    let machine = self.emulates().unwrap_or_default().to_owned();
                    return Err(SandboxError::NoEmulator { machine, detail });
                }
                Ok(Message::Failed(failed)) => {
                    return Err(SandboxError::of_operation(operation, &self.directory, failed));
                }
                Ok(Message::Done(value)) => {
                    fault::asked(&self.directory, || {
                        serde_json::json!({
                            "operation": operation,
                            "request": serde_json::from_slice::<serde_json::Value>(&request).unwrap_or_default(),
                            "answer": value,
                            "assembly": self.assembly.name(),
                            "map": self.map,
                        })
                    });
                    return serde_json::from_value(value)
                        .map_err(|source| SandboxError::io(format!("read the answer to `{operation}`"), source));
                }
                Err(_) => continue,
            }
        }
        let _ = child.kill();
        let ended = child.wait();
        let said = complaints.join().unwrap_or_default();
        if ended.as_ref().is_ok_and(|status| status.code() == Some(OUT_OF_MEMORY_STATUS)) {
            return Err(SandboxError::OutOfMemory { operation: operation.to_owned(), detail: String::new() });
        }
        let status = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
        let detail = if said.trim().is_empty() { String::new() } else { format!(": {}", said.trim()) };
        Err(SandboxError::HelperDied { operation: operation.to_owned(), status, detail })
    }

    fn write_map(&self, pid: u32) -> Result<(), SandboxError> {
        if rustix::process::getuid().is_root() {
            for (file, map) in [("uid_map", &self.map.uids), ("gid_map", &self.map.gids)] {
                let text: String =
                    map.iter().map(|(inside, outside, count)| format!("{inside} {outside} {count}\n")).collect();
                std::fs::write(format!("/proc/{pid}/{file}"), text)
                    .map_err(|source| SandboxError::IdMap { program: file.to_owned(), detail: source.to_string() })?;
            }
            return Ok(());
        }
        for (program, map) in [("newuidmap", &self.map.uids), ("newgidmap", &self.map.gids)] {
            let mut command = Command::new(program);
            command.arg(pid.to_string());
            for (inside, outside, count) in map {
                command.args([inside.to_string(), outside.to_string(), count.to_string()]);
            }
            let refused = |detail: String| SandboxError::IdMap { program: program.to_owned(), detail };
            let output = command.output().map_err(|source| match source.kind() {
                std::io::ErrorKind::WouldBlock => SandboxError::starting(program, source),
                _ => refused(source.to_string()),
            })?;
            if !output.status.success() {
                return Err(refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
            }
        }
        Ok(())
    }
}
