//! docs/nodes.md, command by command: from an empty management node to forty nodes that are up. The nodes are clients that do what
//! loaders and images do: ask for an address, for their script, for the kernel, and report. What boots for real is in `netboot.rs`.

use std::process::Command;

use super::net::{Net, run};
use crate::nodes::nodeset::publish;
use crate::support::{Space, project};

fn blocks(section: &str) -> Vec<String> {
    let text = std::fs::read_to_string(project().join("docs/nodes.md")).unwrap();
    let text = text.split(section).nth(1).unwrap_or_else(|| panic!("docs/nodes.md has no `{section}`"));
    let text = text.split("\n## ").next().unwrap();
    text.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

/// Nodes that are switched on: address, script, kernel, `up`. Each says what it met with.
const NODES: &str = r#"
import concurrent.futures, json, re, subprocess, sys, urllib.request
client, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def get(url): return urllib.request.urlopen(url, timeout=20).read().decode()
def leased(number):
    mac = f"52:54:00:00:00:{number:02}"
    words = [sys.executable, client, "eth0", mac, "arch=0", "class=PXEClient:Arch:00000:UNDI:002001", "ack"]
    ask = lambda *more: json.loads(subprocess.run(words + list(more), capture_output=True, text=True, check=True).stdout)
    assert ask()["file"] == "undionly.kpxe"
    offer = ask("ipxe", "user=iPXE")
    return offer["address"], offer["file"].replace("${mac}", mac)
def boot(url):
    script = get(url)
    kernel = re.search(r"^kernel (\S+) ", script, re.M).group(1)
    assert get(kernel) == "k", kernel
    get(re.search(r"imgbuild.report=(\S+)", script).group(1) + "/up")
# One card has one client at a time.
nodes = [leased(number) for number in range(first, last + 1)]
with concurrent.futures.ThreadPoolExecutor(8) as pool: list(pool.map(boot, [url for _, url in nodes]))
print(" ".join(address for address, _ in nodes))
"#;

#[test]
fn privileged_the_page_of_nodes_leads_to_forty_booted_nodes() {
    let space = Space::new();
    let net = Net::new("10.0.0.1/24");
    let far = format!("{}-far", net.name);
    run(&["ip", "netns", "add", &far]);
    net.ip(&format!("link add cable type veth peer name eth0 netns {far}"));
    net.ip("link set cable master head");
    net.ip("link set cable up");
    for words in ["link set lo up", "link set eth0 up", "address add 10.0.0.200/24 dev eth0"] {
        run(&[&["ip", "-n", &far], &words.split(' ').collect::<Vec<_>>()[..]].concat());
    }
    // The packages are there, and an image of some bytes stands for one that takes minutes; all else is as it is written.
    let built = Space::new();
    publish(&built, "compute", "first");
    space.write("bin/apt-get", "#!/bin/sh\nexit 0\n");
    space.write(
        "bin/imgbuild",
        &format!(
            "#!/bin/sh\ncase $1 in\nbuild) cd \"${{2:-.}}\" && rm -f out/compute && cp -a {}/images/compute/out . ;;\n*) exec {} \"$@\" ;;\nesac\n",
            built.path().display(),
            env!("CARGO_BIN_EXE_imgbuild")
        ),
    );
    for name in ["apt-get", "imgbuild"] {
        run(&["chmod", "+x", space.path().join("bin").join(name).to_str().unwrap()]);
    }
    let home = space.path().join("home");
    std::fs::create_dir_all(home.join(".ssh")).unwrap();
    run(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home.join(".ssh/id_ed25519").to_str().unwrap()]);
    let path = format!("{}:{}", space.path().join("bin").display(), std::env::var("PATH").unwrap());
    let place = space.path().join("images");
    let blocks = blocks("## From an empty management node to forty booted nodes");
    let [first, second] = blocks.as_slice() else { panic!("{} blocks of commands", blocks.len()) };
    // The nodes are switched on where the page says so.
    let switch = |first: u8, last: u8| {
        let client = project().join("tests/fixtures/dhcp-client.py");
        std::fs::write(space.path().join("nodes.py"), NODES).unwrap();
        format!(
            "ip netns exec {far} python3 {} {} {first} {last} >{}/addresses",
            space.path().join("nodes.py").display(),
            client.display(),
            space.path().display()
        )
    };
    let commands = first.replace("/srv/images", place.to_str().unwrap());
    assert!(commands.contains("\nimgbuild nodes --watch "), "{commands}");
    let commands =
        commands.replace("\nimgbuild nodes --watch ", &format!("\n{}\nimgbuild nodes --watch ", switch(1, 40)));
    // A server that is started in the background needs its moment, as it does of a person who types.
    let commands = commands.replace(
        "2>&1 &\n",
        "2>&1 &\necho $! >serve.pid\nuntil grep -q '^serving ' serve.log; do sleep 0.1; kill -0 $!; done\n",
    );
    let ran = |commands: &str| {
        // Bash, which leaves children alone when it ends.
        let mut command = net.command("bash");
        command
            .args(["-ec", commands])
            .env("PATH", &path)
            .env("HOME", &home)
            .env("NO_COLOR", "1")
            .current_dir(space.path());
        let output = command.output().unwrap();
        let log = std::fs::read_to_string(place.join("serve.log")).unwrap_or_default();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), text, log)
    };
    struct Ended<'a>(&'a std::path::Path, String);
    impl Drop for Ended<'_> {
        fn drop(&mut self) {
            let _ = Command::new("sh").args(["-c", "kill $(cat serve.pid); sleep 1"]).current_dir(self.0).status();
            let _ = Command::new("ip").args(["netns", "delete", &self.1]).status();
        }
    }
    let _ended = Ended(&place, far.clone());
    let (is_good, said, log) = ran(&commands);
    assert!(is_good, "{said}\n{log}");
    let addresses = std::fs::read_to_string(space.path().join("addresses")).unwrap();
    let expected: Vec<String> = (11..=50).map(|last| format!("10.0.0.{last}")).collect();
    assert_eq!(addresses.split_whitespace().collect::<Vec<_>>(), expected, "{log}");
    // The next build: two nodes are told to restart, come up, and the rest follow.
    let next = publish(&built, "compute", "next");
    let (before, after) = second.split_once("imgbuild nodeset --continue").unwrap();
    let (is_good, said, log) = ran(&format!("cd {}\n{before}", place.display()));
    assert!(is_good && said.contains("restart cn"), "{said}\n{log}");
    let (is_good, said, log) =
        ran(&format!("cd {}\n{}\nimgbuild nodeset --continue{after}", place.display(), switch(1, 40)));
    assert!(is_good, "{said}\n{log}");
    let (_, said, _) = ran(&format!("cd {} && imgbuild nodeset @compute stat", place.display()));
    assert_eq!(said.matches(&format!("netboot compute@{next}")).count(), 40, "{said}");
}
