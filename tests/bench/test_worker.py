"""Jobs in processes of their own."""

from __future__ import annotations

from dataclasses import replace

from kd.bench import scaling
from kd.bench.scaling import measure_scaling, points, short
from kd.bench.worker import Worker


def test_a_worker_trains_as_often_as_asked(setup):
    with Worker(setup.setting, "one_pass") as worker:
        ready = worker.receive()
        assert ready["images"] == 24 and ready["students"] == 3 and ready["prepare_seconds"]["logit_cache"] > 0
        assert [worker.train()["epoch_seconds"] > 0 for _ in range(2)] == [True, True]
    assert worker.process.returncode == 0


def test_a_point_that_fails_is_a_row_with_its_reason(setup, monkeypatch):
    monkeypatch.setattr(scaling, "BATCHES", (1,))  # batch norm needs two
    monkeypatch.setattr(scaling, "SIZES", ())
    (row,) = measure_scaling(setup.setting, [], ["live"], say=lambda line: None)
    assert row["images_per_s"] is None and "2 or more" in row["left_out"]


def test_every_point_is_short(setup):
    found = points(setup.setting, [1, 32], ["live", "cached"])
    assert [(axis, value) for axis, value, *_ in found if axis == "students"] == [("students", 1), ("students", 32)]
    assert len(found) == 2 * (len(scaling.BATCHES) + len(scaling.SIZES)) + 2
    for axis, value, _, setting in found:
        assert getattr(setting, axis) == value and setting == short(setting)
    assert short(replace(setup.setting, batch_size=1024)).images == 4096
