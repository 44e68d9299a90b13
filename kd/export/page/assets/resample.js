// Bilinear resampling with antialiasing, as Pillow does it in 8 bits and as torch does it in floating point.
// A picture is { data, width, height, channels }: rows from the top, the channels of a pixel side by side.

const BITS = 22; // of Pillow's fixed-point weights: 8 bits of a pixel and 2 of headroom leave 22 of 32

// For each of `size` output pixels: the first input pixel, and the weights of it and its successors.
// `from` and `to` bound the part of the `length` input pixels that is resized; they need not be whole.
export function windows(length, from, to, size) {
  const scale = (to - from) / size;
  const support = Math.max(scale, 1); // half the width of the triangle, in input pixels
  return Array.from({ length: size }, (_, k) => {
    const centre = from + (k + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(length, Math.trunc(centre + support + 0.5));
    const weights = new Float64Array(Math.max(0, end - first));
    let sum = 0;
    for (let j = 0; j < weights.length; j++) {
      weights[j] = Math.max(0, 1 - Math.abs((j + first - centre + 0.5) * (1 / support)));
      sum += weights[j];
    }
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

const fixed = (all) => all.map(({ first, weights }) => ({
  first, weights: Int32Array.from(weights, (weight) => Math.trunc(0.5 + weight * (1 << BITS))),
}));

// Pillow's Image.resize((width, height), BILINEAR, box): rounded to 8 bits after each of the two passes.
// tall: whether a picture that shrinks much more in height than in width has its vertical pass first, as from Pillow 13.
export function resize(picture, width, height, box = [0, 0, picture.width, picture.height], tall = true) {
  const columns = fixed(windows(picture.width, box[0], box[2], width));
  const rows = fixed(windows(picture.height, box[1], box[3], height));
  const less = picture.height - height;
  if (tall && less > 0 && less > 2 * (picture.width - width)) return across(down(picture, rows), columns);
  const top = rows[0].first; // the rows above and below those that count are not looked at
  const end = rows.at(-1).first + rows.at(-1).weights.length;
  const stride = picture.width * picture.channels;
  const part = { ...picture, data: picture.data.subarray(top * stride, end * stride), height: end - top };
  return down(across(part, columns), rows.map(({ first, weights }) => ({ first: first - top, weights })));
}

function across({ data, width, height, channels }, columns) {
  const out = new Uint8Array(height * columns.length * channels);
  for (let y = 0, k = 0; y < height; y++) {
    for (const { first, weights } of columns) {
      for (let c = 0; c < channels; c++, k++) {
        let sum = 1 << (BITS - 1);
        for (let j = 0, at = (y * width + first) * channels + c; j < weights.length; j++, at += channels) {
          sum += data[at] * weights[j];
        }
        out[k] = Math.min(255, sum >> BITS);
      }
    }
  }
  return { data: out, width: columns.length, height, channels };
}

function down({ data, width, channels }, rows) {
  const stride = width * channels;
  const out = new Uint8Array(rows.length * stride);
  rows.forEach(({ first, weights }, y) => {
    for (let x = 0; x < stride; x++) {
      let sum = 1 << (BITS - 1);
      for (let j = 0, at = first * stride + x; j < weights.length; j++, at += stride) sum += data[at] * weights[j];
      out[y * stride + x] = Math.min(255, sum >> BITS);
    }
  });
  return { data: out, width, height: rows.length, channels };
}

// torch's F.interpolate(mode="bilinear", antialias=True) of one square plane: [from, from] -> [to, to].
export function resizePlane(plane, from, to) {
  const all = windows(from, 0, from, to);
  const middle = new Float32Array(from * to);
  const out = new Float32Array(to * to);
  for (let y = 0; y < from; y++) {
    all.forEach(({ first, weights }, x) => {
      let sum = 0;
      weights.forEach((weight, j) => { sum += plane[y * from + first + j] * weight; });
      middle[y * to + x] = sum;
    });
  }
  all.forEach(({ first, weights }, y) => {
    for (let x = 0; x < to; x++) {
      let sum = 0;
      for (let j = 0; j < weights.length; j++) sum += middle[(first + j) * to + x] * weights[j];
      out[y * to + x] = sum;
    }
  });
  return out;
}
