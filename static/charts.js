/* Draws [data-chart] with uPlot into the .plot beside it, and again when its
   figures have changed. The figures themselves stay on the page as a table,
   which is all there is without scripts. */
"use strict";
(() => {
  const HEIGHT = 150;
  const plots = new Map(); // id → { plot, place }

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  /* Seconds since 1970, what succeeded with what failed on top of it, and what failed. */
  function columns(part) {
    const { start, step, succeeded, failed } = JSON.parse(part.dataset.chart);
    const both = succeeded.map((count, n) => (count === null ? null : count + failed[n]));
    return [succeeded.map((_, n) => start + n * step), both, failed];
  }

  function clock(seconds, days) {
    const when = new Date(seconds * 1000);
    const style = days ? { weekday: "short", day: "numeric" } : { hour: "2-digit", minute: "2-digit" };
    return when.toLocaleString(undefined, style);
  }

  function options(part, width) {
    const { step } = JSON.parse(part.dataset.chart);
    const days = step >= 7200;
    const bars = uPlot.paths.bars({ size: [0.8, 40], align: 1 });
    const axis = { stroke: colour("--soft"), ticks: { stroke: colour("--line") }, grid: { stroke: colour("--line"), width: 1 } };
    const of = (label, name, value) => ({
      label, value, stroke: colour(name), fill: colour(name), width: 0, paths: bars, points: { show: false },
    });
    const alone = (plot, _, series, n) => (n === null || plot.data[1][n] === null ? "–" : plot.data[1][n] - plot.data[2][n]);
    const count = (plot, value) => value ?? "–";
    return {
      width, height: HEIGHT, padding: [8, 24, 0, 0], legend: { live: true },
      cursor: { y: false, drag: { x: false, y: false } },
      scales: { x: { time: true, range: (plot) => [plot.data[0][0], plot.data[0].at(-1) + step] }, y: { range: (_, low, high) => [0, Math.max(4, high || 0)] } },
      series: [
        { label: "From", value: (_, at) => (at === null ? "–" : new Date(at * 1000).toLocaleString(undefined, { weekday: "short", hour: "2-digit", minute: "2-digit" })) },
        of("Succeeded", "--good", alone),
        of("Failed", "--bad", count),
      ],
      axes: [
        { ...axis, space: 60, values: (_, at) => at.map((seconds) => clock(seconds, days)) },
        { ...axis, size: 44, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 100000] },
      ],
    };
  }

  function draw(part) {
    const place = document.querySelector(`.plot[data-of="${CSS.escape(part.id)}"]`);
    if (!place) return;
    const known = plots.get(part.id);
    if (known) return known.setData(columns(part));
    place.hidden = false;
    plots.set(part.id, new uPlot(options(part, place.clientWidth), columns(part), place));
    const table = part.closest("details");
    if (table) table.open = false;
  }

  /* All anew: another width, or other colours. */
  function again() {
    for (const plot of plots.values()) plot.destroy();
    plots.clear();
    start();
  }

  function start() {
    document.querySelectorAll("[data-chart]").forEach(draw);
  }

  document.addEventListener("DOMContentLoaded", () => {
    start();
    let width = innerWidth;
    addEventListener("resize", () => {
      if (innerWidth !== width) again();
      width = innerWidth;
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
    new MutationObserver(again).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    document.addEventListener("refreshed", ({ target }) => {
      if (target.matches("[data-chart]")) draw(target);
      target.querySelectorAll("[data-chart]").forEach(draw);
    });
  });
})();
