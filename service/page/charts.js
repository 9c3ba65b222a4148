// What is drawn of a report and of the records: which points, and how to read them. Chart.js draws.

import { chartFigure, make, mb, ms, table } from "./elements.js";
import { draw, redrawing, stack } from "./plot.js";

let library = null;

/** Chart.js, once there is something to draw. */
const loadLibrary = () => (library ??= new Promise((resolve, reject) => {
  document.head.append(make("script", { src: "static/chart.umd.js", onload: resolve, onerror: () => reject(new Error("the charts could not be loaded")) }));
}));

/** Puts figures into `place` and draws them; `figures` are { element, canvas, draw }. */
export async function show(place, figures) {
  place.replaceChildren(...figures.map(({ element }) => element));
  if (!figures.length) return;
  await loadLibrary();
  redrawing(() => figures.map((figure) => figure.draw(figure.canvas)));
}

const PERCENTILES = ["p50", "p90", "p95", "p99"];

/** `subjects` are the measured heads of a report with their `name` and the `number` of their colour. */
export function distribution(subjects) {
  const size = Math.min(...subjects.flatMap(({ latency }) => latency.map((one) => one.batch_size)));
  const at = (subject) => subject.latency.find((one) => one.batch_size === size);
  const series = subjects.filter(at).map((subject) => ({
    name: subject.name, head: subject.number, is_line: true,
    points: PERCENTILES.map((percentile, x) => ({ x, y: at(subject)[`${percentile}_ms`] })),
  }));
  const chart = { x: "percentile of the calls", y: "ms", series, from: 0, ticks: Object.fromEntries(PERCENTILES.entries()) };
  const rows = series.map(({ name, points }) => [name, ...points.map(({ y }) => ms(y))]);
  const note = `${count(size)} in a call, backbone and head; no decoding, no HTTP. Half of the calls are faster than p50; one in a hundred is slower than p99.`;
  const figure = chartFigure("Latency: how it is spread", note, table("Latency", ["head", ...PERCENTILES], rows));
  return { ...figure, draw: (canvas) => draw(canvas, chart) };
}

export function batches(subjects) {
  const series = subjects.map(({ name, number, latency }) => ({
    name, head: number, is_line: true,
    points: latency.map((one) => ({ x: one.batch_size, y: one.p50_ms })).sort((one, other) => one.x - other.x),
  }));
  const sizes = [...new Set(series.flatMap(({ points }) => points.map(({ x }) => x)))];
  const chart = { x: "pictures in a batch", y: "p50 of a batch, ms", series, from: 0, ticks: Object.fromEntries(sizes.map((size) => [size, size])) };
  const rows = subjects.flatMap(({ name, latency }) => latency.map((one) => [name, String(one.batch_size), ms(one.p50_ms), ms(one.p50_ms / one.batch_size), one.images_per_s.toFixed(1)]));
  const names = ["head", "batch", "p50 of a batch", "p50 for each picture", "pictures/s"];
  const figure = chartFigure("Latency against batch size", "A line that rises slower than the batch grows: together is cheaper than one by one.", table("Latency against batch size", names, rows));
  return { ...figure, draw: (canvas) => draw(canvas, chart) };
}

/** Null where the system does not tell how memory grew. */
export function memory(subjects, bytesOf) {
  const known = subjects.filter(({ memory: { resident_mb: resident } }) => resident !== null);
  if (!known.length) return null;
  const split = known.map((subject) => segments(subject.memory, bytesOf(subject)));
  const parts = [
    ["backbone: its weights", "--part0", "backbone"],
    ["head: what it adds", "--part1", "head"],
    ["engine and activations: the rest", "--part2", "rest"],
  ].map(([name, colour, key]) => ({ name, colour, values: split.map((one) => one[key]) }));
  const names = known.map(({ name }) => name);
  const rows = known.map(({ name, memory: { resident_mb: resident, peak_mb: peak } }, at) => [name, ...parts.map(({ values }) => mb(values[at])), mb(resident), peak === null ? "\u2013" : mb(peak)]);
  const note = "Each head alone in a process. Backbone: its weights, by count. Head: how much the process grew by it when its backbone was loaded and warm. The rest, up to what is resident: the engine's code, buffers for activations, and copies it made.";
  const table_ = table("Memory", ["head", ...parts.map((part) => part.name), "resident", "peak"], rows);
  const figure = chartFigure("Memory", note, table_);
  figure.element.querySelector(".canvas").style.height = `${7 + 3 * names.length}rem`;
  return { ...figure, draw: (canvas) => stack(canvas, { names, parts, x: "MB resident" }) };
}

/** What was measured comes first; the rest is what it leaves of the resident memory. MB. */
function segments({ resident_mb: resident, marginal_mb: marginal }, { backbone, head }) {
  const byHead = Math.min(resident, Math.max(0, marginal ?? head));
  const ofBackbone = Math.min(resident - byHead, backbone);
  return { backbone: ofBackbone, head: byHead, rest: resident - byHead - ofBackbone };
}

/** Accuracy with its interval against a figure of the report; `tested` are { name, number, experiment, x }. */
export function accuracyAgainst(title, x, tested) {
  const series = tested.map(({ name, number, experiment: { accuracy }, x: at }) => ({
    name, head: number, is_line: false,
    points: [{ x: at, y: 100 * accuracy.mean, low: scaled(accuracy.low), high: scaled(accuracy.high) }],
  }));
  const rows = series.map(({ name, points: [{ x: at, y, low, high }] }) => [name, at.toFixed(1), y.toFixed(1), low === null ? "\u2013" : `${low.toFixed(1)} to ${high.toFixed(1)}`]);
  const figure = chartFigure(title, "Up and to the left is better. The bar is the 95 % interval over the seeds.", table(title, ["head", x, "accuracy, %", "95 % interval"], rows));
  return { ...figure, draw: (canvas) => draw(canvas, { x, y: "accuracy, %", series }) };
}

const scaled = (share) => (share === null ? null : 100 * share);
const count = (size) => (size === 1 ? "One picture" : `${size} pictures`);
