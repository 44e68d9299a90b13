"""A Slurm of two nodes, both of them this machine."""

from __future__ import annotations

import getpass
import os
import re
import secrets
import shutil
import socket
import subprocess
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
    wait_for,
)

CONF = """
ClusterName=kd
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={place}/munge.socket
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={ports[0]}
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/%n
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/%n.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerParameters=sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
KillWait=2
NodeName=n[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports[1]}-{ports[2]}] CPUs=1 RealMemory=8000
PartitionName=all Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture
def slurm(place, home) -> dict[str, str]:
    """The environment of a user of the cluster."""
    need("submitit")
    path = f"{Path(__file__).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [name for name in ("slurmctld", "slurmd", "sbatch", "munged") if not shutil.which(name, path=path)]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here: apt-get install slurmctld slurmd slurm-client munge")
    env = environment(home, KD_CLUSTER=str(place), SLURM_CONF=str(place / "slurm.conf"), PATH=path)
    for folder in ("state", "n1", "n2"):
        (place / folder).mkdir()
    host = socket.gethostname().split(".")[0]
    text = CONF.format(place=place, host=host, user=getpass.getuser(), ports=ports())
    (place / "slurm.conf").write_text(text)
    key = place / "munge.key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(128))
    munge = {"key-file": key, "socket": place / "munge.socket", "pid-file": place / "munged.pid"}
    munge |= {"seed-file": place / "munge.seed", "log-file": place / "munge.log"}
    daemons = [["munged", "--force", *(f"--{name}={value}" for name, value in munge.items())], ["slurmctld", "-c"]]
    for daemon in [*daemons, ["slurmd", "-c", "-N", "n1"], ["slurmd", "-c", "-N", "n2"]]:
        done = subprocess.run(daemon, env=env, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
    wait_for(
        "Slurm with two idle nodes", lambda: ask(env, "sinfo", "-h", "-o", "%D %T").strip() == "2 idle", seconds=20
    )
    return env


def ports() -> list[int]:
    """Return three consecutive free ports."""
    for first in range(16817, 17817, 3):
        try:
            for port in range(first, first + 3):
                with socket.socket() as free:
                    free.bind(("127.0.0.1", port))
        except OSError:
            continue
        return [first, first + 1, first + 2]
    raise AssertionError("no free ports")


def ask(env: dict[str, str], *command: str) -> str:
    path = shutil.which(command[0], path=env["PATH"])
    return subprocess.run([path, *command[1:]], env=env, capture_output=True, text=True, timeout=30).stdout


def test_a_killed_cell_queues_again_and_a_cell_that_fails_fails_alone(slurm, expected, tmp_path: Path):
    outputs = tmp_path / "shared"
    overrides = [f"kd.temperature=1e-300,{TEMPERATURES}", "outputs=shared", *SMALL]
    launcher = ["hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1"]
    with started(*launcher, *overrides, cwd=tmp_path, env=slurm) as process:
        kill_the_trainer(outputs, process)

        def queued_again() -> str | None:
            shown = ask(slurm, "scontrol", "--oneliner", "show", "job")
            return next((line for line in shown.splitlines() if "Restarts=1" in line and "=PENDING" in line), None)

        job = re.match(r"JobId=(\d+)", wait_for("a job that was queued again", queued_again, process)).group(1)
        # by default Slurm waits two minutes, in case the node is faulty
        ask(slurm, "scontrol", "update", f"jobid={job}", "starttime=now")
        assert process.wait(240) == 1, "one cell failed"
    output = (tmp_path / "output.txt").read_text(encoding="utf-8", errors="replace")
    failed = cells(outputs)["1e-300"]
    assert failed.status == "failed" and "not finite" in failed.error, output
    assert students(outputs) == expected, "the same weights as of an undisturbed sweep"
    assert each_made_once(outputs)
    hosts = set(re.findall(r"NodeList=(n\d)", ask(slurm, "scontrol", "--oneliner", "show", "job")))
    assert hosts == {"n1", "n2"}, "both nodes took part"
