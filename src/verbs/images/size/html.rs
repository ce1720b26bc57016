//! The page with the treemap: one file, nothing from elsewhere.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Sized;

/// Below this share of its image a node is put together with its small neighbours.
const SMALL: f64 = 0.000_5;
/// Nodes of one level that are shown before the rest is put together.
const SHOWN: usize = 120;

#[derive(Default)]
struct Node {
    raw: u64,
    packed: f64,
    files: usize,
    below: BTreeMap<String, Node>,
}

impl Node {
    fn add(&mut self, place: &[String], raw: u64, packed: f64) {
        self.raw += raw;
        self.packed += packed;
        self.files += 1;
        if let [first, rest @ ..] = place {
            self.below.entry(first.clone()).or_default().add(rest, raw, packed);
        }
    }

    /// Name, bytes before compression, compressed bytes, files, and what is below.
    fn value(&self, name: &str, least: (f64, f64)) -> Value {
        let mut below: Vec<(&String, &Node)> = self.below.iter().collect();
        below.sort_by(|a, b| b.1.packed.total_cmp(&a.1.packed).then_with(|| a.0.cmp(b.0)));
        let mut shown = Vec::new();
        let mut rest = Node::default();
        for (index, (name, node)) in below.into_iter().enumerate() {
            // One that is small in both ways, or too many.
            if index >= SHOWN || (node.packed < least.0 && (node.raw as f64) < least.1) {
                rest.raw += node.raw;
                rest.packed += node.packed;
                rest.files += node.files;
            } else {
                shown.push(node.value(name, least));
            }
        }
        if rest.files > 0 {
            let name = format!("{} small files", crate::output::render::counted(rest.files));
            shown.push(json!([name, rest.raw, rest.packed.round(), rest.files, []]));
        }
        json!([name, self.raw, self.packed.round(), self.files, shown])
    }
}

pub(super) fn page(all: &[Sized]) -> String {
    let mut images = Vec::new();
    let mut tables = String::new();
    for one in all {
        let mut root = Node::default();
        for (place, file) in &one.files {
            root.add(place, file.raw, file.packed);
        }
        let tree = root.value(&one.image, (root.packed * SMALL, root.raw as f64 * SMALL));
        tables.push_str(&table(&tree));
        images.push(tree);
    }
    let tree = match <[Value; 1]>::try_from(images) {
        Ok([one]) => one,
        Err(several) => {
            let sum = |index: usize| several.iter().map(|one| one[index].as_f64().unwrap_or(0.0)).sum::<f64>();
            json!(["all images", sum(1), sum(2), sum(3), several])
        }
    };
    // Inside of a script element nothing may end it.
    let data = tree.to_string().replace('<', "\\u003c");
    let by = all.first().map_or("directory", |one| one.by.name());
    include_str!("page.html").replace("{{BY}}", by).replace("{{TABLES}}", &tables).replace("{{DATA}}", &data)
}

/// The same for those who do not look at boxes: the first level as a table.
fn table(tree: &Value) -> String {
    let escaped = |value: &Value| crate::plans::graph::escaped(value.as_str().unwrap_or_default());
    let bytes = |value: &Value| crate::output::render::bytes(value.as_f64().unwrap_or(0.0) as u64);
    let mut text = format!(
        "<table><caption>{}</caption><thead><tr><th scope=\"col\">name</th><th scope=\"col\">packed</th>\
         <th scope=\"col\">unpacked</th><th scope=\"col\">files</th></tr></thead><tbody>\n",
        escaped(&tree[0])
    );
    for row in tree[4].as_array().into_iter().flatten() {
        text.push_str(&format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td></tr>\n",
            escaped(&row[0]),
            bytes(&row[2]),
            bytes(&row[1]),
            row[3]
        ));
    }
    text + "</tbody></table>\n"
}
