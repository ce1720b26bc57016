//! The words of xCAT's port 3002, for images that speak them: `installstatus booted` and its kin become reports.
//!
//! The server says `ready`, the client one line, the server `done` before it acts, and closes. A node is known by its address alone;
//! anyone else is closed without a word. Source: xCAT's xcatd, `do_installm_service`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Server;
use nodes::ReportState;

/// How long a client may take for its line.
const WITHIN: Duration = Duration::from_secs(2);
/// Longest line, in bytes.
const LONGEST: usize = 1024;

pub(crate) async fn hear(server: &Arc<Server>, mut stream: TcpStream, peer: SocketAddr) -> Option<()> {
    let desk = server.desk.clone()?;
    let asked = Arc::clone(&desk);
    // It may have to read the nodes' file again.
    let node = tokio::task::spawn_blocking(move || asked.who(&Default::default(), peer.ip().to_canonical()));
    let node = node.await.ok()?.ok()?;
    stream.write_all(b"ready\n").await.ok()?;
    let mut line = Vec::new();
    let read = async {
        let mut piece = [0; 256];
        while !line.contains(&b'\n') && line.len() < LONGEST {
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => break,
                Ok(length) => line.extend_from_slice(&piece[..length]),
            }
        }
    };
    tokio::time::timeout(WITHIN, read).await.ok()?;
    stream.write_all(b"done\n").await.ok()?;
    let text = String::from_utf8_lossy(&line).trim().to_owned();
    let (state, reason) = meaning(&text)?;
    server.metrics.reported();
    let kept = tokio::task::spawn_blocking(move || desk.hear(&node, state, reason.as_deref()));
    kept.await.ok()?.ok()
}

/// What a line says of a node. `next` comes at the end of an installation, and says that it goes on from its disk.
fn meaning(line: &str) -> Option<(ReportState, Option<String>)> {
    let mut words = line.split_whitespace();
    let state = match (words.next()?, words.next()) {
        ("installstatus", Some("netbooting" | "installing" | "booting")) => ReportState::Booting,
        ("installstatus", Some("postbooting" | "syncing")) => ReportState::Image,
        ("installstatus", Some("booted" | "synced")) | ("next", None) => ReportState::Up,
        ("installstatus", Some("failed")) if fault::planted("xcat-failed-is-up") => ReportState::Up,
        ("installstatus", Some("failed" | "out-of-sync")) => ReportState::Failed,
        _ => return None,
    };
    let reason = (state == ReportState::Failed).then(|| format!("xCAT's word: {}", line.trim()));
    Some((state, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_states() {
        for (line, state) in [
            ("installstatus booted", Some(ReportState::Up)),
            ("installstatus netbooting", Some(ReportState::Booting)),
            ("installstatus postbooting", Some(ReportState::Image)),
            ("installstatus failed", Some(ReportState::Failed)),
            ("next", Some(ReportState::Up)),
            ("installstatus", None),
            ("getpostscript", None),
            ("unlocktftpdir", None),
            ("", None),
        ] {
            assert_eq!(meaning(line).map(|(state, _)| state), state, "{line}");
        }
    }
}
