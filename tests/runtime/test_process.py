"""Waiting and memory of the process: set before torch is imported, unless the user set them."""

import os
import subprocess
import sys

import pytest

PRINT = "import os; from kd.runtime.process import configure_process; configure_process(); {}"
FAULTS = """
import resource
import numpy as np
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**25, np.uint8)[:] = 2
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def run(code: str, **env: str) -> str:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP", "OMP", "MALLOC"))}
    ours["NUMPY_MADVISE_HUGEPAGE"] = "0"  # numpy asks for large pages, of which there are fewer
    done = subprocess.run([sys.executable, "-c", code], env=ours | env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_threads_wait_asleep_unless_the_user_decides():
    code = PRINT.format("print(os.environ.get('GOMP_SPINCOUNT'))")
    assert run(code) == "30000"
    assert run(code, GOMP_SPINCOUNT="7") == "7"
    assert run(code, OMP_WAIT_POLICY="active") == "None"


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_large_blocks_are_reused_unless_the_user_decides():
    code = PRINT.format(f"exec({FAULTS!r})")
    assert int(run(code)) < 100  # of 8,192 pages
    assert int(run(code, MALLOC_TRIM_THRESHOLD_="131072", MALLOC_MMAP_THRESHOLD_="1000000")) > 4000


def test_torch_is_not_imported_before_the_settings():
    assert run("import sys, kd.run; print('torch' in sys.modules)") == "False"
