//! What is refused of `[kdump]` before anything runs, and how it comes from xCAT and goes back.

use crate::support::{Space, without_paths};

const HEAD: &str = "[image]\nname = \"x\"\nrelease = \"bookworm\"\n\n[system]\nauthorized_keys = [\"k.pub\"]\n\n";

fn space(kdump: &str) -> Space {
    let space = Space::new();
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKRkbNXsrZuG0DY24YcLBn0bpOjO3bUTMXsZkVDp8Ty";
    space
        .write("k.pub", &format!("{key} x\n"))
        .write("hosts", &format!("head {key}\n"))
        .write("image.toml", &format!("{HEAD}{kdump}"));
    space
}

/// What is said of a bad one.
#[track_caller]
fn said(kdump: &str) -> String {
    let space = space(kdump);
    let ran = space.run(&["check"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    without_paths(&ran.err, &space)
}

fn key(space: &Space, name: &str, passphrase: &str) {
    let path = space.path().join(name);
    let mut command = std::process::Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", passphrase, "-f"]).arg(path);
    assert!(command.status().expect("ssh-keygen is there").success());
}

#[test]
fn a_dump_that_cannot_be_is_refused_with_its_place() {
    let bad = "[kdump]\nto = \"/var/crash\"\nreserve = \"16M\"\ncmdline = [\"a b\"]\n\n[boot]\ncmdline = [\"crashkernel=auto\"]\n";
    insta::assert_snapshot!(said(bad));
    let bad = "[kdump]\nto = \"ssh://kdump@head/srv/crash\"\noptions = \"soft\"\nfilesystem = \"xfs\"\nlevel = 32\n";
    assert!(said(bad).contains("level"), "{}", said(bad));
    insta::assert_snapshot!(said(&bad.replace("level = 32\n", "")));
}

#[test]
fn keys_of_a_dump_are_those_that_no_one_has_to_type() {
    let all = "[kdump]\nto = \"ssh://kdump@head/srv/crash\"\nssh_key = \"dump\"\nknown_hosts = \"hosts\"\n";
    let good = space(all);
    key(&good, "dump", "");
    let ran = good.run(&["check"]).good();
    assert!(ran.err.contains("anyone who can fetch the image can read `dump`"), "{}", ran.err);
    good.edit("image.toml", "release = ", "secrets = \"allowed\"\nrelease = ");
    let ran = good.run(&["check"]).good();
    assert!(!ran.err.contains("anyone who can fetch"), "{}", ran.err);
    let locked = space(all);
    key(&locked, "dump", "a passphrase");
    let ran = locked.run(&["check"]);
    assert!(ran.code == 1 && ran.err.contains("`dump` has a passphrase, which no one can type"), "{}", ran.err);
    assert!(ran.err.contains("image.toml:10:"), "{}", ran.err);
    let public = space(&all.replace("\"dump\"", "\"k.pub\""));
    let ran = public.run(&["check"]);
    assert!(ran.code == 1 && ran.err.contains("`k.pub` is not a private key"), "{}", ran.err);
    let no_host = space(&all.replace("\"hosts\"", "\"image.toml\""));
    key(&no_host, "dump", "");
    no_host.write(
        "image.toml",
        &std::fs::read_to_string(no_host.path().join("image.toml"))
            .unwrap()
            .replace("known_hosts = \"image.toml\"", "known_hosts = \"dump.pub2\""),
    );
    no_host.write("dump.pub2", "# nothing\n");
    let ran = no_host.run(&["check"]);
    assert!(ran.code == 1 && ran.err.contains("`dump.pub2` contains no host key"), "{}", ran.err);
}

#[test]
fn the_same_in_kdl() {
    let space = space("");
    let toml = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    space.write(
        "image.toml",
        &format!("{toml}[kdump]\nto = \"nfs://10.0.0.1/export/dumps\"\nreserve = \"1G-64G:256M,64G-:512M\"\nafterwards = \"poweroff\"\n"),
    );
    let ran = space.run(&["convert", "--to", "kdl"]);
    let kdl = if ran.out.is_empty() {
        std::fs::read_to_string(space.path().join("image.kdl")).unwrap_or(ran.err)
    } else {
        ran.out
    };
    assert!(kdl.contains("kdump to=\"nfs://10.0.0.1/export/dumps\" reserve=\"1G-64G:256M,64G-:512M\""), "{kdl}");
}

#[test]
fn it_comes_from_xcat_and_goes_back() {
    let space = Space::new();
    let stanza = |more: &str| {
        format!(
            "compute:\n    objtype=osimage\n    imagetype=Linux\n    osname=Linux\n    osvers=debian12\n    osarch=x86_64\n    profile=compute\n    provmethod=netboot\n{more}"
        )
    };
    space.write("in.stanza", &stanza("    dump=nfs:///install/crash\n    crashkernelsize=256M@64M\n"));
    let to = space.path().join("site");
    let from = space.path().join("in.stanza");
    let ran = space.run(&["import", "xcat", from.to_str().unwrap(), "--into", to.to_str().unwrap()]);
    assert!(ran.code == 0, "{}", ran.err);
    let recipe = walkdir::WalkDir::new(&to)
        .into_iter()
        .flatten()
        .find(|entry| entry.file_name() == "image.toml")
        .unwrap_or_else(|| panic!("{} {}", ran.out, ran.err));
    let text = std::fs::read_to_string(recipe.path()).unwrap();
    assert!(text.contains("[kdump]\nto = \"nfs:///install/crash\"\nreserve = \"256M@64M\"\n"), "{text}");
    let export = |said: &str| {
        let mut command = crate::support::imgbuild();
        let out = command.arg("-C").arg(&to).args(["export", "xcat"]).output().unwrap();
        let out = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.contains(said), "{said}: {out}");
    };
    export("    crashkernelsize=256M@64M\n");
    export("    dump=nfs:///install/crash\n");
    std::fs::write(recipe.path(), text.replace("256M@64M", "1G-:512M")).unwrap();
    export("    crashkernelsize=1G-:512M\n");
    // By the firmware of POWER, or without a place.
    for (more, said) in [
        ("    dump=fadump:nfs://10.0.0.1/x\n", "dumps by POWER's firmware are not supported"),
        ("    crashkernelsize=256M\n", "xCAT reads it only with `dump`"),
    ] {
        space.write("in.stanza", &stanza(more));
        let other = space.path().join(format!("other{}", more.len()));
        let ran = space.run(&["import", "xcat", from.to_str().unwrap(), "--into", other.to_str().unwrap()]);
        let recipe = std::fs::read_to_string(other.join("images/compute/image.toml")).unwrap();
        assert!((ran.out.contains(said) || recipe.contains(said)) && !recipe.contains("\n[kdump]"), "{recipe}");
        assert!(ran.code == 0, "{}", ran.err);
    }
}
