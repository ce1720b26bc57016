//! The inside: enters the namespaces while still single-threaded, then answers one operation.

use std::io::{BufRead, BufReader, Read, Write};

use super::tree::overlay::{Assembly, set_assembly};
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use base::failure::{self, Failure, not_started};

pub const ARGUMENT: &str = "__sandbox";

/// Descriptor of the channel to the host process; the standard ones may be a terminal.
pub const CHANNEL: i32 = 3;

/// Name of the machine as the inside sees it, the same on every host (D3).
pub const HOST_NAME: &str = "imgbuild";

/// `KEYCTL_JOIN_SESSION_KEYRING`. Source: keyctl(2), linux/keyctl.h.
const JOIN_SESSION_KEYRING: libc::c_long = 1;

/// What the helper says, one JSON value a line.
#[derive(Debug, Serialize, Deserialize)]
pub enum Message {
    /// The user namespace exists; its map may be written now.
    Unshared,
    /// No user namespace could be made.
    NoNamespace(String),
    /// The kernel takes no emulator of the images' CPU.
    NoEmulator(String),
    Progress(String),
    /// What the operations after this one may know; see [`Legacy`].
    Leaves(Vec<String>),
    Done(serde_json::Value),
    /// What went wrong, for the person to read.
    Failed(Failed),
}

/// What went wrong: for the person to read, and for what decides what comes of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Failed {
    pub message: String,
    pub failure: Option<Failure>,
}

impl From<String> for Failed {
    fn from(message: String) -> Self {
        Self { failure: Failure::of(&message), message }
    }
}

/// One operation: takes the request, may report progress, gives the answer or a text that says what failed.
pub type Operation = fn(serde_json::Value, &mut dyn FnMut(&str)) -> Result<serde_json::Value, String>;

/// What the operations of one [`Namespace`](super::Namespace) leave for those after them, each a process of its own: words that
/// mean something to them alone.
#[derive(Debug, Clone, Copy)]
pub struct Legacy {
    /// Takes what those before left.
    pub take: fn(Vec<String>),
    /// Gives all that is known now.
    pub leave: fn() -> Vec<String>,
}

/// What an operation is asked, as it is written.
#[derive(Serialize)]
pub(super) struct Asking<'a, Q> {
    pub left: Vec<String>,
    pub request: &'a Q,
}

/// The same, as it is read.
#[derive(Deserialize)]
struct Asked {
    left: Vec<String>,
    request: serde_json::Value,
}

/// Takes lines for the person who waits.
pub type News<'a> = &'a mut dyn FnMut(&str);

pub fn answer<Q: for<'de> Deserialize<'de>, A: Serialize>(
    request: serde_json::Value,
    news: News<'_>,
    operation: fn(Q, News<'_>) -> Result<A, String>,
) -> Result<serde_json::Value, String> {
    let request = serde_json::from_value(request).map_err(|error| error.to_string())?;
    let value = operation(request, news)?;
    serde_json::to_value(value).map_err(|error| error.to_string())
}

fn say(message: &Message) {
    let mut line = serde_json::to_string(message).unwrap_or_default();
    line.push('\n');
    // A parent that is gone needs no answer.
    let _ = channel().write_all(line.as_bytes());
}

/// The channel; dropping it does not close it.
fn channel() -> std::mem::ManuallyDrop<std::fs::File> {
    use std::os::fd::FromRawFd;
    // SAFETY: the host process passes this descriptor open, nothing here closes it, and the wrapper never does.
    std::mem::ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(CHANNEL) })
}

/// Runs the helper: arguments are the operation's name, the parent's pid, whether there is a
/// terminal, and how trees are assembled. Returns the exit status.
pub fn run(operations: &[(&str, Operation)], legacy: Legacy, arguments: &[String]) -> u8 {
    // What notes it is opened while it is in sight.
    fault::planted("");
    let (Some(name), Some(parent)) = (arguments.first(), arguments.get(1).and_then(|text| text.parse::<i32>().ok()))
    else {
        return 64;
    };
    let Some((_, operation)) = operations.iter().find(|(known, _)| known == name) else {
        say(&Message::Failed(format!("unknown operation `{name}`").into()));
        return 64;
    };
    if let Some(assembly) = arguments.get(3).and_then(|name| Assembly::named(name)) {
        set_assembly(assembly);
    }
    let on_terminal = arguments.get(2).map(String::as_str) == Some("terminal");
    die_with_parent();
    if rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(parent) {
        return 1;
    }
    if let Err(message) = enter(on_terminal) {
        say(&message);
        return 1;
    }
    // SAFETY: this process has had one thread only since it started; the child may do anything.
    match unsafe { libc::fork() } {
        -1 => {
            let error = not_started(std::io::Error::last_os_error());
            say(&Message::Failed(format!("cannot fork: {error}").into()));
            1
        }
        0 => {
            die_with_parent();
            work(*operation, legacy)
        }
        child => wait_for(child),
    }
}

/// Asks the kernel to kill this process when its parent dies; changing ids clears it, so it is set again after.
fn die_with_parent() {
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
}

fn enter(on_terminal: bool) -> Result<(), Message> {
    let failed = |intent: &str, error: rustix::io::Errno| Message::Failed(format!("cannot {intent}: {error}").into());
    if on_terminal {
        // Ctrl-C is for the command in front.
        // SAFETY: ignoring a signal runs no code of ours.
        unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
    } else {
        let _ = rustix::process::setsid();
    }
    // SAFETY: single-threaded, and no file descriptor table or memory is unshared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER) }
        .map_err(|error| Message::NoNamespace(error.to_string()))?;
    say(&Message::Unshared);
    let mut go = [0u8; 1];
    read_exactly(&mut go).map_err(|_| Message::Failed("the host process gave up".to_owned().into()))?;
    // SAFETY: plain system calls on a single-threaded process; raw calls, because libc's wrappers signal threads.
    unsafe {
        libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>());
        if libc::syscall(libc::SYS_setresgid, 0, 0, 0) != 0 || libc::syscall(libc::SYS_setresuid, 0, 0, 0) != 0 {
            return Err(Message::NoNamespace(std::io::Error::last_os_error().to_string()));
        }
    }
    // Keyrings are in no namespace: anyone who inherits a session keyring may read its keys. A new one is empty; where
    // the call is refused, keys cannot be searched either.
    // SAFETY: a plain system call; a null name asks for an anonymous keyring.
    unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
    die_with_parent();
    // Process 1 keeps the host's mount tree in sight: nothing inside may look through its /proc entries. Changing ids
    // does this for root; an ordinary user's own id stays the same.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // SAFETY: single-threaded; see above.
    unsafe {
        rustix::thread::unshare_unsafe(
            UnshareFlags::NEWNS
                | UnshareFlags::NEWPID
                | UnshareFlags::NEWUTS
                | UnshareFlags::NEWIPC
                | if fault::planted("network-inside") { UnshareFlags::empty() } else { UnshareFlags::NEWNET },
        )
    }
    .map_err(|error| failed("create namespaces", error))?;
    rustix::mount::mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .map_err(|error| failed("make mounts private", error))?;
    if let Some(emulator) = super::emulator::asked_for() {
        let mounted = super::emulator::register(&emulator).map_err(Message::NoEmulator)?;
        // For as long as this process and its children live.
        std::mem::forget(mounted);
    }
    rustix::system::sethostname(HOST_NAME.as_bytes()).map_err(|error| failed("set the host name", error))?;
    // Its name for NIS is the host's otherwise.
    rustix::system::setdomainname(b"(none)").map_err(|error| failed("set the domain name", error))?;
    // Without it a script that needs it says so itself.
    let _ = bring_loopback_up();
    Ok(())
}

/// Brings up the loopback interface, the only one there is: programs of package scripts (postfix) want an address that is their
/// own, also where no network is.
fn bring_loopback_up() -> rustix::io::Result<()> {
    use rustix::net::{AddressFamily, SendFlags, SocketType, netlink::SocketAddrNetlink};
    /// Length, RTM_NEWLINK, NLM_F_REQUEST, number, sender: rtnetlink(7).
    const HEAD: [u32; 4] =
        if cfg!(target_endian = "little") { [32, 16 | 1 << 16, 1, 0] } else { [32, 16 << 16 | 1, 1, 0] };
    /// Family and type, index (loopback is the first), flags and their mask: IFF_UP.
    const LINK: [u32; 4] = [0, 1, 1, 1];
    let message: Vec<u8> = HEAD.iter().chain(&LINK).flat_map(|word| word.to_ne_bytes()).collect();
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    rustix::net::sendto(&socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0)).map(drop)
}

/// What is said of a panic, and the exit status.
fn panicked(text: &str) -> i32 {
    let is_start = Failure::of_panic(text).is_some();
    let failure = Failure::of_panic(text).or_else(|| Failure::of(text));
    let message = match failure {
        Some(_) if is_start && !text.contains(failure::NOT_STARTED) => format!("{}: {text}", failure::NOT_STARTED),
        Some(_) => text.to_owned(),
        None => format!("bug in imgbuild, please report it: {text}"),
    };
    say(&Message::Failed(Failed { message, failure }));
    1
}

/// Reads from the channel without a buffer: the rest belongs to the forked child.
fn read_exactly(buffer: &mut [u8]) -> std::io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        let read = channel().read(&mut buffer[filled..])?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        filled += read;
    }
    Ok(())
}

fn wait_for(child: i32) -> u8 {
    let mut status = 0;
    loop {
        // SAFETY: `status` outlives the call.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        if waited == child {
            break;
        }
        if waited < 0 && std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
            return 1;
        }
    }
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) as u8 } else { 1 }
}

/// Process 1 of the new pid namespace: does the work and answers.
fn work(operation: Operation, legacy: Legacy) -> u8 {
    // A fresh /proc for the new pid namespace; where the host's is partly hidden (some containers) the old one stays.
    let _ = rustix::mount::mount(
        "proc",
        "/proc",
        "proc",
        MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        None,
    );
    let mut line = String::new();
    let channel = channel();
    let mut input = BufReader::new(&*channel);
    if input.by_ref().take(256 << 20).read_line(&mut line).is_err() {
        return 1;
    }
    fault::point("helper.before");
    // From here on there may be threads, and no one waits for one that is gone.
    failure::end_at_panics(panicked);
    let outcome = failure::start_pool(None)
        .map_err(|error| error.to_string())
        .and_then(|()| serde_json::from_str(&line).map_err(|error| format!("the request cannot be read: {error}")))
        .and_then(|asked: Asked| {
            (legacy.take)(asked.left);
            operation(asked.request, &mut |text| say(&Message::Progress(text.to_owned())))
        });
    fault::point("helper.after");
    match outcome {
        Ok(value) => {
            say(&Message::Leaves((legacy.leave)()));
            say(&Message::Done(value));
            0
        }
        Err(message) => {
            say(&Message::Failed(message.into()));
            1
        }
    }
}
