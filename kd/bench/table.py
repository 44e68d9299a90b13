"""The benchmark as text: tables for the terminal and for a page."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from kd.bench.parts import PARTS
from kd.bench.sweep import extrapolate
from kd.report.text import markdown_table

Found = Mapping[str, Any]
REFERENCES = ("naive", "torchdistill")


def markdown(found: Found) -> str:
    """Return the page ``bench.md``."""
    setting, machine = found["setting"], found["machine"]
    lines = [
        "# Benchmark",
        "",
        f"{machine['device_name']} ({machine['device']}, {machine['cores']} cores, {machine['threads']} threads), "
        f"torch {machine['torch']}. {setting['networks']}, "
        f"{setting['image_size']}×{setting['image_size']}, batch {setting['batch_size']}, {setting['images']} images "
        f"an epoch, {setting['workers']} DataLoader workers. {found['rounds']} rounds in turns after a warm-up. An "
        "epoch includes its validation; the rates are medians, with the slowest and the fastest round.",
        "",
        markdown_table(speed_rows(found), left=("job", "precision")),
    ]
    for name, why in found["left_out"].items():
        lines += ["", f"Left out: {name} ({why})."]
    if parts := part_rows(found):
        lines += [
            "",
            "Where the time of an epoch goes (seconds, in a round of its own):",
            "",
            markdown_table(parts, ("job",)),
        ]
    lines += ["", *notes(found)]
    if rows := scaling_rows(found):
        lines += [
            "",
            "Images/s by batch, image size and number of students:",
            "",
            markdown_table(rows, ("axis", "job")),
        ]
    if rows := sweep_rows(found):
        lines += ["", sweep_caption(found), "", markdown_table(rows, ("program",))]
    return "\n".join(lines) + "\n"


def speed_rows(found: Found) -> list[dict[str, Any]]:
    rows = []
    rates = {name: job["images_per_s"]["median"] for name, job in found["jobs"].items()}
    for name, job in found["jobs"].items():
        speed = job["images_per_s"]
        row = {
            "job": name if job["students"] == 1 else f"{name} ({job['students']} students)",
            "precision": job["precision"],
            "images/s": f"{speed['median']:.1f}",
            "lowest–highest": f"{speed['min']:.1f}–{speed['max']:.1f}",
            "s an epoch": f"{job['epoch_seconds_median']:.2f}",
        }
        for other in REFERENCES:
            if other in rates:
                row[f"× {other}"] = f"{rates[name] / rates[other]:.2f}"
        if "ceiling_share" in job:
            row["share of ceiling"] = f"{100 * job['ceiling_share']:.0f} %"
        if job.get("memory"):
            size = job["memory"]["host_bytes"]
            row["peak memory (MB)"] = f"{size / 2**20:.0f}" if size else None
        rows.append(row)
    return rows


def part_rows(found: Found) -> list[dict[str, Any]]:
    rows = []
    for name, job in found["jobs"].items():
        if "parts" in job:
            rows.append({"job": name, **{part: f"{job['parts'][part]:.3f}" for part in PARTS}})
    return rows


def notes(found: Found) -> list[str]:
    """Return a line for each single figure."""
    lines = []
    for name, job in found["jobs"].items():
        for what, seconds in job["prepare_seconds"].items():
            lines.append(f"- {name}: {what.replace('_', ' ')} filled in {seconds:.2f} s before its first epoch.")
        lines += [f"- {name}: {remark}." for remark in job["remarks"]]
        if job["apart_seconds"]:
            seconds = job["apart_seconds"]
            lines.append(f"- {name}: the trial at its start took {seconds:.1f} s; it is not in the seconds an epoch.")
    if ceiling := found.get("ceiling"):
        for precision, rates in ceiling["rates"].items():
            lines.append(
                f"- Ceiling in {precision}: {rates['flops_per_s'] / 1e9:,.0f} GFLOP/s in a matrix product, "
                f"{rates['bytes_per_s'] / 1e9:,.1f} GB/s in a copy."
            )
    if start := found.get("start_up"):
        said = start.get("left_out") or f"{start['seconds']:.1f} s"
        lines.append(f"- Start-up, from the command to its first training step, with decoded data: {said}.")
    if two := found.get("two_at_once"):
        alone, both = (statistics.median(two[key]) for key in ("alone", "together"))
        lines.append(
            f"- Two at once ({two['job']}): {alone:.1f} images/s alone, {both:.1f} for both together: "
            f"{100 * two['lost']:.0f} % of the machine lost."
        )
    return lines


def scaling_rows(found: Found) -> list[dict[str, Any]]:
    return [
        {
            "axis": row["axis"].replace("_", " "),
            "value": row["value"],
            "job": row["job"],
            "images/s": f"{row['images_per_s']:.1f}" if row["images_per_s"] else row["left_out"],
            "peak memory (MB)": f"{row['host_bytes'] / 2**20:.0f}" if row["host_bytes"] else None,
        }
        for row in found.get("scaling", ())
    ]


def sweep_caption(found: Found) -> str:
    sweep = found["sweep"]
    recipe = sweep["recipe_epochs"]
    return (
        f"A sweep of {sweep['cells']} cells, T × α, the teacher included once: measured with {sweep['epochs']} epochs "
        f"each, and extrapolated from it to the recipe's {recipe['teacher']} epochs of the teacher and "
        f"{recipe['student']} of each student."
    )


def sweep_rows(found: Found) -> list[dict[str, Any]]:
    if "sweep" not in found:
        return []
    sweep, fill = found["sweep"], found["sweep"]["fill_seconds"]
    programs = [name for name in sweep if isinstance(sweep[name], dict) and "total" in sweep[name]]
    whole = {name: extrapolate(sweep, name, fill) for name in programs}
    return [
        {
            "program": name,
            "teacher (s)": f"{sweep[name]['teacher']:.1f}",
            "students (s)": f"{sweep[name]['students']:.1f}",
            "total (s)": f"{sweep[name]['total']:.1f}",
            "× naive": f"{sweep['naive']['total'] / sweep[name]['total']:.2f}",
            "extrapolated (s)": f"{whole[name]:.0f}",
            "extrapolated × naive": f"{whole['naive'] / whole[name]:.2f}",
        }
        for name in programs
    ]
