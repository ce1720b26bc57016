//! What is said to the machine that builds, and what it answers.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout};
use std::time::Duration;

use super::{Order, There};
use crate::Exit;
use crate::output::render;
use base::digest::Digest;
use build::{KeptLog, give, init_for};
use cache::Cache;
use remote::away::host::last_line;
use remote::away::parcel::{FILES, add, take_back};
use remote::away::{AwayError, Failed, Gathered, Line, Manifest, Reply};
use sandbox::emulator::HostCpu;
use sandbox::interrupt;

/// So much of a log is kept, its end, in bytes.
const LONGEST_LOG: usize = 8 << 20;
/// Longest pause between two tries, in seconds.
const LONGEST_PAUSE: u64 = 15;
/// How long it is tried in all, in seconds.
const LONGEST_TRYING: u64 = 300;

impl Order<'_> {
    fn talk<T>(
        &self,
        command: &str,
        with: impl FnOnce(ChildStdin, BufReader<ChildStdout>) -> Result<T, String>,
    ) -> Result<T, Failed> {
        let ssh = std::env::var("IMGBUILD_SSH").unwrap_or_default();
        let mut words: Vec<String> = ssh.split_whitespace().map(str::to_owned).collect();
        if words.is_empty() {
            words.push("ssh".to_owned());
        }
        self.host.talk(&words, command, &interrupt::came, with)
    }

    fn refused(&self, failed: Failed, there: Option<&There>) -> Exit {
        let (host, login) = (self.shown(), self.host.login().to_owned());
        match failed {
            Failed::Stopped => self.stopped(there),
            Failed::NoSsh(problem) => {
                let ssh = std::env::var("IMGBUILD_SSH").ok();
                let program = ssh.as_deref().and_then(|words| words.split_whitespace().next()).unwrap_or("ssh");
                self.failed(AwayError::NoSsh { program: program.to_owned(), problem })
            }
            Failed::Connection(problem) if there.is_some() => {
                self.is_lost.set(true);
                self.failed(AwayError::Lost { host, problem })
            }
            Failed::Connection(problem) => self.failed(AwayError::Unreachable { host, login, problem }),
            Failed::Command(code, said) => {
                let problem = last_line(&said, &format!("the command ended with {code}"));
                self.failed(match there {
                    Some(_) => AwayError::Failed { host, problem },
                    None => AwayError::Unusable { host, problem },
                })
            }
            Failed::Unclear(problem) => self.failed(AwayError::Failed { host, problem }),
        }
    }

    /// Finds out what the machine is, and has a program there.
    pub(super) fn greet(&self, root: &Path) -> Result<(There, String), Exit> {
        let own = std::env::current_exe().ok().and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
        let names: Vec<&str> = self.builders.iter().map(|builder| builder.recipe.model.image.name.as_str()).collect();
        let machine_id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
        let whose = format!("{machine_id}{}{}{}", rustix::process::getuid().as_raw(), root.display(), names.join(" "));
        let place = match &self.host.directory {
            Some(directory) => format!("d='{directory}'"),
            None => {
                format!(r#"d="${{XDG_CACHE_HOME:-$HOME/.cache}}/imgbuild-on/{}""#, Digest::of(whose.as_bytes()).short())
            }
        };
        let greet = |program: &str| {
            let script = format!(
                "umask 077\n{place}\nmkdir -p -- \"$d\" && cd -- \"$d\" || exit 9\nn=no\n[ -x {program} ] && n=yes\necho \"imgbuild-on $(uname -s) $(uname -m) $n $(pwd -P)\"\n"
            );
            self.talk("sh -s", |mut input, output| {
                let _ = input.write_all(script.as_bytes());
                drop(input);
                let lines = output.lines().map_while(Result::ok);
                let found =
                    lines.filter_map(|line| line.split_once("imgbuild-on ").map(|(_, rest)| rest.to_owned())).next();
                found.ok_or_else(|| "a shell there does not answer".to_owned())
            })
        };
        let mut program = name_of(&own);
        let mut answer = greet(&program).map_err(|failed| self.refused(failed, None))?;
        let machine = answer.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut bytes = own;
        if machine != HostCpu::here().machine() {
            bytes = self.program_for(&machine)?;
            program = name_of(&bytes);
            answer = greet(&program).map_err(|failed| self.refused(failed, None))?;
        }
        let words: Vec<&str> = answer.splitn(4, ' ').collect();
        let plain = |text: &str| text.bytes().all(|one| one.is_ascii_alphanumeric() || b"/._-+".contains(&one));
        let unusable = |problem: String| self.failed(AwayError::Unusable { host: self.shown(), problem });
        let [system, _, has, directory] = words.as_slice() else { return Err(unusable(format!("it says `{answer}`"))) };
        if *system != "Linux" {
            return Err(unusable(format!("it is {system}")));
        }
        if !plain(directory) {
            return Err(unusable(format!("its directory `{directory}` has other letters than a-z A-Z 0-9 / . _ - +")));
        }
        let there = There { directory: (*directory).to_owned(), program: format!("{directory}/{program}") };
        if *has == "no" {
            self.say(&format!("sending imgbuild to {} ({})", self.host.shown, render::bytes(bytes.len() as u64)));
            // Under a name of its own, and compared: what a broken connection leaves is no program.
            let size = bytes.len();
            let command = format!(
                "sh -c 'cd {directory} && cat >.program-$$ && test $(wc -c <.program-$$) -eq {size} && chmod 700 .program-$$ && mv .program-$$ {program}'"
            );
            let send = |mut input: ChildStdin, _| input.write_all(&bytes).map_err(|error| error.to_string());
            self.talk(&command, send).map_err(|failed| self.refused(failed, None))?;
        }
        Ok((there, machine))
    }

    fn program_for(&self, machine: &str) -> Result<Vec<u8>, Exit> {
        let variable = format!("IMGBUILD_PROGRAM_{}", machine.to_uppercase());
        let beside = std::env::current_exe().ok().map(|path| path.with_file_name(format!("imgbuild-{machine}")));
        let named = std::env::var_os(&variable).map(PathBuf::from);
        let problem = match named.clone().or(beside).map(|path| (std::fs::read(&path), path)) {
            Some((Ok(bytes), _)) if bytes.starts_with(b"\x7fELF") => return Ok(bytes),
            Some((Ok(_), path)) => format!("`{}` is no program", path.display()),
            Some((Err(error), path)) if named.is_some() => format!("`{}` cannot be read: {error}", path.display()),
            _ => String::new(),
        };
        let (host, machine) = (self.shown(), machine.to_owned());
        Err(self.failed(AwayError::NoProgram { host, machine, variable, problem }))
    }

    pub(super) fn send_and_follow(
        &self,
        there: &There,
        manifest: &Manifest,
        gathered: &Gathered,
        root: &Path,
    ) -> Result<u8, Exit> {
        self.trying(there, || self.send(there, manifest, gathered))?;
        let mut from = 0;
        self.trying(there, || self.follow(there, &mut from, root))
    }

    /// Tries again where a connection broke.
    fn trying<T>(&self, there: &There, mut once: impl FnMut() -> Result<T, Failed>) -> Result<T, Exit> {
        let mut pause = 1;
        let mut waited = 0;
        loop {
            match once() {
                Err(Failed::Connection(problem)) if waited < self.own.on_patience.min(LONGEST_TRYING) => {
                    self.say(&format!("the connection to {} is lost ({problem}); trying again", self.host.shown));
                    for _ in 0..pause * 10 {
                        if interrupt::came() {
                            return Err(self.stopped(Some(there)));
                        }
                        std::thread::sleep(Duration::from_millis(100));
                    }
                    waited += pause;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Ok(value) => return Ok(value),
                Err(failed) => return Err(self.refused(failed, Some(there))),
            }
        }
    }

    fn send(&self, there: &There, manifest: &Manifest, gathered: &Gathered) -> Result<(), Failed> {
        let text = manifest.text().map_err(Failed::Unclear)?;
        let command = format!("{} away receive {}", there.program, there.directory);
        self.talk(&command, |mut input, mut output| {
            input.write_all(format!("{text}\n").as_bytes()).map_err(|error| error.to_string())?;
            let reply: Reply = read_answer(&mut output)?;
            if reply.is_busy {
                self.is_busy.set(true);
                return Err(format!(
                    "another build is at work in {}: name another directory in the address, or wait until it has ended",
                    there.directory
                ));
            }
            if reply.is_running {
                self.say(&format!("{} is at it already", self.host.shown));
                return Ok(());
            }
            // Nothing else of this store is given away, whatever is asked for.
            let asked = reply.keys.intersection(&manifest.needed).copied().collect();
            let results = self.saved(&asked)?;
            let mut stream = tar::Builder::new(&mut input);
            let init = self.builders.first().and_then(|builder| init_for(builder.recipe.model.image.arch).ok());
            let (mut bytes, mut count) = (0, 0);
            for digest in &reply.contents {
                let name = Path::new(FILES).join(digest.to_string());
                let sent = match (gathered.files.get(digest), init) {
                    (Some(path), _) => {
                        add(&mut stream, &name, path).map(|()| path.metadata().map_or(0, |one| one.len()))
                    }
                    (None, Some(init)) => {
                        let mut header = tar::Header::new_gnu();
                        header.set_size(init.len() as u64);
                        header.set_mode(0o600);
                        stream.append_data(&mut header, &name, init).map(|()| init.len() as u64)
                    }
                    (None, None) => Ok(0),
                };
                bytes += sent.map_err(|error| format!("what a recipe names cannot be sent: {error}"))?;
                count += 1;
            }
            for file in results.iter().flat_map(|results| walkdir::WalkDir::new(results.path())).flatten() {
                let name = file.path().strip_prefix(results.as_ref().map_or(Path::new(""), |one| one.path()));
                if file.file_type().is_file()
                    && let Ok(name) = name
                {
                    let name = Path::new("in").join(name);
                    add(&mut stream, &name, file.path()).map_err(|error| format!("results cannot be sent: {error}"))?;
                    bytes += file.metadata().map_or(0, |one| one.len());
                    count += 1;
                }
            }
            self.say(&format!("sent {count} files to {} ({})", self.host.shown, render::bytes(bytes)));
            stream.finish().and_then(|()| stream.get_mut().flush()).map_err(|error| error.to_string())?;
            drop(stream);
            drop(input);
            read_answer::<Reply>(&mut output).map(drop)
        })
    }

    /// Results of keys, as a cache.
    fn saved(&self, keys: &BTreeSet<Digest>) -> Result<Option<tempfile::TempDir>, String> {
        if keys.is_empty() {
            return Ok(None);
        }
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let aside = self.setup.store.aside_directory().map_err(|error| said(&error))?;
        let directory = tempfile::tempdir_in(aside).map_err(|error| said(&error))?;
        let cache = Cache::of_directory(directory.path()).map_err(|error| said(&error))?;
        if let Some(builder) = self.builders.first() {
            give(builder, &cache, keys.iter().copied()).map_err(|error| said(&error))?;
        }
        Ok(Some(directory))
    }

    fn follow(&self, there: &There, from: &mut u64, root: &Path) -> Result<u8, Failed> {
        let command = format!("{} away follow {} {from}", there.program, there.directory);
        let logs = self.setup.store.directory().join("logs").display().to_string();
        let places = [
            (format!("{}/store/v1/logs", there.directory), logs),
            (format!("{}/ws", there.directory), root.display().to_string()),
            (format!("{}/abs/", there.directory), "/".to_owned()),
        ];
        // The input is held open: who follows lives as long.
        self.talk(&command, |_input, mut output| {
            loop {
                match read_answer(&mut output)? {
                    Line::Said(next, line) => {
                        *from = next;
                        let line = places.iter().fold(line, |line, (there, here)| line.replace(there, here));
                        if !line.starts_with(r#"{"event":"summary""#) {
                            self.reporter.pause(|| render::say(&line));
                        }
                    }
                    Line::Ended(code) => return Ok(code),
                    Line::Still => {}
                    Line::Gone => {
                        return Err("the build is gone there: was it removed, or was the machine restarted?".to_owned());
                    }
                }
            }
        })
    }

    pub(super) fn bring(&self, there: &There, locks: &[Option<String>]) -> Result<tempfile::TempDir, Exit> {
        let unkept = |problem: String| self.failed(AwayError::Failed { host: self.shown(), problem });
        let aside = self.setup.store.aside_directory().map_err(|error| unkept(error.to_string()))?;
        let directory = tempfile::tempdir_in(aside).map_err(|error| unkept(error.to_string()))?;
        let took = self.trying(there, || {
            let command = format!("{} away results {}", there.program, there.directory);
            let files = walkdir::WalkDir::new(directory.path()).into_iter().flatten();
            let files = files.filter(|file| file.file_type().is_file());
            let had: BTreeSet<PathBuf> =
                files.filter_map(|file| Some(file.path().strip_prefix(directory.path()).ok()?.to_owned())).collect();
            self.talk(&command, |mut input, output| {
                let text = serde_json::to_string(&had).map_err(|error| error.to_string())?;
                input.write_all(format!("{text}\n").as_bytes()).map_err(|error| error.to_string())?;
                take_back(directory.path(), output)
            })
        })?;
        if took.bytes > 0 {
            self.say(&format!("brought {} from {}", render::bytes(took.bytes), self.host.shown));
        }
        for (name, bytes) in took.logs {
            let at = bytes.len().saturating_sub(LONGEST_LOG);
            let text = String::from_utf8_lossy(bytes.get(at..).unwrap_or_default()).into_owned();
            // Without it the message still has the last lines.
            let _ = self.setup.namespace.call::<_, ()>("keep-log", &KeptLog { name, text }, &mut |_| {});
        }
        for (at, text) in took.locks {
            let (Some(builder), Some(before)) = (self.builders.get(at), locks.get(at)) else { continue };
            self.keep_lock(builder.recipe, before.as_deref(), &text)?;
        }
        Ok(directory)
    }

    /// Ends what runs there, and removes it; what a directory that was named keeps is used next time.
    pub(super) fn leave(&self, there: &There) {
        self.end(there, if self.host.directory.is_some() { "leave" } else { "end" });
    }

    /// Ends what runs there, before more is asked of it: its store stays.
    pub(super) fn pause(&self, there: &There) {
        self.end(there, "leave");
    }

    fn end(&self, there: &There, verb: &str) {
        let command = format!("{} away {verb} {}", there.program, there.directory);
        let ssh = std::env::var("IMGBUILD_SSH").unwrap_or_else(|_| "ssh".to_owned());
        let words: Vec<String> = ssh.split_whitespace().map(str::to_owned).collect();
        let read = |_, mut output: BufReader<ChildStdout>| {
            let mut text = String::new();
            output.read_to_string(&mut text).map_err(|error| error.to_string())
        };
        if let Err(failed) = self.host.talk(&words, &command, &|| false, read) {
            let problem = match failed {
                Failed::Connection(problem) | Failed::Command(_, problem) | Failed::Unclear(problem) => problem,
                Failed::Stopped | Failed::NoSsh(_) => String::new(),
            };
            let problem = last_line(&problem, "it did not answer");
            self.reporter.pause(|| {
                render::say(&format!("warning: `{}` stays on {}: {problem}", there.directory, self.host.shown));
            });
        }
    }
}

fn name_of(program: &[u8]) -> String {
    format!("imgbuild-{}", Digest::of(program).short())
}

fn read_answer<T: serde::de::DeserializeOwned>(output: &mut impl BufRead) -> Result<T, String> {
    let mut line = String::new();
    output.read_line(&mut line).map_err(|error| error.to_string())?;
    if line.is_empty() {
        return Err("it ended before it answered".to_owned());
    }
    serde_json::from_str(&line).map_err(|_| format!("its answer cannot be understood: {}", line.trim_end()))
}
