"use strict";
// Figures on orientations and optics of a joint refinement.

report.kinds.optics = (figure, data, plot) => report.panels(figure, data, plot, data.joint, data.joint.images.map(({ name, unit }) => {
  const of = unit ? ` (${unit})` : "";
  return { value: `${name}${of}`, change: `change${of}` };
}));

report.kinds.turns = function (figure, data, plot) {
  const { edges, counts, error } = data.joint.turns;
  const x = counts.map((_, i) => (edges[i] + edges[i + 1]) / 2);
  const expected = error === null ? {} : {
    shapes: [{ type: "line", x0: error, x1: error, yref: "paper", y0: 0, y1: 1, line: { color: report.colours.grey, width: 2, dash: "dash" } }],
    annotations: [{ x: error, yref: "paper", y: 1, text: "standard error", showarrow: false, xanchor: "left", yanchor: "top", xshift: 4 }],
  };
  return plot([{ type: "bar", x, y: counts, width: edges[1] - edges[0], marker: { color: report.colours.after } }],
    report.layout({ showlegend: false, xaxis: report.axis("turn (°)"), yaxis: report.counts("number of particles", Math.max(...counts)), ...expected }));
};
