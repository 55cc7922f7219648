from collections.abc import Callable
from typing import Any

import pytest

from cai_lightning.text.dialogue import human
from cai_lightning.text.records import Label, Prompt, Revision


def prompt(name: str) -> Prompt:
    return Prompt(id=name, dialogue=human(name), source="test", kind="red_team", cluster=f"c{name}")


@pytest.fixture
def make_label() -> Callable[..., Label]:
    def make(id: str, **changes: Any) -> Label:
        fields: dict[str, Any] = dict.fromkeys(("logit_ab", "logit_ba", "principle", "principle_hash", "model"))
        fields |= {"id": id, "prompt": prompt("p"), "a": "x", "b": "y", "p_a": 0.9, "source": "file", "weight": 2.0}
        return Label(**(fields | changes))

    return make


@pytest.fixture
def make_prompt() -> Callable[[str], Prompt]:
    return prompt


@pytest.fixture
def chain() -> list[Revision]:
    """Rounds 2, 1 and 3 of one chain."""
    texts: dict[str, Any] = dict.fromkeys(("id", "previous", "text", "principle", "principle_hash", "model"), "x")
    numbers: dict[str, Any] = {"temperature": 1.0, "seed": 0, "prompt_tokens": 1, "tokens": 1}
    return [
        Revision(**texts, **numbers, prompt=prompt("p"), round=number, critique=None, finish="stop")
        for number in (2, 1, 3)
    ]
