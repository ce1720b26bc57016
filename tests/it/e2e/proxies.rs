//! Sites that reach archives by way of a proxy: a real one (tinyproxy), which wants a password and, as squid and apt-cacher-ng do,
//! tunnels to nothing but https. And servers for which nobody but the site's own authority vouches.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::private_archive::{Archive, Deb, Mirror, copy_from};
use super::rpm_host::Host;

struct Proxy {
    child: Child,
    url: String,
    log: PathBuf,
    _directory: tempfile::TempDir,
}

impl Proxy {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let settings = format!(
            "Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nMaxClients 50\nLogFile \"{}\"\nLogLevel Connect\n\
             BasicAuth user the-secret\nConnectPort 443\n",
            log.display()
        );
        let file = directory.path().join("tinyproxy.conf");
        std::fs::write(&file, settings).unwrap();
        let child = Command::new("tinyproxy").arg("-d").arg("-c").arg(&file).spawn().unwrap();
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "tinyproxy does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, url: format!("127.0.0.1:{port}"), log, _directory: directory }
    }

    fn with(&self, password: &str) -> String {
        format!("http://user:{password}@{}", self.url)
    }

    /// Requests since the last question.
    fn asked(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        std::fs::write(&self.log, "").unwrap();
        text
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn archives_are_asked_by_way_of_the_proxy_of_the_environment_or_of_apt() {
    let mirror = Mirror::start();
    let mut archive = Archive::of_tiny();
    archive.add(&Deb::new("site-by-proxy"));
    mirror.publish(&archive);
    let space = copy_from(&mirror, &["site-by-proxy"]);
    let proxy = Proxy::start();
    let host = Host { space: &space };
    let (good, without) = (proxy.with("the-secret"), format!("http://{}", proxy.url));
    let nobody = ("http_proxy", "http://127.0.0.1:1");
    host.write("apt/apt.conf.d/00proxy", "# None yet.\n");

    let ran = host.run(&["-vv", "build", "--until", "rootfs"], &[("http_proxy", &good)]).good();
    let asked = proxy.asked();
    for path in ["dists/bookworm/InRelease", "site-by-proxy"] {
        assert!(
            asked.lines().any(|line| line.contains(&format!("GET {}", mirror.url)) && line.contains(path)),
            "{asked}"
        );
    }
    assert!(!asked.contains("CONNECT 127"), "{asked}");
    let lock = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
    assert!(lock.contains("site-by-proxy"), "{lock}");
    assert!(![&ran.err, &ran.out, &lock].iter().any(|text| text.contains("the-secret")), "{}", ran.err);

    // What is wrong names the proxy.
    let said = host.run(&["update"], &[("http_proxy", &without)]);
    for part in ["407", &format!("through the proxy {without}"), "http://USER:PASSWORD@"] {
        assert!(said.code == 4 && said.err.contains(part), "{part}: {}", said.err);
    }
    let said = host.run(&["update"], &[nobody]);
    assert!(said.code == 4 && said.err.contains("through the proxy http://127.0.0.1:1"), "{}", said.err);
    host.run(&["update"], &[nobody, ("no_proxy", "localhost, 127.0.0.1")]).good();

    // What apt is told on this host goes before.
    proxy.asked();
    host.write("apt/apt.conf.d/00proxy", &format!("Acquire::http::Proxy \"{good}\";\n"));
    host.run(&["update"], &[nobody]).good();
    assert!(proxy.asked().contains("dists/bookworm/InRelease"));
    host.write("apt/apt.conf.d/50near", "Acquire::http::Proxy::127.0.0.1 \"DIRECT\";\n");
    host.run(&["update"], &[nobody]).good();
    assert_eq!(proxy.asked(), "");
}

/// A server of https, with a certificate of an authority that this test makes.
struct Https {
    child: Child,
    port: u16,
    directory: tempfile::TempDir,
}

const SERVER: &str = "import http.server, ssl, sys
server = http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), http.server.SimpleHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('server.pem', 'server.key')
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
";

impl Https {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let extensions = "[req]\ndistinguished_name = dn\n[dn]\n[ca]\nbasicConstraints = critical,CA:TRUE\n[server]\nsubjectAltName = IP:127.0.0.1\n";
        std::fs::write(directory.path().join("openssl.cnf"), extensions).unwrap();
        for (name, by) in [("ca", &[][..]), ("server", &["-CA", "ca.pem", "-CAkey", "ca.key"])] {
            let made = Command::new("openssl")
                .args([
                    "req",
                    "-x509",
                    "-nodes",
                    "-days",
                    "2",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:prime256v1",
                ])
                .args(["-config", "openssl.cnf", "-extensions", name, "-subj", &format!("/CN={name}")])
                .args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")])
                .args(by)
                .current_dir(directory.path())
                .output()
                .unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let child = Command::new("python3")
            .args(["-c", SERVER, &port.to_string()])
            .current_dir(directory.path())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, port, directory }
    }
}

impl Drop for Https {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_hosts_own_authorities_vouch_for_servers() {
    let server = Https::start();
    let (url, to) = (format!("https://127.0.0.1:{}/none", server.port), server.directory.path().join("to"));
    let fetch = |authorities: &str| -> crate::support::Ran {
        let mut command = crate::support::imgbuild();
        command.env("SSL_CERT_FILE", server.directory.path().join(authorities));
        command.args(["fetch", &url]).arg(&to).output().unwrap().into()
    };
    // Another one than the server's.
    let refused = fetch("server.pem");
    assert!(refused.code == 3 && refused.err.contains("certificate"), "{} {}", refused.code, refused.err);
    // It is spoken with, and has no image.
    let spoken = fetch("ca.pem");
    assert!(spoken.code != 0 && !spoken.err.contains("certificate"), "{} {}", spoken.code, spoken.err);
    assert!(spoken.err.contains("404"), "{}", spoken.err);
}
