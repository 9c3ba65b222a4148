// The study: accuracy of the heads that were trained on the same pictures, against what they cost.

import * as charts from "./charts.js";
import { byId, make, mb, ms, percent, scrolling, table } from "./elements.js";

/** `report` is null until there is one. */
export async function showStudy(heads, report) {
  const tested = heads
    .map(({ head, serving }, number) => ({ name: head, number, experiment: serving?.training?.experiment, ...costs(report, head) }))
    .filter(({ experiment }) => experiment);
  const groups = [...Map.groupBy(tested, ({ experiment }) => experiment.data).values()];
  byId("studied").replaceChildren(...(groups.length ? [] : nothing()));
  await Promise.all(groups.map((group) => showGroup(byId("studied"), group)));
}

const nothing = () => [
  make("p", {}, "No head here has a training record, so there is no accuracy to set against the cost. This trains both on your own photographs and compares them fairly:"),
  make("pre", {}, make("code", {}, "resnet-heads train photographs --head gap --head flatten")),
];

function costs(report, head) {
  const measured = report?.heads.find((one) => one.head === head);
  const single = measured?.latency.find(({ batch_size: size }) => size === 1);
  return { latency: single?.p50_ms ?? null, resident: measured?.memory.resident_mb ?? null };
}

async function showGroup(place, group) {
  const drawn = make("div", { className: "charts" });
  const caption = `On ${group[0].experiment.truth.length} test pictures`;
  place.append(scrolling(caption, tableOf(caption, group)), drawn);
  const known = (key) => group.filter((one) => one[key] !== null).map((one) => ({ ...one, x: one[key] }));
  const figures = [
    ["Accuracy against latency", "p50 of single pictures, ms", known("latency")],
    ["Accuracy against memory", "resident, MB", known("resident")],
  ].filter(([, , points]) => points.length);
  if (!figures.length) place.append(make("p", {}, "Measure above, and accuracy is drawn against latency and memory here."));
  await charts.show(drawn, figures.map((figure) => charts.accuracyAgainst(...figure)));
}

function tableOf(caption, group) {
  const names = ["head", "accuracy", "95 % interval", "seeds", "moved", "p50", "resident"];
  const rows = group.map(({ name, experiment: { accuracy, runs, shifts }, latency, resident }) => {
    const farthest = shifts.at(-1);
    return [
      name, percent(accuracy.mean), accuracy.low === null ? "\u2013" : `${percent(accuracy.low)} to ${percent(accuracy.high)}`,
      String(runs.length), farthest ? `${percent(farthest.accuracy)} at ${farthest.pixels} px` : "\u2013",
      latency === null ? "\u2013" : ms(latency), resident === null ? "\u2013" : mb(resident),
    ];
  });
  return table(caption, names, rows);
}
