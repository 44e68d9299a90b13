"""Nothing that a library prints, from Python or below it, reaches the terminal; what comes after does."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from kd.export.silent import silent


def test_streams_are_silent_inside_and_as_before_after_it(capfd):
    print("before")
    with silent():
        print("python")
        print("python", file=sys.stderr)
        os.write(1, b"below")
        os.write(2, b"below")
        subprocess.run([sys.executable, "-c", "print('child')"], check=True)
    print("after")
    assert capfd.readouterr() == ("before\nafter\n", "")


def test_an_error_passes_and_the_streams_return(capfd):
    with pytest.raises(ValueError, match="reason"), silent():
        raise ValueError("the reason")
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


def test_streams_that_are_closed_are_no_error():
    code = "import os\nfrom kd.export.silent import silent\nos.close(2)\nwith silent(): print('x')\nprint('y')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "y\n")
