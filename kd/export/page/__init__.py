"""``deploy/page/``: a static page that runs the student in a browser, without a server and without a network.

The page is plain HTML, CSS and JavaScript, copied as it is from ``assets/``. What is particular to a student lies in
``page.json``, which the script reads: class names never become part of the page's code.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image

from kd.export.card_header import data_set_name
from kd.export.page.examples import Examples, pick_examples
from kd.export.page.ort_web import VERSION, runtime_files
from kd.inference.description import Description
from kd.store.files import make_folder, share_folder

__all__ = ["Examples", "pick_examples", "write_page"]

ASSETS = Path(__file__).parent / "assets"
MODEL = "student.onnx"
# Pillow 13 resizes a picture that shrinks much more in height than in width vertically first, which rounds differently
TALL_FIRST = int(PIL.__version__.split(".")[0]) >= 13


def write_page(
    deploy: Path, description: Description, examples: Examples | None = None, ort_web: Path | None = None
) -> Path:
    """Write ``deploy/page/``, whole or not at all, and return it. A page that is there is replaced.

    Args:
        deploy: holds ``student.onnx``.
        examples: test images with recorded answers; None where there are none, as for a single file.
        ort_web: onnxruntime-web, see ``kd.export.page.ort_web.runtime_files``.

    Raises:
        ValueError: onnxruntime-web cannot be had, or ``student.onnx`` is missing.
    """
    if not (deploy / MODEL).is_file():
        raise ValueError(f"{deploy / MODEL} is missing: the page runs it, so export it first")
    runtime = runtime_files(ort_web)
    page, new = deploy / "page", make_folder(deploy, ".page-")
    try:
        for path in ASSETS.iterdir():
            shutil.copyfile(path, new / path.name)
        shutil.copyfile(deploy / MODEL, new / MODEL)
        for name, content in runtime.items():
            (new / name).write_bytes(content)
        data = {**_student(description), "examples": _write_examples(new, examples)}
        text = json.dumps(data, allow_nan=False, indent=1)  # ASCII: no server can mistake its encoding
        (new / "page.json").write_text(text + "\n", encoding="ascii")
        share_folder(new)
        shutil.rmtree(page, ignore_errors=True)
        new.rename(page)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    return page


def _student(description: Description) -> dict[str, Any]:
    return {
        "model": MODEL,
        "runtime": f"onnxruntime-web {VERSION}",
        "name": description.name,
        "key": description.key,
        "data": data_set_name(description.data),
        "classes": list(description.classes),
        "image_size": description.image_size,
        "stored_size": description.stored_size,
        "fit": description.fit,
        "crop_pct": description.crop_pct,
        "channels": description.channels,
        "tall_first": TALL_FIRST,
        "white": description.white[0],
    }


def _write_examples(folder: Path, examples: Examples | None) -> list[dict[str, Any]]:
    """Write the images as PNG, and return what ``page.json`` says of them."""
    if examples is None:
        return []
    # a network that diverged has no answer that JSON could hold
    roles = [role for role, logits in examples.logits.items() if np.isfinite(logits).all()]
    described = []
    for row, (image, target) in enumerate(zip(examples.images, examples.targets, strict=True)):
        name = f"example-{row + 1}.png"
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(folder / name)
        recorded = {role: examples.logits[role][row].tolist() for role in roles}
        described.append({"image": name, "label": int(target), "recorded": recorded})
    return described
