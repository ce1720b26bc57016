//! `imgbuild check --as KIND FILE`: what a list means.

use serde_json::Value;

use crate::support::{Ran, Space};

fn check(kind: &str, text: &str) -> (Ran, Value) {
    let space = Space::new();
    space.write("list", text);
    space.write("leaf", "leaf-package\n");
    let path = space.path().join("list");
    let ran = space.run(&["check", "--as", kind, path.to_str().unwrap(), "--json"]);
    let json = serde_json::from_str(&ran.out).unwrap();
    (ran, json)
}

#[test]
fn a_pkglist_shows_its_passes() {
    let (ran, json) = check("pkglist", "bash\n#INCLUDE:leaf#\n#NEW_INSTALL_LIST#\n#ENV:A=1#\nvim\n");
    assert_eq!(ran.code, 0);
    assert_eq!(json["passes"][0]["install"][0]["name"], "bash");
    assert_eq!(json["passes"][0]["install"][1]["name"], "leaf-package");
    assert_eq!(json["passes"][1]["environment"][0]["name"], "A");
    assert_eq!(json["passes"][1]["install"][0]["at"]["line"], 5);
}

#[test]
fn an_error_has_file_and_line_and_exit_code_one() {
    let (ran, json) = check("pkglist", "bash\na;b\n");
    assert_eq!(ran.code, 1);
    assert_eq!(json["findings"][0]["severity"], "error");
    assert_eq!(json["findings"][0]["line"], 2);
    assert_eq!(json["findings"][0]["code"], "pkglist::character");
}

#[test]
fn the_other_kinds_are_understood() {
    let (ran, json) = check("otherpkgs", "sub/dir/pkg\n-old\n--tools\n");
    assert_eq!(ran.code, 0);
    assert_eq!(json["passes"][0]["install"][0]["subdir"], "sub/dir");
    assert_eq!(json["passes"][0]["remove_after"][0]["name"], "tools");
    let (ran, json) = check("exlist", "./usr/share/doc*\n+./usr/share/doc/keep\n");
    assert_eq!(ran.code, 0);
    assert_eq!(json["include"][0]["pattern"], "./usr/share/doc/keep");
    let (ran, json) = check("synclist", "/etc/hosts -> /etc/hosts\nAPPEND:\n/a -> /b\n");
    assert_eq!(ran.code, 0);
    assert_eq!(json["entries"][1]["clause"], "append");
}

#[test]
fn a_list_that_cannot_be_read_is_an_error() {
    let space = Space::new();
    let ran = space.run(&["check", "--as", "exlist", "/nonexistent/list"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("/nonexistent/list"), "{}", ran.err);
}

#[test]
fn words_of_networks_that_the_initrd_does_not_make_are_told() {
    let space = Space::new();
    let image = |words: &str| {
        space.write(
            "image.toml",
            &format!("[image]\nname = \"x\"\nrelease = \"bookworm\"\n\n[boot]\ncmdline = [{words}]\n"),
        );
        space.run(&["check"])
    };
    for good in [
        "ip=dhcp",
        "ip=eth0:dhcp",
        "ip=10.0.0.1::10.0.0.254:255.255.255.0:n1:eth0:none",
        "ip=:::::eth1:dhcp",
        "ip=[fd00::5]::[fd00::1]:64::eth0:none",
        "ip=eth0.20:dhcp\", \"vlan=eth0.20:eth0",
        "bond=bond0:eth0,eth1:mode=802.3ad",
    ] {
        let ran = image(&format!("\"{good}\"")).good();
        assert!(!ran.err.contains("boot::network"), "{good}: {}", ran.err);
    }
    for (bad, why) in [
        ("ip=10.1.2", "`10.1.2` is not an address"),
        ("vlan=storage:eth0", "`storage` does not end in a VLAN's number"),
        ("bond=bond0:eth0,eth1:mode=lacp", "`lacp` is not a mode"),
    ] {
        let ran = image(&format!("\"{bad}\""));
        assert_eq!(ran.code, 1, "{bad}: {}", ran.err);
        assert!(ran.err.contains("the initrd cannot read") && ran.err.contains(why), "{bad}: {}", ran.err);
    }
    let ran = image("\"bridge=br0:eth0\"").good();
    assert!(ran.err.contains("makes no bridges"), "{}", ran.err);
}

#[test]
fn what_may_be_read_is_named_from_the_root_or_in_imgbuild_toml_from_there() {
    let space = Space::new();
    let image = |more: &str| {
        space.write(
            "a/b/image.toml",
            &format!(
                "[image]\nname = \"x\"\nrelease = \"bookworm\"\n\n[packages]\nlists = [\"../../c/d.pkglist\"]\n{more}"
            ),
        );
    };
    space.write("c/d.pkglist", "less\n").write("a/imgbuild.toml", "images = [\"b\"]\n");
    image("");
    let check = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_imgbuild"));
        let output =
            command.arg("-C").arg(space.path().join("a/b")).arg("check").env("NO_COLOR", "1").output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = check();
    assert!(code == Some(1) && said.contains("outside the workspace"), "{said}");
    space.write("a/imgbuild.toml", "images = [\"b\"]\n\n[workspace]\nallow = [\"../c/**\"]\n");
    let (code, said) = check();
    assert_eq!(code, Some(0), "{said}");
    image("\n[workspace]\nallow = [\"../c/**\"]\n");
    let (code, said) = check();
    assert!(code == Some(1) && said.contains("`../c/**` is not an absolute path"), "{said}");
}

#[test]
fn words_that_a_distribution_does_not_have_are_refused_with_what_to_write() {
    let space = Space::new();
    let list = |image: &str, words: &str| {
        space.write("a.pkglist", words);
        space.write("image.toml", &format!("[image]\nname = \"x\"\n{image}\n\n[packages]\nlists = [\"a.pkglist\"]\n"));
        space.run(&["check"])
    };
    let debian = "release = \"bookworm\"\n";
    list(debian, "curl/bookworm-backports\nsystemd=254*\nlibc6:amd64\nlinux-image-amd64/bookworm-backports\ncurl:amd64/bookworm-backports\n-less:amd64\n").good();
    list(debian, "?name(^lib-x$)\n?name(^a|b$)/bookworm\n~nlib\n~nlib/bookworm\nlibnss*/bookworm\nstandard^\n").good();
    for (word, told) in [
        ("/usr/bin/less", "apt installs packages by name"),
        ("perl(Foo::Bar)", "libfoo-bar-perl"),
        ("libc6:i386", "an image has packages of one"),
        ("libc6:i386=2.36-9", "an image has packages of one"),
        ("libc6:i386/bookworm", "has the architecture `i386`,"),
        ("-libc6:i386", "an image has packages of one"),
        ("--libc6:i386", "an image has packages of one"),
        ("curl:", "names no architecture"),
        (":i386", "names no package"),
        ("?section(libs/x)", "is not a pattern that apt can read"),
    ] {
        let ran = list(debian, &format!("bash\n{word}\n"));
        assert_eq!(ran.code, 1, "{word}: {}", ran.err);
        let column = word.len() - word.trim_start_matches('-').len() + 1;
        assert!(ran.err.contains(&format!("a.pkglist:2:{column}")) && ran.err.contains(told), "{word}: {}", ran.err);
    }
    // Fields that name packages are read as lists are.
    for (field, word) in [
        ("[kernel]\nfirmware_packages", "\"firmware-linux:i386\""),
        ("[initrd]\ngenerator = \"dracut\"\ndracut_packages", "\"/usr/bin/less\""),
        ("[postinstall]\nscript = \"a.sh\"\ntools", "\"@tools\""),
    ] {
        space.write("a.sh", "#!/bin/sh\n");
        let ran = list(&format!("{debian}\n{field} = [{word}]\n"), "bash\n");
        assert_eq!(ran.code, 1, "{word}: {}", ran.err);
        let told = ran.err.contains("recipe::not_a_name") || ran.err.contains("recipe::group");
        assert!(told && ran.err.contains("image.toml:"), "{word}: {}", ran.err);
    }
    let rocky = "distro = \"rocky\"\nrelease = \"9\"\n\n[[repo]]\nuri = \"http://h/\"\ncheck-packages = false\n";
    list(rocky, "/usr/bin/less\nperl(Foo::Bar)\nglibc.i686\n").good();
    list(rocky, "@perl:5.32\nbash-1:5.1\nlibfoo.so.1()(64bit)\n").good();
    let ran = list(rocky, "bash\n?name(bash)\n");
    assert!(ran.code == 1 && ran.err.contains("is a pattern of apt"), "{}", ran.err);
    for word in ["libc6:i386", "glibc:amd64", "-glibc:i686"] {
        let ran = list(rocky, &format!("bash\n{word}\n"));
        let told = ran.err.contains("names an architecture as Debian's lists do");
        assert!(ran.code == 1 && told && ran.err.contains("a.pkglist:2:"), "{word}: {}", ran.err);
    }
    let ran = list(rocky, "bash\n/usr/../less\n");
    assert!(ran.code == 1 && ran.err.contains("a.pkglist:2:1") && ran.err.contains("/usr/bin/less"), "{}", ran.err);
    assert!(!ran.err.contains("otherpkgs"), "{}", ran.err);
}

/// A recipe of an RPM distribution with a [[repo]], checked.
fn with_repo(space: &Space, repo: &str) -> Ran {
    space.write(
        "image.toml",
        &format!("[image]\nname = \"x\"\ndistro = \"rocky\"\nrelease = \"9\"\n\n[[repo]]\n{repo}\n"),
    );
    space.run(&["check"])
}

#[test]
fn repositories_of_this_machine_and_their_files_are_looked_at() {
    let space = Space::new();
    let folder = space.path().join("r");
    let repo = format!("uri = \"file:{}\"\ncheck-packages = false", folder.display());
    let fails = |ran: Ran, words: &[&str]| {
        let said = ran.err.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
        assert_eq!(ran.code, 1, "{}", ran.err);
        words.iter().for_each(|word| assert!(said.contains(word), "`{word}` is not in {}", ran.err));
    };
    fails(with_repo(&space, &repo), &["image.toml:7:7", "is not a directory", "correct the `uri`"]);
    // A lock that is out of date is no answer.
    space.write("image.lock", "format = 1\nepoch = 1\ntarget = \"rocky 9 x86_64\"\nsuite = []\npass = []\n");
    fails(with_repo(&space, &repo), &["is not a directory"]);
    std::fs::remove_file(space.path().join("image.lock")).unwrap();
    space.write("r/notes", "");
    let ran = with_repo(&space, &repo).good();
    assert!(ran.err.contains("has no `repodata` and no packages"), "{}", ran.err);
    space.write("r/repodata/repomd.xml", "<html>");
    fails(with_repo(&space, &repo), &["repodata/repomd.xml"]);
    let primary = "<metadata packages=\"0\"></metadata>";
    let repomd = format!(
        "<repomd><data type=\"primary\"><checksum type=\"sha256\">{}</checksum><location href=\"repodata/p.xml\"/><size>{}</size></data></repomd>",
        base::digest::Sha256::of(primary.as_bytes()),
        primary.len()
    );
    space.write("r/repodata/repomd.xml", &repomd);
    fails(with_repo(&space, &repo), &["`repodata/p.xml` is not at file:"]);
    space.write("r/repodata/p.xml", "half");
    fails(with_repo(&space, &repo), &["it has 4 bytes"]);
    space.write("r/repodata/p.xml", primary);
    with_repo(&space, &repo).good();
    // Files of repositories: as the build reads them.
    space.write("site.repo", "[site repo]\nbaseurl=http://h/\n[off x]\nenabled=0\nbaseurl=http://h/$unset\n");
    fails(with_repo(&space, "file = \"site.repo\""), &["site.repo:1:1", "`site repo` is not a repository's name"]);
    space.write("site.repo", "[site]\nbaseurl=http://h/$unset\ngpgcheck=0\n");
    fails(with_repo(&space, "file = \"site.repo\""), &["site.repo:2:1", "`unset` has no value"]);
    space.write("site.repo", "[site]\nbaseurl=http://h/\n");
    fails(with_repo(&space, "file = \"site.repo\""), &["`site` of site.repo must be checked, but names no keys"]);
    // What only a server knows is not asked for.
    space.write("site.repo", "[site]\nbaseurl=http://127.0.0.1:1/\ngpgcheck=0\n");
    with_repo(&space, "file = \"site.repo\"").good();
    let ran = space.run(&["check", "--online"]);
    fails(ran, &["image.toml:7:8", "cannot download `repomd.xml`"]);
    assert!(!space.store().exists(), "check made a store");
}

#[test]
fn debian_archives_files_of_them_and_their_keys_are_looked_at() {
    let space = Space::new();
    let check = |repo: &str| {
        space.write("image.toml", &format!("[image]\nname = \"x\"\nrelease = \"bookworm\"\n\n[[repo]]\n{repo}\n"));
        space.run(&["check"])
    };
    let fails = |ran: Ran, words: &[&str]| {
        let said = ran.err.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
        assert_eq!(ran.code, 1, "{}", ran.err);
        words.iter().for_each(|word| assert!(said.contains(word), "`{word}` is not in {}", ran.err));
    };
    space.write("site.list", "deb http://h/debian bookworm main\ndeb cdrom:x bookworm main\n");
    fails(check("file = \"site.list\""), &["site.list:2:1", "is not a supported URI"]);
    space.write("site.list", "deb [signed-by=keys/site.gpg] http://h/debian bookworm main\n");
    fails(check("file = \"site.list\""), &["keys/site.gpg", "No such file"]);
    space.write("keys/site.gpg", "<!DOCTYPE html>\n<html><title>404</title></html>\n");
    fails(check("file = \"site.list\""), &["keys/site.gpg", "it is a web page"]);
    space.write("keys/site.gpg", "\0\0\0\u{20}\u{1}\u{1}\0\u{2}KBXf\0\0\0\0");
    fails(check("file = \"site.list\""), &["it is a keybox of GnuPG", "--export --armor"]);
    let uri = "uri = \"http://h/\"\nsuites = [\"x\"]\ncomponents = [\"main\"]\nsigned-by = \"keys/site.gpg\"";
    fails(check(uri), &["image.toml:9:13", "it is a keybox of GnuPG"]);
    // Directories of this machine: flat and trusted, and with suites.
    let flat = format!("uri = \"file:{}\"\nsuites = [\"sub/dir/\"]\ntrusted = true", space.path().join("a").display());
    fails(check(&flat), &["image.toml:6:7", "no Release file and no Packages"]);
    space.write("a/sub/dir/Packages", "");
    check(&flat).good();
    let trusted = flat.replace("suites = [\"sub/dir/\"]", "suites = [\"x\"]\ncomponents = [\"main\"]");
    space.write(
        "a/dists/x/Release",
        "Codename: x\nComponents: main\nSHA256:\n e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 main/binary-amd64/Packages\n",
    );
    fails(check(&trusted), &["main/binary-amd64/Packages", "the Release file names it"]);
    space.write("a/dists/x/main/binary-amd64/Packages", "");
    check(&trusted).good();
    space.edit("a/dists/x/Release", "Codename: x\n", "Codename: x\nValid-Until: Sat, 17 May 2025 09:45:39 UTC\n");
    fails(check(&trusted), &["was valid until Sat, 17 May 2025", "check-valid-until = false"]);
    check(&format!("{trusted}\ncheck-valid-until = false")).good();
    fails(check(&format!("{trusted}\npriority = 10")), &["has no mirrorlist, metalink, priority", "`name=version`"]);
    assert!(!space.store().exists(), "check made a store");
}

#[test]
fn device_trees_are_for_cpus_that_have_them_and_the_command_line_has_a_limit_on_each() {
    let space = Space::new();
    let recipe = |arch: &str, more: &str| {
        let image = format!("[image]\nname = \"a\"\nrelease = \"bookworm\"\narch = \"{arch}\"\n");
        space.write("image.toml", &format!("{image}\n[kernel]\n{more}\n"));
        space.run(&["check"])
    };
    recipe("aarch64", "device_trees = [\"broadcom/bcm2711-rpi-4-b.dtb\", \"board.dtb\", \"ti/*\"]").good();
    for (index, name) in ["/board.dtb", "../board.dtb", "a b.dtb", "board.dts", "", "ti//x.dtb"].iter().enumerate() {
        let ran = recipe("aarch64", &format!("device_trees = [\"board.dtb\", \"{name}\"]"));
        let told = ran.err.contains("is not the name of a device tree") && ran.err.contains("image.toml:7:30");
        assert!(ran.code == 1 && told, "{index}: {}", ran.err);
    }
    for arch in ["x86_64", "ppc64le"] {
        let ran = recipe(arch, "device_trees = [\"board.dtb\"]");
        let told = ran.err.contains(&format!("kernels for {arch} have no device trees"));
        assert!(ran.code == 1 && told && ran.err.contains("image.toml:7:16"), "{}", ran.err);
    }
    for arch in ["x86_64", "aarch64", "ppc64le"] {
        let line = |length: usize| format!("\n[boot]\ncmdline = [\"{}\"]", "x".repeat(length));
        recipe(arch, &line(1500)).good();
        let ran = recipe(arch, &line(1600));
        assert!(ran.code == 1 && ran.err.contains("2048 is the kernel's limit"), "{arch}: {}", ran.err);
    }
}

/// A package of Debian with nothing in it.
fn deb(name: &str) -> Vec<u8> {
    let control = format!(
        "Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: t <t@example.invalid>\nDescription: t\n"
    );
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(control.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "./control", control.as_bytes()).unwrap();
    let control = archive.into_inner().unwrap();
    let data = tar::Builder::new(Vec::new()).into_inner().unwrap();
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in [("debian-binary", b"2.0\n".to_vec()), ("control.tar", control), ("data.tar", data)] {
        bytes.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, "100644", content.len()).bytes());
        bytes.extend(&content);
        bytes.resize(bytes.len().next_multiple_of(2), b'\n');
    }
    bytes
}

/// A recipe whose archive is a directory of this machine with some packages, and that has a directory of its own.
fn with_local_archive(space: &Space, install: &str, others: &str) {
    let names = ["apt", "kmod", "linux-image-amd64", "less", "nano"];
    let stanza = |name: &&str| {
        format!(
            "Package: {name}\nVersion: 1\nArchitecture: amd64\nFilename: {name}.deb\nSize: 4\nSHA256: {}\n\n",
            base::digest::Sha256::of(b"deb\n")
        )
    };
    space.write("a/Packages", &names.iter().map(stanza).collect::<String>());
    for name in names {
        space.write(&format!("a/{name}.deb"), "deb\n");
    }
    space.write(
        "image.toml",
        &format!(
            "[image]\nname = \"x\"\nrelease = \"bookworm\"\n\n[[repo]]\nuri = \"file:{}\"\nsuites = [\"./\"]\ntrusted = true\n\n\
             [packages]\ninstall = [{install}]\n\n[otherpkgs]\ndir = \"others\"\nlists = [\"o.pkglist\"]\n",
            space.path().join("a").display()
        ),
    );
    space.write("o.pkglist", others);
    std::fs::create_dir_all(space.path().join("others/sub")).unwrap();
    std::fs::write(space.path().join("others/sub/good_1.0_all.deb"), deb("good")).unwrap();
}

#[test]
fn package_files_that_are_none_are_told_where_they_are_asked_for_and_left_out_elsewhere() {
    let space = Space::new();
    with_local_archive(&space, "\"less\"", "good\nsite\n");
    space.write("others/site_1.0_all.deb", "<!DOCTYPE html>\n<title>404 Not Found</title>\n");
    std::fs::write(space.path().join("others/other_1.0_all.deb"), &deb("other")[..200]).unwrap();
    space.write("others/sub/tool_2.0_all.deb", "");
    let ran = space.run(&["check"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("o.pkglist:2:1") && ran.err.contains("it is a web page"), "{}", ran.err);
    for left_out in [
        "others/other_1.0_all.deb` is not a package and is left out",
        "sub/tool_2.0_all.deb` is not a package and is left out: it is empty",
    ] {
        assert!(ran.err.contains(left_out), "{}", ran.err);
    }
    // None that a list wants: the rest of the folder counts.
    space.write("o.pkglist", "sub/good\n");
    let ran = space.run(&["check"]).good();
    assert!(ran.err.contains("site_1.0_all.deb` is not a package and is left out"), "{}", ran.err);
    // By folder, by pattern, and with a version.
    for word in ["sub/tool", "to*", "tool=2.0"] {
        space.write("o.pkglist", &format!("{word}\n"));
        let ran = space.run(&["check"]);
        assert!(
            ran.code == 1 && ran.err.contains("o.pkglist:1:1") && ran.err.contains("it is empty"),
            "{word}: {}",
            ran.err
        );
    }
    // A package of the archive that is not what its index says.
    space.write("o.pkglist", "good\n").write("a/less.deb", "other\n");
    let ran = space.run(&["check"]);
    assert!(
        ran.code == 1 && ran.err.contains("a/less.deb` is not the package that its repository describes"),
        "{}",
        ran.err
    );
    // RPM packages likewise.
    space.write(
        "image.toml",
        "[image]\nname = \"x\"\ndistro = \"rocky\"\nrelease = \"9\"\n\n[[repo]]\nsource = \"distribution\"\n\n[otherpkgs]\ndir = \"others\"\nlists = [\"o.pkglist\"]\n",
    );
    space.write("others/site-1.0-1.el9.x86_64.rpm", "<html></html>").write("others/old-1-1.noarch.rpm", "half");
    space.write("o.pkglist", "site\n");
    let ran = space.run(&["check"]);
    assert!(ran.code == 1 && ran.err.contains("o.pkglist:1:1") && ran.err.contains("it is a web page"), "{}", ran.err);
    assert!(ran.err.contains("old-1-1.noarch.rpm` is not a package and is left out"), "{}", ran.err);
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let space = Space::new();
    with_local_archive(&space, "\"lesss\", \"nano\"", "goood\nsub/god\n");
    let ran = space.run(&["check"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    for (place, said) in [
        ("image.toml:11:12", "did you mean less"),
        ("o.pkglist:1:1", "did you mean good"),
        ("o.pkglist:2:1", "did you mean sub/good"),
    ] {
        assert!(ran.err.contains(place) && ran.err.contains(said), "{place} {said}: {}", ran.err);
    }
    // Beside wrong keys and values, files that are missing, and a damaged lock.
    let text = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    space.write(
        "image.toml",
        &format!("{text}\n[exclude]\nlists = [\"none.exlist\"]\n\n[system]\nhostnme = \"x\"\ntimezone = 7\n"),
    );
    space.write("image.lock", "half");
    let ran = space.run(&["check"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    for said in [
        "did you mean less",
        "did you mean good",
        "`none.exlist` cannot be read",
        "did you mean `hostname`?",
        "`system.timezone` must be a string",
        "image.lock",
    ] {
        assert_eq!(ran.err.matches(said).count().min(1), 1, "{said}: {}", ran.err);
    }
    assert_eq!(ran.err.matches("no repository has `lesss`").count(), 1, "{}", ran.err);
}
