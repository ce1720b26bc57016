//! The protocol by which the kernel asks for blocks. Source: the NBD project, doc/proto.md: requests and simple replies of the
//! transmission phase; the kernel makes no handshake.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};

use super::source::Source;

const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;
/// Bytes of a request without what is written.
const LENGTH: usize = 28;
/// Most bytes that one request may ask for; the kernel's are smaller.
const MOST: u32 = 64 << 20;
/// How many requests may wait for servers at the same time; more wait in line.
const WAITING: usize = 4;

const NOT_PERMITTED: u32 = 1;
const INVALID: u32 = 22;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Bytes of the device.
    Read,
    /// That what was written is on its disk.
    Flush,
    /// Nothing more.
    Disconnect,
    /// A change of the device, with so many bytes behind the request.
    Change(u32),
}

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub kind: Kind,
    /// What the reply repeats.
    pub cookie: [u8; 8],
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u32,
}

impl Request {
    /// Reads a request; none where these bytes are something else.
    pub(super) fn parse(bytes: &[u8; LENGTH]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (_flags, rest) = rest.split_first_chunk::<2>()?;
        let (kind, rest) = rest.split_first_chunk::<2>()?;
        let (cookie, rest) = rest.split_first_chunk::<8>()?;
        let (offset, rest) = rest.split_first_chunk::<8>()?;
        let length = u32::from_be_bytes(*rest.first_chunk::<4>()?);
        let kind = match u16::from_be_bytes(*kind) {
            0 => Kind::Read,
            1 => Kind::Change(length),
            2 => Kind::Disconnect,
            3 => Kind::Flush,
            _ => Kind::Change(0),
        };
        (u32::from_be_bytes(*magic) == REQUEST).then_some(Self {
            kind,
            cookie: *cookie,
            offset: u64::from_be_bytes(*offset),
            length,
        })
    }

    /// Why a device of this size gives no bytes for it; 0: it does. The numbers are the protocol's.
    pub(super) fn refusal(&self, size: u64) -> u32 {
        match self.kind {
            Kind::Change(_) => NOT_PERMITTED,
            Kind::Read if self.length > MOST => INVALID,
            Kind::Read if self.offset.saturating_add(u64::from(self.length)) > size => INVALID,
            Kind::Read | Kind::Flush | Kind::Disconnect => 0,
        }
    }
}

/// A reply without its bytes.
pub(super) fn reply(cookie: [u8; 8], error: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&REPLY.to_be_bytes());
    bytes[4..8].copy_from_slice(&error.to_be_bytes());
    bytes[8..].copy_from_slice(&cookie);
    bytes
}

/// Answers requests until the other end is gone or wants no more. What is here is answered at once, in whatever order; what has to be
/// fetched is answered when it is here and checked, and never with an error.
///
/// # Errors
/// What comes is no request.
pub(super) fn serve(stream: &UnixStream, source: &Source, size: u64) -> io::Result<()> {
    let output = Mutex::new(stream.try_clone()?);
    let send = |request: &Request, error: u32, bytes: &[u8]| {
        let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
        output.write_all(&reply(request.cookie, error)).and_then(|()| output.write_all(bytes))
    };
    let (sender, receiver) = channel::<Request>();
    let receiver = Mutex::new(receiver);
    std::thread::scope(|scope| {
        for _ in 0..WAITING {
            scope.spawn(|| {
                loop {
                    let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(request) = next else { return };
                    match source.read(request.offset, request.length as usize) {
                        Some(bytes) => drop(send(&request, 0, &bytes)),
                        // All ends: no request gets an answer any longer.
                        None => {
                            let _ = stream.shutdown(Shutdown::Both);
                            return;
                        }
                    }
                }
            });
        }
        let outcome = requests(stream, |request| {
            let error = request.refusal(size);
            if error != 0 || request.kind == Kind::Flush {
                return send(&request, error, &[]);
            }
            match source.read_held(request.offset, request.length as usize) {
                Some(bytes) => send(&request, 0, &bytes),
                None => sender.send(request).map_err(io::Error::other),
            }
        });
        source.close();
        drop(sender);
        outcome
    })
}

fn requests(mut stream: &UnixStream, mut one: impl FnMut(Request) -> io::Result<()>) -> io::Result<()> {
    loop {
        let mut bytes = [0; LENGTH];
        match stream.read_exact(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        let Some(request) = Request::parse(&bytes) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel sends something else than requests"));
        };
        match request.kind {
            Kind::Disconnect => return Ok(()),
            // What is to be written follows.
            Kind::Change(length) => drop(io::copy(&mut Read::take(stream, u64::from(length)), &mut io::sink())?),
            Kind::Read | Kind::Flush => {}
        }
        one(request)?;
    }
}
