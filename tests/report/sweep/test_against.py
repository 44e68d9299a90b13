"""A sweep over methods: its groups compared with a reference group, and a table of chosen columns."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kd.evaluation.metrics import mcnemar
from kd.evaluation.statistics import crossed_t, holm, paired_bootstrap
from kd.records.ledger import read_sweep
from kd.report.__main__ import main
from kd.report.sweep.aggregate import METRICS, Group, groups, spread
from kd.report.sweep.comparison import compared, matching, settings_of
from kd.report.sweep.table_notes import DEFAULT
from kd.report.sweep.tables import COLUMNS, latex, markdown, paper_rows
from tests.report.sweep.fake import make_sweep
from tests.report.sweep.test_tables import lines_of as escaped_lines_of

METHODS = ["at", "dkd", "function_matching", "hinton", "label_smoothing", "supervised", "wsld"]
AT = {"kd": "at"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Five seeds, 1,000 images. Seed 3 of dkd failed, wsld has one seed; function_matching has its own baseline."""
    missing = [{"kd": "wsld", "seed": seed} for seed in range(1, 5)]
    return make_sweep(
        tmp_path_factory.mktemp("outputs") / "sweeps" / "methods",
        temperatures=None,
        alphas=None,
        more={"kd": METHODS},
        seeds=range(5),
        failed=[{"kd": "dkd", "seed": 3}],
        missing=missing,
        test=1000,
    )


@pytest.fixture(scope="module")
def found(folder) -> list[Group]:
    return groups(read_sweep(folder))


def lines_of(table: str) -> list[list[str]]:
    return escaped_lines_of(table.replace("\\_", "_"))


def by_name(found: list[Group]) -> dict[str, Group]:
    return {group.values["kd"]: group for group in found}


def logits_of(group: Group) -> dict[int, dict[str, np.ndarray]]:
    read = {}
    for cell in group.cells:
        with np.load(cell.run / "predictions.npz") as arrays:
            read[cell.result["seed"]] = dict(arrays)
    return read


def test_settings_as_they_are_written():
    assert settings_of(["kd=hinton"]) == {"kd": "hinton"}
    written = ["kd.temperature=4,kd.alpha=0.9", "kd.stages=[1,2]", "x=null,y='a,b'"]
    expected = {"kd.temperature": 4, "kd.alpha": 0.9, "kd.stages": "[1,2]", "x": None, "y": "a,b"}
    assert settings_of(written) == expected
    for wrong in ("hinton", "kd=", "=4", ""):
        with pytest.raises(ValueError, match="not of the form SETTING=VALUE; kd=hinton is"):
            settings_of([wrong])
    for twice in (["kd=at", "kd=dkd"], ["kd=at,kd=dkd"]):
        with pytest.raises(ValueError, match="kd is given twice, and a reference is one group"):
            settings_of(twice)


def test_the_reference_is_the_one_group_of_these_settings(found, tmp_path):
    assert matching(found, AT) is found[0]
    with pytest.raises(ValueError, match="kd.alpha was not swept. Swept: kd$"):
        matching(found, {"kd.alpha": 0.9})
    with pytest.raises(ValueError, match=r"has kd=hintn. There is kd=at,dkd,.*wsld; did you mean hinton\?"):
        matching(found, {"kd": "hintn"})
    grid = groups(read_sweep(make_sweep(tmp_path / "sweeps" / "grid", seeds=(0,), test=60)))
    assert matching(grid, {"kd.temperature": 4.0, "kd.alpha": 0.9}).values == {"kd.temperature": 4, "kd.alpha": 0.9}
    with pytest.raises(ValueError, match="2 groups have kd.alpha=0.9: choose one by adding kd.temperature=1,4"):
        matching(grid, {"kd.alpha": 0.9})
    assert matching(grid, {"kd.alpha": 0}) is grid[0]  # one run at every temperature
    with pytest.raises(ValueError, match="has kd.temperature=4, kd.alpha=1. There is kd.temperature=1,4; kd.alpha=0,"):
        matching(grid, {"kd.temperature": 4, "kd.alpha": 1})


def test_students_are_compared_by_seed_and_by_image(found):
    named, ours = by_name(found), {name: logits_of(group) for name, group in by_name(found).items()}
    made = compared(found, named["at"])
    p = {}
    for name, group in named.items():
        difference = made[group.runs]
        if name == "at":
            assert difference.gain is None and difference.spread == spread([0.0] * 5)
            continue
        seeds = [seed for seed in ours[name] if seed in ours["at"]]
        assert len(seeds) == {"dkd": 4, "wsld": 1}.get(name, 5)
        student, other = (
            np.array([ours[each][s]["student"].argmax(1) == ours[each][s]["target"] for s in seeds])
            for each in (name, "at")
        )
        each = student.mean(1) - other.mean(1)
        assert repr(difference.spread) == repr(spread(each)) and difference.gain.seeds == len(seeds)
        oracle = (crossed_t if len(seeds) > 1 else paired_bootstrap)(student, other)
        gain = difference.gain
        assert (gain.mean, gain.low, gain.high) == (oracle.mean, oracle.low, oracle.high)
        assert gain.mean == pytest.approx(each.mean())
        p[group.runs] = oracle.p
    alone, at = ours["wsld"][0], ours["at"][0]
    p[named["wsld"].runs] = mcnemar(alone["student"], at["student"], at["target"])
    assert {runs: made[runs].gain.p for runs in p} == p and len(p) == 6
    corrected = [made[runs].gain.p_holm for runs in p]
    np.testing.assert_allclose(corrected, holm(list(p.values())))
    assert [made[runs].gain.significant for runs in p] == [value < 0.05 for value in corrected]
    assert made[named["hinton"].runs].gain.significant and made[named["label_smoothing"].runs].gain.significant
    back = compared(found, named["hinton"])
    assert back[named["at"].runs].gain.mean == -made[named["hinton"].runs].gain.mean


def test_groups_of_the_same_runs_count_once_and_the_same_network_is_no_test(found):
    named = by_name(found)
    again = [*found, replace(named["dkd"], values={"kd": "too"}), replace(named["at"], values={"kd": "as well"})]
    assert repr(compared(again, named["at"])) == repr(compared(found, named["at"]))  # NaN is never equal to itself
    cells = tuple(replace(cell, run=cell.run / ".." / cell.run.name) for cell in named["at"].cells)
    twice = replace(named["at"], cells=cells)  # another run of the same student
    assert twice.runs != named["at"].runs
    made = compared([*found, twice], named["at"])
    assert made[twice.runs].gain is None and made[twice.runs].spread.mean == 0
    assert made[named["dkd"].runs].gain == compared(found, named["at"])[named["dkd"].runs].gain


def test_other_images_are_refused_and_groups_without_predictions_are_left_out(folder, tmp_path):
    shutil.copytree(folder.parents[1], tmp_path / "outputs")
    found = by_name(groups(read_sweep(tmp_path / "outputs" / "sweeps" / "methods")))
    first, at, *_ = found["dkd"].runs[0], found["at"].runs[0]
    arrays = logits_of(found["dkd"])[0]
    np.savez(first / "predictions.npz", **arrays | {"target": arrays["target"][::-1]})
    with pytest.raises(ValueError, match=f"{first.name} and {at.name} were tested on different images"):
        compared(found.values(), found["at"])
    (first / "predictions.npz").unlink()
    made = compared(found.values(), found["at"])
    assert found["dkd"].runs not in made and len(made) == 6
    text = markdown(list(found.values()), against=AT)
    assert "Over, –: no seed in common, or the predictions were deleted." in text
    assert "Holm's correction for 5 tests" in text and lines_of(text)[-6][-1] == "–"
    with pytest.raises(FileNotFoundError, match="predictions.npz is missing"):
        compared(found.values(), found["dkd"])
    without_seed_0 = replace(found["hinton"], cells=found["hinton"].cells[1:])
    assert without_seed_0.runs not in compared([without_seed_0], found["wsld"])  # wsld has only seed 0


def test_the_column_over_the_reference(found):
    made = compared(found, matching(found, AT))
    head, _, *lines = lines_of(markdown(found, against=AT))
    assert head[-2:] == ["gain (points)", "over kd=at (points)"] and len(head) == 2 + len(DEFAULT) + 1
    students = {line[1]: line[-1] for line in lines if line[0].strip("† ") == "student"}
    assert list(students) == METHODS and students["at"] == "="
    assert [line[-1] for line in lines[:3]] == ["–"] * 3
    marks = set()
    for name, group in by_name(found).items():
        if name != "at":
            difference = made[group.runs]
            bold, worse = (difference.gain.significant and sign * difference.gain.mean > 0 for sign in (1, -1))
            assert (students[name].startswith("**"), students[name].endswith("↓")) == (bold, worse)
            mean = f"{100 * difference.spread.mean:+.2f}".replace("-", "−")
            std = f" ± {100 * difference.spread.std:.2f}" if difference.spread.n > 1 else ""
            assert students[name].strip("*↓ ") == f"{mean}{std} ({difference.spread.n})"
            marks.add((bold, worse))
    assert marks == {(True, False), (False, True), (False, False)}
    text = markdown(found, against=AT)
    for words in (
        "Over kd=at: test accuracy less that of the student of kd=at, seed by seed",
        "Bold (over): significantly better, ↓: significantly worse, p \\< 0.05 after Holm's correction for 6 tests; a "
        "two-sided t test with seeds and test images as crossed random effects and McNemar's exact test for one seed",
        "Bold (accuracy and gain): the gain is significant, p \\< 0.05 after Holm's correction for 6 tests",
    ):
        assert words in text
    plain = lines_of(markdown(found))
    assert [line[:-1] for line in lines_of(text)[2:]] == [line for line in plain[2:]]


def test_latex_has_the_column_too(found):
    text = latex(found, against=AT, columns=["accuracy", "over", "params"], sort="over")
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    lines = [line for line in body.splitlines() if line.endswith(r" \\")]
    assert lines[0] == r"network & kd & accuracy (\%) & over kd=at (points) & params (K) \\"
    assert all(line.count("&") == 4 for line in lines) and len(lines) == 1 + 3 + 7
    assert r"\begin{tabular}{llrrr}" in text and text.isascii() and body.count(r"\midrule") == 2
    assert r"\textbf{+" in text and r" $\downarrow$ & 94.5 \\" in text and " & = & " in text
    assert "over kd=function\\_matching (points)" in latex(found, against={"kd": "function_matching"})
    assert "over kd=function\\_matching (points)" in markdown(found, against={"kd": "function_matching"})


def test_chosen_columns_in_their_order(found):
    names = ["epoch_seconds", "recovered", "accuracy", "params", "macs", "latency_1", "latency_large"]
    head, _, *lines = lines_of(markdown(found, columns=names))
    assert head[2:] == [
        "s an epoch",
        "recovered (%)",
        "accuracy (%)",
        "params (K)",
        "MACs (M)",
        "ms, batch 1",
        "ms, large batch",
    ]
    teacher, baseline, odd, *students = lines
    assert (
        teacher[3] == baseline[3] == "–"
        and teacher[5:7] == ["11,178.6", "447.14"]
        and baseline[5:7] == ["94.5", "3.78"]
    )
    times = found[0].cells[0].result["teacher"]["latency_ms"]
    assert teacher[7:] == [f"{times['batch_1']['p50']:.2f}", f"{times['batch_64']['p50']:.1f}"]
    for line, group in zip(students, found, strict=True):
        results = [cell.result for cell in group.cells]
        seconds = [result["student"]["training"]["seconds"] / 4 for result in results]
        share = [100 * result["comparison"]["gain_recovered"] for result in results]
        for text, values, decimals in ((line[2], seconds, 2), (line[3], share, 1)):
            n = len(values)
            std = f" ± {np.std(values, ddof=1):.{decimals}f}" if n > 1 else ""
            assert text == f"{np.mean(values):.{decimals}f}{std} ({n})".replace("-", "−")
        assert line[5:7] == ["94.5", "3.78"] and float(line[7]) < float(line[8])
    trained = [cell.result["baseline"]["training"]["seconds"] / 4 for cell in found[0].cells]
    assert baseline[2] == f"{np.mean(trained):.2f} ± {np.std(trained, ddof=1):.2f} (5)"
    text = markdown(found, columns=names)
    assert "Recovered: the gain as a share" in text and "s an epoch: the training" in text and "Agreement" not in text
    assert lines_of(markdown(found, columns=DEFAULT)) == lines_of(markdown(found))
    assert lines_of(markdown(found, columns=["nll", "over", "nll"], against=AT))[0][2:] == [
        "NLL (nats)",
        "over kd=at (points)",
    ]
    assert "Bold" not in markdown(found, columns=["nll"])


def test_where_the_teacher_is_no_better_nothing_is_recovered(found):
    result = found[0].cells[0].result
    assert METRICS["recovered"](result) == result["comparison"]["gain_recovered"]
    for result_ in (
        {**result, "teacher": {**result["teacher"], "accuracy": result["baseline"]["accuracy"]}},
        {**result, "baseline": None},
    ):
        assert METRICS["recovered"](result_) is None
    weak = {**result, "teacher": {**result["teacher"], "accuracy": 0.1}}
    over = spread(METRICS["recovered"](each) for each in (result, weak))
    assert over.n == 1 and over.mean == METRICS["recovered"](result)
    about = {**result["teacher"]["training"], "epochs": 0, "seconds": 0.0}  # from a checkpoint
    untrained = {**result, "teacher": {**result["teacher"], "training": about}}
    group = replace(found[0], cells=(replace(found[0].cells[0], result=untrained),))
    assert lines_of(markdown([group], columns=["epoch_seconds"]))[2][-1] == "–"


@pytest.mark.parametrize("column", [*COLUMNS, "over"])
def test_students_descend_by_any_column(found, column):
    made = compared(found, matching(found, AT))

    def value(group: Group) -> float:
        return made[group.runs].spread.mean if column == "over" else group.metrics[column].mean

    _, _, *lines = lines_of(markdown(found, against=AT, sort=column))
    assert [line[0] for line in lines[:3]] == ["teacher", "baseline", "baseline"]
    expected = sorted(found, key=value, reverse=True)  # stable
    assert [line[1] for line in lines[3:]] == [group.values["kd"] for group in expected]


def test_groups_without_a_number_are_sorted_last(found):
    alone = [replace(group, gain=None) if group.values["kd"] == "dkd" else group for group in found]
    assert lines_of(markdown(alone, sort="gain"))[-1][1] == "dkd"


def test_unknown_columns_are_refused(found):
    with pytest.raises(
        ValueError, match=r"no column 'recoverd'; did you mean recovered\? There are accuracy, macro_f1"
    ):
        markdown(found, columns=["accuracy", "recoverd"])
    with pytest.raises(
        ValueError,
        match="no column 'zzz'. There are accuracy.*macs, latency_1.*_one_thread, over$",
    ):
        latex(found, sort="zzz", against=AT)
    for wrong in ({"columns": ["over"]}, {"sort": "over"}):
        with pytest.raises(ValueError, match="needs a reference group, for example --against kd=hinton"):
            markdown(found, **wrong)


def test_a_baseline_or_a_teacher_of_its_own_has_a_row_of_its_own(found):
    """kd=function_matching mixes its baseline's views and trains it ten times as long."""
    rows = {row["values"]["kd"]: row for row in paper_rows(found) if row["role"] == "baseline"}
    assert list(rows) == ["–", "function_matching"]
    named = by_name(found)
    assert rows["–"]["accuracy"] == named["at"].metrics["baseline_accuracy"]
    assert rows["function_matching"]["accuracy"] == named["function_matching"].metrics["baseline_accuracy"]
    assert rows["–"]["accuracy"] != rows["function_matching"]["accuracy"]
    other = [
        replace(cell, result={**cell.result, "teacher": {**cell.result["teacher"], "accuracy": 0.99, "nll": 0.1}})
        for cell in named["dkd"].cells
    ]
    swapped = [replace(group, cells=tuple(other)) if group is named["dkd"] else group for group in found]
    teachers = {r["values"]["kd"]: r["accuracy"].mean for r in paper_rows(swapped) if r["role"] == "teacher"}
    assert teachers == {"–": found[0].metrics["teacher_accuracy"].mean, "dkd": 0.99}


def test_without_baselines_only_the_reference_is_compared_with(tmp_path):
    folder = make_sweep(
        tmp_path / "sweeps" / "s", temperatures=(1, 4), alphas=(0.9,), seeds=(0, 1), baseline=False, test=1200
    )
    text = markdown(groups(read_sweep(folder)), against={"kd.temperature": 1})
    _, _, *lines = lines_of(text)
    assert [line[-1] for line in lines[:2]] == ["–", "="] and re.fullmatch(r"\**\+\d.*", lines[2][-1])
    assert "There is no baseline over which a gain could be tested." in text and "for 1 test;" in text
    assert "Nothing is bold" not in text


def test_the_command(folder, capsys):
    words = ["--markdown", "--against", "kd=at", "--columns", "accuracy, recovered", "--sort", "accuracy"]
    assert main([str(folder), *words]) == 0
    found = groups(read_sweep(folder))
    table = markdown(found, columns=["accuracy", "recovered"], against=AT, sort="accuracy")
    assert capsys.readouterr().out == table + "\n"
    assert main([str(folder), "--latex", "--against=kd=at"]) == 0
    assert capsys.readouterr().out == latex(found, against=AT) + "\n"
    wrong = {
        "--against=kd=hintn": "no finished cell of the sweep has kd=hintn",
        "--against=hinton": "'hinton' is not of the form SETTING=VALUE",
        "--columns=acuracy": "the table has no column 'acuracy'; did you mean accuracy?",
        "--sort=over": "needs a reference group, for example --against kd=hinton",
    }
    for option, sentence in wrong.items():
        assert main([str(folder), "--markdown", option]) == 2
        printed = capsys.readouterr()
        assert printed.err.startswith("kd.report: ") and sentence in printed.err and printed.err.count("\n") == 1
        assert not printed.out
    run = found[0].runs[0]
    assert main([str(run), "--sort=gain"]) == 2 and "is not a sweep" in capsys.readouterr().err


def test_help_names_every_column_and_option(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert all(name in text for name in (*COLUMNS, "--against", "--columns", "--sort", "kd=hinton"))
