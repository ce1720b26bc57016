//! `imgbuild graph`: the actions of an image, what they use, and what a build would do with them.

mod layout;
mod svg;

pub(crate) use svg::escaped;

use super::planned::{plan_of, stage_failed};
use crate::Exit;
use crate::output::render;
use crate::setup::lock;
use crate::setup::{chosen_to_look, store_directory};
use build::ids;
use build::shape_of;
use plan::Verdict;
use recipe::Recipe;
use store::Store;

/// Arguments of `graph`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Images, by name or glob [default: the recipe in the current directory, or all in the workspace]
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Print a Graphviz graph
    #[arg(long, conflicts_with_all = ["mermaid", "svg"])]
    pub dot: bool,
    /// Print a Mermaid diagram, as wikis and forges draw it
    #[arg(long, conflicts_with = "svg")]
    pub mermaid: bool,
    /// Print an SVG image
    #[arg(long)]
    pub svg: bool,
    /// Print JSON
    #[arg(long, conflicts_with_all = ["dot", "mermaid", "svg"])]
    pub json: bool,
    /// Where artefacts are [default: `out` next to the recipe]
    #[arg(long, value_name = "DIR")]
    pub out: Option<std::path::PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// Stage and layer.
    pub id: String,
    pub verdict: Verdict,
    /// Nodes that it uses, by their places; each stands before it.
    pub uses: Vec<usize>,
}

/// The actions of one image, each behind those that it uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    pub image: String,
    pub nodes: Vec<Node>,
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Exit> {
    let shapes = shapes(arguments, own)?;
    let text = if own.json {
        json(&shapes)
    } else if own.dot {
        dot(&shapes)
    } else if own.mermaid {
        mermaid(&shapes)
    } else if own.svg {
        svg::draw(&shapes)
    } else {
        shapes.iter().map(plain).collect::<Vec<_>>().join("\n")
    };
    render::print(&text);
    Ok(Exit::Done)
}

fn shapes(arguments: &crate::Arguments, own: &Arguments) -> Result<Vec<Shape>, Exit> {
    let recipes = chosen_to_look(arguments, &own.images)?;
    let store = Store::existing(&store_directory(arguments)?);
    recipes.iter().map(|recipe| shape(recipe, &store, own)).collect()
}

fn shape(recipe: &Recipe, store: &Store, own: &Arguments) -> Result<Shape, Exit> {
    let out = own.out.clone().unwrap_or_else(|| recipe.out.clone());
    let planned = plan_of(recipe, store, &out, &[])?;
    let layers = planned.stages.iter().flat_map(|stage| {
        stage.layers.iter().map(move |layer| (format!("{}/{}", stage.stage, layer.layer), layer.action))
    });
    let verdicts: Vec<(String, Verdict)> = layers.collect();
    let verdict = |id: &str| verdicts.iter().find(|(name, _)| name == id).map(|(_, verdict)| *verdict);
    let mut nodes: Vec<Node> = Vec::new();
    match shape_of(recipe, lock(recipe)?).map_err(stage_failed)? {
        Some(graph) => {
            for action in graph.in_order() {
                let names = action.upstream.iter().map(|upstream| &upstream.action).chain(&action.needs);
                let mut uses: Vec<usize> =
                    names.filter_map(|name| nodes.iter().position(|node| node.id == *name)).collect();
                uses.sort_unstable();
                uses.dedup();
                // Nothing was decided about another form of something.
                let verdict = verdict(&action.id).unwrap_or(Verdict::Depends);
                nodes.push(Node { id: action.id.clone(), verdict, uses });
            }
        }
        // Nothing is resolved yet: that comes first, the rest is known by its stages only.
        None => {
            for (id, verdict) in &verdicts {
                let of = |names: &[&str]| -> Vec<usize> {
                    names.iter().filter_map(|name| nodes.iter().position(|node| node.id == *name)).collect()
                };
                let uses = match id.as_str() {
                    ids::INITRD | ids::INITRD_STATELITE | ids::INITRD_KDUMP => of(&[ids::PAYLOAD]),
                    ids::LOCK => Vec::new(),
                    _ => of(&[ids::LOCK]),
                };
                nodes.push(Node { id: id.clone(), verdict: *verdict, uses });
            }
        }
    }
    Ok(Shape { image: planned.name, nodes })
}

impl Shape {
    /// What each node uses, without what follows from the rest: a layer that stands on another need not say on what
    /// that stands.
    pub(crate) fn drawn(&self) -> Vec<Vec<usize>> {
        let mut reach: Vec<std::collections::BTreeSet<usize>> = Vec::new();
        let mut drawn = Vec::new();
        for node in &self.nodes {
            let implied = |one: &usize| node.uses.iter().any(|other| reach[*other].contains(one));
            drawn.push(node.uses.iter().copied().filter(|one| !implied(one)).collect());
            let below = node.uses.iter().flat_map(|one| reach[*one].iter().copied());
            reach.push(below.chain(node.uses.iter().copied()).collect());
        }
        drawn
    }
}

/// What `graph --json` prints: images, their actions in an order in which they can run, and what each uses itself.
fn json(shapes: &[Shape]) -> String {
    let actions = |shape: &Shape| -> Vec<serde_json::Value> {
        let uses = |node: &Node| -> Vec<&str> { node.uses.iter().map(|one| shape.nodes[*one].id.as_str()).collect() };
        let one = |node: &Node| serde_json::json!({ "action": node.id, "verdict": node.verdict, "uses": uses(node) });
        shape.nodes.iter().map(one).collect()
    };
    let images: Vec<serde_json::Value> =
        shapes.iter().map(|shape| serde_json::json!({ "image": shape.image, "actions": actions(shape) })).collect();
    let document = serde_json::json!({ "format_version": "1.0", "images": images });
    format!("{}\n", serde_json::to_string_pretty(&document).unwrap_or_default())
}

fn plain(shape: &Shape) -> String {
    let widest = shape.nodes.iter().map(|node| node.id.chars().count()).max().unwrap_or(0);
    let mut text = format!("{}\n", shape.image);
    for (node, uses) in shape.nodes.iter().zip(shape.drawn()) {
        let names: Vec<&str> = uses.iter().map(|one| shape.nodes[*one].id.as_str()).collect();
        let line = format!("  {:<widest$}  {:<7}  {}", node.id, node.verdict, names.join(", "));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Quotes for Graphviz: backslashes and quotation marks.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn dot(shapes: &[Shape]) -> String {
    let mut text = "digraph imgbuild {\n  rankdir=LR\n  node [fontname=\"sans-serif\" style=filled]\n".to_owned();
    for (index, shape) in shapes.iter().enumerate() {
        text.push_str(&format!("  subgraph cluster_{index} {{\n    label={}\n", quoted(&shape.image)));
        for (number, node) in shape.nodes.iter().enumerate() {
            let look = match node.verdict {
                Verdict::Keep => "shape=box style=\"filled,rounded\" fillcolor=\"#d5ead8\"",
                Verdict::Run => "shape=hexagon penwidth=2 fillcolor=\"#ffd9a8\"",
                Verdict::Depends => "shape=box style=\"filled,dashed\" fillcolor=\"#d6e4f7\"",
            };
            let label = quoted(&node.id).trim_end_matches('"').to_owned() + "\\n" + node.verdict.name() + "\"";
            text.push_str(&format!("    i{index}n{number} [label={label} {look}]\n"));
        }
        for (number, uses) in shape.drawn().iter().enumerate() {
            for one in uses {
                text.push_str(&format!("    i{index}n{one} -> i{index}n{number}\n"));
            }
        }
        text.push_str("  }\n");
    }
    text.push_str("}\n");
    text
}

/// Text in Mermaid's quotation marks: its own entity codes for what would end them.
fn mermaid_text(text: &str) -> String {
    text.replace('#', "#35;").replace('"', "#quot;").replace('<', "#lt;").replace('>', "#gt;")
}

fn mermaid(shapes: &[Shape]) -> String {
    let mut text = "flowchart LR\n".to_owned();
    for (index, shape) in shapes.iter().enumerate() {
        text.push_str(&format!("  subgraph i{index}[\"{}\"]\n", mermaid_text(&shape.image)));
        for (number, node) in shape.nodes.iter().enumerate() {
            let (open, close) = match node.verdict {
                Verdict::Keep => ("(", ")"),
                Verdict::Run => ("{{", "}}"),
                Verdict::Depends => ("[/", "/]"),
            };
            let label = mermaid_text(&node.id);
            text.push_str(&format!("    i{index}n{number}{open}\"{label}<br>{0}\"{close}:::{0}\n", node.verdict));
        }
        for (number, uses) in shape.drawn().iter().enumerate() {
            for one in uses {
                text.push_str(&format!("    i{index}n{one} --> i{index}n{number}\n"));
            }
        }
        text.push_str("  end\n");
    }
    text.push_str("  classDef keep fill:#d5ead8,stroke:#2e6b3a,color:#111\n");
    text.push_str("  classDef run fill:#ffd9a8,stroke:#a35200,stroke-width:2px,color:#111\n");
    text.push_str("  classDef depends fill:#d6e4f7,stroke:#2a5a9c,stroke-dasharray:5 3,color:#111\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, verdict: Verdict, uses: &[usize]) -> Node {
        Node { id: id.to_owned(), verdict, uses: uses.to_vec() }
    }

    pub(super) fn example() -> Shape {
        Shape {
            image: "a \"b\" <c>".to_owned(),
            nodes: vec![
                node("rootfs/tools", Verdict::Keep, &[]),
                node("rootfs/base", Verdict::Keep, &[0]),
                node("kernel/payload", Verdict::Run, &[0]),
                node("rootfs/kernel", Verdict::Depends, &[0, 1, 2]),
                node("initrd/stateless", Verdict::Depends, &[2]),
                node("pack/rootimg", Verdict::Depends, &[1, 3]),
            ],
        }
    }

    #[test]
    fn what_follows_from_the_rest_is_not_drawn() {
        assert_eq!(example().drawn(), [vec![], vec![0], vec![0], vec![1, 2], vec![2], vec![3]]);
        insta::assert_snapshot!(plain(&example()), @r#"
        a "b" <c>
          rootfs/tools      keep
          rootfs/base       keep     rootfs/tools
          kernel/payload    run      rootfs/tools
          rootfs/kernel     depends  rootfs/base, kernel/payload
          initrd/stateless  depends  kernel/payload
          pack/rootimg      depends  rootfs/kernel
        "#);
    }

    #[test]
    fn names_do_not_break_out_of_their_quotation_marks() {
        let text = dot(&[example()]);
        assert!(text.contains(r#"label="a \"b\" <c>""#), "{text}");
        assert!(mermaid(&[example()]).contains(r##"i0["a #quot;b#quot; #lt;c#gt;"]"##));
    }

    #[test]
    fn the_drawing_is_xml_and_no_two_boxes_overlap() {
        let text = svg::draw(&[example(), example()]);
        let mut reader = quick_xml::Reader::from_str(&text);
        let mut boxes: Vec<[f64; 4]> = Vec::new();
        let mut words = String::new();
        loop {
            match reader.read_event().unwrap() {
                quick_xml::events::Event::Eof => break,
                quick_xml::events::Event::Text(text) => words.push_str(&text),
                quick_xml::events::Event::Start(tag) | quick_xml::events::Event::Empty(tag)
                    if tag
                        .attributes()
                        .flatten()
                        .any(|one| one.key.as_ref() == "class" && one.value.starts_with("box"))
                        && tag.name().as_ref() == "rect" =>
                {
                    let number = |name: &str| -> f64 {
                        let value = tag.try_get_attribute(name).unwrap().unwrap().value;
                        value.parse().unwrap()
                    };
                    boxes.push([number("x"), number("y"), number("width"), number("height")]);
                }
                _ => {}
            }
        }
        assert_eq!(boxes.len(), 12);
        for (index, a) in boxes.iter().enumerate() {
            for b in &boxes[index + 1..] {
                let apart = a[0] + a[2] <= b[0] || b[0] + b[2] <= a[0] || a[1] + a[3] <= b[1] || b[1] + b[3] <= a[1];
                assert!(apart, "{a:?} {b:?}");
            }
        }
        assert!(words.contains("kernel/payload") && words.contains("depends"));
        assert_eq!(text, svg::draw(&[example(), example()]), "the drawing is the same each time");
    }
}
