// An evidence map over the picture: honest cells, one colour each, on a signed scale.

import { make, ms, scrolling, signed, table } from "./elements.js";
import { drawMoved } from "./picture.js";

let colours = null;

/** The colour table: 256 steps from the most negative to the most positive. */
export async function loadColours() {
  colours ??= await (await fetch("static/vik.json")).json();
}

export class EvidenceMap {
  constructor(head) {
    this.picture = make("canvas");
    this.cells = make("canvas", { className: "cells", role: "img" });
    this.frame = make("div", { className: "frame" }, this.picture, this.cells);
    this.readout = make("p", { className: "readout" });
    this.legend = legend();
    this.sum = make("p", { className: "sum" });
    this.figures = make("details", { className: "figures" });
    this.element = make("div", { className: "map" }, this.frame, this.legend.element, this.readout, this.sum, this.figures);
    this.head = head;
    this.cells.addEventListener("pointermove", (event) => this.#point(event));
    this.cells.addEventListener("pointerleave", () => this.#rest());
    this.clear();
  }

  showPicture(seen) {
    this.frame.style.aspectRatio = `${seen.width} / ${seen.height}`;
    drawMoved(this.picture, seen, 0, 0);
  }

  clear() {
    this.result = null;
    this.cells.width = this.cells.width; // empties it
    this.cells.setAttribute("aria-label", `${this.head}: no map`);
    this.legend.element.hidden = this.sum.hidden = this.figures.hidden = this.readout.hidden = true;
  }

  /** `result`: of /explain, in `totalMs`. Cells add up, with the constant, to the logit. */
  show(result, totalMs) {
    this.result = result;
    const { grid, label, logit, constant } = result;
    const most = Math.max(...grid.flat().map(Math.abs)) || 1;
    paint(this.cells, grid, most);
    this.cells.setAttribute("aria-label", `${this.head}: evidence map for ${label}; its figures are in the table that follows`);
    const total = grid.flat().reduce((sum, value) => sum + value, 0);
    this.sum.textContent = `Cells ${signed(total)}, constant ${signed(constant)}: logit ${signed(logit)}. Mapped in ${ms(totalMs)}.`;
    this.legend.scale(most);
    this.figures.replaceChildren(make("summary", {}, "Cells as a table"), tableOf(this.head, result));
    this.legend.element.hidden = this.sum.hidden = this.figures.hidden = this.readout.hidden = false;
    this.#rest();
  }

  #point(event) {
    if (this.result === null) return;
    const { grid } = this.result;
    const box = this.cells.getBoundingClientRect();
    const row = Math.min(grid.length - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * grid.length)));
    const column = Math.min(grid[0].length - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * grid[0].length)));
    this.readout.textContent = `Row ${row + 1}, column ${column + 1}: ${signed(grid[row][column], 3)}`;
  }

  #rest() {
    if (this.result) this.readout.textContent = "Point at a cell to read it.";
  }
}

function paint(canvas, grid, most) {
  const [height, width] = [grid.length, grid[0].length];
  Object.assign(canvas, { width, height });
  const image = new ImageData(width, height);
  grid.flat().forEach((value, at) => image.data.set([...colourOf(value / most), 255], 4 * at));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** `share` from -1 to 1. */
const colourOf = (share) => colours[Math.round(((share + 1) / 2) * (colours.length - 1))];

function legend() {
  const bar = make("canvas", { "aria-hidden": "true" });
  paint(bar, [colours.map((_, at) => (2 * at) / (colours.length - 1) - 1)], 1);
  const [low, high] = [make("span"), make("span")];
  const ends = make("div", { className: "ends" }, low, make("span", {}, "0"), high);
  const names = make("div", { className: "ends" }, make("span", {}, "speaks against"), make("span", {}, "speaks for"));
  const scale = (most) => {
    const digits = most < 0.1 ? 3 : 2;
    [low.textContent, high.textContent] = [signed(-most, digits), signed(most, digits)];
  };
  return { element: make("div", { className: "legend" }, bar, ends, names), scale };
}

function tableOf(head, { grid, label }) {
  const names = ["", ...grid[0].map((_, at) => `column ${at + 1}`)];
  const rows = grid.map((row, at) => [`row ${at + 1}`, ...row.map((value) => signed(value, 3))]);
  const caption = `${head}: evidence for ${label}`;
  return scrolling(caption, table(caption, names, rows));
}
