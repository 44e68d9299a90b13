"""One run: ``python -m kd.run teacher=vea_resnet18 student=tiny_cnn``. The only file that knows Hydra.

Everything heavy is imported when it is needed, so that ``--help`` and ``--cfg job`` answer at once.
"""

from __future__ import annotations

import importlib.machinery
import os
import shlex
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kd.search import directions, values

if TYPE_CHECKING:
    from kd.objective import Objective
    from kd.pipeline import Parts, Ran

# our yaml of a launcher hides the plugin's of the same name, and is checked against it: that is meant
warnings.filterwarnings("ignore", message=r"\s*'hydra/(launcher|sweeper/sampler)/")
HEARTBEAT = 30.0  # seconds between the lines of a cell that trains for long
GROUPS = ("data", "attention", "teacher", "student", "kd", "train", "tracking", "experiment")


def conf_dir() -> str:
    """Where the configs are: beside the package in a checkout, inside it in a wheel, or where KD_CONF_DIR says."""
    package = Path(__file__).resolve().parent
    for folder in (os.environ.get("KD_CONF_DIR"), package / "conf", package.parent / "conf"):
        if folder and (Path(folder) / "config.yaml").is_file():
            return str(Path(folder).resolve())
    raise SystemExit("kd: the configs are not where they were installed; set KD_CONF_DIR to the folder of config.yaml")


def one_minus(share: float) -> float:
    """The resolver ``${one_minus:...}``: what one weight leaves to the other."""
    if not 0 <= share <= 1:
        raise ValueError(f"kd.alpha is the teacher's share of the loss and must lie in [0, 1], got {share}")
    return round(1 - share, 12)  # 1 - 0.9 is 0.09999999999999998


def goals(objective: str | list[str]) -> str | list[str]:
    """The resolver ``${directions:${objective}}``: maximize or minimize."""
    try:
        return directions(objective)
    except ValueError as error:
        raise SystemExit(f"kd: {error}") from None


def plugin(extra: str, path: str) -> str:
    """The resolver ``${plugin:extra,class}`` of conf/hydra: a class of a Hydra plugin, which an extra brings."""
    package = path.split(".")[1]
    found = importlib.machinery.PathFinder.find_spec("hydra_plugins")
    if found is None or not any((Path(place) / package).is_dir() for place in found.submodule_search_locations or ()):
        raise SystemExit(f"kd: the Hydra plugin {package} is not installed: pip install -e '.[{extra}]'")
    return path


OmegaConf.register_new_resolver("one_minus", one_minus, replace=True)
OmegaConf.register_new_resolver("directions", goals, replace=True)
OmegaConf.register_new_resolver("plugin", plugin, replace=True)
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def run(cfg: DictConfig, choices: Mapping[str, str], folder: Path | None = None, command: str = "") -> Ran:
    """Data, networks, teacher, twin, student, report.

    Args:
        choices: the option taken in each group. folder: where the run goes, if not where its key says.
        command: what starts it again, for the report.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:  # or DDP warns, in every process, of what is meant
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    parts = prepare(cfg, choices)

    from kd.pipeline import carry_out

    return carry_out(parts, folder, command)


def prepare(cfg: DictConfig, choices: Mapping[str, str]) -> Parts:
    """Make everything before anything is trained, so that a wrong setting shows at once."""
    settings = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)

    import torch

    from kd.attention.attach import attach
    from kd.clock import Clock
    from kd.data.loader import Loader
    from kd.machine import find_machine
    from kd.methods.supervised import CrossEntropy
    from kd.models.normalized import Normalized, fitting
    from kd.objective import Objective
    from kd.parallel import join
    from kd.pipeline import Parts
    from kd.plan import check, keys_of
    from kd.stages import Task
    from kd.store import Store
    from kd.teacher import choose_source

    clock = Clock()
    train, ranks = cfg.train, join()
    number = ranks.local if ranks.size > 1 else None
    machine = find_machine(train.device, train.precision, train.channels_last, train.threads, number)
    settings["train"]["precision"] = machine.describe()["precision"]  # "auto" is another network on another machine
    check(settings)
    store = Store(Path(cfg.outputs or "outputs").expanduser())
    with clock("data"), ranks.lead():
        pictures = instantiate(cfg.data, store=store)

    def build(role: str, spec: DictConfig, seed: int, attention: DictConfig | None = None) -> Any:
        torch.manual_seed(seed)
        network = instantiate(spec, num_classes=len(pictures.classes), image_size=pictures.image_size)
        if attention:
            stages = None if attention.stages is None else list(attention.stages)
            attach(network, instantiate(attention.wrap), stages)
        return fitting(Normalized(network, pictures.mean, pictures.std), role, pictures.image_size)

    objective, twin_objective = objective_of(cfg.kd), objective_of(cfg.twin)
    recipe, teacher_recipe = instantiate(train.student), instantiate(train.teacher)
    teacher_objective = Objective({"hard": CrossEntropy(teacher_recipe.label_smoothing)}, {"hard": 1.0})
    teacher_network = build("teacher", cfg.teacher.network, cfg.teacher.seed, cfg.attention)
    student_network, twin_network = build("student", cfg.student, cfg.seed), build("student", cfg.student, cfg.seed)
    loader = Loader(pictures, train.batch_size, cfg.seed, machine.device)
    teacher_loader = loader.seeded(cfg.teacher.seed)
    keys = keys_of(settings, pictures.fingerprint, asks_teacher=bool(objective.needs))
    checkpoint = Path(cfg.teacher.checkpoint).expanduser() if cfg.teacher.checkpoint else None
    teacher_parts = (keys.teacher, teacher_network, teacher_objective, teacher_recipe, teacher_loader, checkpoint)
    tasks = {"teacher": Task("teacher", "teachers", *teacher_parts)}
    if cfg.baseline:
        tasks["baseline"] = Task("baseline", "students", keys.twin, twin_network, twin_objective, recipe, loader)
    tasks["student"] = Task("student", "students", keys.student, student_network, objective, recipe, loader)
    answers = recipe.epochs * len(pictures.targets) * len(pictures.classes)
    published = f"{cfg.teacher.name} {settings['attention']['stages']}"
    return Parts(
        settings=settings,
        written=OmegaConf.to_yaml(OmegaConf.create(settings)),
        choices=choices,
        keys=keys,
        store=store,
        machine=machine,
        ranks=ranks,
        pictures=pictures,
        loader=loader,
        tasks=tasks,
        source=choose_source(cfg.teacher.source, objective.needs, answers),
        unused=cfg.attention.published_but_unused.get(published, 0),
        clock=clock,
    )


def objective_of(method: DictConfig) -> Objective:
    """Make what one option of the group `kd` describes."""
    from kd.objective import Objective

    return Objective(instantiate(method.terms), dict(method.weights), method.get("schedule"))


def show(ran: Ran) -> None:
    from kd.progress import say
    from kd.tables import terminal_table

    say(f"\n{terminal_table(ran.result)}\n\nReport: {ran.folder / 'report.md'}\n{ran.hint}")


def cell(cfg: DictConfig, choices: Mapping[str, str], command: str) -> float | tuple[float, ...] | None:
    """One job of a multirun: the ledger gets what became of it; see ``kd/multirun.py``."""
    from kd.progress import slow_down
    from kd.sweeps.ledger import entry, key_of, read_plan

    job = HydraConfig.get()
    folder = Path(job.sweep.dir)
    plan = read_plan(folder)
    slow_down(HEARTBEAT)
    try:
        with entry(folder, [o for o in job.overrides.task if key_of(o) in plan["swept"]]) as page:
            ran = run(cfg, choices, None, command)
            page.ran(ran.folder, ran.result, ran.found)
            return told(ran, cfg) if plan["cells"] is None else None  # a grid asks for nothing
    except Exception:
        if plan["cells"] is None:  # a search wants to know
            raise
        return None  # the ledger holds error and traceback; the sweep goes on, and its exit code tells


def told(ran: Ran, cfg: DictConfig) -> float | tuple[float, ...]:
    """What a sweeper is told of a run."""
    return values(ran.result, OmegaConf.to_container(cfg, resolve=True)["objective"])


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="config")
def compose_and_run(cfg: DictConfig) -> float | tuple[float, ...] | None:
    """Compose, run, and say in a line what went wrong if something did."""
    job = HydraConfig.get()
    choices = {group: job.runtime.choices[group] for group in GROUPS if job.runtime.choices.get(group)}
    own = [o for o in job.overrides.task if not o.startswith("outputs=")]
    command = "python -m kd.run " + shlex.join(own)
    if job.mode == RunMode.MULTIRUN:
        if cfg.tracking.group is None:
            cfg.tracking.group = Path(job.sweep.dir).name
        return cell(cfg, choices, command)
    given = any(override.startswith("hydra.run.dir=") for override in job.overrides.hydra)
    try:
        ran = run(cfg, choices, Path(job.runtime.output_dir) if given else None, command)
    except Exception as error:
        from kd.progress import await_turn

        await_turn(error)
        expected = (ValueError, OSError, ArithmeticError, OmegaConfBaseException, InstantiationException)
        if os.environ.get("HYDRA_FULL_ERROR") or not isinstance(error, expected):
            raise
        cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
        print(f"kd: {cause}\n(HYDRA_FULL_ERROR=1 shows where this was found.)", file=sys.stderr)
        raise SystemExit(2) from error
    show(ran)
    return told(ran, cfg)


def main() -> None:
    """What ``python -m kd.run`` and ``kd-run`` call."""
    failed, interrupted = 0, False
    try:
        compose_and_run()
    except KeyboardInterrupt:
        interrupted = True
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
    finally:
        if "kd.multirun" in sys.modules:
            failed = sys.modules["kd.multirun"].finish(report=not interrupted)
    if interrupted:
        print("kd: interrupted; the same command goes on from what is finished", file=sys.stderr)
        raise SystemExit(130)
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
