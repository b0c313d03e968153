// Draws what the tables say as plots, with uPlot, and keeps the table of what runs now up to date. The page works without it.

const STEPS = [3600, 7200, 14400, 21600, 43200].concat([1, 2, 3, 5, 7, 14, 30, 60, 120].map((days) => days * 86400));
const HEIGHT = 190;
const REFRESH = 10000;

const count = new Intl.NumberFormat("en", {notation: "compact", maximumFractionDigits: 1});
const exact = new Intl.NumberFormat("en", {maximumFractionDigits: 6});
const rough = new Intl.NumberFormat("en", {maximumFractionDigits: 2});
const place = document.querySelector("#plots");
const step = Number(place?.dataset.step);
const by = step < 86400 ? {hour: "2-digit", minute: "2-digit", hourCycle: "h23"} : {month: "short", day: "numeric"};
const clock = new Intl.DateTimeFormat("en", {timeZone: "UTC", ...by});

// What each plot shows: fields of the table, and how their values are written. `over`: drawn on top of that field's.
const PLOTS = {
  cost: {series: [{field: "cost_usd", label: "Cost", bars: true}], show: (value) => `$${exact.format(value)}`, none: 0},
  tokens: {
    series: [{field: "output_tokens", label: "Output", bars: true, over: "input_tokens"}, {field: "input_tokens", label: "Input", bars: true}],
    show: (value) => count.format(value),
    none: 0,
    least: 10,
  },
  times: {
    series: [{field: "p50_ms", label: "p50"}, {field: "p95_ms", label: "p95"}, {field: "p99_ms", label: "p99"}],
    scale: 0.001,
    show: (value) => `${exact.format(value)} s`,
    none: null,
  },
  errors: {series: [{field: "error_rate", label: "Errors", colour: "--plot-4"}], scale: 100, show: (value) => `${rough.format(value)} %`, none: null},
};

/** The day's or hour's rows of the page's table: moments, and a column of numbers for each field. */
function read() {
  const table = document.querySelector("#day table, #hour table");
  const first = Number(place.dataset.first);
  const times = Array.from({length: (Number(place.dataset.last) - first) / step + 1}, (_, index) => first + index * step);
  const fields = [...(table?.tHead.rows[0].cells ?? [])].map((cell) => cell.dataset.field);
  const rows = new Map([...(table?.tBodies[0].rows ?? [])].map((row) => [Number(row.dataset.at), row]));
  const column = (field, none, scale = 1) => times.map((at) => {
    const cell = rows.get(at)?.cells[fields.indexOf(field)];
    return cell?.dataset.value === undefined ? none : Number(cell.dataset.value) * scale;
  });
  return {times, column};
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function axis(values, size) {
  const font = "12px system-ui, sans-serif";
  return {stroke: () => colour("--quiet"), font, size, values, grid: {stroke: () => colour("--grid"), width: 1}, ticks: {show: false}};
}

function draw(figure, {times, column}) {
  const {series, show, none, scale, least = 1} = PLOTS[figure.dataset.plot];
  const own = series.map(({field}) => column(field, none, scale));
  const stacked = series.map(({over}, index) => {
    const below = series.findIndex(({field}) => field === over);
    return below < 0 ? own[index] : own[index].map((value, at) => value + own[below][at]);
  });
  const target = figure.querySelector(".plot");
  const paint = (name, index) => () => colour(name ?? `--plot-${index + 1}`);
  const bars = uPlot.paths.bars({size: [0.7, 48], radius: 0.15});
  const lines = series.map(({label, bars: asBars, colour: name}, index) => ({
    label,
    stroke: paint(name, index),
    fill: asBars ? paint(name, index) : undefined,
    width: asBars ? 0 : 2,
    paths: asBars ? bars : undefined,
    points: {show: !asBars && times.length < 40, size: 6, fill: paint(name, index)},
    value: (_, __, ___, at) => (at === null || own[index][at] === null ? "\u2013" : show(own[index][at])),
  }));
  const plot = new uPlot({
    width: target.clientWidth,
    height: HEIGHT,
    tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
    cursor: {drag: {x: false, y: false}, points: {show: lines.every((line) => !line.fill)}},
    scales: {
      x: {range: (_, min, max) => [min - step / 2, max + step / 2]},
      y: {range: (_, __, max) => [0, max > 0 ? max * 1.08 : least]},
    },
    axes: [
      {...axis((_, at) => at.map((each) => clock.format(new Date(each * 1000))), 30), incrs: STEPS.filter((each) => each >= step), space: 64},
      axis((_, at) => at.map((each) => show(each)), 64),
    ],
    series: [{label: "UTC", value: (_, at) => (at === null ? "\u2013" : clock.format(new Date(at * 1000)))}, ...lines],
  }, [times, ...stacked], target);
  figure.setAttribute("aria-label", `${figure.querySelector("figcaption").textContent}: a plot of the table below`);
  const redraw = () => plot.redraw(false, true);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  new ResizeObserver(() => {
    if (target.clientWidth && target.clientWidth !== plot.width) plot.setSize({width: target.clientWidth, height: HEIGHT});
  }).observe(target);
}

async function refresh() {
  const section = document.querySelector("#running");
  if (document.hidden || !section || section.contains(document.activeElement)) return true;
  const answer = await fetch("dashboard/running", {cache: "no-store"}).catch(() => null);
  if (answer?.status === 401) {
    location.reload(); // the session has ended: the login form is what there is to see
    return false;
  }
  if (!answer?.ok) return true;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("#running");
  if (fresh) section.replaceWith(document.adoptNode(fresh));
  return true;
}

async function keepFresh() {
  do {
    const later = new Promise((go) => setTimeout(go, REFRESH));
    const looked = new Promise((go) => document.addEventListener("visibilitychange", go, {once: true}));
    await Promise.race([later, looked]);
  } while (await refresh());
}

/** All plots or none: uPlot fails where the browser's language is none, as in WebKitGTK where the locale is C. */
function drawAll() {
  place.hidden = false;
  try {
    const data = read();
    for (const figure of place.querySelectorAll("figure")) draw(figure, data);
  } catch (error) {
    place.hidden = true;
    throw error;
  }
}

if (place) {
  keepFresh();
  drawAll();
}
