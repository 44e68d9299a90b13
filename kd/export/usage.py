"""The lines of a model card that use its files, made for one network: they prepare images exactly as its run did.

The lines for ``student.onnx`` need onnxruntime, NumPy and Pillow alone; a test runs them without anything else.
"""

from __future__ import annotations

from collections.abc import Iterator

from kd.data.bit_depth import MAX_16_BIT
from kd.inference.description import Description

BILINEAR = "Image.Resampling.BILINEAR"


def onnx_lines(description: Description, file: str = "student.onnx") -> str:
    """Return a program that prints the class of each image in a folder: twelve lines, a few more where the images
    are padded, cropped twice or deeper than 8 bits."""
    body = [
        *_prepare(description),
        'logits = session.run(["logits"], {"images": pixels})[0][0]',
        "odds = np.exp(logits - logits.max())",
        'print(path.name, classes[odds.argmax()], f"{odds.max() / odds.sum():.1%}", sep="\\t")',
    ]
    lines = [
        "import json, pathlib, sys, numpy as np, onnxruntime",
        "from PIL import Image, ImageOps",
        f'session = onnxruntime.InferenceSession("{file}")',
        'classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])',
        "for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):",
        *(f"    {line}" for line in body),
    ]
    return "\n".join(lines)


def kd_lines(deploy: str = "deploy") -> str:
    """Return three lines that use the weights with kd."""
    return "\n".join(
        [
            "import kd",
            f'model = kd.load("{deploy}")',
            'print(model.classes[model(model.preprocess("image.jpg")).argmax()])',
        ]
    )


def timm_lines(deploy: str = "deploy") -> str:
    """Return lines that load the folder with timm alone."""
    return "\n".join(
        [
            "import timm",
            "from PIL import Image",
            f'model = timm.create_model("local-dir:{deploy}", pretrained=True).eval()',
            "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))",
            'image = transform(Image.open("image.jpg").convert("RGB"))[None]  # normalised, unlike kd\'s',
            'print(model.pretrained_cfg["label_names"][model(image).argmax()])',
        ]
    )


def _prepare(description: Description) -> Iterator[str]:
    """Yield the lines from ``path`` to ``pixels``, float32 [1, 3, S, S] in [0, 1]: ``kd.inference.preprocess``."""
    white, given = description.white
    if (white, given) == (MAX_16_BIT, False):
        yield 'image = ImageOps.exif_transpose(Image.open(path)).convert("RGBA")'
    else:
        level = f"np.clip(np.asarray(image, float), 0, {white:g}) * 255 / {white:g} + 0.5"
        yield "image = ImageOps.exif_transpose(Image.open(path))"
        yield 'if image.mode[0] in "IF":  # grey of more than 8 bits'
        yield f"    image = Image.fromarray(({level}).astype(np.uint8))"
        yield 'image = image.convert("RGBA")'
    yield 'image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")'
    yield from _square(description.stored_size, description.fit)
    if description.channels == 1:
        yield 'image = image.convert("L").convert("RGB")'
    yield from _view(description)


def _square(side: int, fit: str) -> Iterator[str]:
    """Yield what makes an image a square, as ``kd.data.sizing.to_square``."""
    size = f"({side}, {side})"
    if fit == "crop":
        yield f"image = ImageOps.fit(image, {size}, {BILINEAR})"
    elif fit == "squash":
        yield f"image = image.resize({size}, {BILINEAR})"
    else:
        yield f"width, height = (max(1, round(side * {side} / max(image.size))) for side in image.size)"
        yield f'inner, image = image.resize((width, height), {BILINEAR}), Image.new("RGB", {size})'
        yield f"image.paste(inner, (({side} - width) // 2, ({side} - height) // 2))"


def _view(description: Description) -> Iterator[str]:
    """Yield what evaluation shows of the square, as ``kd.augment.chain.centre_view``: its centre, resized in float."""
    stored, size = description.stored_size, description.image_size
    side = max(1, round(stored * description.crop_pct))
    if side < stored:
        start = (stored - side) // 2
        yield f"image = image.crop(({start}, {start}, {start + side}, {start + side}))"
    if side == size:
        yield "pixels = np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 255"
    else:
        yield "bands = np.asarray(image, np.float32).transpose(2, 0, 1)"
        yield f"bands = [Image.fromarray(band).resize(({size}, {size}), {BILINEAR}) for band in bands]"
        yield "pixels = np.stack(bands)[None] / 255"
