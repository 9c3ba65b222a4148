// What every head says of the picture, in its place and where it has been moved to.

import { make, ms, percent } from "./elements.js";
import { dot } from "./heads.js";
import { told } from "./stage.js";

/** The table of answers: `firsts` are [head, number, first prediction]. */
export class Answers {
  constructor(place) {
    Object.assign(this, { place, moved: new Map() });
  }

  show(firsts) {
    this.heading = make("th", { scope: "col" }, "Moved");
    const names = [make("th", { scope: "col" }, "Head"), make("th", { scope: "col" }, "In its place"), this.heading];
    this.moved = new Map(firsts.map(([head]) => [head, make("td", {}, "\u2013")]));
    const rows = firsts.map(([head, number, first]) => make("tr", {},
      make("th", { scope: "row" }, dot(number), head), make("td", {}, ...answer(first)), this.moved.get(head)));
    this.place.replaceChildren(make("thead", {}, make("tr", {}, ...names)), make("tbody", {}, ...rows));
  }

  /** `heads` of /shift with one offset; null for the picture in its place. */
  showMoved(heads, offset) {
    this.heading.textContent = heads ? `Moved ${told(...offset)}` : "Moved";
    for (const cell of this.moved.values()) cell.replaceChildren("\u2013");
    for (const { head, index, label, answers: [now] } of heads ?? []) {
      const isKept = now.index === index;
      const was = isKept ? "" : make("span", { className: "was" }, `${label} now ${percent(now.kept)}`);
      this.moved.get(head)?.replaceChildren(...answer(now, isKept ? "" : "swapped"), was);
    }
  }
}

const answer = ({ label, probability }, kind = "") => [
  make("span", { className: `label ${kind}`, title: label }, label), " ", make("span", { className: "percent" }, percent(probability)),
];

/** Whether the heads agree, in words. */
export function agreement(result) {
  const firsts = Object.entries(result.predictions).map(([head, [first]]) => [head, first.label]);
  if (firsts.length === 1) return `${firsts[0][0]} says ${firsts[0][1]}.`;
  if (result.agree) return `${firsts.length === 2 ? "Both" : `All ${firsts.length}`} heads agree: ${firsts[0][1]}.`;
  const labels = new Set(firsts.map(([, label]) => label));
  return `The heads disagree: ${firsts.length} heads, ${labels.size} answers.`;
}

/** Where the time of a request went. */
export const timing = ({ decode, queue, inference, total }) =>
  `Answered in ${ms(total)}: decoding ${ms(decode)}, waiting ${ms(queue)}, heads ${ms(inference)}.`;
