"use strict";
// Finds the page's figures, draws each when it comes into view, and adds its controls.
const report = { kinds: {}, overview: [] };

// Okabe & Ito's palette, which survives all common colour blindness.
report.colours = { before: "#d55e00", after: "#0072b2", other: "#009e73", grey: "#8c8c8c" };

// Colours of paper, ink and lines: those of the style sheet, light or dark, and always light on paper.
report.theme = function () {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  return { ink: colour("--ink"), soft: colour("--soft"), paper: colour("--paper"), grid: colour("--grid"), line: colour("--line") };
};

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
  title: { text: title, standoff: 8 }, zeroline: false, linecolor: report.theme().soft, ticks: "outside",
  gridcolor: report.theme().grid, automargin: true, ...more,
});

// An axis of counts from 0: its ticks are integers.
report.counts = (title, largest) => report.axis(title, { rangemode: "tozero", tickformat: ",d", ...(largest < 10 ? { dtick: 1, tick0: 0 } : {}) });

report.layout = (more) => ({
  margin: { l: 60, r: 20, t: 30, b: 50 }, font: { family: "system-ui, Arial, sans-serif", size: 13, color: report.theme().ink },
  paper_bgcolor: report.theme().paper, plot_bgcolor: report.theme().paper, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
  hovermode: "closest", ...more,
});

// A figure that is drawn takes the page's present colours.
report.recolour = function (canvas) {
  const theme = report.theme(), change = { "font.color": theme.ink, paper_bgcolor: theme.paper, plot_bgcolor: theme.paper };
  for (const key of Object.keys(canvas.layout || {})) {
    if (/^[xy]axis/.test(key)) Object.assign(change, { [`${key}.gridcolor`]: theme.grid, [`${key}.linecolor`]: theme.soft });
    if (/^scene/.test(key)) {
      for (const axis of ["xaxis", "yaxis", "zaxis"]) {
        Object.assign(change, { [`${key}.${axis}.backgroundcolor`]: theme.paper, [`${key}.${axis}.gridcolor`]: theme.line });
      }
    }
  }
  return change;
};

// Narrow figures have their panels one below the other.
report.isNarrow = (figure) => figure.querySelector(".canvas").clientWidth < 640;

// Grey bytes in base64 as an image that figures can show: the first row is below, as y increases upwards.
report.picture = function (block) {
  const [height, width] = block.shape, grey = atob(block.u8);
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  for (let i = 0; i < grey.length; i++) {
    const value = grey.charCodeAt(i), row = height - 1 - Math.floor(i / width);
    image.data.set([value, value, value, 255], 4 * (row * width + (i % width)));
  }
  context.putImageData(image, 0, 0);
  return canvas.toDataURL();
};

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

// Drawing is done when this returns, so that it can be done just before printing; only 3D may still load.
report.draw = function (figure) {
  if (figure.dataset.state) return figure.drawing;
  const canvas = figure.querySelector(".canvas");
  const failed = (problem) => {
    figure.dataset.state = "failed";
    canvas.textContent = `This figure cannot be drawn: ${problem.message}`;
    console.error(problem);
  };
  const plot = (traces, layout) => Plotly.react(canvas, traces, layout, report.config);
  figure.dataset.state = "drawing";
  try {
    figure.drawing = Promise.resolve(report.kinds[figure.dataset.kind](figure, report.source(figure), plot))
      .then(() => { figure.dataset.state = "drawn"; }).catch(failed);
    canvas.on("plotly_click", (event) => {
      const link = event.points[0].customdata;
      if (typeof link === "string") location.href = link;
    });
  } catch (problem) {
    failed(problem);
    figure.drawing = Promise.resolve();
  }
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

// A figure that depends on its width is drawn again when that changes.
window.addEventListener("resize", () => {
  for (const figure of report.figures()) {
    if (figure.redraw && figure.dataset.narrow !== String(report.isNarrow(figure))) figure.redraw();
  }
});

const canvases = () => report.figures().map((f) => f.querySelector(".canvas")).filter((c) => c._fullLayout);
report.dark = window.matchMedia("(prefers-color-scheme: dark)");
report.dark.addEventListener("change", () => {
  for (const canvas of canvases()) Plotly.relayout(canvas, report.recolour(canvas));
});

// On paper figures are light and have the width of the page; those of a graphics card become images. All of
// them are drawn first, wherever the reader has been.
const PAPER_PX = 690;

function photograph(canvas) {
  const scene = canvas._fullLayout.scene && canvas._fullLayout.scene._scene;
  const drawing = canvas.querySelector(".gl-container canvas");
  if (!drawing || !scene || !scene.glplot) return;
  scene.glplot.redraw();
  const image = Object.assign(document.createElement("canvas"), { width: drawing.width, height: drawing.height, className: "photograph" });
  image.getContext("2d").drawImage(drawing, 0, 0);
  canvas.querySelector(".gl-container").after(image);
}

let closed = [];
window.addEventListener("beforeprint", () => {
  document.documentElement.classList.add("printing");
  closed = Array.from(document.querySelectorAll("details:not([open])"));
  closed.forEach((part) => { part.open = true; });
  report.figures().forEach(report.draw);
  for (const canvas of canvases()) {
    Plotly.relayout(canvas, { ...report.recolour(canvas), width: PAPER_PX, autosize: false });
    photograph(canvas);
  }
});
window.addEventListener("afterprint", () => {
  document.documentElement.classList.remove("printing");
  document.querySelectorAll(".photograph").forEach((image) => image.remove());
  canvases().forEach((canvas) => Plotly.relayout(canvas, { ...report.recolour(canvas), width: null, autosize: true }));
  closed.forEach((part) => { part.open = false; });
});
