"""The constitution of Bai et al. 2022, read from the five JSON files that the authors released.

The files differ among themselves (2212.08073, supplementary data): a list of one string here, a string there;
keys that sort wrongly as text; markers inside the wordings; one few-shot text without its stop marker; reasoning
examples that begin with two line breaks, one or none. The words themselves stay as they are, typing errors and the line
break before a comparison principle included. Only the line breaks in front of a reasoning example are made two, or its
human turn would be glued to the letter of the example before it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cai_lightning.constitution.principles import Constitution, constitution
from cai_lightning.text.artifacts import Source

_REQUESTS = {
    "prompt": ("critique", "\n\nCritiqueRequest: ", "\n\nCritique:"),
    "edit_request": ("revision", "\n\nRevisionRequest: ", "\n\nRevision:"),
}


def paper_constitution(
    *,
    name: str,
    revision_principles: Source,
    revision_few_shots: Source,
    comparison_principles: Source,
    comparison_few_shots: Source,
    comparison_template: str,
    reasoning_few_shots: Source,
    reasoning: Mapping[str, Any],
) -> Constitution:
    """The paper's 16 revising and 16 comparing principles with their few-shot examples.

    Files: CritiqueRevisionInstructions, CritiqueRevisionFewShotPrompts, RLMadisonInstructions, RLMadisonFewShotPrompts
    and RLMadisonPrecogFewShotPrompts (.json); `reasoning` is what the last one does not hold: template, markers, texts.
    Raises ValueError naming file and entry where one has another shape.
    """
    revising = _json(revision_principles, dict)
    comparing = _json(comparison_principles, list)
    examples = _json(comparison_few_shots, list)
    thoughts = _json(reasoning_few_shots, list)
    return constitution(
        name=name,
        principles=[_revising(revising[id], id, revision_principles) for id in sorted(revising, key=_by_number)]
        + [{"id": f"comparison{i}", "comparison": text} for i, text in enumerate(comparing)],
        critique_few_shots=_json(revision_few_shots, list),
        comparison_few_shots=[
            {
                "dialogue": _one(example, "prompt", f"{comparison_few_shots}[{i}]"),
                "better": _one(example, "corrects", f"{comparison_few_shots}[{i}]"),
                "worse": _one(example, "incorrects", f"{comparison_few_shots}[{i}]"),
            }
            for i, example in enumerate(examples)
        ],
        comparison_template=comparison_template,
        reasoning={
            **reasoning,
            "few_shots": [
                "\n\n" + _one(example, "prompt", f"{reasoning_few_shots}[{i}]").lstrip("\n")
                for i, example in enumerate(thoughts)
            ],
        },
    )


def _revising(entry: Any, id: str, path: Path) -> dict[str, str]:
    principle = {"id": id}
    for key, (wording, before, after) in _REQUESTS.items():
        text = _one(entry, key, f"{path}[{id}]")
        if not (text.startswith(before) and text.endswith(after)):
            raise ValueError(f"{path}[{id}].{key}: must run from {before!r} to {after!r}, is {text!r:.60}")
        principle[wording] = text.removeprefix(before).removesuffix(after)
    return principle


def _one(entry: Any, key: str, place: str) -> str:
    """The text under `key`, be it a string or a list of one string."""
    if not isinstance(entry, Mapping) or key not in entry:
        raise ValueError(f"{place}: no key {key!r}")
    value = entry[key]
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str):
        raise ValueError(f"{place}.{key}: must be a string or a list of one string, is {value!r:.60}")
    return value


def _by_number(id: str) -> tuple[str, int]:
    stem, number = re.fullmatch(r"(.*?)(\d*)", id, re.DOTALL).groups()  # type: ignore[union-attr]
    return stem, int(number or -1)


def _json(path: Path, kind: type[Any]) -> Any:
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; it is part of the paper's supplementary data") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(value, kind):
        raise ValueError(f"{path}: must hold a JSON {kind.__name__}, holds a {type(value).__name__}")
    return value
