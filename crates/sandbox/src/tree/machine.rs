//! The machine that scripts see in /proc and /sys: the same on every host, with processors of the image's CPU.
//!
//! What depends on the build host would get into results that other hosts share under the same key. Each CPU is the least that releases
//! for it ask for: what scripts choose by it runs on all nodes. Calls of the kernel answer the same (`command/machine.rs`).
//! Sources: proc(5), sysfs-devices-system-cpu (Documentation/ABI), and the kernel's `show_cpuinfo` of each architecture.

use std::fmt::Write;

/// How many processors there are, so that `make -j$(nproc)` of a script is neither slow nor too much for a small host.
pub(crate) const PROCESSORS: usize = 4;

/// How much memory there is, in bytes, and how much of it is free: what programs ask for that take a share of it.
pub(crate) const MEMORY: u64 = 4 << 30;
pub(crate) const FREE_MEMORY: u64 = 3 << 30;

/// How long the machine is up, in seconds.
pub(crate) const UPTIME: u64 = 100;

/// Directories of /proc that are of a namespace or have rows of their own in [`in_proc`]; all others are empty.
pub(crate) const KEPT_IN_PROC: [&str; 2] = ["sys", "sysvipc"];

/// x86-64-v2, which all servers since 2009 are. Source: the x86-64 psABI, "Micro-Architecture Levels".
const X86_64_FLAGS: &str = "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ht syscall \
                            nx lm rep_good nopl cpuid pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm";

fn cpuinfo(machine: &str) -> String {
    let mut text = String::new();
    for number in 0..PROCESSORS {
        let _ = match machine {
            "aarch64" => write!(
                text,
                "processor\t: {number}\nBogoMIPS\t: 100.00\nFeatures\t: fp asimd evtstrm cpuid\nCPU implementer\t: 0x00\n\
                 CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0x000\nCPU revision\t: 0\n\n"
            ),
            "ppc64le" => write!(
                text,
                "processor\t: {number}\ncpu\t\t: POWER8 (architected), altivec supported\nclock\t\t: 1000.000000MHz\n\
                 revision\t: 2.0 (pvr 004d 0200)\n\n"
            ),
            _ => write!(
                text,
                "processor\t: {number}\nvendor_id\t: unknown\ncpu family\t: 6\nmodel\t\t: 0\nmodel name\t: unknown\nstepping\t: unknown\n\
                 cpu MHz\t\t: 1000.000\nphysical id\t: 0\nsiblings\t: {PROCESSORS}\ncore id\t\t: {number}\ncpu cores\t: {PROCESSORS}\n\
                 apicid\t\t: {number}\ninitial apicid\t: {number}\nfpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: 1\nwp\t\t: yes\n\
                 flags\t\t: {X86_64_FLAGS}\nbugs\t\t:\nbogomips\t: 2000.00\nclflush size\t: 64\ncache_alignment\t: 64\n\
                 address sizes\t: 40 bits physical, 48 bits virtual\npower management:\n\n"
            ),
        };
    }
    if machine == "ppc64le" {
        text.push_str("timebase\t: 512000000\nplatform\t: pSeries\nmodel\t\t: imgbuild\nmachine\t\t: CHRP imgbuild\n");
    }
    text
}

fn meminfo() -> String {
    let used = MEMORY - FREE_MEMORY;
    let rows = [
        ("MemTotal", MEMORY),
        ("MemFree", FREE_MEMORY),
        ("MemAvailable", FREE_MEMORY),
        ("Buffers", 0),
        ("Cached", 0),
        ("SwapCached", 0),
        ("Active", used),
        ("Inactive", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", used),
        ("Mapped", 0),
        ("Shmem", 0),
        ("Slab", 0),
        ("SReclaimable", 0),
        ("SUnreclaim", 0),
        ("CommitLimit", MEMORY / 2),
        ("Committed_AS", used),
    ];
    rows.iter().map(|(name, bytes)| format!("{:<15} {:>8} kB\n", format!("{name}:"), bytes / 1024)).collect()
}

fn stat() -> String {
    let zeros = " 0".repeat(10);
    let mut text = format!("cpu {zeros}\n");
    for number in 0..PROCESSORS {
        let _ = writeln!(text, "cpu{number}{zeros}");
    }
    let rest = "intr 0\nctxt 0\nbtime 0\nprocesses 1\nprocs_running 1\nprocs_blocked 0\nsoftirq";
    text + rest + &zeros + " 0\n"
}

/// Files of /proc with what they contain, for a kernel's release and a machine as `uname -m` names it. All other files there are empty.
pub(crate) fn in_proc(release: &str, machine: &str) -> Vec<(&'static str, String)> {
    let fixed = |text: &str| text.to_owned();
    vec![
        ("version", format!("Linux version {release} (imgbuild) #1 SMP\n")),
        ("sys/kernel/osrelease", format!("{release}\n")),
        ("sys/kernel/version", fixed("#1 SMP\n")),
        ("sys/kernel/arch", format!("{machine}\n")),
        ("sys/kernel/random/boot_id", fixed("00000000-0000-4000-8000-000000000000\n")),
        // What the kernel makes of processors and memory when it starts, and what it counts.
        ("sys/kernel/threads-max", fixed("32768\n")),
        ("sys/kernel/pid_max", fixed("32768\n")),
        ("sys/fs/file-max", fixed("400000\n")),
        ("sys/fs/file-nr", fixed("0\t0\t400000\n")),
        ("sys/fs/inode-nr", fixed("0\t0\n")),
        ("sys/fs/inode-state", fixed("0\t0\t0\t0\t0\t0\t0\n")),
        ("sys/fs/dentry-state", fixed("0\t0\t45\t0\t0\t0\n")),
        ("sys/vm/min_free_kbytes", fixed("8192\n")),
        ("cmdline", fixed("\n")),
        ("partitions", fixed("major minor  #blocks  name\n\n")),
        ("swaps", fixed("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")),
        ("cpuinfo", cpuinfo(machine)),
        ("meminfo", meminfo()),
        ("stat", stat()),
        ("loadavg", fixed("0.00 0.00 0.00 1/1 1\n")),
        ("uptime", format!("{UPTIME}.00 {}.00\n", UPTIME * PROCESSORS as u64)),
        ("cgroups", fixed("#subsys_name\thierarchy\tnum_cgroups\tenabled\n")),
        ("devices", fixed("Character devices:\n\nBlock devices:\n")),
        (
            "filesystems",
            fixed(
                "nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\tcgroup2\nnodev\tdevtmpfs\nnodev\tdevpts\nnodev\tmqueue\nnodev\toverlay\n\
                 \text4\n",
            ),
        ),
        ("mdstat", fixed("Personalities : \nunused devices: <none>\n")),
    ]
}

/// All files of /sys.
pub(crate) fn in_sys() -> Vec<(String, String)> {
    let (all, mask) = (format!("0-{}\n", PROCESSORS - 1), (1u32 << PROCESSORS) - 1);
    let mut files =
        vec![("kernel_max".to_owned(), format!("{}\n", PROCESSORS - 1)), ("offline".to_owned(), "\n".to_owned())];
    files.extend(["online", "possible", "present"].map(|name| (name.to_owned(), all.clone())));
    for number in 0..PROCESSORS {
        let (own, own_mask) = (format!("{number}\n"), format!("{:x}\n", 1 << number));
        let rows = [
            ("core_id", own.clone()),
            ("physical_package_id", "0\n".to_owned()),
            ("thread_siblings", own_mask),
            ("thread_siblings_list", own),
            ("core_siblings", format!("{mask:x}\n")),
            ("core_siblings_list", all.clone()),
        ];
        files.extend(rows.map(|(name, text)| (format!("cpu{number}/topology/{name}"), text)));
    }
    files.into_iter().map(|(name, text)| (format!("devices/system/cpu/{name}"), text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_have_the_same_processors_and_memory() {
        for machine in ["x86_64", "aarch64", "ppc64le"] {
            let files = in_proc("6.1.0", machine);
            let text = |name: &str| &files.iter().find(|(one, _)| *one == name).unwrap().1;
            let count = |name: &str, start: &str| text(name).lines().filter(|line| line.starts_with(start)).count();
            assert_eq!((count("cpuinfo", "processor\t"), count("stat", "cpu")), (PROCESSORS, PROCESSORS + 1));
            assert_eq!(text("sys/kernel/arch").trim(), machine);
            assert_eq!(text("meminfo").lines().next().unwrap(), "MemTotal:        4194304 kB");
        }
        let files = in_sys();
        assert!(files.contains(&("devices/system/cpu/online".to_owned(), "0-3\n".to_owned())));
        assert_eq!(files.iter().filter(|(name, _)| name.ends_with("/core_id")).count(), PROCESSORS);
    }
}
