import sys
import time
from itertools import pairwise

import pytest
import torch

from cai_lightning.stages import threads
from cai_lightning.stages.threads import Look, ease, fitting, look


@pytest.fixture
def machine(monkeypatch):
    """A function that gives the looks to come, and the numbers of threads that torch was given since."""
    given = []
    current = [1]

    def take(number):
        given.append(number)
        current[0] = number

    monkeypatch.setattr(threads, "_last", None)
    monkeypatch.setattr(torch, "set_num_threads", take)
    monkeypatch.setattr(torch, "get_num_threads", lambda: current[0])
    monkeypatch.setattr(threads, "_cores", lambda: {0, 1})
    monkeypatch.setenv("CAI_THREADS", "auto")
    monkeypatch.delenv("WORLD_SIZE", raising=False)

    def make(*looks):
        coming = iter(looks)
        monkeypatch.setattr(threads, "look", lambda: next(coming))
        return given

    return make


@pytest.mark.parametrize(
    ("cores", "busy", "own", "expected"),
    [
        (2, 0.0, 0.0, 2),  # nobody works
        (2, 1.0, 1.0, 2),  # we alone do, on one core
        (2, 2.0, 2.0, 2),  # and on both
        (2, 1.0, 0.0, 1),  # another has one core
        (2, 2.0, 1.0, 1),  # each has one
        (2, 2.0, 0.0, 1),  # others have both: one thread is the least
        (2, 0.2, 0.0, 2),  # what little others do does not count
        (2, 0.5, 0.0, 1),
        (1, 0.0, 0.0, 1),
        (16, 3.0, 1.0, 2),  # more than two are never taken unasked
        (16, 15.0, 0.5, 1),
    ],
)
@pytest.mark.parametrize("seconds", [0.5, 4.0])
def test_as_many_threads_as_cores_are_left_by_others(cores, busy, own, expected, seconds):
    after = Look(7.0 + seconds, 100.0 + busy * seconds, 30.0 + own * seconds)
    assert fitting(Look(7.0, 100.0, 30.0), after, cores=cores) == expected


def test_threads_follow_what_others_do_while_a_stage_works(machine, monkeypatch):
    clock = iter([12.0, 12.2, 14.0])
    monkeypatch.setattr(threads.time, "perf_counter", lambda: next(clock))
    given = machine(Look(10.0, 0.0, 0.0), Look(10.1, 0.0, 0.0), Look(12.0, 3.0, 1.5), Look(14.0, 5.0, 3.5))
    ease()
    assert given == [2]
    ease()  # others took 1.5 of 3 core seconds in 1.9 seconds
    assert given == [2, 1]
    ease()  # too early to look again
    ease()
    assert given == [2, 1, 2]


def test_a_number_is_taken_as_it_is_and_nobody_looks(machine, monkeypatch):
    given = machine()
    monkeypatch.setenv("CAI_THREADS", "3")
    ease()
    ease()
    assert given == [3]


@pytest.mark.parametrize("wanted", ["auto", "4"])
def test_each_of_several_processes_has_one_thread(machine, monkeypatch, wanted):
    given = machine()
    monkeypatch.setenv("CAI_THREADS", wanted)
    monkeypatch.setenv("WORLD_SIZE", "2")
    ease()
    assert given == []


def test_where_the_system_says_nothing_one_thread_is_taken(machine, monkeypatch, tmp_path):
    given = machine(None, None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    ease()
    assert given == [1]
    monkeypatch.undo()
    monkeypatch.setattr(threads, "_STAT", tmp_path / "none")
    assert look() is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/stat")
def test_a_look_sees_the_time_of_this_process_pass():
    looks = [look()]
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    looks.append(look())
    ((before, after),) = pairwise(looks)
    assert after.own - before.own >= 0.3
    assert after.busy - before.busy >= 0.25  # ticks are hundredths of a second, and start anywhere
    assert after.clock > before.clock
