//! System calls: all of this program's unsafe code.

mod below;
mod daemon;
mod kexec;
mod mounts;
mod net;
mod process;
mod reaper;
mod scripts;
mod tree;
mod worker;

use std::ffi::CString;
use std::io;

use crate::name::bytes_of;

pub(crate) use below::*;
pub(crate) use daemon::*;
pub(crate) use kexec::*;
pub(crate) use mounts::*;
pub(crate) use net::*;
pub(crate) use process::*;
pub(crate) use reaper::process_one;
pub(crate) use scripts::*;
pub(crate) use tree::*;
pub(crate) use worker::*;

fn c(text: &str) -> io::Result<CString> {
    Ok(CString::new(bytes_of(text).into_owned())?)
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
