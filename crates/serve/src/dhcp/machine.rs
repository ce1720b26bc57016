//! What dnsmasq needs of this machine: the program, its ports, a configuration that it takes.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Answers, Plan};
use crate::error::ServeError;
use crate::sockets::system;

pub(super) const PROGRAM: &str = "dnsmasq";

pub(super) fn is_installed() -> Result<(), ServeError> {
    match Command::new(PROGRAM).arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(_) => Ok(()),
        Err(error) => Err(ServeError::dhcp_machine(
            format!("{PROGRAM} cannot be run: {error}"),
            "install it: apt install dnsmasq-base, or dnf install dnsmasq; it is looked for in PATH, which needs /usr/sbin"
                .to_owned(),
        )),
    }
}

pub(super) fn cannot_write(what: &str, error: &std::io::Error) -> ServeError {
    ServeError::dhcp_machine(
        format!("cannot write {what}: {error}"),
        "the state's directory (--state) and /run have to be writable, and loaders' files readable".to_owned(),
    )
}

/// Lets it check a configuration: its message names the line of a mistake in the site's own lines, of which it reads a copy.
pub(super) fn check(conf: &Path, (copy, own): (&Path, &Path)) -> Result<(), ServeError> {
    let mut command = Command::new(PROGRAM);
    command.args(["--test", &format!("--conf-file={}", conf.display())]).env("LC_ALL", "C").stdin(Stdio::null());
    let output = command.output().map_err(ServeError::Machine)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).replace(&copy.display().to_string(), &own.display().to_string());
    let said = said.trim().trim_start_matches("dnsmasq: ").escape_debug().to_string();
    Err(ServeError::dhcp_input(
        format!("{PROGRAM} refuses its configuration: {said}"),
        "mend that line of loaders/dnsmasq.conf; `imgbuild serve --dnsmasq --print-dnsmasq` prints the rest",
    ))
}

/// Whether its ports can be had. dnsmasq shares that of DHCP with others, so that two would answer the same nodes.
pub(super) fn free(plan: &Plan) -> Result<(), ServeError> {
    let mut ports = vec![(67, "DHCP", Ipv4Addr::UNSPECIFIED), (69, "TFTP", plan.address)];
    if plan.answers == Answers::Proxy {
        ports.push((4011, "proxy DHCP", Ipv4Addr::UNSPECIFIED));
    }
    for (port, what, address) in ports {
        let interface = address.is_unspecified().then_some(plan.interface.as_str());
        if let Err(errno) = system::probe(SocketAddrV4::new(address, port), interface) {
            use rustix::io::Errno;
            let help = match errno {
                Errno::ADDRINUSE => format!(
                    "another program answers there: `ss -lunp 'sport = :{port}'` names it (libvirt, tftpd-hpa, a dnsmasq of the system)"
                ),
                Errno::ACCESS | Errno::PERM => {
                    "start the server as root, or with the capabilities that docs/serve.md names".to_owned()
                }
                _ => "`ip address` lists the addresses of this machine".to_owned(),
            };
            let problem = format!("port {port} ({what}) cannot be had on {}: {errno}", plan.interface);
            return Err(ServeError::dhcp_machine(problem, help));
        }
    }
    Ok(())
}
