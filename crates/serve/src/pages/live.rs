//! What pages show as it happens: made once, however many are looked at.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::{broadcast, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::nodes;
use crate::site::desk::Desk;

/// How often pages are brought up to date.
const EVERY: Duration = Duration::from_millis(500);
/// How often something is sent although nothing changed, so that a connection that is gone is noticed.
const AT_LEAST: Duration = Duration::from_secs(20);
/// Most rows of one event: those of further nodes come with the next.
const MOST_ROWS: usize = nodes::ROWS;
/// Events that wait for a client that is slow; it is cut off then, and its page is loaded again.
const MOST_WAITING: usize = 16;

/// Those who look, and what makes their events.
#[derive(Default)]
pub(crate) struct Live(Mutex<Option<(broadcast::Sender<Bytes>, AbortHandle)>>);

impl Live {
    /// Events for one more page; the first one starts what makes them.
    pub(crate) fn join(&self, desk: &Arc<Desk>) -> mpsc::Receiver<Bytes> {
        let events = {
            let mut live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let (events, _) = live.get_or_insert_with(|| {
                let (events, _) = broadcast::channel(MOST_WAITING);
                let making = tokio::spawn(make(Arc::clone(desk), events.clone()));
                (events, making.abort_handle())
            });
            events.subscribe()
        };
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(pass_on(events, sender));
        receiver
    }

    /// Ends all of them: they ask again, and another may serve then.
    pub(crate) fn close(&self) {
        if let Some((_, making)) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            making.abort();
        }
    }
}

async fn pass_on(mut events: broadcast::Receiver<Bytes>, to: mpsc::Sender<Bytes>) {
    let mut next = Bytes::from_static(b"retry: 3000\n\n");
    while to.send(next).await.is_ok() {
        next = tokio::select! {
            () = to.closed() => return,
            event = timeout(AT_LEAST, events.recv()) => match event {
                Ok(Ok(event)) => event,
                Ok(Err(_)) => return,
                Err(_) => Bytes::from_static(b":\n\n"),
            },
        };
    }
}

async fn make(desk: Arc<Desk>, events: broadcast::Sender<Bytes>) {
    let (mut seen, mut roll_seen) = (desk.version(), desk.roll_written());
    let mut waiting = BTreeSet::new();
    loop {
        sleep(EVERY).await;
        let (version, changed) = desk.changed_since(seen);
        let roll = desk.roll_written();
        if events.receiver_count() == 0 {
            waiting.clear();
        } else if version != seen || roll != roll_seen || !waiting.is_empty() {
            let desk_of_all = Arc::clone(&desk);
            // More of them than are remembered: any may have changed.
            let all = move || desk_of_all.nodes().names().map(str::to_owned).collect();
            waiting.extend(match changed {
                Some(changed) => changed,
                None => tokio::task::spawn_blocking(all).await.unwrap_or_default(),
            });
            let names: Vec<String> = std::iter::from_fn(|| waiting.pop_first()).take(MOST_ROWS).collect();
            if fault::planted("page-rows-forgotten") {
                waiting.clear();
            }
            let desk = Arc::clone(&desk);
            if let Ok(event) = tokio::task::spawn_blocking(move || event(&desk, &names)).await {
                let _ = events.send(event);
            }
        }
        (seen, roll_seen) = (version, roll);
    }
}

fn event(desk: &Desk, names: &[String]) -> Bytes {
    let now = ::nodes::state::now();
    let rows: Vec<_> = names
        .iter()
        .filter_map(|name| desk.line(name))
        .map(|line| json!({"name": line.name, "cells": nodes::cells(&line, now)}))
        .collect();
    let (summary, rows) = (nodes::summary(&desk.lines()), serde_json::Value::from(rows));
    let roll = nodes::roll(desk.roll().as_ref().as_ref());
    format!("event: summary\ndata: {summary}\n\nevent: roll\ndata: {roll}\n\nevent: nodes\ndata: {rows}\n\n").into()
}
