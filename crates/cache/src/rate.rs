//! How fast caches are filled: others use the same network.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes in each second at most, of all that is brought to caches.
#[derive(Debug, Clone, Default)]
pub struct Rate(Option<Arc<Spending>>);

#[derive(Debug)]
struct Spending {
    /// Bytes in each second.
    most: u64,
    /// When all is paid for that was spent.
    until: Mutex<Instant>,
}

impl Rate {
    pub fn of(most: Option<u64>) -> Self {
        let most = most.filter(|most| *most > 0);
        Self(most.map(|most| Arc::new(Spending { most, until: Mutex::new(Instant::now()) })))
    }

    pub fn spend(&self, bytes: u64) {
        let Some(spending) = &self.0 else { return };
        let now = Instant::now();
        let wait = {
            let mut until = spending.until.lock().unwrap_or_else(PoisonError::into_inner);
            let from = (*until).max(now);
            *until = from + Duration::from_secs_f64(bytes as f64 / spending.most as f64);
            from.saturating_duration_since(now)
        };
        std::thread::sleep(wait);
    }

    pub(super) fn reading<R>(&self, inner: R) -> Slow<R> {
        Slow { inner, rate: self.clone() }
    }
}

pub(super) struct Slow<R> {
    inner: R,
    rate: Rate,
}

impl<R: Read> Read for Slow<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.rate.spend(read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_spent_is_waited_for() {
        let rate = Rate::of(Some(1_000_000));
        let began = Instant::now();
        // The first is paid for by those that follow.
        for _ in 0..4 {
            std::io::copy(&mut rate.reading(&[0; 100_000][..]), &mut std::io::sink()).unwrap();
        }
        assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
        let began = Instant::now();
        Rate::of(None).spend(u64::MAX);
        Rate::of(Some(0)).spend(u64::MAX);
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}
