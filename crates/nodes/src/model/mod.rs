//! What `nodes.toml` says: its schema, and the keys one by one.

pub mod mac;

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde_json::{Value as Json, json};

use recipe::schema_of;

/// What is said of nodes, in any table. Doc comments become the descriptions in the JSON Schema.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used: the keys are read one by one, with their places")]
struct Attributes {
    /// The image that the nodes boot, by the name of a recipe's image.
    image: Option<String>,
    /// The build of it that `nodeset IMAGE` means: the first digits of its name in `out/.builds`. None: the published one.
    build: Option<String>,
    /// Words for the kernel's command line, after those of the image. They add up from the defaults to the node; `~WORD` takes
    /// one of them out.
    kernel_args: Option<Vec<String>>,
    /// Consoles of the kernel, for instance `ttyS0,115200`; the last one is /dev/console.
    console: Option<Vec<String>>,
    /// The network card that the node boots from, by its name or `mac`: a name becomes `netdev=`, `mac` `BOOTIF=`.
    nic: Option<String>,
    /// A bond as dracut writes it: `bond0:eno1,eno2:mode=802.3ad`.
    bond: Option<String>,
    /// A tagged network as dracut writes it: `eno1.100:eno1`.
    vlan: Option<String>,
    /// The processor.
    #[schemars(extend("enum" = ["x86_64", "aarch64", "ppc64le"]))]
    arch: Option<String>,
    /// The boot loader whose files `nodeset` writes.
    #[schemars(extend("enum" = ["ipxe", "grub", "pxelinux", "petitboot", "xnba", "shim"]))]
    loader: Option<String>,
    /// Scripts that a node runs when it has started, each with its arguments behind a blank. They add up from the defaults to the
    /// node; `~NAME` takes one out.
    postscripts: Option<Vec<String>>,
    /// Scripts that a node runs after those, when its services are there. They add up, too.
    postbootscripts: Option<Vec<String>>,
    /// Values for templates of loaders' files and for scripts, by name. They add up; the nearest one counts.
    variables: Option<std::collections::BTreeMap<String, String>>,
    /// For people.
    comment: Option<String>,
}

/// What only nodes have.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used")]
struct OfNode {
    /// MAC addresses of the card that it boots from. In a table of several nodes a text with brackets, one number for each node.
    mac: Option<String>,
    /// MAC addresses, where the node may boot from several cards.
    macs: Option<Vec<String>>,
    /// Its address. In a table of several nodes a text with brackets, one number for each node: `10.0.0.[1-40]`.
    ip: Option<String>,
    /// UUID of the system board, as the firmware says it.
    uuid: Option<String>,
    /// Serial number, as the firmware says it.
    serial: Option<String>,
}

/// What only groups have.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used")]
struct OfGroup {
    /// Its nodes, as a node set: `cn[001-040]`, `@rack1!cn007`.
    nodes: String,
    /// Whose value counts where a node's groups say different things: that of the highest number.
    #[schemars(range(min = -1_000_000, max = 1_000_000))]
    priority: Option<i64>,
}

/// Arguments of `nodeset` that a site always gives.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used")]
struct OfNodeset {
    /// Directory that loaders load from, for instance /tftpboot; from the file's directory.
    out: Option<String>,
    /// Where nodes find the directory `out` of the images; `{image}` stands for the image.
    url: Option<String>,
    /// Further servers with the same images, such as service nodes: nodes whose own is gone go to them. Addresses as `url` has them.
    #[serde(default)]
    servers: Vec<String>,
    /// `imgbuild serve` that hears the nodes, for instance http://10.0.0.1: then their files tell nodes to report.
    report: Option<String>,
    /// Directory with the scripts of `postscripts` and `postbootscripts`, for instance /install/postscripts; from the file's
    /// directory. None: `postscripts`.
    postscripts: Option<String>,
}

fn tables() -> Json {
    let own = |schema: schemars::Schema| schema.to_value()["properties"].clone();
    let generator = schemars::SchemaGenerator::default;
    let mut attributes = own(generator().into_root_schema_for::<Attributes>());
    for key in ["arch", "loader"] {
        // An enumeration of words has no null.
        attributes[key]["type"] = json!("string");
    }
    let with = |own: Json| {
        let mut all = own;
        if let (Some(all), Some(shared)) = (all.as_object_mut(), attributes.as_object()) {
            all.extend(shared.clone());
        }
        all
    };
    let table = |what: &str, properties: Json, required: &[&str]| json!({"type": "object", "description": what, "properties": properties, "required": required, "additionalProperties": false});
    json!({
        "Nodeset": table("Where `nodeset` writes, and what it writes.", own(generator().into_root_schema_for::<OfNodeset>()), &[]),
        "Attributes": table("What is said of nodes.", with(json!({})), &[]),
        "Group": table("A group: its nodes, and what is said of all of them.", with(own(generator().into_root_schema_for::<OfGroup>())), &["nodes"]),
        "Node": table("A node, or several with the same values.", with(own(generator().into_root_schema_for::<OfNode>())), &[]),
    })
}

/// The root: its title names the file in messages.
#[derive(JsonSchema)]
#[schemars(title = "imgbuild nodes")]
struct Root;

/// The schema of `nodes.toml`; the committed copy is `schemas/nodes.schema.json`.
pub fn nodes_schema_text() -> String {
    let mut schema: Json = serde_json::from_str(&schema_of::<Root>("nodes.schema.json")).unwrap_or_default();
    if let (Some(schema), Some(own)) = (schema.as_object_mut(), SCHEMA.as_object()) {
        schema.extend(own.clone());
    }
    format!("{schema:#}\n")
}

/// The same as a value.
pub(super) static SCHEMA: LazyLock<Json> = LazyLock::new(|| {
    json!({
        "title": "imgbuild nodes",
        "description": "The nodes of a cluster: who they are, and what they boot.",
        "type": "object",
        "properties": {
            "nodeset": {"$ref": "#/$defs/Nodeset", "description": "Where `nodeset` writes, unless its arguments say otherwise."},
            "defaults": {"$ref": "#/$defs/Attributes", "description": "What all nodes have, unless a group or the node says otherwise."},
            "group": {"type": "object", "description": "Groups by their names.", "additionalProperties": {"$ref": "#/$defs/Group"}},
            "node": {"type": "object", "description": "Nodes by their names; a name may be a node set: \"cn[001-040]\".", "additionalProperties": {"$ref": "#/$defs/Node"}},
        },
        "additionalProperties": false,
        "$defs": tables(),
    })
});

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "docs/nodes.md and the schema have them")]
pub enum Attr {
    Mac,
    Macs,
    Ip,
    Uuid,
    Serial,
    Image,
    Build,
    KernelArgs,
    Console,
    Nic,
    Bond,
    Vlan,
    Arch,
    Loader,
    Postscripts,
    Postbootscripts,
    Variables,
    Comment,
}

/// How values of several tables become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merging {
    Nearest,
    Adding,
    /// They add up by name; of one name the nearest counts.
    ByName,
}

impl Attr {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 18] = [
        Self::Mac,
        Self::Macs,
        Self::Ip,
        Self::Uuid,
        Self::Serial,
        Self::Image,
        Self::Build,
        Self::KernelArgs,
        Self::Console,
        Self::Nic,
        Self::Bond,
        Self::Vlan,
        Self::Arch,
        Self::Loader,
        Self::Postscripts,
        Self::Postbootscripts,
        Self::Variables,
        Self::Comment,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Mac => "mac",
            Self::Macs => "macs",
            Self::Ip => "ip",
            Self::Uuid => "uuid",
            Self::Serial => "serial",
            Self::Image => "image",
            Self::Build => "build",
            Self::KernelArgs => "kernel_args",
            Self::Console => "console",
            Self::Nic => "nic",
            Self::Bond => "bond",
            Self::Vlan => "vlan",
            Self::Arch => "arch",
            Self::Loader => "loader",
            Self::Postscripts => "postscripts",
            Self::Postbootscripts => "postbootscripts",
            Self::Variables => "variables",
            Self::Comment => "comment",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// How values of several tables become one.
    pub fn merging(self) -> Merging {
        match self {
            Self::KernelArgs | Self::Postscripts | Self::Postbootscripts => Merging::Adding,
            Self::Variables => Merging::ByName,
            _ => Merging::Nearest,
        }
    }

    /// Whether each node has its own: in a table of several nodes the text has a number for each.
    pub fn is_own(self) -> bool {
        matches!(self, Self::Mac | Self::Macs | Self::Ip | Self::Uuid | Self::Serial)
    }

    pub fn is_list(self) -> bool {
        matches!(self, Self::Macs | Self::KernelArgs | Self::Console | Self::Postscripts | Self::Postbootscripts)
    }
}
