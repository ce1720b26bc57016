//! `build --on`, killed here at moments of its whole time: on the other machine nothing goes on, nothing is lost there or here, and the next
//! run does all of its work.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::offline::{assert_same, warm};
use super::on::{Machine, wait_until};
use crate::support::{Ran, Space};

/// One with a synced file, of which each text gives another image.
fn synced() -> Space {
    let space = warm();
    space.write("tiny.synclist", "motd -> /etc/motd\n").write("motd", "welcome\n");
    space.edit("image.toml", "[exclude]", "[sync]\nlists = [\"tiny.synclist\"]\n\n[exclude]");
    space
}

#[test]
fn privileged_ten_kills_of_a_build_elsewhere_leave_nothing_at_work_and_lose_nothing() {
    let (clean, space, place) = (synced(), synced(), Space::new());
    let machine = Machine::start(&place);
    // With all that the image is made of, as an earlier build leaves it: what is sent and built then is little.
    let kept = machine.home.join("kept");
    std::fs::create_dir(&kept).unwrap();
    std::fs::set_permissions(&kept, PermissionsExt::from_mode(0o700)).unwrap();
    let copied = Command::new("cp").arg("-a").arg(space.store()).arg(kept.join("store")).status().unwrap();
    assert!(copied.success());
    let temporary = space.path().join("temporary");
    std::fs::create_dir(&temporary).unwrap();
    let address = format!("ssh://builder{}", kept.display());
    let run = || {
        let mut command = machine.command(&space, &["build", "--locked", "--on", &address]);
        command.env("TMPDIR", &temporary);
        command
    };
    let is_left = || {
        let gone = ["ws", "log", "manifest", "asked"].iter().all(|name| !kept.join(name).exists());
        gone && machine.processes().is_empty()
    };
    Ran::from(run().output().unwrap()).good();
    space.write("motd", "once more\n");
    let began = Instant::now();
    Ran::from(run().output().unwrap()).good();
    let took = began.elapsed();
    let mut killed = 0;
    for number in 0..10 {
        space.write("motd", &format!("welcome {number}\n"));
        // It is not waited for long, where it is killed.
        let mut killed_one = run();
        killed_one.env("IMGBUILD_ON_PATIENCE", "3").stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = killed_one.spawn().unwrap();
        std::thread::sleep(took * number / 10);
        killed += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        wait_until("nothing goes on there", || machine.processes().is_empty());
        assert!(kept.join("store/v1").is_dir(), "kill {number}: the store there is lost");
        Ran::from(run().output().unwrap()).good();
        wait_until("it is left as it was", is_left);
    }
    assert!(killed >= 5, "{killed} were there to be killed, of {took:?}");
    clean.write("motd", "welcome 9\n").run(&["build", "--locked"]).good();
    assert_same(&clean, &space, "tiny");
    space.run(&["store", "verify"]).good();
    assert!(space.to_do().is_empty(), "{:?}", space.to_do());
    // What a helper of a dead command removes, it removes soon.
    let is_empty = |path: &std::path::Path| path.read_dir().is_ok_and(|mut entries| entries.next().is_none());
    wait_until("temporary files are gone", || is_empty(&temporary));
}
