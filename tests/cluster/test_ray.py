"""A Ray of two machines, both of them this one: 127.0.0.2 and 127.0.0.3."""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.command import (
    SMALL,
    TEMPERATURES,
    cells,
    each_made_once,
    environment,
    kill_the_trainer,
    need,
    started,
    students,
)

ADDRESSES = ("127.0.0.2", "127.0.0.3")


@pytest.fixture
def ray(place, home) -> dict[str, str]:
    """The environment of a user of the cluster. Its nodes run in another folder, without KD_OUTPUTS.

    Never `ray stop` here: it would end every Ray of this machine.
    """
    need("ray")
    with socket.socket() as free:
        free.bind((ADDRESSES[0], 0))
        address = f"{ADDRESSES[0]}:{free.getsockname()[1]}"
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}  # without one, Ray writes it to HOME
    env = environment(home, KD_CLUSTER=str(place), RAY_USAGE_STATS_ENABLED="0", **token)
    head = ["--head", f"--port={address.split(':')[1]}", "--include-dashboard=false", f"--temp-dir={place / 'ray'}"]
    for node, where in zip(ADDRESSES, (head, [f"--address={address}"]), strict=True):
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *where, f"--node-ip-address={node}"]
        command += ["--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats"]
        done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
    return env | {"RAY_ADDRESS": address}


def test_a_killed_worker_is_replaced_and_a_cell_that_fails_fails_alone(ray, expected, tmp_path: Path):
    outputs = tmp_path / "shared"
    overrides = [f"kd.temperature=1e-300,{TEMPERATURES}", "outputs=shared", *SMALL]
    launcher = ["hydra/launcher=ray_cluster", f"+hydra.launcher.ray.init._node_ip_address={ADDRESSES[0]}"]
    with started(*launcher, *overrides, cwd=tmp_path, env=ray) as process:
        killed = kill_the_trainer(outputs, process)
        assert process.wait(240) == 1, "one cell failed"
    output = (tmp_path / "output.txt").read_text(encoding="utf-8", errors="replace")
    failed = cells(outputs)["1e-300"]
    assert failed.status == "failed" and "not finite" in failed.error, output
    assert students(outputs) == expected, "the same weights as of an undisturbed sweep"
    assert each_made_once(outputs)
    assert f"pid={killed}" in output and f"ip={ADDRESSES[1]}" in output, "both machines took part"
