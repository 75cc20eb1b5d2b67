"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const PAGE = 4096;

// ---- the cells ----------------------------------------------------------------------------

const bytesOf = text => {
  const raw = atob(text), out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
};
const reader = bytes => {
  let at = 0;
  const number = () => {
    let value = 0, scale = 1, byte;
    do { byte = bytes[at++]; value += (byte & 127) * scale; scale *= 128; } while (byte & 128);
    return value;
  };
  return { number, byte: () => bytes[at++], more: () => at < bytes.length };
};

const grain = data.grain;
// Mappings stand one after the other: `cell` and `page` count without the gaps between them.
let cells = 0, pagesAll = 0;
const mappings = data.mappings.map(([start, pages, name, access, seen, idle, half, busy], index) => {
  const mapping = { index, start: BigInt(start), pages, name, access, seen, idle, half, busy, cell: cells, page: pagesAll };
  cells += Math.ceil(pages / grain);
  pagesAll += pages;
  mapping.end = cells;
  return mapping;
});
const levels = new Uint8Array(cells);
{
  const from = reader(bytesOf(data.cells));
  let at = 0;
  while (from.more()) {
    const head = from.byte(), count = head & 128 ? from.number() + 2 : 1;
    levels.fill(head & 127, at, at + count);
    at += count;
  }
}
// Level 0 is unknown, 1 not in use, 2 to 9 shares of time up to 2^(level - 9).
const RATE = [0, 0, ...Array.from({ length: 8 }, (_, i) => 2 ** (i - 7.5))];
const levelOf = (cell, metric) => {
  const reads = Math.floor(levels[cell] / 10), writes = levels[cell] % 10;
  return metric === "reads" ? reads : metric === "writes" ? writes : Math.max(reads, writes);
};
// Sums up to each cell, so that the mean of any stretch is a few look-ups.
let sums = null, known = null, half = null, sumsOf = "";
const prepare = metric => {
  if (sumsOf === metric) return;
  sums = new Float64Array(cells + 1);
  known = new Uint32Array(cells + 1);
  half = new Uint32Array(cells + 1);
  for (let i = 0; i < cells; i++) {
    const reads = Math.floor(levels[i] / 10), writes = levels[i] % 10;
    const level = metric === "reads" ? reads : metric === "writes" ? writes : Math.max(reads, writes);
    const isKnown = metric === "all" ? reads > 0 && writes > 0 : level > 0;
    sums[i + 1] = sums[i] + RATE[level];
    known[i + 1] = known[i] + (isKnown ? 1 : 0);
    half[i + 1] = half[i] + (level > 0 ? 1 : 0);
  }
  sumsOf = metric;
};
const UNKNOWN = -3, HALF = -2, IDLE = -1;
// Where a mean lies on the ramp, 0 to 1; or one of the three above.
const tone = (from, until) => {
  const mean = (sums[until] - sums[from]) / (until - from);
  if (mean > 1e-9) return Math.min(1, Math.max(0, (Math.log2(mean) + 9) / 9));
  if (known[until] - known[from] === until - from) return IDLE;
  return half[until] > half[from] ? HALF : UNKNOWN;
};
const mappingAt = cell => {
  let low = 0, high = mappings.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (mappings[middle].cell <= cell) low = middle; else high = middle - 1;
  }
  return mappings[low];
};
const pageOf = cell => { const m = mappingAt(cell); return m.page + (cell - m.cell) * grain; };
const cellOfPage = page => {
  let low = 0, high = mappings.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (mappings[middle].page <= page) low = middle; else high = middle - 1;
  }
  return mappings[low].cell + Math.floor((page - mappings[low].page) / grain);
};

// ---- words --------------------------------------------------------------------------------

const hex = (mapping, page) => "0x" + (mapping.start + BigInt(page) * 4096n).toString(16);
const size = bytes => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) { bytes /= 1024; unit++; }
  return (bytes < 10 && unit > 0 ? bytes.toFixed(1).replace(/\.0$/, "") : Math.round(bytes)) + " " + units[unit];
};
const percent = share => share <= 0 ? "0%" : share < .001 ? "<0.1%" : share < .0995 ? (share * 100).toFixed(1) + "%" : Math.round(share * 100) + "%";
const count = n => n.toLocaleString("en");
const base = path => path.split("/").filter(Boolean).pop() || path;
const often = level => ["not known", "not seen", "<1%", "1-2%", "2-3%", "3-6%", "6-13%", "13-25%", "25-50%", "50-100%"][level] + (level > 1 ? " of the time" : "");
const element = (name, text, className) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
};
const codeName = code => code[0] || "(instruction not known)";

// ---- colours ------------------------------------------------------------------------------

// Both ramps grow steadily in contrast to their ground, so they do not rest on hue.
const THEMES = {
  dark: { unknown: [42, 45, 51], half: [35, 49, 66], idle: [30, 76, 116], back: [16, 18, 22], ramp: ["#57106e", "#781c6d", "#9b2964", "#bb3754", "#d94d3d", "#ed6925", "#fb9b06", "#f7d13d", "#fcffa4"] },
  light: { unknown: [228, 226, 220], half: [208, 219, 226], idle: [160, 198, 226], back: [251, 250, 247], ramp: ["#fbd98b", "#f9bd62", "#f39c4e", "#e67a47", "#d15548", "#b1304a", "#861a4d", "#5a0f47", "#2f0a35"] },
};
const rgb = text => [1, 3, 5].map(i => parseInt(text.slice(i, i + 2), 16));
let theme = THEMES.light, table = null;
const paint = () => {
  theme = THEMES[document.documentElement.dataset.theme] || THEMES.light;
  table = new Uint32Array(259);
  const pack = ([r, g, b]) => (255 << 24 | b << 16 | g << 8 | r) >>> 0;
  const ramp = theme.ramp.map(rgb);
  for (let i = 0; i < 256; i++) {
    const at = i / 255 * (ramp.length - 1), low = Math.min(ramp.length - 2, Math.floor(at)), part = at - low;
    table[i] = pack(ramp[low].map((c, k) => Math.round(c + (ramp[low + 1][k] - c) * part)));
  }
  table[256] = pack(theme.idle);
  table[257] = pack(theme.half);
  table[258] = pack(theme.unknown);
};
const color = value => value < 0 ? table[255 - value] : table[Math.round(value * 255)];
const fade = packed => {
  const mix = shift => Math.round(((packed >> shift) & 255) * .22 + theme.back[shift / 8] * .78);
  return (255 << 24 | mix(16) << 16 | mix(8) << 8 | mix(0)) >>> 0;
};

// ---- what is shown ------------------------------------------------------------------------

const state = { view: "fold", metric: "all", from: 0, until: cells, chosen: null, x: 0, y: 0, scale: 1 };
const canvas = $("canvas"), context = canvas.getContext("2d");
const off = document.createElement("canvas"), offContext = off.getContext("2d");
let wide = 1, high = 1, ratio = 1;

// The space-filling map: squares, each a Hilbert curve over 4^n cells that enters at the top left and
// leaves at the top right, side by side like words in lines, so that they fill any shape.
let side = 1, across = 1, down = 1;
const arrange = () => {
  const room = Math.max(.2, canvas.width / Math.max(1, canvas.height));
  side = 1;
  while (cells / (4 * side * side) >= 10) side *= 2;
  const squares = Math.max(1, Math.ceil(cells / (side * side)));
  let best = 0;
  for (let columns = 1; columns <= squares; columns++) {
    const lines = Math.ceil(squares / columns), unit = Math.min(room / columns, 1 / lines);
    if (unit > best) { best = unit; across = columns; down = lines; }
  }
};
const hilbert = (x, y) => {
  const square = Math.floor(y / side) * across + Math.floor(x / side);
  let index = 0;
  x %= side; y %= side;
  for (let s = side / 2; s >= 1; s /= 2) {
    const right = (x & s) > 0 ? 1 : 0, low = (y & s) > 0 ? 1 : 0;
    index += s * s * ((3 * right) ^ low);
    if (!low) {
      if (right) { x = side - 1 - x; y = side - 1 - y; }
      const swap = x; x = y; y = swap;
    }
  }
  return square * side * side + index;
};

// Beside the map stand the names of what begins there, when there is room.
const gutter = () => state.view !== "hilbert" && wide > 620 ? 170 : 0;
const drawNames = () => {
  const room = gutter();
  if (!room) return;
  const css = getComputedStyle(document.body), span = state.until - state.from;
  context.save();
  context.scale(ratio, ratio);
  context.font = `12px ${css.fontFamily}`;
  context.textBaseline = "middle";
  // The hottest names come first; others only where these leave room.
  const taken = [];
  const visible = mappings.filter(m => m.end > state.from && m.cell < state.until).sort((a, b) => b.busy - a.busy || b.pages - a.pages);
  for (const m of visible) {
    const part = Math.max(0, m.cell - state.from) / span;
    const y = Math.min(high - 8, Math.max(8, state.view === "fold" ? (Math.floor(part * rows()) + .5) / rows() * high : part * high + 8));
    if (taken.some(other => Math.abs(other - y) < 15)) continue;
    taken.push(y);
    let text = base(m.name) + " " + size(m.pages * PAGE);
    while (text.length > 4 && context.measureText(text).width > room - 12) text = text.slice(0, -2).replace(/…?$/, "") + "…";
    context.fillStyle = m.busy > 0 ? css.color : css.getPropertyValue("--muted");
    context.fillText(text, 0, y);
  }
  context.restore();
};

const ROW = 9;
const rows = () => Math.max(1, Math.floor(high / ROW));
const inChosen = cell => !state.chosen || (cell >= state.chosen[0] && cell < state.chosen[1]);

const drawFold = () => {
  const lines = rows(), span = state.until - state.from, left = gutter() * ratio, room = canvas.width - left;
  const columns = Math.max(1, Math.min(Math.round(room), Math.ceil(span / lines)));
  off.width = columns; off.height = lines;
  const image = offContext.createImageData(columns, lines), pixels = new Uint32Array(image.data.buffer);
  const each = span / (lines * columns);
  for (let i = 0; i < lines * columns; i++) {
    const from = Math.floor(state.from + i * each);
    const until = Math.min(cells, Math.max(from + 1, Math.floor(state.from + (i + 1) * each)));
    if (from >= until) { continue; }
    const packed = color(tone(from, until));
    pixels[i] = inChosen(from) || (state.chosen && until > state.chosen[0] && from < state.chosen[1]) ? packed : fade(packed);
  }
  offContext.putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.clearRect(0, 0, canvas.width, canvas.height);
  const line = canvas.height / lines;
  for (let row = 0; row < lines; row++) {
    context.drawImage(off, 0, row, columns, 1, left, Math.round(row * line), room, Math.max(1, Math.round(line) - Math.round(ratio)));
  }
  // Where a mapping begins.
  context.fillStyle = getComputedStyle(document.body).color;
  for (const mapping of mappings) {
    const at = (mapping.cell - state.from) / span * lines;
    if (at <= 0 || at >= lines) continue;
    const row = Math.floor(at), x = left + (at - row) * room;
    context.fillRect(Math.round(x), Math.round(row * line), Math.max(1, Math.round(ratio)), Math.round(line) - Math.round(ratio));
  }
  drawNames();
};

const drawHilbert = () => {
  context.imageSmoothingEnabled = false;
  context.clearRect(0, 0, canvas.width, canvas.height);
  // Pixels of the screen for a cell; several cells a pixel use the mean of a square of 4^n.
  const unit = hilbertUnit();
  let block = 1;
  while (block * unit < 1 && block < side) block *= 2;
  const step = block * unit;
  const x0 = Math.max(0, Math.floor(-state.x / step)), y0 = Math.max(0, Math.floor(-state.y / step));
  const x1 = Math.min(across * side / block, Math.ceil((canvas.width - state.x) / step)), y1 = Math.min(down * side / block, Math.ceil((canvas.height - state.y) / step));
  if (x1 <= x0 || y1 <= y0) return;
  off.width = x1 - x0; off.height = y1 - y0;
  const image = offContext.createImageData(off.width, off.height), pixels = new Uint32Array(image.data.buffer);
  const many = block * block;
  for (let y = y0, i = 0; y < y1; y++) {
    for (let x = x0; x < x1; x++, i++) {
      const from = Math.floor(hilbert(x * block, y * block) / many) * many;
      if (from >= cells) continue;
      const until = Math.min(cells, from + many), packed = color(tone(from, until));
      pixels[i] = !state.chosen || (until > state.chosen[0] && from < state.chosen[1]) ? packed : fade(packed);
    }
  }
  offContext.putImageData(image, 0, 0);
  context.drawImage(off, state.x + x0 * step, state.y + y0 * step, off.width * step, off.height * step);
  // A hair between the squares.
  context.fillStyle = getComputedStyle(document.body).backgroundColor;
  for (let i = 1; i < across; i++) context.fillRect(Math.round(state.x + i * side * unit), 0, Math.round(ratio), canvas.height);
  for (let i = 1; i < down; i++) context.fillRect(0, Math.round(state.y + i * side * unit), canvas.width, Math.round(ratio));
};
const hilbertUnit = () => Math.min(canvas.width / (across * side), canvas.height / (down * side)) * state.scale;

const moments = [];
{
  const from = reader(bytesOf(data.times));
  let page = 0;
  while (from.more()) {
    page += from.number();
    moments.push([page, from.number(), from.number(), from.number()]);
  }
}
const drawTime = () => {
  context.clearRect(0, 0, canvas.width, canvas.height);
  const css = getComputedStyle(document.documentElement);
  context.fillStyle = css.getPropertyValue("--unknown");
  const left = gutter() * ratio;
  context.fillRect(left, 0, canvas.width - left, canvas.height);
  const span = state.until - state.from, intervals = Math.max(1, data.timeIntervals);
  const cellWide = (canvas.width - left) / intervals;
  for (const [page, interval, reads, writes] of moments) {
    const cell = cellOfPage(page), end = cellOfPage(Math.min(pagesAll - 1, page + data.timePages - 1)) + 1;
    if (end <= state.from || cell >= state.until) continue;
    const seen = state.metric === "reads" ? reads : state.metric === "writes" ? writes : Math.max(reads, writes);
    if (!seen) continue;
    const y = (cell - state.from) / span * canvas.height, tall = Math.max(2 * ratio, (end - cell) / span * canvas.height);
    const value = Math.min(1, Math.max(0, (Math.log2(seen / data.timePages) + 9) / 9));
    let packed = color(value);
    if (state.chosen && (end <= state.chosen[0] || cell >= state.chosen[1])) packed = fade(packed);
    context.fillStyle = `rgb(${packed & 255} ${packed >> 8 & 255} ${packed >> 16 & 255})`;
    context.fillRect(Math.floor(left + interval * cellWide), Math.floor(y), Math.ceil(cellWide), Math.ceil(tall));
  }
  context.fillStyle = css.getPropertyValue("--line");
  for (const mapping of mappings) {
    const y = (mapping.cell - state.from) / span * canvas.height;
    if (y > 0 && y < canvas.height) context.fillRect(0, Math.round(y), canvas.width, 1);
  }
  drawNames();
};

let waiting = false;
const draw = () => {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    if (!cells) return;
    prepare(state.metric);
    ({ fold: drawFold, hilbert: drawHilbert, time: drawTime })[state.view]();
    hint();
  });
};
const hint = () => {
  const from = Math.floor(state.from), last = Math.max(from, Math.ceil(state.until) - 1);
  const one = mappingAt(from), other = mappingAt(last);
  const shown = state.view === "hilbert" ? `All of memory, ${size(Math.min(cells, side * side) * grain * PAGE)} in each square along a Hilbert curve: what is near in memory is near here.`
    : `${hex(one, (from - one.cell) * grain)} to ${hex(other, Math.min(other.pages, (last + 1 - other.cell) * grain))}` +
      (state.view === "time" ? `, over the ${(data.timeIntervals / 10).toFixed(1)} s of the newest window; the colour tells how many of the pages of ${size(data.timePages * PAGE)} were seen in 0.1 s. Writes are looked for in one slice of memory after the other: a slanting stripe is where the look was, not a sweep of the program.` : ", line by line; a tick is where a mapping begins.");
  $("hint").textContent = `${shown} ${grain > 1 ? `A cell is ${size(grain * PAGE)}. ` : ""}Wheel or two fingers zoom, drag moves, a click keeps the details.`;
};

const resize = () => {
  const box = canvas.getBoundingClientRect();
  ratio = Math.min(2, window.devicePixelRatio || 1);
  wide = box.width; high = box.height;
  canvas.width = Math.max(1, Math.round(wide * ratio));
  canvas.height = Math.max(1, Math.round(high * ratio));
  arrange();
  center();
  draw();
};
const center = () => {
  if (state.scale === 1) {
    const unit = hilbertUnit();
    state.x = (canvas.width - unit * across * side) / 2;
    state.y = (canvas.height - unit * down * side) / 2;
  }
};

// ---- moving -------------------------------------------------------------------------------

const show = (from, until) => {
  const span = Math.min(cells, Math.max(Math.min(cells, 16), until - from));
  state.from = Math.min(cells - span, Math.max(0, from));
  state.until = state.from + span;
  draw();
};
const zoom = (factor, x = wide / 2, y = high / 2) => {
  if (state.view === "hilbert") {
    const most = across * side / 4, scale = Math.min(Math.max(1, most), Math.max(1, state.scale / factor));
    const grow = scale / state.scale;
    state.x = x * ratio - (x * ratio - state.x) * grow;
    state.y = y * ratio - (y * ratio - state.y) * grow;
    state.scale = scale;
    center();
    draw();
    return;
  }
  const at = cellAt(x, y, true), span = (state.until - state.from) * factor;
  const part = (at - state.from) / (state.until - state.from);
  show(at - part * span, at - part * span + span);
};
const move = (x, y) => {
  if (state.view === "hilbert") {
    state.x += x * ratio; state.y += y * ratio;
    draw();
    return;
  }
  const span = state.until - state.from;
  const by = state.view === "fold" ? span * (y / high + x / wide / rows()) : span * y / high;
  show(state.from - by, state.until - by);
};
const cellAt = (x, y, exact = false) => {
  if (state.view === "hilbert") {
    const unit = hilbertUnit();
    const cx = Math.floor((x * ratio - state.x) / unit), cy = Math.floor((y * ratio - state.y) / unit);
    if (cx < 0 || cy < 0 || cx >= across * side || cy >= down * side) return -1;
    const cell = hilbert(cx, cy);
    return cell < cells ? cell : -1;
  }
  const span = state.until - state.from;
  let part = y / high;
  if (state.view === "fold") {
    const lines = rows(), row = Math.min(lines - 1, Math.floor(y / high * lines));
    part = (row + Math.min(.999999, Math.max(0, (x - gutter()) / (wide - gutter())))) / lines;
  }
  const at = state.from + part * span;
  return exact ? at : Math.min(cells - 1, Math.max(0, Math.floor(at)));
};

// ---- details ------------------------------------------------------------------------------

const details = data.details.rows;
const detailAt = page => {
  let low = 0, high = details.length - 1, found = null;
  while (low <= high) {
    const middle = (low + high) >> 1;
    if (details[middle][0] <= page) { found = details[middle]; low = middle + 1; } else high = middle - 1;
  }
  return found && page < found[0] + found[1] ? found : null;
};
const variables = data.variables.map(([address, bytes, name, type]) => ({ from: BigInt(address), until: BigInt(address) + BigInt(bytes), name, type }));
const facts = cell => {
  const mapping = mappingAt(cell), page = (cell - mapping.cell) * grain, pages = Math.min(grain, mapping.pages - page);
  const start = mapping.start + BigInt(page) * 4096n, end = start + BigInt(pages) * 4096n;
  return {
    mapping, page, pages, start, end,
    reads: levelOf(cell, "reads"), writes: levelOf(cell, "writes"),
    detail: detailAt(mapping.page + page),
    variables: variables.filter(v => v.from < end && v.until > start).slice(0, 6),
  };
};
const tip = $("tip"), info = $("info");
const showTip = (cell, x, y) => {
  if (cell < 0) { tip.hidden = true; return; }
  const f = facts(cell);
  tip.replaceChildren(element("b", base(f.mapping.name)), element("span", "0x" + f.start.toString(16), "mono"), element("br"),
    element("span", `read ${often(f.reads)}, written ${often(f.writes)}`));
  if (f.detail && f.detail.length > 3) tip.append(element("br"), element("span", codeName(data.codes[f.detail[3]]), "mono"));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(0, Math.min(wide - box.width, x + 16)) + "px";
  tip.style.top = (y + 18 + box.height > high ? y - box.height - 12 : y + 18) + "px";
};
const showInfo = cell => {
  info.replaceChildren();
  if (cell < 0 || !cells) {
    info.append(element("p", "Point at the map to see what is there.", "muted"));
    return;
  }
  const f = facts(cell);
  info.append(element("h2", base(f.mapping.name)));
  if (f.mapping.name !== base(f.mapping.name)) info.append(element("p", f.mapping.name, "muted mono"));
  info.append(element("p", `0x${f.start.toString(16)} - 0x${f.end.toString(16)}`, "mono"));
  info.append(element("p", `${size(f.pages * PAGE)} of a mapping of ${size(f.mapping.pages * PAGE)}, ${f.mapping.access}`, "muted"));
  info.append(element("h3", "Heat"));
  const heat = element("table");
  for (const [name, level] of [["read", f.reads], ["written", f.writes]]) {
    const row = element("tr");
    row.append(element("td", name), element("td", often(level)));
    heat.append(row);
  }
  info.append(heat);
  if (f.variables.length) {
    info.append(element("h3", "Variables"));
    for (const v of f.variables) info.append(element("p", v.type ? `${v.name}: ${v.type}` : v.name, "mono"));
  }
  if (!f.detail) return;
  const verdict = data.details.verdicts[f.detail[2]];
  if (verdict) info.append(element("h3", "Used as"), element("p", verdict));
  if (f.detail.length > 3) info.append(element("h3", `Code that used these ${size(f.detail[1] * PAGE)}`));
  for (let i = 3; i < f.detail.length; i += 2) {
    const code = data.codes[f.detail[i]], share = f.detail[i + 1] / 1000;
    const name = element("p", codeName(code), "mono");
    info.append(name, element("p", [code[2] ? base(code[2]) : base(code[1]), code[3] || code[4], percent(share)].filter(Boolean).join(" · "), "muted"));
    const bar = element("div", undefined, "share"), fill = element("i");
    fill.style.width = share * 100 + "%";
    bar.append(fill);
    info.append(bar);
  }
};

// ---- pointers and keys --------------------------------------------------------------------

const pointers = new Map();
let pinch = 0, moved = false, kept = false;
const local = event => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
canvas.addEventListener("pointerdown", event => {
  pointers.set(event.pointerId, local(event));
  canvas.setPointerCapture(event.pointerId);
  moved = false; pinch = 0;
});
canvas.addEventListener("pointermove", event => {
  const [x, y] = local(event), before = pointers.get(event.pointerId);
  if (!before) {
    const cell = cellAt(x, y);
    showTip(cell, x, y);
    if (!kept) showInfo(cell);
    return;
  }
  pointers.set(event.pointerId, [x, y]);
  tip.hidden = true;
  if (pointers.size === 2) {
    const [[ax, ay], [bx, by]] = [...pointers.values()], distance = Math.hypot(ax - bx, ay - by);
    if (pinch) zoom(pinch / Math.max(1, distance), (ax + bx) / 2, (ay + by) / 2);
    pinch = distance; moved = true;
    return;
  }
  if (moved || Math.hypot(x - before[0], y - before[1]) > 3) {
    moved = true;
    move(x - before[0], y - before[1]);
  } else pointers.set(event.pointerId, before);
});
const lift = event => {
  const had = pointers.delete(event.pointerId);
  if (had && !moved && event.type === "pointerup") {
    const [x, y] = local(event);
    kept = true;
    showInfo(cellAt(x, y));
    if (event.pointerType !== "mouse") showTip(-1);
  }
};
canvas.addEventListener("pointerup", lift);
canvas.addEventListener("pointercancel", lift);
canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
canvas.addEventListener("wheel", event => {
  event.preventDefault();
  const [x, y] = local(event);
  if (event.shiftKey) move(0, -event.deltaY); else zoom(2 ** (event.deltaY / 300), x, y);
}, { passive: false });
canvas.addEventListener("dblclick", event => { const [x, y] = local(event); zoom(.4, x, y); });
canvas.addEventListener("keydown", event => {
  const keys = { "+": () => zoom(.6), "=": () => zoom(.6), "-": () => zoom(1.6), ArrowUp: () => move(0, 60), ArrowDown: () => move(0, -60), ArrowLeft: () => move(60, 0), ArrowRight: () => move(-60, 0), "0": reset, Escape: reset };
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});
const reset = () => {
  state.scale = 1; state.chosen = null; kept = false;
  $("focus").value = "";
  for (const row of document.querySelectorAll("#table tr.on")) row.classList.remove("on");
  center();
  show(0, cells);
};
$("in").onclick = () => zoom(.5);
$("out").onclick = () => zoom(2);
$("reset").onclick = reset;

const choose = (from, until) => {
  state.chosen = [from, until];
  const room = Math.max(8, (until - from) * .25);
  if (state.view !== "hilbert") show(from - room, until + room); else draw();
  kept = true;
  showInfo(hottest(from, until));
};
const hottest = (from, until) => {
  let best = from, most = -1;
  for (let cell = from, n = 0; cell < until && n < 50000; cell++, n++) {
    const level = levelOf(cell, "all");
    if (level > most) { most = level; best = cell; }
  }
  return best;
};
const stretch = ([mapping, page, pages]) => {
  const m = mappings[mapping];
  return [m.cell + Math.floor(page / grain), m.cell + Math.ceil((page + pages) / grain)];
};

const pick = (group, key, then) => $(group).addEventListener("click", event => {
  const button = event.target.closest("button");
  if (!button || button.disabled) return;
  for (const other of $(group).children) other.setAttribute("aria-pressed", String(other === button));
  state[key] = button.dataset[key];
  then();
});
pick("views", "view", () => { tip.hidden = true; draw(); });
pick("metrics", "metric", draw);

// ---- tables -------------------------------------------------------------------------------

const meter = share => {
  const outer = element("span", undefined, "meter"), inner = element("i");
  inner.style.width = Math.max(share > 0 ? 2 : 0, Math.min(100, share * 100)) + "%";
  outer.append(inner);
  return outer;
};
const busiest = Math.max(1e-9, ...data.ranges.map(r => r[4])), mapBusiest = Math.max(1e-9, ...mappings.map(m => m.busy));
const weightAll = Math.max(1, data.codes.reduce((sum, c) => sum + c[5] + c[6], 0));
const heaviest = Math.max(1, ...data.codes.map(c => c[5] + c[6]));
const kind = (reads, writes) => reads > 0 && writes > 0 ? "read, write" : reads > 0 ? "read" : writes > 0 ? "write" : "";
const TABLES = {
  Ranges: {
    columns: [["Address", "mono"], ["Size", "n"], ["Heat", "n"], ["Seen", "n"], ["Accesses", ""], ["Used as", "w"], ["Mapping", "w"], ["Top code", "w mono"]],
    sort: 2,
    rows: data.ranges.map(range => {
      const [mapping, page, pages, seen, busy, reads, writes, operands, code] = range, m = mappings[mapping];
      return {
        values: [m.page + page, pages, busy, seen / pages, kind(reads, writes), operands, base(m.name), code === null || !data.codes[code] ? "" : codeName(data.codes[code])],
        texts: [hex(m, page), size(pages * PAGE), size(busy * PAGE), percent(seen / pages)],
        meter: [2, busy / busiest],
        show: () => choose(...stretch(range)),
      };
    }),
  },
  Code: {
    columns: [["Code", "w mono"], ["Share", "n"], ["Operand", "w"], ["Loads", "n"], ["Stores", "n"], ["Memory", "n"], ["Mostly in", "w"], ["Instruction", "w mono"], ["Source", "w"]],
    sort: 1,
    rows: data.codes.map(([name, module, source, instruction, operand, reads, writes, pages, mapping]) => ({
      values: [name || "(instruction not known)", reads + writes, operand, reads, writes, pages, mappings[mapping] ? base(mappings[mapping].name) : "", instruction, source || base(module)],
      texts: [undefined, percent((reads + writes) / weightAll), undefined, count(reads), count(writes), size(pages * PAGE)],
      meter: [1, (reads + writes) / heaviest],
      show: () => { const m = mappings[mapping]; if (m) choose(m.cell, m.end); },
    })),
  },
  Mappings: {
    columns: [["Address", "mono"], ["Name", "w"], ["Size", "n"], ["Access", "mono"], ["Heat", "n"], ["Seen", "n"], ["Not in use", "n"], ["Not written", "n"], ["Unknown", "n"]],
    sort: 4,
    rows: mappings.map(m => ({
      values: [m.page, m.name, m.pages, m.access, m.busy, m.seen, m.idle, m.half, m.pages - m.seen - m.idle - m.half],
      texts: [hex(m, 0), undefined, size(m.pages * PAGE), undefined, size(m.busy * PAGE), size(m.seen * PAGE), size(m.idle * PAGE), size(m.half * PAGE), size((m.pages - m.seen - m.idle - m.half) * PAGE)],
      meter: [4, m.busy / mapBusiest],
      show: () => choose(m.cell, m.end),
    })),
  },
};
if (variables.length) {
  TABLES.Variables = {
    columns: [["Address", "mono"], ["Name", "w mono"], ["Type", "w mono"], ["Size", "n"], ["Heat", ""]],
    sort: 4,
    rows: variables.flatMap(v => {
      const m = mappings.find(m => m.start <= v.from && v.from < m.start + BigInt(m.pages) * 4096n);
      if (!m) return [];
      const cell = m.cell + Math.floor(Number((v.from - m.start) / 4096n) / grain), level = levelOf(cell, "all");
      const end = m.cell + Math.ceil(Number((v.until - m.start + 4095n) / 4096n) / grain);
      return [{ values: [Number(v.from), v.name, v.type, Number(v.until - v.from), level], texts: ["0x" + v.from.toString(16), undefined, undefined, size(Number(v.until - v.from)), often(level)], show: () => choose(cell, Math.max(cell + 1, end)) }];
    }),
  };
}
let current = "Ranges", limit = 50;
const sorts = {};
for (const [name, t] of Object.entries(TABLES)) {
  sorts[name] = { column: t.sort, down: true };
  for (const row of t.rows) row.text = row.values.concat(row.texts).join(" ").toLowerCase();
}
const drawTable = () => {
  const t = TABLES[current], sort = sorts[current], words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = t.rows.filter(row => words.every(word => row.text.includes(word)));
  rows.sort((a, b) => {
    const x = a.values[sort.column], y = b.values[sort.column];
    const by = typeof x === "number" ? x - y : String(x).localeCompare(String(y));
    return sort.down ? -by : by;
  });
  const made = element("table"), head = element("tr");
  t.columns.forEach(([name, className], column) => {
    const cell = element("th", undefined, className.includes("n") && !className.includes("mono") ? "n" : ""), button = element("button", name);
    button.type = "button";
    if (column === sort.column) cell.setAttribute("aria-sort", sort.down ? "descending" : "ascending");
    button.onclick = () => {
      sorts[current] = { column, down: column === sort.column ? !sort.down : className === "n" };
      drawTable();
    };
    cell.append(button);
    head.append(cell);
  });
  const thead = element("thead"), body = element("tbody");
  thead.append(head);
  for (const row of rows.slice(0, limit)) {
    const line = element("tr");
    line.tabIndex = 0;
    t.columns.forEach(([, className], column) => {
      const text = (row.texts || [])[column], cell = element("td", text === undefined ? row.values[column] : text, className);
      if (row.meter && row.meter[0] === column) cell.append(meter(row.meter[1]));
      line.append(cell);
    });
    const act = () => {
      for (const other of body.children) other.classList.remove("on");
      line.classList.add("on");
      row.show();
      if (!matchMedia("(min-width: 901px)").matches) $("map").scrollIntoView({ behavior: "smooth" });
    };
    line.onclick = act;
    line.onkeydown = event => { if (event.key === "Enter") act(); };
    body.append(line);
  }
  made.append(thead, body);
  const scroll = element("div", undefined, "scroll");
  scroll.append(made);
  $("table").replaceChildren(scroll);
  if (!rows.length) $("table").append(element("p", "Nothing.", "muted"));
  if (rows.length > limit) {
    const more = element("button", `Show more of ${count(rows.length)}`, "quiet more");
    more.style.fontSize = "15px";
    more.onclick = () => { limit += 200; drawTable(); };
    $("table").append(more);
  }
  if (current === "Code" && data.codesMore) $("table").append(element("p", `${count(data.codesMore)} lighter code sites are only in the JSON.`, "muted"));
};
for (const name of Object.keys(TABLES)) {
  const button = element("button", name);
  button.type = "button";
  button.setAttribute("role", "tab");
  button.setAttribute("aria-selected", String(name === current));
  button.onclick = () => {
    current = name; limit = 50;
    for (const other of $("tabs").children) other.setAttribute("aria-selected", String(other === button));
    drawTable();
  };
  $("tabs").append(button);
}
$("filter").oninput = drawTable;

// ---- head and legend ----------------------------------------------------------------------

const fillHead = () => {
  const seen = mappings.reduce((sum, m) => sum + m.seen, 0), idle = mappings.reduce((sum, m) => sum + m.idle, 0);
  const halves = mappings.reduce((sum, m) => sum + m.half, 0), unknown = Math.max(0, pagesAll - seen - idle - halves), all = Math.max(1, pagesAll);
  const made = data.samples.map(([name, n]) => `${count(n)} from ${name}`).join(", ");
  $("about").textContent = `${data.windows} window${data.windows === 1 ? "" : "s"}, ${(data.milliseconds / 1000).toFixed(1)} s in all, the newest ended ${data.newest}. Samples: ${made || "none"}.`;
  const parts = [["Seen in use", seen, "--hot"], ["Not in use", idle, "--idle"], ["Not written, perhaps read", halves, "--half"], ["Unknown", unknown, "--unknown"]];
  $("shares").replaceChildren();
  $("tiles").replaceChildren();
  $("shares").setAttribute("aria-label", parts.map(([name, pages]) => `${name} ${percent(pages / all)}`).join(", "));
  const tile = (name, pages, swatch) => {
    const box = element("div"), term = element("dt"), value = element("dd", size(pages * PAGE));
    if (swatch) { const mark = element("i"); mark.style.background = `var(${swatch})`; term.append(mark); }
    term.append(name);
    if (swatch) value.append(element("small", percent(pages / all)));
    box.append(term, value);
    $("tiles").append(box);
  };
  tile("Mapped", pagesAll);
  for (const [name, pages, swatch] of parts) {
    const bar = element("i");
    bar.style.width = pages / all * 100 + "%";
    bar.style.background = `var(${swatch})`;
    $("shares").append(bar);
    tile(name, pages, swatch);
  }
};
const legend = () => {
  const made = [];
  for (const [name, packed] of [["unknown: never seen, not watched", table[258]], ["not written, loads not watched", table[257]], ["watched, not in use", table[256]]]) {
    const span = element("span"), mark = element("i");
    mark.style.background = `rgb(${packed & 255} ${packed >> 8 & 255} ${packed >> 16 & 255})`;
    span.append(mark, name);
    made.push(span);
  }
  const span = element("span"), ramp = element("div", undefined, "ramp");
  ramp.style.background = `linear-gradient(90deg, ${theme.ramp.join(", ")})`;
  span.append("in use <1%", ramp, "all of the time");
  made.push(span);
  $("legend").replaceChildren(...made);
};
const dress = name => {
  document.documentElement.dataset.theme = name;
  paint(); legend(); draw();
};
$("theme").onclick = () => dress(document.documentElement.dataset.theme === "dark" ? "light" : "dark");

const focus = $("focus");
focus.append(new Option("All memory", ""));
for (const m of [...mappings].sort((a, b) => b.busy - a.busy || b.pages - a.pages).slice(0, 200)) {
  focus.append(new Option(`${base(m.name)} · ${size(m.pages * PAGE)} · ${m.access}`, m.index));
}
focus.onchange = () => {
  if (focus.value === "") { reset(); return; }
  const m = mappings[Number(focus.value)];
  choose(m.cell, m.end);
};
if (!moments.length) document.querySelector('[data-view="time"]').disabled = true;
// `#view=hilbert&metric=reads&theme=dark&table=Code` opens the page like that.
const wish = new URLSearchParams(location.hash.slice(1));
for (const key of ["view", "metric"]) {
  const button = document.querySelector(`[data-${key}="${CSS.escape(wish.get(key) || "")}"]`);
  if (button) button.click();
}
if (TABLES[wish.get("table")]) [...$("tabs").children].find(b => b.textContent === wish.get("table")).click();
fillHead();
drawTable();
const first = data.ranges[0];
showInfo(first ? hottest(...stretch(first)) : -1);
dress(wish.get("theme") || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
new ResizeObserver(resize).observe(canvas);
resize();
})();
