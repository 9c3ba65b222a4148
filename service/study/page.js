"use strict";

const figures = JSON.parse(document.getElementById("figures").textContent);
const shapes = ["circle", "triangle", "rect", "rectRot", "star", "crossRot"];
const colours = 8;

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colour = (head) => (head === null ? css("--ink") : css(`--c${figures.heads.indexOf(head) % colours}`));

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
        if (low === null) return;
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

function dataset(series) {
  const at = figures.heads.indexOf(series.head);
  return {
    label: series.name,
    data: series.points,
    showLine: series.is_line,
    borderColor: colour(series.head),
    backgroundColor: colour(series.head),
    borderDash: series.is_dashed ? [5, 4] : [],
    borderWidth: 2,
    pointStyle: shapes[Math.max(at, 0) % shapes.length],
    pointRadius: series.is_line ? 3 : 6,
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

function told({ dataset: { label }, raw: { y, low, high } }) {
  const interval = low === null ? "" : ` (${low.toFixed(1)} to ${high.toFixed(1)})`;
  return `${label}: ${y.toPrecision(4)}${interval}`;
}

function draw(chart, number) {
  const ends = chart.series.flatMap(({ points }) => points.flatMap(({ y, low, high }) => [low ?? y, high ?? y]));
  return new Chart(document.getElementById(`chart-${number}`), {
    type: "scatter",
    data: { datasets: chart.series.map(dataset) },
    plugins: [whiskers],
    options: {
      animation: false,
      maintainAspectRatio: false,
      scales: {
        x: axis(chart.x),
        y: { ...axis(chart.y), suggestedMin: Math.min(...ends), suggestedMax: Math.max(...ends) },
      },
      plugins: {
        legend: { position: "bottom", labels: { color: css("--ink"), usePointStyle: true } },
        tooltip: { callbacks: { label: told } },
      },
    },
  });
}

let drawn = figures.charts.map(draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  drawn.forEach((chart) => chart.destroy());
  drawn = figures.charts.map(draw);
});
