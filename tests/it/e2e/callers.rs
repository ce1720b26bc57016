//! Two callers who have nothing in common but the recipe: a script sees the same of both, and of the machine nothing.

use super::offline::{run_through, vendored, warm};
use crate::support::Space;

/// What a process has of the one that started it, as a shell and /proc tell it.
const FACTS: &str = "{ ulimit -Sa; ulimit -Ha; umask; nice; cat /proc/self/oom_score_adj /proc/self/personality /proc/self/cgroup; \
    grep -E '^(Sig(Blk|Ign|Cgt)|NoNewPrivs|THP_enabled)' /proc/self/status; cat /proc/self/timerslack_ns; }";

/// What there is to see of the machine: files of /proc and /sys, calls, and all else of /proc that is not empty.
pub const MACHINE: &str = r#"#!/bin/sh
set -e
cd /proc
for file in cpuinfo meminfo stat loadavg uptime version cgroups devices filesystems sys/kernel/arch sys/kernel/hostname \
    sys/kernel/domainname sys/kernel/osrelease sys/kernel/version sys/kernel/threads-max sys/kernel/pid_max; do
    echo "$file:"
    sed "s/$IMG_KERNELVERSION/RELEASE/" $file
done
echo "others:"
for file in *; do
    case $file in
    cpuinfo|meminfo|stat|loadavg|uptime|version|cgroups|devices|filesystems|mdstat|partitions|swaps|cmdline) ;;
    *) if test -f $file && test ! -L $file && test -n "$(head -c 1 $file 2>/dev/null | od -An -tx1)"; then echo $file; fi ;;
    esac
done
find /proc/[a-z]* -mindepth 1 ! -path '/proc/sys*'
cd /sys
find . -type f | LC_ALL=C sort | while read -r file; do echo "$file: $(cat $file)"; done
echo "calls:"
nproc
nproc --all
taskset 1 nproc
getconf _NPROCESSORS_ONLN
getconf _NPROCESSORS_CONF
echo $(($(getconf _PHYS_PAGES) * $(getconf PAGESIZE))) $(($(getconf _AVPHYS_PAGES) * $(getconf PAGESIZE)))
perl -MPOSIX -e 'print(join(" ", (POSIX::uname())[0, 1, 3, 4]), "\n")'
LC_ALL=C lscpu | grep -E '^(Architecture|CPU\(s\)|On-line CPU\(s\) list):' | sed 's/: */: /'
"#;

#[test]
fn what_a_script_has_of_its_caller_is_the_same_for_all() {
    let callers = [
        "exec \"$@\"",
        // Soft limits alone: not every root may raise hard ones. Where root is the caller, the machine has another name for NIS, too.
        "trap '' HUP INT QUIT USR1 XFSZ PIPE TERM; ulimit -Sn 256; ulimit -Sf 20000000; ulimit -Sc 0; ulimit -St 9000; ulimit -Si 900; \
         ulimit -Ss 16384; ulimit -Sq 100000; umask 077; echo 300 >/proc/self/oom_score_adj; own=; unshare -u true && own='unshare -u'; \
         exec $own bash -c 'test -z \"$0\" || echo site.example >/proc/sys/kernel/domainname; \
         exec nice -n 7 taskset -c 0 setarch -R ionice -c 3 \"$@\"' \"$own\" \"$@\"",
    ];
    let facts: Vec<String> = callers
        .iter()
        .enumerate()
        .map(|(number, caller)| {
            let space = warm();
            // A comment of its own: what one of them built is none of the other's.
            let looks = format!("set -e\n# {number}\n{FACTS} >/target/opt/facts\n{}", looks_at_the_machine());
            space.edit("tiny.postinstall", "set -e\n", &looks);
            let vendored = vendored().to_str().unwrap();
            run_through(&["bash", "-c", caller, "bash"], &space, &["build", "--locked", "--vendor", vendored]).good();
            assert_eq!(machine_of(&space), include_str!("seen/x86_64.txt"), "{caller}");
            space.run(&["shell", "--", "/bin/cat", "/opt/facts"]).good().out
        })
        .collect();
    assert_eq!(facts[0], facts[1]);
    let has = |line: &str| assert!(facts[0].lines().any(|one| one == line), "{line}: {}", facts[0]);
    for line in ["0022", "0", "500", "0::/", "00000000", "SigIgn:\t0000000000000000", "50000"] {
        has(line);
    }
}

/// Lines of a postinstall script that keep what is to be seen of the machine, in the tools root and in the image's.
pub fn looks_at_the_machine() -> String {
    format!(
        "cat >/target/opt/look <<'LOOK'\n{MACHINE}LOOK\nchmod 755 /target/opt/look\n\
         /target/opt/look >/target/opt/machine\nchroot /target /opt/look >/target/opt/machine-inside\n"
    )
}

/// What such a script kept, which is the same in both.
pub fn machine_of(space: &Space) -> String {
    let of = |name: &str| space.run(&["shell", "--", "/bin/cat", name]).good().out;
    let (outside, inside) = (of("/opt/machine"), of("/opt/machine-inside"));
    assert_eq!(outside, inside);
    inside
}
