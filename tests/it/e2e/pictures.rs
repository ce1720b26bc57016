//! The drawing of the graph and the page with sizes, looked at in a real browser.

use std::path::Path;
use std::process::Command;

use super::{mini, tiny};
use crate::support::{Space, copy_locked};

/// Runs the browser without a window; gives what it wrote.
fn browser(arguments: &[&str], page: &Path) -> String {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new("timeout")
        .args(["120", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--hide-scrollbars", "--window-size=1000,900", "--virtual-time-budget=2000"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(arguments)
        .arg(format!("file://{}", page.display()))
        .env("HOME", profile.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "no chromium here, or it failed (apt-get install chromium): {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Colours of a picture: red, green, blue of the pixel at a place.
struct Picture {
    width: usize,
    pixels: Vec<u8>,
}

impl Picture {
    /// Reads the browser's own kind of PNG: eight bits a channel, not interlaced. Source: the PNG specification, 11.2 and 9.2.
    fn read(path: &Path) -> Self {
        use std::io::Read;
        let bytes = std::fs::read(path).unwrap();
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let (width, height, channels) = (number(16), number(20), if bytes[25] == 6 { 4 } else { 3 });
        assert_eq!((bytes[24], bytes[28]), (8, 0));
        let (mut at, mut packed) = (8, Vec::new());
        while at < bytes.len() {
            let length = number(at);
            if &bytes[at + 4..at + 8] == b"IDAT" {
                packed.extend_from_slice(&bytes[at + 8..at + 8 + length]);
            }
            at += 12 + length;
        }
        let mut raw = Vec::new();
        flate2::read::ZlibDecoder::new(packed.as_slice()).read_to_end(&mut raw).unwrap();
        let line = width * channels;
        let mut rows = vec![0_u8; line * height];
        for y in 0..height {
            let filter = raw[y * (line + 1)];
            for x in 0..line {
                let left = if x >= channels { i32::from(rows[y * line + x - channels]) } else { 0 };
                let above = if y > 0 { i32::from(rows[(y - 1) * line + x]) } else { 0 };
                let corner = if y > 0 && x >= channels { i32::from(rows[(y - 1) * line + x - channels]) } else { 0 };
                let guess = match filter {
                    0 => 0,
                    1 => left,
                    2 => above,
                    3 => (left + above) / 2,
                    _ => {
                        let (a, b, c) =
                            ((above - corner).abs(), (left - corner).abs(), (left + above - 2 * corner).abs());
                        if a <= b && a <= c {
                            left
                        } else if b <= c {
                            above
                        } else {
                            corner
                        }
                    }
                };
                rows[y * line + x] = raw[y * (line + 1) + 1 + x].wrapping_add(guess as u8);
            }
        }
        let pixels = rows.chunks(channels).flat_map(|pixel| pixel[..3].to_vec()).collect();
        Self { width, pixels }
    }

    fn at(&self, x: f64, y: f64) -> [u8; 3] {
        let at = (y as usize * self.width + x as usize) * 3;
        self.pixels[at..at + 3].try_into().unwrap()
    }
}

/// Measures what the page shows, in the page itself, and leaves it where the dump has it.
const MEASURE: &str = r#"<script>
(() => {
  const edge = box => { const r = box.getBoundingClientRect(); return [r.left, r.top, r.width, r.height]; };
  const boxes = [...document.querySelectorAll(".box")].map(box => {
    const labels = [...box.querySelectorAll("span")].map(edge);
    return { place: edge(box), bytes: Number(box.dataset.bytes), colour: getComputedStyle(box).backgroundColor, labels, name: box.getAttribute("aria-label") };
  });
  const before = document.querySelectorAll(".box").length;
  const deep = document.querySelector(".box.deep");
  deep.focus();
  deep.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
  const moved = document.activeElement !== deep && document.activeElement.classList.contains("box");
  deep.click();
  const inside = document.querySelectorAll("nav button").length;
  document.querySelector(".box").dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
  const out = document.querySelectorAll("nav button").length;
  const result = { boxes, moved, inside, out, same: before === document.querySelectorAll(".box").length,
    map: edge(document.getElementById("map")), wide: document.documentElement.scrollWidth, loaded: performance.getEntriesByType("resource").length };
  const element = document.createElement("pre");
  element.id = "measured";
  element.textContent = btoa(unescape(encodeURIComponent(JSON.stringify(result))));
  document.body.append(element);
})();
</script>"#;

fn base64(text: &str) -> Vec<u8> {
    let value = |byte: u8| {
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".iter().position(|one| *one == byte)
    };
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for value in text.bytes().filter_map(value) {
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

#[test]
fn the_boxes_of_a_treemap_are_as_large_as_what_they_stand_for() {
    let directory = tempfile::tempdir().unwrap();
    for by in ["directory", "package", "extension"] {
        let page = tiny().space.run(&["size", "--by", by, "--html"]).good().out;
        assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("src="), "it loads something");
        // The browser's window is lower without a picture than with one.
        assert!(page.contains("height: 70vh"));
        let page = page.replace("height: 70vh", "height: 600px");
        let path = directory.path().join("page.html");
        std::fs::write(&path, &page).unwrap();
        let picture = directory.path().join("page.png");
        browser(&[&format!("--screenshot={}", picture.display())], &path);
        std::fs::write(&path, page.replace("</body>", &format!("{MEASURE}</body>"))).unwrap();
        let dump = browser(&["--dump-dom"], &path);
        let measured =
            dump.split("<pre id=\"measured\">").nth(1).unwrap_or_else(|| panic!("the page's script failed: {dump}"));
        let measured: serde_json::Value = serde_json::from_slice(&base64(measured.split('<').next().unwrap())).unwrap();
        let boxes = measured["boxes"].as_array().unwrap();
        let number = |value: &serde_json::Value| value.as_f64().unwrap();
        let place = |one: &serde_json::Value| -> [f64; 4] { std::array::from_fn(|index| number(&one["place"][index])) };
        assert!(boxes.len() >= 5, "{by}: {measured:#}");
        let bytes: f64 = boxes.iter().map(|one| number(&one["bytes"])).sum();
        if by == "package" {
            // The largest package, which the table names first, is the largest box.
            let table = tiny().space.run(&["size", "--by", by]).good().out;
            let first = table.lines().nth(2).unwrap().split(" % ").next().unwrap();
            let share: f64 = first.split_whitespace().last().unwrap().parse().unwrap();
            let largest = boxes.iter().map(|one| number(&one["bytes"])).fold(0.0, f64::max);
            assert!((100.0 * largest / bytes - share).abs() < 0.1, "{largest} of {bytes}\n{table}");
        }
        let map = number(&measured["map"][2]) * number(&measured["map"][3]);
        let picture = Picture::read(&picture);
        for one in boxes {
            let [x, y, w, h] = place(one);
            let (share, area) = (number(&one["bytes"]) / bytes, w * h / map);
            assert!((share - area).abs() < 0.000_1 + share * 0.01, "{by}: {share} {area} {one:#}");
            for label in one["labels"].as_array().unwrap() {
                let inside = number(&label[0]) >= x - 0.5
                    && number(&label[1]) >= y - 0.5
                    && number(&label[0]) + number(&label[2]) <= x + w + 0.5
                    && number(&label[1]) + number(&label[3]) <= y + h + 0.5;
                assert!(inside, "{by}: a label leaves its box: {one:#}");
            }
            // What is on the screen: its colour in the lower corner, where no label is.
            if w > 12.0 && h > 60.0 && y + h < 895.0 {
                let [r, g, b] = picture.at(x + w - 4.0, y + h - 4.0);
                let shown = format!("rgb({r}, {g}, {b})");
                assert_eq!(one["colour"].as_str().unwrap(), shown, "{by}: {one:#}");
            }
        }
        assert_eq!(measured["moved"], true, "arrow keys move");
        assert_eq!((number(&measured["inside"]), number(&measured["out"])), (2.0, 1.0), "Enter goes in, Escape out");
        assert_eq!(measured["same"], true);
        assert_eq!(number(&measured["loaded"]), 0.0, "nothing is loaded from elsewhere");
        assert!(number(&measured["wide"]) <= 1000.0, "the page is not wider than the window");
    }
}

#[test]
fn sizes_add_up_to_the_published_image_however_they_are_put_together() {
    let space = &tiny().space;
    let build: serde_json::Value =
        serde_json::from_slice(&std::fs::read(space.artefact("tiny", "build.json")).unwrap()).unwrap();
    let rootimg = build["artefacts"].as_array().unwrap().iter().find(|one| one["name"] == "rootimg.cpio.zst").unwrap();
    let mut unpacked = Vec::new();
    for by in ["directory", "package", "extension"] {
        let sizes: serde_json::Value =
            serde_json::from_str(&space.run(&["size", "--by", by, "--json"]).good().out).unwrap();
        let image = &sizes["images"][0];
        let rows = image["rows"].as_array().unwrap();
        let sum = |what: &str| -> u64 { rows.iter().map(|row| row[what].as_u64().unwrap()).sum() };
        assert_eq!(image["packed"], rootimg["size"], "{by}");
        // Each row is rounded.
        assert!(sum("packed").abs_diff(rootimg["size"].as_u64().unwrap()) <= rows.len() as u64);
        assert_eq!(sum("raw"), image["raw"].as_u64().unwrap());
        unpacked.push(sum("raw"));
        if by == "package" {
            let libc = rows.iter().find(|row| row["name"] == "libc6").unwrap_or_else(|| panic!("{rows:#?}"));
            // Its libraries; `tiny` leaves its converters of character sets out.
            assert!(libc["raw"].as_u64().unwrap() > 4_000_000, "{libc}");
        }
    }
    assert!(unpacked.iter().all(|one| *one == unpacked[0]), "{unpacked:?}");
    // As others count: the sizes of the files and links in the archive.
    let listed = Command::new("sh")
        .args([
            "-c",
            "zstd -dc \"$0\" | cpio -itv --quiet 2>/dev/null | awk '/^[-l]/ { sum += $5 } END { printf \"%d\", sum }'",
        ])
        .arg(space.artefact("tiny", "rootimg.cpio.zst"))
        .output()
        .unwrap();
    let listed: u64 = String::from_utf8(listed.stdout).unwrap().parse().unwrap();
    assert_eq!(unpacked[0], listed);
}

#[test]
fn the_graph_is_drawn_for_people_and_programs_with_shapes_beside_colours() {
    let space = super::offline::fresh().with_store(&super::store());
    let run = |arguments: &[&str]| space.run(arguments).good().out;
    // Nothing was built in this directory, but all is in the store; then a script changes.
    space.edit("tiny.postinstall", "set -e\n", "set -e\n# changed\n");
    let text = run(&["graph"]);
    for line in ["rootfs/base", "keep     rootfs/tools", "rootfs/postinstall", "run"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(text.lines().any(|line| line.contains("pack/rootimg") && !line.contains("keep")), "{text}");
    let mermaid = run(&["graph", "--mermaid"]);
    assert!(
        mermaid.starts_with("flowchart LR\n") && mermaid.contains("rootfs/postinstall<br>run\"}}:::run"),
        "{mermaid}"
    );
    let dot = run(&["graph", "--dot"]);
    assert!(dot.contains("shape=hexagon") && dot.contains("->") && dot.ends_with("}\n"), "{dot}");
    let json: serde_json::Value = serde_json::from_str(&run(&["graph", "--json"])).unwrap();
    let actions = json["images"][0]["actions"].as_array().unwrap();
    let one = |id: &str| actions.iter().find(|action| action["action"] == id).unwrap();
    assert_eq!((&json["format_version"], &json["images"][0]["image"]), (&"1.0".into(), &"tiny".into()));
    assert_eq!(
        (&one("rootfs/postinstall")["verdict"], &one("rootfs/base")["verdict"]),
        (&"run".into(), &"keep".into())
    );
    assert!(one("pack/rootimg")["uses"].as_array().unwrap().contains(&"rootfs/postinstall".into()), "{json:#}");
    let svg = run(&["graph", "--svg"]);
    assert_eq!(svg, run(&["graph", "--svg"]), "the drawing is the same each time");
    let directory = tempfile::tempdir().unwrap();
    let (drawing, picture) = (directory.path().join("graph.svg"), directory.path().join("graph.png"));
    std::fs::write(&drawing, &svg).unwrap();
    browser(&["--window-size=1900,400", &format!("--screenshot={}", picture.display())], &drawing);
    // The three colours of the boxes are on the screen; a file that is no XML shows an error on white instead.
    let picture = Picture::read(&picture);
    let has = |colour: [u8; 3]| picture.pixels.chunks(3).filter(|pixel| *pixel == colour).count() > 500;
    assert!(has([0xd5, 0xea, 0xd8]), "keep");
    assert!(has([0xff, 0xd9, 0xa8]), "run");
    assert_eq!(space.run(&["graph", "--svg", "--dot"]).code, 64);
}

#[test]
fn what_a_line_of_the_exclude_list_takes_away_is_known_before_the_build() {
    let space = Space::new().with_store(&super::store());
    copy_locked(mini().space.path(), space.path());
    space.run(&["build", "--locked"]).good();
    let json =
        |arguments: &[&str]| -> serde_json::Value { serde_json::from_str(&space.run(arguments).good().out).unwrap() };
    let raw = || json(&["size", "--json"])["images"][0]["raw"].as_u64().unwrap();
    let before = raw();
    let list = std::fs::read_to_string(space.path().join("mini.exlist")).unwrap();
    space.write("mini.exlist", &format!("{list}./usr/share/bug/*\n./no/such/place\n"));
    let preview = json(&["size", "--excluded", "--json"]);
    let lines = preview["images"][0]["excluded"].as_array().unwrap();
    let line = |pattern: &str| lines.iter().find(|line| line["pattern"] == pattern).unwrap();
    let bytes = line("./usr/share/bug/*")["bytes"].as_u64().unwrap();
    let place = format!("mini.exlist:{}", list.lines().count() + 1);
    assert!(bytes > 1000 && line("./usr/share/bug/*")["place"].as_str().unwrap().ends_with(&place), "{preview}");
    assert_eq!(line("./no/such/place")["entries"], 0);
    let text = space.run(&["size", "--excluded"]).good().out;
    assert!(text.contains("./usr/share/bug/*  ("), "{text}");
    // Nothing was built for that; now it is, and that is what is gone.
    assert_eq!(raw(), before);
    space.run(&["build", "--locked"]).good();
    let links: u64 = before - raw() - bytes;
    assert!(links < 1000, "{links} more than the files' bytes: the texts of links");
}
