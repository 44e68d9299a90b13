"""What a run's files say of its networks, so that ``kd.load`` finds, builds and uses them later."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd.config.weights import usual_share
from kd.data.loader import EVAL_BATCH
from kd.diagnose.objective import takes_mixtures
from kd.inference.description import Description
from kd.inference.safetensors_file import with_metadata
from kd.pipeline.plan import RunPlan
from kd.records.run_folder import MODELS, ROLE_LABELS
from kd.store.files import write_bytes, write_text
from kd.train.objective import Objective

PARTS = ("network", "attention", "image_size", "classes")  # of a network's key


def write_models(plan: RunPlan, folder: Path) -> None:
    """Write ``student.safetensors``, which describes itself, and ``models.json``; the networks are in the store."""
    described = {role: describe(plan, role) for role in ROLE_LABELS if _members(plan, role)}
    entries = {}
    for role, description in described.items():
        files = [plan.store.path(stage.kind, stage.name) / "network.safetensors" for stage in _members(plan, role)]
        places = [Path(os.path.relpath(file, folder)).as_posix() for file in files]
        entries[role] = description.to_dict() | {"files": ["student.safetensors"] if role == "student" else places}
        if role == "student":
            content = with_metadata(files[0].read_bytes(), description.to_metadata())
            write_bytes(folder / "student.safetensors", content)
    write_text(folder / MODELS, json.dumps(entries, indent=1, ensure_ascii=False) + "\n")


def describe(plan: RunPlan, role: str) -> Description:
    """Describe the network of a role: teacher (or an ensemble of teachers), student or baseline."""
    dataset, settings = plan.dataset, plan.settings
    size = dataset.size
    stored = dataset.images.shape[1]
    return Description(
        network=_network(plan, role),
        classes=tuple(dataset.classes),
        image_size=dataset.image_size,
        stored_size=stored,
        role=role,
        name=plan.name,
        key=plan.key,
        data=dataset.name,
        fit=size.fit if size else "crop",
        crop_pct=dataset.crop_pct,
        channels=dataset.images.shape[3],
        white=tuple(dataset.white),
        channels_last=plan.device.channels_last,
        eval_batch=max(1, EVAL_BATCH // settings["train"]["grad_accum_steps"]),
    )


def _members(plan: RunPlan, role: str) -> list[Any]:
    """Return the stages whose weights make the network of a role."""
    return plan.teachers if role == "teacher" else [plan.stages[role]] if role in plan.stages else []


def _network(plan: RunPlan, role: str) -> dict[str, Any]:
    if role == "teacher":
        members = [_architecture(stage.key) for stage in plan.teachers]
        return members[0] if plan.builder.combine is None else {"ensemble": members, "combine": plan.builder.combine}
    stage = plan.stages[role]
    own = _architecture(stage.key)
    if stage.taught_by and stage.objective.extends:
        taught_by = _network(plan, "teacher") if stage.taught_by == "teacher" else _network(plan, stage.taught_by)
        own["extended_by"] = {"objective": stage.key["objective"], "teacher": taught_by}
    return own


def _architecture(key: Mapping[str, Any]) -> dict[str, Any]:
    return {name: key[name] for name in PARTS if name in key}


def describe_objective(objective: Objective) -> dict[str, Any]:
    """Return what a student learns from: the outputs that it reads of the teacher, its label terms, its temperature.

    The temperature is that at which the terms soften the teacher's logits, the lowest if they differ; None if no term
    does. The rest is what ``kd.diagnose`` needs to advise settings that can be typed.
    """
    softening = [
        float(term.temperature)
        for term in objective.terms.values()
        if "logits" in term.needs and hasattr(term, "temperature") and not getattr(term, "scales_logits", False)
    ]
    return {
        "reads": sorted(objective.needs),
        "label_terms": objective.label_terms,
        "temperature": min(softening, default=None),
        "weight_settings": {
            name: setting._asdict() for name, setting in objective.weight_settings.items() if name in objective.terms
        },
        "shares": {name: usual_share(objective.terms[name].needs) for name in objective.added_terms},
        "takes_mixtures": takes_mixtures(objective.sampler),
        "takes_unlabelled": bool(objective.needs) and not objective.label_readers,
    }
