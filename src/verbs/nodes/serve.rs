//! `imgbuild serve`: the server that nodes boot from.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::{StateArguments, failed, root_of, state_of};
use crate::Exit;
use crate::output::render;
use crate::setup::print_findings;
use recipe::{KDL_RECIPE_FILE, RECIPE_FILE, Workspace};
use serve::{Answers, DhcpSettings, Find, ServeError, Settings, TlsFiles, printed, serve};

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Address and port to listen on; several may be given. With sockets of systemd none is needed
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:80")]
    pub listen: Vec<SocketAddr>,
    /// Directory whose files are served; several may be given [default: `out` of the workspace, or of its recipes]
    #[arg(long, value_name = "DIR")]
    pub root: Vec<PathBuf>,
    /// Certificate in PEM form, with those of the authorities between it and the root: then HTTPS is spoken
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// Its private key in PEM form
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
    /// Authorities of clients' certificates: then each client needs one
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub client_ca: Option<PathBuf>,
    /// Account to run as, after the ports are taken
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Most connections at once; fewer where the limit of open files is lower
    #[arg(long, value_name = "N", default_value_t = 16_384)]
    pub connections: usize,
    /// Most connections of one client address
    #[arg(long, value_name = "N", default_value_t = 4_096)]
    pub per_client: usize,
    /// Most images on their way at once: nodes that ask for one more try again some seconds later [default: no limit]
    #[arg(long, value_name = "N")]
    pub streams: Option<u64>,
    /// Also hear the words of xCAT's port 3002 there, for images that speak them
    #[arg(long, value_name = "ADDR:PORT")]
    pub xcat: Vec<SocketAddr>,
    /// Have dnsmasq give the nodes addresses and boot loaders: to those of nodes.toml alone, to all from a range of addresses
    /// (FIRST,LAST), or beside another DHCP server (proxy)
    #[arg(
        long,
        value_name = "FIRST,LAST|proxy",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "nodes",
        conflicts_with_all = ["tls_certificate", "units"]
    )]
    pub dnsmasq: Option<Answers>,
    /// Network card of the nodes [default: the one that is listened on, or in whose network they are]
    #[arg(long, value_name = "CARD", requires = "dnsmasq")]
    pub interface: Option<String>,
    /// Directory with boot loaders' files [default: those of the packages ipxe, grub-efi-amd64-bin, pxelinux]
    #[arg(long, value_name = "DIR", requires = "dnsmasq")]
    pub loaders: Option<PathBuf>,
    /// Print dnsmasq's configuration, and end
    #[arg(long, requires = "dnsmasq")]
    pub print_dnsmasq: bool,
    /// What nodes boot and reported.
    #[command(flatten)]
    pub state: StateArguments,
    /// Print the unit files for systemd, and end
    #[arg(long)]
    pub units: bool,
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Exit> {
    if own.units {
        print!("{UNITS}");
        return Ok(Exit::Done);
    }
    let dhcp = own.dnsmasq.map(|answers| DhcpSettings {
        answers,
        interface: own.interface.clone(),
        loaders: own.loaders.clone(),
    });
    if let Some(dhcp) = dhcp.as_ref().filter(|_| own.print_dnsmasq) {
        let root = root_of(&arguments.directory);
        let state = state_of(arguments, &root, &own.state)?;
        return match printed(dhcp, &own.listen, &root, &state) {
            Ok((text, left_out)) => {
                render::print_as_is(&text);
                left_out.iter().for_each(|line| render::say(&format!("note: {line}")));
                Ok(Exit::Done)
            }
            Err(error) => Err(refused(arguments, error)),
        };
    }
    let (roots, find) = match own.root.is_empty() {
        true => found_roots(arguments)?,
        false => (own.root.clone(), None),
    };
    let tls = match (&own.tls_certificate, &own.tls_key) {
        (Some(certificate), Some(key)) => Some(TlsFiles {
            certificate: certificate.clone(),
            key: key.clone(),
            client_authorities: own.client_ca.clone(),
        }),
        _ => None,
    };
    let root = root_of(&arguments.directory);
    let scheme = if tls.is_some() { "https" } else { "http" };
    let all_roots: Vec<PathBuf> = roots.iter().cloned().chain(find.iter().flat_map(|find| find())).collect();
    let shown: Vec<String> =
        all_roots.iter().map(|root| root.display().to_string().escape_debug().to_string()).collect();
    let settings = Settings {
        roots,
        find,
        addresses: own.listen.clone(),
        tls,
        nodes: Some((root.clone(), state_of(arguments, &root, &own.state)?)),
        xcat: own.xcat.clone(),
        dhcp,
        user: own.user.clone(),
        most_connections: own.connections,
        most_of_client: own.per_client,
        most_streams: own.streams,
        is_verbose: arguments.verbose > 0,
        say: Arc::new(render::say),
    };
    let ready = |addresses: &[SocketAddr]| {
        let addresses: Vec<String> = addresses.iter().map(|address| format!("{scheme}://{address}/")).collect();
        let shown = if shown.is_empty() { "no image yet".to_owned() } else { shown.join(" and ") };
        println!("serving {shown} at {}", addresses.join(" and "));
    };
    sandbox::interrupt::leave_to_others();
    Ok(match serve(settings, ready) {
        Ok(()) => Exit::Done,
        Err(error) => refused(arguments, error),
    })
}

fn refused(arguments: &crate::Arguments, error: ServeError) -> Exit {
    match error {
        ServeError::Nodes(findings) => {
            print_findings(&findings, arguments.verbose);
            Exit::Input
        }
        ServeError::State(error) => failed(error),
        error => {
            let exit = match &error {
                ServeError::Root { .. }
                | ServeError::Tls { .. }
                | ServeError::User { .. }
                | ServeError::Dhcp { is_machine: false, .. } => Exit::Input,
                _ => Exit::Machine,
            };
            render::refused(exit, error)
        }
    }
}

/// The directories of artefacts that stay, and what finds those of images that come and go.
type FoundRoots = (Vec<PathBuf>, Option<Find>);

/// Where artefacts lie, from the directory of the workspace or the recipe. What has no build yet is said, and served when it has one.
fn found_roots(arguments: &crate::Arguments) -> Result<FoundRoots, Exit> {
    let workspace = Workspace::above(&arguments.directory).map_err(|findings| {
        print_findings(&findings, arguments.verbose);
        Exit::Input
    })?;
    let Some(workspace) = workspace else {
        let out = arguments.directory.join("out");
        let is_recipe = [RECIPE_FILE, KDL_RECIPE_FILE].iter().any(|name| arguments.directory.join(name).exists());
        return Ok(if is_recipe { soon(out) } else { (vec![out], None) });
    };
    if let Some(out) = workspace.out() {
        return Ok(soon(out));
    }
    let all = outs(&workspace);
    for image in workspace.images.iter().filter(|image| !image.join("out").is_dir()) {
        render::say(&format!("note: {} has no build yet; it is served as soon as it has one", image.display()));
    }
    let directory = arguments.directory.clone();
    let last = std::sync::Mutex::new(all);
    let find: Find = Arc::new(move || {
        let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // While imgbuild.toml has an error, what it said before counts.
        if let Ok(Some(workspace)) = Workspace::above(&directory) {
            *last = outs(&workspace);
        }
        last.iter().filter(|out| out.is_dir()).cloned().collect()
    });
    Ok((Vec::new(), Some(find)))
}

/// A directory that the first build makes, if it is not there yet.
fn soon(out: PathBuf) -> FoundRoots {
    if out.is_dir() {
        return (vec![out], None);
    }
    render::say(&format!("note: nothing is built yet; `{}` is served as soon as it is there", out.display()));
    (Vec::new(), Some(Arc::new(move || Some(out.clone()).into_iter().filter(|out| out.is_dir()).collect())))
}

/// Where the artefacts of each image of a workspace lie, built or not, and those of the workspace itself.
fn outs(workspace: &Workspace) -> Vec<PathBuf> {
    let own = |directory: &PathBuf| directory.join("out");
    workspace.images.iter().chain([&workspace.root]).map(own).collect()
}

/// Units for systemd: the socket is root's, the server an account's of its own without any capability.
const UNITS: &str = include_str!("serve.units");
