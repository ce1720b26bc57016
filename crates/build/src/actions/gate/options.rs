//! Options of drivers that the initrd loads: on the node they count for nothing where only the image has them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::StageError;
use crate::actions::initrd::DRIVERS;
use crate::actions::initrd::compose::driver_settings;
use crate::bench::ids;
use crate::bench::results::Done;
use base::digest::Digest;
use recipe::{SyncedFile, normal_name};
use sandbox::helper::News;
use store::LayerReader;

/// Where an image has modprobe's settings, the first one's files in place of those of their names in the others (modprobe.d(5)).
const FOLDERS: [&str; 3] = ["etc/modprobe.d", "usr/local/lib/modprobe.d", "usr/lib/modprobe.d"];

/// What systemd sets in every image: interfaces that these drivers make by themselves, and imgbuild-init asks for its own.
const WITHOUT_EFFECT: [(&str, &str); 2] = [("bonding", "max_bonds=0"), ("dummy", "numdummies=0")];

/// The name of the gate's result that has [`OptionsAnswer`].
pub(crate) const OPTIONS: &str = "options";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OptionsRequest {
    /// The image's layers.
    pub layers: Vec<Digest>,
    /// What initrds take their settings from.
    pub payload: Digest,
}

/// Drivers with options that initrds do not get, and the file that sets them.
pub(crate) type OptionsAnswer = BTreeMap<String, String>;

/// Driver, options, the file that has them.
type Lines = Vec<(String, String, String)>;

/// The `options` of modprobe's files: (path, text) of each that counts.
fn lines_of(files: &[(String, Vec<u8>)]) -> Lines {
    let mut lines = Lines::new();
    for (path, bytes) in files {
        // A line that ends with a backslash goes on in the next one.
        let text = String::from_utf8_lossy(bytes).replace("\\\n", " ");
        for line in text.lines() {
            let mut words = line.split_whitespace();
            if words.next() == Some("options")
                && let Some(driver) = words.next()
            {
                lines.push((normal_name(driver), words.collect::<Vec<_>>().join(" "), path.clone()));
            }
        }
    }
    lines
}

/// Lines of the image that initrds lack, one file for each driver.
fn foreign(image: &Lines, initrd: &Lines) -> OptionsAnswer {
    let known: BTreeSet<(&str, &str)> =
        initrd.iter().map(|(driver, options, _)| (driver.as_str(), options.as_str())).chain(WITHOUT_EFFECT).collect();
    let lacking = image.iter().filter(|(driver, options, _)| !known.contains(&(driver.as_str(), options.as_str())));
    lacking.map(|(driver, _, path)| (driver.clone(), path.clone())).collect()
}

/// Runs inside.
pub(crate) fn inside(request: OptionsRequest, _: News<'_>) -> Result<OptionsAnswer, String> {
    let reader = LayerReader::open(&request.layers)?;
    let mut files: BTreeMap<String, (String, Vec<u8>)> = BTreeMap::new();
    for folder in FOLDERS {
        for name in reader.names_in(folder).into_iter().filter(|name| name.ends_with(".conf")) {
            let path = format!("{folder}/{name}");
            // A link to /dev/null masks as well; a file behind another link is not the initrd's either.
            if let std::collections::btree_map::Entry::Vacant(place) = files.entry(name) {
                let bytes = reader.read(&path)?.unwrap_or_default();
                place.insert((path, bytes));
            }
        }
    }
    let files: Vec<_> = files.into_values().collect();
    let initrd = driver_settings(&LayerReader::open(&[request.payload])?)?;
    Ok(foreign(&lines_of(&files), &lines_of(&initrd)))
}

/// Whether modprobe reads a path.
pub(crate) fn is_read(path: &str) -> bool {
    let path = path.trim_start_matches('/');
    let below = FOLDERS.iter().find_map(|folder| path.strip_prefix(folder)?.strip_prefix('/'));
    below.is_some_and(|name| name.ends_with(".conf") && !name.contains('/'))
}

/// Whether a text sets nothing that an initrd would need: in /etc/modprobe.d nothing at all, so that it only takes the place of a
/// package's file of its name, elsewhere no options.
pub(crate) fn is_harmless(path: &str, text: &str) -> bool {
    let is_setting = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    match name_in_etc(path) {
        Some(_) => !text.lines().any(is_setting),
        None => lines_of(&[(path.to_owned(), text.as_bytes().to_vec())]).is_empty(),
    }
}

/// The name of a file of /etc/modprobe.d that modprobe reads.
fn name_in_etc(path: &str) -> Option<&str> {
    let name = path.trim_start_matches('/').strip_prefix(FOLDERS[0])?.strip_prefix('/')?;
    (name.ends_with(".conf") && !name.contains('/')).then_some(name)
}

/// Compares what the gate found with the drivers that the initrd has, and with where synced files go: only when all are there, so that
/// no edit of drivers or of a synced file runs the gate.
///
/// # Errors
/// [`StageError::Gate`] with the drivers and files.
pub(crate) fn check(done: &Done, synced: &[SyncedFile]) -> Result<(), StageError> {
    let found = done.value(ids::GATE, OPTIONS)?;
    let initrd = done.value(ids::INITRD, DRIVERS)?;
    refuse(&found, &initrd, &synced.iter().flat_map(SyncedFile::destinations).collect::<Vec<_>>())
}

fn refuse(found: &str, initrd: &str, synced: &[String]) -> Result<(), StageError> {
    let drivers: BTreeSet<&str> = initrd.split(' ').collect();
    // Those synced files were found to set nothing.
    let masked: BTreeSet<&str> = synced.iter().filter_map(|path| name_in_etc(path)).collect();
    let is_masked = |path: &str| {
        path.rsplit('/').next().is_some_and(|name| masked.contains(name))
            || synced.iter().any(|other| other.trim_start_matches('/') == path)
    };
    let set = found.lines().filter_map(|line| line.split_once('\t')).filter(|(driver, _)| drivers.contains(driver));
    let set: Vec<_> = set.filter(|(_, path)| !is_masked(path)).collect();
    let name = set.first().and_then(|(_, path)| path.rsplit('/').next()).unwrap_or_default();
    let mut shown: Vec<String> = set.iter().map(|(driver, path)| format!("`{driver}` in /{path}")).collect();
    if shown.is_empty() || fault::planted("options-behind-initrd") {
        return Ok(());
    }
    let more = if shown.len() > 8 { format!(" and {} more", shown.len() - 8) } else { String::new() };
    shown.truncate(8);
    Err(StageError::Gate {
        problem: format!(
            "the initrd loads drivers without the options that the image sets for them: {}{more}",
            shown.join(", ")
        ),
        help: format!(
            "let the kernel stage bring the package that has the file: ‹[kernel] updates = [\"...\"]›; or let the initrd take drivers and their options from the image: ‹[initrd] modules_from = \"rootfs\"› (every change of the image then rebuilds the initrd); or do without the options: a synced file /etc/modprobe.d/{name} that sets nothing takes the place of the package's"
        ),
    })
}

/// The gate's result as its record keeps it: a line for each driver.
pub(crate) fn text_of(answer: &OptionsAnswer) -> String {
    answer.iter().map(|(driver, path)| format!("{driver}\t{path}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(files: &[(&str, &str)]) -> Lines {
        lines_of(&files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect::<Vec<_>>())
    }

    #[test]
    fn options_of_drivers_in_the_initrd_are_its_own_too() {
        let image = lines(&[
            ("usr/lib/modprobe.d/systemd.conf", "options bonding max_bonds=0\noptions dummy numdummies=0\n"),
            ("usr/lib/modprobe.d/mlx.conf", "# options e1000 x=1\noptions mlx4-core \\\n  log_num_mgm_entry_size=-1\n"),
            ("etc/modprobe.d/snd.conf", "options snd_hda_intel power_save=1\nblacklist pcspkr\n"),
        ]);
        let lacking = text_of(&foreign(&image, &Lines::new()));
        assert_eq!(lacking, "mlx4_core\tusr/lib/modprobe.d/mlx.conf\nsnd_hda_intel\tetc/modprobe.d/snd.conf\n");
        let Err(StageError::Gate { problem, help }) = refuse(&lacking, "af_packet bonding mlx4_core", &[]) else {
            panic!("it is let through")
        };
        assert!(
            problem.contains("`mlx4_core` in /usr/lib/modprobe.d/mlx.conf") && !problem.contains("snd"),
            "{problem}"
        );
        assert!(help.contains("modules_from") && help.contains("/etc/modprobe.d/mlx.conf"), "{help}");
        refuse(&lacking, "af_packet bonding mlx4_en", &[]).unwrap();
        // A synced file takes the place of one of its name, and of no other.
        let synced = |path: &str| refuse(&lacking, "mlx4_core", &[path.to_owned()]);
        synced("/etc/modprobe.d/mlx.conf").unwrap();
        for other in
            ["/etc/modprobe.d/mlx", "/etc/modprobe.d/mlx4.conf", "/etc/mlx.conf", "/usr/lib/modprobe.d/other.conf"]
        {
            synced(other).unwrap_err();
        }
        synced("/usr/lib/modprobe.d/mlx.conf").unwrap();
        for (path, text, harmless) in [
            ("/etc/modprobe.d/mlx.conf", "# nothing\n\n", true),
            ("/etc/modprobe.d/mlx.conf", "# but\n options mlx4_core x=1\n", false),
            ("/etc/modprobe.d/mlx.conf", "blacklist mlx4_core\n", false),
            ("usr/lib/modprobe.d/mlx.conf", "blacklist mlx4_core\n", true),
            ("usr/lib/modprobe.d/mlx.conf", "options mlx4_core x=1\n", false),
        ] {
            assert!(is_read(path));
            assert_eq!(is_harmless(path, text), harmless, "{path} {text}");
        }
        assert!(!is_read("/etc/modprobe.d/mlx") && !is_read("/etc/motd"));
        // What the kernel stage brought has its options in the initrd.
        let payload = lines(&[("x.conf", "options mlx4_core log_num_mgm_entry_size=-1")]);
        assert!(!text_of(&foreign(&image, &payload)).contains("mlx4"));
        // Other options are others.
        let payload = lines(&[("x.conf", "options mlx4_core log_num_mgm_entry_size=7")]);
        assert!(text_of(&foreign(&image, &payload)).contains("mlx4"));
    }
}
