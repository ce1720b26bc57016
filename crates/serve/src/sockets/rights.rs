//! What dnsmasq needs of root's rights, kept for it when this process becomes another user. Programs that it starts have them,
//! too, and it is nothing but dnsmasq that it starts.

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

/// Binding ports below 1024, raw packets, and entries in the table of neighbours.
const FOR_DHCP: CapabilitySet =
    CapabilitySet::NET_BIND_SERVICE.union(CapabilitySet::NET_RAW).union(CapabilitySet::NET_ADMIN);

/// Before the user is changed: what was root's is not lost by that.
/// Errors: The kernel does not keep them.
pub(crate) fn keep() -> rustix::io::Result<()> {
    rustix::thread::set_keep_capabilities(true)
}

/// After it: these and no others, for programs that are started, too.
/// Errors: They were not root's.
pub(crate) fn narrow() -> rustix::io::Result<()> {
    let sets = CapabilitySets { effective: FOR_DHCP, permitted: FOR_DHCP, inheritable: FOR_DHCP };
    set_capabilities(None, sets)?;
    for one in FOR_DHCP.iter() {
        rustix::thread::configure_capability_in_ambient_set(one, true)?;
    }
    rustix::thread::set_keep_capabilities(false)
}
