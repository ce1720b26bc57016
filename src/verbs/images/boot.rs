//! `imgbuild boot`: boots the published image in QEMU.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Exit;
use crate::output::render;
use crate::published::image_and_out;
use crate::setup::{print_findings, published_form, published_image};
use archive::list_packed;
use base::source::{Finding, Severity};
use boot::{Board, CARDS, Card, FileServer, Firmware, Machine, artefact, memory_for, needs_uefi, ssh_answers};
use node_words::kdump::Reserve;
use recipe::normal_name;
use sandbox::interrupt;

/// Arguments of `boot`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The image, if the workspace has several
    #[arg(value_name = "IMAGE")]
    pub image: Option<String>,
    /// Stop after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Exit successfully when the console shows this text
    #[arg(long, value_name = "TEXT")]
    pub until: Option<String>,
    /// Forward a loopback port to the node's ssh, print it once ssh answers, and keep the node running
    #[arg(long)]
    pub ssh: bool,
    /// The port for --ssh [default: a free one]
    #[arg(long, value_name = "PORT", requires = "ssh")]
    pub ssh_port: Option<u16>,
    /// Memory of the node in MiB [default: by the image's size]
    #[arg(long, value_name = "MIB")]
    pub memory: Option<u64>,
    /// CPUs of the node
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub cpus: u32,
    /// MAC address of the node
    #[arg(long, value_name = "MAC", default_value = "52:54:00:12:34:56")]
    pub mac: String,
    /// Extra kernel command-line arguments
    #[arg(long = "append", value_name = "WORDS")]
    pub append: Vec<String>,
    /// Packed image to use, if there are several: rootimg.sfs [default: that of [pack]]
    #[arg(long, value_name = "FILE")]
    pub rootimg: Option<String>,
    /// A disk for the node: a file with a file system, for instance for [boot.cache]; the node writes to it
    #[arg(long = "disk", value_name = "FILE")]
    pub disks: Vec<PathBuf>,
    /// Start the kernel by UEFI firmware (OVMF, AAVMF), as nodes do
    #[arg(long)]
    pub uefi: bool,
    /// Where artefacts are [default: `out` next to the recipe]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

fn free_port() -> Option<u16> {
    std::net::TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .ok()
}

/// MiB that a machine of the usual size keeps for a dump.
fn reserved(words: &[String]) -> u64 {
    let reserve = words.iter().find_map(|word| Reserve::parse(word.strip_prefix("crashkernel=")?).ok());
    // By ranges, a machine with more keeps more: the smallest of a node's sizes is near enough.
    reserve.map_or(0, |reserve| reserve.of(4 << 30) >> 20)
}

/// Names of modules: those of an initrd, and those that its kernel has built in, where it lists them.
#[derive(Debug, Default)]
struct Modules {
    files: BTreeSet<String>,
    /// None where nothing lists them.
    built_in: Option<BTreeSet<String>>,
}

/// What a packed tree has of modules; none where it cannot be read.
fn modules_of(packed: &Path) -> Option<Modules> {
    let mut modules = Modules::default();
    let file = std::fs::File::open(packed).ok()?;
    let listed = list_packed(&file, &mut |entry, content| {
        let name = entry.path.rsplit('/').next().unwrap_or_default();
        if !entry.path.contains("lib/modules/") {
            return Ok(());
        }
        if name.contains(".ko") {
            modules.files.insert(normal_name(name));
        }
        if name == "modules.builtin" {
            let mut text = String::new();
            content.take(BUILT_IN_LIMIT).read_to_string(&mut text)?;
            modules.built_in.get_or_insert_default().extend(text.lines().map(normal_name));
        }
        Ok(())
    });
    listed.ok().map(|_| modules)
}

/// Bytes that are read of a list of what a kernel has built in; Debian's have 20 kB.
const BUILT_IN_LIMIT: u64 = 1 << 20;

/// The node's network card: one that the initrd or the kernel drives. Says before the node starts if it has no card, or not the usual one.
fn card_for(initrd: &Path, rootimg: &Path, verbose: u8) -> &'static Card {
    let usual = &CARDS[0];
    let Some(Modules { files, built_in }) = modules_of(initrd) else { return usual };
    if files.contains(usual.driver) {
        return usual;
    }
    // Few initrds list what the kernel has built in: only the image does, which takes time to read.
    let built_in = built_in.or_else(|| modules_of(rootimg)?.built_in);
    let card = Card::of(&files, built_in.as_ref().unwrap_or(&BTreeSet::new()));
    let finding = match card {
        Some(card) if card == usual => return usual,
        Some(card) => {
            let text = format!(
                "the initrd has no driver for QEMU's usual network card ({}): the node gets one that {} drives",
                usual.driver, card.driver
            );
            Finding::nowhere(Severity::Note, "boot::card", text)
        }
        None => {
            let names: Vec<&str> = CARDS.iter().map(|card| card.driver).collect();
            let names = names.join(", ");
            let text = match built_in {
                Some(_) => format!(
                    "neither the initrd nor the kernel drives a network card that QEMU has ({names}): the node finds no network"
                ),
                None => format!(
                    "the initrd drives no network card that QEMU has ({names}): unless the kernel has a driver built in, the node finds no network"
                ),
            };
            let help = format!("add one: ‹[kernel] drivers = [\"+{}\"]›", usual.driver);
            Finding::nowhere(Severity::Warning, "boot::card", text).help(help)
        }
    };
    print_findings(std::slice::from_ref(&finding), verbose);
    card.unwrap_or(usual)
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Exit> {
    let (name, out) = image_and_out(arguments, own.image.as_deref(), own.out.as_deref())?;
    let name = &name;
    let found = published_image(&out, name)?;
    let Some((directory, info)) = found else {
        render::say(&format!("nothing is published in {}: run `imgbuild build` first", out.join(name).display()));
        return Err(Exit::Input);
    };
    let board = Board::of(info.target.rsplit(' ').next().unwrap_or_default());
    let (cmdline, memory) = published_form(&info, own.rootimg.as_deref())?;
    let files = artefact(&directory, "kernel")
        .and_then(|kernel| Ok((kernel, artefact(&directory, nodes::loaders::initrd_of(cmdline))?)));
    let (kernel, initrd) = match files {
        Ok(files) => files,
        Err(error) => {
            render::say(&format!("an artefact is missing ({error}): run `imgbuild build` to restore it"));
            return Err(Exit::Input);
        }
    };
    // QEMU itself cannot unpack such a kernel.
    let firmware = (own.uefi || needs_uefi(&kernel))
        .then(|| Firmware::of(board.machine))
        .transpose()
        .map_err(|error| render::refused(Exit::Machine, error))?;
    if let Some(disk) = own.disks.iter().find(|disk| !disk.is_file()) {
        let shown = disk.display();
        render::say(&format!(
            "--disk {shown} is not a file; create one: `truncate -s 4G {shown} && mkfs.ext4 -L nodecache {shown}`"
        ));
        return Err(Exit::Input);
    }
    let server = match FileServer::start(&directory) {
        Ok(server) => server,
        Err(error) => {
            render::say(&format!("cannot get a loopback port: {error}"));
            return Err(Exit::Machine);
        }
    };
    let port = if own.ssh { own.ssh_port.or_else(free_port) } else { None };
    let url = format!("http://10.0.2.2:{}", server.port());
    let mut words: Vec<String> = cmdline.iter().map(|word| word.replace("{url}", &url)).collect();
    if !words.iter().any(|word| word.starts_with("console=")) {
        words.push(format!("console={}", board.console));
    }
    words.extend(own.append.iter().cloned());
    let image = cmdline.iter().find_map(|word| word.strip_prefix("imgurl={url}/")).unwrap_or_default();
    let card = card_for(&initrd, &directory.join(image), arguments.verbose);
    let machine = Machine {
        kernel,
        initrd,
        cmdline: words.join(" "),
        memory_mib: own.memory.unwrap_or_else(|| memory_for(memory) + reserved(&words)),
        cpus: own.cpus,
        board,
        processor: board.processor,
        firmware,
        network: vec![Machine::user_network_by(card, &own.mac, port)],
        disks: own.disks.clone(),
    };
    let running = machine.start().map_err(|error| render::refused(Exit::Machine, error))?;
    let deadline = own.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    if let Some(port) = port {
        std::thread::spawn(move || {
            while !ssh_answers(port) {
                std::thread::sleep(Duration::from_millis(500));
            }
            // Its host keys are recreated at each boot.
            let options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null";
            render::say(&format!(
                "\nimgbuild: ssh answers, in another terminal:\n\n    ssh {options} -p {port} root@127.0.0.1\n"
            ));
        });
    }
    // The machine must end with us.
    interrupt::wait_for_caller();
    let came = running.wait_for(own.until.as_deref(), left(), &mut |text| {
        render::print_console(text);
        !interrupt::came()
    });
    if interrupt::came() {
        return Err(Exit::Interrupted);
    }
    if own.until.is_none() {
        return Ok(Exit::Done);
    }
    if came {
        return Ok(Exit::Done);
    }
    render::say(&format!("the console did not show `{}`", own.until.as_deref().unwrap_or_default()));
    Ok(Exit::Stage)
}
