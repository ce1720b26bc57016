//! Time-outs and the minimum transfer rate.

use std::io::{Error, ErrorKind, Read, Result};
use std::time::{Duration, Instant};

/// How long a server may say nothing, unless the user says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes that a server has to send in each second on average; a modem of 1995 did better.
const FLOOR: u64 = 1024;

/// Reads a body that has to arrive at some speed: a server that sends a byte now and then would hold a build for days.
pub struct Paced<R> {
    inner: R,
    patience: Duration,
    since: Instant,
    bytes: u64,
}

impl<R> Paced<R> {
    /// Judges `inner` over spans of `patience`.
    pub fn new(inner: R, patience: Duration) -> Self {
        Self { inner, patience, since: Instant::now(), bytes: 0 }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        let seconds = self.since.elapsed();
        if read > 0 && seconds >= self.patience {
            if self.bytes < FLOOR * seconds.as_secs() {
                let problem = format!(
                    "it sent {} bytes in {} seconds, fewer than {FLOOR} per second",
                    self.bytes,
                    seconds.as_secs()
                );
                return Err(Error::new(ErrorKind::TimedOut, problem));
            }
            self.since = Instant::now();
            self.bytes = 0;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Slow(usize);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
            std::thread::sleep(Duration::from_millis(300));
            let count = self.0.min(buffer.len());
            buffer[..count].fill(b'x');
            Ok(count)
        }
    }

    #[test]
    fn a_body_that_drips_is_given_up_and_a_steady_one_is_not() {
        let mut buffer = [0u8; 65_536];
        let mut drips = Paced::new(Slow(1), Duration::from_secs(1));
        let error = (0..10).find_map(|_| drips.read(&mut buffer).err()).unwrap();
        assert!(error.to_string().contains("fewer than 1024 per second"), "{error}");
        let mut steady = Paced::new(Slow(65_536), Duration::from_secs(1));
        assert!((0..5).all(|_| steady.read(&mut buffer).is_ok()));
    }
}
