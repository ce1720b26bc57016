//! `imgbuild serve` as its clients see it: files and their headers, limits, TLS, the service manager.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::Space;
use crate::support::server::{command, header, published, serving, site, split, started};

#[test]
fn files_come_with_their_digests_in_parts_and_not_twice() {
    let space = Space::new();
    let (build, digest) = published(&space);
    let server = started({
        let mut command = command(&["--listen", "127.0.0.1:0"]);
        command.current_dir(space.path());
        command
    });
    assert!(server.line.starts_with("serving "), "{}", server.line);
    let (head, body) = server.get("/compute/kernel", "");
    assert!(head.starts_with("http/1.1 200 ok") && body == b"a kernel of some bytes", "{head}");
    assert_eq!(header(&head, "etag"), Some(&*format!("\"{digest}\"")));
    assert_eq!(header(&head, "cache-control"), Some("no-cache"));
    let (head, _) = server.get(&format!("/.builds/compute/{build}/kernel"), "");
    assert!(header(&head, "cache-control").unwrap().contains("immutable"), "{head}");
    let (head, body) = server.get("/compute/kernel", &format!("If-None-Match: \"x\", \"{digest}\"\r\n"));
    assert!(head.starts_with("http/1.1 304") && body.is_empty(), "{head}");
    let (head, body) = server.get("/compute/kernel", "Range: bytes=2-7\r\n");
    assert!(head.starts_with("http/1.1 206") && body == b"kernel", "{head}");
    assert_eq!(header(&head, "content-range"), Some("bytes 2-7/22"));
    // The rest of another file is worth nothing.
    let (head, body) = server.get("/compute/kernel", "Range: bytes=2-7\r\nIf-Range: \"other\"\r\n");
    assert!(head.starts_with("http/1.1 200") && body.len() == 22, "{head}");
    let (head, _) = server.get("/compute/kernel", "Range: bytes=22-\r\n");
    assert!(head.starts_with("http/1.1 416") && header(&head, "content-range") == Some("bytes */22"), "{head}");
    let (head, body) = server.ask("HEAD /compute/kernel HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(header(&head, "content-length") == Some("22") && body.is_empty(), "{head}");
    let (head, _) = server.ask("DELETE /compute/kernel HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(head.starts_with("http/1.1 405"), "{head}");
    // Firmware asks for the size first, and for the file on the same connection (EDK II's HTTP boot).
    let (head, rest) = server.ask(
        "HEAD /compute/kernel HTTP/1.1\r\nHost: x\r\n\r\nGET /compute/kernel HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    let (second, body) = split(rest);
    assert!(head.starts_with("http/1.1 200") && header(&head, "connection").is_none(), "{head}");
    assert!(second.starts_with("http/1.1 200") && body == b"a kernel of some bytes", "{second}");
    assert_eq!(header(&second, "content-length"), Some("22"), "loaders count by it");
    // GRUB compares names of headers letter by letter.
    let mut stream = server.connect();
    stream.write_all(b"GET /compute/kernel HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    assert!(String::from_utf8_lossy(&bytes).contains("\r\nContent-Length: 22\r\n"));
    // Two requests of one connection.
    let (_, both) = server.ask("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.0\r\n\r\n");
    assert!(String::from_utf8_lossy(&both).contains("HTTP/1.0 200 OK"), "{}", String::from_utf8_lossy(&both));
    // Files by sendfile and other answers take turns on one connection, whatever comes in one piece and what in several.
    let mut stream = server.connect();
    let requests = "GET /compute/kernel HTTP/1.1\r\nHost: x\r\n\r\nGET /compute/none HTTP/1.1\r\nHost: x\r\n\r\n\
                    GET /compute/kernel HTTP/1.1\r\nHost: x\r\nRange: bytes=-5\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n\
                    GET /compute/kernel HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for piece in requests.as_bytes().chunks(37) {
        stream.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (ok, part) = ("HTTP/1.1 200 OK", "HTTP/1.1 206 Partial Content");
    let order: Vec<usize> = [
        ok,
        "a kernel of some bytesHTTP/1.1 404",
        "no such file",
        part,
        "bytesHTTP/1.1 200",
        "ok\n",
        "a kernel of some bytes",
    ]
    .iter()
    .scan(0, |from, text_of| {
        let at = text[*from..].find(text_of)? + *from;
        *from = at + text_of.len();
        Some(at)
    })
    .collect();
    assert_eq!(order.len(), 7, "{text}");
    // A build that takes the place of another has another tag, at once.
    space.write("out/.builds/compute/ba9876543210/kernel", "another kernel");
    std::fs::remove_file(space.path().join("out/compute")).unwrap();
    symlink(".builds/compute/ba9876543210", space.path().join("out/compute")).unwrap();
    let (head, body) = server.get("/compute/kernel", &format!("If-None-Match: \"{digest}\"\r\n"));
    assert!(head.starts_with("http/1.1 200") && body == b"another kernel", "{head}");
    let (_, metrics) = server.get("/metrics", "");
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(metrics.contains("imgbuild_answers_total{class=\"4xx\"} 3"), "{metrics}");
}

#[test]
fn nothing_outside_of_the_directory_is_served() {
    let space = Space::new();
    published(&space);
    space.write("secret", "secret");
    space.write("out/.imgbuild/secret", "secret");
    space.write("out/compute/.lock", "secret");
    symlink("../../secret", space.path().join("out/compute/up")).unwrap();
    symlink(space.path().join("secret"), space.path().join("out/absolute")).unwrap();
    symlink("/proc/self/environ", space.path().join("out/environ")).unwrap();
    symlink("compute/kernel", space.path().join("out/within")).unwrap();
    let fifo = space.path().join("out/fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let server = serving(&space.path().join("out"), &[]);
    for path in [
        "/../secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "/compute/../../secret",
        "//../secret",
        "/compute/up",
        "/absolute",
        "/environ",
        "/fifo",
        "/.imgbuild/secret",
        "/compute/.lock",
        "/compute/",
        "/compute",
        "/compute/%00",
        "/compute/kernel%00.txt",
        "/\\..\\secret",
    ] {
        let (head, body) = server.get(path, "");
        assert!(head.starts_with("http/1.1 404"), "{path}: {head}");
        assert!(!String::from_utf8_lossy(&body).contains("secret"), "{path}");
    }
    let (head, body) = server.get("/within", "");
    assert!(head.starts_with("http/1.1 200") && body == b"a kernel of some bytes", "{head}");
    // An absolute address, as proxies send it.
    let (head, _) = server.get("http://x/compute/kernel", "");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    // No request of bytes that are none ends the server.
    for bytes in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\u{16}\u{3}\u{1}\u{2}"] {
        let mut stream = server.connect();
        stream.write_all(bytes.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let huge = format!("X: {}\r\n", "a".repeat(100_000));
    assert!(!server.get("/compute/kernel", &huge).0.starts_with("http/1.1 200"));
    let many: String = (0..200).map(|at| format!("X{at}: 1\r\n")).collect();
    assert!(!server.get("/compute/kernel", &many).0.starts_with("http/1.1 200"));
    assert!(server.get("/compute/kernel", "").0.starts_with("http/1.1 200"));
}

#[test]
fn what_cannot_be_served_is_said_before_anything_is() {
    let space = Space::new();
    published(&space);
    let fails = |words: &[&str], code: i32, told: &[&str]| {
        let output = command(words).current_dir(space.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(output.status.code(), Some(code), "{said}");
        for words in told {
            assert!(said.contains(words), "{words}: {said}");
        }
    };
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    fails(&["--listen", &format!("127.0.0.1:{port}")], 3, &["serve::listen", &format!("sport = :{port}")]);
    fails(&["--listen", "203.0.113.7:8080"], 3, &["serve::listen", "ip address"]);
    let free = ["--listen", "127.0.0.1:0"];
    let with = |more: &[&'static str]| -> Vec<&str> { free.iter().copied().chain(more.iter().copied()).collect() };
    fails(&with(&["--root", "nowhere"]), 1, &["serve::root", "imgbuild build"]);
    fails(&with(&["--user", "no-such-account"]), 1, &["serve::user", "no such account"]);
    fails(&with(&["--tls-certificate", "a.pem"]), 64, &["--tls-key"]);
    fails(&with(&["--tls-certificate", "a.pem", "--tls-key", "a.key"]), 1, &["serve::tls", "a.pem", "cannot be read"]);
    certificate(&space, "a", 10);
    certificate(&space, "b", 10);
    certificate(&space, "old", -1);
    fails(&with(&["--tls-certificate", "old.pem", "--tls-key", "old.key"]), 1, &["serve::tls", "expired at", "SIGHUP"]);
    fails(
        &with(&["--tls-certificate", "a.pem", "--tls-key", "b.key"]),
        1,
        &["is `b.key` the key of that certificate?"],
    );
    fails(&with(&["--tls-certificate", "a.key", "--tls-key", "a.key"]), 1, &["has no certificate"]);
}

/// A certificate for some days from now, `NAME.pem`, with its key, `NAME.key`.
fn certificate(space: &Space, name: &str, days: i64) {
    let file = |end: &str| space.path().join(format!("{name}.{end}")).to_str().unwrap().to_owned();
    let mut command = Command::new("faketime");
    // Of a time at which it is valid.
    command.args(["-f", if days < 0 { "-10d" } else { "-1h" }]);
    command.args(["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj"]);
    command.args([
        &format!("/CN={name}"),
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-days",
        &(days.max(1)).to_string(),
    ]);
    command.args(["-keyout", &file("key"), "-out", &file("pem")]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_new_certificate_is_taken_and_no_download_ends_for_it() {
    let space = Space::new();
    published(&space);
    let big = vec![7u8; 24 << 20];
    std::fs::write(space.path().join("out/big"), &big).unwrap();
    certificate(&space, "one", 10);
    let path = |name: &str| space.path().join(name).to_str().unwrap().to_owned();
    let (pem, key) = (path("one.pem"), path("one.key"));
    let server = serving(&space.path().join("out"), &["--tls-certificate", &pem, "--tls-key", &key]);
    assert!(server.line.contains("https://"), "{}", server.line);
    let client = |authority: &str| {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-quiet", "-verify_return_error", "-CAfile", authority, "-connect"]);
        command.arg(server.address.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let ask = |child: &mut Child, path: &str| {
        write!(child.stdin.as_mut().unwrap(), "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    };
    let mut download = client(&pem);
    ask(&mut download, "/big");
    let mut received = vec![0; 1000];
    download.stdout.as_mut().unwrap().read_exact(&mut received).unwrap();
    // Another certificate takes the place of the first.
    certificate(&space, "two", 10);
    for end in ["pem", "key"] {
        std::fs::rename(path(&format!("two.{end}")), path(&format!("one.{end}"))).unwrap();
    }
    server.signal("HUP");
    let began = Instant::now();
    loop {
        let mut child = client(&pem);
        ask(&mut child, "/healthz");
        let mut text = String::new();
        child.stdout.as_mut().unwrap().read_to_string(&mut text).unwrap();
        let _ = child.wait();
        if text.contains("200 OK") {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(90), "the new certificate is not used");
        std::thread::sleep(Duration::from_millis(50));
    }
    download.stdout.as_mut().unwrap().read_to_end(&mut received).unwrap();
    let _ = download.wait();
    let body = split(received).1;
    assert!(body == big, "{} bytes of {}", body.len(), big.len());
}

#[test]
fn a_client_that_is_slow_or_many_takes_nothing_from_others() {
    let space = Space::new();
    published(&space);
    std::fs::write(space.path().join("out/big"), vec![7u8; 32 << 20]).unwrap();
    let server = serving(&space.path().join("out"), &["--per-client", "2000", "--streams", "1"]);
    // Headers that come byte by byte.
    let began = Instant::now();
    let mut slow = server.connect();
    let dripping = std::thread::spawn(move || {
        for byte in b"GET /compute/kernel HTTP/1.1\r\nX: ".iter().chain([b'x'; 10_000].iter()) {
            if slow.write_all(&[*byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        began.elapsed()
    });
    // 2,000 of one client, and one of another.
    let idle: Vec<TcpStream> = (0..2500).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    let mut other = from(Ipv4Addr::new(127, 0, 0, 2), server.address);
    other.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    other.read_to_string(&mut text).unwrap();
    let refused = text.lines().find_map(|line| line.strip_prefix("imgbuild_connections_refused_total ")).unwrap();
    assert!(refused.parse::<u64>().unwrap() >= 400, "{text}");
    assert!(server.memory() < 200 << 20, "{}", server.memory());
    drop(idle);
    // The server notices one by one that they are gone.
    let began = Instant::now();
    while server.get("/healthz", "").0.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(90), "the places are not free again");
        std::thread::sleep(Duration::from_millis(50));
    }
    // A client that takes nothing of its image, and one that comes later.
    let mut stalled = server.connect();
    stalled.write_all(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stalled.read_exact(&mut [0; 100]).unwrap();
    let (head, _) = server.get("/big", "");
    assert!(head.starts_with("http/1.1 503"), "{head}");
    let wait: u64 = header(&head, "retry-after").unwrap().parse().unwrap();
    assert!((2..=10).contains(&wait));
    assert!(server.get("/compute/kernel", "").0.starts_with("http/1.1 200"), "small files are always sent");
    drop(stalled);
    let took = dripping.join().unwrap();
    assert!(took < Duration::from_secs(60), "{took:?}");
}

/// A connection from another address of the loopback interface.
fn from(address: Ipv4Addr, to: SocketAddr) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::new(IpAddr::V4(address), 0)).unwrap();
    connect(&socket, &to).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

#[test]
fn the_service_manager_hands_over_sockets_and_downloads_are_finished_at_the_end() {
    let space = Space::new();
    published(&space);
    let big: Vec<u8> = (0..24u32 << 20).map(|at| (at >> 10) as u8).collect();
    std::fs::write(space.path().join("out/big"), &big).unwrap();
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let notified = std::os::unix::net::UnixDatagram::bind(space.path().join("notify")).unwrap();
    let mut command = Command::new("sh");
    // The socket is descriptor 3, and the variable names the process that is to have it.
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1; export LISTEN_PID LISTEN_FDS; exec \"$@\"";
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_imgbuild"), "serve", "--root"]).arg(space.path().join("out"));
    command.stdin(std::os::fd::OwnedFd::from(listener)).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("NOTIFY_SOCKET", space.path().join("notify"));
    let mut server = started(command);
    let mut said = [0; 100];
    let length = notified.recv(&mut said).unwrap();
    assert!(said[..length].starts_with(b"READY=1"));
    let mut download = server.connect();
    download.write_all(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut received = vec![0; 1000];
    download.read_exact(&mut received).unwrap();
    server.signal("TERM");
    let began = Instant::now();
    download.read_to_end(&mut received).unwrap();
    let body = split(received).1;
    assert!(body == big, "{} bytes of {}", body.len(), big.len());
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(25), "it waited for nothing");
}

fn of_workspace(space: &Space, more: &[&str]) -> crate::support::server::Running {
    let mut command = command(&[&["--listen", "127.0.0.1:0"], more].concat());
    command.current_dir(space.path());
    started(command)
}

#[test]
fn nodes_get_scripts_and_report_by_a_token_that_nobody_can_guess() {
    let space = Space::new();
    site(&space);
    let server = of_workspace(&space, &[]);
    let (head, script) = server.get("/-/boot/ipxe?mac=52:54:00:00:00:01", "");
    let script = String::from_utf8(script).unwrap();
    assert!(head.starts_with("http/1.1 200") && script.starts_with("#!ipxe\n"), "{head}{script}");
    // The build that is published, by its name: another one that is published meanwhile is another address.
    assert!(script.contains("http://x/.builds/compute/0123456789ab/kernel"), "{script}");
    let report =
        script.split_whitespace().find_map(|word| word.strip_prefix("imgbuild.report=http://x")).unwrap().to_owned();
    assert!(report.starts_with("/-/report/cn1/compute.0123456789ab.") && report.len() > 60, "{report}");
    for way in ["/-/boot/ipxe/52-54-00-00-00-01.ipxe", "/-/boot/ipxe/cn1", "/-/boot/ipxe?mac=01-52-54-00-00-00-01"] {
        assert_eq!(String::from_utf8(server.get(way, "").1).unwrap(), script, "{way}");
    }
    assert!(server.get("/-/boot/ipxe?mac=52:54:00:00:00:09", "").0.starts_with("http/1.1 404"));
    // A host that would write into the script is none.
    let (head, _) = server.ask("GET /-/boot/ipxe/cn1 HTTP/1.1\r\nHost: x y\r\nConnection: close\r\n\r\n");
    assert!(head.starts_with("http/1.1 500"), "{head}");
    let post = |path: &str, body: &str| {
        let length = body.len();
        let request =
            format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        server.ask(&request).0
    };
    assert!(post(&report, "state=image").starts_with("http/1.1 200"));
    assert!(post(&report, "{\"state\": \"failed\", \"reason\": \"no <b>disk</b>\"}").starts_with("http/1.1 200"));
    assert!(post(&report, "state=flying").starts_with("http/1.1 400"));
    assert!(post(&report, &"x".repeat(100_000)).starts_with("http/1.1 413"));
    assert!(post(&report.replace("cn1", "cn2"), "state=up").starts_with("http/1.1 403"));
    assert!(post("/-/report/cn1/0000", "state=up").starts_with("http/1.1 403"));
    let ran = space.run(&["nodes"]);
    assert_eq!(ran.code, 2, "a node failed: {}", ran.out);
    assert!(ran.out.contains("failed: no <b>disk</b>"), "{}", ran.out);
    let (head, page) = server.get("/", "");
    let page = String::from_utf8(page).unwrap();
    assert!(header(&head, "content-security-policy").unwrap().contains("default-src 'none'"));
    assert!(page.contains("no &lt;b&gt;disk&lt;/b&gt;") && page.contains("<td class=\"s failed\">"), "{page}");
    // What happens while somebody looks is sent.
    let mut looking = server.connect();
    looking.write_all(b"GET /-/events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert!(post(&format!("{report}/up"), "").starts_with("http/1.1 200"));
    let mut seen = String::new();
    while !seen.contains("event: nodes") || !seen.contains("s up") {
        let mut piece = [0; 4096];
        let length = looking.read(&mut piece).unwrap();
        assert!(length > 0, "{seen}");
        seen += &String::from_utf8_lossy(&piece[..length]);
    }
    assert!(!space.run(&["nodes"]).out.contains("failed"));
    let (_, metrics) = server.get("/metrics", "");
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(metrics.contains("imgbuild_nodes{image=\"compute\",state=\"up\"} 1"), "{metrics}");
    let (_, image) = server.get("/-/images/compute", "");
    assert!(String::from_utf8(image).unwrap().contains("0123456789ab"));
    assert!(server.get("/-/images/..%2f..", "").0.starts_with("http/1.1 404"));
    // A file that is edited counts at once; one that is wrong does not.
    let nodes = std::fs::read_to_string(space.path().join("nodes.toml")).unwrap();
    space.write("nodes.toml", &format!("{nodes}\n[node.cn9]\nmac = \"52:54:00:00:00:09\"\nimage = \"compute\"\n"));
    assert!(server.get("/-/boot/ipxe?mac=52:54:00:00:00:09", "").0.starts_with("http/1.1 200"));
    space.write("nodes.toml", "[node.cn9\n");
    assert!(server.get("/-/boot/ipxe?mac=52:54:00:00:00:09", "").0.starts_with("http/1.1 200"));
}

#[test]
fn images_that_are_added_or_built_later_are_served() {
    let space = Space::new();
    published(&space);
    let recipe = |name: &str| format!("[image]\nname = \"{name}\"\nrelease = \"bookworm\"\n");
    space.write("imgbuild.toml", "images = [\"images/*\"]\n");
    for name in ["compute", "later"] {
        space.write(&format!("images/{name}/image.toml"), &recipe(name));
    }
    std::fs::rename(space.path().join("out"), space.path().join("images/compute/out")).unwrap();
    let mut server = of_workspace(&space, &[]);
    assert!(server.get("/compute/kernel", "").0.starts_with("http/1.1 200"));
    assert!(server.get("/later/kernel", "").0.starts_with("http/1.1 404"));
    let comes = |path: &str, status: &str| {
        let began = Instant::now();
        while !server.get(path, "").0.starts_with(status) {
            assert!(began.elapsed() < Duration::from_secs(90), "{path} is not {status}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    // Built for the first time, and a recipe that did not exist.
    space.write("images/later/out/later/kernel", "a kernel");
    comes("/later/kernel", "http/1.1 200");
    space.write("images/new/image.toml", &recipe("new")).write("images/new/out/new/kernel", "another kernel");
    comes("/new/kernel", "http/1.1 200");
    // What the workspace said before counts while it has an error.
    space.write("imgbuild.toml", "images = [\"images/*\"");
    comes("/new/kernel", "http/1.1 200");
    space.write("imgbuild.toml", "images = [\"images/compute\", \"images/later\"]\n");
    comes("/new/kernel", "http/1.1 404");
    assert!(server.get("/compute/kernel", "").0.starts_with("http/1.1 200"));
    server.signal("TERM");
    server.child.wait().unwrap();
    let mut said = String::new();
    server.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said.matches("images/later has no build yet").count(), 1, "{said}");
}

/// The units that it prints are two of systemd's, with the state where all commands have it, and options that exist.
#[test]
fn the_units_have_the_state_of_all_commands_and_options_that_exist() {
    let space = crate::nodes::nodeset::published().0;
    let text = space.run(&["serve", "--units"]).good().out;
    let names: Vec<&str> = text.lines().filter(|line| line.starts_with("# /etc/systemd/system/")).collect();
    assert_eq!(names.len(), 2, "{text}");
    let of = |key: &str| text.lines().filter_map(|line| line.strip_prefix(key)).collect::<Vec<_>>();
    let state = "/srv/images/.imgbuild/nodes";
    assert_eq!(of("ExecStart=/usr/bin/imgbuild "), ["serve -C /srv/images"]);
    assert_eq!(of("ReadWritePaths="), [state]);
    let before = of("ExecStartPre=+");
    assert!(before.len() == 2 && before.iter().all(|line| line.ends_with(state)), "{before:?}");
    // A start that fails is tried again, however often it did.
    assert_eq!(
        (of("Restart="), of("RestartSec="), of("StartLimitIntervalSec=")),
        (vec!["on-failure"], vec!["5"], vec!["0"])
    );
    // What `nodeset` of a shell writes is there.
    let out = space.path().join("tftpboot");
    space.run(&["nodeset", "cn001", "compute", "--url", "http://10.0.0.1", "--out", out.to_str().unwrap()]).good();
    assert!(space.path().join(".imgbuild/nodes/assigned.json").exists());
}
