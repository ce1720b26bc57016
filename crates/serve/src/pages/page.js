// The page as it was rendered, kept up to date. Without this script it is right at the time it was loaded.
"use strict";
const summary = document.getElementById("summary");
const live = document.getElementById("live");
if (summary && window.EventSource) {
  const events = new EventSource("/-/events");
  let missed = false;
  events.addEventListener("open", () => {
    live.textContent = "live";
    // What happened meanwhile is not sent again. Not all pages come at the same moment.
    if (missed) setTimeout(() => location.reload(), Math.random() * 3000);
  });
  events.addEventListener("error", () => {
    live.textContent = "not connected; trying again";
    missed = true;
  });
  events.addEventListener("summary", (event) => { summary.innerHTML = event.data; });
  events.addEventListener("roll", (event) => { document.getElementById("roll").innerHTML = event.data; });
  events.addEventListener("nodes", (event) => {
    for (const node of JSON.parse(event.data)) {
      const row = document.getElementById("node-" + node.name);
      if (row) row.innerHTML = node.cells;
    }
  });
}
