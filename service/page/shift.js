// What the heads answer when the picture is moved: live while it is dragged, and over 25 offsets.

import { ask, words } from "./api.js";
import { make, percent, scrolling, signed, table } from "./elements.js";
import { dot } from "./heads.js";

const post = (picture, signal, more) => ({ method: "POST", body: picture.file, type: "application/octet-stream", signal, ...more });

/** One question at a time; while it is asked, only the newest offset waits. */
export class Following {
  constructor(notice, onAnswer) {
    Object.assign(this, { notice, onAnswer, next: null, isAsking: false });
  }

  start(picture, signal) {
    Object.assign(this, { picture, signal, next: null });
  }

  want(right, down) {
    this.next = [right, down];
    if (!this.isAsking) this.#run();
  }

  async #run() {
    this.isAsking = true;
    while (this.next !== null) {
      const [offset, { picture, signal }] = [this.next, this];
      this.next = null;
      try {
        const heads = offset.some(Boolean) ? (await ask(`shift?offset=${offset.join()}`, post(picture, signal), this.notice)).heads : null;
        if (!signal.aborted) this.onAnswer(heads, offset);
      } catch (error) {
        if (!signal.aborted) this.notice.fail(words(error), { "Try again": () => this.want(...offset) });
      }
    }
    this.isAsking = false;
  }
}

/** Every head at every offset of the service's own grid: what /shift answers. */
export const moveEveryWay = (picture, signal, cancel, notice) => ask("shift", post(picture, signal, { cancel }), notice);

/** How a head took it: its figures, and what it answered at each offset. */
export function movedPanel(offsets, head, number) {
  const id = `moved-${number}`;
  const figures = make("p", {},
    make("strong", { className: "big" }, percent(head.stability)), ` of the moves keep ${head.label}. `,
    `Its probability, ${percent(head.probability)} in its place, changes by ${percent(head.drift_mean)} on average, by ${percent(head.drift_max)} at most.`);
  const grid = gridOf(offsets, head);
  return make("article", { className: "card head", "aria-labelledby": id }, make("h3", { id }, dot(number), head.head), figures, scrolling(`${head.head} at each offset`, grid), swapped(head));
}

function gridOf(offsets, head) {
  const [across, along] = [0, 1].map((axis) => [...new Set(offsets.map((offset) => offset[axis]))].sort((one, other) => one - other));
  const answers = new Map(offsets.map((offset, at) => [offset.join(), head.answers[at]]));
  const rows = along.map((down) => [
    axisName(down),
    ...across.map((right) => cell(answers.get(`${right},${down}`), head)),
  ]);
  const caption = `Probability of ${head.label}. Columns: pixels to the right; rows: pixels down`;
  const drawn = table(caption, ["", ...across.map(axisName)], rows);
  drawn.classList.add("moves");
  return drawn;
}

const axisName = (pixels) => (pixels === 0 ? "0" : signed(pixels, 0));

function cell(answer, head) {
  if (!answer) return "";
  const isKept = answer.index === head.index;
  const element = make("span", { className: isKept ? "kept" : "swapped", title: isKept ? "" : `${answer.label}, ${percent(answer.probability)}` }, percent(answer.kept), isKept ? "" : "\u00a0\u2260");
  element.style.setProperty("--kept", answer.kept);
  return element;
}

function swapped(head) {
  const others = [...new Set(head.answers.filter(({ index }) => index !== head.index).map(({ label }) => label))];
  if (!others.length) return make("p", {}, "The first class is the same at every offset.");
  const more = others.length > 4 ? `, and ${others.length - 4} more` : "";
  return make("p", {}, `\u2260 another class was first: ${others.slice(0, 4).join(", ")}${more}.`);
}
