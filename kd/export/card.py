"""``README.md`` of an exported student: a model card as the Hugging Face hub shows it, from the files of its run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kd.export import card_parts as parts
from kd.export.card_header import header
from kd.export.card_limits import limits
from kd.export.hub_files import HubFiles, write_hub_files
from kd.export.usage import kd_lines, onnx_lines, timm_lines
from kd.inference.model import Model
from kd.records.run_folder import load_json, read_part
from kd.report.text import escape
from kd.store.files import write_text
from kd.tracking.redact import redact

README, CONFUSION = "README.md", "confusion.png"
ONNX = "student.onnx"


def write_card(
    deploy: Path, model: Model, run: Path | None, report: Mapping[str, Any], licence: str | None = None
) -> list[Path]:
    """Write ``README.md``, ``config.json`` and ``model.safetensors`` into a folder, and return their paths.

    Args:
        run: the folder of the run; None for a student whose file came alone: the card says what is not known.
        report: the content of ``report.json``; entries may be missing or None.
        licence: an identifier of the hub, or any name; None: the card says that it is unknown.

    Raises:
        ValueError: ``result.json`` of the run is missing or damaged.
    """
    result = read_part(run, "result.json", load_json) if run else None
    hub = write_hub_files(deploy, model)
    figure = _copy_figure(deploy, run, len(model.classes))
    try:
        text = make_card(model, result, report, hub, licence, has_onnx=(deploy / ONNX).is_file(), figure=figure)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{run}: result.json lacks an entry, or holds another kind of value: {error}") from error
    write_text(deploy / README, text)
    return [deploy / README, *hub.paths, *([deploy / CONFUSION] if figure else [])]


def make_card(
    model: Model,
    result: Mapping[str, Any] | None,
    report: Mapping[str, Any],
    hub: HubFiles,
    licence: str | None = None,
    has_onnx: bool = True,
    figure: bool = False,
) -> str:
    """Return the text of the card; see ``write_card``.

    Args:
        result: the content of ``result.json``. has_onnx, figure: whether these files lie beside the card.
    """
    description, is_distilled = model.description, result is None or parts.has_teacher(result)
    sections: list[tuple[str, Sequence[str]]] = [
        ("", parts.introduction(model, result)),
        (f"How it was {'distilled' if is_distilled else 'trained'}", parts.distillation(result)),
        ("Results", parts.results(result)),
        ("Files", [*parts.files(report), _loaded_by(model, hub)]),
        ("Confusion matrix", parts.confusion(result, CONFUSION if figure else None)),
        ("How to use it", _usage(model, hub, has_onnx)),
        ("Limits", limits(description, result, report)),
        ("Licence", [_licence(licence)]),
    ]
    top = header(
        description,
        layout=hub.layout,
        licence=licence,
        tags=[*(["knowledge-distillation"] if is_distilled else []), *_tags(model, result, hub, has_onnx)],
        dataset=parts.dataset_on_hub(result),
        scores=parts.scores(result),
    )
    body = [f"# {escape(description.name or 'A student of kd')}"]
    for title, paragraphs in sections:
        kept = [text for text in paragraphs if text]
        if kept:
            body += [f"## {title}"] * bool(title) + kept
    return top + "\n" + "\n\n".join(body) + "\n"


def _tags(model: Model, result: Mapping[str, Any] | None, hub: HubFiles, has_onnx: bool) -> list[str]:
    tags = ["kd", *(["timm"] if hub.layout == "timm" else []), *(["onnx"] if has_onnx else [])]
    return [*tags, str(result["choices"]["kd"])] if result else tags


def _loaded_by(model: Model, hub: HubFiles) -> str:
    if hub.layout == "timm":
        return (
            "`model.safetensors` and `config.json` are the weights for timm and for kd. In them the normalisation is "
            "a setting, `mean` and `std`; every other file normalises by itself and takes images in [0, 1]."
        )
    own = "`model.safetensors` holds the weights, `config.json` and its own metadata describe the network to kd."
    if hub.why_not_timm:
        name = model.description.network["network"]["name"]
        why = escape(redact(hub.why_not_timm))
        return f"{own} The network is timm's {parts.code(name)}, but timm cannot load this folder: {why}."
    return own


def _usage(model: Model, hub: HubFiles, has_onnx: bool) -> list[str]:
    lines = []
    if has_onnx:
        lines += [
            "With onnxruntime, NumPy and Pillow alone (`pip install onnxruntime numpy pillow`): save these lines as "
            "`classify.py` in this folder, and `python classify.py IMAGES` prints the class of each image in the "
            "folder `IMAGES`. They prepare an image of 8 bits a channel exactly as the run prepared its test "
            "images; deeper colours they read coarsely, and `kd.load` as the run did.",
            _code(onnx_lines(model.description, ONNX)),
        ]
    lines += ["With kd, from the folder above this one:", _code(kd_lines())]
    if hub.layout == "timm":
        padding = "pads with another colour than black, " * (model.description.fit == "pad")
        lines += [
            f"With timm. Its own transform {padding}resizes and crops in other steps, so its answers may differ:",
            _code(timm_lines()),
        ]
    return lines


def _licence(licence: str | None) -> str:
    if licence and licence.strip():
        return f"{escape(licence.strip())}, as the author of this export stated."
    return "The author of this export stated no licence: ask before you use it."


def _code(lines: str) -> str:
    return f"```python\n{lines}\n```"


def _copy_figure(deploy: Path, run: Path | None, count: int) -> bool:
    """Copy the confusion matrix that the run's report drew, where a table would be too wide and a figure is not."""
    target = deploy / CONFUSION
    source = run / "figures" / "confusion_student.png" if run else None
    if source is None or not source.is_file() or not parts.FEW < count <= parts.MANY:
        target.unlink(missing_ok=True)  # of another export
        return False
    shutil.copyfile(source, target)
    return True
