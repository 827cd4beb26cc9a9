"use strict";
// The overview: figures over all tomograms; a table that sorts and filters.

// Tomograms as an axis, the worst first: a few with their names, many by number.
report.tomograms = function (names) {
  const short = (name) => (name.length > 20 ? `${name.slice(0, 9)}…${name.slice(-10)}` : name);
  if (names.length > 30) return report.axis("tomogram (number, the worst first)", { tickformat: "d" });
  return report.axis("", { tickvals: names.map((_, i) => i + 1), ticktext: names.map((name) => report.plain(short(name))), tickangle: -45, range: [0.5, names.length + 0.5] });
};

// Traces of a value per tomogram, whose points lead to the tomograms.
report.perTomogram = function (tomograms) {
  const text = tomograms.name.map((name, i) => `${report.plain(name)}: ${tomograms.verdict[i]}`);
  const x = text.map((_, i) => i + 1);
  return (y, name, color, symbol, error) => ({ x, y, text, customdata: tomograms.link, name, mode: "markers", marker: { size: 7, color, symbol },
    hovertemplate: "%{text}<br>%{y:.3g}<extra></extra>",
    ...(error ? { error_y: { array: error.map((v) => v || 0), width: 0, thickness: 1, color } } : {}) });
};

report.kinds.agreements = function (figure, data, plot) {
  const t = data.tomograms, trace = report.perTomogram(t), c = report.colours;
  return plot([
    trace(t.before, "before", c.before, "circle-open", t.agreement_error),
    trace(t.after, "after ± standard deviation by noise", c.after, "circle", t.agreement_error),
  ], report.layout({ xaxis: report.tomograms(t.name), yaxis: report.axis("agreement (fraction)", { zeroline: true, zerolinecolor: c.grey }) }));
};

report.kinds.gains = function (figure, data, plot) {
  const t = data.tomograms, trace = report.perTomogram(t), c = report.colours;
  const traces = [trace(t.gain, "fitted pairs", c.before, "circle-open")];
  if (t.held_out.some((v) => v !== null)) traces.push(trace(t.held_out, "held-out pairs ± standard error", c.after, "circle", t.held_out_error));
  return plot(traces, report.layout({ xaxis: report.tomograms(t.name),
    yaxis: report.axis("log-likelihood per pair (nats)", { zeroline: true, zerolinecolor: c.grey }) }));
};

report.kinds.changes = function (figure, data, plot) {
  const t = data.tomograms, trace = report.perTomogram(t), c = report.colours;
  return plot([
    trace(t.shift, "change of shifts", c.after, "circle"), trace(t.shift_error, "standard error of shifts", c.after, "circle-open"),
    trace(t.position, "change of positions", c.other, "diamond"), trace(t.position_error, "standard error of positions", c.other, "diamond-open"),
  ], report.layout({ xaxis: report.tomograms(t.name), yaxis: report.axis("Å", { rangemode: "tozero" }) }));
};

report.kinds.fsc = function (figure, data, plot) {
  const { frequency, before, after } = data.maps;
  const trace = (y, name, color, dash) => ({ x: frequency, y, name, mode: "lines", line: { color, dash, width: 2 } });
  const level = (y) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: { color: "#8c8c8c", width: 1, dash: "dot" } });
  return plot([trace(before, "before", report.colours.before, "dot"), trace(after, "after", report.colours.after, "solid")],
    report.layout({ shapes: [level(0.143), level(0.5)], yaxis: report.axis("FSC", { range: [-0.1, 1.05] }),
      xaxis: report.resolution(frequency[frequency.length - 1]) }));
};

// Central slices of the maps, before above and after below.
report.kinds.slices = function (figure, data, plot) {
  const { slices, size } = data.maps, layout = report.layout({ images: [], annotations: [], showlegend: false, margin: { l: 70, r: 10, t: 40, b: 20 } });
  const traces = [];
  slices.forEach((row, i) => row.forEach((block, j) => {
    const n = 3 * i + j ? 3 * i + j + 1 : "", axis = { showgrid: false, showticklabels: false, ticks: "", zeroline: false, range: [0, size] };
    layout[`xaxis${n}`] = { ...axis, domain: [j / 3 + 0.01, (j + 1) / 3 - 0.01], anchor: `y${n}`, constrain: "domain" };
    layout[`yaxis${n}`] = { ...axis, domain: [(1 - i) / 2 + 0.01, (2 - i) / 2 - 0.01], anchor: `x${n}`, scaleanchor: `x${n}`, constrain: "domain" };
    traces.push({ x: [0, size], y: [0, size], mode: "markers", marker: { opacity: 0 }, hoverinfo: "skip", xaxis: `x${n}`, yaxis: `y${n}` });
    layout.images.push({ source: report.picture(block), xref: `x${n}`, yref: `y${n}`, x: 0, y: 0, sizex: size, sizey: size, xanchor: "left", yanchor: "bottom", sizing: "stretch", layer: "below" });
    if (!i) layout.annotations.push({ text: `across ${["z", "y", "x"][j]}`, xref: "paper", yref: "paper", x: (j + 0.5) / 3, y: 1, yanchor: "bottom", showarrow: false });
    if (!j) layout.annotations.push({ text: i ? "after" : "before", xref: "paper", yref: "paper", x: 0, xanchor: "right", y: (1.5 - i) / 2, showarrow: false });
  }));
  return plot(traces, layout);
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
  for (const row of rows) {
    const link = row.querySelector("a");
    if (!link) continue;
    row.classList.add("leads");
    row.addEventListener("click", (event) => { if (event.target !== link && !String(getSelection())) link.click(); });
  }
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
