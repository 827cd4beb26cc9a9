"use strict";
// Finds the page's figures, draws each when it comes into view, and adds its controls.
const report = { kinds: {}, overview: [] };

// Okabe & Ito's palette, which survives all common colour blindness.
report.colours = { before: "#d55e00", after: "#0072b2", other: "#009e73", grey: "#8c8c8c" };

// 16-bit integers in base64 with a common step, as tomopolish.output.report.packing writes them.
report.unpack = function (block) {
  const text = atob(block.i16);
  const bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const values = new Float64Array(bytes.length / 2);
  for (let i = 0; i < values.length; i++) {
    const whole = view.getInt16(2 * i, true);
    values[i] = whole === -32768 ? NaN : whole * block.step;
  }
  return { shape: block.shape, values };
};

// The plotting library reads some HTML in labels: names must not be read as HTML.
report.plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

report.axis = (title, more) => ({
  title: { text: title, standoff: 8 }, zeroline: false, linecolor: "#5c5c5c", ticks: "outside",
  gridcolor: "#e6e6e6", automargin: true, ...more,
});

report.layout = (more) => ({
  margin: { l: 60, r: 20, t: 30, b: 50 }, font: { family: "system-ui, Arial, sans-serif", size: 13, color: "#1b1b1b" },
  paper_bgcolor: "#fff", plot_bgcolor: "#fff", legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
  hovermode: "closest", ...more,
});

// Nothing is ever sent anywhere.
report.config = { responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "", modeBarButtonsToRemove: ["select2d", "lasso2d"] };

report.number = (value, digits) =>
  Number.isFinite(value) ? String(Number(value.toPrecision(digits || 3))).replace("-", "−") : "–";

// A round number near a positive number: 1, 2 or 5 times a power of ten.
report.round = function (value) {
  const power = Math.pow(10, Math.floor(Math.log10(value)));
  return [5, 2, 1].find((step) => step * power <= value * 1.0001) * power;
};

report.median = function (values) {
  const finite = Array.from(values).filter(Number.isFinite).sort((a, b) => a - b);
  return finite.length ? finite[Math.floor(finite.length / 2)] : 0;
};

report.slider = function (figure, label, range, start, shown, changed) {
  const line = document.createElement("label");
  const input = document.createElement("input");
  const output = document.createElement("output");
  Object.assign(input, { type: "range", min: range[0], max: range[1], step: range[2] });
  input.value = start;
  const show = () => {
    output.value = shown(Number(input.value));
    input.setAttribute("aria-valuetext", output.value);
  };
  input.addEventListener("input", () => { show(); changed(); });
  show();
  line.append(label, input, output);
  figure.querySelector(".controls").append(line);
  return () => Number(input.value);
};

report.choice = function (figure, label, options, changed) {
  const line = document.createElement("label");
  const select = document.createElement("select");
  for (const [value, text] of options) select.append(new Option(text, value));
  select.addEventListener("change", changed);
  line.append(label, select);
  figure.querySelector(".controls").append(line);
  return () => select.value;
};

report.check = function (figure, label, changed) {
  const line = document.createElement("label");
  const input = document.createElement("input");
  input.type = "checkbox";
  input.addEventListener("change", changed);
  line.append(input, label);
  figure.querySelector(".controls").append(line);
  return () => input.checked;
};

// Exaggeration: four steps per power of two, so that one slider covers 1× to 10,000×.
report.exaggeration = function (figure, start, changed) {
  const place = Math.round(4 * Math.log2(Math.max(1, start)));
  const factor = (value) => Number(Math.pow(2, value / 4).toPrecision(2));
  const get = report.slider(figure, "exaggeration", [0, 56, 1], Math.min(56, place), (v) => `×${factor(v)}`, changed);
  return () => factor(get());
};

report.tiltSlider = function (figure, data, first, changed) {
  const { rows, exposure, angle } = data.tilts;
  const start = first < 0 ? -1 : 0;
  return report.slider(figure, "tilt image, by exposure", [start, rows.length - 1, 1], start, (m) =>
    m < 0 ? "all" : `${report.number(exposure[m])} e⁻/Å², ${report.number(angle[m])}°, row ${rows[m]}`, changed);
};

report.source = (figure) => JSON.parse(document.getElementById(`source-${figure.dataset.source}`).textContent);

report.draw = function (figure) {
  if (figure.dataset.state) return figure.drawing;
  figure.dataset.state = "drawing";
  const canvas = figure.querySelector(".canvas");
  const plot = (traces, layout) => Plotly.react(canvas, traces, layout, report.config);
  figure.drawing = Promise.resolve()
    .then(() => report.kinds[figure.dataset.kind](figure, report.source(figure), plot))
    .then(() => { figure.dataset.state = "drawn"; })
    .catch((problem) => {
      figure.dataset.state = "failed";
      canvas.textContent = `This figure cannot be drawn: ${problem.message}`;
      console.error(problem);
    });
  return figure.drawing;
};

report.figures = () => Array.from(document.querySelectorAll("figure.plot"));

report.drawAll = function () {
  document.querySelectorAll("details").forEach((part) => { part.open = true; });
  return Promise.all(report.figures().map(report.draw));
};

document.addEventListener("DOMContentLoaded", () => {
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) report.draw(entry.target);
  }, { rootMargin: "200px" });
  report.figures().forEach((figure) => watch.observe(figure));
  report.overview.forEach((start) => start());
  const reveal = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target && target.tagName === "DETAILS") target.open = true;
  };
  window.addEventListener("hashchange", reveal);
  reveal();
});

// On paper figures have the width of the page, and those drawn by a graphics card become images.
const PAPER_PX = 690;
const drawn = () => report.figures().filter((f) => f.dataset.state === "drawn").map((f) => f.querySelector(".canvas"));

function photograph(canvas) {
  const scene = canvas._fullLayout && canvas._fullLayout.scene && canvas._fullLayout.scene._scene;
  const drawing = canvas.querySelector(".gl-container");
  if (!drawing || !scene || !scene.toImage) return;
  const image = new Image();
  image.src = scene.toImage("png");
  image.className = "photograph";
  image.alt = "";
  drawing.after(image);
}

window.addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((part) => { part.open = true; });
  report.figures().forEach(report.draw);
  for (const canvas of drawn()) {
    Plotly.relayout(canvas, { width: PAPER_PX, autosize: false });
    photograph(canvas);
  }
});
window.addEventListener("afterprint", () => {
  document.querySelectorAll(".photograph").forEach((image) => image.remove());
  drawn().forEach((canvas) => Plotly.relayout(canvas, { width: null, autosize: true }));
});
