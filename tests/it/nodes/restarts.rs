//! A server that starts again, and one beside which others work: what it says to nodes stays what it was, or becomes what is so now.

use std::io::Read;
use std::time::{Duration, Instant};

use super::nodeset::{nodeset, publish, published};
use super::reports::{address_from, up};
use crate::support::Space;
use crate::support::server::{Running, command, started};

fn serving(space: &Space) -> Running {
    let mut command = command(&["--listen", "127.0.0.1:0"]);
    command.current_dir(space.path());
    started(command)
}

/// What it has said when it ends.
fn said(mut server: Running) -> String {
    server.signal("TERM");
    server.child.wait().unwrap();
    let mut said = String::new();
    server.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    said
}

fn script(server: &Running, node: &str) -> String {
    let (head, body) = server.get(&format!("/-/boot/ipxe/{node}"), "");
    assert!(head.starts_with("http/1.1 200"), "{node}: {head}");
    String::from_utf8(body).unwrap()
}

#[test]
fn a_start_while_the_nodes_file_has_an_error_is_with_what_it_said_before() {
    let (space, first) = published();
    nodeset(&space, &["@compute", "compute"]).good();
    let good = std::fs::read_to_string(space.path().join("nodes.toml")).unwrap();
    // Nothing was said before.
    space.write("nodes.toml", &format!("{good}\n[node.cn009]\nmak = \"52:54:00:00:00:09\"\n"));
    let output = command(&["--listen", "127.0.0.1:0"]).current_dir(space.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    space.write("nodes.toml", &good);
    drop(serving(&space));
    space.write("nodes.toml", &format!("{good}\n[node.cn009]\nmak = \"52:54:00:00:00:09\"\n"));
    let server = serving(&space);
    up(&server, "cn001");
    assert!(script(&server, "cn002").contains(&first));
    // It is mended, and then removed, while it runs.
    space.write("nodes.toml", &format!("{good}\n[node.cn009]\nmac = \"52:54:00:00:00:09\"\nimage = \"compute\"\n"));
    script(&server, "cn009");
    std::fs::remove_file(space.path().join("nodes.toml")).unwrap();
    script(&server, "cn009");
    let said = said(server);
    assert!(said.contains("nodes.toml:") && said.contains("mak"), "{said}");
    assert_eq!(said.matches("what it said before is used further").count(), 2, "{said}");
    assert!(said.contains("nodes.toml is gone"), "{said}");
}

#[cfg(feature = "e2e")]
#[test]
fn what_a_killed_nodeset_gave_counts_for_a_server_that_runs() {
    let (space, first) = published();
    nodeset(&space, &["@compute", "compute"]).good();
    let server = serving(&space);
    assert!(script(&server, "cn001").contains(&first));
    let second = publish(&space, "compute", "second");
    let (file, out) = (space.path().join("fault"), space.path().join("tftpboot"));
    let mut program = crate::support::imgbuild();
    program.arg("-C").arg(space.path()).args(["nodeset", "@compute", "compute", "--url", "http://10.0.0.1", "--out"]);
    program.arg(&out).env("IMGBUILD_FAULT", "nodeset.turned").env("IMGBUILD_FAULT_FILE", &file);
    let mut child = program.spawn().unwrap();
    let began = Instant::now();
    while !file.exists() {
        assert!(began.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(space.path().join(".imgbuild/nodes/assigned.next.json").exists());
    // What was read while it was announced counts a second.
    std::thread::sleep(Duration::from_millis(1100));
    assert!(script(&server, "cn001").contains(&second));
}

#[test]
fn what_clear_removed_comes_back_by_no_later_report() {
    let (space, first) = published();
    nodeset(&space, &["@compute", "compute"]).good();
    let server = serving(&space);
    let lazy = |node: &str| {
        let report = up(&server, node);
        assert!(server.get(&format!("{report}?root=lazy"), "").0.starts_with("http/1.1 200"));
    };
    let note = || {
        let note = space.path().join("images/compute/out/.builds/compute/.pins-reports");
        std::fs::read_to_string(note).unwrap_or_default()
    };
    lazy("cn001");
    let second = publish(&space, "compute", "second");
    nodeset(&space, &["cn002", "compute"]).good();
    let good = std::fs::read_to_string(space.path().join("nodes.toml")).unwrap();
    space.edit("nodes.toml", "nodes = \"cn[001-003]\"", "nodes = \"cn[002-003]\"");
    space.edit("nodes.toml", "[node.\"cn[001-003]\"]       # the rack\nip = \"10.0.0.[11-13]\"\n", "");
    space.edit("nodes.toml", "[node.cn001]\nmac = \"52:54:00:00:00:01\"\n", "");
    // It may run all the same, until someone says that it does not.
    lazy("cn002");
    assert!(note().contains(&first) && note().contains(&second), "{}", note());
    nodeset(&space, &["--clear", "--force"]).good();
    lazy("cn002");
    assert!(!note().contains(&first) && note().contains(&second), "{}", note());
    // A node that gets its name later has not reported.
    space.write("nodes.toml", &good);
    let report = address_from(&script(&server, "cn003"));
    assert!(!report.is_empty());
    let metrics = String::from_utf8(server.get("/metrics", "").1).unwrap();
    let up: Vec<&str> = metrics.lines().filter(|line| line.contains("state=\"up\"")).collect();
    assert!(up.len() == 1 && up[0].ends_with(" 1"), "{metrics}");
}

#[test]
fn a_server_that_starts_before_anything_is_built_serves_the_first_build() {
    let recipe = |name: &str| format!("[image]\nname = \"{name}\"\nrelease = \"bookworm\"\n");
    let comes = |server: &Running, path: &str| {
        let began = Instant::now();
        while !server.get(path, "").0.starts_with("http/1.1 200") {
            assert!(began.elapsed() < Duration::from_secs(60), "{path} does not come");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    for (files, kernel) in [
        (vec![("imgbuild.toml", "images = [\"images/*\"]\n")], "images/a/out/a/kernel"),
        (vec![("imgbuild.toml", "images = [\"images/*\"]\nout = \"all\"\n")], "all/a/kernel"),
        (vec![("image.toml", "")], "out/a/kernel"),
    ] {
        let space = Space::new();
        space.write("images/a/image.toml", &recipe("a"));
        for (name, text) in files {
            space.write(name, if text.is_empty() { recipe("a") } else { text.to_owned() }.as_str());
        }
        let server = serving(&space);
        assert!(server.line.starts_with("serving no image yet at http://"), "{}", server.line);
        space.write(kernel, "a kernel");
        comes(&server, "/a/kernel");
        let said = said(server);
        assert_eq!(said.matches("as soon as").count(), 1, "{said}");
    }
    // Where there is no recipe, nothing will be built.
    let space = Space::new();
    let output = command(&["--listen", "127.0.0.1:0"]).current_dir(space.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("serve::root"), "{said}");
}

#[test]
fn an_account_that_cannot_read_the_images_is_told_at_the_start() {
    use std::os::unix::fs::PermissionsExt;
    if !rustix::process::geteuid().is_root() {
        return crate::support::skip("an account of its own needs root");
    }
    let (space, _) = published();
    std::fs::set_permissions(space.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let closed = space.path().join("images/compute/out");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    // The other image is served all the same.
    let serving = |space: &Space| {
        let mut command = command(&["--listen", "127.0.0.1:0", "--user", "nobody"]);
        command.current_dir(space.path());
        command
    };
    let server = started(serving(&space));
    assert!(server.get("/gpu/kernel", "").0.starts_with("http/1.1 200"));
    let said = said(server);
    assert!(said.contains("images/compute/out") && said.contains("namei -l"), "{said}");
    let other = space.path().join("images/gpu/out");
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o700)).unwrap();
    let output = serving(&space).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("serve::root") && said.contains("namei -l"), "{said}");
}
