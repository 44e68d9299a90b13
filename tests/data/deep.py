"""Write 16-bit PNG, TIFF and PPM files from uint16 [H, W, C]; Pillow cannot write them."""

from __future__ import annotations

import struct
import zlib

import numpy as np


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(levels, interlaced=False):
    """Return a PNG of one, two (alpha), three or four channels; rows have the filter Sub."""
    height, width, channels = levels.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    passes = [levels]
    if interlaced:
        starts = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
        passes = [levels[top::down, left::right] for top, left, down, right in starts]
    rows = bytearray()
    for row in (row for part in passes if part.size for row in part):
        plain = np.frombuffer(row.astype(">u2").tobytes(), np.uint8)
        left = np.concatenate([np.zeros(2 * channels, np.uint8), plain[: -2 * channels]])
        rows += b"\x01" + (plain - left).tobytes()
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, int(interlaced))
    data = _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(bytes(rows))) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def tiff(levels, order="<", planar=False, packed=False, extra=None, orientation=1, dtype="u2"):
    """Return a TIFF of one channel, or RGB and perhaps one ``extra`` sample, in one strip (or one per plane)."""
    height, width, channels = levels.shape
    planes = np.moveaxis(levels, 2, 0) if planar else levels[None]
    strips = [np.ascontiguousarray(plane).astype(order + dtype).tobytes() for plane in planes]
    strips = [zlib.compress(strip) for strip in strips] if packed else strips
    size = np.dtype(dtype).itemsize
    kind = {"u": 1, "i": 2, "f": 3}[np.dtype(dtype).kind]
    at, places = 8, []
    for strip in strips:
        places.append(at)
        at += len(strip) + len(strip) % 2
    tags = {
        256: [width],
        257: [height],
        258: [8 * size] * channels,
        259: [8 if packed else 1],
        262: [1 if channels == 1 else 2],
        273: places,
        274: [orientation],
        277: [channels],
        278: [height],
        279: [len(strip) for strip in strips],
        284: [2 if planar else 1],
        339: [kind] * channels,
    }
    if extra is not None:
        tags[338] = [extra]
    body, overflow = bytearray(), bytearray()
    end = at + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        long = tag in (273, 279)
        packed_values = struct.pack(f"{order}{len(values)}{'I' if long else 'H'}", *values)
        if len(packed_values) > 4:
            place = struct.pack(f"{order}I", end + len(overflow))
            overflow += packed_values
        else:
            place = packed_values.ljust(4, b"\0")
        body += struct.pack(f"{order}HHI", tag, 4 if long else 3, len(values)) + place
    data = b"".join(strip + b"\0" * (len(strip) % 2) for strip in strips)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    directory = struct.pack(f"{order}H", len(tags)) + body + struct.pack(f"{order}I", 0)
    return mark + struct.pack(f"{order}I", at) + data + directory + overflow


def ppm(levels, largest=65535, plain=False):
    """Return a PPM (colour) or PGM (grey), binary or as text (``plain``)."""
    height, width, channels = levels.shape
    mark = {(3, False): "P6", (1, False): "P5", (3, True): "P3", (1, True): "P2"}[channels, plain]
    head = f"{mark}\n{width} {height}\n{largest}\n".encode()
    return head + (" ".join(map(str, levels.ravel())).encode() + b"\n" if plain else levels.astype(">u2").tobytes())
