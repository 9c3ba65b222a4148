// Follows plot.js, as one module.

const figures = JSON.parse(document.getElementById("figures").textContent);
const numbered = (series) => ({ ...series, head: series.head === null ? null : figures.heads.indexOf(series.head) });

redrawing(() => figures.charts.map((chart, number) => {
  const canvas = document.getElementById(`chart-${number}`);
  return draw(canvas, { ...chart, series: chart.series.map(numbered) });
}));
