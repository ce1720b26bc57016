//! xCAT's `imgcapture`: translates its flags to `imgbuild capture` (reference 11.1).

use clap::Parser;

use super::{Done, Shell};
use crate::output::render;
use xcat::definitions::{platform, search_names};

/// Makes an image of a running node
#[derive(Debug, Parser)]
#[command(name = "imgcapture", disable_version_flag = true)]
pub(super) struct Arguments {
    /// The node
    pub node: String,
    /// `diskless`; `sysclone` is not supported
    #[arg(short = 't', long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// The osimage: RELEASE-CPU-netboot-PROFILE selects the exclude list [default: NODE-PROFILE]
    #[arg(short = 'o', long = "osimage", value_name = "OSIMAGE")]
    pub osimage: Option<String>,
    /// Profile, also of the exclude list
    #[arg(short = 'p', long = "profile", value_name = "PROFILE")]
    pub profile: Option<String>,
    /// Ignored (accepted for xCAT scripts)
    #[arg(short = 'i', value_name = "NIC")]
    pub nic: Option<String>,
    /// Drivers of the initrd; written to the recipe
    #[arg(short = 'n', value_name = "DRIVERS", value_delimiter = ',')]
    pub drivers: Vec<String>,
    /// Ignored (accepted for xCAT scripts)
    #[arg(short = 'd', long = "device", value_name = "DEVICES")]
    pub devices: Option<String>,
    /// Show more
    #[arg(short = 'V', long)]
    pub verbose: bool,
}

/// The list of what is left out, by the order of search for such files: custom, then shipped; the fuller name first.
fn exclude_list(profile: &str, osvers: &str, arch: &str) -> Option<String> {
    let platform = platform(osvers)?;
    let names = search_names(profile, osvers, arch, "imgcapture.exlist").names;
    let folders = ["/install/custom/netboot", "/opt/xcat/share/xcat/netboot"];
    let mut paths =
        folders.iter().flat_map(|folder| names.iter().map(move |name| format!("{folder}/{platform}/{name}")));
    paths.find(|path| std::path::Path::new(path).is_file())
}

pub(super) fn run(shell: &Shell, own: &Arguments) -> Done {
    if own.kind.as_deref() == Some("sysclone") {
        return Err(shell.hand_on(
            "-t sysclone: cloning disks is not supported",
            "imgbuild captures with -t diskless; for disks use xCAT's /opt/xcat/bin/imgcapture",
        ));
    }
    shell.say_moot(&[
        ("-i", own.nic.is_some(), "nodes find the network card that they booted from"),
        ("-d", own.devices.is_some(), "all file systems on the node's disks are read, and no others"),
    ]);
    let source = format!("ssh://root@{}", own.node);
    let parts: Vec<&str> = own.osimage.as_deref().unwrap_or_default().split('-').collect();
    let profile =
        own.profile.clone().or_else(|| parts.get(3..).map(|rest| rest.join("-"))).filter(|one| !one.is_empty());
    let profile = profile.unwrap_or_else(|| "compute".to_owned());
    let mut words: Vec<String> = ["capture", &source, "--into", "."].map(str::to_owned).to_vec();
    let name = own.osimage.clone().unwrap_or_else(|| format!("{}-{profile}", own.node));
    words.extend(["--name".to_owned(), name.clone()]);
    if let [osvers, arch, ..] = parts[..]
        && let Some(list) = exclude_list(&profile, osvers, arch)
    {
        words.extend(["--exclude-list".to_owned(), list]);
    }
    shell.run(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
    if !own.drivers.is_empty() {
        let drivers: Vec<String> =
            own.drivers.iter().map(|one| format!("\"+{}\"", one.trim_end_matches(".ko"))).collect();
        let value = format!("kernel.drivers=[{}]", drivers.join(", "));
        shell.quietly(&["set", &name, &value])?;
        shell.say_lines(&name, &[format!("[kernel] drivers = [{}]", drivers.join(", "))]);
    }
    render::say(&format!("imgcapture: next: genimage {name}, packimage {name}"));
    Ok(())
}
