//! Archives as sites have them: flat ones, unsigned ones of their own, files of sources; and what a lock says when one changes.

use std::sync::OnceLock;

use recipe::Lock;

use super::private_archive::{Archive, Deb, Deed, Flat, Mirror, armored_key, copy, copy_from, fails_with};
use crate::support::{Ran, Space, imgbuild, without_estimate};

fn lock(space: &Space) -> Lock {
    Lock::parse(&std::fs::read_to_string(space.path().join("image.lock")).unwrap()).unwrap()
}

/// Which archive a package comes from.
fn origin(space: &Space, name: &str) -> String {
    let lock = lock(space);
    let found = lock.pass.iter().flat_map(|pass| &pass.packages).find(|package| package.name == name);
    found.map(|package| package.origin.clone()).unwrap()
}

/// The tiny image with a package of the site wanted, and one more repository beside the host's.
pub fn with_repo(wanted: &str, repo: &str) -> Space {
    // Everything else comes from an archive with nothing but that: the host's takes seconds to resolve in.
    static REST: OnceLock<Mirror> = OnceLock::new();
    let rest = REST.get_or_init(|| {
        let mirror = Mirror::start();
        mirror.publish(&Archive::of_tiny());
        mirror
    });
    let space = copy();
    let rest = format!(
        "[[repo]]\nuri = \"{}\"\nsuites = [\"bookworm\"]\ncomponents = [\"main\"]\nsigned-by = \"rest.asc\"",
        rest.url
    );
    space.edit("image.toml", "[packages]", &format!("{rest}\n\n{repo}\n\n[packages]"));
    space.edit("image.toml", "base = \"essential\"", &format!("base = \"essential\"\ninstall = [\"{wanted}\"]"));
    for name in ["known.asc", "rest.asc"] {
        space.write(name, &armored_key("known@example.invalid"));
    }
    space
}

fn site(names: &[&str]) -> Archive {
    let mut archive = Archive::empty();
    names.iter().for_each(|name| archive.add(&Deb::new(name)));
    archive
}

#[test]
fn names_of_files_are_escaped_on_their_way() {
    let mirror = Mirror::start();
    site(&["site-escaped"]).publish_flat(&mirror, "own", Flat::InRelease);
    let repo = format!("[[repo]]\nuri = \"{}/own\"\nsuites = [\"./\"]\nsigned-by = \"known.asc\"", mirror.url);
    let space = with_repo("site-escaped", &repo);
    space.run(&["build"]).good();
    let lock = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
    assert!(lock.contains("site-escaped_0%3a1.0+x~y_all.deb"), "{lock}");
}

#[test]
fn indexes_in_old_forms_are_read_and_digests_that_can_be_forged_are_refused_by_name() {
    for form in [Flat::Bzip2, Flat::Lzma, Flat::Weak] {
        let mirror = Mirror::start();
        site(&["site-old"]).publish_flat(&mirror, "own", form);
        let repo = format!("[[repo]]\nuri = \"{}/own\"\nsuites = [\"./\"]\nsigned-by = \"known.asc\"", mirror.url);
        let space = with_repo("site-old", &repo);
        let ran = space.run(&["build", "--until", "rootfs"]);
        if form == Flat::Weak {
            assert_ne!(ran.code, 0);
            assert!(ran.err.contains("has only MD5Sum digests, which can be forged"), "{}", ran.err);
        } else {
            assert_eq!(ran.code, 0, "{form:?}: {}", ran.err);
        }
    }
}

#[test]
fn flat_archives_are_read_in_each_form_that_they_have() {
    let mirror = Mirror::start();
    let archive = site(&["site-flat"]);
    archive.publish_flat(&mirror, "cuda", Flat::InRelease);
    let flat = |more: &str| format!("[[repo]]\nuri = \"{}/cuda\"\nsuites = [\"./\"]\n{more}", mirror.url);
    let space = with_repo("site-flat", &flat("id = \"cuda\"\nsigned-by = \"known.asc\""));
    space.run(&["build"]).good();
    assert_eq!(origin(&space, "site-flat"), "cuda:./");
    let vendored = space.path().join("vendored");
    space.run(&["vendor", vendored.to_str().unwrap()]).good();
    std::fs::remove_file(space.path().join("image.lock")).unwrap();
    space.run(&["build", "--vendor", vendored.to_str().unwrap()]).good();
    assert_eq!(origin(&space, "site-flat"), "cuda:./");
    // Signed apart.
    archive.publish_flat(&mirror, "cuda", Flat::Apart);
    let space = with_repo("site-flat", &flat("signed-by = \"known.asc\""));
    space.run(&["build"]).good();
    assert_eq!(origin(&space, "site-flat"), "repo2:./");
    // Signed by somebody else, by nobody, and without any Release file.
    let space = with_repo("site-flat", &flat("signed-by = \"known.asc\""));
    space.write("known.asc", &armored_key("stranger@example.invalid"));
    fails_with(&space, &[], 4, &["the signature of `Release.gpg`", "signed-by"]);
    archive.publish_flat(&mirror, "cuda", Flat::Unsigned);
    fails_with(&space, &[], 4, &["it is not signed", "trusted = true"]);
    archive.publish_flat(&mirror, "cuda", Flat::Bare);
    fails_with(&space, &[], 1, &["it has neither InRelease nor Release"]);
    // One that is trusted needs none of it.
    for form in [Flat::Bare, Flat::Unsigned, Flat::Apart, Flat::InRelease] {
        archive.publish_flat(&mirror, "cuda", form);
        let space = with_repo("site-flat", &flat("trusted = true"));
        let ran = space.run(&["build"]).good();
        assert_eq!(ran.err.matches("accepted unsigned").count(), 1, "{}", ran.err);
        assert_eq!(origin(&space, "site-flat"), "repo2:./");
    }
}

#[test]
fn files_of_sources_are_taken_as_they_are() {
    let mirror = Mirror::start();
    site(&["site-one"]).publish_flat(&mirror, "one", Flat::InRelease);
    site(&["site-two"]).publish_flat(&mirror, "two", Flat::Bare);
    let space = with_repo("site-one", "[[repo]]\nfile = \"site.sources\"");
    space.edit("image.toml", "\"site-one\"", "\"site-one\", \"site-two\"");
    let key: String = armored_key("known@example.invalid")
        .lines()
        .map(|line| format!(" {}\n", if line.is_empty() { "." } else { line }))
        .collect();
    space.write(
        "site.sources",
        &format!(
            "Types: deb\nURIs: {0}/one/\nSuites: ./\nSigned-By:\n{key}\n\
             Types: deb\nURIs: {0}/two\nSuites: /\nTrusted: yes\n\n\
             Types: deb\nURIs: {0}/arm\nSuites: /\nArchitectures: arm64\n",
            mirror.url
        ),
    );
    space.run(&["build"]).good();
    assert_eq!(origin(&space, "site-one"), "repo2:./");
    assert_eq!(origin(&space, "site-two"), "repo2:/");
    // The same in lines, with the key in a file beside it.
    let space = with_repo("site-one", "[[repo]]\nfile = \"apt/site.list\"");
    space.write("apt/known.asc", &armored_key("known@example.invalid"));
    space.write("apt/site.list", &format!("deb [signed-by=known.asc] {}/one ./\n", mirror.url));
    space.run(&["build"]).good();
    space.write("apt/site.list", "deb http://x\n");
    fails_with(&space, &[], 1, &["apt/site.list:1:1", "needs an address and a suite"]);
}

#[test]
fn a_lock_answers_only_for_the_repositories_that_it_was_made_from() {
    let mut archive = Archive::of_tiny();
    archive.add(&Deb::new("site-lock"));
    let mirror = Mirror::start();
    mirror.publish(&archive);
    let space = copy_from(&mirror, &["site-lock"]);
    space.run(&["build"]).good();
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    let plan = |space: &Space| without_estimate(&space.run(&["plan"]).good().out);
    assert!(plan(&space).contains("pack     keep"), "{}", plan(&space));
    let line = |word: &str, text: &str| text.lines().position(|line| line.starts_with(word)).unwrap() + 1;
    // Suites, components and keys are what a lock answers for.
    let changed = recipe.replacen("components = [\"main\"]", "components = [\"main\", \"contrib\"]", 1);
    space.write("image.toml", &changed);
    let cause = format!("image.toml:{} repo.components main -> main contrib", line("components", &changed));
    assert!(plan(&space).contains(&cause), "{}", plan(&space));
    fails_with(&space, &["--locked"], 1, &["is out of date with the recipe", "repo.components main -> main contrib"]);
    space.write("image.toml", &recipe);
    let key = std::fs::read(space.path().join("known.gpg")).unwrap();
    space.write("known.gpg", &armored_key("stranger@example.invalid"));
    assert!(plan(&space).contains(&format!("image.toml:{} repo.signed-by ", line("signed-by", &recipe))));
    fails_with(&space, &["--locked"], 1, &["repo.signed-by"]);
    std::fs::write(space.path().join("known.gpg"), key).unwrap();
    // One more, and one less.
    let more = recipe.replacen("[packages]", "[[repo]]\nsource = \"host\"\n\n[packages]", 1);
    space.write("image.toml", &more);
    assert!(plan(&space).contains("[[repo]] = source host"), "{}", plan(&space));
    space.write("image.toml", &recipe);
    assert!(plan(&space).contains("pack     keep"));
    // Another mirror of the same: nothing is rebuilt, and nobody has asked it yet.
    let other = Mirror::start();
    other.publish(&archive);
    space.edit("image.toml", &mirror.url, &other.url);
    let said = plan(&space);
    let note = format!("image.toml:{} {} was not queried yet", line("uri", &recipe), other.url);
    assert!(said.contains("pack     keep") && said.contains(&note), "{said}");
    space.run(&["build", "--locked"]).good();
    assert!(plan(&space).contains(&note));
    space.run(&["update"]).good();
    let said = plan(&space);
    assert!(said.contains("pack     keep") && !said.contains("was not queried"), "{said}");
}

/// Builds with nothing of this machine's own credentials but what is given.
fn build_knowing(space: &Space, variables: &[(&str, &str)]) -> Ran {
    let mut command = imgbuild();
    command.arg("-C").arg(space.path()).arg("--store").arg(space.store()).args(["-vv", "build"]);
    command.env("HOME", "/nonexistent").env_remove("XDG_CONFIG_HOME").env_remove("NETRC");
    command.envs(variables.iter().copied());
    command.output().unwrap().into()
}

fn files_with(directory: &std::path::Path, text: &str) -> Vec<std::path::PathBuf> {
    let has = |path: &std::path::Path| {
        std::fs::read(path).is_ok_and(|bytes| memchr::memmem::find(&bytes, text.as_bytes()).is_some())
    };
    let walk = walkdir::WalkDir::new(directory).into_iter().flatten();
    walk.filter(|entry| entry.file_type().is_file() && has(entry.path())).map(walkdir::DirEntry::into_path).collect()
}

#[test]
fn an_archive_that_asks_who_comes_is_told_and_nobody_else() {
    const SECRET: &str = "pa55-of-the-site";
    // user:pa55-of-the-site
    const BASIC: &str = "Basic dXNlcjpwYTU1LW9mLXRoZS1zaXRl";
    let (mirror, stranger) = (Mirror::start(), Mirror::start());
    // One package for both: two that are made in different seconds are not the same.
    let archive = site(&["site-secret"]);
    archive.publish_flat(&mirror, "private", Flat::InRelease);
    archive.publish_flat(&stranger, "private", Flat::InRelease);
    let asks_for = |expected: &'static str| {
        let to = format!("{}/private/site-secret_1.0_all.deb", stranger.url);
        mirror.rule(move |request, _| match request.authorization.as_deref() {
            Some(found) if found == expected && request.path.ends_with(".deb") => Deed::Redirect(to.clone()),
            Some(found) if found == expected => Deed::Serve,
            _ => Deed::Status(401),
        });
        stranger.rule(|_, _| Deed::Serve);
    };
    let repo = |url: &str| format!("[[repo]]\nuri = \"{url}/private\"\nsuites = [\"./\"]\nsigned-by = \"known.asc\"");
    let fresh = |url: &str| with_repo("site-secret", &repo(url));
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = home.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    // Nobody knows anything.
    asks_for(BASIC);
    let space = fresh(&mirror.url);
    let ran = build_knowing(&space, &[]);
    assert!(ran.code == 4 && ran.err.contains("401"), "{}", ran.err);
    assert!(ran.err.split_whitespace().collect::<String>().contains("thishosthasnocredentialsforit"), "{}", ran.err);
    // netrc; the other server to which packages are redirected is not told.
    let port = mirror.url.rsplit(':').next().unwrap();
    let of_port = file("netrc2", &format!("machine 127.0.0.1:{port} login user password {SECRET}\n"));
    let ran = build_knowing(&space, &[("NETRC", &of_port)]).good();
    assert!(stranger.seen().iter().all(|request| request.authorization.is_none()), "{:?}", stranger.seen());
    assert!(!stranger.seen().is_empty());
    let told = |ran: &Ran| format!("{}{}", ran.out, ran.err);
    assert!(!told(&ran).contains(SECRET));
    // In the address: it works, is told once, and is nowhere afterwards.
    let in_address = mirror.url.replace("http://", &format!("http://user:{SECRET}@"));
    let space = fresh(&in_address);
    let ran = build_knowing(&space, &[]).good();
    assert!(ran.err.contains("the recipe contains a password"), "{}", ran.err);
    assert!(!told(&ran).contains(SECRET), "{}", told(&ran));
    mirror.rule(|_, _| Deed::Status(404));
    std::fs::remove_file(space.path().join("image.lock")).unwrap();
    let ran = build_knowing(&space, &[]);
    assert!(ran.code == 1 && !told(&ran).contains(SECRET), "{}", told(&ran));
    // A token that a command prints, and one that is wrong.
    asks_for("Bearer token-of-the-site");
    let own = |token: &str| {
        let text =
            format!("[[credentials]]\nurl = \"{}/private\"\ntoken_command = [\"echo\", \"{token}\"]\n", mirror.url);
        file("own.toml", &text)
    };
    let space = fresh(&mirror.url);
    let ran = build_knowing(&space, &[("IMGBUILD_CREDENTIALS", &own("wrong"))]);
    assert!(ran.err.split_whitespace().collect::<String>().contains("wererejected"), "{}", ran.err);
    let ran = build_knowing(&space, &[("IMGBUILD_CREDENTIALS", &own("token-of-the-site"))]).good();
    assert!(!told(&ran).contains("token-of-the-site"));
    // What says what was done, and from what, has none of them.
    let content = ["trees", "packages", "frames", "scratch", "links", "ready"];
    for kind in std::fs::read_dir(space.store().join("v1")).unwrap().flatten() {
        if content.iter().any(|name| kind.file_name() == *name) {
            continue;
        }
        for secret in [SECRET, "token-of-the-site"] {
            assert_eq!(files_with(&kind.path(), secret), [""; 0].map(std::path::PathBuf::from));
        }
    }
}

/// Certificates of a site, its server and a host of it; and a server that lets nobody in without one, nor below `/token`
/// without the token `the-token-of-the-host`, nor below `/user` without the password `the-password`.
pub struct Guarded {
    /// Has the certificates and keys: `ca`, `server`, `client`, `other`.
    pub directory: tempfile::TempDir,
    child: std::process::Child,
    pub url: String,
}

impl Guarded {
    pub fn start(put: &dyn Fn(&std::path::Path)) -> Self {
        use std::io::BufRead;
        use std::process::{Command, Stdio};
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let text = "[req]\ndistinguished_name = dn\n[dn]\n[ca]\nbasicConstraints = critical,CA:TRUE\n\
                    [server]\nsubjectAltName = IP:127.0.0.1\n[client]\nextendedKeyUsage = clientAuth\n";
        std::fs::write(at("openssl.cnf"), text).unwrap();
        for (name, section, signer) in [
            ("ca", "ca", None),
            ("server", "server", Some("ca")),
            ("client", "client", Some("ca")),
            ("other", "ca", None),
        ] {
            let mut command = Command::new("openssl");
            command.current_dir(directory.path()).args([
                "req",
                "-x509",
                "-nodes",
                "-days",
                "30",
                "-config",
                "openssl.cnf",
            ]);
            command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-extensions", section]);
            command.args([
                "-subj",
                &format!("/CN={name}"),
                "-keyout",
                &format!("{name}.key"),
                "-out",
                &format!("{name}.pem"),
            ]);
            if let Some(signer) = signer {
                command.args(["-CA", &format!("{signer}.pem"), "-CAkey", &format!("{signer}.key")]);
            }
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        std::fs::create_dir_all(at("served")).unwrap();
        put(&at("served"));
        let script = "import base64, functools, http.server, ssl\n\
            class Handler(http.server.SimpleHTTPRequestHandler):\n\
            \x20   def do_GET(self):\n\
            \x20       path, _, query = self.path.partition('?')\n\
            \x20       user = 'Basic ' + base64.b64encode(b'user:the-password').decode()\n\
            \x20       if path.startswith('/token/') and query != 'the-token-of-the-host':\n\
            \x20           return self.send_error(403)\n\
            \x20       if path.startswith('/moved/'):\n\
            \x20           self.send_response(302 if query == 'the-token-of-the-host' else 403)\n\
            \x20           self.send_header('location', path.replace('/moved/', '/plain/'))\n\
            \x20           self.send_header('content-length', '0')\n\
            \x20           return self.end_headers()\n\
            \x20       if path.startswith('/plain/') and query:\n\
            \x20           return self.send_error(418)\n\
            \x20       if path.startswith('/user/') and self.headers.get('authorization') != user:\n\
            \x20           return self.send_error(401)\n\
            \x20       if not path.startswith('/user/') and self.headers.get('authorization'):\n\
            \x20           return self.send_error(418)\n\
            \x20       super().do_GET()\n\
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
            context.load_cert_chain('server.pem', 'server.key')\n\
            context.load_verify_locations('ca.pem')\n\
            context.verify_mode = ssl.CERT_REQUIRED\n\
            handler = functools.partial(Handler, directory='served')\n\
            server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)\n\
            server.socket = context.wrap_socket(server.socket, server_side=True)\n\
            print(server.server_address[1], flush=True)\n\
            server.serve_forever()\n";
        let mut child = Command::new("python3")
            .current_dir(directory.path())
            .args(["-c", script])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut port = String::new();
        std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self { directory, child, url: format!("https://127.0.0.1:{}", port.trim()) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_that_asks_for_a_certificate_gets_that_of_its_address() {
    let mirror = Mirror::start();
    site(&["site-cert"]).publish_flat(&mirror, "private", Flat::InRelease);
    let server = Guarded::start(&|directory| mirror.save(directory));
    let repo = format!("[[repo]]\nuri = \"{}/private\"\nsuites = [\"./\"]\nsigned-by = \"known.asc\"", server.url);
    let space = with_repo("site-cert", &repo);
    let credentials = |lines: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = server.directory.path().join("credentials.toml");
        std::fs::write(&path, format!("[[credentials]]\nurl = \"{}\"\n{lines}", server.url)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let at = |name: &str| server.directory.path().join(name).display().to_string();
    let try_with = |lines: &str| build_knowing(&space, &[("IMGBUILD_CREDENTIALS", &credentials(lines))]);
    let ca = format!("ca = \"{}\"\n", at("ca.pem"));
    let client = format!("client_certificate = \"{}\"\nclient_key = \"{}\"\n", at("client.pem"), at("client.key"));
    // A server that is not the one, a host without a certificate, and one with a stranger's.
    let ran = try_with(&client);
    assert!(ran.code == 4 && ran.err.contains("ertificate"), "{}", ran.err);
    let ran = try_with(&format!("ca = \"{}\"\n{client}", at("other.pem")));
    assert!(ran.code == 4 && ran.err.contains("ertificate"), "{}", ran.err);
    let ran = try_with(&ca);
    assert_eq!(ran.code, 4, "{}", ran.err);
    let strange = client.replace("/client.", "/other.");
    assert_eq!(try_with(&format!("{ca}{strange}")).code, 4);
    let nothing = client.replace("/client.key", "/ca.pem");
    let ran = try_with(&format!("{ca}{nothing}"));
    assert!(ran.code != 0 && ran.err.contains("contains no private key"), "{}", ran.err);
    // Key and certificate apart, and in one file as entitlements have them.
    try_with(&format!("{ca}{client}")).good();
    std::fs::remove_file(space.path().join("image.lock")).unwrap();
    let both = ["client.pem", "client.key"].map(|name| std::fs::read_to_string(at(name)).unwrap()).concat();
    std::fs::write(at("entitlement.pem"), both).unwrap();
    try_with(&format!("{ca}client_certificate = \"{}\"\n", at("entitlement.pem"))).good();
    assert_eq!(origin(&space, "site-cert"), "repo2:./");
}
