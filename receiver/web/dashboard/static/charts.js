// Draws the charts of a page: the data stand in the attribute data-chart of a figure's div.
"use strict";
(() => {
  const drawn = new WeakMap();

  function tone(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  }

  function draw(box) {
    drawn.get(box)?.destroy();
    const { times, series } = JSON.parse(box.dataset.chart);
    const axis = { stroke: tone("quiet"), grid: { stroke: tone("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    const zone = box.dataset.zone;
    const chart = new uPlot({
      width: box.clientWidth,
      height: 190,
      cursor: { y: false, points: { size: 6 } },
      legend: { live: true },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), zone),
      scales: { y: { range: (_, low, high) => [0, Math.max(high, 4) * 1.08] } },
      axes: [
        { ...axis, values: [
          [86400, "{D} {MMM}", null, null, null, null, null, null, 1],
          [3600, "{HH}:{mm}", "\n{D} {MMM}", null, null, null, null, null, 1],
          [60, "{HH}:{mm}", null, null, null, null, null, null, 1],
          [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1],
        ] },
        { ...axis, size: 42, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000] },
      ],
      series: [
        { label: "at", value: "{D} {MMM} {HH}:{mm}" },
        ...series.map(({ name, tone: colour }) => ({
          label: name, stroke: tone(colour), width: 1.5, fill: `color-mix(in srgb, ${tone(colour)} 10%, transparent)`,
          points: { show: false }, paths: uPlot.paths.stepped({ align: 1 }),
        })),
      ],
    }, [times, ...series.map(({ values }) => values)], box);
    drawn.set(box, chart);
  }

  const drawAll = () => document.querySelectorAll("[data-chart]").forEach(draw);
  document.addEventListener("htmx:afterSwap", drawAll); // before the page is painted: nothing flickers or jumps
  document.addEventListener("theme-changed", drawAll);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  matchMedia("print").addEventListener("change", drawAll);
  let resized;
  addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(drawAll, 150); });
  drawAll();
})();
