//! The kernel's side: a block device whose blocks come from a socket. Source: Linux, include/uapi/linux/nbd-netlink.h, genetlink.h,
//! netlink.h; drivers/block/nbd.c.
//!
//! It is asked for by netlink and not by ioctl: there a thread waits inside of the call as long as the device lives, and a SIGSTOP, which
//! systemd sends to all processes at shutdown, ends that call and with it the device.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::sys;

/// Bytes of a block. The smallest: an image ends anywhere, and both file systems choose their own.
const BLOCK: u64 = 512;
/// How long the kernel may take until it shows the device.
const UNTIL_READY: Duration = Duration::from_secs(30);

const REQUEST_AND_ACK: u16 = 1 | 4;
/// The type of messages that say how a request ended.
const ENDED: u16 = 2;
/// The family that knows the numbers of all others, its request for one, and the attributes of that.
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const CONNECT: u8 = 1;
const DISCONNECT: u8 = 2;
const INDEX: u16 = 1;
const SIZE_BYTES: u16 = 2;
const BLOCK_SIZE_BYTES: u16 = 3;
const SERVER_FLAGS: u16 = 5;
const CLIENT_FLAGS: u16 = 6;
const SOCKETS: u16 = 7;
const SOCKET_ITEM: u16 = 1;
const SOCKET_FD: u16 = 1;
/// The attribute has attributes.
const NESTED: u16 = 1 << 15;

/// There are flags, and the device is for reading.
const READ_ONLY: u64 = 1 | 2;
/// The device is free again when no one has it open.
const DISCONNECT_ON_CLOSE: u64 = 2;

/// A device that is connected.
pub(super) struct Device {
    /// Where it is.
    pub path: String,
    index: u32,
}

/// The device's size for an image's: whole blocks.
pub(super) fn size_for(image: u64) -> u64 {
    image.div_ceil(BLOCK).saturating_mul(BLOCK)
}

/// Connects a socket's end with a device that is free. There is no time-out: a server may be away for hours (Linux 5.4 and later).
///
/// # Errors
/// The kernel's: it has no such devices.
pub(super) fn attach(end: &UnixStream, image: u64) -> io::Result<Device> {
    let fd = u32::try_from(end.as_raw_fd()).map_err(io::Error::other)?;
    let socket = attribute(SOCKET_FD, &fd.to_ne_bytes());
    let sockets = attribute(SOCKETS | NESTED, &attribute(SOCKET_ITEM | NESTED, &socket));
    let wanted = [
        attribute(SIZE_BYTES, &size_for(image).to_ne_bytes()),
        attribute(BLOCK_SIZE_BYTES, &BLOCK.to_ne_bytes()),
        attribute(SERVER_FLAGS, &READ_ONLY.to_ne_bytes()),
        attribute(CLIENT_FLAGS, &DISCONNECT_ON_CLOSE.to_ne_bytes()),
        sockets,
    ];
    let answer = ask_nbd(CONNECT, &wanted.concat())?;
    let index = find(&answer, INDEX).and_then(|bytes| Some(u32::from_ne_bytes(*bytes.first_chunk()?)));
    let index = index.ok_or_else(|| io::Error::other("the kernel does not say which device it is"))?;
    Ok(Device { path: format!("/dev/nbd{index}"), index })
}

impl Device {
    /// Ends it: what waits for a block has an error.
    pub(super) fn disconnect(&self) {
        let _ = ask_nbd(DISCONNECT, &attribute(INDEX, &self.index.to_ne_bytes()));
    }

    /// Opens the device when it is there and has its size: the kernel reads its first and last blocks for that. As long as it is open, it
    /// stays: the first program that looks at it and closes it would end it.
    ///
    /// # Errors
    /// The kernel's; or it takes too long.
    pub(super) fn open(&self) -> io::Result<File> {
        let size = Path::new("/sys/block").join(format!("nbd{}", self.index)).join("size");
        let began = Instant::now();
        loop {
            let blocks = std::fs::read_to_string(&size).unwrap_or_default();
            let has_size = blocks.trim().parse::<u64>().is_ok_and(|blocks| blocks > 0);
            match File::open(&self.path) {
                Ok(file) if has_size => return Ok(file),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ if began.elapsed() > UNTIL_READY => {
                    let text = format!("the kernel does not start {}", self.path);
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

/// Asks the kernel's family of block devices over the network; gives the attributes of its answer.
fn ask_nbd(command: u8, attributes: &[u8]) -> io::Result<Vec<u8>> {
    let mut socket = sys::generic_netlink()?;
    let family = ask(&mut socket, CONTROL, GET_FAMILY, &attribute(FAMILY_NAME, b"nbd\0"))?;
    let number = find(&family, FAMILY_ID).and_then(|bytes| Some(u16::from_ne_bytes(*bytes.first_chunk()?)));
    let number = number.ok_or_else(|| io::Error::other("the kernel does not know nbd"))?;
    ask(&mut socket, number, command, attributes)
}

/// Asks, and waits for the end of the request; gives the attributes of what came before that.
fn ask(socket: &mut (impl Read + Write), family: u16, command: u8, attributes: &[u8]) -> io::Result<Vec<u8>> {
    socket.write_all(&message(family, command, attributes))?;
    let mut answer = Vec::new();
    loop {
        let mut bytes = vec![0; 1 << 16];
        let length = socket.read(&mut bytes)?;
        let mut rest = bytes.get(..length).unwrap_or_default();
        if rest.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while let Some((kind, body, behind)) = next_message(rest) {
            rest = behind;
            if kind == ENDED {
                let code = body.first_chunk().map_or(-libc::EPROTO, |bytes| i32::from_ne_bytes(*bytes));
                return if code == 0 { Ok(answer) } else { Err(io::Error::from_raw_os_error(code.saturating_neg())) };
            }
            // Behind command, version and two bytes of nothing.
            answer.extend_from_slice(body.get(4..).unwrap_or_default());
        }
    }
}

/// A request with its headers.
fn message(family: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(20 + attributes.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&family.to_ne_bytes());
    bytes.extend_from_slice(&REQUEST_AND_ACK.to_ne_bytes());
    // Number of the request, and of who asks: the kernel fills in what it needs.
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[command, 1, 0, 0]);
    bytes.extend_from_slice(attributes);
    bytes
}

/// An attribute, filled up to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A message's type, what follows its header, and what follows the message.
fn next_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let body = bytes.get(16..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The value of the first attribute of a kind.
fn find(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?);
        let value = bytes.get(4..length)?;
        if kind & !NESTED == wanted {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a kernel answers, a datagram a read; it keeps what it was asked.
    struct Kernel {
        answers: Vec<Vec<u8>>,
        asked: Vec<u8>,
    }

    impl Read for Kernel {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.answers.is_empty() {
                return Ok(0);
            }
            let answer = self.answers.remove(0);
            buffer[..answer.len()].copy_from_slice(&answer);
            Ok(answer.len())
        }
    }

    impl Write for Kernel {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.asked.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn ended(code: i32) -> Vec<u8> {
        [&20_u32.to_ne_bytes()[..], &ENDED.to_ne_bytes(), &[0; 10], &code.to_ne_bytes()].concat()
    }

    fn answer_of(answers: &[Vec<u8>]) -> io::Result<Vec<u8>> {
        ask(&mut Kernel { answers: answers.to_vec(), asked: Vec::new() }, 30, CONNECT, &[])
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn requests_have_the_kernels_form() {
        let mut kernel = Kernel { answers: vec![ended(0)], asked: Vec::new() };
        ask(&mut kernel, CONTROL, GET_FAMILY, &attribute(FAMILY_NAME, b"nbd\0")).unwrap();
        let expected = [28, 0, 0, 0, 16, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 1, 0, 0, 8, 0, 2, 0, b'n', b'b', b'd', 0];
        assert_eq!(kernel.asked, expected);
        let nested =
            attribute(SOCKETS | NESTED, &attribute(SOCKET_ITEM | NESTED, &attribute(SOCKET_FD, &7_u32.to_ne_bytes())));
        assert_eq!(nested, [16, 0, 7, 0x80, 12, 0, 1, 0x80, 8, 0, 1, 0, 7, 0, 0, 0]);
        assert_eq!(attribute(1, &[9]), [5, 0, 1, 0, 9, 0, 0, 0]);
    }

    /// A real one knows its own family, and not one that no module has.
    #[test]
    fn the_kernel_understands_it() {
        let mut socket = sys::generic_netlink().unwrap();
        let family = ask(&mut socket, CONTROL, GET_FAMILY, &attribute(FAMILY_NAME, b"nlctrl\0")).unwrap();
        assert_eq!(find(&family, FAMILY_ID), Some(&CONTROL.to_ne_bytes()[..]));
        assert!(ask(&mut socket, CONTROL, GET_FAMILY, &attribute(FAMILY_NAME, b"imgbuild-none\0")).is_err());
    }

    #[test]
    fn answers_are_read_and_what_is_short_is_an_error() {
        let device = message(30, CONNECT, &[attribute(9, &[1]), attribute(INDEX, &3_u32.to_ne_bytes())].concat());
        for answers in [vec![device.clone(), ended(0)], vec![[device.clone(), ended(0)].concat()]] {
            let found = answer_of(&answers).unwrap();
            assert_eq!(find(&found, INDEX), Some(&3_u32.to_ne_bytes()[..]));
            assert_eq!(find(&found, 4), None);
        }
        assert_eq!(answer_of(&[ended(-libc::ENOENT)]).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        for bad in [vec![], vec![device[..17].to_vec()], vec![vec![0; 40]], vec![vec![0xff; 40]]] {
            assert!(answer_of(&bad).is_err(), "{bad:?}");
        }
        for bad in [&[0, 0, 1, 0][..], &[3, 0, 1, 0], &[200, 0, 1, 0, 5], &[8]] {
            assert_eq!(find(bad, 1), None, "{bad:?}");
        }
        assert_eq!((size_for(0), size_for(1), size_for(512), size_for(513)), (0, 512, 512, 1024));
    }
}
