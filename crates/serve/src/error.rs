//! Why the server does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use base::source::Finding;
use nodes::StateError;

/// What can go wrong before the first node is served.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ServeError {
    #[error("cannot serve `{}`: {source}", path.display())]
    #[diagnostic(code(serve::root))]
    Root {
        path: PathBuf,
        source: io::Error,
        #[help]
        help: String,
    },
    #[error("cannot listen on {address}: {source}")]
    #[diagnostic(code(serve::listen))]
    Listen {
        address: SocketAddr,
        source: io::Error,
        #[help]
        help: String,
    },
    #[error("the service manager handed over {what}")]
    #[diagnostic(
        code(serve::activation),
        help("the socket unit needs `ListenStream=ADDRESS:PORT`, and `Accept=no`, which is the default")
    )]
    Activation { what: String },
    /// A certificate, a key or an authority cannot be used.
    #[error("{what} `{}` {problem}", path.display())]
    #[diagnostic(code(serve::tls))]
    Tls {
        what: &'static str,
        path: PathBuf,
        problem: String,
        #[help]
        help: String,
    },
    #[error("cannot run as `{name}`: {problem}")]
    #[diagnostic(
        code(serve::user),
        help(
            "name an account of this machine, and start the server as root; or start it as that user on a port from 1024 on"
        )
    )]
    User { name: String, problem: String },
    #[error("cannot answer DHCP: {problem}")]
    #[diagnostic(code(serve::dhcp))]
    Dhcp {
        problem: String,
        #[help]
        help: String,
        /// Whether it is the machine's fault, and not the arguments'.
        is_machine: bool,
    },
    #[error("the nodes cannot be read")]
    #[diagnostic(code(serve::nodes))]
    Nodes(Vec<Finding>),
    #[error(transparent)]
    #[diagnostic(transparent)]
    State(#[from] StateError),
    #[error("cannot start the server: {0}")]
    #[diagnostic(code(serve::machine))]
    Machine(#[source] io::Error),
}

impl ServeError {
    /// DHCP cannot be answered as it is asked for.
    pub fn dhcp_input(problem: String, help: &str) -> Self {
        Self::Dhcp { problem, help: help.to_owned(), is_machine: false }
    }

    /// DHCP cannot be answered on this machine.
    pub fn dhcp_machine(problem: String, help: String) -> Self {
        Self::Dhcp { problem, help, is_machine: true }
    }
}
