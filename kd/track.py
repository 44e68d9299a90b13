"""What a run measures: ``metrics.jsonl`` always, Weights & Biases when asked. Of the others only kd.dashboard knows it.

W&B is a copy for looking at, never the record: whatever breaks inside it (no server, no key, a full disk, its service
process killed) costs one warning line, and the run goes on with a complete ``metrics.jsonl``.

One W&B run is one thing that was trained. A cell of a sweep has the job type ``distill``; its teacher and its twin,
which many cells share, are runs of their own (``Tracker.sibling``), and so is a sweep's report (``publish_report``).

Choices that look odd without their reason:

* Curves stand on ``epoch``, which every row holds. wandb's ``_step`` is renumbered when two pieces of one run (killed,
  started again) are joined by ``wandb sync``.
* What people filter by has a second name, short and without a dot (``SHORT_NAMES``): in a filter, a grouping or a
  panel W&B takes ``kd.temperature`` for ``temperature`` inside ``kd``.
* wandb asks the server before it takes a table or an artifact, and drops what it cannot ask for. So a run whose server
  went away ends in a second, offline piece of the same id, and ``wandb sync`` joins the two.
* The student is hard-linked beside the run's W&B files and added from there. An artifact is only read when it is
  synced, perhaps weeks later, and the run folder may have been renamed by then; wandb's own answer is a second copy.
* wandb's own description of the machine (user and host name, command line, paths, git remote) is switched off, and a
  configured absolute path is sent as its last part. What a latency needs to be understood stands in ``machine/...``.
  One thing remains: the manifest of an artifact or a table names the file it was read from, and wandb sends that along.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from filelock import FileLock, Timeout

from kd.progress import here

log = logging.getLogger(__name__)

MODES = ("offline", "online", "disabled")
FINISH_TIMEOUT = 60  # seconds that the end of a run may wait for a server that went away; wandb's default is for ever
# an absolute path of any system within a text; its last part is the group
PLACE = re.compile(r"(?<![\w./~])(?:~|[A-Za-z]:)?[\\/](?:[^\s,;'\"\\/]*[\\/])*([^\s,;'\"\\/]+)")
FREE_TEXT = ("notes", "command", "run", "error")  # may name the folders of this machine
AWAY = 300  # seconds for which no run of this outputs folder asks a server again that did not answer

# config: a second name for what people filter by
SHORT_NAMES = {
    "temperature": "kd.temperature",
    "alpha": "kd.alpha",
    "width": "student.width",
    "method": "choices.kd",
    **{group: f"choices.{group}" for group in ("data", "teacher", "attention", "student")},
}
# summary: the merits of the network that a run is about, named alike for all job types -> their name in result.json
OWN = {
    "test/accuracy": "accuracy",
    "test/macro_f1": "macro_f1",
    "test/nll": "nll",
    "test/ece": "ece",
    "val/accuracy": "training/best_val_accuracy",
    "cost/params": "params",
    "cost/macs": "macs",
    "cost/size_mb": "size_mb",
    "cost/latency_ms": "latency_ms/batch_1/p50",
    "cost/throughput": "throughput",
}
# settings and choices that say nothing of a teacher, or of a twin
FOREIGN = {
    "teacher": ("baseline.", "kd.", "twin.", "student.", "train.student."),
    "baseline": ("kd.", "teacher.", "attention.", "train.teacher."),
}


class Tracker:
    """One run's scalars, pictures and tables.

    Args:
        folder: the run folder; ``metrics.jsonl`` is begun anew in it, nothing else is touched. None: no such file.
        root: the outputs folder. All runs share ``root/wandb``, where one ``wandb leet`` or ``wandb sync`` sees all.
        run_id: the run's key, which is also its W&B id: a run that is started again is the same run.
        config: resolved, flat, plain: ``{"kd.temperature": 4.0, "seed": 0}``; lists are allowed.
        name, group, job_type, tags: how W&B shows and groups the run.
        mode: "offline", "online" (offline where there is no key or no answer) or "disabled" (wandb is not imported).
        project, entity: where it goes when it is online or synced.
        timeout: seconds that "online" waits for the server before it goes on offline.
        system_stats: let wandb sample CPU, memory and GPU.
        stage: whose network the run is about: "student", "teacher", "baseline", or None.

    Raises:
        ValueError: for a mode that does not exist.
    """

    def __init__(
        self,
        folder: str | Path | None,
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
        stage: str | None = "student",
    ):
        if mode not in MODES:
            raise ValueError(f"tracking.mode is {mode!r}; it must be one of {', '.join(MODES)}")
        self.folder, self.root = folder and Path(folder), Path(root).absolute()
        self.mode, self.timeout, self.system_stats, self.stage = mode, timeout, system_stats, stage
        config = {key: _without_place(value) for key, value in config.items()}
        short = {name: config[setting] for name, setting in SHORT_NAMES.items() if setting in config}
        kind = {"group": group, "job_type": job_type}  # wandb leet filters by config alone
        self._about = {
            "id": run_id,
            "name": name[:128],  # W&B's limit
            "group": group,
            "job_type": job_type,
            "tags": [str(tag) for tag in tags],
            "project": project,
            "entity": entity,
            "config": short | {name: value for name, value in kind.items() if value} | config,
        }
        self._open = ExitStack()  # what __exit__ closes
        self._file: Any = None  # metrics.jsonl
        self._run: Any = None  # wandb's
        self._stages: set[str] = set()  # whose step wandb knows
        self._said: set[str] = set()  # warnings
        self._siblings: dict[str, Tracker | None] = {}  # by stage; None: somebody else shows it
        self._place: Path | None = None  # the run's own folder below root/wandb
        self._unsent: list[Path] = []  # such folders, with what no server has
        self._url: str | None = None

    def __enter__(self) -> Tracker:
        if self.folder:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = self._open.enter_context((self.folder / "metrics.jsonl").open("w", encoding="utf-8"))
        if self.mode != "disabled":
            with self._unharmed("starting"):
                self._open.enter_context(_house(self.root))
                self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        with self._open:
            self._end(exit_code=0 if kind is None else 1)

    def sibling(self, stage: str, *, run_id: str, name: str) -> None:
        """Make the rows of ``stage``, "teacher" or "baseline", a W&B run of their own, and leave them out of this one.

        Its job type is ``stage``, its group that of this run, its config what of this run's says something of it. The
        run that trains or finds it first makes it; whoever comes later, or at the same time, leaves it alone.
        ``metrics.jsonl`` is not concerned.
        """
        config = {
            key: value
            for key, value in self._about["config"].items()
            if key not in (*SHORT_NAMES, "job_type")
            and not f"{key.removeprefix('choices.')}.".startswith(FOREIGN[stage])
        }
        if stage == "teacher":
            config["seed"] = config.get("teacher.seed")  # "seed" is the student's
        own = {"run_id": run_id, "name": name, "job_type": stage, "stage": stage, "config": config}
        shared = {key: self._about[key] for key in ("group", "tags", "project", "entity")}
        sibling = Tracker(None, root=self.root, **own, **shared, timeout=self.timeout)
        sibling._said = self._said
        self._siblings[stage] = sibling

    def log(self, row: Mapping[str, Any]) -> None:
        """Append ``row`` ({"stage": ..., "epoch": ..., name: number}) and show it as ``<stage>/<name>`` by ``epoch``.

        NaN and infinity are written as null: JSON knows neither.
        """
        row = {name: _plain(value) for name, value in row.items()}
        if self._file:
            finite = {name: _finite(value) for name, value in row.items()}
            self._file.write(json.dumps(finite, allow_nan=False) + "\n")
            self._file.flush()
        if self._run:
            with self._unharmed("logging"):
                shown_by = self._shown_by(row["stage"])
                if shown_by:
                    shown_by._show(row)

    def finish(
        self,
        result: Mapping[str, Any],
        figures: Mapping[str, Path],
        tables: Mapping[str, Sequence[Mapping[str, Any]]],
        artifacts: Mapping[str, Path],
    ) -> None:
        """Give W&B what a run ends with: the numbers of result.json as summary, figures, tables, the student.

        What cannot be shown is left out with a warning; the rest arrives. The siblings get what is theirs, and end.
        """
        if not self._run:
            return
        there = not self._url or self._answers()
        self._tell(there, result, figures, tables, artifacts)
        for stage in self._siblings:
            with self._unharmed(f"telling of the {stage}"):
                sibling = self._shown_by(stage) if result.get(stage) else None
                if sibling:
                    theirs = {name: result[name] for name in (stage, "data", "machine") if name in result}
                    confusion = {key: path for key, path in figures.items() if key == f"confusion_{stage}"}
                    sibling._tell(there, theirs, confusion, {}, {})
                    if sibling._end():
                        sibling._sign()

    def hint(self) -> str:
        """Return how to look at this run and how to send it, for the end of a run; "" when there is nothing to see."""
        if self._place is None:
            return ""
        look = f"look: {self._url or 'wandb leet ' + here(self._place.parent)}"
        siblings = [sibling for sibling in self._siblings.values() if sibling]
        unsent = [place for tracker in (self, *siblings) for place in dict.fromkeys(tracker._unsent)]
        if not unsent:
            return look
        online = any(not place.name.startswith("offline-") for place in unsent)
        return f"{look}\nsend: wandb sync {'--include-online ' * online}{' '.join(map(here, unsent))}"

    def _start(self) -> None:
        mode, began = self.mode, time.monotonic()
        ago = _seconds_since(self.root / "wandb" / "no-answer")
        if mode == "online" and ago < AWAY:
            log.warning(
                "W&B did not answer %.0f s ago: this run is tracked offline, without asking again before %g minutes",
                ago,
                AWAY / 60,
            )
            mode = "offline"
        try:
            self._begin(mode)
        except Exception as error:
            _teardown()  # else the id counts as in use; and a dead service process is replaced by a new one
            if mode == "online":
                log.warning("W&B cannot be used online, this run is tracked offline: %s", _line(error))
                if time.monotonic() - began >= self.timeout:
                    self._note_no_answer()
            self._begin("offline")

    def _begin(self, mode: str) -> None:
        """Begin the run, or a further piece of it."""
        import wandb  # takes a second

        settings = {
            "silent": True,
            "console": "off",
            "init_timeout": self.timeout,
            "finish_timeout": FINISH_TIMEOUT,
            "finish_timeout_raises": True,
            "x_disable_stats": not self.system_stats,
            "program": "kd.run",  # else the path of the program
            "x_disable_meta": True,
            "x_disable_machine_info": True,
            "host": "",  # else the name of this machine
            "x_transaction_log_flush_interval": 1.0,  # wandb's 15 s is what a killed run would lose
        }
        wandb.setup(wandb.Settings(mode=mode, silent=True))  # else WANDB_MODE would speak before the config does
        # without this wandb.init would ask on a terminal for a key
        if mode == "online" and not wandb.login(prompt=False, verify=False):
            raise wandb.errors.UsageError("no API key (`wandb login`, or WANDB_API_KEY)")
        self._run = wandb.init(
            **self._about,
            mode=mode,
            dir=os.environ["WANDB_DIR"],
            resume="allow",
            reinit="create_new",  # the default hands out a run that somebody in this process forgot to finish
            settings=wandb.Settings(**settings),
        )
        self._place = Path(self._run.dir).parent
        self._url = None if self._run.offline else self._run.url
        self._stages.clear()
        if not self._url:
            self._unsent.append(self._place)

    def _end(self, exit_code: int = 0) -> bool:
        """End the run, or a piece of it; return whether all of it is where it belongs."""
        run, self._run = self._run, None
        if run is None:
            return False
        try:
            run.finish(exit_code=exit_code)
            return True
        except TimeoutError:
            self._say(f"W&B did not take everything within {FINISH_TIMEOUT:g} s: the rest can be sent later")
            self._note_no_answer()
        except Exception as error:
            self._warn("finishing", error)
            _teardown()  # else the next run and wandb's own exit hook would find a dead service process
        self._unsent.append(self._place)
        return False

    def _show(self, row: Mapping[str, Any]) -> None:
        stage = row["stage"]
        if stage not in self._stages:
            self._run.define_metric("epoch", hidden=True)  # an axis, no curve
            self._run.define_metric(f"{stage}/*", step_metric="epoch")
            self._stages.add(stage)
        named = {name if name == "epoch" else f"{stage}/{name}": value for name, value in row.items()}
        del named[f"{stage}/stage"]
        self._run.log(named)

    def _tell(self, there: bool, result: Mapping, figures: Mapping, tables: Mapping, artifacts: Mapping) -> None:
        """See ``finish``, for one run; ``there``: the server of an online run answers."""
        import wandb

        if not there:
            self._say("W&B does not answer any more: the end of this run is tracked offline")
            with self._unharmed("going on offline"):
                self._begin("online" if self._end() else "offline")
        if not self._run:
            return
        with self._unharmed("writing the summary"):
            merits = dict(flat(result.get(self.stage) or {}))
            own = {name: merits[source] for name, source in OWN.items() if source in merits}
            self._run.summary.update(dict(flat(result)) | own)
        shown: dict[str, Any] = {}
        place = "figures" if self.stage else "sweep"
        for key, path in figures.items():
            with self._unharmed(f"reading figure {key}"):
                shown[f"{place}/{key}"] = wandb.Image(str(path))
        for key, rows in tables.items():
            with self._unharmed(f"making table {key}"):
                columns = list(dict.fromkeys(column for row in rows for column in row))
                cells = [[_plain(row.get(column)) for column in columns] for row in rows]
                shown[key] = wandb.Table(columns=columns, data=cells, allow_mixed_types=True)
        with self._unharmed("showing the figures and tables"):
            self._run.log(shown)
        for key, path in artifacts.items():
            with self._unharmed(f"keeping {path}"):
                self._keep(key, Path(path), result)

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
            artifact.wait(timeout=FINISH_TIMEOUT)  # a failed upload says nothing by itself, and no sync repeats it

    def _shown_by(self, stage: str) -> Tracker | None:
        """Return the tracker whose run shows ``stage``, begun; None when somebody else has shown it, or is at it."""
        sibling = self._siblings.get(stage, self)
        if sibling and sibling is not self and sibling._place is None:
            self._siblings[stage] = None  # unless all of this succeeds
            sibling.mode = "online" if self._url else "offline"
            if sibling._claim():
                self._open.push(sibling)
                sibling._begin(sibling.mode)
                self._siblings[stage] = sibling
        return self._siblings.get(stage, self)

    def _claim(self) -> bool:
        """Take on a sibling: False when it has been told to this project before, or somebody is telling it now."""
        page = self._page()
        page.parent.mkdir(exist_ok=True)
        lock = FileLock(f"{page}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        if page.exists() and page.read_text(encoding="utf-8") in ("online", self.mode):
            lock.release()
            return False
        self._open.callback(lock.release)
        return True

    def _sign(self) -> None:
        """Write down that this sibling has been told, and whether to the server."""
        self._page().write_text("online" if self._url else "offline", encoding="utf-8")

    def _page(self) -> Path:
        names = (self._about["entity"], self._about["project"], self._about["id"])
        return self.root / "wandb" / "told" / "-".join(filter(None, names))

    def _answers(self) -> bool:
        """Ask the server who we are, as wandb does before it takes a table, but not for 19 s a table."""
        import wandb

        try:
            wandb.Api({"base_url": self._run.settings.base_url}, timeout=max(1, round(self.timeout)))
        except Exception as error:
            log.debug("wandb.Api: %s", error)
            return False
        return True

    def _note_no_answer(self) -> None:
        with self._unharmed("writing down that there was no answer"):
            (self.root / "wandb" / "no-answer").touch()

    @contextmanager
    def _unharmed(self, what: str) -> Iterator[None]:
        """Turn a failure of wandb's into one warning line, however often it comes back."""
        try:
            yield
        except Exception as error:
            self._warn(what, error)

    def _warn(self, what: str, error: Exception) -> None:
        # a dead service process speaks with many voices
        cause = "connection" if isinstance(error, ConnectionError) else _line(error)
        self._say(f"W&B failed while {what} (the run itself goes on): {_line(error)}", cause)

    def _say(self, warning: str, cause: str = "") -> None:
        """Warn, once for a run and its siblings."""
        if (cause or warning) not in self._said:
            log.warning("%s", warning)
        self._said.add(cause or warning)


def publish_report(
    root: str | Path,
    *,
    run_id: str,
    name: str,
    config: Mapping[str, Any],
    figures: Mapping[str, Path],
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    summary: Mapping[str, Any],
    **tracking: Any,
) -> str:
    """Show a sweep's report as a W&B run of the job type "report", and return how to look at it and send it.

    Args:
        run_id: the same for the same sweep, so that a report that is made again replaces the one before.
        figures: shown as ``sweep/<key>``. tables: as ``<key>``. summary: nested, see ``flat``.
        tracking: group, mode, project, entity, tags, timeout, as in ``Tracker``.

    Of config and tables the entries in ``FREE_TEXT`` stay here.
    """

    def told(row: Mapping[str, Any]) -> dict[str, Any]:
        return {key: _without_place(value) for key, value in row.items() if key not in FREE_TEXT}

    about = {"run_id": run_id, "name": name, "config": told(config), "job_type": "report", "stage": None}
    with Tracker(None, root=root, **about, **tracking) as tracker:
        tracker.finish(summary, figures, {key: list(map(told, rows)) for key, rows in tables.items()}, {})
    return tracker.hint()


def flat(result: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the single values of result.json as ("student/latency_ms/batch_1/p50", 1.2), without lists.

    Left out: the settings (they are the config), the per-class table, and free text, which may name paths.
    """
    for name, value in result.items():
        if name in ("settings", "per_class", *FREE_TEXT):
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
        return PLACE.sub(r"\1", value)
    return value


def _plain(value: Any) -> Any:
    """Return the Python number in a NumPy or torch scalar, and anything else as it is."""
    return value.item() if hasattr(value, "item") else value


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def _seconds_since(path: Path) -> float:
    """Return the age of a file; infinity where there is none."""
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return math.inf
