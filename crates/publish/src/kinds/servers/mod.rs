//! What the kinds that speak to servers have in common: addresses with options, the client, files that go before documents, and the mark by
//! which imgbuild knows what it wrote.

mod address;
mod boots;
mod client;
mod mark;
mod stored;

use crate::{Change, Report};

pub(super) use address::Address;
pub(super) use boots::{Boots, boots, command_line, first_form};
pub(super) use client::{Client, Method};
pub(super) use mark::{Owner, digest_of, marked, owner};
pub(super) use stored::{Published, Store};

/// Whether anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Ask,
    Write,
}

/// Names what was changed by hand, also for those who read nothing but warnings.
pub(super) fn tell_drift(report: &mut Report) {
    let changed = report.items.iter().filter(|item| item.change == Change::Drift);
    let warnings: Vec<String> = changed
        .map(|item| format!("`{}` was changed by hand since it was published; it is written again", item.name))
        .collect();
    report.warnings.extend(warnings);
}

#[cfg(test)]
pub(super) mod fake;
