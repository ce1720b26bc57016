//! Connections: how many there may be, and how long one may do nothing.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::metrics::Metrics;

#[derive(Debug)]
pub(crate) struct Connections {
    most: usize,
    /// One client: what one alone cannot take from the others.
    most_of_one: usize,
    by_client: Mutex<HashMap<IpAddr, usize>>,
    all: Mutex<usize>,
}

/// A connection's place among them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    connections: Arc<Connections>,
    client: IpAddr,
}

impl Connections {
    /// At most so many, and of one client so many.
    pub(crate) fn new(most: usize, most_of_one: usize) -> Self {
        Self { most, most_of_one, by_client: Mutex::default(), all: Mutex::new(0) }
    }

    /// A place for a connection of a client, if there is one left.
    pub(crate) fn seat(self: &Arc<Self>, client: IpAddr) -> Option<Seat> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let mut by_client = self.by_client.lock().unwrap_or_else(PoisonError::into_inner);
        let own = by_client.get(&client).copied().unwrap_or(0);
        if *all >= self.most || own >= self.most_of_one && !fault::planted("client-takes-all-places") {
            return None;
        }
        *all += 1;
        by_client.insert(client, own + 1);
        Some(Seat { connections: Arc::clone(self), client })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        *self.connections.all.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        let mut by_client = self.connections.by_client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = by_client.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                by_client.remove(&self.client);
            }
        }
    }
}

/// A stream that fails when its other end takes nothing for some time: hyper limits how long headers may take, and no one else how
/// long an answer may.
pub(crate) struct Patient<S> {
    stream: S,
    patience: Duration,
    waits: Option<Pin<Box<Sleep>>>,
    metrics: Arc<Metrics>,
}

impl<S> Patient<S> {
    /// Gives up after `patience` without a byte taken.
    pub(crate) fn new(stream: S, patience: Duration, metrics: &Arc<Metrics>) -> Self {
        Self { stream, patience, waits: None, metrics: Arc::clone(metrics) }
    }

    /// What a write came to, or an error when it waits for too long.
    fn judged<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waits = None;
            return polled;
        }
        let patience = self.patience;
        let waits = self.waits.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + patience)));
        if waits.as_mut().poll(context).is_ready() {
            self.metrics.stalled();
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, to)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judged(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.judged(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.judged(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.judged(context, polled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_never_takes_all_places() {
        let connections = Arc::new(Connections::new(5, 3));
        let (one, other): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let mut seats: Vec<Seat> = (0..3).map(|_| connections.seat(one).unwrap()).collect();
        assert!(connections.seat(one).is_none());
        seats.extend((0..2).map(|_| connections.seat(other).unwrap()));
        assert!(connections.seat(other).is_none(), "there are five");
        seats.remove(0);
        assert!(connections.seat(one).is_some());
        drop(seats);
        assert!(connections.by_client.lock().unwrap().is_empty());
    }
}
