"""Scores against numbers made by hand, predictions of both runtimes, latencies as the run measures them."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from kd.export import measure
from kd.export.measure import by_session, by_torch, compare, open_session, predict_all, random_images
from kd.export.onnx_file import write_onnx
from kd.export.program import to_program
from kd.runtime.device import Device
from tests.export.students import images, student


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path, model = tmp_path_factory.mktemp("measure") / "student.onnx", student(size=16)
    write_onnx(to_program(model.network, 16), path, model.description)
    return path, model


def test_scores():
    reference = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0], [0.0, 4.0]], np.float32)
    logits = np.array([[2.0, 0.5], [0.0, 1.0], [1.0, 3.0], [0.0, 4.0]], np.float32)
    found = compare(logits, reference, np.array([0, 1, 0, 0]))
    assert (found.accuracy, found.agreement, found.largest_difference) == (0.5, 0.75, 2.0)
    chances = [np.exp(1.5) / (1 + np.exp(1.5)), np.e / (1 + np.e), 1 / (1 + np.exp(2)), 1 / (1 + np.exp(4))]
    assert found.nll == pytest.approx(-np.log(chances).mean())
    blind = compare(logits, reference, None)
    assert blind.accuracy is None and blind.nll is None and blind.agreement == 0.75


def test_all_batches_of_both_runtimes_give_the_same_logits(written):
    path, model = written
    batches = [images(5, 16, 1), images(3, 16, 2)]
    of_torch = predict_all(by_torch(model), batches)
    of_session = predict_all(by_session(open_session(path)), batches)
    assert of_torch.shape == of_session.shape == (8, 4)
    assert np.abs(of_torch - of_session).max() < 1e-5
    assert np.array_equal(of_torch[5:], by_torch(model)(batches[1]))


def test_images_that_are_not_contiguous_are_read_right(written):
    path, _ = written
    some = images(4, 16).contiguous(memory_format=torch.channels_last)
    predict = by_session(open_session(path))
    assert np.array_equal(predict(some), predict(some.contiguous()))


def test_a_session_has_the_threads_that_it_is_given(written):
    for count in (1, 2):
        options = open_session(written[0], count).get_session_options()
        assert (options.intra_op_num_threads, options.inter_op_num_threads) == (count, 1)
    default = open_session(written[0]).get_session_options()
    assert default.intra_op_num_threads == torch.get_num_threads()
    assert default.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL


def check(found: measure.Latency) -> None:
    assert list(found) == ["all_threads", "one_thread"]
    for times in found.values():
        assert list(times) == ["batch_1", "batch_64"]
        assert all(0 < each["p50"] <= each["p95"] and each["calm"] in (True, False) for each in times.values())


def test_latencies_have_both_batches_and_both_numbers_of_threads(written, monkeypatch):
    path, model = written
    device = Device(torch.device("cpu"), torch.float32, channels_last=True)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        opened = []
        real = measure.open_session
        monkeypatch.setattr(measure, "open_session", lambda *given: opened.append(given[1]) or real(*given))
        check(measure.session_latency(path, 16, 0.02))
        assert opened == [2, 1]
        seen = set()

        def network(x):
            seen.add((torch.get_num_threads(), len(x), x.is_contiguous(memory_format=torch.channels_last)))
            return model(x)

        check(measure.torch_latency(network, 16, 0.02, device))
        assert seen == {(2, 1, True), (2, 64, True), (1, 1, True), (1, 64, True)}
        torch.set_num_threads(1)
        found = measure.torch_latency(network, 16, 0.01, device)
        assert found["one_thread"] is found["all_threads"], "measured once"
    finally:
        torch.set_num_threads(before)


def test_random_images_are_the_same_at_every_call_and_differ():
    first, again = (torch.cat(list(random_images(16))) for _ in range(2))
    assert torch.equal(first, again) and first.shape == (256, 3, 16, 16)
    assert first.min() >= 0 and first.max() <= 1 and len(first.mean((1, 2, 3)).unique()) == 256
