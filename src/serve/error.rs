//! Why the server does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::nodes::StateError;
use crate::source::Finding;

/// What can go wrong before the first node is served.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ServeError {
    /// The directory is not there, or cannot be read.
    #[error("cannot serve `{}`: {source}", path.display())]
    #[diagnostic(code(serve::root))]
    Root {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
        /// What to do.
        #[help]
        help: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    #[diagnostic(code(serve::listen))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
        /// What to do.
        #[help]
        help: String,
    },
    /// The service manager handed over no usable socket.
    #[error("the service manager handed over {what}")]
    #[diagnostic(
        code(serve::activation),
        help("the socket unit needs `ListenStream=ADDRESS:PORT`, and `Accept=no`, which is the default")
    )]
    Activation {
        /// What it handed over.
        what: String,
    },
    /// A certificate, a key or an authority cannot be used.
    #[error("{what} `{}` {problem}", path.display())]
    #[diagnostic(code(serve::tls))]
    Tls {
        /// Which of the files.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        #[help]
        help: String,
    },
    /// The user that the server is to run as cannot be become.
    #[error("cannot run as `{name}`: {problem}")]
    #[diagnostic(
        code(serve::user),
        help(
            "name an account of this machine, and start the server as root; or start it as that user on a port from 1024 on"
        )
    )]
    User {
        /// The account.
        name: String,
        /// Why not.
        problem: String,
    },
    /// The file of the nodes is wrong.
    #[error("the nodes cannot be read")]
    #[diagnostic(code(serve::nodes))]
    Nodes(Vec<Finding>),
    /// The state of nodes cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    State(#[from] StateError),
    /// The machine gives no threads or sockets.
    #[error("cannot start the server: {0}")]
    #[diagnostic(code(serve::machine))]
    Machine(#[source] io::Error),
}
