//! `build --on`, killed here at moments of its whole time: on the other machine nothing goes on, here nothing is lost, and the next run
//! does all of its work.

use std::process::Stdio;
use std::time::Instant;

use super::killed_verbs::assert_same_names;
use super::kills::forget_if_there;
use super::offline::{assert_same, warm};
use super::on::{Machine, wait_until};
use crate::support::{Ran, Space};

const BUILD: [&str; 4] = ["build", "--locked", "--on", "ssh://builder"];

/// Takes actions out of the store: the other machine is asked for them.
fn forgotten(space: &Space) {
    for action in ["rootfs/postinstall", "initrd/stateless", "pack/rootimg"] {
        forget_if_there(space, action);
    }
}

#[test]
fn privileged_ten_kills_of_a_build_elsewhere_leave_nothing_at_work_and_lose_nothing() {
    let (clean, space, place) = (warm(), warm(), Space::new());
    let machine = Machine::start(&place);
    let run = |space: &Space| {
        let temporary = space.path().join("temporary");
        std::fs::create_dir_all(&temporary).unwrap();
        let mut command = machine.command(space, &BUILD);
        command.env("TMPDIR", temporary).env("IMGBUILD_ON_PATIENCE", "3");
        command
    };
    forgotten(&clean);
    let began = Instant::now();
    Ran::from(run(&clean).output().unwrap()).good();
    let took = began.elapsed();
    machine.assert_clean();
    let mut killed = 0;
    for number in 0..10 {
        forgotten(&space);
        let mut child = run(&space).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(took * number / 10);
        killed += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        wait_until("nothing goes on there", || machine.processes().is_empty());
        let ran = Ran::from(run(&space).output().unwrap()).good();
        assert!(ran.err.contains("brought "), "kill {number}: {}", ran.err);
        assert_same(&clean, &space, "tiny");
        machine.assert_clean();
    }
    assert!(killed >= 5, "{killed} were there to be killed, of {took:?}");
    space.run(&["store", "verify"]).good();
    assert_same_names(&clean, &space, "build --on");
}
