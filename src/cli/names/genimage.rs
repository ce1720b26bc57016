//! `genimage` (section 6.1 of the reference).

use clap::Parser;

use super::{Done, Shell};

/// Builds kernel, initrd and root file system of an image; packimage packs and publishes them
#[derive(Debug, Parser)]
#[command(name = "genimage", disable_version_flag = true)]
pub struct Arguments {
    /// The osimage
    pub image: Option<String>,
    /// Release, where no osimage is named
    #[arg(short = 'o', value_name = "OSVER")]
    pub osvers: Option<String>,
    /// CPU, where no osimage is named
    #[arg(short = 'a', value_name = "ARCH")]
    pub arch: Option<String>,
    /// Profile, where no osimage is named
    #[arg(short = 'p', value_name = "PROFILE")]
    pub profile: Option<String>,
    /// Means nothing here
    #[arg(short = 'i', value_name = "NIC")]
    pub nic: Option<String>,
    /// Means nothing here
    #[arg(short = 'r', value_name = "NICS")]
    pub others: Option<String>,
    /// Drivers of the initrd; kept in the recipe
    #[arg(short = 'n', value_name = "DRIVERS", value_delimiter = ',')]
    pub drivers: Vec<String>,
    /// Release of the kernel; kept in the recipe
    #[arg(short = 'k', value_name = "VERSION")]
    pub kernel: Option<String>,
    /// Means nothing here
    #[arg(short = 'g', value_name = "VERSION")]
    pub krpm: Option<String>,
    /// Size of the root file system in memory; kept in the recipe
    #[arg(short = 'l', value_name = "SIZE")]
    pub root_size: Option<String>,
    /// Size of /tmp; kept in the recipe
    #[arg(short = 't', value_name = "SIZE")]
    pub tmp_size: Option<String>,
    /// statelite is not built
    #[arg(short = 'm', value_name = "METHOD")]
    pub method: Option<String>,
    /// Directory with packages of kernels; kept in the recipe
    #[arg(long, value_name = "DIR")]
    pub kerneldir: Option<String>,
    /// Means nothing here
    #[arg(long, value_name = "MODE")]
    pub permission: Option<String>,
    /// Only kernel and initrd
    #[arg(long)]
    pub onlyinitrd: bool,
    /// Say what would be done, and why
    #[arg(long)]
    pub dryrun: bool,
    /// Means nothing here
    #[arg(long)]
    pub interactive: bool,
    /// Means nothing here
    #[arg(long)]
    pub noupdate: bool,
    /// Means nothing here
    #[arg(long)]
    pub ignorekernelchk: bool,
}

/// The image that -o, -a and -p mean.
fn by_profile(shell: &Shell, own: &Arguments) -> Result<String, super::Ended> {
    let (Some(osvers), Some(profile)) = (&own.osvers, &own.profile) else {
        return Err(shell.fail("name the osimage: `genimage IMAGE`; `lsdef -t osimage` lists them"));
    };
    let arch = own.arch.as_deref().unwrap_or("x86_64");
    Ok(format!("{osvers}-{arch}-netboot-{profile}"))
}

/// Runs the command.
pub fn run(shell: &Shell, own: &Arguments) -> Done {
    let by_profile_too = own.osvers.is_some() || own.arch.is_some() || own.profile.is_some();
    let image = match &own.image {
        Some(_) if by_profile_too => {
            return Err(shell.fail("-o, -a and -p are for building without a name of an osimage"));
        }
        Some(image) => image.clone(),
        None => by_profile(shell, own)?,
    };
    let image = image.as_str();
    if let Some(method) = own.method.as_deref().filter(|method| *method != "netboot") {
        return Err(shell.fail(&format!("-m {method}: only stateless images are built")));
    }
    shell.say_moot(&[
        ("-i", own.nic.is_some(), "nodes boot by the card that their boot entry names (BOOTIF=)"),
        ("-r", own.others.is_some(), "further cards are configured by the image's own network files"),
        ("-g", own.krpm.is_some(), "the kernel's package says what `uname -r` will be"),
        ("--permission", own.permission.is_some(), "it is for statelite images"),
        ("--interactive", own.interactive, "package managers ask nothing; what is missing is an error"),
        ("--noupdate", own.noupdate, "packages are those of image.lock; `imgbuild update` renews them"),
        (
            "--ignorekernelchk",
            own.ignorekernelchk,
            "modules of driver packages are taken where their symbols fit the kernel",
        ),
    ]);
    let is_edit = own.drivers.iter().all(|name| !name.starts_with(['+', '-']));
    let osvers = if own.drivers.is_empty() { String::new() } else { shell.attribute(image, "osvers")? };
    // As genimage: Ubuntu's replaces the default drivers, the others' put these in front.
    let is_added = is_edit && !osvers.starts_with("ubuntu") && !osvers.starts_with("debian");
    let mut changes: Vec<String> = Vec::new();
    if !own.drivers.is_empty() {
        let sign = if is_added { "+" } else { "" };
        let names = own.drivers.iter().map(|name| format!("{sign}{}", name.trim().trim_end_matches(".ko")));
        let list: Vec<String> = names.map(|name| toml::Value::from(name).to_string()).collect();
        changes.push(format!("kernel.drivers=[{}]", list.join(", ")));
    }
    for (path, value) in [
        ("kernel.version", &own.kernel),
        ("kernel.dir", &own.kerneldir),
        ("boot.root_size", &own.root_size),
        ("boot.tmpfs.\"/tmp\"", &own.tmp_size),
    ] {
        changes.extend(value.as_ref().map(|value| format!("{path}={value}")));
    }
    if own.dryrun {
        shell.say_lines(image, &changes);
        return shell.run(&["plan", image]);
    }
    if !changes.is_empty() {
        // As with xCAT, what the command line says stays.
        let words: Vec<&str> = ["set", image].into_iter().chain(changes.iter().map(String::as_str)).collect();
        shell.run(&words)?;
        shell.say_lines(image, &changes);
    }
    shell.run(&["build", image, "--until", "initrd"])?;
    shell.say(&format!("nodes get it when it is packed: packimage {image}"));
    Ok(())
}
