"""The groups `students`, `teachers` and `attentions`: pages beside what their networks cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd.config.networks import network_of
from kd.config.paths import conf_dir
from kd.report.text import millions, percent
from kd.zoo.counting import Case, Counts, alone, count, sentence
from kd.zoo.pages import MISSING, Entry, entry, read_page, settings_of

UNUSED = "unused_published_params"  # of an attention's page: no setting
HEADINGS = {"params": "params", "live_params": "live", "published_params": "published", "macs": "MACs"}


def student(path: Path, case: Case) -> Entry:
    return network(path, case, "student")


def teacher(path: Path, case: Case) -> Entry:
    return network(path, case, "teacher")


def network(path: Path, case: Case, group: str) -> Entry:
    """A network, from its page; "any" stands for numbers where the command line must say which."""
    page = read_page(path, group)
    settings = {name: value for name, value in settings_of(page.node).items() if "${" not in str(value)}
    found, unused, trouble = None, 0, ""
    if MISSING not in settings.values():
        try:
            spec = spec_of(path, page.node, group)
            found, unused = count(spec, case), unused_of(spec)
        except Exception as error:  # a page may name any class, and fail in any way
            trouble = sentence(error)
    numbers, none = numbers_of(found, unused), "–" if trouble else "any"
    shown = {HEADINGS[name]: numbers[name] for name in HEADINGS if name != "published_params" or unused}
    cells = {f"{name} (M)": none if number is None else millions(number) for name, number in shown.items()}
    return entry(
        path,
        page,
        settings=settings,
        common=frozenset(name for name, value in page.shared.items() if settings.get(name, value) == value),
        cells={**cells, "embedding": none if found is None else str(found.embedding or "–")},
        facts={} if found is None else {**exact(case, shown), **views(found)},
        data={"image_size": case.image_size, "num_classes": case.num_classes, **numbers},
        trouble=trouble,
    )


def spec_of(path: Path, node: dict[str, Any], group: str) -> dict[str, Any]:
    """Return what ``build_network`` takes.

    A student that refers to nothing is what its page says: Hydra takes a tenth of a second to find the same.
    """
    if "_target_" in node and "${" not in str(node):
        return {"network": node}
    return network_of(path.stem, (group,), group)


def numbers_of(found: Counts | None, unused: int) -> dict[str, Any]:
    """For programs; None stands for what is not known."""
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
    """Parameters of the published class that no forward pass touches; they are not in the network."""
    chosen = spec.get("attention") or {}
    place = f"{spec['network'].get('name')} {chosen.get('stages')}"
    return (chosen.get(UNUSED) or {}).get(place, 0)


def exact(case: Case, numbers: Mapping[str, int]) -> dict[str, list[str]]:
    """To the last digit, for a page."""
    return {
        "at": [f"{case.image_size} x {case.image_size} pixels, {case.num_classes} classes"],
        **{name: [f"{number:,}"] for name, number in numbers.items()},
    }


def views(found: Counts) -> dict[str, list[str]]:
    """What methods that read more than logits are shown."""
    embedding = {"embedding": [f"{found.embedding:,}"]} if found.embedding else {}
    maps = {"maps": [", ".join(" x ".join(map(str, size)) for size in found.maps)]} if found.maps else {}
    return embedding | maps


def attention(path: Path, case: Case) -> Entry:
    """What an attention adds to a backbone, from its page."""
    page = read_page(path, "attention")
    found, without, trouble = None, None, ""
    try:
        network, without = alone(case, conf_dir())
        # the default backbone is known to take any; another one might go past what stands in it
        found = count({"network": network, "attention": page.node}, case, tried=case.backbone != Case().backbone)
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
        page,
        settings={name: value for name, value in settings_of(page.node).items() if not name.startswith(UNUSED)},
        cells=cells,
        facts={} if found is None else {"on": [case.backbone], **exact(case, facts)},
        data={**case._asdict(), **data},
        trouble=trouble,
    )
