"""The groups `students`, `teachers` and `attentions`: options and the costs of their networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd.config.networks import network_of
from kd.config.paths import conf_dir
from kd.report.text import millions, percent
from kd.zoo.counting import Case, Counts, count, count_backbone, error_line
from kd.zoo.options import MISSING, Entry, entry, read_option, settings_of

UNUSED = "unused_published_params"  # in an attention's yaml: not a setting
HEADINGS = {"params": "params", "live_params": "live", "published_params": "published", "macs": "MACs"}


def student(path: Path, case: Case) -> Entry:
    return network(path, case, "student")


def teacher(path: Path, case: Case) -> Entry:
    return network(path, case, "teacher")


def network(path: Path, case: Case, group: str) -> Entry:
    """Return the entry of a network; its numbers read "any" if the command line must choose the network."""
    option = read_option(path, group)
    settings = {name: value for name, value in settings_of(option.node).items() if "${" not in str(value)}
    found, unused, trouble = None, 0, ""
    if MISSING not in settings.values():
        try:
            spec = spec_of(path, option.node, group)
            found, unused = count(spec, case), unused_of(spec)
        except Exception as error:  # a yaml may name any class, which may fail in any way
            trouble = error_line(error)
    numbers, none = numbers_of(found, unused), "–" if trouble else "any"
    shown = {HEADINGS[name]: numbers[name] for name in HEADINGS if name != "published_params" or unused}
    cells = {f"{name} (M)": none if number is None else millions(number) for name, number in shown.items()}
    return entry(
        path,
        option,
        settings=settings,
        common=frozenset(name for name, value in option.shared.items() if settings.get(name, value) == value),
        cells={**cells, "embedding": none if found is None else str(found.embedding or "–")},
        facts={} if found is None else {**exact(case, shown), **views(found)},
        data={"image_size": case.image_size, "num_classes": case.num_classes, **numbers},
        trouble=trouble,
    )


def spec_of(path: Path, node: dict[str, Any], group: str) -> dict[str, Any]:
    """Return the argument of ``build_network``.

    A student without references is used as its yaml is: Hydra would take a tenth of a second for the same.
    """
    if "_target_" in node and "${" not in str(node):
        return {"network": node}
    return network_of(path.stem, (group,), group)


def numbers_of(found: Counts | None, unused: int) -> dict[str, Any]:
    """Return the numbers for JSON; None where they are unknown."""
    if found is None:
        return dict.fromkeys([*HEADINGS, "embedding", "maps"])
    return {
        "params": found.params,
        "live_params": found.live,
        "published_params": found.params + unused,
        "macs": found.macs,
        "embedding": found.embedding,
        "maps": [list(size) for size in found.maps],
    }


def unused_of(spec: Mapping[str, Any]) -> int:
    """Return the number of parameters of the published class that no forward pass uses; the network lacks them."""
    chosen = spec.get("attention") or {}
    published = f"{spec['network'].get('name')} {chosen.get('stages')}"
    return (chosen.get(UNUSED) or {}).get(published, 0)


def exact(case: Case, numbers: Mapping[str, int]) -> dict[str, list[str]]:
    """Return the exact numbers, for the view of one entry."""
    return {
        "at": [f"{case.image_size} x {case.image_size} pixels, {case.num_classes} classes"],
        **{name: [f"{number:,}"] for name, number in numbers.items()},
    }


def views(found: Counts) -> dict[str, list[str]]:
    """Return the sizes of embedding and maps, which methods that read more than logits get."""
    embedding = {"embedding": [f"{found.embedding:,}"]} if found.embedding else {}
    maps = {"maps": [", ".join(" x ".join(map(str, size)) for size in found.maps)]} if found.maps else {}
    return embedding | maps


def attention(path: Path, case: Case) -> Entry:
    """Return the entry of an attention, with the numbers that it adds to a backbone."""
    option = read_option(path, "attention")
    found, without, trouble = None, None, ""
    try:
        network, without = count_backbone(case, conf_dir())
        # the default backbone takes every attention; another one might bypass it
        found = count({"network": network, "attention": option.node}, case, tried=case.backbone != Case().backbone)
    except ValueError as error:
        trouble = str(error)
    cells, facts, data = {}, {}, {}
    for name in ("params", "macs"):
        number, before = (getattr(counts, name, None) for counts in (found, without))
        added = None if found is None else number - before
        share = None if found is None else added / before
        heading = HEADINGS[name]
        whole = f"{added:,}" if found else "–"  # of parameters: some add 18
        cells |= {f"+{heading}": whole} if name == "params" else {f"+{heading} (M)": millions(added)}
        cells |= {f"+{heading} (%)": percent(share)}
        facts |= {heading: number, f"+{heading}": added}
        data |= {name: number, f"{name}_added": added, f"{name}_added_share": share}
    return entry(
        path,
        option,
        settings={name: value for name, value in settings_of(option.node).items() if not name.startswith(UNUSED)},
        cells=cells,
        facts={} if found is None else {"on": [case.backbone], **exact(case, facts)},
        data={**case._asdict(), **data},
        trouble=trouble,
    )
