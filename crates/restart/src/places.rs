//! Paths of images that are known by their names: who reads them, and when. The longest beginning that fits counts; `*` at the end of a
//! pattern stands for any rest.

/// What a change of a path asks for by its name alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Databases, caches and logs, which a running node has in a state of its own.
    State,
    /// Links to files of packages, which their scripts make.
    OfPackages,
    /// What programs make of other files of the image when packages are installed; those files count themselves.
    Derived,
    /// What no process keeps: programs read it each time that they need it.
    Inert,
    /// What is read when the kernel starts, or keeps its effect until then; why.
    Boot(&'static str),
    /// The same of what goes or changes; a new file takes effect when this unit starts again.
    BootUnlessNew(&'static str, &'static str),
    /// What is read once by all that runs, or by what cannot start again alone; why.
    Soft(&'static str),
    /// The same if a sync list brings it: the scripts of a package do what is needed.
    SoftByList(&'static str),
    Other,
}

const DRIVERS: &str = "drivers stay as they were loaded until the kernel starts again";
const OPTIONS: &str = "options of drivers count when they are loaded";
const FIRMWARE: &str = "a driver loads firmware when it starts";
const SETTINGS: &str = "a kernel setting that a file no longer has stays until the kernel starts again";
const MOUNTS: &str = "file systems are mounted when the machine starts";
const HOST: &str = "the name is set when the machine starts";
const NETWORK: &str = "the network is set up when the machine starts";
const LOADER: &str = "every running program has it open";
const ONCE: &str = "running programs read it once";
const BUS: &str = "services lose one another when the message bus starts again";
const DEVICES: &str = "rules of devices count when devices appear";
const MANAGER: &str = "systemd reads it when it starts";
const ACCOUNTS: &str = "running programs keep the accounts that they looked up";
const TEMPORARY: &str = "systemd-tmpfiles makes its files when user space starts";

const PLACES: &[(&str, Place)] = &[
    ("boot/*", Place::Inert),
    ("etc/NetworkManager/system-connections/*", Place::Boot(NETWORK)),
    ("etc/alternatives/*", Place::OfPackages),
    ("etc/bash.bashrc", Place::Inert),
    ("etc/bashrc", Place::Inert),
    ("etc/ca-certificates.conf", Place::Soft(ONCE)),
    ("etc/crypto-policies/*", Place::Soft(ONCE)),
    ("etc/crypttab", Place::Boot(MOUNTS)),
    ("etc/fstab", Place::Boot(MOUNTS)),
    ("etc/group", Place::Soft(ACCOUNTS)),
    ("etc/group-", Place::State),
    ("etc/gshadow", Place::Soft(ACCOUNTS)),
    ("etc/gshadow-", Place::State),
    ("etc/hostname", Place::Boot(HOST)),
    ("etc/inputrc", Place::Inert),
    ("etc/issue", Place::Inert),
    ("etc/issue.d/*", Place::Inert),
    ("etc/issue.net", Place::Inert),
    ("etc/krb5.conf", Place::Soft(ONCE)),
    ("etc/krb5.conf.d/*", Place::Soft(ONCE)),
    ("etc/ld.so.cache", Place::Derived),
    ("etc/ld.so.conf", Place::Soft(LOADER)),
    ("etc/ld.so.conf.d/*", Place::Soft(LOADER)),
    ("etc/ld.so.preload", Place::Soft(LOADER)),
    ("etc/locale.conf", Place::Soft(ONCE)),
    ("etc/localtime", Place::Soft(ONCE)),
    ("etc/logrotate.conf", Place::Inert),
    ("etc/logrotate.d/*", Place::Inert),
    ("etc/modprobe.d/*", Place::Boot(OPTIONS)),
    ("etc/modules", Place::Boot(OPTIONS)),
    ("etc/modules-load.d/*", Place::Boot(OPTIONS)),
    ("etc/motd", Place::Inert),
    ("etc/motd.d/*", Place::Inert),
    ("etc/netplan/*", Place::Boot(NETWORK)),
    ("etc/network/*", Place::Boot(NETWORK)),
    ("etc/nsswitch.conf", Place::Soft(ONCE)),
    ("etc/pam.d/*", Place::Inert),
    ("etc/passwd", Place::Soft(ACCOUNTS)),
    ("etc/passwd-", Place::State),
    ("etc/pki/ca-trust/*", Place::Soft(ONCE)),
    ("etc/pki/tls/certs/*", Place::Soft(ONCE)),
    ("etc/pki/tls/openssl.cnf", Place::Soft(ONCE)),
    ("etc/pki/tls/openssl.d/*", Place::Soft(ONCE)),
    ("etc/profile", Place::Inert),
    ("etc/profile.d/*", Place::Inert),
    ("etc/rc0.d/*", Place::OfPackages),
    ("etc/rc1.d/*", Place::OfPackages),
    ("etc/rc2.d/*", Place::OfPackages),
    ("etc/rc3.d/*", Place::OfPackages),
    ("etc/rc4.d/*", Place::OfPackages),
    ("etc/rc5.d/*", Place::OfPackages),
    ("etc/rc6.d/*", Place::OfPackages),
    ("etc/rcS.d/*", Place::OfPackages),
    ("etc/security/*", Place::Inert),
    ("etc/selinux/*", Place::Boot("the policy of SELinux is loaded when the kernel starts")),
    ("etc/shadow", Place::Soft(ACCOUNTS)),
    ("etc/shadow-", Place::State),
    ("etc/shells", Place::Inert),
    ("etc/skel/*", Place::Inert),
    ("etc/ssh/ssh_config", Place::Inert),
    ("etc/ssh/ssh_config.d/*", Place::Inert),
    ("etc/ssh/ssh_known_hosts", Place::Inert),
    ("etc/ssl/certs/*", Place::Soft(ONCE)),
    ("etc/ssl/openssl.cnf", Place::Soft(ONCE)),
    ("etc/subgid", Place::Soft(ACCOUNTS)),
    ("etc/subgid-", Place::State),
    ("etc/subuid", Place::Soft(ACCOUNTS)),
    ("etc/subuid-", Place::State),
    ("etc/sudoers", Place::Inert),
    ("etc/sudoers.d/*", Place::Inert),
    ("etc/sysconfig/network", Place::Boot(NETWORK)),
    ("etc/sysconfig/network-scripts/*", Place::Boot(NETWORK)),
    ("etc/sysctl.conf", Place::BootUnlessNew(SETTINGS, "systemd-sysctl.service")),
    ("etc/sysctl.d/*", Place::BootUnlessNew(SETTINGS, "systemd-sysctl.service")),
    ("etc/systemd/network/*", Place::Boot(NETWORK)),
    ("etc/systemd/system-generators/*", Place::Soft(MANAGER)),
    ("etc/systemd/system.conf", Place::Soft(MANAGER)),
    ("etc/systemd/system.conf.d/*", Place::Soft(MANAGER)),
    ("etc/timezone", Place::Soft(ONCE)),
    ("etc/tmpfiles.d/*", Place::Soft(TEMPORARY)),
    ("etc/udev/*", Place::Soft(DEVICES)),
    ("etc/udev/hwdb.bin", Place::Derived),
    ("etc/vim/*", Place::Inert),
    ("lib/firmware/*", Place::Boot(FIRMWARE)),
    ("lib/modprobe.d/*", Place::Boot(OPTIONS)),
    ("lib/modules-load.d/*", Place::Boot(OPTIONS)),
    ("lib/modules/*", Place::Boot(DRIVERS)),
    ("lib/sysctl.d/*", Place::BootUnlessNew(SETTINGS, "systemd-sysctl.service")),
    ("lib/systemd/network/*", Place::Boot(NETWORK)),
    ("lib/systemd/system-generators/*", Place::SoftByList(MANAGER)),
    ("lib/udev/*", Place::Soft(DEVICES)),
    ("root/.bash_profile", Place::Inert),
    ("root/.bashrc", Place::Inert),
    ("root/.profile", Place::Inert),
    ("root/.ssh/*", Place::Inert),
    ("usr/bin/dbus-broker*", Place::Soft(BUS)),
    ("usr/bin/dbus-daemon", Place::Soft(BUS)),
    ("usr/lib/firmware/*", Place::Boot(FIRMWARE)),
    ("usr/lib/locale/*", Place::Soft(ONCE)),
    ("usr/lib/modprobe.d/*", Place::Boot(OPTIONS)),
    ("usr/lib/modules-load.d/*", Place::Boot(OPTIONS)),
    ("usr/lib/modules/*", Place::Boot(DRIVERS)),
    ("usr/lib/ssl/*", Place::Soft(ONCE)),
    ("usr/lib/sysctl.d/*", Place::BootUnlessNew(SETTINGS, "systemd-sysctl.service")),
    ("usr/lib/sysimage/*", Place::State),
    ("usr/lib/systemd/network/*", Place::Boot(NETWORK)),
    ("usr/lib/systemd/system-generators/*", Place::SoftByList(MANAGER)),
    ("usr/lib/systemd/system.conf.d/*", Place::Soft(MANAGER)),
    ("usr/lib/systemd/systemd", Place::Soft("it is the first process, and all others depend on it")),
    ("usr/lib/tmpfiles.d/*", Place::SoftByList(TEMPORARY)),
    ("usr/lib/udev/*", Place::Soft(DEVICES)),
    ("usr/lib/udev/hwdb.bin", Place::Derived),
    ("usr/local/lib/modprobe.d/*", Place::Boot(OPTIONS)),
    ("usr/local/lib/modules-load.d/*", Place::Boot(OPTIONS)),
    ("usr/local/lib/modules/*", Place::Boot(DRIVERS)),
    ("usr/local/lib/sysctl.d/*", Place::BootUnlessNew(SETTINGS, "systemd-sysctl.service")),
    ("usr/local/lib/systemd/network/*", Place::Boot(NETWORK)),
    ("usr/local/lib/systemd/system-generators/*", Place::Soft(MANAGER)),
    ("usr/local/lib/tmpfiles.d/*", Place::SoftByList(TEMPORARY)),
    ("usr/local/lib/udev/*", Place::Soft(DEVICES)),
    ("usr/local/share/ca-certificates/*", Place::Soft(ONCE)),
    ("usr/share/bash-completion/*", Place::Inert),
    ("usr/share/crypto-policies/*", Place::Soft(ONCE)),
    ("usr/share/doc/*", Place::Inert),
    ("usr/share/glib-2.0/schemas/gschemas.compiled", Place::Derived),
    ("usr/share/icons/*", Place::Inert),
    ("usr/share/info/*", Place::Inert),
    ("usr/share/info/dir", Place::State),
    ("usr/share/licenses/*", Place::Inert),
    ("usr/share/lintian/*", Place::Inert),
    ("usr/share/locale/*", Place::Inert),
    ("usr/share/man/*", Place::Inert),
    ("usr/share/mime/*", Place::Derived),
    ("usr/share/mime/packages/*", Place::Other),
    ("usr/share/zoneinfo/*", Place::Soft(ONCE)),
    ("var/backups/*", Place::State),
    ("var/cache/*", Place::State),
    ("var/lib/alternatives/*", Place::State),
    ("var/lib/apt/*", Place::State),
    ("var/lib/dnf/*", Place::State),
    ("var/lib/dpkg/*", Place::State),
    ("var/lib/rpm/*", Place::State),
    ("var/lib/systemd/deb-systemd-helper-*", Place::State),
    ("var/lib/ucf/*", Place::State),
    ("var/log/*", Place::State),
];

/// What is known of a path, without a slash in front, by its name.
pub(crate) fn place(path: &str) -> Place {
    if path.split('/').any(|part| part == "__pycache__") {
        return Place::State;
    }
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => path.starts_with(start) || path == start.trim_end_matches('/'),
        None => path == pattern,
    };
    let fitting = PLACES.iter().filter(|(pattern, _)| fits(pattern));
    fitting.max_by_key(|(pattern, _)| pattern.len()).map_or(Place::Other, |(_, place)| *place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pattern_counts() {
        assert_eq!(place("usr/share/info/dir"), Place::State);
        assert_eq!(place("usr/share/info/x.gz"), Place::Inert);
        assert_eq!(place("usr/lib/udev/hwdb.bin"), Place::Derived);
        assert_eq!(place("usr/share/mime/mime.cache"), Place::Derived);
        assert_eq!(place("usr/share/mime/packages/site.xml"), Place::Other);
        assert_eq!(place("usr/lib/modules/6.1/kernel/x.ko"), Place::Boot(DRIVERS));
        assert_eq!(place("usr/lib/modules"), Place::Boot(DRIVERS));
        assert_eq!(place("usr/lib/python3/__pycache__/x.pyc"), Place::State);
        assert_eq!(place("etc/site.txt"), Place::Other);
        let mut patterns: Vec<&str> = PLACES.iter().map(|(pattern, _)| *pattern).collect();
        patterns.sort_unstable();
        patterns.dedup();
        assert_eq!(patterns.len(), PLACES.len());
    }

    #[test]
    fn what_takes_effect_at_boot_or_is_read_once_is_known() {
        for path in ["etc/fstab", "etc/crypttab"] {
            assert_eq!(place(path), Place::Boot(MOUNTS), "{path}");
        }
        assert_eq!(place("etc/hostname"), Place::Boot(HOST));
        for path in [
            "etc/network/interfaces",
            "etc/systemd/network/10-x.network",
            "usr/lib/systemd/network/10-x.link",
            "etc/netplan/x.yaml",
            "etc/sysconfig/network-scripts/ifcfg-eth0",
        ] {
            assert_eq!(place(path), Place::Boot(NETWORK), "{path}");
        }
        for path in ["lib/modules-load.d/x.conf", "usr/local/lib/modprobe.d/x.conf", "usr/local/lib/modules-load.d/x"] {
            assert_eq!(place(path), Place::Boot(OPTIONS), "{path}");
        }
        for path in ["lib/sysctl.d/x.conf", "usr/local/lib/sysctl.d/x.conf"] {
            assert!(matches!(place(path), Place::BootUnlessNew(..)), "{path}");
        }
        for path in [
            "usr/share/zoneinfo/Europe/Berlin",
            "etc/ssl/openssl.cnf",
            "etc/pki/tls/openssl.cnf",
            "etc/crypto-policies/config",
            "etc/krb5.conf",
            "etc/ssl/certs/ca-certificates.crt",
            "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        ] {
            assert_eq!(place(path), Place::Soft(ONCE), "{path}");
        }
        for path in ["etc/passwd", "etc/group"] {
            assert_eq!(place(path), Place::Soft(ACCOUNTS), "{path}");
        }
        assert_eq!(place("usr/lib/tmpfiles.d/x.conf"), Place::SoftByList(TEMPORARY));
        assert_eq!(place("etc/systemd/system-generators/x"), Place::Soft(MANAGER));
        assert_eq!(place("usr/local/lib/udev/rules.d/x.rules"), Place::Soft(DEVICES));
    }
}
