"""Write the page of the settings that do not belong to one option: defaults, allowed values, meanings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra import compose
from omegaconf import OmegaConf

from kd.config.initialize import initialize_hydra
from kd.config.settings import uses
from kd.zoo.options import Loader, notes_of, overrides, read_option, settings_of
from kd.zoo.tables import format_default
from reference.text import code, fence, prose, remarks, table

ROOT = "config"  # the root of the configs


def settings_page(intro: str, root: Path, pages: Mapping[str, str]) -> str:
    """Return the page.

    Args:
        pages: by group, the page that lists its options: ``{"kd": "methods.md"}``.
    """
    conf = root / "conf"
    rules = allowed()
    parts = [intro, "## Groups", _groups(conf, pages), "## The run", _of_the_root(conf, rules)]
    for group in _defaults(conf):
        if group in pages:
            parts += [f"## {group}", *_shared(conf, group, rules, pages[group])]
        elif group != "experiment":
            parts += [f"## {group}", *_whole(conf, group, rules)]
    parts += ["## experiment", *_experiments(conf)]
    for folder in sorted(path for path in (conf / "hydra").rglob("*") if path.is_dir()):
        files = [path for path in sorted(folder.glob("*.yaml")) if _is_option(path)]
        if files:
            parts += [f"## {folder.relative_to(conf).as_posix()}", *_hydra(files, conf)]
    return "\n\n".join(filter(None, parts))


def allowed() -> dict[str, str]:
    """Return the allowed values of each setting of the default command, in words."""
    with initialize_hydra():
        raw = OmegaConf.to_container(compose("config"))
    return {key: rule.right for key, rule in uses(raw)}


def _defaults(conf: Path) -> dict[str, str]:
    """Return the groups of ``conf/config.yaml`` and the option that each chooses; "null" for none."""
    listed = yaml.load((conf / f"{ROOT}.yaml").read_text(encoding="utf-8"), Loader)["defaults"]
    found = {}
    for item in listed:
        for name, value in item.items() if isinstance(item, dict) else ():
            if not name.startswith("override ") and "@" not in name:
                found[name] = format_default(value)
    return found


def _options(conf: Path, group: str) -> list[Path]:
    return sorted((conf / group).glob("*.yaml"))


def _groups(conf: Path, pages: Mapping[str, str]) -> str:
    rows = []
    for group, default in _defaults(conf).items():
        names = [path.stem for path in _options(conf, group)]
        where = f"[{len(names)} options]({pages[group]})" if group in pages else ", ".join(map(code, names))
        rows.append((code(group), code(default), where))
    return table(("group", "default", "options"), rows)


def _rows(node: Mapping[str, Any], notes: Mapping[str, str], rules: Mapping[str, str], prefix: str) -> list[list[str]]:
    rows = []
    for key, value in settings_of(node).items():
        if isinstance(value, str) and value.startswith("${teacher."):
            continue
        where = f"{prefix}{key}"
        shown = code(format_default(value)) if value != "" else "empty"
        rows.append([code(where), shown, prose(rules.get(where, "")), prose(notes.get(key, ""), words=True)])
    return rows


def _table(rows: list[list[str]]) -> str:
    return table(("setting", "default", "allowed", "meaning"), rows) if rows else ""


def _of_the_root(conf: Path, rules: Mapping[str, str]) -> str:
    option = read_option(conf / f"{ROOT}.yaml", "")
    groups = _defaults(conf)
    node = {key: value for key, value in option.node.items() if key not in groups and key != "hydra"}
    text = _table(_rows(node, option.notes, rules, ""))
    above = [
        f"{code(key)}: {prose(note)}" for key, note in option.notes.items() if key in node and _is_mapping(node[key])
    ]
    return "\n\n".join([text, *(f"- {each}" for each in above)])


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _shared(conf: Path, group: str, rules: Mapping[str, str], page: str) -> Iterator[str]:
    """Format the settings that all options of a group have, whichever file sets them."""
    read = {path.stem: read_option(path, group) for path in _options(conf, group)}
    root = read_option(conf / f"{ROOT}.yaml", "")
    own, notes = root.node.get(group) or {}, _below(root.notes, group)
    chosen = settings_of(read[_defaults(conf)[group]].node)
    nodes = [settings_of(each.node) for each in read.values()]
    common = [key for key in nodes[0] if all(key in node for node in nodes)]
    rows = _rows(own, notes, rules, f"{group}.")
    for key in common:
        if key.split(".")[0] in ("terms", "weights", "wrap", "network"):
            continue
        values = {format_default(node[key]) for node in nodes}
        notes_of_key = Counter(each.notes[key] for each in read.values() if key in each.notes).most_common(1)
        note = notes_of_key[0][0] if notes_of_key else ""
        default = code(values.pop()) if len(values) == 1 else f"{code(format_default(chosen[key]))}, by option"
        where = f"{group}.{key}"
        rows.append([code(where), default, prose(rules.get(where, "")), prose(note, words=True)])
    yield f"[All {len(read)} options with their own settings]({page})."
    yield _table(rows)


def _below(notes: Mapping[str, str], group: str) -> dict[str, str]:
    return {key.removeprefix(f"{group}."): note for key, note in notes.items() if key.startswith(f"{group}.")}


def _whole(conf: Path, group: str, rules: Mapping[str, str]) -> Iterator[str]:
    """Format a group whose options differ in values alone: the default in full, the others by their differences."""
    chosen = _defaults(conf)[group]
    option = read_option(conf / group / f"{chosen}.yaml", group)
    yield f"### {group}={chosen}"
    yield remarks(option.header)
    yield _table(_rows(option.node, option.notes, rules, f"{group}."))
    base = settings_of(option.node)
    for path in _options(conf, group):
        if path.stem == chosen:
            continue
        other = read_option(path, group)
        differs = {
            key: value for key, value in settings_of(other.node).items() if key not in base or base[key] != value
        }
        yield f"### {group}={path.stem}"
        yield remarks(other.header)
        rows = [row[:2] + row[3:] for row in _rows(differs, other.notes, {}, f"{group}.")]
        yield table(("setting", "value", "meaning"), rows) if rows else ""


def _experiments(conf: Path) -> Iterator[str]:
    yield "An experiment is a file of overrides. Overrides on the command line take precedence."
    for path in _options(conf, "experiment"):
        text = path.read_text(encoding="utf-8")
        header = _header(text)
        chosen = dict(overrides(yaml.load(text, Loader).get("defaults", [])))
        yield f"### {path.stem}"
        yield remarks(header)
        if chosen:
            yield "Chooses " + ", ".join(code(f"{group}={option}") for group, option in chosen.items()) + "."
        node = {key: value for key, value in yaml.load(text, Loader).items() if key != "defaults"}
        notes = dict(notes_of(yaml.compose(text, Loader), text.splitlines(), 0))
        rows = [row[:2] + row[3:] for row in _rows(node, notes, {}, "")]
        yield table(("setting", "value", "meaning"), rows) if rows else ""


def _header(text: str) -> list[str]:
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.removeprefix("#").removeprefix(" "))
    return lines


def _is_option(path: Path) -> bool:
    return "_target_" in (yaml.load(path.read_text(encoding="utf-8"), Loader) or {})


def _hydra(files: list[Path], conf: Path) -> Iterator[str]:
    """Format launchers and sweepers, with the settings that a comment explains; the plugin explains the others."""
    for path in files:
        text = path.read_text(encoding="utf-8")
        node = yaml.load(text, Loader)
        notes = dict(notes_of(yaml.compose(text, Loader), text.splitlines(), 0))
        group = path.parent.relative_to(conf).as_posix()
        yield f"### {group}={path.stem}"
        yield remarks(_header(text))
        explained = {key: value for key, value in settings_of(node).items() if key in notes}
        rows = [row[:2] + row[3:] for row in _rows(explained, notes, {}, f"{group.replace('/', '.')}.")]
        yield table(("setting", "default", "meaning"), rows) if rows else ""
        yield fence(f"python -m kd.run -m {group}={path.stem}", "sh")
