//! Drives the built binary as a user does.
//!
//! Plain tests need no network and no privilege. Those with feature `e2e` use a real mirror, build real images, boot
//! them in QEMU; they need root or subordinate ids, the network, and the programs that README's test command installs.

// One program: whether others reach a helper says nothing.
#![allow(unreachable_pub)]

mod against;
mod against_kin;
mod all_or_nothing;
mod audit;
mod boot_card;
mod bundles;
mod caches;
mod capture;
mod causes;
mod check;
mod checkouts;
mod commands;
mod corpus;
mod corpus_rpm;
#[cfg(feature = "e2e")]
mod e2e;
#[cfg(feature = "e2e")]
mod ended;
mod exact;
mod exit_codes;
mod fetch;
mod files;
mod first_day;
mod formats;
mod history;
mod hostile;
mod invalid;
mod kdl;
mod kdump;
mod memo_workspace;
mod mends;
mod mistakes;
mod movein;
mod nodes;
mod oci;
mod outside_names;
mod owners;
mod passwords;
mod planted;
mod planted_links;
mod postscripts;
mod publish_kinds;
mod respond;
mod sbom;
mod schemas;
mod seeds;
mod serve;
mod size;
mod statelite;
#[cfg(feature = "e2e")]
mod store_faults;
mod strangers;
mod support;
mod words;
mod workspace;
mod workspace_edit;
mod workspace_kin;
#[cfg(feature = "e2e")]
mod xcat_at_once;
mod xcat_changes;
mod xcat_defs;
mod xcat_import;
mod xcat_later;
mod xcat_names;
mod xcat_removal;
mod xcat_rootimg;
