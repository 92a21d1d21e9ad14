// Elements, and numbers as text, ticks and places in sorted lists.

// ---- elements ---------------------------------------------------------------------------------

const SVG = 'http://www.w3.org/2000/svg';
function element(name, attributes = {}, ...children) {
  const e = document.createElement(name);
  fill(e, attributes, children);
  return e;
}
function shape(name, attributes = {}, ...children) {
  const e = document.createElementNS(SVG, name);
  fill(e, attributes, children);
  return e;
}
function fill(e, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) e.addEventListener(key.slice(2), value);
    else if (value !== undefined) e.setAttribute(key, value);
  }
  e.append(...children);
}
// ---- numbers ----------------------------------------------------------------------------------

const UNITS = [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k']];
function trimmed(value, digits) {
  return String(Number(value.toPrecision(digits)));
}
function text(value, digits = 4) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e15)) return value.toExponential(digits - 2).replace('e+', 'e');
  for (const [unit, name] of UNITS) {
    if (size >= unit) return trimmed(value / unit, digits) + name;
  }
  return trimmed(value, digits);
}
function exact(value) {
  return Number.isInteger(value) ? value.toLocaleString('en-US') : text(value, 5);
}

/** The largest of 1, 2, 5 x 10^n steps that gives about `wanted` ticks. */
function linearTicks(low, high, wanted) {
  const raw = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= raw * 0.999) || raw;
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; ++i) ticks.push(i * step);
  return ticks;
}
function logTicks(low, high, wanted) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); ++power) {
    for (const f of [1, 2, 5]) ticks.push(f * 10 ** power);
  }
  const inside = ticks.filter((t) => t >= low * 0.999 && t <= high * 1.001);
  if (inside.length < 3) return linearTicks(low, high, wanted);
  const tens = inside.filter((t) => Math.abs(Math.log10(t) - Math.round(Math.log10(t))) < 1e-9);
  return inside.length > 2 * wanted && tens.length > 2 ? tens : inside;
}
/** Ticks with the digits that tell them apart. */
function labels(ticks) {
  for (let digits = 2; digits < 9; ++digits) {
    const all = ticks.map((t) => text(Math.abs(t) < 1e-15 ? 0 : t, digits));
    if (new Set(all).size === all.length) return all;
  }
  return ticks.map((t) => String(t));
}

/** Value of a curve {x, y} at x, between its points. */
function between(curve, x) {
  const i = firstFrom(curve.x, x);
  if (i === 0) return curve.y[0];
  if (i === curve.x.length) return curve.y[i - 1];
  const share = (x - curve.x[i - 1]) / (curve.x[i] - curve.x[i - 1] || 1);
  return curve.y[i - 1] + share * (curve.y[i] - curve.y[i - 1]);
}
function firstFrom(sorted, x) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < x) low = middle + 1; else high = middle;
  }
  return low;
}
function nearest(sorted, x) {
  const i = firstFrom(sorted, x);
  if (i === 0) return 0;
  if (i === sorted.length) return i - 1;
  return x - sorted[i - 1] <= sorted[i] - x ? i - 1 : i;
}
