"use strict";
// Figures with an exaggeration: displacements in an image, particles in space, warped grids.

report.kinds.vectors = function (figure, data, plot) {
  const p = data.particles;
  const at = report.unpack(p.at).values, moved = report.unpack(p.moved).values;
  const count = p.names.length, [width, height] = p.image;
  const pixels = Math.hypot(width, height);
  const lengths = new Float64Array(moved.length / 2).map((_, i) => Math.hypot(moved[2 * i], moved[2 * i + 1]));
  // Lengths are in Å, and drawn so that a typical one is a fortieth of the image.
  const typical = report.median(lengths) || 1;
  const tilt = report.tiltSlider(figure, data, 0, () => draw());
  const times = report.exaggeration(figure, (pixels / 40) / (typical / data.pixel), () => draw());
  const residual = report.check(figure, "without the mean of all particles", () => draw());
  const names = p.names.map(report.plain);
  function draw() {
    const m = tilt(), factor = times() / data.pixel;
    const seen = Array.from({ length: count }, (_, i) => i).filter((i) => Number.isFinite(at[2 * (m * count + i)]));
    const mean = [0, 1].map((c) => (residual() && seen.length ? seen.reduce((sum, i) => sum + moved[2 * (m * count + i) + c], 0) / seen.length : 0));
    const x = [], y = [], text = [], size = [];
    for (const i of seen) {
      const k = 2 * (m * count + i);
      const dx = moved[k] - mean[0], dy = moved[k + 1] - mean[1];
      const label = `${names[i]}<br>${report.number(Math.hypot(dx, dy))} Å (x ${report.number(dx)}, y ${report.number(dy)})`;
      x.push(at[k], at[k] + factor * dx, null);
      y.push(at[k + 1], at[k + 1] + factor * dy, null);
      text.push(label, label, "");
      size.push(0, 9, 0);
    }
    const colour = report.colours.after;
    const traces = [{ x, y, text, mode: "lines+markers", hoverinfo: "text", line: { width: 1.2, color: colour },
      marker: { symbol: "arrow", angleref: "previous", size, color: colour, line: { width: 0 } } }];
    const shown = report.layout({ showlegend: false, xaxis: report.axis("x in the image (px)", { range: [0, width], constrain: "domain" }),
      yaxis: report.axis("y in the image (px)", { range: [0, height], scaleanchor: "x", constrain: "domain" }) });
    if (!seen.length) shown.annotations = [{ text: "no particle of this tilt image takes part", showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5 }];
    return plot(traces, shown);
  }
  return draw();
};

report.kinds.space = function (figure, data, plot) {
  const p = data.particles;
  const position = report.unpack(p.position).values, change = report.unpack(p.change).values;
  const motion = p.motion ? report.unpack(p.motion) : null;
  const count = p.names.length, exposure = data.tilts.exposure;
  const extent = Math.max(1, ...[0, 1].map((c) => {
    const values = Array.from({ length: count }, (_, i) => position[3 * i + c]);
    return values.reduce((a, b) => Math.max(a, b)) - values.reduce((a, b) => Math.min(a, b));
  }));
  const labels = p.names.map((name, i) => {
    const length = Math.hypot(change[3 * i], change[3 * i + 1], change[3 * i + 2]);
    return `${report.plain(name)}<br>moved ${report.number(length)} Å, standard error ${report.number(p.sigma[i])} Å`;
  });
  const modes = [["change", "displacement relative to the input"]];
  if (motion) modes.unshift(["motion", "motion over the exposure"]);
  const mode = report.choice(figure, "show", modes, () => draw());
  const lengths = (values, last) => Array.from({ length: count }, (_, i) => {
    const k = last ? 3 * ((i + 1) * last - 1) : 3 * i;
    return Math.hypot(values[k], values[k + 1], values[k + 2]);
  });
  const typical = report.median(motion ? lengths(motion.values, exposure.length) : lengths(change, 0)) || 1;
  const times = report.exaggeration(figure, extent / 30 / typical, () => draw());
  const eyes = { oblique: [1.5, 1.5, 1.1], z: [0, 0, 2.2], x: [2.2, 0, 0], y: [0, -2.2, 0] };
  const camera = (from) => ({ eye: { x: eyes[from][0], y: eyes[from][1], z: eyes[from][2] }, up: from === "z" ? { x: 0, y: 1, z: 0 } : { x: 0, y: 0, z: 1 } });
  const views = [["oblique", "obliquely"], ["z", "along z"], ["x", "along x"], ["y", "along y"]];
  const view = report.choice(figure, "seen", views, () =>
    Plotly.relayout(figure.querySelector(".canvas"), { "scene.camera": camera(view()) }));
  function line() {
    const factor = times(), xyz = [[], [], []], colour = [];
    for (let i = 0; i < count; i++) {
      const steps = mode() === "motion" ? exposure.length : 2;
      for (let m = 0; m < steps; m++) {
        for (let c = 0; c < 3; c++) {
          const offset = mode() === "motion" ? motion.values[3 * (i * steps + m) + c] : m * change[3 * i + c];
          xyz[c].push(position[3 * i + c] + factor * offset);
        }
        colour.push(mode() === "motion" ? exposure[m] : Math.hypot(change[3 * i], change[3 * i + 1], change[3 * i + 2]));
      }
      xyz.forEach((values) => values.push(null));
      colour.push(colour[colour.length - 1]);
    }
    const title = mode() === "motion" ? "exposure (e⁻/Å²)" : "displacement (Å)";
    return { type: "scatter3d", mode: "lines", x: xyz[0], y: xyz[1], z: xyz[2], hoverinfo: "skip",
      line: { width: 4, color: colour, colorscale: "Viridis", showscale: true, colorbar: { title: { text: title, side: "right" }, thickness: 14, len: 0.7 } } };
  }
  function draw() {
    const at = (c) => Array.from({ length: count }, (_, i) => position[3 * i + c]);
    const points = { type: "scatter3d", mode: "markers", x: at(0), y: at(1), z: at(2), text: labels, hoverinfo: "text",
      marker: { size: 2.5, color: report.colours.grey } };
    const axis = (title) => ({ title: { text: title }, backgroundcolor: report.theme().paper, gridcolor: report.theme().line, showbackground: true, zeroline: false });
    return plot([line(), points], report.layout({ showlegend: false, margin: { l: 0, r: 0, t: 0, b: 0 }, uirevision: "kept",
      scene: { aspectmode: "data", camera: camera(view()), xaxis: axis("x (Å)"), yaxis: axis("y (Å)"), zaxis: axis("z (Å)"), uirevision: "kept" } }));
  }
  return draw();
};

report.kinds.warp = function (figure, data, plot) {
  const { x, y } = data.warps;
  const blocks = { before: data.warps.before && report.unpack(data.warps.before), after: data.warps.after && report.unpack(data.warps.after) };
  const columns = x.length, rows = y.length, [width, height] = data.particles.image;
  const each = Math.max(...Object.values(blocks).map((b) => (b ? b.shape[0] : 1)));
  const tilt = each > 1 ? report.tiltSlider(figure, data, 0, () => draw()) : () => 0;
  const strongest = blocks.after || blocks.before;
  const typical = report.median(strongest.values.map(Math.abs)) || 1;
  const times = report.exaggeration(figure, (width / columns / 4) / (typical / data.pixel), () => draw());
  function grid(block, name, colour, dash) {
    const gx = [], gy = [], text = [];
    const start = block ? Math.min(tilt(), block.shape[0] - 1) * rows * columns : 0;
    const node = (j, i) => {
      const k = 2 * (start + j * columns + i);
      const dx = block ? block.values[k] : 0, dy = block ? block.values[k + 1] : 0;
      gx.push(x[i] + (times() * dx) / data.pixel);
      gy.push(y[j] + (times() * dy) / data.pixel);
      text.push(`${name}: x ${report.number(dx)} Å, y ${report.number(dy)} Å`);
    };
    const gap = () => { gx.push(null); gy.push(null); text.push(""); };
    for (let j = 0; j < rows; j++) { for (let i = 0; i < columns; i++) node(j, i); gap(); }
    for (let i = 0; i < columns; i++) { for (let j = 0; j < rows; j++) node(j, i); gap(); }
    return { x: gx, y: gy, text, name, mode: "lines", hoverinfo: "text", line: { width: 1.4, color: colour, dash, shape: "spline" } };
  }
  function draw() {
    const traces = [grid(null, "no warp", "#bdbdbd", "solid")];
    if (blocks.before) traces.push(grid(blocks.before, "before", report.colours.before, "dot"));
    if (blocks.after) traces.push(grid(blocks.after, "after", report.colours.after, "solid"));
    return plot(traces, report.layout({ xaxis: report.axis("x in the image (px)", { constrain: "domain" }),
      yaxis: report.axis("y in the image (px)", { scaleanchor: "x", constrain: "domain" }) }));
  }
  return draw();
};

// A tilt image in grey, and the particles in it coloured by their agreement; flagged ones are crosses.
report.kinds.image = function (figure, data, plot) {
  const p = data.particles, picture = data.picture, at = report.unpack(p.at).values;
  const count = p.names.length, [width, height] = p.image, m = picture.place;
  const seen = Array.from({ length: count }, (_, i) => i).filter((i) => Number.isFinite(at[2 * (m * count + i)]));
  const trace = (chosen, name, symbol, size, scale) => ({
    x: chosen.map((i) => at[2 * (m * count + i)]), y: chosen.map((i) => at[2 * (m * count + i) + 1]), name, mode: "markers",
    text: chosen.map((i) => `${report.plain(p.names[i])}<br>agreement ${report.number(p.agreement[i])}`), hoverinfo: "text",
    marker: { symbol, size, color: chosen.map((i) => p.agreement[i]), cmin: 0, cmax: 1, colorscale: "Viridis", showscale: scale, line: { width: 1.5, color: "#fff" },
      colorbar: { title: { text: "agreement (fraction)", side: "right" }, thickness: 14, len: 0.9 } },
  });
  const size = (axis, length, more) => report.axis(axis, { range: [0, length], constrain: "domain", showgrid: false, ...more });
  const bad = seen.filter((i) => p.flagged[i]), good = seen.filter((i) => !p.flagged[i]);
  return plot([trace(good, "not flagged", "circle", 10, true), trace(bad, "flagged", "x", 9, !good.length)], report.layout({
    xaxis: size("x in the image (px)", width), yaxis: size("y in the image (px)", height, { scaleanchor: "x" }),
    images: [{ source: report.picture(picture), xref: "x", yref: "y", x: -0.5, y: -0.5, sizex: picture.shape[1] * picture.bin, sizey: picture.shape[0] * picture.bin,
      xanchor: "left", yanchor: "bottom", sizing: "stretch", layer: "below" }],
  }));
};

// The tomogram from above or from its sides, particles coloured by one component of their displacement.
report.kinds.slab = function (figure, data, plot) {
  const p = data.particles, position = report.unpack(p.position).values, change = report.unpack(p.change).values;
  const numbers = p.names.map((_, i) => i), letters = ["x", "y", "z"];
  const component = report.choice(figure, "displacement along", letters.map((l) => [l, l]).reverse(), () => draw());
  const view = report.choice(figure, "seen along", letters.map((l) => [l, l]).reverse(), () => draw());
  function draw() {
    const c = letters.indexOf(component()), [a, b] = [0, 1, 2].filter((i) => letters[i] !== view());
    const values = numbers.map((i) => change[3 * i + c]);
    const largest = Math.max(...values.map(Math.abs), 1e-6);
    return plot([{
      x: numbers.map((i) => position[3 * i + a]), y: numbers.map((i) => position[3 * i + b]), mode: "markers", hoverinfo: "text",
      text: numbers.map((i) => `${report.plain(p.names[i])}<br>${report.number(values[i])} Å along ${component()}`),
      marker: { size: 8, color: values, cmin: -largest, cmax: largest, colorscale: "RdBu", reversescale: false, showscale: true, line: { width: 0.5, color: report.colours.grey },
        colorbar: { title: { text: "displacement (Å)", side: "right" }, thickness: 14, len: 0.9 } },
    }], report.layout({ showlegend: false, xaxis: report.axis(`${letters[a]} (Å)`, { constrain: "domain" }),
      yaxis: report.axis(`${letters[b]} (Å)`, { scaleanchor: "x", constrain: "domain" }) }));
  }
  return draw();
};
