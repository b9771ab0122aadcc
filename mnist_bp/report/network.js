"use strict";
// The network of a report: decoding its weights, preparing a drawing, and the forward pass. These functions know nothing
// of the page; report.js calls them. See mnist_bp/report/script_data.py for the names of the data.

const activations = {
  sigmoid: (z) => 1 / (1 + Math.exp(-z)),
  relu: (z) => Math.max(z, 0),
};

/** Returns x W + b, shape (columns), for x (rows), W (rows, columns) and b (columns). */
function affine(x, W, b) {
  const z = Float64Array.from(b);
  x.forEach((value, row) => {
    if (value === 0) return;
    for (let column = 0; column < z.length; column++) z[column] += value * W[row * z.length + column];
  });
  return z;
}

const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
const floats = (text) => new Float32Array(bytes(text).buffer);

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const share = new Map([...DIGITS].map((digit, i) => [digit.charCodeAt(0), (i - 31) / 31]));

/** Returns the smallest of some places, and over how many places they extend. */
function extent(places) {
  const [low, high] = places.reduce(([low, high], at) => [Math.min(low, at), Math.max(high, at)], [Infinity, 0]);
  return [low, high - low + 1];
}

/** Calls back with each of `count` new pixels that an old one of `size` overlaps, and by how much of 1 / count. */
function overlaps(old, size, count, callback) {
  const [start, end] = [old * count, (old + 1) * count];
  for (let at = Math.floor(start / size); at * size < end; at++) {
    callback(at, Math.min((at + 1) * size, end) - Math.max(at * size, start));
  }
}

globalThis.network = {
  bytes,

  /** Returns the hidden activations a1 (H) and the outputs a2 (K) for pixels in [0, 255] (D): the equations of
   * mnist_bp/model/backprop.py. */
  forward({ W1, b1, W2, b2 }, activation, pixels) {
    const x = Float64Array.from(pixels, (pixel) => pixel / 255);
    const a1 = affine(x, W1, b1).map(activations[activation]);
    const a2 = affine(a1, W2, b2).map(activations.sigmoid);
    return { a1, a2 };
  },

  /** Returns the models of all snapshots, each with W1 (D, H), b1 (H), W2 (H, K) and b2 (K), row by row. */
  decode({ W1: text, hidden, classes, snapshots }) {
    const last = floats(text);
    return snapshots.map(({ levels, largest, rest }) => {
      const W1 = last.slice();
      if (levels) {
        const difference = floats(largest); // for each unit
        for (let i = 0; i < W1.length; i++) W1[i] += difference[i % hidden] * share.get(levels.charCodeAt(i));
      }
      const values = floats(rest);
      const end = hidden + hidden * classes;
      return { W1, b1: values.slice(0, hidden), W2: values.slice(hidden, end), b2: values.slice(end) };
    });
  },

  /** Returns the model at a place between two others: 2.5 is halfway from the third to the fourth. */
  between(models, place) {
    const [from, to, part] = [models[Math.floor(place)], models[Math.ceil(place)], place % 1];
    if (part === 0) return from;
    const mix = (name) => from[name].map((value, i) => value + part * (to[name][i] - value));
    return { W1: mix("W1"), b1: mix("b1"), W2: mix("W2"), b2: mix("b2") };
  },

  /** Returns an image of columns x rows pixels for a drawing of a width: the mean of its ink, in [0, 255], over the area
   * of each pixel, row by row. */
  shrink(ink, width, { width: columns, height: rows }) {
    const height = ink.length / width;
    const sums = new Float64Array(columns * rows);
    for (let i = 0; i < ink.length; i++) {
      if (ink[i] === 0) continue;
      overlaps(Math.floor(i / width), height, rows, (row, high) => {
        overlaps(i % width, width, columns, (column, wide) => {
          sums[row * columns + column] += ink[i] * high * wide;
        });
      });
    }
    return Uint8Array.from(sums, (sum) => Math.floor((2 * sum + width * height) / (2 * width * height)));
  },

  /** Returns an image of side x side pixels, with a digit in a box of box x box, for a drawing of a width: its ink, in
   * [0, 255], row by row. The steps, and the bytes, are those of mnist_bp/data/digits.py. */
  prepare(ink, width, { side, box, faintest }) {
    const image = new Uint8Array(side * side);
    const visible = [...ink.keys()].filter((i) => ink[i] >= faintest);
    if (visible.length === 0) return image;
    const [top, h] = extent(visible.map((i) => Math.floor(i / width)));
    const [left, w] = extent(visible.map((i) => i % width));
    const longer = Math.max(h, w);
    const [rows, columns] = [h, w].map((size) => Math.max(1, Math.floor((2 * box * size + longer) / (2 * longer))));

    const sums = new Float64Array(rows * columns);
    for (let i = 0; i < h * w; i++) {
      const [r, c] = [Math.floor(i / w), i % w];
      const value = ink[(top + r) * width + left + c];
      if (value === 0) continue;
      overlaps(r, h, rows, (row, high) => {
        overlaps(c, w, columns, (column, wide) => {
          sums[row * columns + column] += value * high * wide;
        });
      });
    }
    const means = sums.map((sum) => Math.floor((2 * sum + h * w) / (2 * h * w)));
    const darkest = Math.max(...means);
    const digit = means.map((mean) => Math.floor((510 * mean + darkest) / (2 * darkest)));

    const mass = digit.reduce((sum, value) => sum + value, 0);
    const offset = (size, place) => {
      const moment = digit.reduce((sum, value, i) => sum + (2 * place(i) + 1) * value, 0);
      return Math.min(Math.max(side / 2 - Math.floor(moment / (2 * mass)), 0), side - size);
    };
    const down = offset(rows, (i) => Math.floor(i / columns));
    const right = offset(columns, (i) => i % columns);
    digit.forEach((value, i) => {
      image[(down + Math.floor(i / columns)) * side + right + (i % columns)] = value;
    });
    return image;
  },
};
