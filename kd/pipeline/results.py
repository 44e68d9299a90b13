"""From trained networks to the files of a run: predictions, images, attention maps, the student, ``result.json``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from kd.attention.maps import gate_maps
from kd.data.dataset import ImageDataset
from kd.data.loader import Loader
from kd.evaluation.cost import cached_costs, params
from kd.evaluation.metrics import accuracy, agreement, mcnemar, summary
from kd.evaluation.predict import predict_views
from kd.models.ensemble import Ensemble
from kd.pipeline.describe import describe_objective, write_models
from kd.pipeline.plan import RunPlan
from kd.pipeline.stage import TrainedModel
from kd.records.run_folder import write_result
from kd.report.run.sampling import choose_attended, choose_images
from kd.runtime.device import Device
from kd.runtime.memory import explain_out_of_memory
from kd.runtime.values import flatten
from kd.store.store import KEY_DIGITS

VIEWS = 1024  # training images whose views ``kd.diagnose`` compares: an accuracy is known to 1.5 points
OF_A_TEACHER = (  # what result.json compares with the teacher
    *("accuracy_difference", "speed_up", "speed_up_one_thread", "size_ratio", "params_ratio", "params_reduction"),
    *("macs_ratio", "agreement", "baseline_agreement", "gain_recovered"),
)


def write_results(plan: RunPlan, folder: Path, trained: Mapping[str, TrainedModel], command: str) -> dict[str, Any]:
    """Measure the networks; write their predictions, the data of the report, the student and ``result.json``.

    Args:
        trained: by role: "student" and, if the run has them, "teacher", "baseline" and assistants.
        command: the command that repeats the run, for the report.

    Returns:
        The content of ``result.json``.
    """
    settings, large = plan.settings, plan.settings["latency"]["batch"]
    with plan.clock("evaluate"), explain_out_of_memory("evaluate", f"latency.batch={large}", "a smaller latency.batch"):
        _write_arrays(folder, trained, plan)
        write_models(plan, folder)
        measured = _measure(trained, plan)
    about = {"version": 1, "name": plan.name, "key": plan.key, "choices": dict(plan.choices), "command": command}
    about |= {"seed": settings["seed"], "settings": dict(flatten(settings)), "seconds": plan.clock.seconds()}
    result = about | measured
    write_result(folder, result)
    return result


def _write_arrays(folder: Path, trained: Mapping[str, TrainedModel], plan: RunPlan) -> None:
    """Write the predictions on the test split, and the images and attention maps that the report shows."""
    dataset, seed = plan.dataset, plan.settings["seed"]
    targets, logits = dataset.targets[dataset.test], _test_logits(trained)
    np.savez_compressed(folder / "predictions.npz", index=dataset.test, target=targets, **logits)
    attended = False
    if "teacher" in trained:
        rows = choose_attended(targets, logits["teacher"], seed)
        attended = write_attention(folder, trained["teacher"].network, dataset, rows, plan.device)
    rows = choose_images(targets, logits, seed, attended)
    np.savez_compressed(folder / "images.npz", row=rows, image=_shown(dataset, dataset.test[rows], plan.device))
    student, networks = plan.stages["student"], {role: trained[role].network for role in logits}
    views = predict_views(networks, student.loader, student.recipe.epochs, plan.device, VIEWS)
    np.savez_compressed(folder / "training_views.npz", **views)


def _test_logits(trained: Mapping[str, TrainedModel]) -> dict[str, np.ndarray]:
    """Return the test logits by role, without assistants."""
    return {role: model.test_logits for role, model in trained.items() if not role.startswith("assistant")}


def _measure(trained: Mapping[str, TrainedModel], plan: RunPlan) -> dict[str, Any]:
    """Return what ``result.json`` holds of networks, data, machine, objective and comparison."""
    dataset, cost, logits = plan.dataset, cost_fn(plan), _test_logits(trained)
    targets = dataset.targets[dataset.test]
    models: dict[str, Any] = {
        role: {
            **summary(trained[role].test_logits, targets, dataset.classes),
            **cost(role, trained[role].network),
            "training": trained[role].training,
        }
        for role in logits
    }
    models = {"teacher": None, "baseline": None, **models}
    assistants = [
        {
            "name": role,
            "accuracy": accuracy(model.test_logits, targets),
            "params": params(model.network),
            "training": model.training,
        }
        for role, model in trained.items()
        if role not in logits
    ]
    comparison = compare(models, logits, targets)
    described = {"machine": plan.device.describe(), "data": _describe_data(dataset)}
    described["objective"] = describe_objective(plan.stages["student"].objective)
    return {**models, "assistants": assistants, "comparison": comparison, **described}


def _describe_data(dataset: ImageDataset) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "classes": list(dataset.classes),
        "image_size": dataset.image_size,
        **{split: len(getattr(dataset, split)) for split in ("train", "val", "test")},
        "content": {split: split_digest(dataset, getattr(dataset, split)) for split in ("val", "test")},
        "notes": dict(dataset.notes),
    }


def split_digest(dataset: ImageDataset, positions: np.ndarray) -> str:
    """Return a digest of images as evaluation shows them: pixels, crop, labels and order, not where they are stored."""
    shown = dataset.size.shown if dataset.size else {}
    content = hashlib.sha256(f"{dataset.images.shape[1:]} {len(positions)} {shown or ''}".rstrip().encode())
    for start in range(0, len(positions), 256):  # a memory map: all at once might not fit in memory
        content.update(dataset.images[positions[start : start + 256]])
    content.update(dataset.targets[positions])
    return content.hexdigest()[: 2 * KEY_DIGITS]


def cost_fn(plan: RunPlan) -> Callable[[str, nn.Module], dict[str, Any]]:
    """Return a function that measures the cost of a network of the run: once for each architecture."""
    keys, student = plan.keys, plan.stages["student"]

    def architecture(role: str) -> dict[str, Any]:
        key = keys.networks[role]
        return {
            name: key[name] for name in ("network", "attention", "checkpoint", "image_size", "classes") if name in key
        }

    members = [architecture(spec.role) for spec in plan.teachers]
    teacher: Any = {"ensemble": members} if plan.builder.combine else members[0] if members else None

    def cost(role: str, network: nn.Module) -> dict[str, Any]:
        whole = teacher if role == "teacher" else {"network": plan.settings["student"]}
        if role == "student" and student.objective.extends:
            taught_by = teacher if student.taught_by == "teacher" else architecture(student.taught_by)
            whole = {**whole, "taught by": taught_by, "objective": student.key["objective"]}
        whole = {"model": whole, "classes": len(plan.dataset.classes)}  # it may have its own size and classes inside
        unused = plan.unused_params if role == "teacher" else 0
        size, latency = plan.dataset.image_size, plan.settings["latency"]
        return cached_costs(plan.store, whole, network, size, plan.device, published_extra=unused, **latency)

    return cost


def write_attention(folder: Path, network: nn.Module, dataset: ImageDataset, rows: np.ndarray, device: Device) -> bool:
    """Write ``attention.npz`` if ``network`` is a single network with spatial gates; return whether it is.

    Args:
        rows: [M], of the test split. The file holds them, and the maps [M, h, w] of each gate under its name.
    """
    path = folder / "attention.npz"
    image = _test_images(dataset, dataset.test[rows], device)
    maps = {} if isinstance(network, Ensemble) else gate_maps(network, image)
    if maps:
        np.savez_compressed(path, row=rows, **{name: gate.cpu().numpy() for name, gate in maps.items()})
    else:
        path.unlink(missing_ok=True)  # from another teacher and an earlier run in this folder
    return bool(maps)


def _shown(dataset: ImageDataset, positions: np.ndarray, device: Device) -> np.ndarray:
    """Return images as evaluation shows them, uint8 [M, H, W, C]: what is stored, or its crop."""
    if not (dataset.size and dataset.size.shown):
        return dataset.images[positions]
    views = _test_images(dataset, positions, device)
    return (255 * views).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def _test_images(dataset: ImageDataset, positions: np.ndarray, device: Device) -> Tensor:
    """Return a few images as in evaluation: [B, 3, H, W] in [0, 1]."""
    own = {"images": dataset.images[positions], "targets": dataset.targets[positions]}
    few = replace(dataset, **own, unlabelled=None, hidden=None)
    loader = Loader(
        few, 2, 0, device.device
    )  # of these images only: on an accelerator a loader holds its whole data set
    return next(loader.eval_batches(np.arange(len(positions)), len(positions))).image


def compare(models: Mapping[str, Any], logits: Mapping[str, np.ndarray], targets: np.ndarray) -> dict[str, Any]:
    """Return the ratios and differences of ``result.json``; those that need a missing network are None."""
    teacher, student, baseline = (models[role] for role in ("teacher", "student", "baseline"))
    gain = student["accuracy"] - baseline["accuracy"] if baseline else None
    p = mcnemar(logits["student"], logits["baseline"], targets) if baseline else None
    of_baseline = {"accuracy_gain": gain, "mcnemar_p": p}
    if not teacher:
        return {**dict.fromkeys(OF_A_TEACHER), **of_baseline}
    possible_gain = teacher["accuracy"] - baseline["accuracy"] if baseline else None
    return {
        "accuracy_difference": student["accuracy"] - teacher["accuracy"],
        **_speed_ups(teacher, student),
        "size_ratio": teacher["size_mb"] / student["size_mb"],
        "params_ratio": teacher["params"] / student["params"],
        "params_reduction": 1 - student["params"] / teacher["params"],
        "macs_ratio": teacher["macs"] / student["macs"],
        "agreement": agreement(logits["student"], logits["teacher"]),
        "baseline_agreement": agreement(logits["baseline"], logits["teacher"]) if baseline else None,
        "gain_recovered": gain / possible_gain if possible_gain else None,
        **of_baseline,
    }


def with_costs(result: Mapping[str, Any], costs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a result with new costs of its networks, given by role."""
    models = {role: {**result[role], **cost} for role, cost in costs.items()}
    speed_ups = _speed_ups(models["teacher"], models["student"]) if "teacher" in models else {}
    comparison = {**result["comparison"], **speed_ups}
    return {**result, **models, "comparison": comparison}


def _speed_ups(teacher: Mapping[str, Any], student: Mapping[str, Any]) -> dict[str, Any]:
    one_thread = student["one_thread"] and _speed_up(teacher["one_thread"], student["one_thread"])
    return {"speed_up": _speed_up(teacher, student), "speed_up_one_thread": one_thread}


def _speed_up(teacher: Mapping[str, Any], student: Mapping[str, Any]) -> dict[str, float]:
    """Return the teacher's median latency over the student's, by batch size."""
    latency = student["latency_ms"]
    return {batch: teacher["latency_ms"][batch]["p50"] / latency[batch]["p50"] for batch in latency}
