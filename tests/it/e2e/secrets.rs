//! Secrets that packages make, that the recipe brings, and that nobody has.

use std::os::unix::fs::PermissionsExt;

use super::private_archive::{Archive, Deb, Mirror, copy_from};

const PRIVATE: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n-----END OPENSSH PRIVATE KEY-----\n";

#[test]
fn secrets_are_taken_out_or_told_and_may_be_meant() {
    let mut archive = Archive::of_tiny();
    // As munge does: a random key, and a unit that starts with it.
    let munge = Deb {
        links: vec![(
            "etc/systemd/system/multi-user.target.wants/munge.service".to_owned(),
            "/usr/lib/systemd/system/munge.service".to_owned(),
        )],
        files: vec![("etc/systemd/system/multi-user.target.wants/keep".to_owned(), Vec::new())],
        ..Deb::new("site-munge")
    };
    archive.add(&munge.script(
        "postinst",
        "mkdir -p /etc/munge; head -c 1024 /dev/urandom >/etc/munge/munge.key; chmod 400 /etc/munge/munge.key",
    ));
    // One that nobody knows, a private key, and what looks like one and is in the package for everybody to see.
    let token =
        Deb { files: vec![("usr/share/site/example.key".to_owned(), PRIVATE.into())], ..Deb::new("site-token") };
    archive.add(&token.script(
        "postinst",
        "set -e\nhead -c 64 /dev/urandom >/etc/site-token\nchmod 600 /etc/site-token\n\
         printf -- '-----BEGIN PRIVATE KEY-----\\nx\\n' >/etc/site.key\nchmod 640 /etc/site.key\n\
         echo 'password that somebody has to fill in' >/etc/site.conf\nchmod 600 /etc/site.conf\n\
         chmod 600 /usr/share/site/example.key\n",
    ));
    let mirror = Mirror::start();
    mirror.publish(&archive);
    let space = copy_from(&mirror, &["site-munge", "site-token"]);
    // Wherever lines are broken.
    let said = |text: &str| text.replace('│', "").split_whitespace().collect::<String>();
    let has = |text: &str, words: &str| text.contains(&words.replace(' ', ""));
    let ran = space.run(&["build"]).good();
    let text = said(&ran.err);
    assert!(has(&text, "munge.service is enabled but has no /etc/munge/munge.key"), "{}", ran.err);
    assert!(has(&text, "`secrets/munge.key -> /etc/munge/munge.key`"), "{}", ran.err);
    assert!(has(&text, "created what look like secrets: /etc/site-token, /etc/site.key help"), "{}", ran.err);
    assert!(!has(&text, "anyone who can fetch the image can read /"), "{}", ran.err);

    // The site brings its own, removes what it does not want, and is told who can read it.
    space.write("secrets/munge.key", PRIVATE);
    let key = space.path().join("secrets/munge.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o400)).unwrap();
    space.write("a.synclist", "secrets/munge.key -> /etc/munge/munge.key\n");
    space.edit("image.toml", "[exclude]", "[sync]\nlists = [\"a.synclist\"]\n\n[exclude]");
    space.edit("tiny.postinstall", "set -e\n", "set -e\nrm $1/etc/site-token $1/etc/site.key\n");
    let ran = space.run(&["build"]).good();
    let text = said(&ran.err);
    assert!(!has(&text, "is enabled but has no") && !has(&text, "look like secrets"), "{}", ran.err);
    assert!(has(&text, "anyone who can fetch the image can read /etc/munge/munge.key"), "{}", ran.err);
    // It is meant: nothing is made again for that.
    space.edit("image.toml", "[image]\n", "[image]\nsecrets = \"allowed\"\n");
    assert_eq!(space.to_do(), Vec::<String>::new());
    space.edit("tiny.postinstall", "set -e\n", "set -e\n: again\n");
    let ran = space.run(&["build"]).good();
    assert!(!has(&said(&ran.err), "anyone who can fetch"), "{}", ran.err);
    let shown = space.run(&["shell", "--", "/bin/sh", "-c", "cat /etc/munge/munge.key; ls /etc/site*"]).good().out;
    assert_eq!(shown, format!("{PRIVATE}/etc/site.conf\n"));
}
