//! Images in real registries, and root file systems as container images that other tools read.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use super::offline::{SAME, build, warm};
use super::tiny;
use crate::support::{Ran, Space, imgbuild};

/// `user:secret`, as htpasswd(1) writes it (bcrypt).
pub const USER: &str = "user:$2b$04$9fgM9F4yHQFxAMULbvhqKe1rY2nPHpYercSi/Ji4TfLXmygjmq/kG\n";

/// Debian's docker-registry on loopback.
pub struct Registry {
    child: Child,
    address: String,
}

impl Registry {
    pub fn start(directory: &Path, more: &str) -> Self {
        let tls = match more.contains("auth") {
            true => format!("  tls: {{certificate: {0}/server.pem, key: {0}/server.key}}\n", directory.display()),
            false => String::new(),
        };
        Self::start_with(directory, more, &tls)
    }

    /// The same without TLS.
    pub fn start_plain(directory: &Path, more: &str) -> Self {
        Self::start_with(directory, more, "")
    }

    fn start_with(directory: &Path, more: &str, tls: &str) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = directory.join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}/data}}}}\n\
             {more}http:\n  addr: 127.0.0.1:{port}\n{tls}",
            directory.display()
        );
        std::fs::write(&settings, text).unwrap();
        let log = std::fs::File::create(directory.join("log")).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&settings)
            .env("REGISTRY_STORAGE_DELETE_ENABLED", "true")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("docker-registry is there");
        let address = format!("127.0.0.1:{port}");
        for _ in 0..400 {
            if std::net::TcpStream::connect(&address).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        Self { child, address }
    }

    pub fn url(&self, name: &str) -> String {
        format!("oci://{}/{name}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
pub fn good(output: Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

pub fn tool(program: &str, words: &[&str]) -> Output {
    Command::new(program).args(words).output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn pull(from: &str, to: &Path, more: &[&str]) -> Ran {
    imgbuild().args(["pull", from]).arg(to).args(more).output().unwrap().into()
}

#[test]
fn a_real_registry_keeps_an_image_and_gives_it_back() {
    let space = Space::new();
    let registry = Registry::start(&space.path().join("registry"), "");
    let tiny = &tiny().space;
    let url = registry.url("site/tiny:1");
    // Killed once all blobs are there: no one finds half an image, and the next one sends the manifest alone.
    let reached = space.path().join("reached");
    let mut child = imgbuild()
        .arg("-C")
        .arg(tiny.path())
        .args(["push", &url])
        .env("IMGBUILD_FAULT", "oci.blobs-sent")
        .env("IMGBUILD_FAULT_FILE", &reached)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !reached.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let there = space.path().join("there");
    let ran = pull(&url, &there, &[]);
    assert!(ran.code == 1 && ran.err.contains("oci::not_there"), "{} {}", ran.code, ran.err);
    let pushed = tiny.run(&["push", &url]).good();
    assert!(pushed.err.contains(": 0.0 of "), "{}", pushed.err);
    pull(&url, &there, &[]).good();
    let lock = tiny.path().join("image.lock");
    let originals = SAME.map(|name| tiny.artefact("tiny", name)).into_iter().chain([lock]);
    for original in originals {
        let pulled = there.join("tiny").join(original.file_name().unwrap());
        assert!(std::fs::read(&original).unwrap() == std::fs::read(pulled).unwrap(), "{}", original.display());
    }
    // Other tools see an artefact of this kind.
    let raw = good(tool("skopeo", &["inspect", "--raw", "--tls-verify=false", &url.replace("oci:", "docker:")]));
    let digest = base::digest::Sha256::of(raw.as_bytes()).to_string();
    assert!(pushed.out.trim().ends_with(&format!("@sha256:{digest}")), "{} {digest}", pushed.out);
    let raw: serde_json::Value = serde_json::from_str(&raw).unwrap();
    assert_eq!(raw["artifactType"], "application/vnd.imgbuild.image.v1");
    // And copy it: a directory that another tool made is pulled from.
    let mirror = space.path().join("mirror");
    let copied = format!("oci:{}:1", mirror.display());
    good(tool("skopeo", &["copy", "-q", "--src-tls-verify=false", &url.replace("oci:", "docker:"), &copied]));
    let ran = pull(&format!("oci-layout:{}:1", mirror.display()), &space.path().join("mirrored"), &[]).good();
    assert!(ran.out.contains(&digest), "{}", ran.out);
    // What was pulled is an image as any other.
    let entry = ["boot-entry", "tiny", "--out", there.to_str().unwrap(), "--url", "http://10.0.0.1/tiny"];
    let ran: Ran = imgbuild().args(entry).output().unwrap().into();
    assert!(ran.good().out.contains("http://10.0.0.1/tiny"));
    // A bill goes along: this registry does not know referrers, and has it under a tag.
    let bill = there.join("tiny/sbom.spdx.json");
    let words = |words: &[&str]| -> Ran { imgbuild().args(words).output().unwrap().into() };
    words(&["sbom", there.join("tiny").to_str().unwrap(), "-o", bill.to_str().unwrap()]).good();
    let again = words(&["push", &url, "tiny", "--out", there.to_str().unwrap()]).good();
    assert!(again.out.trim().ends_with(&digest), "{} {digest}", again.out);
    let tag = format!("docker:{}:sha256-{digest}", url.trim_start_matches("oci:").trim_end_matches(":1"));
    let index = good(tool("skopeo", &["inspect", "--raw", "--tls-verify=false", &tag]));
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    assert_eq!(index["manifests"][0]["artifactType"], "application/spdx+json");
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    let third = space.path().join("third");
    pull(&url, &third, &[]).good();
    assert!(std::fs::read(third.join("tiny/sbom.spdx.json")).unwrap() == std::fs::read(&bill).unwrap());
    words(&["verify", third.join("tiny").to_str().unwrap()]).good();
}

/// A certificate for loopback by an authority of its own, as a site has one; gives the authority's.
fn certificate(directory: &Path) -> PathBuf {
    std::fs::create_dir_all(directory).unwrap();
    let text = "[req]\ndistinguished_name = dn\n[dn]\n[ca]\nbasicConstraints = critical,CA:TRUE\n\
                [server]\nsubjectAltName = IP:127.0.0.1\n";
    std::fs::write(directory.join("openssl.cnf"), text).unwrap();
    for (name, more) in [("ca", &[][..]), ("server", &["-CA", "ca.pem", "-CAkey", "ca.key"])] {
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-extensions", name];
        let (subject, key_file, file) = (format!("/CN={name}"), format!("{name}.key"), format!("{name}.pem"));
        let mut command = Command::new("openssl");
        command.current_dir(directory).args(["req", "-x509", "-days", "2", "-config", "openssl.cnf"]).args(key);
        command.args(["-subj", &subject, "-keyout", &key_file, "-out", &file]).args(more);
        good(command.output().unwrap());
    }
    directory.join("ca.pem")
}

#[test]
fn a_real_registry_with_tls_and_passwords_is_used_by_its_own_certificate_alone() {
    let space = Space::new();
    let place = space.path().join("registry");
    let certificate = certificate(&place);
    space.write("registry/htpasswd", USER);
    let settings = format!("auth: {{htpasswd: {{realm: site, path: {}/htpasswd}}}}\n", place.display());
    let registry = Registry::start(&place, &settings);
    let tiny = &tiny().space;
    let url = registry.url("tiny:1");
    let auth = space.path().join("auth.json");
    let push = |more: &[&str]| -> Ran {
        let mut command = imgbuild();
        command.env("REGISTRY_AUTH_FILE", &auth).arg("-C").arg(tiny.path()).args(["push", &url]).args(more);
        command.output().unwrap().into()
    };
    let ca = certificate.to_str().unwrap();
    let ran = push(&["--ca", ca]);
    assert!(
        ran.code == 1 && ran.err.contains("oci::denied") && ran.err.contains("podman login"),
        "{} {}",
        ran.code,
        ran.err
    );
    // As another tool logs in.
    let login = [
        "login",
        "--tls-verify=false",
        "-u",
        "user",
        "-p",
        "secret",
        "--authfile",
        auth.to_str().unwrap(),
        &registry.address,
    ];
    good(tool("skopeo", &login));
    push(&["--ca", ca]).good();
    // Its certificate is no one's whom this host knows.
    let other = self::certificate(&space.path().join("other"));
    let ran = push(&["--ca", other.to_str().unwrap()]);
    assert!(ran.code == 3 && ran.err.contains("oci::unreached"), "{} {}", ran.code, ran.err);
    // Without TLS the server does not understand a word.
    let ran = push(&[]);
    assert!(ran.code == 1 && ran.err.contains("400"), "{} {}", ran.code, ran.err);
}

/// What a tree has: kinds, modes, owners, sizes, names of one file, times, contents, links, devices and attributes.
pub fn listing(tree: &Path) -> String {
    let script = r#"
import hashlib, os, stat, sys
os.chdir(sys.argv[1])
for folder, folders, files in os.walk("."):
    folders.sort()
    for name in sorted(folders + files):
        path = os.path.join(folder, name)
        found = os.lstat(path)
        kind = stat.filemode(found.st_mode)
        line = [path[2:], kind, f"{found.st_uid}:{found.st_gid}"]
        if stat.S_ISLNK(found.st_mode):
            line.append(os.readlink(path))
        elif stat.S_ISREG(found.st_mode):
            digest = hashlib.sha256(open(path, "rb").read()).hexdigest()[:12]
            line += [str(found.st_nlink), str(int(found.st_mtime)), digest]
        elif stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
            line.append(f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}")
        for name in sorted(os.listxattr(path, follow_symlinks=False)):
            line.append(f"{name}={os.getxattr(path, name, follow_symlinks=False).hex()}")
        print(*line)
"#;
    good(Command::new("python3").args(["-c", script]).arg(tree).output().unwrap())
}

#[test]
fn privileged_a_root_file_system_is_a_container_image_that_other_tools_unpack() {
    let space = warm();
    let more = r#"chmod 755 "$1/sbin/init"
cd "$1"
ln bin/cat usr/local/bin/cat2
mkfifo etc/pipe
chown 1000:100 etc/issue
chmod 1777 srv
rm -r etc/skel
rm etc/issue.net
mkdir -p opt/a/b
echo x >opt/a/b/c
chmod 700 opt/a
cp bin/true opt/capable
perl -e '$c = pack("VVVVV", 0x2000001, 0x400, 0, 0, 0); $p = "opt/capable"; $n = "security.capability";
syscall(188, $p, $n, $c, 20, 0) == 0 or die $!'
"#;
    space.edit("tiny.postinstall", "chmod 755 \"$1/sbin/init\"\n", more);
    build(&space).good();
    let archive = space.path().join("tiny.tar");
    let to = format!("oci-archive:{}:1", archive.display());
    let first = space.run(&["push", "--as-container", &to]).good();
    assert!(first.out.starts_with("sha256:"), "{}", first.out);
    // The same bytes again.
    let bytes = std::fs::read(&archive).unwrap();
    let again = space.run(&["push", "--as-container", &to]).good();
    assert!(again.out == first.out && std::fs::read(&archive).unwrap() == bytes);
    assert!(walkdir::WalkDir::new(space.store().join("v1/handover")).min_depth(1).into_iter().next().is_none());
    // The tree of nodes.
    let nfs = space.path().join("nfs");
    space.run(&["publish", &format!("nfs:{}", nfs.display())]).good();
    std::fs::remove_dir_all(nfs.join("rootimg/.statelite")).unwrap();
    let expected = listing(&nfs.join("rootimg"));
    for needed in [
        "usr/local/bin/cat2 -rwxr-xr-x 0:0 2",
        "etc/pipe p",
        "etc/issue -rw-r--r-- 1000:100",
        "srv drwxrwxrwt",
        "opt/a drwx------",
        "security.capability=0100000200040000",
    ] {
        assert!(expected.contains(needed), "{needed}:\n{expected}");
    }
    // umoci unpacks what skopeo copies.
    let layout = space.path().join("layout");
    let copied = format!("oci:{}:1", layout.display());
    good(tool("skopeo", &["copy", "-q", &format!("oci-archive:{}", archive.display()), &copied]));
    let inspected = good(tool("skopeo", &["inspect", &copied]));
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!((&inspected["Architecture"], &inspected["Os"]), (&"amd64".into(), &"linux".into()));
    assert!(inspected["Layers"].as_array().unwrap().len() >= 3, "{inspected}");
    let bundle = space.path().join("bundle");
    good(tool("umoci", &["unpack", "--image", &format!("{}:1", layout.display()), bundle.to_str().unwrap()]));
    similar(&expected, &listing(&bundle.join("rootfs")), "umoci");
    // podman pulls it from a registry; a layer that an earlier push brought is not sent again.
    let registry = Registry::start(&space.path().join("registry"), "");
    space.run(&["push", "--as-container", &registry.url("tiny:1")]).good();
    let ran = space.run(&["push", "--as-container", &registry.url("tiny:2")]).good();
    assert!(ran.err.contains(": 0.0 of ") && ran.err.contains("0 of "), "{}", ran.err);
    let root = space.path().join("podman");
    let at = |name: &str| root.join(name).display().to_string();
    let (storage, run, image) = (at("root"), at("run"), format!("{}/tiny:2", registry.address));
    let podman = |words: &[&str]| {
        tool(
            "podman",
            &[
                &["--root", &storage, "--runroot", &run, "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"],
                words,
            ]
            .concat(),
        )
    };
    good(podman(&["pull", "-q", "--tls-verify=false", &image]));
    let mounted = good(podman(&["image", "mount", &image]));
    let found = listing(Path::new(mounted.trim()));
    good(podman(&["image", "unmount", &image]));
    similar(&expected, &found, "podman");
    // The recipe says something else now.
    space.edit("tiny.exlist", "./boot/*\n", "./boot/*\n./usr/games\n");
    let ran = space.run(&["push", "--as-container", &to]);
    assert!(
        ran.code == 1 && ran.err.contains("oci::not_built") && ran.err.contains("exclude list"),
        "{} {}",
        ran.code,
        ran.err
    );
}

/// Fails with the first lines that only one of two listings has.
#[track_caller]
pub fn similar(expected: &str, found: &str, who: &str) {
    let only = |one: &str, other: &str| -> Vec<String> {
        let other: std::collections::HashSet<&str> = other.lines().collect();
        one.lines().filter(|line| !other.contains(line)).take(8).map(str::to_owned).collect()
    };
    assert!(expected == found, "{who}\nmissing: {:#?}\nmore: {:#?}", only(expected, found), only(found, expected));
}

#[test]
fn a_second_push_of_a_nearly_equal_image_sends_what_differs_and_what_was_pulled_boots() {
    let space = warm();
    build(&space).good();
    let registry = Registry::start(&space.path().join("registry"), "");
    let sent = |tag: &str| -> (u64, u64) {
        let ran = space.run(&["push", &registry.url(&format!("tiny:{tag}")), "--json"]).good();
        let said: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        (said["sent"].as_u64().unwrap(), said["size"].as_u64().unwrap())
    };
    let (first, size) = sent("1");
    assert!(first > size / 2, "{first} {size}");
    space.edit("tiny.postinstall", "NODE IS UP", "NODE IS UP AGAIN");
    build(&space).good();
    let (second, size) = sent("2");
    println!("first push {first}, second {second} of {size} bytes");
    assert!(second * 4 < size, "{second} of {size}");
    let there = space.path().join("there");
    pull(&registry.url("tiny:1"), &there, &[]).good();
    let ran = pull(&registry.url("tiny:2"), &there, &["--json"]).good();
    let said: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert!(said["moved"].as_u64().unwrap() * 4 < size, "{said}");
    let boot = ["boot", "tiny", "--out", there.to_str().unwrap(), "--until", "NODE IS UP AGAIN", "--timeout", "300"];
    let ran: Ran = imgbuild().args(boot).output().unwrap().into();
    ran.good();
}
