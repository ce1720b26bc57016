//! xCAT's side of a node: the site's postscripts, what starts them, and what the image is called.

use base::digest::Digest;
use store::Merged;

/// The three lines of /opt/xcat/xcatinfo, as packimage writes them, but the same at each run: the time is the epoch,
/// the UUID is made of the layers below (RFC 9562, version 8).
pub(crate) fn xcatinfo(osimage: &str, epoch: i64, layers: &[Digest]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("imgbuild 2025 xCAT image UUID");
    hasher.update(osimage.as_bytes());
    for layer in layers.iter().filter(|_| !fault::planted("xcatinfo-forgets-layers")) {
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

pub(crate) fn lacking(tree: &Merged) -> Vec<&'static str> {
    let missing = |paths: &[&str]| !paths.iter().any(|path| tree.0.contains_key(*path));
    NEEDED.iter().filter(|(paths, _)| missing(paths)).map(|(_, package)| *package).collect()
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
