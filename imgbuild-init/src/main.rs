//! imgbuild-init: the one program of an imgbuild initrd.
//!
//! Loads drivers, brings up the network, fetches the image's index and frames, checks each before it is used,
//! unpacks them into memory, hands over what it learned, and becomes the image's own init. It never gives up: a
//! server that comes up later than its nodes is the normal case after a power cut. It never starts an image that
//! is not whole.
//!
//! Parameters on the kernel's command line:
//!
//! | parameter | meaning |
//! |---|---|
//! | `imgurl=` | URL of the packed image; its index is at the same URL with `.index` behind it. Further ones behind commas, tried in turn |
//! | `imgdigest=sha256:` | digest of the index; without it the index is checked by the URL's `.sha256`, if there is one: for damage, not for identity |
//! | `imgbuild.report=` | URL to which this node reports how far it is: `booting`, `image`, `failed`; and by the image, `up` |
//! | `BOOTIF=` | MAC address of the interface to use, in the form of PXE loaders or with colons |
//! | `ifname=NIC:MAC`, `netdev=NIC` | the same for xCAT and dracut; `BOOTIF=` goes before |
//! | `NODE=` | the node's name, where the DHCP server gives none |
//! | `ip=` | `dhcp`, or `address::gateway:netmask:hostname:device:none:dns` |
//! | `rootlimit=` | size of the root file system in memory |
//! | `rootflags=` | further options of that tmpfs, for instance `mpol=interleave` |
//! | `selinux=0`, `enforcing=` | the kernel's: without SELinux no labels are set; whether the image's policy is enforced |
//! | `imgcache=` | a disk of the node that keeps frames: `/dev/NAME`, `LABEL=`, `UUID=`, `PARTLABEL=` |
//! | `imgbuild.image=cache` | a squashfs or erofs image lies on that disk, and not in memory |
//! | `imgbuild.root=lazy` | a squashfs or erofs image is read from its servers while the node runs, and kept as it comes; `lazy,keep=300M` keeps no more; `memory` |
//! | `imgbuild.writes=cache` | what the node writes beside such an image lies there too |
//! | `root=nfs:SERVER:/DIRECTORY` | the root comes over NFS, and no image is fetched |
//! | `imgbuild.statelite=sha256:` | digest of `statelite.json` beside the image: paths that are the node's own |
//! | `STATEMNT=`, `MNTOPTS=` | where what persists lies, and how it is mounted; they count more than the list |
//! | `statelite.localdisk=`, `statelite.NAME=` | the disk of what is `localdisk`; values of variables |
//! | `imgbuild.kdump=sha256:` | digest of `kdump.json` beside the image: the kernel that writes a dump when this one crashes |
//! | `imgbuild.dump=` | this is that kernel; the host that the image came from |
//! | `imgbuild.rescue` | print what is known and stop |
//! | `imgbuild.reboot_after=` | seconds without progress after which a node that has no image starts again; 0: never |
//!
//! In an initrd that dracut composed, dracut's init is the first process. Its mount hook runs `imgbuild-init mount
//! DIRECTORY`: all of the above, but the image is unpacked into that directory, and this program ends instead of
//! becoming the image's init. It ends only when the image is whole, and never with a failure: without an image it
//! starts the machine again, as ever. Called `reboot`, it starts the machine again at once.
//!
//! A node that reports has this program as `/run/imgbuild/init`: `soft-reboot IMAGE@BUILD [sha256:DIGEST]` has it go over to another build
//! without a new kernel ([`node::soft_reboot`]).
//!
//! In an image with `[node]` this program is `/usr/libexec/imgbuild/imgbuild-init`; units run it as `scripts postscripts` and `scripts postbootscripts`.

mod attempts;
mod cmdline;
mod crash;
mod image;
mod lazy;
mod modules;
mod network;
mod node;
mod rescue;
mod scripts;
#[expect(unsafe_code, reason = "mounts, sockets and module loading are system calls; each block says why it is sound")]
mod sys;

use std::io::Write;
use std::time::Duration;

use node_words::{kdump, name, network as words, statelite};

use cmdline::Parameters;
use image::download::Download;
use image::servers::Servers;
use image::{cache, fetch, index, packed, unpacked};
use network::dhcp;
use network::lease::Lease;
use node::{handover, report, selinux, soft_reboot, statelite as own_paths, switch};

/// Prints a line on the console, without what a terminal would obey: servers and files say what they like.
#[macro_export]
macro_rules! say {
    ($($part:tt)*) => { $crate::print(&format!($($part)*)) };
}

/// Prints a line; who reads it may be gone, as at the end of an ssh connection.
pub fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "imgbuild: {}", words_of(text));
}

/// A text as the console shows it: control characters are question marks.
pub fn words_of(text: &str) -> String {
    text.chars().map(|one| if one.is_control() && !matches!(one, '\n' | '\t') { '?' } else { one }).collect()
}

fn main() {
    let program = std::env::args().next().unwrap_or_default();
    if program.ends_with("modprobe") {
        // The kernel asks for a module: modprobe -q -- NAME.
        for name in std::env::args().skip(1).filter(|word| !word.starts_with('-')) {
            modules::Modules::read().load(&name);
        }
        return;
    }
    if program == "imgbuild-process-1" {
        // The process 1 of imgbuild's sandbox (crates/sandbox/src/command/process_one.rs).
        let number = |at| std::env::args().nth(at).and_then(|word| word.parse().ok());
        std::process::exit(number(1).zip(number(2)).map_or(1, |(child, ready)| sys::process_one(child, ready)));
    }
    if program.ends_with("reboot") {
        // For dracut's init, where the release's own program is not in the initrd.
        sys::reboot();
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, state, root @ ..] = words.as_slice()
        && word == "report"
        && state == "up"
        && std::process::id() != 1
    {
        let root = root.first().map_or("/", String::as_str);
        if let Err(problem) = report::from_the_image(root.as_ref()) {
            say!("the server did not get that this node is up: {problem}");
            std::process::exit(1);
        }
        return;
    }
    if let [word, phase, root @ ..] = words.as_slice()
        && word == "scripts"
        && std::process::id() != 1
    {
        let root = root.first().map_or("/", String::as_str);
        std::process::exit(scripts::run(phase, root.as_ref()));
    }
    if let [word, target @ ..] = words.as_slice()
        && word == "soft-reboot"
        && std::process::id() != 1
    {
        std::process::exit(soft_reboot::run(target));
    }
    if words == [lazy::COMMAND] && std::process::id() != 1 {
        std::process::exit(lazy::run());
    }
    if let [word, index, image, directory] = words.as_slice()
        && word == "unpack"
        && std::process::id() != 1
    {
        if let Err(problem) = image::local::unpack(index.as_ref(), image.as_ref(), directory) {
            say!("{problem}");
            std::process::exit(1);
        }
        return;
    }
    let part = match words.as_slice() {
        _ if std::process::id() == 1 => Part::Init,
        [word, directory] if word == "mount" && directory.starts_with('/') => {
            outlive_the_initrd();
            image::make_root_at(directory);
            Part::Mount
        }
        _ => {
            say!("this program is an initrd's init, or runs there as `mount DIRECTORY`; it does nothing elsewhere");
            std::process::exit(1);
        }
    };
    if part == Part::Init {
        sys::mount_kernel_trees();
    }
    end_in_a_restart();
    let parameters = Parameters::read();
    for sentence in &parameters.unread {
        say!("{sentence}");
    }
    if part == Part::Init && parameters.dump.is_some() {
        crash::run(&parameters);
    }
    if parameters.rescue {
        let mut found = attempts::Found::default();
        let _ = attempts::one(&mut found, None, |tell| {
            let modules = modules::Modules::read();
            modules.load_for_devices();
            let (lease, problems) = match network::bring_up(&parameters, &modules) {
                Ok(lease) => (Some(lease), Vec::new()),
                Err(problem) => (None, vec![problem]),
            };
            rescue::show(&parameters, lease.as_ref(), &problems);
            tell(&attempts::Message::Ended(Ok(None)));
        });
        sys::stop_here();
    }
    let patience = (parameters.reboot_after > 0).then(|| Duration::from_secs(parameters.reboot_after));
    let mut pause = Pause::new();
    let mut errors: Vec<String> = Vec::new();
    let mut found = attempts::Found::default();
    loop {
        let outcome = attempts::one(&mut found, patience, |tell| {
            std::thread::spawn(sys::ask_for_randomness);
            let servers = Servers::of(&parameters);
            let outcome = attempt(&parameters, &servers, part, errors.is_empty(), tell);
            if let Err(problem) = &outcome {
                report::tell(&servers.reports(), report::State::Failed, Some(problem));
            }
            tell(&attempts::Message::Ended(outcome));
        });
        let problem = match outcome {
            Ok(_) if part == Part::Mount => return,
            Ok(mode) => become_the_image(&parameters, mode, &found),
            Err(problem) => problem,
        };
        say!("{problem}");
        if errors.last() != Some(&problem) {
            errors.push(problem);
        }
        if patience.is_some_and(|patience| found.since.elapsed() > patience) && !fault::planted("node-no-restart") {
            let lease = found.lease.clone();
            let _ = attempts::one(&mut found, None, |tell| {
                rescue::show(&parameters, lease.as_ref(), &errors);
                tell(&attempts::Message::Ended(Ok(None)));
            });
            say!("no image after {} seconds without progress: rebooting", parameters.reboot_after);
            sys::reboot();
        }
        pause.wait();
    }
}

/// A panic of the first process would be the kernel's: the machine starts again instead. All work that depends on others is done
/// by a process of its own ([`attempts`]), whose panic is a problem like any other.
fn end_in_a_restart() {
    let own = std::process::id();
    std::panic::set_hook(Box::new(move |info| {
        say!("an error of imgbuild-init itself: {info}");
        if std::process::id() == own && own == 1 {
            std::thread::sleep(Duration::from_secs(10));
            sys::reboot();
        }
    }));
}

/// Goes over to the image, which is whole. It does not come back unless its init cannot be started.
fn become_the_image(parameters: &Parameters, mode: Option<selinux::Mode>, found: &attempts::Found) -> String {
    // From here on there is no way back: the initrd's own files go.
    let problem = switch::switch_root(mode);
    say!("{problem}");
    rescue::show(parameters, found.lease.as_ref(), std::slice::from_ref(&problem));
    std::thread::sleep(Duration::from_secs(60));
    sys::reboot()
}

/// What this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The first process, which becomes the image's init.
    Init,
    /// A step of another init: it leaves the image mounted and ends.
    Mount,
}

/// Gives this process a name that starts with `@`, and with it the one that keeps the lease: systemd in an initrd ends
/// all others when it goes over to the image. Source: systemd.io/ROOT_STORAGE_DAEMONS.
fn outlive_the_initrd() {
    use std::os::unix::process::CommandExt;
    let mut words = std::env::args();
    if words.next().is_some_and(|name| name.starts_with('@')) {
        return;
    }
    let error = std::process::Command::new("/proc/self/exe").arg0("@imgbuild-init").args(words).exec();
    say!("this program cannot be started under another name: {error}");
}

/// Brings the image to where the new root is; gives SELinux's mode, where it is on.
fn attempt(
    parameters: &Parameters,
    servers: &Servers,
    part: Part,
    is_first: bool,
    tell: attempts::Tell<'_>,
) -> Result<Option<selinux::Mode>, String> {
    if parameters.url.is_none() && parameters.nfs_root.is_none() {
        let problem = "the kernel's command line has no imgurl=; add imgurl=http://SERVER/PATH/rootimg.cpio.zst";
        return Err(problem.to_owned());
    }
    let modules = modules::Modules::read();
    modules.load_for_devices();
    let lease = network::bring_up(parameters, &modules)?;
    tell(&attempts::Message::Lease(Box::new(lease.clone())));
    // Later ones stay `failed` until the image is on its way.
    let of_first = if is_first { servers.reports() } else { Vec::new() };
    let booting = report::tell_beside(of_first, report::State::Booting, None);
    let network = Network { lease: &lease, modules: &modules, client: &fetch::Client::new(), servers };
    let outcome = bring(parameters, part, &network, booting, tell);
    if outcome.is_err() {
        own_paths::unmount_all();
        // An overlay of the whole root lies over it.
        sys::unmount(image::root());
        sys::unmount(image::root());
    }
    outcome
}

/// What an attempt has of the network.
struct Network<'a> {
    lease: &'a Lease,
    modules: &'a modules::Modules,
    client: &'a fetch::Client,
    servers: &'a Servers,
}

/// A report on its way.
type Report = Option<std::thread::JoinHandle<()>>;

/// Brings the root: over NFS, or by the image's server; then what is the node's own.
fn bring(
    parameters: &Parameters,
    part: Part,
    network: &Network<'_>,
    booting: Report,
    tell: attempts::Tell<'_>,
) -> Result<Option<selinux::Mode>, String> {
    let Network { lease, modules, client, servers } = *network;
    own_paths::name_this_node(parameters, lease);
    if parameters.nfs_root.is_some() {
        own_paths::mount_root_over_nfs(parameters, lease, modules)?;
    }
    // Before anything large is fetched: without it the node does not start.
    let own = own_paths::prepare(client, servers, parameters, lease, modules)?;
    crash::load(parameters, client, servers, lease);
    let index = match parameters.nfs_root {
        Some(_) => None,
        None => Some(servers.ask(|url| index::fetch_index(client, url, parameters.digest.as_deref()))?),
    };
    let is_lazy = index.as_ref().is_some_and(|index| lazy::is_lazy(parameters, index));
    let mut cache = None;
    if let Some(index) = index.as_ref().filter(|_| is_lazy) {
        unpacked::check_frames(index)?;
        unpacked::check_memory_for(index, lazy::memory(parameters, index))?;
    } else if let Some(index) = &index {
        if parameters.root.is_lazy() {
            say!("imgbuild.root=lazy is for squashfs and erofs: this image is unpacked into memory");
        }
        unpacked::check_frames(index)?;
        let whole = parameters.image_in_cache && index.stays_packed();
        cache = parameters.cache.as_deref().and_then(|words| cache::Cache::open(words, index, whole, modules));
        // What lies on a disk takes no memory; where it cannot lie there, memory is asked for then.
        if !(whole && cache.is_some())
            && let Err(problem) = unpacked::check_memory(index)
        {
            if let Some(cache) = cache {
                cache.close(false);
            }
            return Err(problem);
        }
    }
    // A lease may be shorter than the download.
    let keeper = match lease.dhcp() {
        Some(_) => {
            let lease = lease.clone();
            sys::fork_daemon(move || {
                if part == Part::Mount {
                    sys::leave_control_group();
                }
                dhcp::keep(&lease);
            })
            .ok()
        }
        None => None,
    };
    if let Some(keeper) = keeper {
        tell(&attempts::Message::Keeper(keeper));
    }
    let reported = report::tell_beside(servers.reports(), report::State::Image, booting);
    let moved = |bytes: u64| tell(&attempts::Message::Fetched(bytes));
    let mut daemon = None;
    let brought = match &index {
        None => Ok(()),
        Some(index) if is_lazy => lazy::mount(index, parameters, modules)
            .map(|started| daemon = Some(started))
            .inspect(|()| moved(index.size)),
        Some(index) => {
            let server = packed::Server { client, servers, index, moved: &moved };
            match index.stays_packed() {
                true => packed::mount(&server, parameters, modules, cache.as_mut()),
                false => unpacked::unpack_all(Download::new(&server, cache.as_mut()), parameters),
            }
        }
    };
    if let Some(cache) = cache {
        cache.close(brought.is_ok());
    }
    let outcome = brought.and_then(|()| {
        if let Some(index) = &index {
            let is = if is_lazy { "mounted" } else { "complete" };
            say!("the image is {is}: {} entries in {} frames", index.inodes, index.frames.len());
        }
        switch::find_init()?;
        let is_needed =
            is_lazy || parameters.nfs_root.is_some() || own.as_ref().is_some_and(own_paths::Statelite::is_on_a_server);
        handover::hand_over(lease, keeper, is_needed)?;
        // The image's own report must not be followed by an older one.
        let _ = reported.map(std::thread::JoinHandle::join);
        report::leave_for_the_image(parameters, &servers.reports());
        // Behind what was handed over: that has labels too.
        let none = std::collections::BTreeMap::new();
        let mode = selinux::apply(index.as_ref().map_or(&none, |index| &index.labels), &parameters.text)?;
        if let Some(own) = &own {
            own.apply(modules)?;
        }
        if parameters.nfs_root.is_some() && !own.as_ref().is_some_and(own_paths::Statelite::writes_anywhere) {
            sys::make_read_only(image::root())
                .map_err(|error| format!("the root cannot be made read-only: {error}"))?;
        }
        if let Some(daemon) = daemon {
            daemon.stay();
        }
        Ok(mode)
    });
    if outcome.is_err()
        && let Some(keeper) = keeper
    {
        sys::end(keeper);
    }
    outcome
}

/// Waits that grow, with jitter: a thousand nodes must not ask at the same moment.
pub struct Pause {
    seconds: f64,
    longest: f64,
}

impl Default for Pause {
    fn default() -> Self {
        Self::new()
    }
}

impl Pause {
    /// Starts at one second, and grows to half a minute.
    pub fn new() -> Self {
        Self::up_to(30.0)
    }

    /// Starts at one second, or at the longest where that is less, and grows to some.
    pub fn up_to(longest: f64) -> Self {
        Self { seconds: longest.min(1.0), longest }
    }

    /// Waits, between half and all of the current time, and doubles it.
    pub fn wait(&mut self) {
        std::thread::sleep(Duration::from_secs_f64(self.next()));
    }

    /// Seconds of the next one.
    fn next(&mut self) -> f64 {
        let share = f64::from(sys::random_u32()) / f64::from(u32::MAX);
        let share = if fault::planted("node-pause-in-step") { 1.0 } else { share };
        let seconds = self.seconds * (0.5 + share / 2.0);
        self.seconds = (self.seconds * 2.0).min(self.longest);
        seconds
    }
}

#[cfg(test)]
mod tests {
    /// Nodes that came up together, and a server that is away for hours.
    #[test]
    fn pauses_grow_to_an_end_and_nodes_do_not_come_in_step() {
        let (nodes, hours, longest) = (1000, 12, 300.0);
        let mut seconds = vec![0; hours * 3600];
        for _ in 0..nodes {
            let (mut pause, mut at, mut tries) = (crate::Pause::up_to(longest), 0.0, 0);
            while at < seconds.len() as f64 {
                seconds[at as usize] += 1;
                let next = pause.next();
                let wanted = f64::from(1_u32 << tries.min(20)).min(longest);
                assert!((wanted / 2.0..=wanted).contains(&next), "{next} at {tries}");
                (at, tries) = (at + next, tries + 1);
            }
            // It never gives up, and never asks more often than that.
            assert!((hours * 12..hours * 24 + 12).contains(&tries), "{tries}");
        }
        // A thousand in 225 seconds are 4.4 a second.
        let most = seconds[3600..].iter().max().unwrap();
        assert!(*most < 30, "{most} come within one second");
    }

    #[test]
    fn what_a_server_says_is_no_order_to_the_console() {
        let index = r#"{"format":2,"archive":"\u001b[2Jcpio\u001b]0;x\u0007\u009b","compress":"zstd","size":1,"memory":1,"inodes":1,"frames":[],"xattrs":[]}"#;
        let problem = crate::index::check_index(&serde_json::from_str(index).unwrap()).unwrap_err();
        assert!(problem.contains('\u{1b}'), "{problem:?}");
        let shown = crate::words_of(&problem);
        assert!(shown.contains("(?[2Jcpio?]0;x??)"), "{shown:?}");
        assert_eq!(crate::words_of("a\tb\nc é"), "a\tb\nc é");
    }
}
