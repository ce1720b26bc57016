//! The server that nodes boot from: artefacts, boot scripts, reports of nodes.
//!
//! hyper speaks HTTP and rustls TLS; what is here says which file an address means, and what a client may take of the machine.

mod dhcp;
mod error;
mod files;
mod metrics;
mod pages;
mod reply;
mod routes;
mod site;
mod sockets;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use self::dhcp::Dnsmasq;
use self::files::{Roots, Tree};
use self::metrics::Metrics;
use self::site::desk::Desk;
use self::sockets::connections::{Connections, Patient};
use self::sockets::tls::Tls;
use nodes::state::presence;
use nodes::{State, nodes_file};

pub use self::dhcp::{Answers, DhcpSettings, printed};
pub use self::error::ServeError;
pub use self::files::Find;
pub use self::sockets::tls::TlsFiles;

/// How long a client may take for the headers of a request, for the next request of a connection, and for a TLS handshake.
const HEADERS_WITHIN: Duration = Duration::from_secs(15);
/// How long a client may take nothing of an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long downloads may go on when the server is asked to end.
const LAST_DOWNLOADS: Duration = Duration::from_secs(30);
/// Most headers of a request, and most bytes of them.
const MOST_HEADERS: usize = 64;
const HEADER_BYTES: usize = 16 << 10;
const OTHER_FILES: usize = 64;

/// Says a line to anyone who looks at the server.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

pub struct Settings {
    /// Directories whose files are served, besides those that `find` gives.
    pub roots: Vec<PathBuf>,
    /// Finds further ones, again and again: images come and go.
    pub find: Option<Find>,
    /// Addresses, unless the service manager hands over sockets.
    pub addresses: Vec<SocketAddr>,
    pub tls: Option<TlsFiles>,
    /// Root of the workspace whose nodes are served, and where their state lies.
    pub nodes: Option<(PathBuf, State)>,
    /// Addresses where the words of xCAT's port 3002 are heard.
    pub xcat: Vec<SocketAddr>,
    /// Has dnsmasq give nodes addresses and loaders.
    pub dhcp: Option<DhcpSettings>,
    pub user: Option<String>,
    /// Connections at once.
    pub most_connections: usize,
    /// Connections of one client at once.
    pub most_of_client: usize,
    /// Images on their way at once; who asks for one more is reported to come again later.
    pub most_streams: Option<u64>,
    pub is_verbose: bool,
    pub say: Say,
}

struct Server {
    tree: Tree,
    desk: Option<Arc<Desk>>,
    metrics: Arc<Metrics>,
    live: pages::Live,
    connections: Arc<Connections>,
    tls: Option<Tls>,
    most_streams: Option<u64>,
    /// Whether nodes' loaders come here for their files.
    gives_loaders: bool,
    is_verbose: bool,
    say: Say,
}

/// Serves until it is asked to end (SIGTERM, SIGINT): then no connection is accepted, and downloads have half a minute. SIGHUP
/// reads the certificate again. `ready` is called with the addresses when all of them are listened on.
/// Errors: Why it cannot start. What goes wrong later is said, and the server goes on.
pub fn serve(settings: Settings, ready: impl FnOnce(&[SocketAddr])) -> Result<(), ServeError> {
    let files = sockets::listen::prepare_process();
    let sockets = sockets::listen::sockets(&settings.addresses)?;
    let xcat = sockets::listen::listening(&settings.xcat)?;
    // As root, where the key is root's; and again when the file has been replaced, if the user can read it then.
    let tls = settings.tls.map(Tls::open).transpose()?;
    // What is there for who starts it has to be there for the user.
    let found: Vec<PathBuf> = settings.find.iter().flat_map(|find| find()).collect();
    if let Some(user) = &settings.user {
        // The nodes' state is the server's own: it has to be able to write there afterwards.
        let account = sockets::system::account(user)?;
        let with_nodes = settings.nodes.as_ref().filter(|(root, _)| nodes_file(root).is_some());
        if let Some((_, state)) = with_nodes.filter(|_| rustix::process::geteuid().is_root()) {
            state.hand_to(account)?;
        }
        become_user(user, settings.dhcp.is_some())?;
    }
    settings.roots.iter().try_for_each(|root| check_root(root))?;
    let mut closed = found.iter().filter_map(|root| check_root(root).err()).collect::<Vec<_>>();
    if !found.is_empty() && closed.len() == found.len() {
        return Err(closed.swap_remove(0));
    }
    // One image that it cannot read takes no other away.
    for error in closed {
        let help = miette::Diagnostic::help(&error).map(|help| format!(": {help}")).unwrap_or_default();
        (settings.say)(&format!("warning: {error}{help}"));
    }
    let desk = settings.nodes.map(|(root, state)| Desk::open(root, state)).transpose()?.flatten().map(Arc::new);
    if let Some(desk) = &desk {
        desk.say_errors(&settings.say);
    }
    let _present = desk.as_ref().and_then(|desk| presence::announce(desk.root(), desk.state().directory()));
    let listened: Vec<SocketAddr> = sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect();
    let dnsmasq = match (&settings.dhcp, &desk) {
        (None, _) => None,
        (Some(_), None) => return Err(dhcp::no_nodes()),
        (Some(dhcp), Some(desk)) => {
            let roots = Arc::new(Roots::new(settings.roots.clone(), settings.find.clone()));
            Some(dhcp::start(dhcp, &listened, desk, roots, Arc::clone(&settings.say), settings.is_verbose)?)
        }
    };
    let mut roots = settings.roots;
    roots.extend(dnsmasq.as_ref().map(|running| running.files().to_owned()));
    let roots = Arc::new(Roots::new(roots, settings.find));
    let most = settings.most_connections.min(files.saturating_sub(OTHER_FILES) / 2).max(1);
    let server = Arc::new(Server {
        tree: Tree::new(roots),
        gives_loaders: dnsmasq.is_some(),
        desk,
        metrics: Arc::default(),
        live: pages::Live::default(),
        connections: Arc::new(Connections::new(most, settings.most_of_client.min(most))),
        tls,
        most_streams: settings.most_streams,
        is_verbose: settings.is_verbose,
        say: settings.say,
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("serve").build();
    runtime.map_err(ServeError::Machine)?.block_on(server.run(sockets, xcat, dnsmasq, ready))
}

/// Becomes a user; with dnsmasq's rights, if it is to be started.
fn become_user(name: &str, with_dhcp: bool) -> Result<(), ServeError> {
    use sockets::{rights, system};
    if !with_dhcp {
        return system::become_user(name);
    }
    let failed = |errno: rustix::io::Errno| ServeError::User {
        name: name.to_owned(),
        problem: format!("what dnsmasq needs of root's rights cannot be kept: {errno}"),
    };
    rights::keep().map_err(failed)?;
    system::become_user(name)?;
    rights::narrow().map_err(failed)
}

fn check_root(root: &std::path::Path) -> Result<(), ServeError> {
    std::fs::read_dir(root).map(drop).map_err(|source| {
        let help = match source.kind() {
            std::io::ErrorKind::NotFound => {
                "`imgbuild build` writes images to `out`; --root names another directory".to_owned()
            }
            std::io::ErrorKind::PermissionDenied => {
                "the server's user must be able to read it, and to pass each directory above it: `namei -l DIRECTORY` shows them"
                    .to_owned()
            }
            _ => "--root names the directory with the images".to_owned(),
        };
        ServeError::Root { path: root.to_owned(), source, help }
    })
}

impl Server {
    async fn run(
        self: Arc<Self>,
        sockets: Vec<TcpListener>,
        xcat: Vec<TcpListener>,
        dnsmasq: Option<Dnsmasq>,
        ready: impl FnOnce(&[SocketAddr]),
    ) -> Result<(), ServeError> {
        use tokio::signal::unix::{SignalKind, signal};
        let addresses: Vec<SocketAddr> = sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect();
        let (end, ended) = watch::channel(false);
        let mut accepting = Vec::new();
        for socket in sockets {
            socket.set_nonblocking(true).map_err(ServeError::Machine)?;
            let listener = tokio::net::TcpListener::from_std(socket).map_err(ServeError::Machine)?;
            accepting.push(tokio::spawn(Arc::clone(&self).accept(listener, ended.clone())));
        }
        for socket in xcat {
            socket.set_nonblocking(true).map_err(ServeError::Machine)?;
            let listener = tokio::net::TcpListener::from_std(socket).map_err(ServeError::Machine)?;
            accepting.push(tokio::spawn(Arc::clone(&self).accept_xcat(listener, ended.clone())));
        }
        drop(ended);
        let mut hangup = signal(SignalKind::hangup()).map_err(ServeError::Machine)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Machine)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Machine)?;
        ready(&addresses);
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        loop {
            tokio::select! {
                _ = hangup.recv() => self.reload(),
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        let _ = end.send(true);
        self.live.close();
        drop(dnsmasq);
        for one in accepting {
            let _ = one.await;
        }
        // Connections hold the other ends.
        tokio::select! {
            () = end.closed() => {}
            () = tokio::time::sleep(LAST_DOWNLOADS) => (self.say)("some downloads were not finished"),
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    }

    fn reload(&self) {
        match self.tls.as_ref().map(Tls::reload) {
            Some(Err(error)) => (self.say)(&format!("{error}; the certificate of before is used further")),
            Some(Ok(())) => (self.say)("the certificate was read again"),
            None => {}
        }
    }

    async fn accept(self: Arc<Self>, listener: tokio::net::TcpListener, mut ended: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = ended.changed() => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                // Out of descriptors or memory: others end meanwhile.
                Err(error) => {
                    (self.say)(&format!("cannot accept a connection: {error}"));
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            };
            let client = peer.ip().to_canonical();
            let Some(seat) = self.connections.seat(client) else {
                self.metrics.refused();
                continue;
            };
            let _ = stream.set_nodelay(true);
            let (server, ended) = (Arc::clone(&self), ended.clone());
            let ours = stream.local_addr().ok();
            tokio::spawn(routes::OURS.scope(ours, async move {
                let _counted = server.metrics.connection();
                match &server.tls {
                    None => server.speak_plainly(stream, client, ended).await,
                    Some(tls) => {
                        if let Ok(Ok(stream)) =
                            tokio::time::timeout(HEADERS_WITHIN, tls.acceptor().accept(stream)).await
                        {
                            server.speak(stream, client, ended).await;
                        }
                    }
                }
                drop(seat);
            }));
        }
    }

    async fn accept_xcat(self: Arc<Self>, listener: tokio::net::TcpListener, mut ended: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = ended.changed() => return,
            };
            let Ok((stream, peer)) = accepted else {
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            };
            let Some(seat) = self.connections.seat(peer.ip().to_canonical()) else {
                self.metrics.refused();
                continue;
            };
            let server = Arc::clone(&self);
            tokio::spawn(async move {
                let _counted = server.metrics.connection();
                site::xcat_words::hear(&server, stream, peer).await;
                drop(seat);
            });
        }
    }

    /// Answers the requests of a connection without TLS: those for files at the head of it directly.
    async fn speak_plainly(
        self: &Arc<Self>,
        stream: tokio::net::TcpStream,
        client: IpAddr,
        mut ended: watch::Receiver<bool>,
    ) {
        match sockets::direct::speak(self, stream, client, &mut ended).await {
            sockets::direct::Rest::Ended => {}
            sockets::direct::Rest::For(stream, read) => {
                let (reads, writes) = stream.into_split();
                let reads = tokio::io::AsyncReadExt::chain(std::io::Cursor::new(read), reads);
                self.speak(tokio::io::join(reads, writes), client, ended).await;
            }
        }
    }

    async fn speak<S>(self: &Arc<Self>, stream: S, client: IpAddr, mut ended: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = TokioIo::new(Patient::new(stream, PATIENCE, &self.metrics));
        let service =
            service_fn(|request| async move { Ok::<_, Infallible>(routes::answer(self, request, client).await) });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS_WITHIN)
            .max_headers(MOST_HEADERS)
            .max_buf_size(HEADER_BYTES)
            // GRUB 2.06 knows no other spelling: without its length, no file is loaded.
            .title_case_headers(true)
            .serve_connection(stream, service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            // What a client does to its own connection concerns no one else.
            _ = connection.as_mut() => return,
            _ = ended.changed() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }
}
