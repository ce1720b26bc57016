//! `source = "host"` on a host that is registered: certificates, tokens and passwords of its own package manager open its
//! repositories, and get nowhere else.

use std::path::Path;
use std::process::Command;

use super::repositories::Guarded;
use super::rpm_distro::distribution;
use super::rpm_node::{add_init, write_keys, write_rpm};
use super::store;
use crate::support::{Ran, Space, imgbuild};

/// A host with files of its own above those of /etc, in a mount namespace.
pub struct Host<'a> {
    pub space: &'a Space,
}

impl Host<'_> {
    pub fn write(&self, name: &str, text: &str) {
        self.space.write(&format!("host/{name}"), text);
    }

    pub fn run(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
        let script = "mount -t overlay overlay -o lowerdir=\"$0\":/etc /etc && exec \"$@\"";
        let program = imgbuild();
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script]).arg(self.space.path().join("host")).arg(program.get_program());
        command.arg("-C").arg(self.space.path()).arg("--store").arg(self.space.store()).args(arguments);
        command.env("NO_COLOR", "1").env("COLUMNS", "100").env_remove("IMGBUILD_MIRROR");
        command.envs(environment.iter().copied()).output().unwrap().into()
    }
}

fn index(directory: &Path) {
    let made = Command::new("createrepo_c").args(["--quiet", "--no-database"]).arg(directory).status().unwrap();
    assert!(made.success());
}

#[test]
fn repositories_of_a_registered_host_are_opened_by_what_the_host_has() {
    let space = Space::new().with_store(&store());
    write_keys(&space);
    let server = Guarded::start(&|served| {
        std::fs::create_dir_all(served.join("content/9/server")).unwrap();
        std::os::unix::fs::symlink(distribution().repository("distro"), served.join("content/9/server/os")).unwrap();
        for (place, name) in [("token/update", "site-by-token"), ("user/product", "site-by-user")] {
            write_rpm(&served.join(place), name, "1", "");
            index(&served.join(place));
        }
    });
    let url = &server.url;
    let at = |name: &str| server.directory.path().join(name).display().to_string();
    let certificates = format!(
        "sslcacert = {}\nsslclientcert = {}\nsslclientkey = {}\n",
        at("ca.pem"),
        at("client.pem"),
        at("client.key")
    );
    let host = Host { space: &space };
    let key = std::fs::read_to_string(&distribution().key).unwrap();
    host.write("pki/rpm-gpg/KEY", &key);
    host.write("dnf/vars/flavour", "server\n");
    // As subscription-manager writes them.
    let registered = format!(
        "[base-rpms]\nname = Base (RPMs)\nbaseurl = {url}/content/$releasever/$flavour/os\nenabled = 1\nrepo_gpgcheck = 1\n\
         gpgkey = file:///etc/pki/rpm-gpg/KEY\nsslverify = 1\n{certificates}sslverifystatus = 1\nmetadata_expire = 86400\n\
         enabled_metadata = 0\n[source-rpms]\nname = Source\nbaseurl = {url}/nowhere\nenabled = 0\n"
    );
    host.write("yum.repos.d/redhat.repo", &registered);
    // As SUSEConnect writes them, and a disc that nobody took out of the list.
    let suse = format!(
        "[update]\nenabled=1\nautorefresh=1\nbaseurl={url}/token/update/?the-token-of-the-host\ngpgcheck=0\nservice=SLES\n{certificates}\
         [product]\nenabled=1\nbaseurl={url}/user/product?credentials=SCC&auth=basic\ngpgcheck=0\n{certificates}\
         [disc]\nenabled=1\nbaseurl=cd:///?devices=/dev/sr0\n"
    );
    host.write("zypp/repos.d/suse.repo", &suse);
    host.write("zypp/credentials.d/SCC", "username=user\npassword=the-password\n");
    space.write(
        "image.toml",
        "[image]\nname = \"few\"\ndistro = \"rocky\"\nrelease = \"9\"\n\n[[repo]]\nsource = \"host\"\n\n\
         [packages]\ninstall = [\"rpm\", \"site-by-token\", \"site-by-user\"]\n",
    );
    add_init(&space);
    let ran = host.run(&["-vv", "build", "--until", "rootfs"], &[]).good();
    assert!(ran.err.contains("the repository `disc` is on `cd:`, which is not supported"), "{}", ran.err);
    assert!(!ran.err.contains("is unknown and ignored"), "{}", ran.err);
    let lock = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
    let asked = host.run(&["plan"], &[]).good();
    for text in [&ran.err, &ran.out, &lock, &asked.out] {
        for secret in ["the-token-of-the-host", "the-password"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
    assert!(lock.contains("site-by-token") && lock.contains("site-by-user"), "{lock}");
    // By way of a proxy that is not there, and around one.
    let nobody = [("https_proxy", "http://127.0.0.1:1")];
    let ran = host.run(&["update"], &nobody);
    assert_eq!(ran.code, 4, "{}", ran.err);
    host.write("dnf/dnf.conf", "[main]\ngpgcheck=1\nproxy=_none_\n");
    host.run(&["update"], &nobody).good();
    host.write(
        "dnf/dnf.conf",
        "[main]\ngpgcheck=1\nproxy=http://127.0.0.1:1\nproxy_username=u\nproxy_password=the-secret\n",
    );
    let ran = host.run(&["update"], &[]);
    assert!(ran.code == 4 && !ran.err.contains("the-secret"), "{} {}", ran.code, ran.err);
    host.write("dnf/dnf.conf", "[main]\ngpgcheck=1\n");
    // Without the certificate, with a key that only root may read and is not there, without credentials.
    let without = |text: &str, name: &str| {
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with(name)).collect();
        lines.join("\n") + "\n"
    };
    host.write("yum.repos.d/redhat.repo", &without(&registered, "sslclient"));
    let ran = host.run(&["update"], &[]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    host.write("yum.repos.d/redhat.repo", &registered.replace("client.key", "gone.key"));
    let ran = host.run(&["update"], &[]);
    assert!(ran.code == 4 && ran.err.contains("gone.key"), "{}", ran.err);
    host.write("yum.repos.d/redhat.repo", &registered);
    std::fs::remove_file(space.path().join("host/zypp/credentials.d/SCC")).unwrap();
    let ran = host.run(&["update"], &[]);
    assert!(
        ran.code != 0 && ran.err.contains("asks for credentials") && ran.err.contains("SUSEConnect"),
        "{}",
        ran.err
    );
    host.write("zypp/repos.d/suse.repo", &suse.replace("baseurl", "#baseurl").replace("enabled=1", "enabled=0"));
    // A certificate that nobody looks at: signatures vouch, or nothing is taken.
    let blind = without(&registered, "sslcacert").replace("sslverify = 1", "sslverify = 0");
    host.write("yum.repos.d/redhat.repo", &blind);
    space.edit("image.toml", ", \"site-by-token\", \"site-by-user\"", "");
    let ran = host.run(&["update"], &[]).good();
    assert!(ran.err.contains("the server certificate of `base-rpms` is not verified"), "{}", ran.err);
    host.write("yum.repos.d/redhat.repo", &blind.replace("repo_gpgcheck = 1", "gpgcheck = 0"));
    let ran = host.run(&["update"], &[]);
    assert!(ran.code != 0 && ran.err.contains("nothing in it is signed"), "{} {}", ran.code, ran.err);
    // The same where the package manager's own settings say so for all; what the repository says goes before them.
    let silent = without(&blind, "sslverify = 0").replace("repo_gpgcheck = 1", "gpgcheck = 0");
    host.write("yum.repos.d/redhat.repo", &silent);
    host.write("dnf/dnf.conf", "[main]\nsslverify=0\n");
    let ran = host.run(&["update"], &[]);
    assert!(ran.code != 0 && ran.err.contains("nothing in it is signed"), "{} {}", ran.code, ran.err);
    host.write("yum.repos.d/redhat.repo", &silent.replace("gpgcheck = 0", "gpgcheck = 0\nsslverify = 1"));
    let ran = host.run(&["update"], &[]);
    assert!(ran.code == 4 && ran.err.contains("ertificate"), "{} {}", ran.code, ran.err);
}

#[test]
fn a_file_of_the_recipe_does_not_get_the_hosts_passwords() {
    let space = Space::new().with_store(&store());
    write_keys(&space);
    let host = Host { space: &space };
    host.write("zypp/credentials.d/SCC", "username=user\npassword=the-password\n");
    let repository = distribution().repository("distro");
    space.write(
        "site.repo",
        &format!(
            "[base]\nname=b\nbaseurl=file:{}?credentials=SCC\nrepo_gpgcheck=1\ngpgkey=keys/RPM-GPG-KEY-site\n",
            repository.display()
        ),
    );
    space.write(
        "image.toml",
        "[image]\nname = \"few\"\ndistro = \"rocky\"\nrelease = \"9\"\n\n[[repo]]\nfile = \"site.repo\"\n\n\
         [packages]\ninstall = [\"rpm\"]\n",
    );
    add_init(&space);
    let ran = host.run(&["build", "--until", "rootfs"], &[]).good();
    assert!(ran.err.contains("`credentials=` has an effect only in this host's own files"), "{}", ran.err);
}

#[test]
fn a_token_in_an_address_goes_with_each_request_below_it_and_is_nowhere_else() {
    use std::os::unix::fs::PermissionsExt;
    let space = Space::new().with_store(&store());
    write_keys(&space);
    let server = Guarded::start(&|served| {
        write_rpm(&served.join("token/update"), "site-by-token", "1", "");
        write_rpm(&served.join("plain/update"), "site-moved", "1", "");
        // A mirror of the distribution's own repositories.
        let mirror = |name: &str| served.join("token/mirror/9").join(name).join("x86_64");
        for name in ["BaseOS", "AppStream", "extras"] {
            std::fs::create_dir_all(mirror(name)).unwrap();
        }
        std::os::unix::fs::symlink(distribution().repository("distro"), mirror("BaseOS").join("os")).unwrap();
        for place in ["token/update", "plain/update"].map(|place| served.join(place)) {
            index(&place);
        }
        for name in ["AppStream", "extras"] {
            let place = mirror(name).join("os");
            std::fs::create_dir(&place).unwrap();
            index(&place);
        }
    });
    let at = |name: &str| server.directory.path().join(name).display().to_string();
    let credentials = server.directory.path().join("credentials.toml");
    let lines = format!(
        "[[credentials]]\nurl = \"{}\"\nca = \"{}\"\nclient_certificate = \"{}\"\nclient_key = \"{}\"\n",
        server.url,
        at("ca.pem"),
        at("client.pem"),
        at("client.key")
    );
    std::fs::write(&credentials, lines).unwrap();
    std::fs::set_permissions(&credentials, std::fs::Permissions::from_mode(0o600)).unwrap();
    let credentials = [("IMGBUILD_CREDENTIALS", credentials.to_str().unwrap())];
    space.write(
        "image.toml",
        &format!(
            "[image]\nname = \"few\"\ndistro = \"rocky\"\nrelease = \"9\"\n\n\
             [[repo]]\nsource = \"distribution\"\nsigned-by = \"keys/RPM-GPG-KEY-site\"\n\n\
             [[repo]]\nid = \"update\"\nuri = \"{url}/token/update/?the-token-of-the-host\"\ncheck-packages = false\n\n\
             [[repo]]\nid = \"moved\"\nuri = \"{url}/moved/update?the-token-of-the-host\"\ncheck-packages = false\n\n\
             [packages]\ninstall = [\"rpm\", \"site-by-token\", \"site-moved\"]\n",
            url = server.url
        ),
    );
    let mirror = format!("{}/token/mirror/?the-token-of-the-host", server.url);
    add_init(&space);
    let host = Host { space: &space };
    host.write("empty", "");
    let ran = host.run(&["build", "--until", "rootfs", "--mirror", &mirror], &credentials).good();
    let lock = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
    for name in ["site-by-token", "site-moved", "\"baseos\""] {
        assert!(lock.contains(name), "{name}: {lock}");
    }
    for text in [&lock, &ran.err, &host.run(&["plan"], &[]).good().out] {
        assert!(!text.contains("the-token-of-the-host"), "{text}");
    }
    assert!(ran.err.contains("rootfs/packages-1"), "{}", ran.err);
    let ran = host.run(&["update", "--mirror", mirror.trim_end_matches("?the-token-of-the-host")], &credentials);
    assert!(ran.code == 4 && ran.err.contains("403"), "{} {}", ran.code, ran.err);
    space.edit("image.toml", "moved/update?the-token-of-the-host", "moved/update");
    let ran = host.run(&["update", "--mirror", &mirror], &credentials);
    assert!(ran.code == 4 && ran.err.contains("403"), "{} {}", ran.code, ran.err);
    assert!(!ran.err.contains("the-token-of-the-host"), "{}", ran.err);
}
