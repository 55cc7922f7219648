import os

import pytest

from cai_lightning.experiment.runtime import idle_threads


@pytest.fixture
def machine(monkeypatch):
    """A function that gives a machine so many cores and so much load, and a launcher that set OMP_NUM_THREADS."""

    def make(*, cores, load, given=None):
        monkeypatch.delenv("CAI_IDLE_THREADS", raising=False)
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if given is not None:
            monkeypatch.setenv("OMP_NUM_THREADS", given)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
        monkeypatch.setattr(os, "getloadavg", lambda: (load, 9.0, 9.0), raising=False)

    yield make
    os.environ.pop("CAI_IDLE_THREADS", None)


@pytest.mark.parametrize(
    ("cores", "load", "threads"),
    [(2, 0.1, 2), (2, 0.9, 1), (2, 2.0, 1), (16, 1.0, 2), (16, 14.2, 2), (16, 15.3, 1), (1, 0.0, 1), (4, 99.0, 1)],
)
def test_two_threads_where_two_cores_are_idle_else_one(machine, cores, load, threads):
    machine(cores=cores, load=load)
    assert idle_threads() == threads


@pytest.mark.parametrize(("given", "threads"), [("1", 1), ("6", 6), ("0", 2), ("", 2), ("two", 2)])
def test_a_launchers_number_goes_first_if_it_is_one(machine, given, threads):
    machine(cores=8, load=0.0, given=given)
    assert idle_threads() == threads


def test_a_process_asks_once_for_later_the_load_is_its_own(machine, monkeypatch):
    machine(cores=8, load=0.0)
    assert idle_threads() == 2
    monkeypatch.setattr(os, "getloadavg", lambda: (8.0, 0.0, 0.0))
    assert idle_threads() == 2


def test_where_the_load_is_not_known_one_thread_is_taken(machine, monkeypatch):
    machine(cores=8, load=0.0)
    monkeypatch.delattr(os, "getloadavg")
    assert idle_threads() == 1
