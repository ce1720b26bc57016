//! The live page: what many open pages cost, and that each of them is brought up to date.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::Space;
use crate::support::server::{Running, command, published, started};

const NODES: usize = 1500;

fn server() -> (Space, Running) {
    let space = Space::new();
    published(&space);
    space.write("imgbuild.toml", "out = \"out\"\nimages = []\n");
    let mut text = String::from("[defaults]\nimage = \"compute\"\n");
    for at in 0..NODES {
        let _ = writeln!(text, "[node.cn{at:04}]\nmac = \"52:54:00:00:{:02x}:{:02x}\"", at / 256, at % 256);
    }
    space.write("nodes.toml", &text);
    let mut command = command(&["--listen", "127.0.0.1:0"]);
    command.current_dir(space.path());
    let server = started(command);
    (space, server)
}

/// A page that is looked at: its connection, when the server has taken it.
fn looking(server: &Running) -> TcpStream {
    let mut stream = server.connect();
    stream.write_all(b"GET /-/events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    read_to(&mut stream, "retry: 3000");
    stream
}

/// Reads until a text has come; all that came.
fn read_to(stream: &mut TcpStream, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        let mut piece = [0; 1 << 16];
        let length = stream.read(&mut piece).unwrap();
        assert!(length > 0, "{seen}");
        seen += &String::from_utf8_lossy(&piece[..length]);
    }
    seen
}

/// Seconds of processor time that the server has taken. Source: proc_pid_stat(5), fields 14 and 15, in hundredths.
fn cpu(server: &Running) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", server.child.id())).unwrap();
    let fields: Vec<&str> = text.rsplit(") ").next().unwrap().split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn script(server: &Running, node: usize) {
    let (head, _) = server.get(&format!("/-/boot/ipxe/cn{node:04}"), "");
    assert!(head.starts_with("http/1.1 200"), "{head}");
}

#[test]
fn many_open_pages_cost_little_more_than_one_and_hold_up_no_boot_script() {
    let (_space, server) = server();
    let mut first = looking(&server);
    // As many as a site has behind one address of its router.
    let others: Vec<TcpStream> = (0..1500).map(|_| looking(&server)).collect();
    let before = cpu(&server);
    // Of four scripts one may be late: the machine has other work.
    let mut late = Vec::new();
    for node in 0..4 {
        let began = Instant::now();
        script(&server, node);
        late.extend(Some(began.elapsed()).filter(|time| *time > Duration::from_secs(2)));
        read_to(&mut first, &format!("cn{node:04}"));
    }
    assert!(late.len() < 2, "{late:?}");
    let took = cpu(&server) - before;
    assert!(took < 6.0, "four changes took {took} s");
    drop(others);
    // So for those who count all nodes at one time.
    let before = cpu(&server);
    std::thread::scope(|scope| {
        for _ in 0..300 {
            scope.spawn(|| assert!(server.get("/metrics", "").0.starts_with("http/1.1 200")));
        }
    });
    let took = cpu(&server) - before;
    assert!(took < 4.0, "300 requests for the counts took {took} s");
}

#[test]
fn each_row_that_changes_comes_to_the_page_and_the_server_ends_while_pages_are_open() {
    let (_space, mut server) = server();
    let page = looking(&server);
    // More within a moment than one event has.
    std::thread::scope(|scope| {
        for part in 0..4 {
            let server = &server;
            scope.spawn(move || (0..NODES).filter(|at| at % 4 == part).for_each(|at| script(server, at)));
        }
    });
    let mut missing: BTreeSet<String> = (0..NODES).map(|at| format!("cn{at:04}")).collect();
    let mut lines = BufReader::new(&page).lines();
    let began = Instant::now();
    while !missing.is_empty() {
        // A line comes at least every twenty seconds, whatever does not.
        assert!(began.elapsed() < Duration::from_secs(60), "{} rows do not come", missing.len());
        let line = lines.next().and_then(Result::ok).unwrap_or_else(|| panic!("{} rows do not come", missing.len()));
        let Some(rows) = line.strip_prefix("data: [").and_then(|rest| serde_json::from_str(&format!("[{rest}")).ok())
        else {
            continue;
        };
        let rows: Vec<serde_json::Value> = rows;
        assert!(rows.len() <= 200, "{}", rows.len());
        for row in &rows {
            missing.remove(row["name"].as_str().unwrap());
        }
    }
    server.signal("TERM");
    let began = Instant::now();
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(30), "it waited for pages");
}

/// A file of many nodes that is written again and again is read by one who asks for a script; the others have what was there.
#[test]
fn a_nodes_file_that_is_read_again_holds_up_one_script_at_most() {
    let space = Space::new();
    published(&space);
    space.write("imgbuild.toml", "out = \"out\"\nimages = []\n");
    let text =
        "[defaults]\nimage = \"compute\"\n[node.\"cn[00001-20000]\"]\nmac = \"52:54:00:[00-99]:[00-99]:[00-01]\"\n";
    space.write("nodes.toml", text);
    let mut command = command(&["--listen", "127.0.0.1:0"]);
    command.current_dir(space.path());
    let server = started(command);
    let ask = |node: usize| {
        let began = Instant::now();
        let (head, _) = server.get(&format!("/-/boot/ipxe/cn{node:05}"), "");
        assert!(head.starts_with("http/1.1 200"), "{head}");
        began.elapsed()
    };
    let began = Instant::now();
    space.run(&["nodes", "--fold"]).good();
    let reading = began.elapsed();
    for round in 0..5 {
        space.write("nodes.toml", &format!("{text}# {round}\n"));
        let mut times: Vec<Duration> = std::thread::scope(|scope| {
            let asked: Vec<_> = (1..=20).map(|at| scope.spawn(move || ask(round * 20 + at))).collect();
            asked.into_iter().map(|one| one.join().unwrap()).collect()
        });
        times.sort();
        // The last one read it; of the others one more may be late: the machine has other work.
        assert!(times[17] < reading.max(Duration::from_secs(1)), "{reading:?}: {times:?}");
    }
}
