// The page "Try it": the student, an ONNX file, runs in WebAssembly through onnxruntime-web (README.md).
"use strict";

const $ = (id) => document.getElementById(id);
const BUSY = 8; // milliseconds of a frame, of 16.7 at 60 Hz, for images
const SEEDS = 8; // columns of samples: a seed is shown with those of its block of eight
const state = { class: "", seed: 0, with: "", mix: 0, to: 1, walk: 0 }; // what the link carries
let student, session, ort;

// ---- latents: a seed stands for z (z_dim), to the bit the same in every browser ----

// Whole numbers 0 to 2^32 - 1 by mulberry32 (T. Ettinger 2017, public domain).
function mulberry32(seed) {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  };
}

// The natural logarithm for 0 < x <= 1 by + - * / alone: browsers' Math.log may differ in the last bit.
function log(x) {
  let halvings = 0;
  for (; x < 0.7; x *= 2) halvings++;
  const t = (x - 1) / (x + 1);
  let sum = 0;
  for (let n = 25; n > 0; n -= 2) sum = sum * t * t + 1 / n; // 2 artanh(t)
  return 2 * t * sum - halvings * Math.LN2;
}

// From N(0, 1) by Marsaglia's polar method (1964), two numbers for each point inside the unit circle. "uniform": from
// [0, 1), for a student that was trained on such noise.
function latent(seed, size, from = "normal") {
  const next = mulberry32(seed), z = [];
  while (from === "uniform" && z.length < size) z.push(next() / 2 ** 32);
  while (z.length < size) {
    const u = (next() + 0.5) / 2 ** 31 - 1, v = (next() + 0.5) / 2 ** 31 - 1, s = u * u + v * v;
    if (s < 1) z.push(u * Math.sqrt((-2 * log(s)) / s), v * Math.sqrt((-2 * log(s)) / s));
  }
  return Float32Array.from(z.slice(0, size));
}

// Along the great circle from a's direction to b's, the length going linearly from |a| to |b| (Shoemake 1985).
// As gsoc_kd.explorer.slerp.
function slerp(a, b, t) {
  const dot = (p, q) => p.reduce((sum, x, i) => sum + x * q[i], 0);
  const [p, q] = [Array.from(a), Array.from(b)];
  const lengths = [Math.sqrt(dot(p, p)), Math.sqrt(dot(q, q))];
  const angle = Math.acos(Math.min(1, dot(p, q) / lengths[0] / lengths[1])), sine = Math.sin(angle);
  if (t === 0 || sine < 1e-6) return a;
  const length = (1 - t) * lengths[0] + t * lengths[1];
  const shares = [Math.sin((1 - t) * angle), Math.sin(t * angle)].map((x, i) => (x / sine) * (length / lengths[i]));
  return Float32Array.from(p, (x, i) => x * shares[0] + q[i] * shares[1]);
}

const lerp = (a, b, t) => a.map((x, i) => (1 - t) * x + t * b[i]);

// ---- images ----

// z (z_dim) and class weights y (C) -> the bytes of one image, H * W * 3.
async function generate(z, y) {
  const inputs = { z: new ort.Tensor("float32", Float32Array.from(z), [1, student.z_dim]),
                   y: new ort.Tensor("float32", Float32Array.from(y), [1, student.classes.length]) };
  return (await session.run(inputs)).images.data;
}

// What a canvas shows is a point {class, seed, with, mix, to, walk}; a sample of the wall is one without a way.
function inputs(point) {
  const y = student.classes.map((name) => (name === point.class) * (1 - point.mix) + (name === point.with) * point.mix);
  const z = (seed) => latent(seed, student.z_dim, student.z_from);
  const way = student.z_from === "uniform" ? lerp : slerp;
  return [point.walk ? way(z(point.seed), z(point.to), point.walk) : z(point.seed), y];
}

const pure = (name, seed) => ({ class: name, seed, with: name, mix: 0, to: seed, walk: 0 });
const small = document.createElement("canvas"); // the stage's image before it is enlarged
let targets = []; // {canvas, point()}, the most urgent first; each is painted when its point is no more what it shows

function paint(target, bytes) {
  const size = student.resolution, image = new ImageData(size, size);
  for (let i = 0; i < 4 * size * size; i++) image.data[i] = i % 4 < 3 ? bytes[3 * (i >> 2) + (i % 4)] : 255;
  (target.stage ? small : target.canvas).getContext("2d").putImageData(image, 0, 0);
  if (target.stage) enlarge();
}

function enlarge() {
  const context = $("stage").getContext("2d"), size = $("stage").width;
  context.imageSmoothingEnabled = !$("squares").checked;
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, size, size);
}

const frame = () => new Promise(requestAnimationFrame);
let wake = () => {}, made = [], stages = 0, milliseconds = 0; // made: when the last second's images came

// Works for ever: the first target that is not up to date, and others as long as they fit into BUSY milliseconds of a
// frame, which leaves the browser time to show them. What wakes it, the move of a finger, is painted at once.
async function work() {
  for (let begin = await frame(); ; ) {
    const target = targets.find((target) => target.shown !== JSON.stringify(target.point()));
    if (!target) {
      await new Promise((resolve) => (wake = resolve));
      begin = performance.now();
      continue;
    }
    const point = target.point(), start = performance.now();
    paint(target, await generate(...inputs(point)));
    target.shown = JSON.stringify(point);
    target.canvas.classList.add("painted");
    const now = performance.now();
    milliseconds += (milliseconds ? 0.05 : 1) * (now - start - milliseconds);
    made = [...made.filter((time) => now - time < 1000), now];
    stages += target.stage ? 1 : 0; // what docs/try_look.py counts
    if (now - begin + milliseconds > BUSY) begin = await frame();
  }
}

// Four times a second, while there is something to count: images a second, all canvases together.
function speed() {
  const recent = made.filter((time) => performance.now() - time < 1000), first = recent[0];
  if (recent.length < 5) return;
  const rate = (1000 * (recent.length - 1)) / (recent[recent.length - 1] - first);
  $("speed").textContent = `${Math.round(rate)} images/s, ${milliseconds.toFixed(1)} ms each`;
}

// ---- what hands do ----

const block = () => Math.floor(state.seed / SEEDS) * SEEDS;
const following = (seed) => Math.floor(seed / SEEDS) * SEEDS + ((seed + 1) % SEEDS); // in its row
const whole = (text) => Math.min(Math.max(Math.floor(Number(text)) || 0, 0), 2 ** 32 - 1);
const share = (text) => Math.min(Math.max(Number(text) || 0, 0), 1);
const another = (name) => student.classes[(student.classes.indexOf(name) + 1) % student.classes.length];

// Changes the state, and all that shows it. `from` is the control that a finger is on.
function change(some) {
  Object.assign(state, some);
  if (state.with === state.class) state.with = another(state.class);
  if (state.to === state.seed) state.to = following(state.seed);
  show();
  wake();
}

function show() {
  for (const button of $("classes").children) button.setAttribute("aria-pressed", button.textContent === state.class);
  for (const tile of $("wall").querySelectorAll("button")) {
    const seed = block() + Number(tile.dataset.column), name = tile.dataset.class;
    const chosen = name === state.class && seed === state.seed;
    tile.setAttribute("aria-label", `${name}, seed ${seed}`);
    tile.setAttribute("aria-pressed", chosen);
    tile.classList.toggle("end", name === state.class && seed === state.to && state.walk > 0);
    tile.tabIndex = chosen ? 0 : -1;
  }
  for (const id of ["seed", "to", "mix", "walk", "with"]) {
    if ($(id).value !== String(state[id])) $(id).value = state[id];
  }
  $("mix-class").textContent = state.class;
  const percent = (x) => `${Math.round(100 * x)} %`;
  for (const id of ["mix", "walk"]) {
    $(`${id}-share`).textContent = `${id} ${percent(state[id])}`;
    $(id).style.setProperty("--share", percent(state[id]).replace(" ", ""));
  }
  const kind = state.mix ? `${state.class} and ${percent(state.mix)} ${state.with}` : state.class;
  const place = `seed ${state.seed}` + (state.walk ? `, ${percent(state.walk)} of the way to ${state.to}` : "");
  const way = (from, to, x) => from + (x ? ` to ${to}, ${percent(x)}` : "");
  const ways = [way(state.class, state.with, state.mix), way(`seed ${state.seed}`, state.to, state.walk)];
  $("caption").textContent = ways.join("; ");
  $("stage").setAttribute("aria-label", `generated image: ${kind}, ${place}`);
  for (const [id, name, seed] of [["mix-from", state.class, state.seed], ["mix-to", state.with, state.seed],
    ["walk-from", state.class, state.seed], ["walk-to", state.class, state.to]]) {
    $(id).setAttribute("aria-label", `${name}, seed ${seed}`);
  }
  clearTimeout(show.later);
  show.later = setTimeout(() => history.replaceState(null, "", link()), 200); // browsers limit how often
}

// The address: #class=ship&seed=7, and what stands between two classes or seeds only where it does.
function link() {
  const fields = ["class", "seed", ...(state.mix ? ["with", "mix"] : []), ...(state.walk ? ["to", "walk"] : [])];
  return "#" + new URLSearchParams(fields.map((name) => [name, state[name]]));
}

function follow() {
  const given = new URLSearchParams(location.hash.slice(1));
  const known = (name) => student.classes.includes(given.get(name));
  const name = known("class") ? given.get("class") : student.start.class;
  const seed = given.has("seed") ? whole(given.get("seed")) : student.start.seed;
  state.seed = seed;
  change({ class: name, with: known("with") ? given.get("with") : another(name), mix: share(given.get("mix")), seed,
           to: given.has("to") ? whole(given.get("to")) : following(seed), walk: share(given.get("walk")) });
}

let playing = 0;
function play(on) {
  cancelAnimationFrame(playing);
  playing = 0;
  $("play").textContent = on ? "pause" : "play";
  $("play").setAttribute("aria-pressed", on);
  let before = performance.now();
  const step = (now) => {
    const walk = state.walk + Math.min(now - before, 100) / 2500; // 2.5 s from seed to seed
    before = now;
    change(walk < 1 ? { walk } : { seed: state.to, to: following(state.to), walk: walk - 1 });
    playing = requestAnimationFrame(step);
  };
  if (on) playing = requestAnimationFrame(step);
}

function choose(tile) {
  const seed = block() + Number(tile.dataset.column);
  play(false);
  change({ class: tile.dataset.class, seed, to: following(seed), mix: 0, walk: 0 });
}

function save() {
  const parts = ["gsoc_kd", state.class, ...(state.mix ? [state.with, state.mix] : []), `seed${state.seed}`];
  $("stage").toBlob((blob) => {
    const file = document.createElement("a");
    file.download = [...parts, ...(state.walk ? [`to${state.to}`, state.walk] : [])].join("-") + ".png";
    file.href = URL.createObjectURL(blob);
    file.click();
    setTimeout(() => URL.revokeObjectURL(file.href), 10000);
  });
}

async function copy() {
  history.replaceState(null, "", link());
  await navigator.clipboard.writeText(location.href);
  $("copy").textContent = "copied";
  setTimeout(() => ($("copy").textContent = "copy link"), 1500);
}

// Arrow keys inside the wall: a tile that gets the focus this way is chosen.
function arrows(event) {
  const tiles = [...$("wall").querySelectorAll("button")], at = tiles.indexOf(document.activeElement);
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -SEEDS, ArrowDown: SEEDS }[event.key];
  if (at < 0 || !step || !tiles[at + step]) return;
  event.preventDefault();
  tiles[at + step].focus();
  choose(tiles[at + step]);
}

// ---- the page ----

function element(parent, name, fields = {}) {
  return parent.appendChild(Object.assign(document.createElement(name), fields));
}

function build() {
  const size = student.resolution;
  $("parameters").textContent = student.parameters.toLocaleString("en");
  $("kilobytes").textContent = Math.round(student.bytes / 1000);
  $("pixels").textContent = size;
  small.width = small.height = size;
  const at = (change) => () => ({ ...state, ...change }); // the state, but for this
  targets.push({ canvas: $("stage"), stage: true, point: () => ({ ...state }) });
  targets.push({ canvas: $("mix-from"), point: at({ mix: 0 }) }, { canvas: $("mix-to"), point: at({ mix: 1 }) });
  targets.push({ canvas: $("walk-from"), point: at({ walk: 0 }) }, { canvas: $("walk-to"), point: at({ walk: 1 }) });
  for (const name of student.classes) {
    element($("classes"), "button", { textContent: name, onclick: () => change({ class: name, mix: 0 }) });
    element($("with"), "option", { textContent: name, value: name });
    const row = element($("wall"), "div", { className: "row", role: "row" });
    element(row, "span", { textContent: name, role: "rowheader" });
    for (let column = 0; column < SEEDS; column++) {
      const tile = element(element(row, "div", { role: "gridcell" }), "button", { onclick: (event) => tapped(event) });
      Object.assign(tile.dataset, { class: name, column });
      const canvas = element(tile, "canvas", { width: size, height: size });
      targets.push({ canvas, point: () => pure(name, block() + column) });
    }
  }
  for (const { canvas, stage } of targets.slice(0, 5)) if (!stage) canvas.width = canvas.height = size;
}

function tapped(event) {
  choose(event.currentTarget);
  const box = $("stage").getBoundingClientRect(); // on a phone the wall is below the stage
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (box.bottom < 120) $("stage").scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
}

function listen() {
  $("mix").oninput = () => change({ mix: share($("mix").value) });
  $("walk").oninput = () => (play(false), change({ walk: share($("walk").value) }));
  $("with").onchange = () => change({ with: $("with").value, ...($("with").value === state.class && { mix: 0 }) });
  $("seed").onchange = () => change({ seed: whole($("seed").value) });
  $("to").onchange = () => change({ to: whole($("to").value) });
  $("new").onclick = () => {
    state.seed = SEEDS * Math.floor(Math.random() * 12500);
    change({ to: following(state.seed) });
  };
  $("play").onclick = () => play(!playing);
  for (const id of ["mix", "walk"]) { // a click on an end goes there
    $(`${id}-from`).onclick = () => (play(false), change({ [id]: 0 }));
    $(`${id}-to`).onclick = () => (play(false), change({ [id]: 1 }));
  }
  $("save").onclick = save;
  $("copy").onclick = copy;
  $("copy").hidden = !navigator.clipboard; // browsers have it on https and localhost
  $("squares").onchange = enlarge;
  $("wall").onkeydown = arrows;
  onhashchange = follow;
}

// A file as bytes; the bar shows how much of it is there.
async function load(address, bytes) {
  const response = await fetch(address), parts = [], reader = response.body.getReader();
  if (!response.ok) throw new Error(`${address}: ${response.status} ${response.statusText}`);
  let size = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    size += part.value.length;
    $("progress").value = size / bytes;
    $("progress-text").textContent = `loading ${(size / 1e6).toFixed(1)} of ${(bytes / 1e6).toFixed(1)} MB, once`;
  }
  return new Blob(parts).arrayBuffer();
}

async function main() {
  student = await (await fetch("student.json")).json();
  build();
  ort = await import("./runtime/ort.wasm.bundle.min.mjs");
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = 1; // more threads would need headers that many servers do not send
  ort.env.wasm.wasmBinary = await load("runtime/ort-wasm-simd-threaded.wasm", student.runtime_bytes);
  session = await ort.InferenceSession.create(await load("student.onnx", student.bytes));
  listen();
  follow();
  document.querySelector("main").inert = false;
  $("loading").hidden = true;
  setInterval(speed, 250);
  work().catch(trouble);
}

function trouble(error) {
  $("loading").hidden = true;
  $("trouble").hidden = false;
  document.querySelector("main").hidden = !session;
  const how = "python -m http.server -d build/site, then open http://localhost:8000/try/";
  $("trouble").textContent = location.protocol === "file:"
    ? `Browsers do not run WebAssembly from files. Type: ${how}`
    : `The generator could not be started (${error.message ?? error}). Reload the page, or try another browser.`;
  throw error;
}

main().catch(trouble);
