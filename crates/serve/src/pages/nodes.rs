//! Nodes on the page: how many are in which state, and a table of them.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::html::{encoded, escaped};
use nodes::RollShown;
use nodes::state::age;

use crate::site::desk::NodeLine;

pub(super) const ROWS: usize = 200;

/// The states in the order of the bars, with what nodes without a report are called.
const STATES: [&str; 5] = ["up", "image", "booting", "failed", "unknown"];

fn state_of(line: &NodeLine) -> &'static str {
    line.report.as_ref().map_or("unknown", |report| report.state.name())
}

#[derive(Debug, Default)]
pub(super) struct Filter {
    image: Option<String>,
    state: Option<String>,
    text: Option<String>,
    page: usize,
}

impl Filter {
    pub(super) fn of(fields: &BTreeMap<String, String>) -> Self {
        let field = |name: &str| fields.get(name).filter(|text| !text.is_empty()).cloned();
        let page = field("page").and_then(|text| text.parse::<usize>().ok()).unwrap_or(1).max(1);
        Self { image: field("image"), state: field("state"), text: field("name"), page }
    }

    fn takes(&self, line: &NodeLine) -> bool {
        self.image.as_deref().is_none_or(|image| line.image.as_deref() == Some(image))
            && self.state.as_deref().is_none_or(|state| state_of(line) == state)
            && self.text.as_deref().is_none_or(|text| line.name.contains(text))
    }

    fn query(&self, page: usize) -> String {
        let mut query = format!("?page={page}");
        for (name, value) in [("image", &self.image), ("state", &self.state), ("name", &self.text)] {
            if let Some(value) = value {
                let _ = write!(query, "&amp;{name}={}", encoded(value));
            }
        }
        query
    }
}

/// For each image how many nodes are in which state.
pub(super) fn summary(lines: &[NodeLine]) -> String {
    let mut images: BTreeMap<&str, [usize; STATES.len()]> = BTreeMap::new();
    for line in lines {
        let at = STATES.iter().position(|state| *state == state_of(line)).unwrap_or(STATES.len() - 1);
        images.entry(line.image.as_deref().unwrap_or("")).or_default()[at] += 1;
    }
    let mut text = String::from(
        "<table><caption>Nodes by image and last report</caption><thead><tr><th scope=\"col\">Image</th>\
         <th scope=\"col\" class=\"n\">Nodes</th><th scope=\"col\">State</th></tr></thead><tbody>",
    );
    for (image, counts) in images {
        let all: usize = counts.iter().sum();
        let named = if image.is_empty() { "none".to_owned() } else { escaped(image) };
        let (mut bar, mut words) = (String::new(), Vec::new());
        for (state, count) in STATES.iter().zip(counts).filter(|(_, count)| *count > 0) {
            let _ = write!(
                bar,
                "<span class=\"{state}\" style=\"width:{:.2}%\"></span>",
                count as f64 * 100.0 / all as f64
            );
            let query = format!("?image={}&amp;state={state}", encoded(image));
            words.push(format!("<a class=\"s {state}\" href=\"/{query}\">{count} {state}</a>"));
        }
        let _ = write!(
            text,
            "<tr><th scope=\"row\">{named}</th><td class=\"n\">{all}</td><td><div class=\"bar\" aria-hidden=\"true\">{bar}</div>{}</td></tr>",
            words.join(", ")
        );
    }
    text + "</tbody></table>"
}

/// Most nodes of a roll that are named with their problem.
const MOST_PROBLEMS: usize = 20;

/// How far a roll is: how many nodes at each stage, and what is wrong with which. Empty without one.
pub(super) fn roll(roll: Option<&RollShown>) -> String {
    let Some(roll) = roll else { return String::new() };
    let mut stages: BTreeMap<&str, usize> = BTreeMap::new();
    roll.nodes.values().for_each(|node| *stages.entry(node.stage.as_str()).or_default() += 1);
    let counts: Vec<String> = stages.iter().map(|(stage, count)| format!("{count} {}", escaped(stage))).collect();
    let build: String = roll.target.build.chars().take(12).collect();
    let mut text = format!(
        "<h2>Roll</h2><p>{} nodes to <code>{}@{}</code>: {}</p>",
        roll.nodes.len(),
        escaped(&roll.target.image),
        escaped(&build),
        counts.join(", ")
    );
    let problems: Vec<(&String, &str)> =
        roll.nodes.iter().filter_map(|(name, node)| Some((name, node.problem.as_deref()?))).collect();
    if !problems.is_empty() {
        text += "<ul>";
        for (name, problem) in problems.iter().take(MOST_PROBLEMS) {
            let stage = &roll.nodes[*name].stage;
            let _ = write!(text, "<li>{} {}: {}</li>", escaped(name), escaped(stage), escaped(problem));
        }
        if problems.len() > MOST_PROBLEMS {
            let _ = write!(text, "<li>and {} others</li>", problems.len() - MOST_PROBLEMS);
        }
        text += "</ul>";
    }
    text
}

pub(super) fn cells(line: &NodeLine, now: u64) -> String {
    let name = escaped(&line.name);
    let image = escaped(line.image.as_deref().unwrap_or("-"));
    let build =
        line.build.as_deref().map_or_else(|| "-".to_owned(), |build| format!("<code>{}</code>", escaped(build)));
    let state = state_of(line);
    let reason = line.report.as_ref().and_then(|report| report.reason.as_deref());
    let mut reason = reason.map(|reason| format!(": {}", escaped(reason))).unwrap_or_default();
    if let (Some(report), Some(given)) = (&line.report, &line.build)
        && report.build.as_ref() != Some(given)
    {
        let runs = report
            .build
            .as_deref()
            .map_or("an unknown build".to_owned(), |build| format!("<code>{}</code>", escaped(build)));
        reason += &format!(" (runs {runs})");
    }
    let open = if line.asked.is_some() { "?" } else { "" };
    if let Some(asked) = &line.asked {
        let age = age(now.saturating_sub(asked.time));
        reason += &format!(" (asked for its script {age} ago from {})", escaped(&asked.from));
    }
    let old = line.report.as_ref().map_or_else(|| "-".to_owned(), |report| age(now.saturating_sub(report.time)));
    format!(
        "<th scope=\"row\">{name}</th><td>{image}</td><td>{build}</td><td class=\"s {state}\">{state}{open}{reason}</td><td class=\"n\">{old}</td>"
    )
}

pub(super) fn table(lines: &[NodeLine], filter: &Filter, now: u64) -> String {
    let shown: Vec<&NodeLine> = lines.iter().filter(|line| filter.takes(line)).collect();
    let pages = shown.len().div_ceil(ROWS).max(1);
    let page = filter.page.min(pages);
    let mut images: Vec<&str> = lines.iter().filter_map(|line| line.image.as_deref()).collect();
    images.sort_unstable();
    images.dedup();
    let options = |all: &[&str], chosen: Option<&str>| -> String {
        let mut text = String::from("<option value=\"\">all</option>");
        for one in all {
            let selected = if chosen == Some(one) { " selected" } else { "" };
            let one = escaped(one);
            let _ = write!(text, "<option value=\"{one}\"{selected}>{one}</option>");
        }
        text
    };
    let mut text = format!(
        "<form method=\"get\" action=\"/\"><div><label for=\"name\">Name contains</label><input id=\"name\" name=\"name\" value=\"{}\"></div>\
         <div><label for=\"image\">Image</label><select id=\"image\" name=\"image\">{}</select></div>\
         <div><label for=\"state\">State</label><select id=\"state\" name=\"state\">{}</select></div><button>Show</button></form>",
        escaped(filter.text.as_deref().unwrap_or_default()),
        options(&images, filter.image.as_deref()),
        options(&STATES, filter.state.as_deref()),
    );
    let _ = write!(
        text,
        "<div class=\"scroll nodes\"><table><caption>{} of {} nodes, page {page} of {pages}</caption><thead><tr><th scope=\"col\">Node</th>\
         <th scope=\"col\">Image</th><th scope=\"col\">Build</th><th scope=\"col\">Last report</th><th scope=\"col\" class=\"n\">Age</th></tr></thead><tbody>",
        shown.len(),
        lines.len()
    );
    for line in shown.iter().skip((page - 1) * ROWS).take(ROWS) {
        let _ = write!(text, "<tr id=\"node-{}\">{}</tr>", escaped(&line.name), cells(line, now));
    }
    text += "</tbody></table></div><p>";
    if page > 1 {
        let _ = write!(text, "<a rel=\"prev\" href=\"/{}\">Previous page</a> ", filter.query(page - 1));
    }
    if page < pages {
        let _ = write!(text, "<a rel=\"next\" href=\"/{}\">Next page</a>", filter.query(page + 1));
    }
    text + "</p>"
}

#[cfg(test)]
mod tests {
    use super::*;
    use nodes::{Report, ReportState};

    #[test]
    fn a_roll_is_counted_by_stages_and_names_what_is_wrong() {
        assert_eq!(roll(None), "");
        let node = |stage: &str, problem: Option<&str>| nodes::RollNode {
            stage: stage.to_owned(),
            problem: problem.map(str::to_owned),
        };
        let target = nodes::RollTarget { image: "a<b".to_owned(), build: "0123456789abcdef".to_owned() };
        let mut shown = RollShown { target, nodes: BTreeMap::new() };
        shown.nodes.insert("cn1".to_owned(), node("done", None));
        shown.nodes.insert("cn2".to_owned(), node("failed", Some("no <report>")));
        let text = roll(Some(&shown));
        assert!(text.contains("2 nodes to <code>a&lt;b@0123456789ab</code>: 1 done, 1 failed"), "{text}");
        assert!(text.contains("<li>cn2 failed: no &lt;report&gt;</li>") && !text.contains("cn1"), "{text}");
        shown.nodes.extend((0..30).map(|at| (format!("cx{at:02}"), node("left", Some("drained by another")))));
        let text = roll(Some(&shown));
        assert!(text.matches("<li>").count() == MOST_PROBLEMS + 1 && text.contains("and 11 others"), "{text}");
    }

    #[test]
    fn ten_thousand_nodes_are_pages_of_two_hundred() {
        assert!(ReportState::ALL.iter().all(|state| STATES.contains(&state.name())));
        let lines: Vec<NodeLine> = (0..10_000)
            .map(|at| NodeLine {
                name: format!("cn{at:05}"),
                image: Some(if at % 2 == 0 { "compute" } else { "gp<u" }.to_owned()),
                build: None,
                report: (at % 3 == 0).then(|| Report::new(ReportState::Failed, Some("<script>"), None, None)),
                asked: None,
            })
            .collect();
        let fields = |text: &str| crate::site::report::fields(text);
        let all = table(&lines, &Filter::of(&fields("")), 0);
        assert_eq!(all.matches("<tr id=").count(), ROWS);
        assert!(all.contains("10000 of 10000 nodes, page 1 of 50") && !all.contains("<script>"), "{all}");
        let some = table(&lines, &Filter::of(&fields("image=gp%3Cu&state=failed&page=9999")), 0);
        assert!(some.contains("1667 of 10000 nodes, page 9 of 9"), "{some}");
        assert!(summary(&lines).contains("gp&lt;u"));
    }
}
