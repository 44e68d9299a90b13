"""What a run reports while it trains and when it ends: rows to ``metrics.jsonl`` and W&B, results to W&B.

One W&B run describes one trained network. A run of kd, which a sweep calls a cell, has the job type ``distill``. Its
teacher and its baseline, which many cells share, are W&B runs of their own (``Tracker.sibling``), and so is a sweep's
report (``kd.tracking.sweep_report``). Under a ``wandb agent`` the cell is the run that the agent assigned
(``kd.tracking.wandb_environment``).

A server that does not answer delays a run by ``timeout`` seconds at the start and by ``FINISH_TIMEOUT`` seconds at the
end of each W&B run. A service process of wandb that died is replaced once per run, and receives everything again.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from kd.records.metrics_log import MetricsLog
from kd.runtime.console import display_path
from kd.tracking.guard import Guard
from kd.tracking.names import init_arguments, sibling_config, to_python
from kd.tracking.wandb_environment import Agent, wandb_dirs
from kd.tracking.wandb_run import WandbRun, end_quickly
from kd.tracking.wandb_service import teardown


class Tracker:
    """Logs one run's scalars, figures and tables.

    Args:
        folder: the run folder, in which only ``metrics.jsonl`` is written (kd.records.metrics_log); None: no such file.
        root: the outputs folder. All runs share ``root/wandb``.
        run_id: the run's key, which is also its W&B id: a run that restarts is the same W&B run.
        config: resolved, flat and plain: ``{"kd.temperature": 4.0, "seed": 0}``; lists are allowed.
        name, group, job_type, tags: how W&B shows and groups the run.
        mode: "offline", "online" (offline without a key or an answer) or "disabled" (wandb is not imported).
        project, entity: where the run goes when it is online or synced.
        timeout: seconds that "online" waits for the server before the run is tracked offline.
        system_stats: let wandb sample CPU, memory and GPU.
        role: the network that the run is about: "student", "teacher", "baseline", or None.
        agent: the ``wandb agent`` that started the process: the run takes the id and project that it assigned.
            Siblings have ids of their own.

    A run without a group takes WANDB_RUN_GROUP from the environment; the student's run takes WANDB_NOTES. After a
    ``KeyboardInterrupt`` the tracker closes within ``INTERRUPT_TIMEOUT`` seconds, whatever a server does. wandb's own
    exit hook is slower: an interrupted process should end by ``os._exit``.

    Raises:
        ValueError: for an unknown mode. OSError: ``metrics.jsonl`` cannot be written.
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
        role: str | None = "student",
        agent: Agent | None = None,
    ):
        if agent:
            run_id, project, entity = agent.run_id or run_id, agent.project or project, agent.entity or entity
            config = {**agent.parameters, **config}  # W&B's sweep page looks for the names in sweep.yaml
        arguments = init_arguments(
            run_id=run_id,
            name=name,
            config=config,
            group=group or os.environ.get("WANDB_RUN_GROUP") or None,
            job_type=job_type,
            tags=tags,
            project=project,
            entity=entity,
            notes=os.environ.get("WANDB_NOTES") if role == "student" else None,
        )
        self.folder, self.root, self.agent = folder and Path(folder), Path(root).absolute(), agent
        self._timeout, self._guard = timeout, Guard()
        self._run = WandbRun(
            self.root,
            arguments,
            role=role,
            mode=mode,
            timeout=timeout,
            guard=self._guard,
            system_stats=system_stats,
            sweep=agent and agent.sweep,
        )
        self._siblings: dict[str, WandbRun | None] = {}  # by role; None: another job logs it, or it failed to begin
        self._journal: MetricsLog | None = None  # metrics.jsonl
        self._open = ExitStack()  # what __exit__ closes
        self._restarted = False

    def __enter__(self) -> Tracker:
        if self.folder:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._journal = MetricsLog(self.folder / "metrics.jsonl")
        if self.agent and self._run.mode != "online":
            self._guard.warn("a wandb agent waits for the result of this run, which only tracking=online sends")
        if self._run.mode != "disabled":
            with self._guard.catch("starting"):
                self._open.enter_context(wandb_dirs(self.root))
                self._run.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        with self._open:
            if self._journal:
                self._journal.close(complete=kind is None)
            if kind is not None and issubclass(kind, KeyboardInterrupt):
                end_quickly(self._runs())  # all at once
            self._run.close(kind)

    def sibling(self, role: str, *, run_id: str, name: str) -> None:
        """Log the rows of ``role``, "teacher" or "baseline", to a W&B run of its own instead of this one.

        Its job type is ``role``, its group that of this run, and its config the part of this run's that describes it.
        The first run that trains or reuses the network logs it; later and concurrent runs leave it alone.
        ``metrics.jsonl`` still receives all rows.
        """
        shared = {key: self._run.arguments[key] for key in ("group", "tags", "project", "entity")}
        config = sibling_config(self._run.arguments["config"], role)
        arguments = init_arguments(run_id=run_id, name=name, job_type=role, config=config, **shared)
        about = {"role": role, "mode": "offline", "timeout": self._timeout, "guard": self._guard}
        self._siblings[role] = WandbRun(self.root, arguments, **about)

    def log(self, row: Mapping[str, Any]) -> None:
        """Append ``row`` ({"stage": ..., "epoch": ..., name: number}); W&B shows it as ``<stage>/<name>`` over
        ``epoch``.

        NaN and infinity become null, because JSON has neither.
        """
        row = {name: to_python(value) for name, value in row.items()}
        if self._journal:
            self._journal.write(json.dumps({name: _finite(value) for name, value in row.items()}, allow_nan=False))
        if self._run.is_open:
            with self._guard.catch("logging"):
                run = self._run_of(row["stage"])
                if run:
                    with self._restart_on_death("logging"):
                        run.log_row(row)

    def finish(
        self,
        result: Mapping[str, Any],
        figures: Mapping[str, Path],
        tables: Mapping[str, Sequence[Mapping[str, Any]]],
        artifacts: Mapping[str, Path],
    ) -> None:
        """Give W&B what a run ends with: the numbers of result.json as summary, figures, tables, the student.

        What fails is left out with a warning; the rest arrives. The siblings get their own part, and end.
        """
        if not self._run.is_open:
            return
        self._is_alive()
        online = self._run.server_answers()
        self._run.publish(online, result, figures, tables, artifacts)
        if self._run.is_open and not self._is_alive():
            self._run.publish(online, result, figures, tables, artifacts)
        for role in self._siblings:
            with self._guard.catch(f"finishing the {role}'s run"):
                sibling = self._run_of(role) if result.get(role) else None
                if sibling:
                    part = {name: result[name] for name in (role, "data", "machine") if name in result}
                    confusion = {key: path for key, path in figures.items() if key == f"confusion_{role}"}
                    sibling.publish(online, part, confusion, {}, {})
                    if sibling.end():
                        sibling.claim.mark_done(sibling.location)

    def hint(self) -> str:
        """Return how to view this run and how to send it, for the end of a run; "" if W&B has nothing of it."""
        if self._run.segment is None:
            return ""
        look = f"look: {self._run.url or 'wandb leet ' + display_path(self._run.segment.parent)}"
        unsynced = [segment for run in self._runs() for segment in dict.fromkeys(run.unsynced)]
        if not unsynced:
            return look
        online = any(not segment.name.startswith("offline-") for segment in unsynced)
        return f"{look}\nsend: wandb sync {'--include-online ' * online}{' '.join(map(display_path, unsynced))}"

    def _runs(self) -> list[WandbRun]:
        return [self._run, *filter(None, self._siblings.values())]

    def _run_of(self, stage: str) -> WandbRun | None:
        """Return the W&B run that shows ``stage``, begun; None if another job has logged it or is logging it."""
        run = self._siblings.get(stage, self._run)
        if run and run is not self._run and run.segment is None:
            self._siblings[stage] = None  # unless all of this succeeds
            run.mode = self._run.location
            if run.claim.acquire(run.mode):
                self._open.push(run.close)
                run.begin(run.mode)
                self._siblings[stage] = run
        return self._siblings.get(stage, self._run)

    def _is_alive(self) -> bool:
        """Whether wandb's service process is alive; one that died is replaced."""
        with self._guard.catch("finishing"), self._restart_on_death("finishing"):
            self._run.check_alive()
            return True
        return False

    @contextmanager
    def _restart_on_death(self, action: str) -> Iterator[None]:
        """If wandb's service process died, start another, once per run, and log all rows again."""
        try:
            yield
        except ConnectionError as error:
            if self._restarted:
                raise
            self._restarted = True
            self._guard.warn_failure(action, error)
            teardown()
            for run in self._runs():
                if run.is_open:
                    run.restart()


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
