"use strict";
// The script of a report: its model reads what is drawn, and a slider shows what it was at each checkpoint.
// Without it, the page shows the model after the last step. Nothing is fetched.

const find = (selector) => document.querySelector(selector);
const all = (selector) => [...document.querySelectorAll(selector)];
const run = JSON.parse(find("#run").textContent);
const models = network.decode(run);
const last = models.length - 1;
let model = models[last];

// ---------------------------------------------------------------------------------------------------------------------
// What the network reads

const pad = find("#pad");
const pen = pad.getContext("2d", { willReadFrequently: true });
const seen = find("#seen");
const outputs = all("#outputs li");
const cells = []; // of the hidden units
let pixels; // what the model reads
let loaded = false; // whether they are a test image, which is read as it is

function digitCanvas() {
  return Object.assign(document.createElement("canvas"), { width: run.width, height: run.height });
}

function paintDigit(canvas, values) {
  const picture = new ImageData(run.width, run.height);
  values.forEach((value, i) => picture.data.set([255, 255, 255, value], 4 * i));
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

/** Shows how the model reads the pixels. */
function read() {
  const { a1, a2 } = network.forward(model, run.activation, pixels);
  const blank = pixels.every((pixel) => pixel === 0);
  const best = a2.indexOf(Math.max(...a2));
  const brightest = run.activation === "relu" ? Math.max(...a1) || 1 : 1;
  cells.forEach((cell, unit) => cell.style.setProperty("--lit", blank ? 0 : (a1[unit] / brightest).toFixed(3)));
  outputs.forEach((row, label) => {
    row.classList.toggle("best", label === best && !blank);
    row.style.setProperty("--output", blank ? 0 : a2[label].toFixed(4));
    row.lastElementChild.textContent = blank ? "" : a2[label].toFixed(2);
  });
  find("#verdict").textContent = blank ? "" : run.names[best];
  find("#verdict").classList.toggle("long", run.names[best].length > 2);
  find("#certainty").textContent = blank ? "nothing to read" : a2[best] < 0.5 ? "not sure, perhaps" : "read as";
  paintDigit(seen, pixels);
}

function clear() {
  pen.clearRect(0, 0, pad.width, pad.height);
  loaded = false;
  pixels = new Uint8Array(run.width * run.height);
  read();
}

/** Reads a test image, given as base64. */
function load(text) {
  clear();
  loaded = true;
  pixels = network.bytes(text);
  read();
  pen.imageSmoothingEnabled = false;
  pen.drawImage(seen, 0, 0, pad.width, pad.height);
}

let waiting = false;
function readDrawing() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    if (loaded) return;
    const { data } = pen.getImageData(0, 0, pad.width, pad.height);
    const ink = Uint8Array.from({ length: data.length / 4 }, (_, i) => data[4 * i + 3]);
    pixels = (run.prepared ? network.prepare : network.shrink)(ink, pad.width, run);
    read();
  });
}

let tip; // of the pen

function at({ offsetX, offsetY }) {
  return [(offsetX * pad.width) / pad.clientWidth, (offsetY * pad.height) / pad.clientHeight];
}

/** Draws from the tip to where the pointer is. */
function draw(event) {
  pen.beginPath();
  pen.moveTo(...tip);
  for (const step of [...(event.getCoalescedEvents?.() ?? []), event]) pen.lineTo(...at(step)); // not in older Safari
  pen.stroke();
  tip = at(event);
  readDrawing();
}

pad.addEventListener("pointerdown", (event) => {
  if (!run.drawn) return;
  if (loaded) clear();
  pad.setPointerCapture(event.pointerId);
  Object.assign(pen, {
    lineWidth: Math.max(22, (1.1 * pad.width) / run.width),
    lineCap: "round",
    lineJoin: "round",
    strokeStyle: "white",
  });
  tip = at(event);
  draw(event);
});
pad.addEventListener("pointermove", (event) => {
  if (pad.hasPointerCapture(event.pointerId)) draw(event);
});
find("#clear").addEventListener("click", clear);

for (const { label, pixels: text } of run.images) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", className: "digit", ariaLabel: `Load a test image: ${run.names[label]}` });
  const thumbnail = button.appendChild(digitCanvas());
  paintDigit(thumbnail, network.bytes(text));
  button.addEventListener("click", () => load(text));
  find("#tray").append(button);
}
for (const button of all("button[data-pixels]")) {
  button.disabled = false;
  button.addEventListener("click", () => {
    load(button.dataset.pixels);
    find("#draw").scrollIntoView();
  });
}

// ---------------------------------------------------------------------------------------------------------------------
// The checkpoints

const slider = find("#slider");
const tiles = all(".units img").map((image) => {
  const tile = Object.assign(digitCanvas(), { role: "img", ariaLabel: image.alt });
  image.replaceWith(tile);
  cells.push(find("#cells").appendChild(digitCanvas()));
  return tile;
});

/** Draws the hidden units: how their weights changed since the first step, or the weights. */
function paintUnits() {
  const start = last > 0 && !find("#as-weights").checked ? models[0].W1 : null;
  const full = start ? run.fullScale.change : run.fullScale.weights;
  tiles.forEach((tile, unit) => {
    const picture = new ImageData(run.width, run.height);
    for (let d = 0; d < run.width * run.height; d++) {
      const at = d * run.hidden + unit;
      const value = (model.W1[at] - (start ? start[at] : 0)) / full;
      picture.data.set(run.colours[value > 0 ? "positive" : "negative"], 4 * d);
      picture.data[4 * d + 3] = 255 * Math.min(1, Math.abs(value));
    }
    for (const canvas of [tile, cells[unit]]) canvas.getContext("2d").putImageData(picture, 0, 0);
  });
}

/** Writes the figures of a snapshot. */
function writeFigures({ step, accuracy, cells: rows, bars, barScale, x }) {
  rows.forEach((row, label) =>
    row.forEach(([count, shade], column) => {
      const cell = find(".confusion tbody").rows[label].cells[column + 1];
      cell.textContent = count;
      cell.className = column === label ? "right" : count ? "wrong" : "none";
      cell.style.setProperty("--shade", `${shade}%`);
    })
  );
  bars.forEach(([share, width], label) => {
    const row = find(".classes tbody").rows[label];
    row.querySelector(".bar span").style.width = `${width}%`;
    row.cells[2].textContent = share;
  });
  find("#bar-scale").textContent = barScale;
  for (const line of all(".cursor")) line.setAttribute("transform", `translate(${x} 0)`);
  for (const place of all(".at-step")) place.textContent = step.toLocaleString("en");
  find("#at-accuracy").textContent = accuracy;
  slider.ariaValueText = `step ${step.toLocaleString("en")}, accuracy ${accuracy}`;
}

const still = matchMedia("(prefers-reduced-motion: reduce)");
let place = last; // between snapshots while it moves

/** Moves to the snapshot that the slider is at, in a quarter of a second. */
function move() {
  const [from, to, start] = [place, Number(slider.value), performance.now()];
  writeFigures(run.snapshots[to]);
  const advance = (now) => {
    if (Number(slider.value) !== to) return;
    const share = still.matches ? 1 : Math.min(1, Math.max(0, (now - start) / 250));
    place = share === 1 ? to : from + share * (to - from);
    model = network.between(models, place);
    paintUnits();
    read();
    if (share < 1) requestAnimationFrame(advance);
  };
  requestAnimationFrame(advance);
}

let timer = 0; // 0 unless it plays

function pause() {
  clearInterval(timer);
  timer = 0;
  find("#play").textContent = "Play";
}

/** Goes to the next snapshot, and from the last to the first; it pauses at the last. */
function advanceSlider() {
  slider.value = (Number(slider.value) + 1) % models.length;
  move();
  if (Number(slider.value) === last) pause();
}

slider.addEventListener("input", () => {
  pause();
  move();
});
find("#play").addEventListener("click", () => {
  if (timer) return pause();
  find("#play").textContent = "Pause";
  timer = setInterval(advanceSlider, 600);
  advanceSlider();
});
find("#as-weights").addEventListener("change", paintUnits);

slider.value = last; // a browser restores where it was
for (const part of all("[data-scripted]")) part.hidden = part.dataset.scripted === "steps" && last === 0;
paintUnits();
load(run.images.find(({ label }) => label === run.shown).pixels);
