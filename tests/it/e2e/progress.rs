//! What a build shows while it runs: a moving line on a terminal, plain lines elsewhere.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::offline::warm;
use crate::support::{Space, imgbuild};

/// Edits the script so that it runs again, and runs a build whose standard error is a terminal of some columns; gives what that shows.
fn on_terminal(space: &Space, columns: u16, variables: &[(&str, &str)], words: &[&str]) -> String {
    space.edit("tiny.postinstall", "set -e\n", &format!("set -e\n# {columns} {variables:?}\nsleep 1\n"));
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    // It becomes no one's controlling terminal: its end would be that of this process.
    let options = &mut File::options();
    options.read(true).write(true).custom_flags(libc::O_NOCTTY);
    let terminal = options.open(name.to_str().unwrap()).unwrap();
    tcsetwinsize(&terminal, Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let mut command = imgbuild();
    command.arg("-C").arg(space.path()).arg("--store").arg(space.store()).args(words);
    for name in ["COLUMNS", "NO_COLOR", "LC_ALL", "LC_CTYPE"] {
        command.env_remove(name);
    }
    command.env("TERM", "xterm").envs(variables.iter().copied());
    let mut child = command.stdout(Stdio::null()).stderr(terminal).spawn().unwrap();
    // It holds the terminal, too, and nothing would end.
    drop(command);
    let mut shown = Vec::new();
    let mut buffer = [0; 4096];
    let mut master = File::from(master);
    while let Ok(count @ 1..) = master.read(&mut buffer) {
        shown.extend_from_slice(&buffer[..count]);
    }
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert!(child.wait().unwrap().success(), "{shown}");
    shown
}

/// Each state of the moving line, without escape sequences.
fn states(shown: &str) -> Vec<String> {
    let mut text = String::new();
    let mut rest = shown.chars();
    while let Some(letter) = rest.next() {
        match letter {
            '\x1b' => {
                // Up to the letter that ends it.
                while rest.next().is_some_and(|letter| !letter.is_ascii_alphabetic()) {}
                text.push('\r');
            }
            letter => text.push(letter),
        }
    }
    text.split(['\r', '\n']).filter(|line| line.contains("step ")).map(str::to_owned).collect()
}

#[test]
fn a_line_moves_on_terminals_that_can_and_fits_them() {
    let space = warm();
    for (columns, locale) in [(60, "C.UTF-8"), (80, "C"), (200, "en_US.UTF-8")] {
        let shown = on_terminal(&space, columns, &[("LANG", locale)], &["build"]);
        let states = states(&shown);
        assert!(states.iter().any(|line| line.contains("step 1 of ") && line.contains(" s")), "{columns}: {shown}");
        for line in &states {
            assert!(line.chars().count() <= usize::from(columns), "{columns}: {line:?}");
            assert!(locale != "C" || line.is_ascii(), "{line:?}");
        }
        let is_named = states.iter().any(|line| line.contains(": rootfs/postinstall"));
        assert!(is_named || columns == 60, "{columns}: {states:?}");
        // It is taken away in the end.
        let end = shown.trim_end().rsplit(['\r', '\n']).next().unwrap_or_default();
        assert!(!end.contains("step "), "{shown}");
    }
    // A terminal that cannot take a line back has plain lines.
    let shown = on_terminal(&space, 80, &[("TERM", "dumb"), ("LANG", "C")], &["build"]);
    assert!(shown.contains("rootfs/postinstall: started") && states(&shown).is_empty(), "{shown}");
    assert!(!shown.contains('\x1b') && !shown.replace("\r\n", "\n").contains('\r'), "{shown:?}");
}

#[test]
fn nothing_moves_in_a_pipe_and_a_quiet_build_says_what_is_wrong_alone() {
    let space = warm();
    space.edit("tiny.postinstall", "set -e\n", "set -e\n: once\n");
    let ran = space.run(&["build"]).good();
    assert!(ran.err.contains("rootfs/postinstall: started\n") && !ran.err.contains(['\r', '\x1b']), "{:?}", ran.err);
    space.edit("tiny.postinstall", "set -e\n", "set -e\n: twice\n");
    let ran = space.run(&["build", "-q"]).good();
    for word in ["started", "done in", "step ", "note:", "estimate"] {
        assert!(!ran.err.contains(word), "{word}: {}", ran.err);
    }
    assert!(!states(&on_terminal(&space, 80, &[("LANG", "C")], &["build"])).is_empty());
    assert!(states(&on_terminal(&space, 80, &[("LANG", "C.UTF-8")], &["build", "-q"])).is_empty());
    // Warnings are no less said, and neither are errors.
    space.edit(
        "tiny.postinstall",
        "set -e\n",
        "set -e\nhead -c 40 /dev/urandom >\"$1/etc/site-key\"; chmod 600 \"$1/etc/site-key\"\n",
    );
    let ran = space.run(&["build", "-q"]).good();
    assert!(ran.err.contains("created what looks like a secret: /etc/site-key"), "{}", ran.err);
    space.edit("tiny.postinstall", "set -e\n", "set -e\nexit 7\n");
    let ran = space.run(&["build", "-q"]);
    assert!(ran.code == 4 && ran.err.contains("exited with status 7"), "{}", ran.err);
}
