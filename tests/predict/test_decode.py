"""Images are decoded in parallel, in order, a few ahead."""

from __future__ import annotations

import threading
import time

import numpy as np

from kd.predict.decode import ahead_of, decode_batches


def test_batches_are_full_and_in_order_whatever_is_bad():
    files = [str(number) for number in range(50)]

    def read(name):
        time.sleep(0.002 * (int(name) % 3))  # so that later ones are ready before earlier ones
        if int(name) % 7 == 3:
            raise OSError(f"{name} is bad\nsecond line")
        return np.full((2, 2, 3), int(name), np.uint8)

    failed = {}
    batches = list(decode_batches(files, read, 8, failed))
    good = [number for number in range(50) if number % 7 != 3]
    assert [row for batch in batches for row in batch.rows] == good
    assert [len(batch.rows) for batch in batches] == [8] * 5 + [3]
    assert np.concatenate([batch.pixels for batch in batches])[:, 0, 0, 0].tolist() == good
    assert failed == {number: f"{number} is bad" for number in range(3, 50, 7)}
    assert sum(batch.tried for batch in batches) == 50


def test_few_images_wait_and_several_threads_read():
    started, threads = [], set()

    def read(name):
        started.append(name)
        threads.add(threading.current_thread())
        time.sleep(0.001)
        return np.zeros((4, 4, 3), np.uint8)

    files = [str(number) for number in range(400)]
    for number, batch in enumerate(decode_batches(files, read, 10, {}, ahead=30), 1):
        assert len(started) <= 10 * number + 30 and len(batch.pixels) == 10
    assert len(threads) > 1 and threading.main_thread() not in threads
    assert ahead_of(64) == 256 and 1 <= ahead_of(4096) < 10 and ahead_of(65536) == 1


def test_a_caller_that_stops_leaves_no_thread():
    before = threading.active_count()
    batches = decode_batches([str(n) for n in range(1000)], lambda _: np.zeros((1, 1, 3), np.uint8), 5, {})
    next(batches)
    batches.close()
    assert threading.active_count() == before
