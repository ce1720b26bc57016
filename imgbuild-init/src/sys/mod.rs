//! System calls: all of this program's unsafe code.

mod below;
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

pub use below::*;
pub use kexec::*;
pub use mounts::*;
pub use net::*;
pub use process::*;
pub use reaper::process_one;
pub use scripts::*;
pub use tree::*;
pub use worker::*;

fn c(text: &str) -> io::Result<CString> {
    Ok(CString::new(bytes_of(text).into_owned())?)
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
