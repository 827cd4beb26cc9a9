"use strict";
// The overview: figures over all tomograms; a table that sorts and filters.

// Rows of the table as an axis; a few are counted one by one.
report.numbers = (count) => report.axis("tomogram (row of the table)", count < 20 ? { dtick: 1, range: [0.5, count + 0.5] } : { tickformat: "d" });

report.kinds.gains = function (figure, data, plot) {
  const t = data.tomograms;
  const names = t.name.map(report.plain), number = names.map((_, i) => i + 1);
  const traces = [{ x: number, y: t.gain, text: names, name: "fitted pairs", mode: "markers", marker: { symbol: "circle-open", size: 6, color: report.colours.before } }];
  if (t.held_out.some((v) => v !== null)) {
    traces.push({ x: number, y: t.held_out, text: names, name: "held-out pairs ± standard error", mode: "markers", marker: { size: 5, color: report.colours.after },
      error_y: { array: t.held_out_error.map((v) => v || 0), width: 0, thickness: 1, color: report.colours.after } });
  }
  return plot(traces, report.layout({ xaxis: report.numbers(names.length),
    yaxis: report.axis("log-likelihood per pair (nats)", { zeroline: true, zerolinecolor: "#8c8c8c" }) }));
};

report.kinds.changes = function (figure, data, plot) {
  const t = data.tomograms;
  const names = t.name.map(report.plain), number = names.map((_, i) => i + 1);
  const trace = (y, name, color, symbol) => ({ x: number, y, text: names, name, mode: "markers", marker: { size: 6, color, symbol } });
  const c = report.colours;
  return plot([
    trace(t.shift, "change of shifts", c.after, "circle"), trace(t.shift_error, "standard error of shifts", c.after, "circle-open"),
    trace(t.position, "change of positions", c.other, "diamond"), trace(t.position_error, "standard error of positions", c.other, "diamond-open"),
  ], report.layout({ xaxis: report.numbers(names.length), yaxis: report.axis("Å", { rangemode: "tozero" }) }));
};

report.kinds.fsc = function (figure, data, plot) {
  const { frequency, before, after } = data.maps;
  const trace = (y, name, color, dash) => ({ x: frequency, y, name, mode: "lines", line: { color, dash, width: 2 } });
  const level = (y) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: { color: "#8c8c8c", width: 1, dash: "dot" } });
  const ticks = [40, 20, 15, 12, 10, 8, 7, 6, 5, 4.5, 4, 3.5, 3, 2.5, 2].filter((d) => 1 / d <= frequency[frequency.length - 1]);
  return plot([trace(before, "before", report.colours.before, "dot"), trace(after, "after", report.colours.after, "solid")],
    report.layout({ shapes: [level(0.143), level(0.5)], yaxis: report.axis("FSC", { range: [-0.1, 1.05] }),
      xaxis: report.axis("resolution (Å)", { tickvals: ticks.map((d) => 1 / d), ticktext: ticks.map(String) }) }));
};

report.overview.push(function sortable() {
  const table = document.getElementById("tomograms");
  if (!table) return;
  const body = table.tBodies[0], rows = Array.from(body.rows);
  const number = (text) => { const v = parseFloat(text.replace("−", "-")); return Number.isNaN(v) ? -Infinity : v; };
  Array.from(table.tHead.rows[0].cells).forEach((cell, column) => cell.querySelector("button").addEventListener("click", () => {
    const down = cell.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
    cell.setAttribute("aria-sort", down ? "descending" : "ascending");
    const text = (row) => row.cells[column].textContent;
    const order = column < 2 ? (a, b) => text(a).localeCompare(text(b), undefined, { numeric: true }) : (a, b) => number(text(a)) - number(text(b));
    body.append(...rows.slice().sort((a, b) => (down ? -1 : 1) * order(a, b)));
  }));
  const filter = document.getElementById("filter"), shown = document.getElementById("shown");
  filter.addEventListener("input", () => {
    const wanted = filter.value.toLowerCase();
    let count = 0;
    for (const row of rows) {
      row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
      count += row.hidden ? 0 : 1;
    }
    shown.value = wanted ? `${count} of ${rows.length}` : "";
  });
});
