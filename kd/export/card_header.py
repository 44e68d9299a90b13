"""The YAML header of a model card, by which the Hugging Face hub sorts and shows a model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import yaml

from kd.inference.description import Description

TASK = "image-classification"
NAMELESS = ("folder", "huggingface", "webdataset")  # how the images were read, in place of a data set's name
# the identifiers that the hub accepts; any other licence is "other" with a name
LICENCES = (
    "apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m "
    "afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 "
    "cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 "
    "cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 "
    "cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl "
    "gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr "
    "mpl-2.0 odc-by odbl openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr "
    "deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 "
    "grok2-community gemma unknown other"
)


def header(
    description: Description,
    *,
    layout: str,
    licence: str | None,
    tags: Sequence[str] = (),
    dataset: str | None = None,
    scores: Mapping[str, float | None] | None = None,
) -> str:
    """Return the header between its two lines of dashes.

    Args:
        layout: "timm" or "kd": which library loads the folder.
        licence: as the user gave it; None: unknown.
        dataset: an identifier of the hub; None: made of the data set's name, if it has one.
        scores: by their names on the hub, "accuracy" and "f1", in [0, 1], on the test split; None is left out.
    """
    name, named = description.data or "unknown", dataset or data_set_name(description.data)
    known = {metric: value for metric, value in (scores or {}).items() if value is not None}
    content: dict[str, Any] = {
        **_licence(licence),
        "library_name": layout,
        "pipeline_tag": TASK,
        "tags": list(dict.fromkeys([TASK, *tags])),
        **({"datasets": [dataset or slug(name)]} if named else {}),
        "metrics": list(known) or ["accuracy"],
    }
    if known:
        content["model-index"] = [_results(description, dataset or slug(name), name, known)]
    dump = partial(yaml.safe_dump, content, sort_keys=False, width=1000)
    text = dump(allow_unicode=True)
    if not all(map(_is_printable, text)):  # such as what changes the writing direction
        text = dump(allow_unicode=False)
    return f"---\n{text}---\n"


def data_set_name(name: str) -> str | None:
    """Return the name of a data set; None where it says only how images were read."""
    return None if name in ("", *NAMELESS) else name


def _is_printable(character: str) -> bool:
    return character.isprintable() or character == "\n"


def _results(description: Description, dataset: str, name: str, scores: Mapping[str, float]) -> dict[str, Any]:
    metrics = [
        {
            "type": metric,
            "value": round(value, 6),
            "name": {"accuracy": "Accuracy", "f1": "Macro F1"}.get(metric, metric),
        }
        for metric, value in scores.items()
    ]
    result = {
        "task": {"type": TASK, "name": "Image Classification"},
        "dataset": {"type": dataset, "name": name, "split": "test"},
        "metrics": metrics,
    }
    return {"name": description.name or "student", "results": [result]}


def _licence(licence: str | None) -> dict[str, str]:
    """Return the entries that name a licence as the hub wants them."""
    if licence is None or not licence.strip():
        return {"license": "unknown"}
    word = licence.strip().lower()
    if word in LICENCES.split():
        return {"license": word}
    return {"license": "other", "license_name": slug(licence)}


def slug(text: str) -> str:
    """Return a name as the hub's identifiers have it: lower-case letters, digits, ``-``, ``_`` and ``.``."""
    word = re.sub(r"[^a-z0-9._]+", "-", text.lower()).strip("-.")
    return re.sub(r"(-|\.){2,}", r"\1", word)[:96] or "unnamed"
