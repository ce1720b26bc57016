//! Warewulf's Containerfiles, images and overlays.

use super::{all_files, assert_row, imported, rows, text};
use crate::support::Space;

const ROCKY: &str = "ARG V=9
FROM docker.io/rockylinux/rockylinux:${V}

RUN dnf update -y \\
    && dnf install -y --allowerasing \\
      cpio \\
      kernel-core \\
      NetworkManager \\
      openssh-server \\
    && dnf remove -y selinux-policy \\
    && dnf clean all

# A comment
RUN chmod u+w / # of the filesystem package
RUN userdel systemd-coredump
ENV SITE=cluster
COPY excludes /etc/warewulf/
COPY --chmod=755 image_exit.sh /etc/warewulf/
RUN ln -sf image_exit.sh /etc/warewulf/container_exit.sh && /etc/warewulf/image_exit.sh
CMD [ \"/bin/echo\" ]
";

const DEBIAN: &str = "FROM debian:bookworm-slim
ENV DEBIAN_FRONTEND noninteractive
ARG API_TOKEN=made-up-token
ENV DB_PASSWORD=made-up
RUN echo $API_TOKEN >/dev/null
RUN apt-get update && apt-get install -y --no-install-recommends \\
    linux-image-amd64 systemd-sysv openssh-server \\
 && apt-get clean && rm -rf /var/lib/apt/lists/*
RUN systemctl enable ssh
RUN echo 'root:made-up' | chpasswd
WORKDIR /srv
RUN <<EOF
set -e
touch here
EOF
COPY <<END /etc/site.conf
a=1
END
";

const LEAP: &str = "FROM registry.example/opensuse/leap:15.6
RUN zypper -n install kernel-default systemd openssh && zypper -n in -t pattern base && zypper clean -a
RUN systemctl mask wickedd.service
";

const STAGES: &str = "FROM registry.example/rocky:9 AS build
RUN dnf -y install gcc
COPY app.c /src/
FROM registry.example/rocky:9
COPY --from=build /src/app /usr/local/bin/app
RUN dnf config-manager --set-enabled crb && dnf install -y epel-release && dnf install -y https://x.example/driver.rpm htop
RUN --mount=type=secret,id=token curl -fsSL https://x.example/install.sh | bash
ADD https://x.example/a.tar.gz /opt/
USER nobody
";

const UBUNTU: &str = "FROM ubuntu:22.04
RUN apt-get update; apt-get -y install openssh-server
RUN for unit in a b; do systemctl enable $unit; done
RUN if ! dnf -y install x; then true; fi
HEALTHCHECK CMD true
";

#[test]
fn containerfiles_become_recipes() {
    let space = Space::new();
    space
        .write("rocky-9/Containerfile", ROCKY)
        .write("rocky-9/excludes", "/boot/\n/usr/share/GeoIP\n")
        .write("rocky-9/image_exit.sh", "#!/bin/sh\n");
    let report = imported(&space, &["import", "warewulf", "rocky-9"]);
    let recipe: toml::Table = text(&space, "rocky-9", "image.toml").parse().unwrap();
    assert_eq!(recipe["image"]["from"].as_str(), Some("oci:docker.io/rockylinux/rockylinux:9"));
    assert_eq!(recipe["repo"][0]["source"].as_str(), Some("distribution"));
    assert_eq!(recipe["environment"]["SITE"].as_str(), Some("cluster"));
    let list = text(&space, "rocky-9", "rocky-9.pkglist");
    assert_eq!(
        list.lines().skip(1).collect::<Vec<_>>(),
        ["cpio", "kernel-core", "NetworkManager", "openssh-server", "--selinux-policy"]
    );
    assert!(text(&space, "rocky-9", "rocky-9.exlist").contains("./usr/share/GeoIP\n./usr/share/GeoIP/*\n"));
    let script = text(&space, "rocky-9", "rocky-9.d/run.sh");
    let at = |word: &str| script.find(word).unwrap_or_else(|| panic!("{word}: {script}"));
    assert!(
        at("chmod u+w /") < at("userdel") && at("put /etc/warewulf/image_exit.sh 0755") < at("container_exit.sh"),
        "{script}"
    );
    assert_row(&report, "CMD", "stays", "a node starts its init");
    assert!(rows(&report, "RUN").iter().any(|row| row.1 == 4), "{report:#}");

    let space = Space::new();
    space.write("img/Dockerfile-12", DEBIAN);
    let report = imported(&space, &["import", "warewulf", "img/Dockerfile-12"]);
    let recipe: toml::Table = text(&space, "img-12", "image.toml").parse().unwrap();
    assert_eq!(
        (recipe["image"]["release"].as_str(), recipe["image"]["from"].as_str()),
        (Some("bookworm"), Some("oci:docker.io/library/debian:bookworm-slim"))
    );
    assert_eq!(recipe["services"]["enable"].to_string(), "[\"ssh\"]");
    assert_eq!(text(&space, "img-12", "img-12.d/files/etc/site.conf"), "a=1\n");
    assert!(text(&space, "img-12", "img-12.d/scripts/run-12.sh").contains("touch here"));
    assert!(!all_files(&space).contains("made-up") && !report.to_string().contains("made-up"));
    assert!(
        rows(&report, "RUN").iter().any(|row| row.0 == "decide" && row.1 == 10 && row.2.contains("a password")),
        "{report:#}"
    );

    let space = Space::new();
    space.write("leap/Containerfile", LEAP);
    imported(&space, &["import", "warewulf", "leap/Containerfile"]);
    assert!(text(&space, "leap", "leap.pkglist").contains("@base\n"));
    assert!(text(&space, "leap", "image.toml").contains("mask = [\"wickedd.service\"]"));

    let space = Space::new();
    space.write("s/Containerfile", STAGES).write("s/app.c", "");
    let report = imported(&space, &["import", "warewulf", "s"]);
    let list = text(&space, "s", "s.pkglist");
    assert!(list.contains("htop\n") && !list.contains("gcc") && !list.contains("driver"), "{list}");
    let recipe: toml::Table = text(&space, "s", "image.toml").parse().unwrap();
    let components = recipe["repo"][0]["components"].to_string();
    assert!(components.contains("+crb") && components.contains("+epel"), "{components}");
    for (key, word) in [
        ("COPY", "another stage"),
        ("RUN", "[otherpkgs] dir"),
        ("RUN", "needs a network"),
        ("ADD", "not fetched"),
        ("USER", "runuser"),
        ("FROM", "a stage"),
        ("RUN", "what it mounts"),
    ] {
        assert_row(&report, key, "decide", word);
    }

    let space = Space::new();
    space.write("u/Containerfile", UBUNTU);
    let report = imported(&space, &["import", "warewulf", "u"]);
    assert!(text(&space, "u", "u.d/run.sh").contains("for unit in a b"));
    assert_row(&report, "RUN", "decide", "runs dnf, which needs a network");
}

const WORDS: &str = "FROM --platform=linux/arm64 registry.example/rocky:9
ENV CFLAGS=\"-O2 -g\" LANG=C
ARG A=1 B=two
COPY site.repo /etc/yum.repos.d/
COPY files /opt/
COPY <<ONE <<'TWO' /etc/d/
a=$B
ONE
b=$HOME
TWO
RUN dnf install -y vim && cat <<EOF >/etc/x.conf
a=b
EOF
RUN python3 <<EOF
print(1)
EOF
RUN <<EOF
echo $B
EOF
RUN echo \"a << b\" >/etc/c
RUN [ -f /etc/x ] && systemctl disable y
";

#[test]
fn words_of_containerfiles_are_kept_or_named() {
    let space = Space::new();
    space.write("w/Containerfile", WORDS).write("w/files/a", "1\n").write("w/files/b.tmp", "1\n");
    space.write("w/.dockerignore", "# not these\n**/*.tmp\n[a-c]\n");
    let site = "[site]\nbaseurl=http://site.example/el9\n  http://two.example/el9\ngpgcheck=0\nexcludepkgs=kernel*\n";
    space.write("w/site.repo", site);
    let report = imported(&space, &["import", "warewulf", "w"]);
    let recipe: toml::Table = text(&space, "w", "image.toml").parse().unwrap();
    assert_eq!(recipe["image"]["arch"].as_str(), Some("aarch64"));
    assert_eq!(
        (recipe["environment"]["CFLAGS"].as_str(), recipe["environment"]["LANG"].as_str()),
        (Some("-O2 -g"), Some("C"))
    );
    // What is added is next to what the base image has.
    assert_eq!(recipe["repo"][0]["source"].as_str(), Some("distribution"));
    assert_eq!(
        (recipe["repo"][1]["uri"].as_str(), recipe["repo"][1]["exclude"].to_string().as_str()),
        (Some("http://site.example/el9"), "[\"kernel*\"]")
    );
    assert!(rows(&report, "repository baseurl").iter().any(|row| row.0 == "decide" && row.1 == 1), "{report:#}");
    assert!(super::names(&report, "http://two.example/el9"), "{report:#}");
    let folder = space.path().join("new/images/w/w.d/files");
    assert!(folder.join("opt/a").exists() && !folder.join("opt/b.tmp").exists());
    assert!(folder.join("etc/yum.repos.d/site.repo").exists());
    assert_row(&report, "ignored", "decide", "not a pattern");
    assert_eq!(text(&space, "w", "w.d/files/etc/d/ONE"), "a=two\n");
    assert_eq!(text(&space, "w", "w.d/files/etc/d/TWO"), "b=$HOME\n");
    // A text is the script only where nothing else is run.
    let script = text(&space, "w", "w.d/run.sh");
    assert!(script.contains("python3 <<EOF\nprint(1)\nEOF"), "{script}");
    assert!(script.contains("export B=two\n/.imgbuild-import/scripts/run-17.sh"), "{script}");
    assert_eq!(text(&space, "w", "w.d/scripts/run-17.sh"), "#!/bin/bash\necho $B\n");
    assert!(script.contains("[ -f /etc/x ] && systemctl disable y") && script.contains("a << b"), "{script}");
    assert!(recipe.get("services").is_none(), "{recipe}");
    // What is left out is named, with its text.
    let left = rows(&report, "RUN");
    assert!(left.iter().any(|row| row.0 == "decide" && row.1 == 11 && row.2.contains("runs dnf")), "{left:#?}");
    assert!(script.contains("# a=b\n"), "{script}");
    // Without an end it is no Containerfile.
    space.write("w/Containerfile", "FROM registry.example/rocky:9\nRUN <<EOF\ntrue\n");
    let ran = space.run(&["import", "warewulf", "w", "--into", "other"]);
    assert!(ran.code == 1 && ran.err.contains("Containerfile:2"), "{}", ran.err);
}

#[test]
fn a_containerfile_that_is_a_link_does_not_lead_out() {
    let space = Space::new();
    space.write("outside/Containerfile", "FROM registry.example/rocky:9\nCOPY secret /etc/x\n");
    space.write("outside/secret", "x\n").write("img/rocky.9", "FROM registry.example/rocky:9\n");
    let link = space.path().join("img/Containerfile");
    std::os::unix::fs::symlink("../outside/Containerfile", &link).unwrap();
    let ran = space.run(&["import", "warewulf", "img", "--into", "new"]);
    assert!(ran.code == 1 && ran.err.contains("escapes"), "{}{}", ran.out, ran.err);
    assert!(!space.path().join("new").exists());
    // One within is followed.
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("rocky.9", &link).unwrap();
    imported(&space, &["import", "warewulf", "img"]);
}

#[test]
fn overlays_become_synclists_with_owners_and_modes() {
    let space = Space::new();
    space.write("chroots/compute/rootfs/etc/os-release", "ID=rocky\nVERSION_ID=\"9.4\"\n");
    space.write("chroots/compute/rootfs/etc/warewulf/excludes", "/boot/\n");
    space
        .write("overlays/site/rootfs/etc/motd", "hello\n")
        .write("overlays/site/rootfs/etc/app.conf", "x\n")
        .write("overlays/site/rootfs/srv/spool/.keep", "");
    space.write("overlays/site/rootfs/etc/plain.conf.ww", "{{/* a comment */ -}}\nno template\n");
    space.write(
        "overlays/site/rootfs/etc/hosts.ww",
        "127.0.0.1 localhost\n{{range $n := .AllNodes}}{{$n.Id.Get}}\n{{end}}{{Include \"/etc/hosts\"}}\n",
    );
    space
        .write("overlays/site/rootfs/etc/munge/munge.key", "k\n")
        .write("overlays/site/rootfs/warewulf/init.d/20-x", "true\n");
    space.write("overlays/keys/rootfs/etc/ssh/ssh_host_rsa_key.ww", "{{IncludeFrom $.ImageName \"/x\"}}\n");
    space.write("overlays/old/etc/x", "");
    let path = |name: &str| space.path().join("overlays/site/rootfs").join(name);
    let mode = |name: &str, mode: u32| {
        std::fs::set_permissions(
            path(name),
            <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode),
        )
        .unwrap()
    };
    mode("etc/app.conf", 0o640);
    mode("srv/spool", 0o1777);
    std::os::unix::fs::symlink("../x.service", path("etc/wants")).unwrap();
    let is_root = std::os::unix::fs::chown(path("etc/app.conf"), Some(1001), Some(1001)).is_ok();
    let report = imported(&space, &["import", "warewulf", "chroots/compute", "--overlay", "overlays"]);
    let recipe: toml::Table = text(&space, "compute", "image.toml").parse().unwrap();
    assert_eq!((recipe["image"]["distro"].as_str(), recipe["image"]["release"].as_str()), (Some("rocky"), Some("9")));
    let owners = recipe["sync"]["owner"].as_table().unwrap();
    if is_root {
        assert_eq!(owners["/etc/app.conf"].as_str(), Some("1001:1001 0640"));
        // What is as usual needs no word.
        assert_eq!(owners.keys().collect::<Vec<_>>(), ["/etc/app.conf", "/srv/spool"]);
    }
    assert!(owners["/srv/spool"].as_str().unwrap().ends_with("1777"), "{owners}");
    let list = text(&space, "compute", "compute.synclist");
    assert!(list.contains("compute.d/files/etc -> /etc\n") && list.contains("compute.d/files/srv -> /srv\n"), "{list}");
    assert_eq!(text(&space, "compute", "compute.d/files/etc/plain.conf"), "no template\n");
    assert!(text(&space, "compute", "compute.d/run.sh").contains("link /etc/wants ../x.service"));
    // Templates, with what they use and what replaces them.
    assert_row(&report, "overlay", "decide", "$n.Id.Get, .AllNodes, Include: export nodes.toml");
    assert_row(&report, "overlay", "decide", "each node makes its own host keys");
    assert_row(&report, "overlay", "decide", "is or has a private key");
    assert_row(&report, "overlay", "decide", "[node] postscripts");
    assert_row(&report, "overlay", "decide", "it has no rootfs");
    assert_row(&report, "image", "decide", "imgbuild capture");
    assert!(!all_files(&space).contains("\nk\n"));
    // An image of a server whose overlays were not named says so.
    let report = imported(&space, &["import", "warewulf", "chroots/compute", "--name", "other"]);
    assert_row(&report, "overlays", "decide", "--overlay");
}

#[test]
fn no_instruction_is_lost_in_silence() {
    let space = Space::new();
    space.write("img/app.c", "").write("img/excludes", "/x\n").write("img/image_exit.sh", "");
    for document in [ROCKY, DEBIAN, LEAP, STAGES, UBUNTU] {
        space.write("img/Containerfile", document);
        let report = imported(&space, &["import", "warewulf", "img", "--name", &format!("n{}", document.len())]);
        let named: Vec<u64> =
            report["images"][0]["keys"].as_array().unwrap().iter().map(|row| row["line"].as_u64().unwrap()).collect();
        let words = ["FROM", "RUN", "COPY", "ADD", "ENV", "ARG", "USER", "CMD", "WORKDIR", "HEALTHCHECK"];
        for (at, _) in document
            .lines()
            .enumerate()
            .filter(|(_, line)| words.iter().any(|word| line.starts_with(&format!("{word} "))))
        {
            assert!(named.contains(&(at as u64 + 1)), "line {} of\n{document}\n{named:?}", at + 1);
        }
    }
}
