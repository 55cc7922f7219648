import json
from pathlib import Path

import pytest

from cai_lightning.report import reward


def figure(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05, "n": 20}


def test_the_table_holds_both_accuracies_and_their_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {name: {"accuracy_harmless": figure(value)} for name, value in (("shorter", 0.5), ("bag_of_words", 0.6))}
    (tmp_path / "baseline.json").write_text(json.dumps(words))
    learned = {"accuracy_harmless": figure(0.64), "difference_harmless": figure(0.04), "accuracy_other": figure(0.9)}
    (tmp_path / "reward_model.json").write_text(json.dumps(learned))
    facts = {"experiment": "hh", "seconds": 1.5}
    others = {"without": tmp_path}
    reward.run(tmp_path, run=facts, reward_accuracy=tmp_path, baseline=tmp_path, others=others, test="harmless")
    written = json.loads((tmp_path / "reward.json").read_text())
    assert {name: found["value"] for name, found in written["figures"].items()} == {
        "shorter": 0.5,
        "bag_of_words": 0.6,
        "reward_model": 0.64,
        "difference": 0.04,
        "reward model, without": 0.64,
    }
    printed = capsys.readouterr().out
    assert "reward model, without " in printed
    assert "bag of words" in printed and "0.600" in printed and "+0.040" in printed and "-0.010 ... +0.090" in printed
