"""What there is to choose from: ``python -m kd.zoo``, ``… students``, ``… students tiny_cnn``.

All of it is read from the yaml files of the config groups and from the classes they name, so a new file is listed by
being there. Networks are built to be counted, which imports torch and timm: that is most of the time an answer takes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from kd.config.paths import conf_dir
from kd.runtime.streams import open_streams
from kd.zoo.counting import Case, alone
from kd.zoo.groups import GROUPS, Group, default_case, entries, known, pages_of
from kd.zoo.pages import Entry
from kd.zoo.tables import markdown, overview, plain, terminal, whole_page

BRIEF = "methods"  # too many for the overview: it says how many there are


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 2: a name that there is not. 1: a page that cannot be read or built, beside those that can."""
    open_streams()
    given = parsed(arguments)
    folder = Path(conf_dir())
    try:
        groups = GROUPS if given.group is None else {given.group: GROUPS[known(given.group, GROUPS, "group")]}
        case = case_of(given, groups, folder)
        if given.group is None:
            groups = {name: group for name, group in GROUPS.items() if name != BRIEF and pages_of(group, folder)}
        read = {name: entries(group, folder, given.name, case) for name, group in groups.items()}
    except ValueError as error:
        print(f"kd.zoo: {error}", file=sys.stderr)
        return 2
    found = {name: listed for name, (listed, _) in read.items()}
    if given.json:
        made = {name: [plain(entry) for entry in listed] for name, listed in found.items()}
        one = made if given.group is None else made[given.group]
        print(json.dumps(one[0] if given.name and one else one, indent=2, ensure_ascii=False))
    elif given.group is None:
        print(whole(found, case, folder, given.markdown))
    elif found[given.group]:
        print(told(found[given.group], GROUPS[given.group], given.name, case, given.markdown))
    wrong = [line for _, lines in read.values() for line in lines]
    for line in wrong:
        print(f"kd.zoo: {line}", file=sys.stderr)
    return 1 if wrong else 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m kd.zoo",
        description="What there is to choose from, read from the configs themselves.",
        epilog="groups: " + "; ".join(f"{name} ({group.about})" for name, group in GROUPS.items()),
    )
    parser.add_argument("group", nargs="?", help="what to list; without it, everything, a line each")
    parser.add_argument("name", nargs="?", help="one of the group: all that its page says")
    style = parser.add_mutually_exclusive_group()
    style.add_argument("--markdown", action="store_true", help="a markdown table, for a page")
    style.add_argument("--json", action="store_true", help="for programs, with every comment")
    parser.add_argument("--size", type=int, help="side of the image that networks are counted at, in pixels")
    parser.add_argument("--classes", type=int, help="classes that they tell apart; both are the default data set's")
    parser.add_argument("--backbone", help="what attentions are put on: a teacher, a student or timm's name")
    return parser.parse_args(arguments)


def case_of(given: argparse.Namespace, groups: dict[str, Group], folder: Path) -> Case:
    """What numbers are for.

    Raises:
        ValueError: an option that changes nothing in the group, or a value that cannot be.
    """
    options = {"size": given.size, "classes": given.classes, "backbone": given.backbone}
    options = {name: value for name, value in options.items() if value is not None}
    for name, value in options.items():
        if not any(name in group.takes for group in groups.values()):
            raise ValueError(f"--{name} changes nothing in {given.group}")
        if isinstance(value, int) and value < 1:
            raise ValueError(f"--{name} must be 1 or more, got {value}")
    fields = {"size": "image_size", "classes": "num_classes", "backbone": "backbone"}
    case = default_case(folder)._replace(**{fields[name]: value for name, value in options.items()})
    if given.backbone:
        alone(case, str(folder))  # a name that there is not is said once, and not by every attention
    return case


def told(found: Sequence[Entry], group: Group, name: str | None, case: Case, as_markdown: bool) -> str:
    if as_markdown:
        return markdown(found, group)
    return whole_page(found[0], group) if name else f"{terminal(found, group)}\n{legend(group, case)}"


def legend(group: Group, case: Case) -> str:
    return group.legend.format(**case._asdict())


def whole(found: dict[str, list[Entry]], case: Case, folder: Path, as_markdown: bool) -> str:
    """Every group but the methods, one after the other."""
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
        f"Numbers at {size} x {size} pixels and {case.num_classes} classes (--size, --classes), what an attention adds "
        f"on {case.backbone} (--backbone).\n"
        f"{BRIEF}: {len(pages_of(methods, folder))}, {methods.about}; python -m kd.zoo {BRIEF} lists them.\n"
        f"python -m kd.zoo GROUP lists one of {', '.join(GROUPS)} with settings and papers,\n"
        "python -m kd.zoo GROUP NAME all that there is to say of one."
    )
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
