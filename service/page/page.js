// The page: what happens when there is a picture. Each part of it is a module of its own.

import { Answers, agreement, timing } from "./answers.js";
import { ask, isPassing, words } from "./api.js";
import { Benchmark } from "./benchmark.js";
import { Classes } from "./classes.js";
import { byId } from "./elements.js";
import { HeadPanel } from "./heads.js";
import { loadColours } from "./map.js";
import { Notice } from "./notice.js";
import { Picture, listen } from "./picture.js";
import { Following, moveEveryWay, movedPanel } from "./shift.js";
import { Stage, told } from "./stage.js";
import { showStudy } from "./study.js";

const notices = Object.fromEntries(["start", "picture", "shift", "moves"].map((name) => [name, new Notice(byId(`${name}-notice`))]));
const answers = new Answers(byId("answers"));
const following = new Following(notices.shift, (heads, offset) => answers.showMoved(heads, offset));
const stage = new Stage(byId("stage"), (right, down) => {
  byId("moved").textContent = told(right, down);
  byId("back").disabled = !right && !down;
  following.want(right, down);
});

let panels = [];
let isBuilt;
const built = new Promise((resolve) => { isBuilt = resolve; }); // a picture may be given before the heads are known
let picture = null; // the one on show
let label = null; // whose maps are on show; null: each head's own first class
let work = new AbortController(); // all that is asked of this picture

async function start() {
  try {
    const [{ heads }] = await Promise.all([ask("heads", {}, notices.start), loadColours()]);
    build(heads);
    isBuilt();
    const benchmark = new Benchmark(heads, (report) => showStudy(heads, report));
    await Promise.all([showStudy(heads, null), benchmark.showLast()]);
  } catch (error) {
    notices.start.fail(words(error), { "Try again": start });
  }
}

function build(heads) {
  const serving = heads.map((head, number) => [head, number]).filter(([head]) => head.serving);
  panels = serving.map(([head, number]) => new HeadPanel(head, number, choose));
  classes = new Classes(byId("class-field"), panels.flatMap((panel) => panel.classes), choose);
  byId("heads").replaceChildren(...panels.map((panel) => panel.element));
  const out = heads.filter((head) => !head.serving).map(({ head, failed: [why] }) => `${head} does not serve: ${why?.reason ?? "no version"}`);
  byId("serving").textContent = [`Serving ${panels.map(({ name }) => name).join(", ")}.`, ...out].join(" ");
}

let classes = null;

async function look(name, file) {
  work.abort();
  work = new AbortController();
  const { signal } = work;
  notices.picture.say(`Asking the heads about ${name}\u2026`);
  try {
    await built;
    const [next, compared] = await Promise.all([Picture.of(name, file), compare(file, signal)]);
    if (!signal.aborted) await show(next, compared, signal);
  } catch (error) {
    if (signal.aborted) return;
    notices.picture.fail(words(error), isPassing(error) ? { "Try again": () => look(name, file) } : {});
  }
}

const compare = (body, signal) => {
  const cancel = () => { work.abort(); notices.picture.say("Cancelled."); };
  return ask("compare?top_k=5", { method: "POST", body, type: "application/octet-stream", signal, cancel }, notices.picture);
};

async function show(next, { results: [result], timing_ms: times }, signal) {
  picture = next;
  notices.picture.clear();
  notices.shift.clear();
  for (const id of ["answered", "why", "moves"]) byId(id).hidden = false;
  byId("source").classList.add("small");
  byId("moved-heads").replaceChildren();
  const shown = panels.filter(({ name }) => name in result.predictions);
  stage.show(picture.seenBy(shown[0].card.input));
  byId("moved").textContent = told(0, 0);
  byId("back").disabled = true;
  following.start(picture, signal);
  answers.show(shown.map((panel) => [panel.name, panel.number, result.predictions[panel.name][0]]));
  byId("agreement").textContent = agreement(result);
  byId("agreement").dataset.agree = result.agree;
  byId("timing").textContent = timing(times) + (picture.bitmap ? "" : " This browser cannot show this kind of picture; the heads can read it.");
  for (const panel of shown) panel.answer(picture, result.predictions[panel.name]);
  await explain();
}

const explain = () => Promise.all(panels.map((panel) => panel.explain(picture, label, work.signal)));

function choose(chosen) {
  label = chosen;
  classes.show(label);
  if (picture) explain();
}

async function moveAll() {
  const { signal } = work;
  const stop = new AbortController();
  byId("move-all").disabled = true;
  notices.moves.say("Moving it\u2026", { Cancel: () => stop.abort() });
  try {
    const { offsets, heads } = await moveEveryWay(picture, AbortSignal.any([signal, stop.signal]), () => stop.abort(), notices.moves);
    if (signal.aborted) return;
    const number = (head) => panels.find(({ name }) => name === head)?.number ?? 0;
    byId("moved-heads").replaceChildren(...heads.map((head) => movedPanel(offsets, head, number(head.head))));
  } catch (error) {
    if (error.name === "AbortError") notices.moves.clear();
    else notices.moves.fail(words(error), { "Try again": moveAll });
  } finally {
    byId("move-all").disabled = false;
  }
}

byId("move-all").addEventListener("click", moveAll);
byId("back").addEventListener("click", () => { stage.move(0, 0); byId("stage").focus(); });
const blend = () => byId("heads").style.setProperty("--blend", byId("blend").value / 100);
byId("blend").addEventListener("input", blend);
blend();
listen({ source: byId("source"), input: byId("file"), take: look, refuse: (why) => notices.picture.fail(why) });
start();
