"""CIFAR's pickles: batches of Python 2 are read, and no code in a pickle is run."""

from __future__ import annotations

import hashlib
import os
import pickle
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torchvision import datasets

from kd.data.datasets import cifar10
from kd.data.readers.cifar_pickle import read_pickle
from kd.store.store import Store
from tests.conftest import open_data
from tests.data.memory import growth
from tests.data.test_cifar10 import grow

DATA = np.random.default_rng(0).integers(0, 256, (4, 3072), np.uint8)


def text(value):
    return b"U" + bytes([len(value)]) + value.encode("latin1")


def of_python_2(data=DATA, columns_first=False):
    """Return a batch as its authors' Python 2.6 and numpy 1.3 wrote it, at protocol 2: no bytes, only strings."""
    raw = data.tobytes(order="F" if columns_first else "C")
    shape = b"(" + b"".join(b"J" + struct.pack("<i", side) for side in data.shape) + b"t"
    kind = (
        b"cnumpy\ndtype\n("
        + text("u1")
        + b"K\x00K\x01tR(K\x03"
        + text("|")
        + b"NNN"
        + b"J\xff\xff\xff\xff" * 2
        + b"K\x00tb"
    )
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text("b") + b"tRq\x07"
    array = empty + b"(K\x01" + shape + kind + (b"\x88" if columns_first else b"\x89")
    array += b"T" + struct.pack("<I", len(raw)) + raw + b"tb"
    labels = b"]q\x05(" + b"".join(b"K" + bytes([label]) for label in (3, 1, 4, 1)) + b"e"
    items = [(text("labels"), labels), (text("batch_label"), text("training batch 1 of 5")), (text("data"), array)]
    return b"\x80\x02}q\x01(" + b"".join(key + value for key, value in items) + b"u."


@pytest.mark.parametrize("columns_first", [False, True])
def test_a_batch_of_python_2_is_read(columns_first):
    batch = read_pickle(of_python_2(columns_first=columns_first))
    assert (batch.pop("data") == DATA).all()
    assert batch == {"labels": [3, 1, 4, 1], "batch_label": "training batch 1 of 5"}
    theirs = pickle.loads(of_python_2(columns_first=columns_first), encoding="latin1")
    assert (theirs["data"] == DATA).all()  # numpy itself reads the same


@pytest.mark.parametrize("protocol", range(3, 5))
def test_a_batch_that_was_written_again_is_read(protocol):
    batch = read_pickle(pickle.dumps({"data": DATA, "labels": [1, 2]}, protocol))
    assert (batch["data"] == DATA).all() and batch["labels"] == [1, 2]


class Attack:
    """Leaves a trace if it is run."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def attacks(trace):
    command, code = f"touch {trace}", f"open({str(trace)!r}, 'w')"
    return {
        "system": pickle.dumps(Attack(os.system, command)),
        "inside a batch": pickle.dumps({"data": DATA, "labels": [Attack(os.system, command)]}),
        "protocol 0": b"cos\nsystem\n(S'" + command.encode() + b"'\ntR.",
        "eval": pickle.dumps(Attack(eval, code)),
        "a name in numpy": b"cnumpy\nload\n(S'" + str(trace).encode() + b"'\ntR.",
        "through numpy": b"\x80\x04\x8c\x05numpy\x8c\x18core.multiarray.os.system\x93(" + text(command) + b"tR.",
        "an instance": b"(S'" + command.encode() + b"'\nios\nsystem\n.",
        "a state": b"cnumpy\ndtype\n(ttR}S'__class__'\ncos\nsystem\nsb.",
        "a class in place of a type": b"cnumpy\ndtype\n}(S'__call__'\ncos\nsystem\nub.",
    }


@pytest.mark.parametrize("attack", attacks("x"))
def test_code_in_a_pickle_is_not_run(tmp_path, attack):
    with pytest.raises(ValueError, match="not a pickle of a CIFAR batch"):
        read_pickle(attacks(tmp_path / "trace")[attack])
    assert not (tmp_path / "trace").exists()


def test_the_attacks_are_real(tmp_path):
    pickle.loads(attacks(tmp_path / "trace")["inside a batch"])
    assert (tmp_path / "trace").exists()


def test_not_even_with_the_right_checksum(tmp_path, monkeypatch):
    grow(tmp_path / "root", monkeypatch, datasets.CIFAR10, "labels", 10)
    data = attacks(tmp_path / "trace")["inside a batch"]
    (tmp_path / "root" / "cifar-10-batches-py" / "data_batch_2").write_bytes(data)
    sums = [[n, hashlib.md5(data).hexdigest() if n == "data_batch_2" else s] for n, s in datasets.CIFAR10.train_list]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", sums)
    with pytest.raises(ValueError, match="data_batch_2: not a pickle of a CIFAR batch: it calls [a-z]+.system, which"):
        open_data(cifar10.load, Store(tmp_path / "store"), root=str(tmp_path / "root"))
    assert not (tmp_path / "trace").exists()


LARGE = {
    "a table of 2^31 objects": b"\x80\x02]r\xff\xff\xff\x7f.",
    "64 GB of bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**36) + b"x.",
    "64 GB of mutable bytes": b"\x80\x05\x96" + struct.pack("<Q", 2**36) + b"x.",
    "2 GB of text": b"\x80\x02T\xff\xff\xff\x7fx.",
    "a frame of 2^60": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"].",
    "an array of 10^12": of_python_2().replace(b"J\x04\x00\x00\x00J\x00\x0c\x00\x00", b"J\x40\x42\x0f\x00" * 2),
    "other types": of_python_2().replace(text("u1"), text("O8")),
    "no dictionary": pickle.dumps([1]),
    "nothing": b"",
    "half": of_python_2()[:700],
}


@pytest.mark.parametrize("kind", LARGE)
def test_what_a_pickle_claims_is_not_allocated(kind):
    grown = growth()
    with pytest.raises(ValueError, match="not a pickle of a CIFAR batch"):
        read_pickle(LARGE[kind])
    assert grown() < 50


@given(st.integers(0, 250), st.binary(max_size=8), st.integers(0, 8))
@settings(max_examples=300, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_damage_is_a_batch_or_a_reason(at, inserted, dropped):
    whole = of_python_2(DATA[:1, :64])
    try:
        assert isinstance(read_pickle(whole[:at] + inserted + whole[at + dropped :]), dict)
    except ValueError as error:
        assert "not a pickle of a CIFAR batch" in str(error)
