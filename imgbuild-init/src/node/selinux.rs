//! SELinux: loads the image's policy and gives the unpacked files their labels.
//!
//! The order matters. Policies label tmpfs by transition (`fs_use_trans`), so the kernel does not read attributes that
//! files of a tmpfs had before it got a policy: labels that are set earlier are lost when the image's init loads the
//! policy. So the policy is loaded here, from the unpacked image, and then the labels are set; an init that loads it
//! again, as systemd does, leaves them. Until they are set nothing is enforced.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::image::root;
use crate::{say, sys};

/// Where the kernel shows its side of SELinux; the directory is there where SELinux is built in and on.
const SELINUXFS: &str = "/sys/fs/selinux";

/// What stands for no label at all.
const NO_LABEL: &str = "<<none>>";

/// The attribute that holds a label.
const ATTRIBUTE: &str = "security.selinux";

/// What is done with the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Mode {
    /// It is not loaded.
    Disabled,
    /// What it forbids is logged.
    Permissive,
    /// What it forbids is forbidden.
    Enforcing,
}

/// What the image's /etc/selinux/config says: mode, and name of the policy. Source: selinux_config(5).
fn read_config(text: &str) -> (Mode, String) {
    let (mut mode, mut policy) = (Mode::Permissive, "targeted".to_owned());
    for line in text.lines().map(str::trim) {
        if let Some(value) = line.strip_prefix("SELINUX=") {
            mode = match value.trim().to_ascii_lowercase() {
                value if value.starts_with("enforcing") => Mode::Enforcing,
                value if value.starts_with("disabled") => Mode::Disabled,
                _ => Mode::Permissive,
            };
        } else if let Some(value) = line.strip_prefix("SELINUXTYPE=") {
            policy = value.trim().to_owned();
        }
    }
    (mode, policy)
}

/// The mode of a node: `enforcing=` of the command line goes before the image, but turns nothing on that is off.
fn mode_of(image: Mode, cmdline: &str) -> Mode {
    let said = cmdline.split_whitespace().filter_map(|word| word.strip_prefix("enforcing=")).next_back();
    match (image, said) {
        (Mode::Disabled, _) if !fault::planted("node-enforcing-turns-on") => Mode::Disabled,
        (_, Some("0")) => Mode::Permissive,
        (_, Some(number)) if number.parse::<u32>().is_ok() => Mode::Enforcing,
        (mode, _) => mode,
    }
}

/// The name `policy.N` with the largest N that the kernel supports.
fn newest_policy(names: impl Iterator<Item = String>, known: u32) -> Option<u32> {
    names
        .filter_map(|name| name.strip_prefix("policy.")?.parse().ok())
        .filter(|number| *number <= known || fault::planted("node-policy-too-new"))
        .max()
}

/// Loads the policy and sets the labels; gives the mode that the image's init is to start in, if any was set up here.
///
/// # Errors
/// Labels that cannot be set; a policy that cannot be loaded, where it is to be enforced.
pub(crate) fn apply(labels: &BTreeMap<String, Vec<String>>, cmdline: &str) -> Result<Option<Mode>, String> {
    if labels.is_empty() {
        return Ok(None);
    }
    if !Path::new(SELINUXFS).exists() {
        say!("SELinux is not enabled in this kernel: the image's labels are not set");
        return Ok(None);
    }
    let config = std::fs::read_to_string(format!("{}/etc/selinux/config", root())).unwrap_or_default();
    let (mode, policy) = read_config(&config);
    let mode = mode_of(mode, cmdline);
    if mode == Mode::Disabled {
        say!("the image has SELinux disabled: its labels are not set");
        return Ok(None);
    }
    if !Path::new(&format!("{SELINUXFS}/enforce")).exists() {
        sys::mount_selinux(SELINUXFS).map_err(|error| format!("{SELINUXFS} cannot be mounted: {error}"))?;
    }
    // The kernel's own answer is `kernel` as long as there is no policy.
    let current = std::fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
    if current.trim_end_matches(['\0', '\n']) == "kernel" {
        let _ = enforce(false);
        if let Err(problem) = load(&policy) {
            let problem = format!("the image's SELinux policy `{policy}` cannot be loaded: {problem}");
            if mode == Mode::Enforcing {
                return Err(problem);
            }
            say!("{problem}; its labels are not set");
            return Ok(None);
        }
    }
    let set = set_labels(labels)?;
    say!("SELinux: policy `{policy}`, {set} labels");
    Ok(Some(mode))
}

/// Turns enforcing on or off.
pub(crate) fn enforce(on: bool) -> std::io::Result<()> {
    std::fs::write(format!("{SELINUXFS}/enforce"), if on { "1" } else { "0" })
}

fn load(policy: &str) -> Result<(), String> {
    let known = std::fs::read_to_string(format!("{SELINUXFS}/policyvers")).unwrap_or_default();
    let known: u32 = known.trim().parse().map_err(|_| format!("{SELINUXFS}/policyvers contains no version"))?;
    let folder = format!("etc/selinux/{policy}/policy");
    let entries = std::fs::read_dir(format!("{}/{folder}", root())).map_err(|error| format!("/{folder}: {error}"))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let number = newest_policy(names, known).ok_or_else(|| {
        format!("/{folder} has no policy of version {known} or earlier, the newest that this kernel supports")
    })?;
    let bytes =
        std::fs::read(format!("{}/{folder}/policy.{number}", root())).map_err(|error| format!("/{folder}: {error}"))?;
    // The kernel takes a policy in one write.
    std::fs::write(format!("{SELINUXFS}/load"), bytes).map_err(|error| format!("policy.{number}: {error}"))
}

/// Sets the labels of all files of the new root; what is not named has its folder's. Gives how many.
fn set_labels(labels: &BTreeMap<String, Vec<String>>) -> Result<u64, String> {
    let mut of: HashMap<&str, Option<CString>> = HashMap::new();
    for (label, paths) in labels {
        let label = match label.as_str() {
            NO_LABEL => None,
            text => Some(CString::new(text).map_err(|_| "a label in the index contains a NUL byte".to_owned())?),
        };
        of.extend(paths.iter().map(|path| (path.as_str(), label.clone())));
    }
    let device = std::fs::symlink_metadata(root()).map_err(|error| format!("{}: {error}", root()))?.dev();
    let mut count = 0;
    let top = of.get(".").cloned().flatten();
    if let Some(label) = &top {
        set(Path::new(root()), label)?;
        count += 1;
    }
    descend(Path::new(root()), "", top.as_ref(), device, &of, &mut count)?;
    Ok(count)
}

fn set(path: &Path, label: &CString) -> Result<(), String> {
    sys::set_attribute(path, ATTRIBUTE, label.as_bytes_with_nul()).map_err(|error| {
        format!("the SELinux label {} of {} cannot be set: {error}", label.to_string_lossy(), path.display())
    })
}

fn descend(
    folder: &Path,
    name: &str,
    inherited: Option<&CString>,
    device: u64,
    of: &HashMap<&str, Option<CString>>,
    count: &mut u64,
) -> Result<(), String> {
    let said = |error: std::io::Error| format!("{} cannot be read: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(said)? {
        let entry = entry.map_err(said)?;
        let path = entry.path();
        let metadata = path.symlink_metadata().map_err(said)?;
        if metadata.dev() != device {
            continue;
        }
        let last = entry.file_name();
        let last = crate::name::text_of(std::os::unix::ffi::OsStrExt::as_bytes(last.as_os_str()));
        let name = if name.is_empty() { last.into_owned() } else { format!("{name}/{last}") };
        let label = of.get(name.as_str()).map_or(inherited, Option::as_ref);
        if let Some(label) = label {
            set(&path, label)?;
            *count += 1;
        }
        if metadata.is_dir() {
            descend(&path, &name, label, device, of, count)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_config_names_mode_and_policy() {
        let text = "# SELINUX=disabled\n SELINUX=Enforcing \nSELINUXTYPE=mls\nSETLOCALDEFS=0\n";
        assert_eq!(read_config(text), (Mode::Enforcing, "mls".to_owned()));
        assert_eq!(read_config(""), (Mode::Permissive, "targeted".to_owned()));
        assert_eq!(read_config("SELINUX=disabled").0, Mode::Disabled);
    }

    #[test]
    fn the_command_line_goes_before_the_image_but_turns_nothing_on_that_is_off() {
        assert_eq!(mode_of(Mode::Permissive, "quiet enforcing=1"), Mode::Enforcing);
        assert_eq!(mode_of(Mode::Enforcing, "enforcing=1 enforcing=0"), Mode::Permissive);
        assert_eq!(mode_of(Mode::Enforcing, "quiet"), Mode::Enforcing);
        assert_eq!(mode_of(Mode::Disabled, "enforcing=1"), Mode::Disabled);
        assert_eq!(mode_of(Mode::Permissive, "enforcing=yes"), Mode::Permissive);
    }

    #[test]
    fn the_newest_policy_is_taken_that_the_kernel_knows() {
        let names = || ["policy.9", "policy.31", "policy.33", "policy.34", "policy.kern", "other"].map(str::to_owned);
        assert_eq!(newest_policy(names().into_iter(), 33), Some(33));
        assert_eq!(newest_policy(names().into_iter(), 32), Some(31));
        assert_eq!(newest_policy(names().into_iter(), 8), None);
    }
}
