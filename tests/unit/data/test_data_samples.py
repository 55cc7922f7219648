from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.data.samples import released_samples, released_traces

ENDS = ["\n\nHuman:", "\nHuman:"]


def answer(text: str, score: float) -> dict[str, Any]:
    return {"sampled_string": text, "pm_scores": [{"pm_score": score}]}


def write(folder: Path, name: str, row: dict[str, Any]) -> Path:
    (folder / f"{name}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    return folder


TRACE = {
    "rl_prompt": "\n\nHuman: q\n\nAssistant:",
    "initial_response": [{"sample": " bad"}],
    "cst": [
        {"cst_key": "k", "cst_value": {}, "critique": {"sample": " hm"}, "revision": {"sample": " better"}},
        {"cst_key": "k", "cst_value": {}, "critique": {"sample": " ok"}, "revision": {"sample": " good"}},
    ],
}


def test_end_markers_of_all_forms_and_outer_white_space_are_cut(tmp_path: Path) -> None:
    texts = [" a\n\nHuman:", " b\nHuman:", "\n\nc", " d\n\nHuman: more", " e\n\nAssistant: f\n\nHuman:"]
    answers = [answer(text, float(at)) for at, text in enumerate(texts)]
    write(tmp_path, "X_HRLHF", {"rl_prompt": "\n\nHuman: q\n\nAssistant:", "sampled_answers": answers})
    write(tmp_path, "X_SLMADISON", TRACE)
    found = released_samples(folder=tmp_path, ends=ENDS)
    assert list(found) == ["X_HRLHF"]
    (row,) = found["X_HRLHF"]
    assert row.replies == ("a", "b", "c", "d\n\nHuman: more", "e\n\nAssistant: f")
    assert row.raw == tuple(texts)
    assert row.scores == (0, 1, 2, 3, 4)
    assert released_samples(folder=tmp_path, ends=ENDS[:1])["X_HRLHF"][0].replies[1] == "b\nHuman:"


def test_traces_hold_the_first_reply_and_all_revisions_as_they_stand(tmp_path: Path) -> None:
    write(tmp_path, "X_SLMADISON", TRACE)
    (trace,) = released_traces(folder=tmp_path)["X_SLMADISON"]
    assert trace.texts == (" bad", " better", " good")
    assert trace.critiques == (" hm", " ok")


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ({"rl_prompt": "q"}, "'sampled_answers' must be a list"),
        ({"rl_prompt": "q", "sampled_answers": []}, "'sampled_answers' must be a list"),
        ({"rl_prompt": "q", "sampled_answers": [{"sampled_string": "x"}]}, "'pm_scores' must be a list"),
        ({"rl_prompt": "q", "sampled_answers": [answer("x", "high")]}, "'pm_score' must be a number"),  # type: ignore[arg-type]
        ({"sampled_answers": [answer("x", 1.0)]}, "no key 'rl_prompt'"),
    ],
)
def test_faults_name_file_and_line(tmp_path: Path, row: dict[str, Any], cause: str) -> None:
    with pytest.raises(ValueError) as caught:
        released_samples(folder=write(tmp_path, "X_HRLHF", row), ends=ENDS)
    assert str(caught.value).startswith(f"{tmp_path}/X_HRLHF.jsonl:1: ") and cause in str(caught.value)


def test_a_trace_without_its_revision_and_folders_without_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no \*.jsonl file of sampled replies"):
        released_samples(folder=tmp_path, ends=ENDS)
    write(tmp_path, "X_SLMADISON", TRACE | {"cst": [{"critique": {"sample": "x"}}]})
    with pytest.raises(ValueError, match=r"SLMADISON.jsonl:1: 'revision' must be an object"):
        released_traces(folder=tmp_path)
