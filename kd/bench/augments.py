"""How many images a second each augmentation makes: ``python -m kd.bench augments``.

No network runs. A round of an option takes batches of stored images through its steps, as a training does; the options
take turns. The numbers that determine the views are drawn for a whole epoch at once, so they are timed apart.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kd.config.networks import names

BATCHES = 4  # of a round
DRAWN = 10_000  # images whose views are drawn at once


def main(arguments: Sequence[str]) -> int:
    """Run the command; return 2 for a wrong argument."""
    given = parse_arguments(arguments)
    chosen = given.names or names("augment")
    stored = given.stored_size or given.image_size
    try:
        chains = {name: chain_of(name, stored, given.image_size) for name in chosen}
        found = measure(chains, stored, given.batch_size, given.rounds, given.device, given.threads)
    except ValueError as error:
        print(f"kd.bench: {error}", file=sys.stderr)
        return 2
    print(json.dumps(found, indent=1) if given.json else page(found))
    return 0


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m kd.bench augments", description="Measure how many images a second each augmentation makes."
    )
    parser.add_argument("names", nargs="*", help="options of the group augment (default: all)")
    parser.add_argument("--image-size", type=int, default=100, help="pixels of a view (default: 100)")
    parser.add_argument("--stored-size", type=int, help="pixels of stored images (default: --image-size)")
    parser.add_argument("--batch-size", type=int, default=64, help="default: 64")
    parser.add_argument("--rounds", type=int, default=20, help=f"of {BATCHES} batches, after a warm-up (default: 20)")
    parser.add_argument("--threads", type=int, help="of torch (default: torch's)")
    parser.add_argument("--device", default="auto", help="as train.device (default: auto)")
    parser.add_argument("--json", action="store_true", help="print JSON, with every round")
    given = parser.parse_args(arguments)
    for name in ("image_size", "stored_size", "batch_size", "rounds", "threads"):
        if (value := getattr(given, name)) is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} must be 1 or more, got {value}")
    return given


def chain_of(name: str, stored: int, size: int) -> Any:
    """Return the chain of an option.

    Raises:
        ValueError: there is no such option, or its steps cannot be made.
    """
    from kd.augment.chain import Chain
    from kd.build import build_augment
    from kd.config.composed import compose_checked

    return Chain(build_augment(compose_checked([f"augment={name}"])[0]), stored, size)


def measure(
    chains: Mapping[str, Any], stored: int, batch_size: int, rounds: int, device: str, threads: int | None
) -> dict[str, Any]:
    """Return machine, setting and the images per second of each chain in each round, in turns.

    Raises:
        ValueError: the device is not available.
    """
    import torch

    from kd.data.datasets.scenes.dataset import draw
    from kd.runtime.device import resolve_device

    machine = resolve_device(device, "float32", threads=threads)
    scenes = torch.stack([torch.from_numpy(draw(0, 0, position, stored)) for position in range(min(batch_size, 64))])
    pixels = scenes[torch.arange(batch_size) % len(scenes)].to(machine.device)
    rounds_of: dict[str, list[float]] = {name: [] for name in chains}
    for number in range(rounds + 1):  # the first is a warm-up
        for name, chain in chains.items():
            seconds = _seconds(_round(chain, pixels, number, machine), machine)
            if number:
                rounds_of[name].append(BATCHES * batch_size / seconds)
    drawn = {
        name: _seconds(lambda c=chain: c.parameters(0, 1, torch.arange(DRAWN)), machine)
        for name, chain in chains.items()
    }
    size = next(iter(chains.values())).size
    return {
        "machine": {**machine.describe(), "cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0]},
        "setting": {"image_size": size, "stored_size": stored, "batch_size": batch_size, "rounds": rounds},
        "images_per_s": rounds_of,
        "draw_us": {name: 1e6 * seconds / DRAWN for name, seconds in drawn.items()},
    }


def _round(chain: Any, pixels: Any, number: int, machine: Any) -> Callable[[], None]:
    """Return the work of a round, with the numbers of its views drawn and on the device."""
    import torch

    from kd.augment.chain import Drawn
    from kd.data.loader import to_unit_range

    index = torch.arange(len(pixels))
    hosts = [chain.parameters(number, epoch, index) for epoch in range(BATCHES)]
    views = [Drawn(host, host.to(machine.device)) for host in hosts]

    def work() -> None:
        for drawn in views:
            chain.apply(to_unit_range(pixels), drawn)

    return work


def _seconds(work: Callable[[], Any], machine: Any) -> float:
    machine.synchronize()
    began = time.perf_counter()
    work()
    machine.synchronize()
    return time.perf_counter() - began


def page(found: Mapping[str, Any]) -> str:
    """Return the result as markdown."""
    from kd.report.text import markdown_table

    machine, setting = found["machine"], found["setting"]
    rows = [
        {
            "augmentation": name,
            "images/s": f"{statistics.median(rates):,.0f}",
            "slowest": f"{min(rates):,.0f}",
            "fastest": f"{max(rates):,.0f}",
            "drawing (µs an image)": f"{found['draw_us'][name]:.2f}",
        }
        for name, rates in found["images_per_s"].items()
    ]
    return (
        f"{machine['device_name']} ({machine['device']}, {machine['cores']} cores, {machine['threads']} threads, load "
        f"{machine['load']:.1f}), torch {machine['torch']}. Stored {setting['stored_size']}×{setting['stored_size']}, "
        f"views {setting['image_size']}×{setting['image_size']}, batch {setting['batch_size']}, {setting['rounds']} "
        f"rounds in turns after a warm-up; medians.\n\n{markdown_table(rows, ('augmentation',))}"
    )
