"""Sweeps over methods: those that cannot work are refused with their sentence, and stop no other."""

from __future__ import annotations

import csv
import json

import pytest
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from kd.config.composed import checked
from kd.config.errors import values_of
from kd.config.initialize import initialize_hydra
from kd.pipeline import tryout
from kd.pipeline.preflight import MethodRefused
from kd.pipeline.prepare import draw_plan
from kd.records.ledger import read_sweep
from kd.sweep import refusals as checking
from kd.sweep.refusals import Refusal, _deciding, _joined, _networks, choice_of, without_helpers
from tests.conftest import options
from tests.pipeline.test_run import command
from tests.sweep.test_callback import QUICK

SHORT = [*QUICK, "train.threads=1", "train.student.epochs=1"]
CACHED = "teacher.source=cached"  # refuses every method that reads more than logits
SENTENCE = "teacher.source=cached holds logits, and this method reads features too"
GLOB = "kd=glob([hinton,at,tf_kd,combine,sdd*],exclude=[sdd*])"


def the_sweep(outputs):
    (folder,) = (outputs / "sweeps").iterdir()
    return read_sweep(folder)


@pytest.fixture(scope="module", params=[(), ("hydra/launcher=one_pass",)], ids=["in turn", "one pass"])
def swept(request, tmp_path_factory):
    place = tmp_path_factory.mktemp("methods")
    done = command("-m", GLOB, "seed=0,1", CACHED, *request.param, *SHORT, outputs=place / "outputs", cwd=place)
    return place / "outputs", done


def test_a_method_that_cannot_work_is_refused_with_its_sentence_and_the_others_run(swept):
    outputs, done = swept
    assert done.returncode == 0, "what is refused is no failure"
    cells = {tuple(cell.values.values()): cell for cell in the_sweep(outputs).cells}
    assert {kd for kd, _ in cells} == {"hinton", "at", "tf_kd"}, "without combine, which is no method"
    for (kd, _), cell in cells.items():
        assert cell.status == ("refused" if kd == "at" else "done"), cell
        assert not cell.error or (cell.error.startswith(SENTENCE) and cell.run is None)
    assert f"  kd=at: {SENTENCE}" in done.stdout
    assert done.stdout.index("kd=at:") < done.stdout.index("epoch"), "before anything is trained"
    assert "4 of 6 finished, 2 refused" in done.stdout and "missing cells" not in done.stdout


def test_report_table_and_ledger_list_what_was_refused(swept):
    sweep = the_sweep(swept[0])
    texts = [(sweep.folder / name).read_text(encoding="utf-8") for name in ("report.md", "report.html", "sweep.json")]
    assert all(SENTENCE in text.replace("\\", "") for text in texts)
    assert "is not finished" not in texts[0] and "4 of 6 cells finished, 2 refused" in texts[0]
    with (sweep.folder / "cells.csv").open(encoding="utf-8") as file:
        rows = {(row["kd"], row["status"], row["error"].startswith(SENTENCE)) for row in csv.DictReader(file)}
    assert rows == {("hinton", "done", False), ("tf_kd", "done", False), ("at", "refused", True)}


def test_a_method_without_a_teacher_stands_beside_the_others(swept):
    results = {cell.values["kd"]: cell.result for cell in the_sweep(swept[0]).cells if cell.result}
    assert results["tf_kd"]["teacher"] is None and results["hinton"]["teacher"]
    assert results["tf_kd"]["baseline"]["accuracy"] == results["hinton"]["baseline"]["accuracy"]
    assert "| tf\\_kd |" in (the_sweep(swept[0]).folder / "report.md").read_text(encoding="utf-8")


WRONG = {
    "kd=glob([at,fitnet,sp])": (SENTENCE, "kd: the sweep cannot begin"),  # one sentence of all
    "kd=glob([at,crd])": ("none of the 2 methods can work", "kd=at: ", "kd=crd: ", "reads embedding too"),
    "kd=glob(*) teacher.width=-1": ("teacher.width must be",),
    "kd=hinton,hintn": ("kd=hintn: there is no such option", "hinton"),
    "kd=dkd,hinton kd.temperature=1,-1": ("kd.temperature must be",),
}


@pytest.mark.parametrize("arguments", WRONG)
def test_a_mistake_that_all_jobs_share_ends_the_command_at_once(tmp_path, arguments):
    own = [word for word in SHORT if not arguments.partition("teacher.width")[1] or "teacher.width" not in word]
    done = command("-m", *own, CACHED, *arguments.split(), outputs=tmp_path / "outputs", cwd=tmp_path, ok=False)
    assert done.returncode == 2 and all(words in done.stderr for words in WRONG[arguments]), done.stderr
    assert done.stderr.count(WRONG[arguments][0]) == 1 and "Traceback" not in done.stderr
    assert not (tmp_path / "outputs" / "sweeps").exists() and not (tmp_path / "outputs" / "teachers").exists()


def test_a_method_without_a_setting_of_the_command_is_refused_alone(tmp_path):
    given = ["kd=hinton,sp", "kd.temperature=3", "baseline=false", *SHORT]
    done = command("-m", *given, outputs=tmp_path / "outputs", cwd=tmp_path)
    assert "kd=sp: there is no setting kd.temperature" in done.stdout
    assert [cell.status for cell in the_sweep(tmp_path / "outputs").cells] == ["done", "refused"]


def test_a_cell_that_finds_out_itself_is_refused_too(tmp_path):
    """Where no methods are swept, none is tried beforehand: the maps of a ResNet are single places at 16 pixels."""
    given = ["kd=cwd", "baseline=false", *(line for line in SHORT if not line.startswith("teacher"))]
    given.append("teacher.allow_weak=true")
    done = command("-m", "teacher=tiny_cnn,vea_resnet18", *given, outputs=tmp_path / "outputs", cwd=tmp_path)
    fits, does_not = the_sweep(tmp_path / "outputs").cells
    assert (fits.status, does_not.status) == ("done", "refused")
    assert does_not.error.startswith("kd=cwd compares where in its maps") and "cell 2/2 refused" in done.stdout
    done = command("-m", "teacher=vea_resnet18", "seed=0,1", *given, outputs=tmp_path / "2", cwd=tmp_path, ok=False)
    assert done.returncode == 1, "a sweep in which nothing could run is no success"


def test_a_search_never_tries_a_refused_method(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    search = ["hydra/sweeper=optuna_study", "hydra.sweeper.n_trials=2", "baseline=false", CACHED, *SHORT]
    command("-m", "kd=glob([hinton,a*,ctkd])", *search, outputs=tmp_path / "outputs", cwd=tmp_path)
    sweep = the_sweep(tmp_path / "outputs")
    assert {cell.status for cell in sweep.cells} <= {"done", "found"}
    assert {cell.values["kd"] for cell in sweep.cells} <= {"hinton", "abkd", "ctkd"}
    assert {overrides for overrides, _ in sweep.refused} == {("kd=ab",), ("kd=at",)}
    assert SENTENCE in (sweep.folder / "report.md").read_text(encoding="utf-8").replace("\\", "")


def test_methods_share_one_plan_where_they_differ_in_the_loss_alone(tmp_path, monkeypatch):
    """The check of all methods would otherwise read the data and make a teacher for each."""
    made, draw = [], tryout.draw_plan
    monkeypatch.setattr(tryout, "draw_plan", lambda *given: made.append(1) or draw(*given))
    trial, refused = tryout.Tryout(), {}
    with initialize_hydra():
        for name in ("hinton", "at", "crd", "sp", "dkd", "cwd", "tf_kd", "label_smoothing"):
            lines = [f"kd={name}", CACHED, *SHORT, f"outputs={tmp_path}"]
            cfg, _, choices = checked(compose("config", lines, return_hydra_config=True))
            try:
                trial.try_method(cfg, choices)
            except MethodRefused as error:
                refused[name] = str(error)
    assert len(made) == 2, "one with a teacher, one without"
    assert list(refused) == ["at", "crd", "sp", "cwd"] and refused["sp"].startswith(SENTENCE)
    assert not (tmp_path / "teachers").exists()


SETTINGS = {  # settings that some methods cannot take: what these are refused with
    "train.student.mixup=0.5": {"cs_kd": "a mixture of two images has no single class"},
    "train.student.optimizer=dot": {
        "supervised": "kd=supervised learns from labels alone",
        "label_smoothing": "kd=label_smoothing learns from labels alone",
        "simkd": "kd=simkd has no term that learns labels",
    },
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_method_has_its_own_sentence_whatever_was_tried_before(tmp_path, setting):
    trial, refused = tryout.Tryout(), {}
    with initialize_hydra():
        for name in ("hinton", "supervised", "cs_kd", "dlb", "tf_kd", "simkd", "label_smoothing", "hinton"):
            lines = [f"kd={name}", setting, *SHORT, f"outputs={tmp_path}"]
            cfg, _, choices = checked(compose("config", lines, return_hydra_config=True))
            try:
                trial.try_method(cfg, choices)
            except MethodRefused as error:
                refused[name] = str(error)
    assert refused.keys() == SETTINGS[setting].keys()
    assert all(words in refused[name] for name, words in SETTINGS[setting].items())


def test_a_job_refuses_a_method_that_its_settings_do_not_suit(tmp_path):
    """Without a trial beforehand, as with launchers whose jobs run elsewhere."""
    with initialize_hydra():
        for setting, methods in SETTINGS.items():
            for name, words in methods.items():
                lines = [f"kd={name}", setting, *SHORT, f"outputs={tmp_path}"]
                cfg, _, choices = checked(compose("config", lines, return_hydra_config=True))
                with pytest.raises(MethodRefused, match=words):
                    draw_plan(cfg, choices)


@pytest.mark.parametrize("order", ["cs_kd,dlb", "dlb,cs_kd"])
def test_a_value_that_one_method_cannot_take_refuses_this_method_there_alone(tmp_path, order):
    given = [f"kd={order}", "train.student.mixup=0,0.5", "baseline=false", *SHORT]
    done = command("-m", *given, outputs=tmp_path / "outputs", cwd=tmp_path)
    cells = {tuple(cell.values.values()): cell for cell in the_sweep(tmp_path / "outputs").cells}
    assert {key for key, cell in cells.items() if cell.status == "done"} == {
        ("cs_kd", "0"),
        ("dlb", "0"),
        ("dlb", "0.5"),
    }
    assert cells["cs_kd", "0.5"].status == "refused" and "no single class" in cells["cs_kd", "0.5"].error
    assert "kd=cs_kd train.student.mixup=0.5: " in done.stdout


def refusals(line: str, monkeypatch, most: int = 400) -> dict[tuple[str, ...], str]:
    """What a command refuses before its first cell."""
    monkeypatch.setattr(checking, "MAX_PAIRS", most)
    with initialize_hydra():
        fixed = [word for word in SHORT if f" {word.partition('=')[0]}=" not in f" {line}"]
        config = compose("config", fixed, return_hydra_config=True)
        config.hydra.overrides.hydra = []
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        swept = parser.parse_overrides(line.split())
        return {tuple(r.overrides): r.sentence for r in checking.check_jobs_of(config, swept, fixed)}


def test_a_value_of_any_setting_ends_the_command_only_if_it_suits_no_method(tmp_path, monkeypatch):
    monkeypatch.setenv("KD_OUTPUTS", str(tmp_path))
    for methods in ("hinton,simkd", "simkd,hinton"):
        found = refusals(f"kd={methods} train.student.optimizer=momentum,dot seed=0,1", monkeypatch)
        assert list(found) == [("kd=simkd", "train.student.optimizer=dot")]
    found = refusals("kd=simkd,hinton train.student.optimizer=momentum,dot", monkeypatch, most=1)
    assert list(found) == [("kd=simkd", "train.student.optimizer=dot")], "too many to try: each value is, alone"
    found = refusals(f"kd=hinton,at {CACHED},live", monkeypatch, most=1)
    assert list(found) == [("kd=at", CACHED)], "it may work with what was not tried"
    with pytest.raises(ValueError, match="learns from labels alone"):
        refusals("kd=supervised,label_smoothing train.student.optimizer=momentum,dot", monkeypatch)
    with pytest.raises(ValueError, match=r"train\.student\.epochs"):
        refusals("kd=hinton,simkd train.student.epochs=1,-1", monkeypatch)
    with pytest.raises(ValueError, match="there is no such option"):
        refusals("kd=hinton,simkd student=tiny_cnn,tiny_cn", monkeypatch)


def test_a_refusal_names_the_networks_that_it_is_about():
    values = {"kd": ["a", "b"], "student": ["s", "t"], "seed": ["0", "1"], "data.seed": ["0", "1"]}
    networks, whole = _networks(values, _deciding(values, 2), 2)
    assert networks == [{"student": "s"}, {"student": "t"}] and whole, "seeds decide nothing"
    some = [Refusal("a", {}, "why"), Refusal("b", {}, "why"), Refusal("b", {"student": "t"}, "why")]
    assert [r.overrides for r in _joined(some, networks)] == [["kd=a", "student=s"], ["kd=b"]]
    wide = {"kd": ["a"], "student.width": list("12345")}
    assert _networks(wide, _deciding(wide, 400), 400) == ([{"student.width": "1"}], False), "too many to try"
    both = {**values, "train.student.mixup": ["0", "0.5"]}
    assert _deciding(both, 2) == ["student", "train.student.mixup"] and _deciding(both, 200) == ["student"]


def test_a_glob_of_methods_has_all_but_combine_and_may_exclude_some():
    with initialize_hydra():
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        for line, names in {
            "kd=glob(*)": set(options("kd")),
            "kd=glob(*,exclude=[s*,crd])": {name for name in options("kd") if name[0] != "s" and name != "crd"},
            "kd=glob(comb*)": {"combine"},
            choice_of("kd", ["hinton", "combine"]): {"hinton", "combine"},
        }.items():
            (o,) = without_helpers(parser.parse_overrides([line]), parser)
            assert {*values_of(o)} == names - ({"combine"} if len(names) > 2 else set())


def test_the_experiment_on_methods_has_every_method():
    with initialize_hydra():
        cfg = compose("config", ["experiment=methods"], return_hydra_config=True)
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        (o,) = without_helpers(parser.parse_overrides([f"kd={cfg.hydra.sweeper.params.kd}"]), parser)
    assert {*values_of(o)} == {name for name in options("kd") if name != "combine"} - {"supervised"}
    assert json.dumps(OmegaConf.to_container(cfg.hydra.sweeper.params)["seed"]) == '"0,1,2"'
