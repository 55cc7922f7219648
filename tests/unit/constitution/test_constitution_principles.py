from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from cai_lightning.constitution.principles import Principle, constitution, draw
from cai_lightning.text.dialogue import Message

TEMPLATE = "\n\nConsider:{conversation}\n\n{principle}\n(A) {a}\n(B) {b}\n\nThe answer is:"


def block() -> dict[str, Any]:
    return {
        "name": "small",
        "principles": [
            {"id": "kind", "critique": "Was it unkind?", "revision": "Be kind."},
            {"id": "safe", "comparison": "Choose the safer one."},
            {"id": "both", "critique": "c", "revision": "r", "comparison": "m"},
        ],
        "critique_few_shots": ["\n\nHuman: hi\n\nAssistant: go away\n\nHuman:"],
        "comparison_few_shots": [{"dialogue": "\n\nHuman: hi\n\nAssistant:", "better": "hello", "worse": "no"}],
        "comparison_template": TEMPLATE,
    }


def many(count: int) -> tuple[Principle, ...]:
    return tuple(Principle(f"p{i}", "c", "r", None) for i in range(count))


def test_a_block_becomes_a_constitution() -> None:
    built = constitution(**block())
    assert [principle.id for principle in built.revising] == ["kind", "both"]
    assert [principle.id for principle in built.comparing] == ["safe", "both"]
    assert built.critique_few_shots == ("\n\nHuman: hi\n\nAssistant: go away",)
    assert built.comparison_few_shots[0].dialogue == (Message("human", "hi"),)


def change(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    *parents, last = [int(part) if part.isdigit() else part for part in path.split("/")]

    def apply(node: Any) -> None:
        for part in parents:
            node = node[part]
        if value is ...:
            del node[last]
        else:
            node[last] = value

    return apply


@pytest.mark.parametrize(
    ("edit", "key"),
    [
        (change("principles/1/id", "kind"), "principles[1].id"),
        (change("principles/0/revision", ...), "principles[0].revision"),
        (change("principles/0/critique", ...), "principles[0].critique"),
        (change("principles/1/comparison", ...), "principles[1]"),
        (change("principles/1/comparison", " "), "principles[1].comparison"),
        (change("principles/1/id", ...), "principles[1].id"),
        (change("principles/1/id", False), "principles[1].id"),
        (change("principles/1/comparision", "x"), "principles[1].comparision"),
        (change("principles/1", "words"), "principles[1]"),
        (change("principles/0/critique", "\n\nCritiqueRequest: x"), "principles[0].critique"),
        (change("principles", []), "principles"),
        (change("critique_few_shots/0", "Human: hi"), "critique_few_shots[0]"),
        (change("comparison_few_shots/0/better", ...), "comparison_few_shots[0].better"),
        (change("comparison_few_shots/0/dialogue", "hi"), "comparison_few_shots[0].dialogue"),
        (change("comparison_template", TEMPLATE.replace("{b}", "")), "comparison_template"),
        (change("comparison_template", TEMPLATE + "{a}"), "comparison_template"),
        (change("comparison_template", TEMPLATE + "{x}"), "comparison_template"),
        (change("comparison_template", TEMPLATE.replace("{a}", "{a!r}")), "comparison_template"),
        (change("comparison_template", TEMPLATE + "}"), "comparison_template"),
    ],
)
def test_a_fault_is_one_line_that_names_its_key(edit: Callable[[dict[str, Any]], None], key: str) -> None:
    given = block()
    edit(given)
    with pytest.raises(ValueError) as caught:
        constitution(**given)
    assert str(caught.value).startswith(key + ":")
    assert "\n" not in str(caught.value)


def test_hash_is_of_the_words_and_not_of_the_id() -> None:
    words = Principle("x", "a", "b", None)
    assert Principle("y", "a", "b", None).hash == words.hash
    others = [Principle("x", "a", "b", "c"), Principle("x", "ab", "", None), Principle("x", None, "b", "a")]
    assert len({words.hash, *(other.hash for other in others)}) == 4


def test_draw_is_a_function_of_seed_row_and_round() -> None:
    principles = many(16)
    keys = [(seed, row, round) for seed in range(3) for row in "abc" for round in range(4)]
    first = [draw(principles, seed=s, row=r, round=n, replacement=True) for s, r, n in keys]
    again = [draw(principles[::-1], seed=s, row=r, round=n, replacement=True) for s, r, n in keys[::-1]]
    assert first == again[::-1]
    assert len(set(first)) > 8


def test_draws_with_replacement_are_uniform_and_repeat_as_in_the_released_traces() -> None:
    # 4 of 16 with replacement: 4, 3, 2 distinct with probability 16*15*14*13/16^4 = .6665, .3076, .0254
    principles = many(16)
    total: Counter[str] = Counter()
    distinct: Counter[int] = Counter()
    rows = 4000
    for row in range(rows):
        ids = [draw(principles, seed=0, row=str(row), round=n, replacement=True).id for n in range(1, 5)]
        total.update(ids)
        distinct[len(set(ids))] += 1
    # 5 standard errors of a count of mean 1000 and of the three shares
    assert all(abs(count - 1000) < 155 for count in total.values()) and len(total) == 16
    assert abs(distinct[4] / rows - 0.6665) < 0.037
    assert abs(distinct[3] / rows - 0.3076) < 0.037
    assert abs(distinct[2] / rows - 0.0254) < 0.013


def test_without_replacement_every_principle_comes_once_a_cycle() -> None:
    principles = many(5)
    orders = set()
    for row in range(50):
        cycle = [draw(principles, seed=1, row=str(row), round=n, replacement=False).id for n in range(10)]
        assert sorted(cycle[:5]) == ["p0", "p1", "p2", "p3", "p4"]
        assert cycle[5:] == cycle[:5]
        orders.add(tuple(cycle))
    assert len(orders) > 25


def test_leaving_one_out_changes_only_the_draws_that_fell_on_it() -> None:
    principles = many(8)
    left = principles[:3] + principles[4:]
    for row in range(300):
        before = draw(principles, seed=2, row=str(row), round=1, replacement=True)
        after = draw(left, seed=2, row=str(row), round=1, replacement=True)
        assert after == before or before == principles[3]
        assert after != principles[3]


def test_nothing_to_draw_from_is_an_error() -> None:
    with pytest.raises(ValueError, match="row r1: no principle"):
        draw((), seed=0, row="r1", round=1, replacement=True)
