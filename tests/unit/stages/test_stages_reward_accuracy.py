import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.learning.combining import lowest, mean
from cai_lightning.stages import reward_accuracy
from cai_lightning.text.records import Label, Prompt, write_rows

RUNS = [{"replicate": 0, "reward_model": "one"}, {"replicate": 1, "reward_model": "other"}]
GIVEN: dict[str, Any] = {
    "resamples": 200,
    "batch_size": 4,
    "dtype": "float32",
    "precision": "32-true",
    "seed": 0,
    "combine": mean,
}


@pytest.fixture
def test_set(tmp_path: Path, make_label: Callable[..., Label]) -> Path:
    """Twelve pairs of one cluster each, a better in even ones; and a tie, which nobody counts."""
    prompts = [Prompt(id=str(i), dialogue=(), source="", kind="", cluster=f"c{i}") for i in range(12)]
    rows = [make_label(f"e{i}", prompt=prompts[i], p_a=float(i % 2 == 0)) for i in range(12)]
    (tmp_path / "test").mkdir()
    write_rows(tmp_path / "test", [*rows, make_label("tie", p_a=0.5)])
    return tmp_path / "test"


def accuracies(
    monkeypatch: pytest.MonkeyPatch, out: Path, test: Path, margins: dict[str, list[float]], **changes: Any
) -> Any:
    rewards = {name: [reward for margin in found for reward in (margin, 0.0)] for name, found in margins.items()}
    monkeypatch.setattr(
        reward_accuracy, "rewards_of", lambda path, labels, *_: dict.fromkeys(labels, rewards[path.name])
    )
    given = GIVEN | {"runs": RUNS, "baseline": None} | changes
    reward_accuracy.run(out, tests={"harmless": test}, **given)
    return json.loads((out / "reward_model.json").read_text())


RIGHT = [2.0, -1.0] * 6
# right on half of the pairs, wrong on four, undecided on two
MIXED = [1.0, -1.0, 1.0, -1.0, 1.0, -1.0, -1.0, 1.0, -1.0, 1.0, 0.0, 0.0]


def test_runs_are_averaged_pair_by_pair_and_their_rewards_make_an_ensemble(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, test_set: Path
) -> None:
    found = accuracies(monkeypatch, tmp_path, test_set, {"one": RIGHT, "other": MIXED})
    # (12 + 6 + 2 / 2) / 24; the sums' signs: +3, -2 three times, then 1, 0, 1, 0, then +2, -1
    assert found["accuracy_harmless"]["value"] == pytest.approx(19 / 24)
    assert found["ensemble_harmless"]["value"] == pytest.approx((6 + 1 + 0.5 + 1 + 0.5 + 2) / 12)
    assert found["accuracy_harmless"]["n"] == 12
    assert set(found) == {"accuracy_harmless", "ensemble_harmless"}


def test_the_one_reward_is_made_as_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, test_set: Path) -> None:
    """The lower of both rewards: b's is 0 with either, so a pair counts as a better only where both say so."""
    found = accuracies(monkeypatch, tmp_path, test_set, {"one": RIGHT, "other": MIXED}, combine=lowest)
    # of the even pairs, a better, both agree on 0, 2 and 4, and 10 is a tie; odd ones are right by RIGHT alone
    assert found["ensemble_harmless"]["value"] == pytest.approx((3 + 0.5 + 6) / 12)


def test_a_reward_that_is_no_number_names_its_run_and_reply(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, test_set: Path
) -> None:
    with pytest.raises(ValueError, match="reward model '1': gives reply 4 the score nan"):
        accuracies(monkeypatch, tmp_path, test_set, {"one": RIGHT, "other": [1.0, 1.0, float("nan"), *RIGHT[3:]]})


def test_one_run_is_no_ensemble(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, test_set: Path) -> None:
    found = accuracies(monkeypatch, tmp_path, test_set, {"one": RIGHT}, runs=RUNS[:1])
    assert set(found) == {"accuracy_harmless"} and found["accuracy_harmless"]["value"] == 1


def test_the_difference_to_a_baseline_is_paired(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, test_set: Path
) -> None:
    words = {f"e{i}": float(i < 9) for i in range(12)}
    (tmp_path / "hits.json").write_text(json.dumps({"bag_of_words": {"harmless": words}}))
    found = accuracies(monkeypatch, tmp_path, test_set, {"one": RIGHT, "other": RIGHT}, baseline=tmp_path)
    assert found["difference_harmless"]["value"] == pytest.approx(0.25)
    assert 0 <= found["difference_harmless"]["low"] < 0.25 < found["difference_harmless"]["high"] < 0.6
    assert found["ensemble_difference_harmless"]["value"] == pytest.approx(0.25)


def test_a_baseline_of_other_pairs_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, test_set: Path) -> None:
    (tmp_path / "hits.json").write_text(json.dumps({"bag_of_words": {"harmless": {"e0": 1.0}}}))
    with pytest.raises(ValueError, match="lacks 11 test pairs, e1 first"):
        accuracies(monkeypatch, tmp_path, test_set, {"one": RIGHT, "other": RIGHT}, baseline=tmp_path)
