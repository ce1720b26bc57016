//! Answers the system calls of a command for which the filter asks: renames, which go on after a directory of lower layers was made
//! again, starts of programs, which go on after one that something stands in for was covered, and uname(2), which tells of the image's
//! kernel.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use super::stand_ins::Covers;
use super::{CommandRequest, renames, uname};
use crate::fault;
use crate::sandbox::filter;

/// Requests of the kernel's notifications. Source: linux/seccomp.h, SECCOMP_IOCTL_NOTIF_RECV and _SEND; the same on all
/// architectures that number ioctls as x86 does.
const RECEIVE: libc::Ioctl = 0xC050_2100_u32 as libc::Ioctl;
const SEND: libc::Ioctl = 0xC018_2101_u32 as libc::Ioctl;

/// Answers until no one is left who could ask: until then `waits` is open. `request` says what uname(2) tells, and what stands in.
pub fn serve(listener: &OwnedFd, waits: BorrowedFd<'_>, request: &CommandRequest) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut covers = Covers::new(&request.stand_ins);
    loop {
        let mut ready = [PollFd::new(listener, PollFlags::IN), PollFd::from_borrowed_fd(waits, PollFlags::IN)];
        let timeout = covers.timeout().and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut ready, timeout.as_ref()) {
            Ok(0) => {
                covers.give_up();
                continue;
            }
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => return,
        }
        if !ready[1].revents().is_empty() || ready[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
            return;
        }
        // SAFETY: all bytes zero is a value of both structures; they outlive the calls, which fill and read them.
        unsafe {
            let mut asked: libc::seccomp_notif = std::mem::zeroed();
            if libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut asked) != 0 {
                // Who asked is gone.
                continue;
            }
            let mut answer: libc::seccomp_notif_resp = std::mem::zeroed();
            answer.id = asked.id;
            if filter::is_uname(asked.data.arch, asked.data.nr) {
                if uname::answer(&asked, request.release()).is_none() {
                    answer.error = -libc::EFAULT;
                }
            } else if filter::is_start(asked.data.arch, asked.data.nr) {
                let _ = covers.before_start(&asked);
                answer.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
            } else {
                if !fault::planted("rename-not-made-room") {
                    let _ = renames::make_room(&asked);
                }
                answer.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
            }
            libc::ioctl(listener.as_raw_fd(), SEND, &raw const answer);
        }
    }
}

/// Sends a descriptor to the process at the other end, which waits for one or for the end.
pub fn hand_over(channel: &OwnedFd, descriptor: Option<&OwnedFd>) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<BorrowedFd<'_>> = descriptor.iter().map(|one| one.as_fd()).collect();
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let _ = sendmsg(channel, &[std::io::IoSlice::new(b".")], &mut ancillary, SendFlags::empty());
}

/// Receives it; none if nothing was sent, or the other end was closed.
pub fn receive(channel: &OwnedFd) -> Option<OwnedFd> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0u8; 1];
    recvmsg(channel, &mut [std::io::IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC).ok()?;
    ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })
}

/// A descriptor that can be read from once a child has ended.
pub fn end_of(child: libc::pid_t) -> Option<OwnedFd> {
    // SAFETY: a plain system call; what it gives is a new descriptor that no one else owns.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, child, 0) };
    // SAFETY: as above.
    (descriptor >= 0).then(|| unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
}
