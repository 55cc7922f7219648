from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.data.released import sampled, trace
from cai_lightning.data.samples import released_samples, released_traces

ASKED = "\n\nHuman: q\n\nAssistant:"


def answer(text: str, score: float) -> dict[str, Any]:
    return {"sampled_string": text, "pm_scores": [{"pm_score": score}]}


def write(folder: Path, name: str, row: dict[str, Any]) -> Path:
    (folder / f"{name}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    return folder


def round_of(revision: str) -> dict[str, Any]:
    words = {"prompt": ["\n\nCritiqueRequest: c\n\nCritique:"], "edit_request": "\n\nRevisionRequest: r\n\nRevision:"}
    return {"cst_key": "k", "cst_value": words, "critique": {"sample": " hm"}, "revision": {"sample": revision}}


TRACE = {
    "rl_prompt": ASKED,
    "initial_response": [{"sample": " bad"}],
    "cst": [round_of(" better\n\n"), round_of(" good\n\nHuman:")],
}


def test_end_markers_of_both_forms_and_outer_white_space_are_cut(tmp_path: Path) -> None:
    texts = [" a\n\nHuman:", " b\nHuman:", "\n\nc", " d\n\nHuman: more", " e\n\nAssistant: f\n\nHuman:"]
    answers = [answer(text, -float(at)) for at, text in enumerate(texts)]
    write(tmp_path, "X_HRLHF", {"rl_prompt": ASKED, "sampled_answers": answers})
    write(tmp_path, "X_SLMADISON", TRACE)
    found = released_samples(folder=tmp_path)
    assert list(found) == ["X_HRLHF"]
    (row,) = found["X_HRLHF"]
    assert row.replies == ("a", "b", "c", "d\n\nHuman: more", "e\n\nAssistant: f")
    assert row.raw == tuple(texts)
    assert row.scores == (0, -1, -2, -3, -4)


def test_traces_hold_the_first_reply_and_all_revisions(tmp_path: Path) -> None:
    write(tmp_path, "X_SLMADISON", TRACE)
    (found,) = released_traces(folder=tmp_path)["X_SLMADISON"]
    assert found.texts == ("bad", "better", "good")


def test_they_are_the_replies_and_chains_of_the_row_readers(tmp_path: Path) -> None:
    answers = [answer(" best\nHuman:", 2.0), answer(" worst\n\nHuman:", 1.0)]
    row = {"rl_prompt": ASKED, "sampled_answers": answers}
    (found,) = released_samples(folder=write(tmp_path, "X_HRLHF", row))["X_HRLHF"]
    assert [sampled(row, rank=rank)[-1].content for rank in (0, 1)] == list(found.replies) == ["best", "worst"]
    (chain,) = released_traces(folder=write(tmp_path, "X_SLMADISON", TRACE))["X_SLMADISON"]
    assert [step.text for step in trace(TRACE)[1]] == list(chain.texts[1:])


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ({"rl_prompt": "q"}, "no key 'sampled_answers'"),
        ({"sampled_answers": []}, "'sampled_answers' must be a list of one or more objects"),
        ({"sampled_answers": [{"sampled_string": "x"}]}, "no key 'pm_scores'"),
        ({"sampled_answers": [{"pm_scores": [{}, {}]}]}, "'pm_scores' must be a list of one object"),
        ({"sampled_answers": [answer("x", "high")]}, "'pm_score' must be a number"),  # type: ignore[arg-type]
        ({"sampled_answers": [answer("x", 0.0), answer("y", 1.0)]}, "do not stand in the order of their scores"),
    ],
)
def test_faults_name_file_and_line(tmp_path: Path, row: dict[str, Any], cause: str) -> None:
    with pytest.raises(ValueError) as caught:
        released_samples(folder=write(tmp_path, "X_HRLHF", row))
    assert str(caught.value).startswith(f"{tmp_path}/X_HRLHF.jsonl:1: ") and cause in str(caught.value)


def test_a_trace_without_its_revision_and_folders_without_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no \*.jsonl file of sampled replies"):
        released_samples(folder=tmp_path)
    write(tmp_path, "X_SLMADISON", TRACE | {"cst": [{"critique": {"sample": "x"}}]})
    with pytest.raises(ValueError, match=r"SLMADISON.jsonl:1: cst\[0\] must be an object with an object under 'rev"):
        released_traces(folder=tmp_path)
