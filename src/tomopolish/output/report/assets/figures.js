"use strict";
// Figures of one tomogram in the plane: tilt images, agreement, convergence, windows.

report.against = function (figure, data, changed) {
  const get = report.choice(figure, "against", [["exposure", "exposure"], ["angle", "tilt angle"]], changed);
  return () => {
    const key = get();
    const x = data.tilts[key];
    const order = x.map((_, i) => i).sort((a, b) => x[a] - x[b]);
    const title = key === "exposure" ? "exposure (e⁻/Å²)" : "tilt angle (°)";
    return { title, x: order.map((i) => x[i]), order, rows: order.map((i) => `row ${data.tilts.rows[i]}`) };
  };
};

// An axis of spatial frequency with its ticks in Å.
report.resolution = function (highest) {
  const ticks = [80, 40, 20, 15, 12, 10, 8, 7, 6, 5, 4, 3.5, 3, 2.5, 2].filter((d) => 1 / d <= highest);
  return report.axis("resolution (Å)", { tickvals: ticks.map((d) => 1 / d), ticktext: ticks.map(String), range: [0, 1.02 * highest] });
};

// Panels side by side, or one below the other: values before and after above, the change with its errors below.
report.panels = function (figure, data, plot, quantity, panels) {
  const against = report.against(figure, data, () => draw());
  function draw() {
    const { title, x, order, rows } = against();
    const pick = (values) => order.map((i) => values[i]);
    const traces = [];
    const layout = report.layout({ hovermode: "x" });
    const narrow = report.isNarrow(figure), across = narrow ? 1 : panels.length, down = narrow ? panels.length : 1;
    figure.dataset.narrow = narrow;
    figure.querySelector(".canvas").style.height = `${420 * down + 60}px`;
    panels.forEach((panel, i) => {
      const above = 2 * i + 1, below = 2 * i + 2, column = narrow ? 0 : i, row = narrow ? i : 0;
      const domain = [column / across + (column ? 0.05 : 0), (column + 1) / across - (column + 1 < across ? 0.05 : 0)];
      const span = (from, to) => [1 - (row + 1 - from) / down, 1 - (row + 1 - to) / down];
      const axes = (n) => ({ xaxis: `x${n}`, yaxis: `y${n}` });
      const common = { x, text: rows, legendrank: 1, showlegend: i === 0 };
      const colours = report.colours;
      traces.push({ ...common, ...axes(above), y: pick(quantity.before[i]), name: "before", mode: "markers",
        marker: { symbol: "circle-open", size: 7, color: colours.before }, legendgroup: "before" });
      traces.push({ ...common, ...axes(above), y: pick(quantity.after[i]), name: "after", mode: "markers",
        marker: { size: 4, color: colours.after }, legendgroup: "after" });
      traces.push({ ...common, ...axes(below), y: pick(quantity.change[i]), name: "change ± standard error", mode: "lines+markers",
        line: { width: 1, color: colours.after }, marker: { size: 5, color: colours.after }, legendgroup: "change",
        error_y: { array: pick(quantity.sigma[i]).map((v) => (v === null ? 0 : v)), width: 2, thickness: 1.2, color: colours.grey } });
      layout[`xaxis${above}`] = report.axis("", { domain, anchor: `y${above}`, matches: `x${below}`, showticklabels: false });
      layout[`xaxis${below}`] = report.axis(title, { domain, anchor: `y${below}` });
      layout[`yaxis${above}`] = report.axis(panel.value, { domain: span(0.58, 0.99), anchor: `x${above}` });
      layout[`yaxis${below}`] = report.axis(panel.change, { domain: span(0.12, 0.53), anchor: `x${below}`, zeroline: true, zerolinecolor: colours.grey });
    });
    return plot(traces, layout);
  }
  figure.redraw = draw;
  return draw();
};

report.kinds.shifts = (figure, data, plot) => report.panels(figure, data, plot, data.shifts, [
  { value: "shift along x (Å)", change: "change along x (Å)" },
  { value: "shift along y (Å)", change: "change along y (Å)" },
]);

report.kinds.angles = (figure, data, plot) => report.panels(figure, data, plot, data.angles, [
  { value: "X tilt (°)", change: "rotation about x (°)" },
  { value: "Y tilt (°)", change: "rotation about y (°)" },
  { value: "Z rotation (°)", change: "rotation about z (°)" },
]);

report.kinds.agreement = function (figure, data, plot) {
  const against = report.against(figure, data, () => draw());
  function draw() {
    const { title, x, order, rows } = against();
    const trace = (values, name, marker, dash) => ({
      x, y: order.map((i) => values[i]), text: rows, name, mode: "lines+markers", marker, line: { width: 1, dash, color: marker.color },
    });
    return plot([
      trace(data.agreement[0], "before", { symbol: "circle-open", size: 7, color: report.colours.before }, "dot"),
      trace(data.agreement[1], "after", { size: 5, color: report.colours.after }, "solid"),
    ], report.layout({ xaxis: report.axis(title), yaxis: report.axis("agreement (fraction)", { zeroline: true, zerolinecolor: report.colours.grey }) }));
  }
  return draw();
};

// Agreement in bins, before and after, with its standard deviation by noise.
report.binned = function (curve, axis, plot) {
  const trace = (y, name, color, symbol, dash) => ({ x: curve.centre, y, name, mode: "lines+markers", marker: { color, symbol, size: 7 }, line: { color, dash, width: 1.5 },
    error_y: { array: curve.error, width: 2, thickness: 1, color } });
  return plot([
    trace(curve.before, "before", report.colours.before, "circle-open", "dot"),
    trace(curve.after, "after ± standard deviation by noise", report.colours.after, "circle", "solid"),
  ], report.layout({ xaxis: axis, yaxis: report.axis("agreement (fraction)", { zeroline: true, zerolinecolor: report.colours.grey }) }));
};

report.kinds.shells = (figure, data, plot) =>
  report.binned(data.shells, report.resolution(data.shells.centre[data.shells.centre.length - 1]), plot);

report.kinds.depth = function (figure, data, plot) {
  const options = [["depth", "depth"], ["defocus", "defocus"]].filter(([key]) => data[key]);
  const against = report.choice(figure, "against", options, () => draw());
  const titles = { depth: "depth at which the image shows the particle (Å)", defocus: "defocus (Å)" };
  const draw = () => report.binned(data[against()], report.axis(titles[against()]), plot);
  return draw();
};

report.kinds.scores = function (figure, data, plot) {
  const { edges, good, flagged, threshold } = data.scores;
  const x = good.map((_, i) => (edges[i] + edges[i + 1]) / 2), width = edges[1] - edges[0];
  const bars = (y, name, color, shape) => ({ type: "bar", x, y, width, name, marker: { color, pattern: { shape, fillmode: "overlay", fgcolor: "#fff" } } });
  const limit = threshold === null ? {} : {
    shapes: [{ type: "line", x0: threshold, x1: threshold, yref: "paper", y0: 0, y1: 1, line: { color: report.colours.grey, width: 2, dash: "dash" } }],
    annotations: [{ x: threshold, yref: "paper", y: 1, text: "probability 0.5", showarrow: false, xanchor: "left", yanchor: "top", xshift: 4 }],
  };
  return plot([bars(good, "not flagged", report.colours.after, ""), bars(flagged, "flagged", report.colours.before, "/")],
    report.layout({ barmode: "stack", legend: { ...report.layout().legend, traceorder: "normal" }, xaxis: report.axis("agreement (fraction)"),
      yaxis: report.counts("number of particles", Math.max(...good.map((v, i) => v + flagged[i]))), ...limit }));
};

report.kinds.objective = function (figure, data, plot) {
  const options = [["value", "objective"], ["gap", "difference from the last value, logarithmic"]];
  const shown = report.choice(figure, "show", options, () => draw());
  const last = data.objective[data.objective.length - 1];
  function draw() {
    const gap = shown() === "gap";
    const y = gap ? data.objective.map((v) => (v === last ? null : Math.abs(v - last))) : data.objective;
    return plot([{
      x: data.objective.map((_, i) => i), y, mode: "lines+markers", line: { color: report.colours.after, width: 1 }, marker: { size: 6 },
    }], report.layout({
      xaxis: report.counts("accepted step", data.objective.length), showlegend: false,
      yaxis: gap ? report.axis("distance (nats)", { type: "log", exponentformat: "power" }) : report.axis("log-posterior (nats)", { tickformat: ",.6~g" }),
    }));
  }
  return draw();
};

report.kinds.windows = function (figure, data, plot) {
  const before = report.unpack(data.windows.before), after = report.unpack(data.windows.after);
  const [tilts, n] = before.shape;
  const axis = Array.from({ length: n }, (_, i) => Number(((i - n / 2) * data.windows.step).toPrecision(6)));
  function window_(block, m) {
    const rows = [];
    for (let y = 0; y < n; y++) {
      const row = new Array(n).fill(0);
      for (let f = m < 0 ? 0 : m; f < (m < 0 ? tilts : m + 1); f++) {
        for (let x = 0; x < n; x++) row[x] += block.values[(f * n + y) * n + x];
      }
      rows.push(row);
    }
    return rows;
  }
  const tilt = report.tiltSlider(figure, data, -1, () => draw());
  function draw() {
    const maps = [window_(before, tilt()), window_(after, tilt())];
    const flat = maps.flat(2);
    const zmin = flat.reduce((a, b) => Math.min(a, b)), zmax = flat.reduce((a, b) => Math.max(a, b));
    const layout = report.layout({ margin: { l: 60, r: 20, t: 40, b: 50 }, annotations: [] });
    const traces = maps.map((z, i) => {
      const domain = i ? [0.5, 0.9] : [0, 0.4];
      const common = { showgrid: false, constrain: "domain" };
      layout[`xaxis${i + 1}`] = report.axis("x (Å)", { ...common, domain, anchor: `y${i + 1}`, ...(i ? { matches: "x" } : {}) });
      layout[`yaxis${i + 1}`] = report.axis(i ? "" : "y (Å)", { ...common, anchor: `x${i + 1}`, ...(i ? { matches: "y" } : { scaleanchor: "x" }) });
      layout.annotations.push({ text: i ? "after" : "before", x: (domain[0] + domain[1]) / 2, y: 1.02, xref: "paper", yref: "paper", yanchor: "bottom", showarrow: false, font: { size: 14 } });
      return { type: "heatmap", x: axis, y: axis, z, zmin, zmax, colorscale: "Viridis", xaxis: `x${i + 1}`, yaxis: `y${i + 1}`,
        showscale: i === 1, colorbar: { title: { text: "log-likelihood (nats)", side: "right" }, x: 0.93, thickness: 14, len: 0.9 },
        hovertemplate: "%{x} Å, %{y} Å: %{z:.4g}<extra></extra>" };
    });
    return plot(traces, layout);
  }
  return draw();
};
