//! The drawing. Made here, so that no other program is needed.

use std::fmt::Write as _;

use super::Shape;
use super::layout::lay_out;
use plan::Verdict;

const ROW: usize = 64;
const BOX_HEIGHT: usize = 44;
const GAP: usize = 48;
const MARGIN: usize = 20;
const TITLE: usize = 36;
const LEGEND: usize = 44;
/// Width of a character of the font at its size, in a thousandth of a pixel: sans-serif letters are about 0.6 em wide.
const CHARACTER: usize = 8;

/// Colours for light and for dark surroundings; the shape and the word tell the same as the colour.
const STYLE: &str = "\
text{font:13px sans-serif;fill:#16191d}.title{font-weight:bold;font-size:15px}.word{font-size:11px}\
.line{fill:none;stroke:#5b6470;stroke-width:1.3}.tip{fill:#5b6470}.ground{fill:#ffffff}\
.keep{fill:#d5ead8;stroke:#2e6b3a}.run{fill:#ffd9a8;stroke:#a35200;stroke-width:3}\
.depends{fill:#d6e4f7;stroke:#2a5a9c;stroke-dasharray:6 3}\
@media(prefers-color-scheme:dark){text{fill:#eceff3}.ground{fill:#16191d}.line{stroke:#9aa4b2}.tip{fill:#9aa4b2}\
.keep{fill:#1f4527;stroke:#7cc48a}.run{fill:#6b3a05;stroke:#ffb45e}.depends{fill:#1d3558;stroke:#86b3ee}}";

/// Text for XML; what XML cannot hold at all becomes a question mark.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::new();
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            control if (control as u32) < 0x20 || matches!(control as u32, 0x7f | 0xfffe | 0xffff) => safe.push('?'),
            plain => safe.push(plain),
        }
    }
    safe
}

pub(super) fn draw(shapes: &[Shape]) -> String {
    let mut body = String::new();
    let (mut width, mut top) = (420, MARGIN);
    for shape in shapes {
        let (wide, high) = one(shape, top, &mut body);
        width = width.max(wide);
        top += high;
    }
    legend(top, &mut body);
    let height = top + LEGEND;
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" aria-label=\"actions of the image and what a build would do\">\n<style>{STYLE}</style>\n\
         <rect class=\"ground\" width=\"{width}\" height=\"{height}\"/>\n{body}</svg>\n"
    )
}

/// Draws one image from `top` down; gives the width and the height.
fn one(shape: &Shape, top: usize, body: &mut String) -> (usize, usize) {
    let uses = shape.drawn();
    let layout = lay_out(&uses);
    let mut widths = vec![0; layout.columns];
    for (node, (column, _)) in shape.nodes.iter().zip(&layout.places) {
        widths[*column] = widths[*column].max(node.id.chars().count().max(8) * CHARACTER + 28);
    }
    let left: Vec<usize> = widths
        .iter()
        .scan(MARGIN, |at, width| {
            let left = *at;
            *at += width + GAP;
            Some(left)
        })
        .collect();
    let middle = |row: usize| top + TITLE + row * ROW + BOX_HEIGHT / 2;
    let title = escaped(&shape.image);
    let _ = writeln!(body, "<text class=\"title\" x=\"{MARGIN}\" y=\"{}\">{title}</text>", top + 16);
    for (from, to, between) in &layout.lines {
        let (start, end) = (layout.places[*from], layout.places[*to]);
        let mut at = (left[start.0] + widths[start.0], middle(start.1));
        let mut path = format!("M{} {}", at.0, at.1);
        let mut curve = |to: (usize, usize)| {
            let half = (at.0 + to.0) / 2;
            let _ = write!(path, " C{half} {} {half} {} {} {}", at.1, to.1, to.0, to.1);
            at = to;
        };
        for (column, row) in between {
            curve((left[*column], middle(*row)));
            curve((left[*column] + widths[*column], middle(*row)));
        }
        let tip = (left[end.0], middle(end.1));
        curve((tip.0 - 7, tip.1));
        let _ = writeln!(body, "<path class=\"line\" d=\"{path}\"/>");
        let (x, y) = tip;
        let _ = writeln!(body, "<path class=\"tip\" d=\"M{x} {y}l-8 -4v8z\"/>");
    }
    for (node, (column, row)) in shape.nodes.iter().zip(&layout.places) {
        let (x, y) = (left[*column], middle(*row) - BOX_HEIGHT / 2);
        draw_box(body, node.verdict, (x, y), widths[*column], &node.id);
    }
    let wide = left.last().zip(widths.last()).map_or(0, |(left, width)| left + width + MARGIN);
    (wide, TITLE + layout.rows * ROW + MARGIN)
}

/// A rounded box is kept, one with a thick edge and square corners runs, one with a broken edge depends.
fn draw_box(body: &mut String, verdict: Verdict, (x, y): (usize, usize), width: usize, name: &str) {
    let round = if verdict == Verdict::Keep { 12 } else { 0 };
    let name = escaped(name);
    let _ = writeln!(body, "<g><title>{name}: {verdict}</title>");
    let _ = writeln!(
        body,
        "<rect class=\"box {verdict}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{BOX_HEIGHT}\" rx=\"{round}\"/>"
    );
    let _ = writeln!(body, "<text x=\"{}\" y=\"{}\">{name}</text>", x + 14, y + 19);
    let _ = writeln!(body, "<text class=\"word\" x=\"{}\" y=\"{}\">{verdict}</text></g>", x + 14, y + 35);
}

fn legend(top: usize, body: &mut String) {
    let mut x = MARGIN;
    for (verdict, meaning) in [(Verdict::Keep, "kept"), (Verdict::Run, "runs"), (Verdict::Depends, "kept or run")] {
        let round = if verdict == Verdict::Keep { 6 } else { 0 };
        let _ = writeln!(
            body,
            "<rect class=\"{verdict}\" x=\"{x}\" y=\"{top}\" width=\"24\" height=\"16\" rx=\"{round}\"/>\
             <text class=\"word\" x=\"{}\" y=\"{}\">{meaning}</text>",
            x + 32,
            top + 12
        );
        x += 120;
    }
}
