// The page: charts, what the pointer shows, samples and tables, all from the JSON in #data. `state`
// holds every choice of the reader; draw() makes the charts from it anew.
// page_tools.js stands before it, in the same block: nothing here is global.

const data = JSON.parse(document.getElementById('data').textContent);
const KNOWN = [
  ['loss', {title: 'Loss', unit: 'nats per token', wide: true}],
  ['lr', {title: 'Learning rate'}],
  ['grad_norm', {title: 'Gradient norm', unit: 'before clipping'}],
  ['tokens_per_second', {title: 'Tokens per second'}],
  ['percent_of_peak', {title: 'Share of the machine’s peak', unit: '%'}],
];
const MARKED = ['loss', 'grad_norm'];  // charts that show what happened at a step
const EXACT = ['lr'];  // what is not noisy is not smoothed
const COLOURS = 8;
const colour = (i) => `var(--c${i % COLOURS})`;
const dashes = (i) => (i < COLOURS ? undefined : '7 3');
const MARGIN = {left: 58, right: 14, top: 10, bottom: 30};
const state = {
  x: 'step', logX: false, logY: {}, smooth: 0, hidden: {}, zoom: null, live: data.live,
};
const KEY = 'gpt2-report ' + location.pathname;
const charts = [];
let hovering = false;

/** A step of a run on the x axis that is chosen. */
function place(run, step) {
  const axis = run.axes.find((a) => a.name === state.x);
  return axis && axis.x.length ? between(axis, step) : step;
}
/** Exponential moving average, corrected for its beginning. */
function smoothed(values) {
  let sum = 0;
  let weight = 0;
  return values.map((v) => {
    sum = state.smooth * sum + (1 - state.smooth) * v;
    weight = state.smooth * weight + (1 - state.smooth);
    return sum / weight;
  });
}

// ---- a chart ----------------------------------------------------------------------------------

/** Lines of a chart: what of its curves is shown, on the axes that are chosen. */
function linesOf(chart) {
  const logY = state.logY[chart.key];
  const several = data.runs.length > 1;
  const lines = [];
  data.runs.forEach((run, r) => {
    if (state.hidden[r]) return;
    const curves = run.curves.filter((c) => c.chart === chart.key);
    curves.forEach((curve, c) => {
      const line = {
        name: !several ? curve.name : curves.length > 1 ? `${run.name} · ${curve.name}` : run.name,
        markers: curve.markers, colour: colour(several ? r : c),
        dash: several ? (c ? '5 3' : dashes(r)) : dashes(c), x: [], y: [], raw: [],
      };
      line.smooth = state.smooth > 0 && !curve.markers && !EXACT.includes(chart.key);
      const soft = line.smooth ? smoothed(curve.y) : curve.y;
      curve.x.forEach((step, i) => {
        const x = place(run, step);
        if ((state.logX && x <= 0) || (logY && curve.y[i] <= 0)) return;
        line.x.push(x);
        line.y.push(soft[i]);
        line.raw.push(curve.y[i]);
      });
      lines.push(line);
    });
  });
  return lines;
}

/** Where the x axis begins and ends in every chart, so that they can be read one below another. */
function wholeX() {
  let [x0, x1] = [Infinity, -Infinity];
  data.runs.forEach((run, r) => {
    if (state.hidden[r]) return;
    for (const curve of run.curves) {
      for (const step of state.logX ? curve.x : [curve.x[0], curve.x[curve.x.length - 1]]) {
        const x = place(run, step);
        if (state.logX && x <= 0) continue;
        x0 = Math.min(x0, x);
        x1 = Math.max(x1, x);
      }
    }
  });
  return [x0, x1];
}

function extent(chart, lines) {
  let [x0, x1] = state.zoom || wholeX();
  let [y0, y1] = [Infinity, -Infinity];
  for (const line of lines) {
    line.x.forEach((x, i) => {
      if (x < x0 || x > x1) return;
      y0 = Math.min(y0, line.raw[i]);
      y1 = Math.max(y1, line.raw[i]);
    });
  }
  if (y0 > y1) return null;
  if (x0 === x1) [x0, x1] = state.logX ? [x0 / 2, x1 * 2] : [x0 - 1, x1 + 1];
  if (state.logY[chart.key]) {
    const pad = y0 === y1 ? 2 : (y1 / y0) ** 0.05;
    return {x0, x1, y0: y0 / pad, y1: y1 * pad};
  }
  const pad = (y1 - y0) * 0.05 || Math.abs(y1) * 0.1 || 1;
  return {x0, x1, y0: y0 - pad, y1: y1 + pad};
}

function scale(low, high, from, to, log) {
  const f = log ? Math.log : (v) => v;
  const [a, b] = [f(low), f(high)];
  const forward = (v) => from + ((f(v) - a) / (b - a)) * (to - from);
  forward.back = (p) => {
    const v = a + ((p - from) / (to - from)) * (b - a);
    return log ? Math.exp(v) : v;
  };
  return forward;
}

function drawAxes(chart, svg, width, height) {
  const {sx, sy, range} = chart;
  const xs = state.logX ? logTicks(range.x0, range.x1, width / 110) : linearTicks(range.x0, range.x1, width / 110);
  const ys = state.logY[chart.key] ? logTicks(range.y0, range.y1, height / 45) : linearTicks(range.y0, range.y1, height / 45);
  const bottom = height - MARGIN.bottom;
  labels(ys).forEach((label, i) => {
    const y = sy(ys[i]);
    svg.append(shape('path', {class: 'grid', d: `M${MARGIN.left} ${y}H${width - MARGIN.right}`}));
    svg.append(shape('text', {x: MARGIN.left - 8, y: y + 4, 'text-anchor': 'end'}, label));
  });
  labels(xs).forEach((label, i) => {
    const x = sx(xs[i]);
    svg.append(shape('path', {class: 'grid', d: `M${x} ${MARGIN.top}V${bottom}`}));
    svg.append(shape('text', {x, y: bottom + 18, 'text-anchor': 'middle'}, label));
  });
  svg.append(shape('path', {class: 'axis', d: `M${MARGIN.left} ${bottom}H${width - MARGIN.right}`}));
}

function pathOf(chart, line, values) {
  let d = '';
  line.x.forEach((x, i) => { d += `${i ? 'L' : 'M'}${chart.sx(x).toFixed(1)} ${chart.sy(values[i]).toFixed(1)}`; });
  return d;
}

function drawLines(chart, group) {
  for (const line of chart.lines) {
    const style = `stroke:${line.colour}`;
    if (line.smooth) {
      group.append(shape('path', {class: 'raw', style, d: pathOf(chart, line, line.raw)}));
    }
    if (line.x.length > 1) {
      group.append(shape('path', {
        class: 'curve', style, 'data-name': line.name, 'stroke-dasharray': line.dash, d: pathOf(chart, line, line.y),
      }));
    }
    if (line.x.length === 1 || (line.markers && line.x.length <= 200)) {
      line.x.forEach((x, i) => group.append(shape('circle', {
        class: 'dot', style: `fill:${line.colour}`, cx: chart.sx(x), cy: chart.sy(line.y[i]), r: 3.5,
      })));
    }
  }
}

/** Resumptions and the like, as dashed lines that say what they are. */
function drawMarks(chart, group, height) {
  data.runs.forEach((run, r) => {
    if (state.hidden[r]) return;
    for (const [step, kind, more] of run.marks) {
      const x = place(run, step);
      if (x < chart.range.x0 || x > chart.range.x1 || (state.logX && x <= 0)) continue;
      const mark = shape('path', {
        class: kind === 'resume' || kind === 'stop' ? 'mark' : 'mark bad', 'data-kind': kind,
        d: `M${chart.sx(x)} ${MARGIN.top}V${height - MARGIN.bottom}`,
      });
      mark.append(shape('title', {}, `${run.name}: ${kind} at step ${step} ${more}`));
      group.append(mark);
    }
  });
}

function drawKeys(chart) {
  chart.keys.replaceChildren(...chart.lines.map((line) => element('span', {},
    shape('svg', {width: 22, height: 10}, shape('path', {
      d: 'M1 5H21', style: `stroke:${line.colour};stroke-width:2.5`, 'stroke-dasharray': line.dash})),
    line.name + ' ', element('b', {}, line.raw.length ? text(line.raw[line.raw.length - 1]) : '–'))));
}

function drawChart(chart) {
  const {svg} = chart;
  const width = Math.max(svg.clientWidth || svg.parentNode.clientWidth - 30, 200);
  const height = chart.wide ? 360 : 230;
  svg.replaceChildren();
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
  svg.setAttribute('height', height);
  chart.lines = linesOf(chart);
  chart.range = extent(chart, chart.lines);
  drawKeys(chart);
  if (!chart.range) {
    svg.append(shape('text', {x: width / 2, y: height / 2, 'text-anchor': 'middle'}, 'no data yet'));
    return;
  }
  chart.sx = scale(chart.range.x0, chart.range.x1, MARGIN.left, width - MARGIN.right, state.logX);
  chart.sy = scale(chart.range.y0, chart.range.y1, height - MARGIN.bottom, MARGIN.top, state.logY[chart.key]);
  drawAxes(chart, svg, width, height);
  const id = 'clip-' + charts.indexOf(chart);
  svg.append(shape('clipPath', {id}, shape('rect', {
    x: MARGIN.left - 5, y: 0, width: width - MARGIN.left - MARGIN.right + 10, height: height - MARGIN.bottom + 4})));
  const group = shape('g', {'clip-path': `url(#${id})`});
  if (MARKED.includes(chart.key)) drawMarks(chart, group, height);
  drawLines(chart, group);
  chart.cross = shape('path', {class: 'cross', visibility: 'hidden'});
  chart.band = shape('rect', {class: 'band', y: MARGIN.top, height: height - MARGIN.top - MARGIN.bottom, width: 0});
  svg.append(group, chart.band, chart.cross);
  chart.width = width;
  chart.height = height;
}

// ---- reading values ---------------------------------------------------------------------------

function pointerX(chart, event) {
  const box = chart.svg.getBoundingClientRect();
  return ((event.clientX - box.left) / box.width) * chart.width;
}

/** Shows all values at a place of the x axis, in pixels of `chart`; a line in the other charts. */
function show(chart, pixel) {
  if (!chart.range) return;
  hovering = true;
  chart.pixel = Math.min(Math.max(pixel, MARGIN.left), chart.width - MARGIN.right);
  const x = chart.sx.back(chart.pixel);
  for (const other of charts) {
    if (!other.range) continue;
    const at = other.sx(x);
    other.cross.setAttribute('d', `M${at} ${MARGIN.top}V${other.height - MARGIN.bottom}`);
    const inside = at >= MARGIN.left - 1 && at <= other.width - MARGIN.right + 1;
    other.cross.setAttribute('visibility', inside ? 'visible' : 'hidden');
  }
  const rows = chart.lines.filter((line) => line.x.length).map((line) => {
    const i = nearest(line.x, x);
    return element('div', {}, element('i', {style: `background:${line.colour}`}),
      `${line.name} at ${exact(line.x[i])}`, element('b', {}, text(line.raw[i], 5)));
  });
  chart.tip.replaceChildren(...rows);
  chart.tip.hidden = false;
  const box = chart.svg.getBoundingClientRect();
  const outer = chart.tip.parentNode.getBoundingClientRect();
  const left = box.left - outer.left + (chart.pixel / chart.width) * box.width;
  const right = left + chart.tip.offsetWidth + 24 > outer.width;
  chart.tip.style.left = `${Math.max(4, right ? left - chart.tip.offsetWidth - 14 : left + 14)}px`;
  chart.tip.style.top = `${box.top - outer.top + 14}px`;
}
function hide() {
  hovering = false;
  for (const chart of charts) {
    chart.tip.hidden = true;
    if (chart.cross) chart.cross.setAttribute('visibility', 'hidden');
  }
}

/** A drag chooses a part of the x axis, a double click all of it. */
function listen(chart) {
  let from = null;
  const {svg} = chart;
  svg.addEventListener('pointerdown', (event) => {
    if (event.pointerType === 'mouse' && chart.range) from = pointerX(chart, event);
  });
  svg.addEventListener('pointermove', (event) => {
    const x = pointerX(chart, event);
    show(chart, x);
    if (from === null || !chart.range) return;
    chart.band.setAttribute('x', Math.min(from, chart.pixel));
    chart.band.setAttribute('width', Math.abs(chart.pixel - from));
  });
  svg.addEventListener('pointerup', () => {
    if (from !== null && Math.abs(chart.pixel - from) > 8) {
      state.zoom = [Math.min(from, chart.pixel), Math.max(from, chart.pixel)].map(chart.sx.back);
      draw();
    }
    from = null;
  });
  svg.addEventListener('pointerleave', () => {
    from = null;
    if (chart.band) chart.band.setAttribute('width', 0);
    hide();
  });
  svg.addEventListener('dblclick', () => { state.zoom = null; draw(); });
  svg.addEventListener('blur', hide);
  svg.addEventListener('keydown', (event) => {
    const moves = {ArrowLeft: -8, ArrowRight: 8};
    if (!(event.key in moves) || !chart.range) return;
    event.preventDefault();
    show(chart, (chart.pixel || MARGIN.left) + moves[event.key]);
  });
}

// ---- controls ---------------------------------------------------------------------------------

function toggle(label, read, write, title) {
  const button = element('button', {class: 'alone', type: 'button', title}, label);
  const refresh = () => button.setAttribute('aria-pressed', Boolean(read()));
  button.addEventListener('click', () => { write(!read()); refresh(); draw(); });
  refresh();
  return button;
}
function choice(names, read, write) {
  const buttons = names.map((name) => element('button', {type: 'button'}, name));
  const refresh = () => buttons.forEach((b, i) => b.setAttribute('aria-pressed', names[i] === read()));
  buttons.forEach((b, i) => b.addEventListener('click', () => { write(names[i]); refresh(); draw(); }));
  refresh();
  return element('span', {class: 'group'}, ...buttons);
}

function addControls() {
  const axes = ['step', ...new Set(data.runs.flatMap((run) => run.axes.map((a) => a.name)))];
  if (!axes.includes(state.x)) state.x = 'step';
  const slider = element('input', {type: 'range', min: 0, max: 0.99, step: 0.01, value: state.smooth,
    oninput: (event) => { state.smooth = Number(event.target.value); draw(); }});
  const bar = element('div', {class: 'bar'},
    element('label', {}, 'x axis', choice(axes, () => state.x, (v) => { state.x = v; state.zoom = null; })),
    toggle('log x', () => state.logX, (v) => { state.logX = v; state.zoom = null; }),
    element('label', {}, 'smoothing', slider),
    element('button', {class: 'alone', type: 'button', onclick: () => { state.zoom = null; draw(); }}, 'whole range'));
  if (data.live) bar.append(toggle('follow', () => state.live, (v) => { state.live = v; }, 'load the page again every 15 seconds'));
  const runs = element('div', {class: 'runs'}, ...data.runs.map((run, r) => {
    const box = element('input', {type: 'checkbox', onchange: (event) => {
      state.hidden[r] = !event.target.checked;
      draw();
    }});
    box.checked = !state.hidden[r];
    const swatch = element('i', {style: `background:${colour(r)}`});
    return element('label', {}, ...(data.runs.length > 1 ? [box, swatch, run.name + ' '] : []),
      element('span', {}, run.state));
  }));
  document.body.append(element('header', {}, element('h1', {}, data.title), runs), bar);
}

function addChart(main, key, known) {
  const chart = {
    key, wide: known.wide, lines: [], range: null, keys: element('div', {class: 'keys'}),
    tip: element('div', {class: 'tip', hidden: ''}),
    svg: shape('svg', {class: 'plot', tabindex: 0, role: 'img', 'data-chart': key,
      'aria-label': `${known.title}: chart; the arrow keys read values`}),
  };
  charts.push(chart);
  const title = element('h2', {}, known.title + ' ', element('small', {}, known.unit || ''));
  const log = toggle('log', () => state.logY[key], (v) => { state.logY[key] = v; }, 'logarithmic y axis');
  log.dataset.log = key;
  main.append(element('section', {class: known.wide ? 'wide' : ''},
    element('div', {class: 'head'}, title, log), chart.keys, chart.svg, chart.tip));
  listen(chart);
}

function addCharts(main) {
  const found = new Set(data.runs.flatMap((run) => run.curves.map((c) => c.chart)));
  found.add('loss');
  for (const [key, known] of KNOWN) if (found.delete(key)) addChart(main, key, known);
  for (const key of found) addChart(main, key, {title: key.replace('eval/', 'Evaluation: ').replaceAll('/', ' ')});
}

// ---- samples and tables -----------------------------------------------------------------------

/** Columns are steps, rows are runs, so that a text is read beside what it was before. */
function addSamples(main) {
  const steps = [...new Set(data.runs.flatMap((run) => run.samples.map((s) => s[0])))].sort((a, b) => a - b);
  if (!steps.length) return;
  const several = data.runs.length > 1;
  const head = element('tr', {}, ...(several ? [element('th')] : []),
    ...steps.map((step) => element('th', {}, `after ${exact(step)} steps`)));
  const rows = data.runs.map((run) => element('tr', {}, ...(several ? [element('th', {}, run.name)] : []),
    ...steps.map((step) => {
      const sample = run.samples.find((s) => s[0] === step);
      return element('td', {}, sample ? element('pre', {}, sample[1]) : '');
    })));
  const scroll = element('div', {class: 'scroll', tabindex: 0}, element('table', {class: 'samples'}, head, ...rows));
  main.append(element('section', {class: 'wide', id: 'samples'}, element('h2', {}, 'Samples'), scroll));
  scroll.scrollLeft = scroll.scrollWidth;
}

function addTable(main, title, member) {
  const names = [...new Set(data.runs.flatMap((run) => run[member].map((f) => f[0])))];
  if (!names.length) return;
  const several = data.runs.length > 1;
  const rows = names.map((name) => {
    const values = data.runs.map((run) => (run[member].find((f) => f[0] === name) || ['', '–'])[1]);
    const differs = several && new Set(values).size > 1;
    return element('tr', differs ? {class: 'differs'} : {}, element('th', {}, name),
      ...values.map((v) => element('td', {}, v)));
  });
  const head = several ? [element('tr', {}, element('th'), ...data.runs.map((run) => element('th', {}, run.name)))] : [];
  main.append(element('section', {class: several ? 'wide' : '', id: member}, element('h2', {}, title),
    element('div', {class: 'scroll', tabindex: 0}, element('table', {}, ...head, ...rows))));
}

// ---- the page ---------------------------------------------------------------------------------

function draw() {
  charts.forEach(drawChart);
  try {
    sessionStorage.setItem(KEY, JSON.stringify(state));
  } catch (error) { /* some browsers keep nothing for files */ }
}

try {
  Object.assign(state, JSON.parse(sessionStorage.getItem(KEY)));
} catch (error) { /* as above */ }
addControls();
const main = element('main');
document.body.append(main);
addCharts(main);
addSamples(main);
addTable(main, 'Configuration', 'configuration');
addTable(main, 'Environment', 'environment');
draw();
window.addEventListener('resize', draw);
if (data.live) {
  setInterval(() => { if (state.live && !hovering && !document.hidden) location.reload(); }, 15000);
}
