//! Lines of shell that nodes run.

use roll::{Build, Kind};

/// Exit status: it has started again since its mark was read.
pub(super) const RESTARTED: i32 = 75;
/// Exit status: it cannot restart that way.
pub(super) const CANNOT: i32 = 69;
/// imgbuild's program on a node. Source: docs/restart.md, Soft reboots.
const PROGRAM: &str = "/run/imgbuild/init";

/// Prints what tells the present start of a node from the next one: the kernel's, and the build that user space was started from.
const MARK: &str =
    "mark() { cat /proc/sys/kernel/random/boot_id /run/imgbuild/booted 2>/dev/null | cksum | tr -cd '0-9 '; }\n";

pub(super) fn mark() -> String {
    format!("{MARK}mark\n")
}

/// Restarts a node, if it still has its mark.
pub(super) fn restart(kind: Kind, target: &Build, mark: &str) -> String {
    let mark: String = mark.chars().filter(|letter| letter.is_ascii_digit() || *letter == ' ').collect();
    let restart = match kind {
        Kind::Soft => format!(
            "[ -x {PROGRAM} ] || {{ echo 'it has no {PROGRAM}' >&2; exit {CANNOT}; }}\n{PROGRAM} soft-reboot {} </dev/null || exit {CANNOT}\n",
            quoted(&format!("{}@{}", target.image, target.build))
        ),
        Kind::Machine => "systemctl --no-block reboot </dev/null || exit 1\n".to_owned(),
    };
    format!("{MARK}[ \"$(mark)\" = '{mark}' ] || exit {RESTARTED}\n{restart}")
}

/// Whether no ordinary user has a process. Source: login.defs(5), UID_MIN; 65534 is `nobody`.
pub(super) const QUIET: &str = "for status in /proc/[0-9]*/status; do
  while read -r key user rest; do
    if [ \"$key\" = Uid: ]; then
      if [ \"$user\" -ge 1000 ] && [ \"$user\" -lt 61184 ]; then echo busy; exit 0; fi
      break
    fi
  done <\"$status\"
done 2>/dev/null
echo quiet
";

/// A command that others wrote, with nothing to read.
pub(super) fn command(text: &str) -> String {
    format!("{{ {text}\n}} </dev/null\n")
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn run(script: &str) -> (i32, String) {
        let mut child =
            Command::new("sh").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    }

    #[test]
    fn a_node_restarts_only_with_its_mark() {
        let target = Build { image: "compute".to_owned(), build: "b".to_owned() };
        let (status, mark) = run(&self::mark());
        assert!(
            status == 0 && mark.len() > 4 && mark.bytes().all(|byte| byte.is_ascii_digit() || byte == b' '),
            "{mark}"
        );
        assert_eq!(run(&self::mark()).1, mark);
        // Here nothing restarts: the program is missing.
        assert_eq!(run(&restart(Kind::Soft, &target, &mark)).0, CANNOT);
        assert_eq!(run(&restart(Kind::Machine, &target, "1 2")).0, RESTARTED);
        assert!(!restart(Kind::Machine, &target, "1'; halt; '").contains("halt"));
        assert!(["busy\n", "quiet\n"].contains(&run(QUIET).1.as_str()));
        assert_eq!(run(&command("cat; exit 7")), (7, String::new()));
    }
}
