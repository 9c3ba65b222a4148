// Charts of heads, drawn by the global Chart of Chart.js in the colours of theme.css.
// A chart is { x, y, series: [{ name, head, points: [{ x, y, low, high }], is_line, is_dashed }], ticks, from }.
// `head` is the number of the head it is coloured by, or null; where given, `ticks` are texts for values of x,
// and `from` is where y begins.

const shapes = ["circle", "triangle", "rect", "rectRot", "star", "crossRot"];
const colours = 8;

export const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const colour = (head) => css(head === null ? "--ink" : `--c${head % colours}`);

// Chart.js draws no intervals of its own
const whiskers = {
  id: "whiskers",
  afterDatasetsDraw(chart) {
    const { ctx, scales: { y } } = chart;
    chart.data.datasets.forEach((dataset, index) => {
      if (!chart.isDatasetVisible(index)) return;
      ctx.save();
      ctx.strokeStyle = dataset.borderColor;
      ctx.lineWidth = 1.5;
      chart.getDatasetMeta(index).data.forEach((mark, at) => {
        const { low, high } = dataset.data[at];
        if (low == null) return;
        const [bottom, top] = [y.getPixelForValue(low), y.getPixelForValue(high)];
        ctx.beginPath();
        ctx.moveTo(mark.x, bottom);
        ctx.lineTo(mark.x, top);
        for (const end of [bottom, top]) {
          ctx.moveTo(mark.x - 5, end);
          ctx.lineTo(mark.x + 5, end);
        }
        ctx.stroke();
      });
      ctx.restore();
    });
  },
};

function dataset({ name, head, points, is_line, is_dashed }) {
  return {
    label: name,
    data: points,
    showLine: is_line,
    borderColor: colour(head),
    backgroundColor: colour(head),
    borderDash: is_dashed ? [5, 4] : [],
    borderWidth: 2,
    pointStyle: shapes[(head ?? 0) % shapes.length],
    pointRadius: is_line ? 3 : 6,
    pointHoverRadius: 7,
  };
}

function axis(text) {
  return {
    title: { display: true, text, color: css("--faint") },
    ticks: { color: css("--faint") },
    grid: { color: css("--rule") },
    grace: "8%",
  };
}

function named(scale, ticks) {
  return {
    ...scale,
    afterBuildTicks: (drawn) => { drawn.ticks = Object.keys(ticks).map((value) => ({ value: Number(value) })); },
    ticks: { ...scale.ticks, autoSkip: false, callback: (value) => ticks[value] },
  };
}

function told({ dataset: { label }, raw: { y, low, high } }) {
  const interval = low == null ? "" : ` (${low.toFixed(1)} to ${high.toFixed(1)})`;
  return `${label}: ${y.toPrecision(4)}${interval}`;
}

const legend = () => ({ position: "bottom", labels: { color: css("--ink"), usePointStyle: true, boxWidth: 8, boxHeight: 8, padding: 16 } });

/** Points and lines, with whiskers where a point has an interval. */
export function draw(canvas, chart) {
  const ends = chart.series.flatMap(({ points }) => points.flatMap(({ y, low, high }) => [low ?? y, high ?? y]));
  const x = axis(chart.x);
  return new Chart(canvas, {
    type: "scatter",
    data: { datasets: chart.series.map(dataset) },
    plugins: [whiskers],
    options: {
      animation: false,
      maintainAspectRatio: false,
      scales: {
        x: chart.ticks ? named(x, chart.ticks) : x,
        y: { ...axis(chart.y), min: chart.from, suggestedMin: Math.min(...ends), suggestedMax: Math.max(...ends) },
      },
      plugins: { legend: legend(), tooltip: { callbacks: { label: told } } },
    },
  });
}

/** Lying bars, one for each name, of stacked parts: { name, colour, values }. */
export function stack(canvas, { names, parts, x }) {
  const datasets = parts.map((part) => ({
    label: part.name, data: part.values, backgroundColor: css(part.colour), maxBarThickness: 36,
  }));
  const bare = { ...axis(""), stacked: true, title: { display: false }, grid: { display: false } };
  return new Chart(canvas, {
    type: "bar",
    data: { labels: names, datasets },
    options: {
      indexAxis: "y",
      animation: false,
      maintainAspectRatio: false,
      scales: { x: { ...axis(x), stacked: true }, y: bare },
      plugins: { legend: legend() },
    },
  });
}

/** Draws now, and anew whenever the colours change; `drawAll` returns its charts. */
export function redrawing(drawAll) {
  let drawn = drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    drawn.forEach((chart) => chart.destroy());
    drawn = drawAll();
  });
}
