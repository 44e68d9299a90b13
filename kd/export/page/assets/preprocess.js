// From a picture's file to the numbers that the network sees: the steps of kd's own preprocessing, in their order.

import { resize, resizePlane } from "./resample.js";

const STRIP = 4_000_000; // pixels on a canvas at a time: some browsers give a larger canvas no pixels

// Decode a file: turned upright, without colour management, transparency over white. -> a picture in RGB
export async function decode(blob) {
  const bitmap = await createImageBitmap(blob, {
    colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image",
  });
  const { width, height } = bitmap;
  const rows = Math.max(1, Math.min(height, Math.floor(STRIP / width)));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, rows];
  const pen = canvas.getContext("2d", { willReadFrequently: true, alpha: false });
  const data = new Uint8Array(width * height * 3);
  for (let top = 0, out = 0; top < height; top += rows) {
    const high = Math.min(rows, height - top);
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, width, high);
    pen.drawImage(bitmap, 0, top, width, high, 0, 0, width, high);
    const pixels = pen.getImageData(0, 0, width, high).data;
    for (let at = 0; at < pixels.length; at += 4) {
      data[out++] = pixels[at];
      data[out++] = pixels[at + 1];
      data[out++] = pixels[at + 2];
    }
  }
  bitmap.close();
  return { data, width, height, channels: 3 };
}

// Pillow's conversion to "L".
export function toGrey({ data, width, height }) {
  const grey = new Uint8Array(width * height);
  for (let k = 0; k < grey.length; k++) {
    grey[k] = (data[3 * k] * 19595 + data[3 * k + 1] * 38470 + data[3 * k + 2] * 7471 + 0x8000) >> 16;
  }
  return { data: grey, width, height, channels: 1 };
}

// Python's round: halves go to the even neighbour.
const round = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

// kd.data.sizing.to_square. fit: "crop" (the central square), "pad" (black bars) or "squash" (another shape).
// tall: see resize.
export function toSquare(picture, size, fit, tall) {
  const { width, height, channels } = picture;
  if (width === size && height === size) return picture;
  if (fit === "crop" && width !== height) {
    const side = Math.min(width, height);
    const [left, top] = [(width - side) / 2, (height - side) / 2];
    return resize(picture, size, size, [left, top, left + side, top + side], tall);
  }
  if (fit === "pad" && width !== height) {
    const [wide, high] = [width, height].map((side) => Math.max(1, round((side * size) / Math.max(width, height))));
    const inner = resize(picture, wide, high, undefined, tall);
    const square = { data: new Uint8Array(size * size * channels), width: size, height: size, channels };
    const [left, top] = [Math.floor((size - wide) / 2), Math.floor((size - high) / 2)];
    for (let y = 0; y < high; y++) {
      const row = inner.data.subarray(y * wide * channels, (y + 1) * wide * channels);
      square.data.set(row, ((top + y) * size + left) * channels);
    }
    return square;
  }
  return resize(picture, size, size, undefined, tall);
}

// kd.augment.chain.centre_view of a stored square, as the network's input: Float32Array [3, size, size] in [0, 1].
export function toInput(square, size, cropPct) {
  const { data, width: stored, channels } = square;
  const side = Math.max(1, round(stored * cropPct));
  const start = Math.floor((stored - side) / 2);
  const input = new Float32Array(3 * size * size);
  for (let c = 0; c < 3; c++) {
    const plane = new Float32Array(side * side);
    for (let y = 0, out = 0; y < side; y++) {
      for (let x = 0; x < side; x++, out++) {
        plane[out] = data[((start + y) * stored + start + x) * channels + (c % channels)] / 255;
      }
    }
    input.set(side === size ? plane : resizePlane(plane, side, size), c * size * size);
  }
  return input;
}

// A file -> the network's input. `page`: of page.json.
export async function preprocess(blob, page) {
  const square = toSquare(await decode(blob), page.stored_size, page.fit, page.tall_first);
  return toInput(page.channels === 1 ? toGrey(square) : square, page.image_size, page.crop_pct);
}

// Whether a file is a PNG of 16 bits a channel, of which a browser keeps 8.
export async function isDeep(blob) {
  const head = new Uint8Array(await blob.slice(0, 25).arrayBuffer());
  return head.length === 25 && [0x89, 0x50, 0x4e, 0x47].every((byte, k) => head[k] === byte) && head[24] === 16;
}

// Draw the network's input on a canvas.
export function draw(canvas, input, size) {
  [canvas.width, canvas.height] = [size, size];
  const image = new ImageData(size, size);
  for (let k = 0; k < size * size; k++) {
    for (let c = 0; c < 3; c++) image.data[4 * k + c] = Math.round(255 * input[c * size * size + k]);
    image.data[4 * k + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}
