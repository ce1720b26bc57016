//! The command line of the kernel that writes a dump.

use crate::network::lease::Lease;

/// Words of the node's own kernel that would take memory which the other does not have, look for an image, or be of no use to it.
const DROPPED: [&str; 41] = [
    "BOOT_IMAGE",
    "initrd",
    "init",
    "rdinit",
    "quiet",
    "single",
    "emergency",
    "crashkernel",
    "crash_kexec_post_notifiers",
    "imgurl",
    "imgdigest",
    "imgcache",
    "root",
    "NFSROOT",
    "rootlimit",
    "rootflags",
    "rootfstype",
    "STATEMNT",
    "MNTOPTS",
    "hugepages",
    "hugepagesz",
    "default_hugepagesz",
    "hugetlb_cma",
    "cma",
    "kernelcore",
    "movablecore",
    "mem",
    "memmap",
    "swiotlb",
    "numa",
    "isolcpus",
    "nohz_full",
    "rcu_nocbs",
    "irqaffinity",
    "maxcpus",
    "nr_cpus",
    "slub_debug",
    "log_buf_len",
    "panic",
    "panic_on_warn",
    "NODE",
];

/// Words of this program that it needs there too.
const KEPT: [&str; 1] = ["imgbuild.report"];

/// What a kernel needs that has one processor and little memory, and whose devices another one left as they were. Source: Linux,
/// Documentation/admin-guide/kdump/kdump.rst and kernel-parameters.txt.
const ADDED: [&str; 7] = [
    "nr_cpus=1",
    "reset_devices",
    "cgroup_disable=memory",
    "numa=off",
    "transparent_hugepage=never",
    // A tmpfs would hold half of its memory, and the initrd may be more. Source: Linux, init/do_mounts.c, `init_rootfs`.
    "rootfstype=ramfs",
    // One that crashes itself starts the machine again.
    "panic=10",
];

/// Makes it of that of this kernel, `own`: what says how to reach the network stays. `server` is that of the image.
pub(super) fn of(own: &str, lease: &Lease, name: &str, server: &str, more: &[String]) -> String {
    let is_kept = |word: &&str| {
        let name = word.split('=').next().unwrap_or(word);
        let is_ours = name.starts_with("imgbuild.") || name.starts_with("statelite.");
        KEPT.contains(&name)
            || !(is_ours
                || name.starts_with("systemd.")
                || DROPPED.contains(&name) && !fault::planted("node-dump-takes-memory"))
    };
    let words = without_quoted(own);
    // What follows `--` is for the first process, and none of ours is.
    let mut all: Vec<&str> = words.split_whitespace().take_while(|word| *word != "--").filter(is_kept).collect();
    all.extend(ADDED);
    let mut all: Vec<String> = all.into_iter().map(str::to_owned).collect();
    // The card that has the address now; with a bond or a VLAN the words above say it.
    if lease.made.is_none() {
        all.push(format!("BOOTIF={}", lease.interface.mac));
    }
    all.push(format!("NODE={name}"));
    all.push(format!("imgbuild.dump={server}"));
    all.extend(more.iter().cloned());
    all.join(" ")
}

/// Without words in quotes: they are for the image's services.
fn without_quoted(text: &str) -> String {
    let mut kept = String::new();
    let mut in_quotes = false;
    for letter in text.chars() {
        match letter {
            '"' => in_quotes = !in_quotes,
            letter if !in_quotes => kept.push(letter),
            _ => {}
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::lease::{Interface, Source};

    #[test]
    fn what_is_for_the_network_stays_and_what_takes_memory_goes() {
        let lease = Lease {
            interface: Interface { name: "eth0".to_owned(), mac: "52:54:00:12:34:56".to_owned() },
            address: "10.0.0.5".parse().unwrap(),
            prefix: 24,
            gateway: None,
            dns: Vec::new(),
            domain: None,
            hostname: None,
            source: Source::Given,
            mtu: None,
            made: None,
        };
        let own = "imgurl=http://a/x imgdigest=sha256:00 imgbuild.kdump=sha256:1 imgbuild.report=http://a/-/report/n1/t crashkernel=256M \
                   console=ttyS0 ip=vlan5:dhcp vlan=vlan5:eth0 hugepages=64 \"systemd.set_credential=a b\" quiet rootlimit=2g swiotlb=65536 NODE=old -- single";
        assert_eq!(
            of(own, &lease, "n01", "a", &["irqpoll".to_owned()]),
            "imgbuild.report=http://a/-/report/n1/t console=ttyS0 ip=vlan5:dhcp vlan=vlan5:eth0 nr_cpus=1 reset_devices \
             cgroup_disable=memory numa=off transparent_hugepage=never rootfstype=ramfs panic=10 BOOTIF=52:54:00:12:34:56 NODE=n01 imgbuild.dump=a irqpoll"
        );
    }
}
