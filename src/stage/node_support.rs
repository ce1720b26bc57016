//! xCAT's side of a node: the site's postscripts, what starts them, and what the image is called.

use super::StageError;
use super::actions::file;
use super::results::{below, layer_outputs};
use super::run::Builder;
use super::sync::{SyncAnswer, SyncItem, SyncRequest};
use crate::digest::Digest;
use crate::plan::{Action, Input};
use crate::recipe::{Lock, NodeSupport, SyncedKind};
use crate::source::{Finding, Severity, Span};
use crate::store::{Merged, Outputs, Store};

/// Kind of the action.
pub const KIND: &str = "xcat";

/// Inputs of the layer: each file, and the values of xcatinfo. The layers below are in its key as well.
///
/// # Errors
/// [`StageError::Input`] for a file that vanished since the recipe was read.
pub fn inputs(support: &NodeSupport, epoch: i64, span: Option<&Span>) -> Result<Vec<Input>, StageError> {
    let mut inputs = vec![Input::parameter("epoch", epoch), Input::parameter("osimage", &support.osimage)];
    for one in &support.files {
        let mode = one.mode.map_or_else(String::new, |mode| format!(" {mode:04o}"));
        let made = match one.kind {
            SyncedKind::Directory => "directory".to_owned(),
            SyncedKind::File => format!("file {}{mode}", one.name),
        };
        let name = format!("placed {}", one.destination);
        inputs.push(Input { name, value: made, place: None }.at(span));
        if one.kind == SyncedKind::File && one.mode.is_none() {
            inputs.push(file(&one.name, &one.source, span)?);
        }
    }
    Ok(inputs)
}

/// The three lines of /opt/xcat/xcatinfo, as packimage writes them, but the same at each run: the time is the epoch,
/// the UUID is made of the layers below (RFC 9562, version 8).
fn xcatinfo(osimage: &str, epoch: i64, layers: &[Digest]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("imgbuild 2025 xCAT image UUID");
    hasher.update(osimage.as_bytes());
    for layer in layers {
        hasher.update(&layer.0);
    }
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let uuid = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
    // As date(1) prints it in UTC.
    let time = jiff::Timestamp::from_second(epoch).unwrap_or_default().strftime("%a %b %e %H:%M:%S UTC %Y");
    format!("IMAGENAME='{osimage}'\nIMAGEUUID='{uuid}'\nTIMESTAMP='{time}'\n")
}

/// What xCAT's scripts run on a node: any of these paths, and a package that brings it.
const NEEDED: [(&[&str], &str); 7] = [
    (&["usr/lib/systemd/systemd"], "systemd-sysv (starts xcatpostinit1)"),
    (&["usr/bin/bash"], "bash"),
    (&["usr/bin/gawk"], "gawk (other awks cannot talk to xcatd)"),
    (&["usr/bin/wget", "usr/bin/curl"], "wget"),
    (&["usr/bin/openssl"], "openssl"),
    (&["usr/bin/logger"], "bsdutils"),
    (&["usr/sbin/sshd"], "openssh-server"),
];

fn lacking(tree: &Merged) -> Vec<&'static str> {
    let missing = |paths: &[&str]| !paths.iter().any(|path| tree.0.contains_key(*path));
    NEEDED.iter().filter(|(paths, _)| missing(paths)).map(|(_, package)| *package).collect()
}

impl Builder<'_> {
    /// Makes the layer.
    ///
    /// # Errors
    /// [`StageError`] of its kind.
    pub(super) fn run_node_support(
        &self,
        action: &Action,
        support: &NodeSupport,
        lock: &Lock,
        done: &super::results::Done,
    ) -> Result<Outputs, StageError> {
        let base = below(action, done)?;
        let mut manifests = Vec::new();
        for layer in &base {
            manifests.push(self.store.manifest(layer)?);
        }
        let lacking = lacking(&crate::store::merge(&manifests));
        if !lacking.is_empty() {
            let text = format!("xCAT's scripts need what the image does not have: {}", lacking.join(", "));
            let mut finding = Finding::nowhere(Severity::Warning, "xcat::lacking", text);
            finding.span = self.recipe.spans.get("xcat.node_support").cloned();
            self.report.finding(&finding.help("add the packages to a package list"));
        }
        let mut items = Vec::new();
        let mut item = |destination: &str, content: Option<String>, link: Option<String>, mode: u32| {
            items.push(SyncItem {
                content,
                link,
                destination: destination.to_owned(),
                name_in_folder: None,
                mode,
                clause: "copy".to_owned(),
            });
        };
        for one in &support.files {
            let said = |source| StageError::Input { file: one.name.clone(), source };
            match one.kind {
                SyncedKind::Directory => item(&one.destination, None, None, 0o755),
                SyncedKind::File => {
                    let (_, mode, _) = crate::plan::file_input(&one.name, &one.source).map_err(said)?;
                    let content = Store::blob_name(&self.store.ensure_blob_of(&one.source)?.digest);
                    item(&one.destination, Some(content), None, one.mode.unwrap_or(mode));
                }
            }
        }
        let info = xcatinfo(&support.osimage, lock.epoch, &base);
        let info = Store::blob_name(&self.store.ensure_blob(info.as_bytes())?.digest);
        item("/opt/xcat/xcatinfo", Some(info), None, 0o644);
        // What `systemctl enable` makes of the unit's WantedBy=multi-user.target.
        item(
            "/etc/systemd/system/multi-user.target.wants/xcatpostinit1.service",
            None,
            Some("/etc/systemd/system/xcatpostinit1.service".to_owned()),
            0o777,
        );
        let scratch = self.store.scratch()?;
        let request = SyncRequest { scratch: scratch.name.clone(), base, epoch: lock.epoch, items };
        let answer: SyncAnswer = self.namespace.call("sync", &request, &mut |text| self.report.progress(text))?;
        Ok(layer_outputs(&answer.layer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xcatinfo_is_the_same_for_the_same_layers() {
        let layers = [Digest::of(b"a"), Digest::of(b"b")];
        let text = xcatinfo("debian12-x86_64-netboot-compute", 1_700_000_000, &layers);
        assert_eq!(text, xcatinfo("debian12-x86_64-netboot-compute", 1_700_000_000, &layers));
        assert_ne!(text, xcatinfo("debian12-x86_64-netboot-compute", 1_700_000_000, &layers[..1]));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "IMAGENAME='debian12-x86_64-netboot-compute'");
        assert!(lines[1].starts_with("IMAGEUUID='") && lines[1].len() == 36 + 12, "{text}");
        assert_eq!(lines[2], "TIMESTAMP='Tue Nov 14 22:13:20 UTC 2023'");
    }
}
