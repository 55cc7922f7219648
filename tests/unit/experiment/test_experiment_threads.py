import pytest

from cai_lightning.experiment.runtime import threads_of


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in ("CAI_THREADS_AUTO", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


def test_a_number_in_the_config_is_taken_whatever_a_launcher_says(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert threads_of(3) == "3"


@pytest.mark.parametrize(
    ("given", "told"), [("1", "1"), ("6", "6"), ("0", "auto"), ("", "auto"), ("two", "auto"), (None, "auto")]
)
def test_auto_takes_a_launchers_number_if_it_is_one(monkeypatch, given, told):
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert threads_of("auto") == told


def test_the_number_that_we_set_for_libraries_is_no_launchers(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CAI_THREADS_AUTO", "1")
    assert threads_of("auto") == "auto"
