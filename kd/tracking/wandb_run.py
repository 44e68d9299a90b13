"""One W&B run: its rows, its summary and files, in one segment on disk or in several.

A run that restarts logs all its rows again, from the first, in the same order and with the same values. After a kill at
any moment W&B ends with the history of a run that was never killed:

* An offline segment that was never synced is removed when its run restarts. A synced one stays, and the next segment
  leaves out the rows that it holds: ``wandb sync`` joins segments and would number a row in both of them twice.
* Online, rows that the server has are left out. Each row is logged with its own number as ``step``, from which the
  server knows how far the run got.
* A run that was killed online and restarts offline has two segments. ``wandb sync`` sends the first from its beginning:
  rows that the server has arrive a second time, at the same step.

Choices that need their reason:

* Curves are plotted over ``epoch``, which every row holds. wandb's ``_step`` is renumbered where ``wandb sync`` joins
  segments in another order than that of their rows, for instance after the clock was set back between them.
* wandb asks the server before it accepts a table or an artifact, and drops it without an answer. So a run whose server
  went away ends in a second, offline segment of the same id, and ``wandb sync`` joins the two.
* The student is hard-linked beside the run's W&B files and added from there. An artifact is only read when it is
  synced, perhaps weeks later, and the run folder may have been renamed by then. wandb's own answer is a second copy.
* wandb's own description of the machine (user and host name, command line, paths, git remote) is switched off, and all
  texts pass through ``redact``. The hardware facts that explain a latency are in ``machine/...``. One thing remains:
  the manifest of an artifact or a table names the file that it was read from, and wandb sends that too.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

from kd.tracking import wandb_service
from kd.tracking.claim import Claim
from kd.tracking.guard import Guard, error_line
from kd.tracking.media import load_media, make_artifact
from kd.tracking.names import artifact_metadata, flatten_gradients, run_summary
from kd.tracking.wandb_files import RunSegments, has_unsynced, read_progress

log = logging.getLogger(__name__)

MODES = ("offline", "online", "disabled")
FINISH_TIMEOUT = 60  # seconds that the end of a run may wait for a server that went away; wandb's default is for ever
FLUSH_TIMEOUT = 2  # seconds that wandb's service process has to write the last of it
INTERRUPT_TIMEOUT = 0.5  # seconds that the end of an interrupted run may take
RETRY_AFTER = 300  # seconds during which no run of this outputs folder asks a server again that did not answer


class WandbRun:
    """One W&B run.

    Args:
        root: the outputs folder. All runs share ``root/wandb``, so one ``wandb leet`` or ``wandb sync`` reaches all.
        arguments: of ``wandb.init``, see ``init_arguments``.
        role: the network that the run is about: "student", "teacher", "baseline", or None for a report.
        mode, timeout, system_stats: see ``Tracker``. guard: shared by the W&B runs of a process.
        sweep: the id of the W&B sweep that the run belongs to.

    Raises:
        ValueError: for an unknown mode.
    """

    def __init__(
        self,
        root: Path,
        arguments: Mapping[str, Any],
        *,
        role: str | None,
        mode: str,
        timeout: float,
        guard: Guard,
        system_stats: bool = False,
        sweep: str | None = None,
    ):
        if mode not in MODES:
            raise ValueError(f"tracking.mode is {mode!r}; it must be one of {', '.join(MODES)}")
        self.arguments, self.role, self.mode = arguments, role, mode
        self.claim = Claim(root, arguments["entity"], arguments["project"], arguments["id"], guard)
        self.segment: Path | None = None  # the folder of the current segment; None before the first
        self.unsynced: list[Path] = []  # segments with data that no server has
        self.url: str | None = None  # on the server; None offline
        self._no_answer = root / "wandb" / "no-answer"  # touched whenever a server does not answer
        self._timeout, self._system_stats, self._sweep, self._guard = timeout, system_stats, sweep, guard
        self._wandb: Any = None  # wandb's own run; None before the start and after the end
        self._rows: list[Mapping[str, Any]] = []  # all rows logged by this process
        self._next_step = 0  # the first row that no server and no kept segment holds
        self._stages: set[str] = set()  # whose x-axis wandb knows

    @property
    def is_open(self) -> bool:
        return self._wandb is not None

    @property
    def location(self) -> str:
        """Where rows go: "online" or "offline"."""
        return "online" if self.url else "offline"

    def start(self) -> None:
        """Begin the run; offline where "online" does not work."""
        began = time.monotonic()
        ago = _seconds_since(self._no_answer)
        if self.mode == "online" and ago < RETRY_AFTER:
            log.warning(
                "W&B did not answer %.0f s ago: this run is tracked offline (runs ask again after %g minutes)",
                ago,
                RETRY_AFTER / 60,
            )
            self.mode = "offline"
        try:
            self.begin(self.mode)
        except Exception as error:
            wandb_service.teardown()  # frees the run id, and replaces a dead service process
            if self.mode == "online":
                log.warning("W&B cannot be used online, this run is tracked offline: %s", error_line(error))
                if time.monotonic() - began >= self._timeout:
                    self._note_no_answer()
            self.mode = "offline"
            self.begin(self.mode)

    def restart(self) -> None:
        """Start again after wandb's service process died, and log all rows again."""
        rows, self._rows = self._rows, []
        self.start()
        for row in rows:
            self.log_row(row)

    def begin(self, mode: str, continued: bool = False) -> None:
        """Begin the run, or (``continued``) a further segment of it."""
        settings = {
            "init_timeout": self._timeout,
            "finish_timeout": FINISH_TIMEOUT,
            "x_disable_stats": not self._system_stats,
            "sweep_id": self._sweep,
        }
        self._wandb = wandb_service.init_run(mode, dict(self.arguments), settings)
        self.segment = Path(self._wandb.dir).parent
        self.url = None if self._wandb.offline else self._wandb.url
        self._stages.clear()
        if not continued:
            self.unsynced = []
        with self._guard.catch("cleaning up after an earlier process"):
            segments = RunSegments(self.claim.path(".segments"), self.segment.parent, self.arguments["id"])
            if not continued:
                kept = segments.remove_repeated(online=bool(self.url)) if self.claim.lock() else []
                self._next_step = max((read_progress(segment)[0] for segment in kept), default=0)
                self.unsynced += [segment for segment in kept if not self.url and has_unsynced(segment)]
            segments.add(self.segment)
        if self.url:
            self._next_step = self._wandb.starting_step
        else:
            self.unsynced.append(self.segment)

    def log_row(self, row: Mapping[str, Any]) -> None:
        """Log a row as ``<stage>/<name>`` over ``epoch``, unless the server or an earlier segment has it."""
        stage = row["stage"]
        if stage not in self._stages:
            self._wandb.define_metric("epoch", hidden=True)  # an axis, no curve
            self._wandb.define_metric(f"{stage}/*", step_metric="epoch")
            self._stages.add(stage)
        row_of_numbers = flatten_gradients(row)
        values = {name if name == "epoch" else f"{stage}/{name}": value for name, value in row_of_numbers.items()}
        del values[f"{stage}/stage"]
        step = len(self._rows)
        self._rows.append(row)
        if step >= self._next_step:
            self._wandb.log(values, step=step, commit=True)  # without commit wandb holds it back until the next row

    def check_alive(self) -> None:
        """Raise ConnectionError if wandb's service process has died."""
        try:
            self._wandb.status()  # the only question that the service process answers itself
        except Exception as error:
            raise ConnectionError(f"its service process is gone ({error_line(error)})") from error

    def server_answers(self) -> bool:
        """Whether nothing needs the server (offline), or the server answers."""
        return not self.url or wandb_service.server_answers(self._wandb.settings.base_url, self._timeout)

    def publish(self, online: bool, result: Mapping, figures: Mapping, tables: Mapping, artifacts: Mapping) -> None:
        """Give W&B what the run ends with, see ``Tracker.finish``. If not ``online``, the rest goes to a new, offline
        segment."""
        if not online:
            self._continue_offline()
        if not self._wandb:
            return
        with self._guard.catch("writing the summary"):
            self._wandb.summary.update(run_summary(result, self.role))
        media = load_media("figures" if self.role else "sweep", figures, tables, self._guard)
        with self._guard.catch("logging figures and tables"):
            if self.role is None:  # a repeated report adds a row after the earlier one
                self._wandb.log(media)
            elif len(self._rows) >= self._next_step:
                self._wandb.log(media, step=len(self._rows), commit=True)
            else:  # killed after this row: W&B has the row, but perhaps not all its files
                self._wandb.summary.update(media)
        for key, path in artifacts.items():
            with self._guard.catch(f"saving {path}"):
                self._log_artifact(key, Path(path), result)

    def _continue_offline(self) -> None:
        self._guard.warn("W&B no longer answers: the end of this run is tracked offline")
        with self._guard.catch("continuing offline"):
            before = self.segment
            self.end()
            self.begin("offline", continued=True)
            self.unsynced.insert(0, before)  # even if it ended well: wandb gives up where a key is refused

    def _log_artifact(self, key: str, path: Path, result: Mapping[str, Any]) -> None:
        name, metadata = f"{key}-{self.arguments['id']}", artifact_metadata(result, key)
        self._send(make_artifact(name, path, self.segment, metadata))

    def _send(self, artifact: Any) -> None:
        self._wandb.log_artifact(artifact)
        if self.url:
            artifact.wait(timeout=FINISH_TIMEOUT)  # otherwise a failed upload is silent, and no sync repeats it

    def reopen(self) -> None:
        """Begin a further segment of a run that has ended: online if it is there, offline where that does not work.

        No earlier segment is removed, because this process does not log their rows again.
        """
        try:
            self.begin(self.mode, continued=True)
        except Exception as error:
            wandb_service.teardown()
            self._guard.warn_failure("opening the run again", error)
            self.begin("offline", continued=True)

    def add(self, make: Callable[[Path], Any], summary: Mapping[str, Any]) -> bool:
        """Add an artifact and numbers to a run that was opened again; return whether W&B has both.

        Args:
            make: returns the ``wandb.Artifact``, given the folder of the segment.
            summary: all of it, since a sync may replace what an earlier segment wrote.
        """
        if not self.server_answers():
            self._continue_offline()
        with self._guard.catch("adding an artifact"):
            self._wandb.summary.update(dict(summary))
            self._send(make(self.segment))
            return True
        return False

    def end(self, exit_code: int = 0) -> bool:
        """End the current segment; return whether all of it reached the server, or the disk if offline."""
        run, self._wandb = self._wandb, None
        if run is None:
            return False
        if self.url:
            self.unsynced.append(self.segment)  # until its end is confirmed
        try:
            run.finish(exit_code=exit_code)
        except TimeoutError:
            self._guard.warn(f"W&B did not take everything within {FINISH_TIMEOUT:g} s: send the rest later")
            self._note_no_answer()
        except Exception as error:
            self._guard.warn_failure("finishing", error)
            wandb_service.teardown()  # else the next run and wandb's own exit hook would find a dead service process
        else:
            with self._guard.catch("checking what it wrote"):
                return self._is_whole()
        return False

    def _is_whole(self) -> bool:
        """Whether the segment's file holds the end of the run: wandb does not report a full disk."""
        if self.url:
            self.unsynced.remove(self.segment)
        until = time.monotonic() + FLUSH_TIMEOUT
        while not read_progress(self.segment)[1]:
            if time.monotonic() > until:
                self._guard.warn(
                    f"W&B could not write all of this run (is {self.segment.parent} full?); metrics.jsonl is complete. "
                    "To log it to W&B again, delete the run's folder and start the same command",
                )
                return False
            time.sleep(0.02)
        has_unsynced(self.segment)  # removes the marker of a `wandb sync` that ran before the end
        return True

    def close(self, kind: type[BaseException] | None, *_: Any) -> None:
        """End the run, if it is open, and give up its claim: the ``__exit__`` of a context manager."""
        try:
            if kind is not None and issubclass(kind, KeyboardInterrupt):
                end_quickly([self])
            self.end(exit_code=0 if kind is None else 1)
        finally:
            self.claim.release()

    def _note_no_answer(self) -> None:
        with self._guard.catch("recording that the server did not answer"):
            self._no_answer.touch()


def end_quickly(runs: Iterable[WandbRun]) -> None:
    """End runs within ``INTERRUPT_TIMEOUT`` seconds; what has not been sent by then is in W&B's files."""
    runs = [run for run in runs if run.is_open]
    threads = [Thread(target=_finish_interrupted, args=[run._wandb], daemon=True) for run in runs]
    for thread in threads:
        thread.start()
    until = time.monotonic() + INTERRUPT_TIMEOUT
    for run, thread in zip(runs, threads, strict=True):
        thread.join(max(0.0, until - time.monotonic()))
        if thread.is_alive():
            run.unsynced.append(run.segment)
        run._wandb = None


def _finish_interrupted(run: Any) -> None:
    with suppress(Exception):
        run.finish(exit_code=1)


def _seconds_since(path: Path) -> float:
    """Return the age of a file; infinity if there is none, or if the clock was set back since."""
    try:
        age = time.time() - path.stat().st_mtime
    except OSError:
        return math.inf
    return age if age >= 0 else math.inf
