//! KIWI's descriptions.

use super::{all_files, assert_row, assert_unknown_is_named, imported, rows, text};
use crate::support::{Space, project};

/// After the shape of a Debian appliance.
pub(super) const DEBIAN: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<image schemaversion="7.6" name="appliance">
    <description type="system">
        <author>site</author>
        <contact>site@cluster.example</contact>
        <specification>an appliance</specification>
    </description>
    <profiles>
        <profile name="Live" description="live" import="true"/>
        <profile name="Disk" description="disk"/>
    </profiles>
    <preferences>
        <version>1.0.0</version>
        <packagemanager>apt</packagemanager>
        <locale>en_US</locale>
        <timezone>Europe/Berlin</timezone>
    </preferences>
    <preferences profiles="Live">
        <type image="iso" firmware="efi" kernelcmdline="console=ttyS0 splash"/>
    </preferences>
    <users>
        <user password="$1$abcdefgh$0123456789abcdefghijkl" home="/root" name="root" groups="root"/>
        <user name="ops" password="made-up" pwdformat="plain" groups="ops:1500,adm" id="1500" home="/home/ops" realname="The ops" shell="/bin/bash"/>
    </users>
    <repository type="apt-deb" alias="d" distribution="bookworm" components="main contrib" repository_gpgcheck="false">
        <source path="http://mirror.example/debian"/>
    </repository>
    <packages type="image">
        <package name="vim"/>
        <package name="openssh-server"/>
        <package name="grub-efi-amd64" arch="aarch64"/>
        <package name="linux-image-amd64"/>
        <ignore name="plymouth"/>
    </packages>
    <packages type="oem">
        <package name="dracut-kiwi-oem-repart"/>
    </packages>
    <packages type="delete">
        <package name="nano"/>
    </packages>
    <packages type="bootstrap"/>
</image>
"#;

const LEAP: &str = r#"<image schemaversion="7.4" name="Leap-15.6_appliance">
  <preferences>
    <version>1.15.6</version><packagemanager>zypper</packagemanager><keytable>us</keytable>
    <rpm-excludedocs>true</rpm-excludedocs><rpm-check-signatures>false</rpm-check-signatures>
    <type image="oem" filesystem="xfs" kernelcmdline="quiet"><oemconfig><oem-resize>false</oem-resize></oemconfig><bootloader name="grub2"/></type>
  </preferences>
  <repository type="rpm-md" alias="kiwi" priority="1"><source path="obs://Virtualization:Appliances:Builder/openSUSE_Leap_15.6"/></repository>
  <repository type="rpm-md" alias="oss" imageinclude="true"><source path="https://mirror.example/distribution/leap/15.6/repo/oss/"/></repository>
  <repository type="rpm-md" alias="site" priority="50"><source path="http://site.example/leap"/></repository>
  <packages type="image" patternType="plusRecommended">
    <namedCollection name="base"/><product name="Leap"/><package name="kernel-default"/><package name="openssh"/>
  </packages>
  <packages type="bootstrap"><package name="filesystem"/><package name="openSUSE-release"/></packages>
</image>
"#;

const CENTOS: &str = r#"<image schemaversion="7.6" name="CentOS-9_appliance">
  <preferences><version>1.1.0</version><packagemanager>dnf4</packagemanager><locale>en_US</locale><type image="kis"/></preferences>
  <repository type="rpm-md" alias="BaseOS" sourcetype="metalink">
    <source path="https://mirrors.centos.org/metalink?repo=centos-baseos-9-stream&amp;arch=x86_64"/>
  </repository>
  <repository type="rpm-md" alias="closed" username="u" password="made-up"><source path="https://site.example/9-stream/x"/></repository>
  <packages type="bootstrap">
    <collectionModule name="nodejs" stream="18" enable="true"/><collectionModule name="php" enable="false"/>
    <package name="filesystem"/>
  </packages>
  <packages type="image"><package name="kernel"/><namedCollection name="core"/></packages>
</image>
"#;

const FEDORA: &str = r#"<image schemaversion="8.0" name="Fedora-43.0_appliance">
  <preferences arch="x86_64"><version>43.0</version><packagemanager>dnf5</packagemanager><release-version>43</release-version><type image="oem"/></preferences>
  <preferences arch="aarch64"><timezone>UTC</timezone></preferences>
  <repository type="rpm-md" alias="fedora" package_gpgcheck="true">
    <source path="https://mirror.example/releases/43/Everything/x86_64/os"><signing key="file:///usr/share/distribution-gpg-keys/fedora/none"/></source>
  </repository>
  <repository type="rpm-md" alias="third" package_gpgcheck="true"><source path="https://third.example/f43"><signing key="keys/third"/></source></repository>
  <repository type="rpm-md" alias="far" package_gpgcheck="true"><source path="https://far.example/f43"><signing key="https://far.example/KEY"/></source></repository>
  <packages type="image"><package name="kernel-core"/></packages>
</image>
"#;

const TUMBLEWEED: &str = r#"<image schemaversion="7.5" name="tumbleweed">
  <include from="this://more.xml"/>
  <preferences><packagemanager>zypper</packagemanager><version>1.0.0</version><type image="docker" derived_from="docker://registry.example/tumbleweed#latest"><containerconfig name="x"/></type></preferences>
  <repository type="rpm-md"><source path="obsrepositories:/"/></repository>
</image>
"#;

#[test]
fn a_debian_appliance_becomes_a_recipe() {
    let space = Space::new();
    space.write("config.xml", DEBIAN);
    let report = imported(&space, &["import", "kiwi", "config.xml"]);
    let recipe: toml::Table = text(&space, "appliance", "image.toml").parse().unwrap();
    assert_eq!(
        (recipe["image"]["distro"].as_str(), recipe["image"]["release"].as_str()),
        (Some("debian"), Some("bookworm"))
    );
    assert_eq!(recipe["repo"][0]["uri"].as_str(), Some("http://mirror.example/debian"));
    // The distribution's own archive is checked, with built-in keys.
    assert!(recipe["repo"][0].get("trusted").is_none());
    assert_eq!(recipe["system"]["timezone"].as_str(), Some("Europe/Berlin"));
    assert_eq!(recipe["system"]["locale"].as_str(), Some("en_US.UTF-8"));
    assert_eq!(recipe["boot"]["cmdline"].to_string(), "[\"console=ttyS0\", \"splash\"]");
    let list = text(&space, "appliance", "appliance.pkglist");
    assert_eq!(
        list.lines().skip(1).collect::<Vec<_>>(),
        ["vim", "openssh-server", "linux-image-amd64", "-plymouth", "--nano"]
    );
    let script = text(&space, "appliance", "appliance.d/run.sh");
    assert!(
        script.contains("useradd -m -u 1500 -d /home/ops -s /bin/bash -c '\\''The ops'\\'' -g ops -G adm ops"),
        "{script}"
    );
    // Passwords are named, and nowhere.
    assert_eq!(
        rows(&report, "users/user password").iter().map(|row| (row.0, row.1)).collect::<Vec<_>>(),
        [("decide", 22), ("decide", 23)]
    );
    let written = all_files(&space);
    assert!(!written.contains("made-up") && !written.contains("0123456789abcdef"), "{written}");
    assert!(!report.to_string().contains("made-up") && !report.to_string().contains("0123456789abcdef"));
    assert_row(&report, "packages type=oem", "stays", "only for images of the type oem");
    assert_row(&report, "profiles", "decide", "--profile NAME");
    assert_row(&report, "packages/package", "stays", "for another profile or CPU");
}

#[test]
fn rpm_descriptions_become_recipes() {
    let space = Space::new();
    space.write("leap/config.xml", LEAP);
    let report = imported(&space, &["import", "kiwi", "leap"]);
    let recipe: toml::Table = text(&space, "Leap-15.6_appliance", "image.toml").parse().unwrap();
    assert_eq!(recipe["image"]["release"].as_str(), Some("15.6"));
    assert_eq!(recipe["repo"][0]["uri"].as_str(), Some("https://mirror.example"));
    assert_eq!(recipe["repo"][0]["components"].to_string(), "[\"oss\"]");
    assert_eq!(recipe["repo"][1]["check-packages"].as_bool(), Some(false));
    assert_eq!(recipe["repo"][1]["priority"].as_integer(), Some(50));
    assert!(text(&space, "Leap-15.6_appliance", "Leap-15.6_appliance.pkglist").contains("@base\nkernel-default\n"));
    assert_row(&report, "repository", "decide", "Open Build Service");
    assert_row(&report, "packages/product", "decide", "a product of zypper");
    assert_row(&report, "preferences/rpm-excludedocs", "differs", "exclude list");

    let space = Space::new();
    space.write("centos/appliance.kiwi", CENTOS);
    let report = imported(&space, &["import", "kiwi", "centos/appliance.kiwi"]);
    let recipe: toml::Table = text(&space, "CentOS-9_appliance", "image.toml").parse().unwrap();
    assert_eq!(recipe["repo"][0]["components"].to_string(), "[\"baseos\"]");
    let list = text(&space, "CentOS-9_appliance", "CentOS-9_appliance.pkglist");
    assert!(list.contains("@nodejs:18\n") && list.contains("@core\n"), "{list}");
    assert_row(&report, "packages/collectionModule", "decide", "cannot be disabled");
    assert_row(&report, "repository password", "decide", "docs/security.md");
    assert!(!all_files(&space).contains("made-up"));

    let space = Space::new();
    space
        .write("config.xml", FEDORA)
        .write("keys/third", &std::fs::read_to_string(project().join("crates/pgp/src/keys/fedora.asc")).unwrap());
    let report = imported(&space, &["import", "kiwi", "config.xml"]);
    let recipe = text(&space, "Fedora-43.0_appliance", "image.toml");
    let parsed: toml::Table = recipe.parse().unwrap();
    assert_eq!(parsed["repo"].as_array().unwrap().len(), 2, "{recipe}");
    assert_eq!(parsed["repo"][1]["signed-by"].to_string(), "\"keys/third-third\"");
    // A key of the network is not fetched, and its repository waits for it.
    assert!(
        recipe.contains("# [[repo]]\n# id = \"far\"") && recipe.contains("# signed-by = \"keys/far-KEY\""),
        "{recipe}"
    );
    assert_row(&report, "repository", "decide", "save https://far.example/KEY as keys/far-KEY");

    let space = Space::new();
    space.write("config.xml", TUMBLEWEED);
    space.write("more.xml", "<image><packages type=\"image\"><package name=\"systemd\"/></packages></image>");
    let report = imported(&space, &["import", "kiwi", "config.xml"]);
    let recipe = text(&space, "tumbleweed", "image.toml");
    assert!(
        recipe.contains("from = \"oci:registry.example/tumbleweed:latest\"")
            && recipe.contains("source = \"distribution\""),
        "{recipe}"
    );
    assert!(text(&space, "tumbleweed", "tumbleweed.pkglist").contains("systemd\n"));
    assert_row(&report, "preferences/type/containerconfig", "stays", "disks");
}

#[test]
fn the_overlay_and_the_scripts_come_in_their_order() {
    let space = Space::new();
    space.write("config.xml", DEBIAN);
    space
        .write("root/etc/motd", "hello\n")
        .write("root/etc/munge/munge.key", "k\n")
        .write("root/usr/local/bin/tool", "#!/bin/sh\n");
    space.write("root/etc/app.conf", "db_password = made-up\n");
    std::os::unix::fs::symlink("../usr/share/zoneinfo/UTC", space.path().join("root/etc/localtime")).unwrap();
    let mode = |path: &str, mode: u32| {
        let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode);
        std::fs::set_permissions(space.path().join(path), mode).unwrap();
    };
    mode("root/usr/local/bin/tool", 0o755);
    mode("root/etc/motd", 0o640);
    space.write("Live/etc/live", "1\n").write("Disk/etc/disk", "1\n").write("unrelated.txt", "x");
    space.write("config.sh", "#!/bin/bash\ntest -f /.kconfig && . /.kconfig\nbaseInsertService ssh\nbaseVagrantSetup\necho root:made-up | chpasswd\ncurl -O https://x.example/y\n");
    space.write("disk.sh", "true\n").write("post_bootstrap.sh", "true\n");
    let report = imported(&space, &["import", "kiwi", "."]);
    let script = text(&space, "appliance", "appliance.d/run.sh");
    let at = |word: &str| script.find(word).unwrap_or_else(|| panic!("{word}: {script}"));
    // Overlay, users, config.sh: as KIWI does it.
    assert!(at("put /etc/motd 0640 0:0") < at("useradd") && at("useradd") < at("scripts/config.sh"), "{script}");
    assert!(
        at("/.kconfig") < at("scripts/config.sh") && script.contains("link /etc/localtime ../usr/share/zoneinfo/UTC"),
        "{script}"
    );
    assert!(script.contains("put /etc/live") && !script.contains("/etc/disk"), "{script}");
    let written = all_files(&space);
    assert!(!written.contains("made-up"), "{written}");
    assert_row(&report, "root", "decide", "/etc/munge/munge.key is or has a private key");
    assert_row(&report, "root", "decide", "/etc/app.conf is or has a password");
    assert_row(&report, "config.sh", "decide", "baseVagrantSetup");
    assert_row(&report, "config.sh", "decide", "runs curl, which needs a network");
    assert!(rows(&report, "config.sh").iter().any(|row| row.1 == 5 && row.2.contains("a password")), "{report:#}");
    assert_row(&report, "post_bootstrap.sh", "decide", "between the packages");
    assert_row(&report, "unrelated.txt", "stays", "does not name");
    for script in
        ["appliance.postinstall", "appliance.d/run.sh", "appliance.d/scripts/config.sh", "appliance.d/scripts/kconfig"]
    {
        let path = space.path().join("new/images/appliance").join(script);
        let checked = std::process::Command::new("bash").arg("-n").arg(&path).output().unwrap();
        assert!(checked.status.success(), "{script}: {}", String::from_utf8_lossy(&checked.stderr));
    }
    // Without commands the overlay is a synclist, which running nodes get too.
    let space = Space::new();
    space.write("config.xml", LEAP).write("root/etc/motd", "hello\n").write("root/srv/a b", "x\n");
    imported(&space, &["import", "kiwi", "config.xml"]);
    let list = text(&space, "Leap-15.6_appliance", "Leap-15.6_appliance.synclist");
    assert!(list.contains("Leap-15.6_appliance.d/files/etc -> /etc\n"), "{list}");
    assert_eq!(text(&space, "Leap-15.6_appliance", "Leap-15.6_appliance.d/files/etc/vconsole.conf"), "KEYMAP=us\n");
}

#[test]
fn one_type_is_built_and_what_cannot_be_followed_is_named() {
    let space = Space::new();
    space.write(
        "config.xml",
        "<image schemaversion=\"7.6\" name=\"rocky-9\"><include from=\"this://more.xml\"/>\
         <preferences><packagemanager>dnf4</packagemanager><type image=\"iso\" kernelcmdline=\"other\"/>\
         <type image=\"oem\" primary=\"true\" kernelcmdline=\"quiet rd.iscsi.password=made-up\"/></preferences>\
         <packages type=\"uninstall\"><namedCollection name=\"games\"/><package name=\"nano\"/></packages>\
         <packages type=\"image\"><archive name=\"a/data.tar\"/><archive name=\"b/data.tar\"/></packages></image>",
    );
    space.write("more.xml", "<image>\n<include from=\"this://deep.xml\"/></image>").write("deep.xml", "<image/>");
    space.write("a/data.tar", "first\n").write("b/data.tar", "second\n");
    let report = imported(&space, &["import", "kiwi", "config.xml"]);
    let recipe: toml::Table = text(&space, "rocky-9", "image.toml").parse().unwrap();
    assert_eq!(recipe["boot"]["cmdline"].to_string(), "[\"quiet\"]");
    assert_row(&report, "preferences/type kernelcmdline", "stays", "another type");
    assert_row(&report, "preferences/type kernelcmdline", "decide", "/proc/cmdline");
    assert_row(&report, "packages/namedCollection", "decide", "only packages are removed");
    let list = text(&space, "rocky-9", "rocky-9.pkglist");
    assert!(list.contains("--nano\n") && !list.contains("games"), "{list}");
    assert_row(&report, "include", "decide", "an include of `more.xml`");
    assert_eq!(text(&space, "rocky-9", "rocky-9.d/scripts/data.tar"), "first\n");
    assert_eq!(text(&space, "rocky-9", "rocky-9.d/scripts/2-data.tar"), "second\n");
    let script = text(&space, "rocky-9", "rocky-9.d/run.sh");
    assert!(script.contains("scripts/data.tar") && script.contains("scripts/2-data.tar"), "{script}");
    assert!(!all_files(&space).contains("made-up") && !report.to_string().contains("made-up"));
}

#[test]
fn files_larger_than_what_is_looked_into_are_named() {
    let space = Space::new();
    space.write("config.xml", LEAP).write("root/opt/large", &"a line\n".repeat(200_000));
    let report = imported(&space, &["import", "kiwi", "config.xml"]);
    assert_row(&report, "root", "differs", "looked into for secrets");
}

#[test]
fn nothing_of_a_description_is_lost_in_silence() {
    let space = Space::new();
    let names = |text: &str| -> Vec<std::ops::Range<usize>> {
        // Elements without children, and attributes: the name after `<` or a space, before `=`.
        let mut found = Vec::new();
        for (at, _) in text.match_indices("=\"") {
            let start = text[..at].rfind([' ', '\n']).unwrap() + 1;
            let element = text[..start].rfind('<').unwrap();
            let is_outer = text[element..].starts_with("<?xml")
                || text[element..].starts_with("<profile")
                || text[element..].starts_with("<description");
            found.extend((!is_outer).then_some(start..at));
        }
        for (at, _) in text.match_indices("<") {
            let end = at + 1 + text[at + 1..].find([' ', '>', '/']).unwrap();
            let is_empty = text[end..].find('>').is_some_and(|close| text[..end + close].ends_with('/'));
            let is_profile = &text[at + 1..end] == "profile";
            found.extend((is_empty && end > at + 1 && !is_profile).then_some(at + 1..end));
        }
        found
    };
    assert_unknown_is_named(&space, "config.xml", &["import", "kiwi", "config.xml"], DEBIAN, names(DEBIAN).into_iter());
}
