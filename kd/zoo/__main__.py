"""List methods, networks, augmentations and data sets: ``python -m kd.zoo``, ``… students``, ``… students tiny_cnn``.

The command reads the yaml files of the config groups and the classes they name, so a new file needs no registration. It
builds each network to count it, which imports torch and timm and takes most of the time.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from kd.config.paths import conf_dir
from kd.runtime.streams import open_streams
from kd.zoo.augments import draw_views
from kd.zoo.counting import Case, count_backbone
from kd.zoo.groups import GROUPS, Group, check_name, default_case, entries, option_files
from kd.zoo.options import Entry
from kd.zoo.tables import describe_entry, markdown, overview, plain, terminal

FIGURED = "augments"
BRIEF = "methods"  # too many for the overview, which gives their number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 2 for an unknown name, and 1 if an option cannot be read or built (others are listed)."""
    open_streams()
    given = parse_arguments(arguments)
    folder = Path(conf_dir())
    try:
        groups = GROUPS if given.group is None else {given.group: GROUPS[check_name(given.group, GROUPS, "group")]}
        case = case_of(given, groups, folder)
        if given.group is None:
            groups = {name: group for name, group in GROUPS.items() if name != BRIEF and option_files(group, folder)}
        read = {name: entries(group, folder, given.name, case) for name, group in groups.items()}
    except ValueError as error:
        print(f"kd.zoo: {error}", file=sys.stderr)
        return 2
    found = {name: listed for name, (listed, _) in read.items()}
    wrong = [line for _, lines in read.values() for line in lines]
    if given.figure:
        try:
            draw_views([entry.name for entry in found[given.group]], given.figure)
        except (ValueError, OSError) as error:
            print(f"kd.zoo: {error}", file=sys.stderr)
            return 2
        print(given.figure)
    elif given.json:
        plains = {name: [plain(entry) for entry in listed] for name, listed in found.items()}
        one = plains if given.group is None else plains[given.group]
        print(json.dumps(one[0] if given.name and one else one, indent=2, ensure_ascii=False))
    elif given.group is None:
        print(format_all(found, case, folder, given.markdown))
    elif found[given.group]:
        print(format_group(found[given.group], GROUPS[given.group], given.name, case, given.markdown))
    for line in wrong:
        print(f"kd.zoo: {line}", file=sys.stderr)
    return 1 if wrong else 0


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m kd.zoo",
        description="List methods, networks, attentions, augmentations and data sets, read from the configs.",
        epilog="groups: " + "; ".join(f"{name} ({group.about})" for name, group in GROUPS.items()),
    )
    parser.add_argument(
        "group", nargs="?", help="the group to list; without it, everything but the methods, a line each"
    )
    parser.add_argument("name", nargs="?", help="an option of the group: all about it")
    style = parser.add_mutually_exclusive_group()
    style.add_argument("--markdown", action="store_true", help="print markdown tables")
    style.add_argument("--json", action="store_true", help="print JSON, with every comment")
    parser.add_argument("--size", type=int, help="side of the image for the counts of networks, in pixels")
    parser.add_argument(
        "--classes", type=int, help="number of classes for these counts; both default to the default data set's"
    )
    parser.add_argument(
        "--backbone", help="the network that attentions are added to: a teacher, a student or timm's name"
    )
    parser.add_argument(
        "--figure", type=Path, metavar="FILE", help="of augments: draw views of four images by each, or by one, a PNG"
    )
    return parser.parse_args(arguments)


def case_of(given: argparse.Namespace, groups: dict[str, Group], folder: Path) -> Case:
    """Return the image size, the number of classes and the backbone for the counts.

    Raises:
        ValueError: an option without effect in the group, or a value that is not possible.
    """
    options = {"size": given.size, "classes": given.classes, "backbone": given.backbone}
    options = {name: value for name, value in options.items() if value is not None}
    for name, value in options.items():
        if not any(name in group.takes for group in groups.values()):
            raise ValueError(f"--{name} changes nothing in {given.group}")
        if isinstance(value, int) and value < 1:
            raise ValueError(f"--{name} must be 1 or more, got {value}")
    if given.figure and given.group != FIGURED:
        raise ValueError(f"--figure draws views: python -m kd.zoo {FIGURED} --figure {given.figure}")
    if given.figure and given.figure.suffix.lower() != ".png":
        raise ValueError(f"--figure writes a PNG, so its file must end with .png, got {given.figure}")
    fields = {"size": "image_size", "classes": "num_classes", "backbone": "backbone"}
    case = default_case(folder)._replace(**{fields[name]: value for name, value in options.items()})
    if given.backbone:
        count_backbone(case, str(folder))  # reports an unknown name once, and not for every attention
    return case


def format_group(found: Sequence[Entry], group: Group, name: str | None, case: Case, as_markdown: bool) -> str:
    if as_markdown:
        return markdown(found, group)
    return describe_entry(found[0], group) if name else f"{terminal(found, group)}\n{legend(group, case)}"


def legend(group: Group, case: Case) -> str:
    return group.legend.format(**case._asdict())


def format_all(found: dict[str, list[Entry]], case: Case, folder: Path, as_markdown: bool) -> str:
    """Format every group but the methods."""
    parts = []
    for name, listed in found.items():
        group = GROUPS[name]
        if as_markdown:
            parts += [f"### {name.capitalize()}", markdown(listed, group)]
        elif listed:
            parts.append(f"{name}: {group.about}\n{overview(listed, group)}")
    if as_markdown:
        return "\n\n".join(parts)
    size, methods = case.image_size, GROUPS[BRIEF]
    parts.append(
        f"Numbers at {size} x {size} pixels and {case.num_classes} classes (--size, --classes); attentions on "
        f"{case.backbone} (--backbone).\n"
        f"{BRIEF}: {len(option_files(methods, folder))}, {methods.about}; python -m kd.zoo {BRIEF} lists them.\n"
        f"python -m kd.zoo GROUP lists one of {', '.join(GROUPS)} with settings and papers,\n"
        "python -m kd.zoo GROUP NAME shows all about one."
    )
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
