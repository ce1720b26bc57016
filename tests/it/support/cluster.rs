//! A recipe of a cluster's image with one of each kind of list, a lock that answers it, and a git repository around it. No
//! network and no store: a plan needs neither.

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::Space;

const RECIPE: &str = r#"[image]
name = "compute"
release = "bookworm"

[packages]
base = "essential"
lists = ["compute.pkglist"]
install = ["less"]

[kernel]
package = "linux-image-cloud-amd64"
drivers = [
    "+ice",
]

[system]
timezone = "Etc/UTC"
authorized_keys = ["keys/admin.pub"]
fstab = ["none /scratch tmpfs defaults 0 0"]

[services]
enable = ["ssh"]

[users]
slurm = { uid = 901, gid = 901, home = "/srv/slurm", shell = "/bin/sh" }

[postinstall]
script = "compute.postinstall"
arguments = ["one"]
inputs = ["site/**"]

[sync]
lists = ["compute.synclist"]

[exclude]
lists = ["compute.exlist"]

[pack]
compress = "zstd"
level = 3

[environment]
SITE = "a"
"#;

/// A transaction of the lock: its name, what is asked for, what it holds.
type Pass<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, &'a str)]);

/// What the recipe asks for, and packages for it.
pub const PASSES: [Pass<'static>; 5] = [
    ("tools", &["apt", "kmod"], &[("apt", "2.6.1"), ("kmod", "30-1")]),
    ("base", &["?essential"], &[("base-files", "12.4"), ("bash", "5.2.15-2")]),
    ("tools-postinstall", &["kmod"], &[("kmod", "30-1")]),
    (
        "packages-1",
        &["htop", "udev", "less"],
        &[("htop", "3.2.1-1"), ("libnl-3-200", "3.7.0-0.2"), ("udev", "252.1"), ("less", "590-2")],
    ),
    (
        "kernel",
        &["linux-image-cloud-amd64"],
        &[("linux-image-6.1.0-30-cloud-amd64", "6.1.124-1"), ("linux-image-cloud-amd64", "6.1.124-1")],
    ),
];

pub fn lock(passes: &[Pass<'_>]) -> String {
    let mut text =
        "# Written by imgbuild.\nformat = 1\nepoch = 1700000000\ntarget = \"debian bookworm x86_64\"\nsuite = []\n"
            .to_owned();
    for (name, install, packages) in passes {
        let install: Vec<String> = install.iter().map(|name| format!("\"{name}\"")).collect();
        let _ = write!(text, "\n[[pass]]\nname = \"{name}\"\ninstall = [{}]\npackages = [\n", install.join(", "));
        for (name, version) in *packages {
            let digest: String = format!("{name}{version}").bytes().map(|byte| format!("{byte:02x}")).collect();
            let digest: String = digest.chars().chain(std::iter::repeat('0')).take(64).collect();
            let auto = if name.starts_with("lib") { ", auto = true" } else { "" };
            let _ = writeln!(
                text,
                "    {{ name = \"{name}\", version = \"{version}\", arch = \"amd64\", size = 1, sha256 = \"{digest}\", origin = \"bookworm\", file = \"pool/{name}.deb\"{auto} }},"
            );
        }
        text.push_str("]\n");
    }
    text
}

/// Writes the recipe, all that it names, and its lock into a directory of a space.
pub fn write_cluster(space: &Space, directory: &str) {
    let at = |name: &str| if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
    for (name, text) in [
        ("image.toml", RECIPE),
        ("compute.pkglist", "# what administrators want\nhtop\nudev\n"),
        ("compute.synclist", "motd -> /etc/motd\nconf/*.conf -> /etc/conf/\n"),
        ("compute.exlist", "./usr/share/doc*\n./usr/share/man*\n"),
        ("compute.postinstall", "#!/bin/sh\ncp site/input \"$1/etc/made\"\n"),
        ("keys/admin.pub", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKRkbNXsrZuG0DY24YcLBn0bpOjO3bUTMXsZkVDp8Ty admin\n"),
        ("site/input", "input\n"),
        ("site/old.conf", "old\n"),
        ("motd", "a node\nof the cluster\n"),
        ("conf/a.conf", "a\n"),
        ("image.lock", &lock(&PASSES)),
    ] {
        space.write(&at(name), text);
        chmod(&space.path().join(at(name)), 0o644);
    }
    chmod(&space.path().join(at("compute.postinstall")), 0o755);
}

/// Sets a file's mode.
pub fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Runs git in a directory, with nothing of the user's settings.
pub fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(["-c", "user.name=site", "-c", "user.email=root@localhost", "-c", "commit.gpgsign=false"])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .expect("git is there");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A clone that a shell with a umask makes, by git with these options.
pub fn clone(of: &Path, umask: &str, more: &str) -> Space {
    let space = Space::new();
    let script = format!("umask {umask}; exec git clone -q {more} \"$1\" \"$2\"");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, "sh"]).args([of, space.path()]);
    shell.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    assert!(shell.status().unwrap().success());
    space
}

/// Makes a directory a repository with all its files in one commit, called `main`.
pub fn commit_all(directory: &Path) {
    git(directory, &["init", "-q", "-b", "main"]);
    git(directory, &["add", "-A", "-f"]);
    git(directory, &["commit", "-q", "-m", "first"]);
}

/// The recipe in a repository of its own.
pub fn cluster() -> Space {
    let space = Space::new();
    write_cluster(&space, "");
    commit_all(space.path());
    space
}
