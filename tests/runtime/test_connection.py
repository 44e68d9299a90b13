"""The check of a server: one request, a time limit, any answer counts."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from kd.runtime.connection import ask_server, check_reachable, check_url


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening, f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_one_that_takes_the_call_and_says_nothing_is_not_waited_for(server):
    with pytest.raises(TimeoutError, match="no answer within 0.2 seconds"):
        check_url(server[1], 0.2)


def test_a_request_without_a_limit_of_its_own_is_limited():
    """For example the look-up of a name, if packets to the name server are dropped."""
    with pytest.raises(TimeoutError):
        check_reachable(lambda seconds: time.sleep(2), 0.1)


def test_one_that_is_not_there_is_reported_at_once(server):
    server[0].close()
    with pytest.raises(OSError, match="refused"):
        check_url(server[1], 30)


@pytest.mark.parametrize("status", ["200 OK", "403 Forbidden", "500 Internal Server Error"])
def test_any_answer_will_do(server, status):
    def answer() -> None:
        line, _ = server[0].accept()
        with line:
            line.recv(4096)
            line.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

    threading.Thread(target=answer, daemon=True).start()
    check_url(server[1], 30)


def test_the_time_counts_from_the_question_and_not_from_the_wait():
    wait = ask_server(lambda seconds: time.sleep(5), 0.2)
    time.sleep(0.3)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        wait()
    assert time.monotonic() - began < 0.2
