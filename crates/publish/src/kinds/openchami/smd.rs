//! SMD's names of nodes, by MAC address; nothing is written there, since nodes.toml has no xnames.
//! Source: OpenCHAMI/smd, cmd/smd/smd-api.go, `doCompEthInterfacesGetV2`; pkg/sm/compethinterfaces.go, `CompEthInterfaceV2`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::Error;
use crate::kinds::servers::{Client, Method};

#[derive(Deserialize)]
struct Interface {
    #[serde(default, rename = "MACAddress")]
    mac: String,
    #[serde(default, rename = "ComponentID")]
    component: String,
}

#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<String, String>);

impl Names {
    pub(super) fn of(&self, mac: &str) -> Option<&str> {
        self.0.get(&mac.to_ascii_lowercase()).map(String::as_str)
    }
}

/// Errors: [`Error::Server`].
pub(super) fn names(client: &Client, smd: &str) -> Result<Names, Error> {
    let url = format!("{smd}/Inventory/EthernetInterfaces");
    let all: Option<Vec<Interface>> = client.ask(&Method::GET, &url, None)?.document()?;
    // Only nodes boot: `x1000c0s0b0` is a board, `x1000c0s0b0n0` a node on it.
    let all = all.unwrap_or_default().into_iter().filter(|one| is_node(&one.component));
    Ok(Names(all.map(|one| (one.mac.to_ascii_lowercase(), one.component)).collect()))
}

fn is_node(component: &str) -> bool {
    component.rsplit_once('n').is_some_and(|(board, number)| {
        board.starts_with('x') && !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
    })
}
