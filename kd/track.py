"""What a run measures: ``metrics.jsonl`` always, Weights & Biases when asked. The only file that knows wandb.

W&B is a copy for looking at, never the record: whatever breaks inside it (no server, no key, a full disk, its service
process killed) costs one warning line, and the run goes on with a complete ``metrics.jsonl``.

Three choices that look odd without their reason:

* Every stage has its own step, ``<stage>/epoch``. wandb's ``_step`` is renumbered when two pieces of one run (killed,
  started again) are joined by ``wandb sync``, so no curve may stand on it.
* The student is hard-linked beside the run's W&B files and added from there. An artifact is only read when it is
  synced, perhaps weeks later, and the run folder may have been renamed by then; wandb's own answer is a second copy.
* wandb's own description of the machine (user and host name, command line, paths, git remote) is switched off, and a
  configured absolute path is sent as its last part. What a latency needs to be understood stands in ``machine/...``.
  One thing remains: the manifest of an artifact names the file it was read from, and wandb sends that along.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

log = logging.getLogger(__name__)

MODES = ("offline", "online", "disabled")
FINISH_TIMEOUT = 60  # seconds that finish() may wait for a server that went away; wandb's default is for ever


class Tracker:
    """One run's scalars, pictures and tables.

    Args:
        folder: the run folder; ``metrics.jsonl`` is begun anew in it, nothing else is touched.
        root: the outputs folder. All runs share ``root/wandb``, where one ``wandb leet`` or ``wandb sync`` sees all.
        run_id: the run's key, which is also its W&B id: a run that is started again is the same run.
        config: resolved, flat, plain: ``{"kd.temperature": 4.0, "seed": 0}``; lists are allowed.
        name, group, job_type, tags: how W&B shows and groups the run.
        mode: "offline", "online" (offline where there is no key or no answer) or "disabled" (wandb is not imported).
        project, entity: where it goes when it is online or synced.
        timeout: seconds that "online" waits for the server before it goes on offline.
        system_stats: let wandb sample CPU, memory and GPU.

    Raises:
        ValueError: for a mode that does not exist.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        root: str | Path,
        run_id: str,
        config: Mapping[str, Any],
        name: str,
        group: str | None = None,
        job_type: str | None = None,
        tags: Sequence[str] = (),
        mode: str = "offline",
        project: str = "kd",
        entity: str | None = None,
        timeout: float = 10.0,
        system_stats: bool = False,
    ):
        if mode not in MODES:
            raise ValueError(f"tracking.mode is {mode!r}; it must be one of {', '.join(MODES)}")
        self.folder, self.root = Path(folder), Path(root).absolute()
        self.mode, self.timeout, self.system_stats = mode, timeout, system_stats
        self._about = {
            "id": run_id,
            "name": name[:128],  # W&B's limit
            "group": group,
            "job_type": job_type,
            "tags": [str(tag) for tag in tags],
            "project": project,
            "entity": entity,
            "config": {key: _without_place(value) for key, value in config.items()},
        }
        self._open = ExitStack()  # what __exit__ closes
        self._run: Any = None  # wandb's
        self._stages: set[str] = set()  # whose step wandb knows
        self._said: set[str] = set()  # warnings
        self._place: Path | None = None  # the run's own folder below root/wandb
        self._url: str | None = None

    def __enter__(self) -> Tracker:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = self._open.enter_context((self.folder / "metrics.jsonl").open("w", encoding="utf-8"))
        if self.mode != "disabled":
            with self._unharmed("starting"):
                self._open.enter_context(_house(self.root))
                self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        with self._open:
            run, self._run = self._run, None
            if run is None:
                return
            finished = False
            with self._unharmed("finishing"):
                run.finish(exit_code=0 if kind is None else 1)
                finished = True
            if not finished:
                _teardown()  # else the next run and wandb's own exit hook would find a dead service process

    def log(self, row: Mapping[str, Any]) -> None:
        """Append ``row`` ({"stage": ..., "epoch": ..., name: number}) and show it as ``<stage>/<name>``.

        NaN and infinity are written as null: JSON knows neither.
        """
        row = {name: _plain(value) for name, value in row.items()}
        self._file.write(json.dumps({name: _finite(value) for name, value in row.items()}, allow_nan=False) + "\n")
        self._file.flush()
        if self._run:
            with self._unharmed("logging"):
                self._show(row)

    def finish(
        self,
        result: Mapping[str, Any],
        figures: Mapping[str, Path],
        tables: Mapping[str, Sequence[Mapping[str, Any]]],
        artifacts: Mapping[str, Path],
    ) -> None:
        """Give W&B what a run ends with: the numbers of result.json as summary, figures, tables, the student.

        What cannot be shown is left out with a warning; the rest arrives.
        """
        if not self._run:
            return
        import wandb

        with self._unharmed("writing the summary"):
            self._run.summary.update(dict(flat(result)))
        shown: dict[str, Any] = {}
        for key, path in figures.items():
            with self._unharmed(f"reading figure {key}"):
                shown[f"figures/{key}"] = wandb.Image(str(path))
        for key, rows in tables.items():
            with self._unharmed(f"making table {key}"):
                columns = list(dict.fromkeys(column for row in rows for column in row))
                cells = [[_plain(row.get(column)) for column in columns] for row in rows]
                shown[key] = wandb.Table(columns=columns, data=cells, allow_mixed_types=True)
        with self._unharmed("showing the figures and tables"):
            self._run.log(shown)
        for key, path in artifacts.items():
            with self._unharmed(f"keeping {key}"):
                self._keep(key, Path(path), result)

    def hint(self) -> str:
        """Return how to look at this run and how to send it, for the end of a run; "" when there is nothing to see."""
        if self._url:
            return f"look: {self._url}"
        if self._place is None:
            return ""
        return f"look: wandb leet {_short(self._place.parent)}\nsend: wandb sync {_short(self._place)}"

    def _start(self) -> None:
        import wandb  # takes a second

        settings = {
            "silent": True,
            "console": "off",
            "init_timeout": self.timeout,
            "finish_timeout": FINISH_TIMEOUT,
            "x_disable_stats": not self.system_stats,
            "program": "kd.run",  # else the path of the program
            "x_disable_meta": True,
            "x_disable_machine_info": True,
            "x_transaction_log_flush_interval": 1.0,  # wandb's 15 s is what a killed run would lose
        }

        def begin(mode: str):
            wandb.setup(wandb.Settings(mode=mode, silent=True))  # else WANDB_MODE would speak before the config does
            # without this wandb.init would ask on a terminal for a key
            if mode == "online" and not wandb.login(prompt=False, verify=False):
                raise wandb.errors.UsageError("no API key (`wandb login`, or WANDB_API_KEY)")
            return wandb.init(
                **self._about,
                mode=mode,
                dir=os.environ["WANDB_DIR"],
                resume="allow",
                reinit="create_new",  # the default hands out a run that somebody in this process forgot to finish
                settings=wandb.Settings(**settings),
            )

        try:
            self._run = begin(self.mode)
        except Exception as error:
            _teardown()  # else the id counts as in use; and a dead service process is replaced by a new one
            if self.mode == "online":
                log.warning("W&B cannot be used online, this run is tracked offline: %s", _line(error))
            self._run = begin("offline")
        self._place = Path(self._run.dir).parent
        self._url = None if self._run.offline else self._run.url

    def _show(self, row: Mapping[str, Any]) -> None:
        stage = row["stage"]
        if stage not in self._stages:
            self._run.define_metric(f"{stage}/epoch")
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/epoch")
            self._stages.add(stage)
        self._run.log({f"{stage}/{name}": value for name, value in row.items() if name != "stage"})

    def _keep(self, key: str, path: Path, result: Mapping[str, Any]) -> None:
        import wandb

        kept = self._place / "artifacts" / path.name
        kept.parent.mkdir(exist_ok=True)
        try:
            os.link(path, kept)
        except OSError:  # another file system, or one without links
            shutil.copyfile(path, kept)
        metadata = {name: value for name, value in flat(result) if name.startswith((f"{key}/", "choices/"))}
        artifact = wandb.Artifact(f"{key}-{self._about['id']}", type="model", metadata=metadata)
        artifact.add_file(str(kept), name=path.name, policy="immutable")
        self._run.log_artifact(artifact)
        if self._url:
            artifact.wait(timeout=FINISH_TIMEOUT)  # a failed upload says nothing by itself

    @contextmanager
    def _unharmed(self, what: str) -> Iterator[None]:
        """Turn a failure of wandb's into one warning line, however often it comes back."""
        try:
            yield
        except Exception as error:
            # a dead service process speaks with many voices
            cause = "connection" if isinstance(error, ConnectionError) else _line(error)
            if cause not in self._said:
                log.warning("W&B failed while %s (the run itself goes on): %s", what, _line(error))
            self._said.add(cause)


def flat(result: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the single values of result.json as ("student/latency_ms/batch_1/p50", 1.2), without lists.

    Left out: the settings (they are the config), the per-class table, and free text, which may name paths.
    """
    for name, value in result.items():
        if name in ("settings", "per_class", "notes", "command"):
            continue
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}/")
        elif value is not None and not isinstance(value, (list, tuple)):
            yield f"{prefix}{name}", _plain(value)


@contextmanager
def _house(root: Path) -> Iterator[None]:
    """For the time of a run, give wandb one place under ``root`` for all it writes, unless the user named another."""
    house = root / "wandb"
    house.mkdir(parents=True, exist_ok=True)  # wandb goes to the system's temporary folder where there is none
    wanted = {
        "WANDB_DIR": str(root),
        "WANDB_DATA_DIR": str(house / "data"),
        "WANDB_CACHE_DIR": str(house / "cache"),
        "WANDB_CONFIG_DIR": str(house / "config"),
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",  # its telemetry adds 10 to 20 s to a run whose server is away
    }
    if Path("~/.config/wandb/settings").expanduser().exists():
        del wanted["WANDB_CONFIG_DIR"]  # `wandb login --host` wrote down there which server is the user's
    ours = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def _teardown() -> None:
    import wandb

    try:
        wandb.teardown()
    except (Exception, SystemExit) as error:  # it exits with the code of its service process when that was killed
        log.debug("wandb.teardown: %s", error)
    os.environ.pop("WANDB_SERVICE", None)  # the address of the service that is gone


def _without_place(value: Any) -> Any:
    """Return ``value`` with an absolute path cut to its last part: where a folder lies is this machine's business."""
    if isinstance(value, (list, tuple)):
        return [_without_place(item) for item in value]
    if isinstance(value, str):
        if value.startswith(("/", "~")):
            return PurePosixPath(value).name
        if PureWindowsPath(value).is_absolute():
            return PureWindowsPath(value).name
    return value


def _plain(value: Any) -> Any:
    """Return the Python number in a NumPy or torch scalar, and anything else as it is."""
    return value.item() if hasattr(value, "item") else value


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def _short(path: Path) -> str:
    """Return ``path`` from here when it lies below here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
