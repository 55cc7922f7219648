import ctypes

import pytest
import torch

from cai_lightning.stages import session
from cai_lightning.stages.session import prepare, progress


class NoSuchLibrary:
    """A C library that is not glibc."""


@pytest.mark.parametrize("library", [lambda _: NoSuchLibrary(), lambda _: (_ for _ in ()).throw(OSError("none"))])
def test_a_stage_is_prepared_whatever_the_c_library(monkeypatch, library):
    monkeypatch.setattr(ctypes, "CDLL", library)
    monkeypatch.setenv("CAI_THREADS", "1")
    prepare()
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("mode", ["off", "lines"])
def test_each_step_of_progress_looks_at_the_threads(monkeypatch, mode):
    looks = []
    monkeypatch.setattr(session, "ease", lambda: looks.append(1))
    monkeypatch.setenv("CAI_PROGRESS", mode)
    with progress(3, "rows") as advance:
        advance(1)
        advance(2)
    assert len(looks) == 2
