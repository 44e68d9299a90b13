"""What a run measures: ``metrics.jsonl`` always, Weights & Biases when asked. Of the others only kd.dashboard knows it.

W&B is a copy for looking at, never the record: whatever breaks inside it (no server, no key, a full disk, its service
process killed) costs one warning line, and the run goes on with a complete ``metrics.jsonl``. A server that does not
answer is waited for ``timeout`` seconds at the start and ``FINISH_TIMEOUT`` at the end of each W&B run. A service
process that died is replaced, once in a run, and told everything again.

A run that is started again logs all its rows again, from the first on, in the same order and with the same values.
Behind a kill at any moment W&B ends with the history of a run that was never killed:

* An offline piece that nobody has sent is removed when its run begins again. One that was sent stays, and the rows that
  it holds are left out of the next: ``wandb sync`` joins the pieces and would number what stands in both twice.
* Online the rows that the server has are left out. Each is logged with its own number as ``step``, which is how the
  server says how far it got.
* Killed online and begun again offline, a run is in two pieces. ``wandb sync`` sends the first from its beginning: rows
  that the server had arrive a second time, on the same step.

One W&B run is one thing that was trained. A cell of a sweep has the job type ``distill``; its teacher and its twin,
which many cells share, are runs of their own (``Tracker.sibling``), and so is a sweep's report (``publish_report``).
Under a ``wandb agent`` the cell is the run that the agent handed out (``kd/wandb_environment.py``).

Choices that look odd without their reason:

* Curves stand on ``epoch``, which every row holds. wandb's ``_step`` is renumbered where ``wandb sync`` joins pieces in
  another order than that of their rows, as when the clock was set back between them.
* What people filter by has a second name, short and without a dot (``SHORT_NAMES``): in a filter, a grouping or a
  panel W&B takes ``kd.temperature`` for ``temperature`` inside ``kd``.
* wandb asks the server before it takes a table or an artifact, and drops what it cannot ask for. So a run whose server
  went away ends in a second, offline piece of the same id, and ``wandb sync`` joins the two.
* The student is hard-linked beside the run's W&B files and added from there. An artifact is only read when it is
  synced, perhaps weeks later, and the run folder may have been renamed by then; wandb's own answer is a second copy.
* wandb's own description of the machine (user and host name, command line, paths, git remote) is switched off, and all
  texts pass ``kd.redact``. What a latency needs to be understood stands in ``machine/...``. One thing remains: the
  manifest of an artifact or a table names the file it was read from, and wandb sends that along.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

from filelock import FileLock, Timeout

from kd.interfaces import first_line
from kd.journal import Journal
from kd.progress import here
from kd.redact import redact, without_secrets
from kd.store import digest, lock_of
from kd.wandb_environment import Agent, house
from kd.wandb_folders import Pieces, records, unsent
from kd.wandb_names import MOST, MOST_OF_A_TAG, as_group

log = logging.getLogger(__name__)

MODES = ("offline", "online", "disabled")
FINISH_TIMEOUT = 60  # seconds that the end of a run may wait for a server that went away; wandb's default is for ever
FLUSH_TIMEOUT = 2  # seconds that wandb's service process has to write the last of it
HASTE = 0.5  # seconds that the end of an interrupted run may take
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
    "test/top5_accuracy": "top5_accuracy",
    "test/balanced_accuracy": "balanced_accuracy",
    "test/macro_f1": "macro_f1",
    "test/nll": "nll",
    "test/ece": "ece",
    "val/accuracy": "training/best_val_accuracy",
    "val/balanced_accuracy": "training/best_val_balanced_accuracy",
    "val/macro_f1": "training/best_val_macro_f1",
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
        folder: the run folder; ``metrics.jsonl`` is written in it (kd.journal), nothing else is touched. None: no such
            file.
        root: the outputs folder. All runs share ``root/wandb``, where one ``wandb leet`` or ``wandb sync`` sees all.
        run_id: the run's key, which is also its W&B id: a run that is started again is the same run.
        config: resolved, flat, plain: ``{"kd.temperature": 4.0, "seed": 0}``; lists are allowed.
        name, group, job_type, tags: how W&B shows and groups the run.
        mode: "offline", "online" (offline where there is no key or no answer) or "disabled" (wandb is not imported).
        project, entity: where it goes when it is online or synced.
        timeout: seconds that "online" waits for the server before it goes on offline.
        system_stats: let wandb sample CPU, memory and GPU.
        stage: whose network the run is about: "student", "teacher", "baseline", or None.
        agent: the ``wandb agent`` that started the process: this run is the one that it handed out, with its id, in its
            project. Siblings have ids of their own.

    Where the environment says WANDB_RUN_GROUP it is the group of whoever has none; WANDB_NOTES are the student's.
    Left by ``KeyboardInterrupt`` it ends within ``HASTE`` seconds, whatever a server does. wandb's own exit hook is
    not as quick: an interrupted process should end by ``os._exit``.

    Raises:
        ValueError: for a mode that does not exist. OSError: ``metrics.jsonl`` cannot be written.
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
        agent: Agent | None = None,
    ):
        if mode not in MODES:
            raise ValueError(f"tracking.mode is {mode!r}; it must be one of {', '.join(MODES)}")
        self.folder, self.root = folder and Path(folder), Path(root).absolute()
        self.mode, self.timeout, self.system_stats, self.stage = mode, timeout, system_stats, stage
        self.agent = agent
        if agent:
            run_id, project, entity = agent.run_id or run_id, agent.project or project, agent.entity or entity
            config = {**agent.parameters, **config}  # W&B's page of a sweep looks for its own names
        config = redact(config)
        group = redact(group or os.environ.get("WANDB_RUN_GROUP") or None)
        group = group and as_group(group)
        notes = os.environ.get("WANDB_NOTES") if stage == "student" else None
        tags = dict.fromkeys(redact(str(tag))[:MOST_OF_A_TAG] for tag in tags)  # what is redacted may be longer
        short = {name: config[setting] for name, setting in SHORT_NAMES.items() if setting in config}
        kind = {"group": group, "job_type": job_type}  # wandb leet filters by config alone
        self._about = {
            "id": run_id,
            "name": redact(name)[:MOST],
            "group": group,
            "job_type": job_type,
            "notes": redact(notes),
            "tags": [*filter(None, tags)],
            "project": project,
            "entity": entity,
            "config": short | {name: value for name, value in kind.items() if value} | config,
        }
        self._open = ExitStack()  # what __exit__ closes
        self._journal: Journal | None = None  # metrics.jsonl
        self._run: Any = None  # wandb's
        self._rows: list[Mapping[str, Any]] = []  # that were shown
        self._first = 0  # the first of them that is not shown already
        self._lock: FileLock | None = None
        self._healed = False
        self._stages: set[str] = set()  # whose step wandb knows
        self._said: set[str] = set()  # warnings
        self._siblings: dict[str, Tracker | None] = {}  # by stage; None: somebody else shows it
        self._place: Path | None = None  # the run's own folder below root/wandb
        self._unsent: list[Path] = []  # such folders, with what no server has
        self._url: str | None = None

    def __enter__(self) -> Tracker:
        if self.folder:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._journal = Journal(self.folder / "metrics.jsonl")
        if self.agent and self.mode != "online":
            self._say("a wandb agent waits for what this run comes to, and hears of it with tracking=online")
        if self.mode != "disabled":
            with self._unharmed("starting"):
                self._open.enter_context(house(self.root))
                self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        with self._open:
            if self._journal:
                self._journal.close(complete=kind is None)
            if kind is not None and issubclass(kind, KeyboardInterrupt):
                self._leave()
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
        if self._journal:
            self._journal.write(json.dumps({name: _finite(value) for name, value in row.items()}, allow_nan=False))
        if self._run:
            with self._unharmed("logging"):
                shown_by = self._shown_by(row["stage"])
                if shown_by:
                    with self._healing("logging"):
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
        self._lives()
        there = not self._url or self._answers()
        self._tell(there, result, figures, tables, artifacts)
        if self._run and not self._lives():
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
        began = time.monotonic()
        ago = _seconds_since(self.root / "wandb" / "no-answer")
        if self.mode == "online" and ago < AWAY:
            log.warning(
                "W&B did not answer %.0f s ago: this run is tracked offline, without asking again before %g minutes",
                ago,
                AWAY / 60,
            )
            self.mode = "offline"
        try:
            self._begin(self.mode)
        except Exception as error:
            _teardown()  # else the id counts as in use; and a dead service process is replaced by a new one
            if self.mode == "online":
                log.warning("W&B cannot be used online, this run is tracked offline: %s", _line(error))
                if time.monotonic() - began >= self.timeout:
                    self._note_no_answer()
            self.mode = "offline"
            self._begin(self.mode)

    def _begin(self, mode: str, anew: bool = True) -> None:
        """Begin the run, or (not ``anew``) a further piece of it."""
        import wandb  # takes a second

        _record_no_faults()
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
            "x_transaction_log_flush_interval": 0.3,  # wandb's 15 s is what a killed run would lose
            "sweep_id": self.agent and self.agent.sweep,
        }
        logging.raiseExceptions = False  # else a full disk makes a traceback of every line of wandb's debug.log
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
        self._unsent = [] if anew else self._unsent
        with self._unharmed("looking for what an earlier process left"):
            pieces = Pieces(self._page(".pieces"), self._place.parent, self._about["id"])
            if anew:
                kept = pieces.clear(online=bool(self._url)) if self._alone() else []
                self._first = max((_read(piece)[0] for piece in kept), default=0)
                self._unsent += [piece for piece in kept if not self._url and unsent(piece)]
            pieces.note(self._place)
        if self._url:
            self._first = self._run.starting_step
        else:
            self._unsent.append(self._place)

    def _end(self, exit_code: int = 0) -> bool:
        """End the run, or a piece of it; return whether all of it is where it belongs."""
        run, self._run = self._run, None
        if run is None:
            return False
        if self._url:
            self._unsent.append(self._place)  # until it is known better
        try:
            run.finish(exit_code=exit_code)
        except TimeoutError:
            self._say(f"W&B did not take everything within {FINISH_TIMEOUT:g} s: the rest can be sent later")
            self._note_no_answer()
        except Exception as error:
            self._warn("finishing", error)
            _teardown()  # else the next run and wandb's own exit hook would find a dead service process
        else:
            with self._unharmed("looking at what it kept"):
                return self._kept()
        return False

    def _kept(self) -> bool:
        """Whether W&B's file of the run, which has ended, ends as it should: of a full disk wandb says nothing."""
        if self._url:
            self._unsent.remove(self._place)
        until = time.monotonic() + FLUSH_TIMEOUT
        while not _read(self._place)[1]:
            if time.monotonic() > until:
                self._say(
                    f"W&B could not keep all of this run (is there room in {self._place.parent}?): metrics.jsonl has "
                    "it all. To tell W&B again remove the run's folder and start the same command",
                )
                return False
            time.sleep(0.02)
        unsent(self._place)  # `wandb sync` may have come by before it ended
        return True

    def _show(self, row: Mapping[str, Any]) -> None:
        stage = row["stage"]
        if stage not in self._stages:
            self._run.define_metric("epoch", hidden=True)  # an axis, no curve
            self._run.define_metric(f"{stage}/*", step_metric="epoch")
            self._stages.add(stage)
        named = {name if name == "epoch" else f"{stage}/{name}": value for name, value in row.items()}
        del named[f"{stage}/stage"]
        number = len(self._rows)
        self._rows.append(row)
        if number >= self._first:
            self._run.log(named, step=number, commit=True)  # else it is held back until the next

    def _tell(self, there: bool, result: Mapping, figures: Mapping, tables: Mapping, artifacts: Mapping) -> None:
        """See ``finish``, for one run; ``there``: the server of an online run answers."""
        import wandb

        if not there:
            self._say("W&B does not answer any more: the end of this run is tracked offline")
            with self._unharmed("going on offline"):
                before = self._place
                self._end()
                self._begin("offline", anew=False)
                self._unsent.insert(0, before)  # also when it ended well: wandb gives up where a key is refused
        if not self._run:
            return
        with self._unharmed("writing the summary"):
            merits = dict(flat(result.get(self.stage) or {}))
            own = {name: merits[source] for name, source in OWN.items() if merits.get(source) is not None}
            self._run.summary.update(redact(dict(flat(result)) | own))
        shown: dict[str, Any] = {}
        place = "figures" if self.stage else "sweep"
        for key, path in figures.items():
            with self._unharmed(f"reading figure {key}"):
                shown[f"{place}/{key}"] = wandb.Image(str(path))
        for key, rows in tables.items():
            with self._unharmed(f"making table {key}"):
                columns = list(dict.fromkeys(column for row in rows for column in row))
                cells = [[redact(_plain(row.get(column)), column) for column in columns] for row in rows]
                shown[key] = wandb.Table(columns=columns, data=cells, allow_mixed_types=True)
        with self._unharmed("showing the figures and tables"):
            if self.stage is None:  # a report that is made again stands behind the one before
                self._run.log(shown)
            elif len(self._rows) >= self._first:
                self._run.log(shown, step=len(self._rows), commit=True)
            else:  # killed behind this: the row is there, but perhaps not all its files
                self._run.summary.update(shown)
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
        metadata = redact(metadata)
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
        alone, page = self._alone(), self._page()
        told = page.exists() and page.read_text(encoding="utf-8") in ("online", self.mode)
        if told:
            self._open.close()
        return alone is not False and not told

    def _alone(self) -> bool | None:
        """Keep others from telling this run until it ends: False when somebody is at it, None where nobody can tell."""
        if self._lock is None:
            lock = lock_of(self._page(".lock"))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                return False
            except (OSError, NotImplementedError) as error:  # a file system without locks
                self._say(f"W&B's runs cannot be locked, two jobs may tell of the same: {_line(error)}", "locks")
                return None
            self._lock = lock
            self._open.callback(lock.release)
        return True

    def _sign(self) -> None:
        """Write down that this sibling has been told, and whether to the server."""
        self._page().write_text("online" if self._url else "offline", encoding="utf-8")

    def _page(self, ending: str = "") -> Path:
        names = (self._about["entity"], self._about["project"], self._about["id"])
        folder, name = self.root / "wandb" / "told", "-".join(filter(None, names))
        if len(os.fsencode(name)) > 200:  # a project of 128 letters, each of up to 4 bytes
            name = digest({"told": name})
        folder.mkdir(exist_ok=True)
        return folder / (name + ending)

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

    def _leave(self) -> None:
        """End within ``HASTE`` seconds; what has not been sent by then lies in W&B's files."""
        trackers = [tracker for tracker in (self, *self._siblings.values()) if tracker and tracker._run]
        ends = [Thread(target=tracker._finish_somehow, daemon=True) for tracker in trackers]
        for end in ends:
            end.start()
        until = time.monotonic() + HASTE
        for tracker, end in zip(trackers, ends, strict=True):
            end.join(max(0.0, until - time.monotonic()))
            if end.is_alive():
                tracker._unsent.append(tracker._place)
            tracker._run = None

    def _finish_somehow(self) -> None:
        with suppress(Exception):
            self._run.finish(exit_code=1)

    def _lives(self) -> bool:
        """Whether wandb's service process lives; one that died is replaced."""
        with self._unharmed("finishing"), self._healing("finishing"):
            try:
                self._run.status()  # the only question that it answers itself
            except Exception as error:
                raise ConnectionError(f"its service process is gone ({_line(error)})") from error
            return True
        return False

    @contextmanager
    def _healing(self, what: str) -> Iterator[None]:
        """When wandb's service process has died, start another, once, and tell it all rows again."""
        try:
            yield
        except ConnectionError as error:
            if self._healed:
                raise
            self._healed = True
            self._warn(what, error)
            _teardown()
            for tracker in (self, *self._siblings.values()):
                if tracker and tracker._run:
                    rows, tracker._rows = tracker._rows, []
                    tracker._start()
                    for row in rows:
                        tracker._show(row)

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
            log.warning("%s", without_secrets(warning))
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
        return {key: value for key, value in row.items() if key not in FREE_TEXT}

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


def _record_no_faults() -> None:
    """Where its service process does not start wandb 0.31 would record that, and wait for itself for ever: recording
    takes the lock that the one who starts the service holds."""
    with suppress(ImportError, AttributeError):
        from wandb.analytics.opentelemetry.opentelemetry_proxy import disable

        disable()


def _teardown() -> None:
    import wandb

    try:
        wandb.teardown()
    except (Exception, SystemExit) as error:  # it exits with the code of its service process when that was killed
        log.debug("wandb.teardown: %s", error)
    os.environ.pop("WANDB_SERVICE", None)  # the address of the service that is gone


def _read(piece: Path) -> tuple[int, bool]:
    """Return the step behind the last that a piece of a run holds, and whether the run's end stands in it."""
    from wandb.proto.wandb_internal_pb2 import Record

    behind, ended = 0, False
    for data in records(piece):
        record = Record.FromString(data)
        ended |= record.WhichOneof("record_type") == "exit"
        for item in record.history.item:
            if "_step" in (item.key, *item.nested_key):
                behind = int(item.value_json) + 1
    return behind, ended


def _plain(value: Any) -> Any:
    """Return the Python number in a NumPy or torch scalar, and anything else as it is."""
    return value.item() if hasattr(value, "item") else value


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _line(error: BaseException) -> str:
    return without_secrets(f"{type(error).__name__}: {first_line(error)}")[:300]


def _seconds_since(path: Path) -> float:
    """Return the age of a file; infinity where there is none, or where the clock was set back behind it."""
    try:
        age = time.time() - path.stat().st_mtime
    except OSError:
        return math.inf
    return age if age >= 0 else math.inf
