// The last report and a new one: latency and memory of every head, in words and charts.

import { Problem, ask, open, words } from "./api.js";
import * as charts from "./charts.js";
import { byId, make } from "./elements.js";
import { Notice } from "./notice.js";

const MANY = 8; // comparisons that are better folded

export class Benchmark {
  /** `onReport(report)` is called with each report that is shown. */
  constructor(heads, onReport) {
    Object.assign(this, { heads, onReport, running: null, notice: new Notice(byId("benchmark-notice")) });
    byId("measure").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.running) this.running.abort();
      else this.#measure();
    });
    byId("measure-now").disabled = false;
  }

  async showLast() {
    try {
      await this.#show(await ask("benchmark", {}, this.notice));
    } catch (error) {
      if (error.kind === "no-report") this.notice.say("Nothing was measured on this machine yet. Measure now: it takes as long as you say.");
      else this.notice.fail(words(error), { "Try again": () => this.showLast() });
    }
  }

  async #measure() {
    this.running = new AbortController();
    this.#progress({ doing: "Starting\u2026" });
    byId("measure-now").textContent = "Cancel";
    try {
      await this.#show(await this.#run(this.running.signal));
    } catch (error) {
      if (error.name === "AbortError") this.notice.say("Cancelled. The last report stays.");
      else this.notice.fail(words(error));
    } finally {
      this.running = null;
      byId("measure-now").textContent = "Measure now";
      byId("benchmark-progress").hidden = true;
    }
  }

  async #run(signal) {
    const sizes = [...byId("measure").querySelectorAll("[name=batch]:checked")].map((box) => Number(box.value));
    if (!sizes.length) throw new Problem({ detail: "Choose at least one batch size." });
    const plan = JSON.stringify({ seconds: Number(byId("seconds").value), batch_sizes: sizes });
    const response = await open("benchmark", {
      method: "POST", body: plan, type: "application/json", accept: "text/event-stream, application/json;q=0.5", signal, who: "admin", lasts: true,
    }, this.notice);
    if (response.headers.get("Content-Type").startsWith("application/json")) return response.json();
    for await (const { event, data } of events(response.body)) {
      if (event === "progress") this.#progress(data);
      if (event === "report") return data;
      if (event === "problem") throw new Problem(data);
    }
    throw new Problem({ type: "gone" });
  }

  #progress({ doing, elapsed_s: elapsed, of_seconds: whole }) {
    const bar = byId("progress");
    byId("benchmark-progress").hidden = false;
    byId("doing").textContent = doing;
    if (whole) bar.value = Math.min(1, elapsed / whole);
    else bar.removeAttribute("value");
  }

  async #show(report) {
    const several = new Set(report.heads.map(({ engine }) => engine)).size > 1;
    const subjects = report.heads.map((one) => ({
      ...one, name: several ? `${one.head} on ${one.engine}` : one.head, number: this.#number(one.head),
    }));
    const drawn = make("div", { className: "charts" });
    byId("report").replaceChildren(...told(report), drawn);
    const measured = subjects.filter(({ latency }) => latency.length);
    const latency = measured.length ? [charts.distribution(measured), charts.batches(measured)] : [];
    this.onReport(report);
    await charts.show(drawn, [...latency, charts.memory(subjects, (subject) => this.#weights(subject))].filter(Boolean));
  }

  #number(name) {
    const at = this.heads.findIndex(({ head }) => head === name);
    return at < 0 ? this.heads.length : at;
  }

  /** MB of weights; those of a backbone that `quantize` made by its card. */
  #weights({ head, memory }) {
    const card = this.heads.find((one) => one.head === head)?.serving;
    const ofHead = card ? card.structure.weight_bytes / 1e6 : 0;
    const backbone = card?.quantization ? card.quantization.weight_bytes / 1e6 : memory.weights_mb - ofHead;
    return { backbone, head: ofHead };
  }
}

function told(report) {
  const { machine, started, seconds, threads, rounds } = report;
  const when = new Date(started).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
  const lines = [make("p", {}, `Measured on ${when} in ${Math.round(seconds)} s: ${machine.cpu}, ${machine.cores} cores, ${threads} threads, ${rounds} rounds.`)];
  if (!report.measured_here) lines.push(make("p", { className: "caution" }, "The processor, the libraries or the heads have changed since: measure again."));
  if (report.requests_meanwhile) lines.push(make("p", { className: "caution" }, `The service answered ${report.requests_meanwhile} requests meanwhile, which slows both.`));
  return report.ratios.length ? [...lines, listing(report.ratios)] : lines;
}

function listing(ratios) {
  const list = make("ul", { className: "ratios" }, ...ratios.map((ratio) => make("li", {}, inWords(ratio))));
  return ratios.length <= MANY ? list : make("details", {}, make("summary", {}, `${ratios.length} comparisons in words`), list);
}

/** One ratio of medians as a sentence. */
function inWords({ head, engine, to_head: other, to_engine: otherEngine, batch_size: size, ratio, low, high }) {
  const [one, two] = head === other ? [engine, otherEngine] : [head, other];
  const batch = size === 1 ? "One picture" : `${size} pictures at once`;
  const interval = low === null ? " (too few rounds for an interval)" : ` (95 % interval ${low.toFixed(2)} to ${high.toFixed(2)})`;
  if (low !== null && low <= 1 && high >= 1) return `${batch}: no difference was found; ${one} / ${two} is ${ratio.toFixed(2)}${interval}.`;
  return `${batch}: ${one} takes ${ratio.toFixed(2)} times as long as ${two}${interval}.`;
}

/** Server-sent events of a body: { event, data }, the data as JSON. */
async function* events(body) {
  let text = "";
  for await (const chunk of chunks(body.pipeThrough(new TextDecoderStream()))) {
    text = (text + chunk).replaceAll("\r\n", "\n");
    const whole = text.split("\n\n");
    text = whole.pop();
    for (const lines of whole.map((one) => one.split("\n"))) {
      const field = (name) => lines.filter((line) => line.startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).trimStart()).join("\n");
      if (field("data")) yield { event: field("event"), data: JSON.parse(field("data")) };
    }
  }
}

async function* chunks(stream) {
  const reader = stream.getReader();
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) yield read.value;
  } finally {
    reader.cancel().catch(() => {});
  }
}
