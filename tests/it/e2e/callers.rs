//! Two callers who have nothing in common but the recipe: a script sees the same of both.

use super::offline::{run_through, vendored, warm};

/// What a process has of the one that started it, as a shell and /proc tell it.
const FACTS: &str = "{ ulimit -Sa; ulimit -Ha; umask; nice; cat /proc/self/oom_score_adj /proc/self/personality /proc/self/cgroup; \
    grep -E '^(Sig(Blk|Ign|Cgt)|NoNewPrivs|THP_enabled)' /proc/self/status; cat /proc/self/timerslack_ns; }";

#[test]
fn what_a_script_has_of_its_caller_is_the_same_for_all() {
    let callers = [
        "exec \"$@\"",
        // Soft limits alone: not every root may raise hard ones.
        "trap '' HUP INT QUIT USR1 XFSZ PIPE TERM; ulimit -Sn 256; ulimit -Sf 20000000; ulimit -Sc 0; ulimit -St 9000; ulimit -Si 900; \
         ulimit -Ss 16384; ulimit -Sq 100000; umask 077; echo 300 >/proc/self/oom_score_adj; exec nice -n 7 setarch -R ionice -c 3 \"$@\"",
    ];
    let facts: Vec<String> = callers
        .iter()
        .enumerate()
        .map(|(number, caller)| {
            let space = warm();
            // A comment of its own: what one of them built is none of the other's.
            space.edit("tiny.postinstall", "set -e\n", &format!("set -e\n# {number}\n{FACTS} >/target/opt/facts\n"));
            let vendored = vendored().to_str().unwrap();
            run_through(&["bash", "-c", caller, "bash"], &space, &["build", "--locked", "--vendor", vendored]).good();
            space.run(&["shell", "--", "/bin/cat", "/opt/facts"]).good().out
        })
        .collect();
    assert_eq!(facts[0], facts[1]);
    let has = |line: &str| assert!(facts[0].lines().any(|one| one == line), "{line}: {}", facts[0]);
    for line in ["0022", "0", "500", "0::/", "00000000", "SigIgn:\t0000000000000000", "50000"] {
        has(line);
    }
}
