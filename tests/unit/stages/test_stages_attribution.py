import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.constitution.by_principle import log_odds_by_principle
from cai_lightning.constitution.feedback import label
from cai_lightning.constitution.principles import Constitution, Principle
from cai_lightning.constitution.questions import asking, averaged, both_orders, every, per_run
from cai_lightning.constitution.styles import text
from cai_lightning.evaluation.pooling import Pool, mean_log_odds, mean_probability
from cai_lightning.microworld.oracle import covered, harm_in
from cai_lightning.stages import attribution, labels_without, reward_attribution, unlabelled
from cai_lightning.stages import label as label_stage
from cai_lightning.stages.estimates import Estimate
from cai_lightning.text.backends import Query
from cai_lightning.text.dialogue import human
from cai_lightning.text.records import Comparison, Label, Prompt, read_rows, write_rows

TEMPLATE = "{conversation}\n\n{principle}\n(A) {a}\n(B) {b}\n\nThe answer is:"
RULES = ("toxic", "violent", "wrong")
RECIPE: dict[str, Any] = {"harm": None, "covers": None, "flips": 3, "resamples": 100, "seed": 0}


def constitution(*words: str) -> Constitution:
    return Constitution(
        "mine", tuple(Principle(word, None, None, f"less {word} ?") for word in words), (), (), TEMPLATE
    )


class Rules:
    """Log-odds for a reply by the hash of principle and reply; the first slot gains half a nat."""

    def score(self, queries: Sequence[Query]) -> list[tuple[float, ...]]:
        done = []
        for query in queries:
            asked, _, shown = str(query.prompt).partition("\n(A) ")
            rule = asked.rpartition("less ")[2]
            a, b = shown.removesuffix("\n\nThe answer is:").split("\n(B) ")
            done.append((worth(rule, a) - 2.5, worth(rule, b) - 3.0))
        return done


def worth(rule: str, reply: str) -> float:
    return (sum(map(ord, rule)) * (len(reply) + 7)) % 11 / 11


def comparisons(count: int) -> list[Comparison]:
    prompts = [
        Prompt(id=f"p{i}", dialogue=human(f"q{i}"), source="s", kind="red_team", cluster=f"c{i}") for i in range(count)
    ]
    return [
        Comparison(
            id=f"x{i}", prompt=one, a="a" * (i % 7), b="b" * (i % 5 + 7), source="s", model="", temperature=1.0, seed=0
        )
        for i, one in enumerate(prompts)
    ]


def labelled(words: Sequence[str], count: int = 20, pick: Any = every) -> list[Label]:
    asks = asking(
        constitution(*words), reasoning=False, style=text, order=both_orders, pick=pick, few_shot_draw=per_run, seed=1
    )
    return label(Rules(), comparisons(count), asks, thinking=None, clamp=None, hard=False, weight=1.0, model="m")


def folder(path: Path, rows: Sequence[Label] | dict[str, Any]) -> Path:
    path.mkdir(parents=True)
    if isinstance(rows, dict):
        (path / "pair_rewards.json").write_text(json.dumps(rows))
    else:
        write_rows(path, rows)
    return path


def without(tmp_path: Path, name: str | None, pool: Pool, clamp: tuple[float, float] | None = None) -> list[Label]:
    given = folder(tmp_path / f"every {name}", labelled(RULES))
    out = folder(tmp_path / f"without {name}", {})
    labels_without.run(
        out, labels=given, constitution=constitution(*RULES), without=name, pool=pool, clamp=clamp, weight=1.0
    )
    return read_rows(out, Label)


@pytest.mark.parametrize("left", [None, *RULES])
def test_labels_without_a_principle_are_those_of_a_constitution_that_never_had_it(
    tmp_path: Path, left: str | None
) -> None:
    rest = [word for word in RULES if word != left]
    asked = labelled(rest)
    derived = without(tmp_path, left, mean_log_odds)
    assert [row.p_a for row in derived] == pytest.approx([row.p_a for row in asked], abs=1e-12)
    assert [row.principle_hash for row in derived] == [row.principle_hash for row in asked]
    assert {row.principle for row in derived} == {"+".join(rest)}
    # what labels under one drawn principle are on average
    alone = [[row.p_a for row in labelled([word])] for word in rest]
    drawn = without(tmp_path / "drawn", left, mean_probability, (0.3, 0.7))
    means = [sum(column) / len(rest) for column in zip(*alone, strict=True)]
    assert [row.p_a for row in drawn] == pytest.approx([min(max(mean, 0.3), 0.7) for mean in means], abs=1e-12)


def test_principles_are_told_apart_whatever_order_they_were_asked_in() -> None:
    from functools import partial

    shuffled = labelled(RULES, pick=partial(averaged, count=3))
    assert len({row.principle for row in shuffled}) > 1
    for one, other in zip(shuffled, labelled(RULES), strict=True):
        assert log_odds_by_principle(one, RULES) == log_odds_by_principle(other, RULES)


def test_with_thoughts_the_probabilities_of_a_principle_are_averaged() -> None:
    row = dataclasses.replace(labelled(RULES[:2])[0], logits=(10.0, -1.0, 2.0, 2.0), thoughts=("t", "u", "v", "w"))
    # (sigmoid(10) + sigmoid(-1)) / 2 = .634448, log-odds .55135
    assert log_odds_by_principle(row, RULES[:2]) == pytest.approx([0.55135, 2.0], abs=1e-5)


def test_labels_of_another_constitution_are_refused(tmp_path: Path) -> None:
    row = labelled(RULES)[0]
    with pytest.raises(ValueError, match="label x0: not asked under 'deceptive'; label with pick=every"):
        log_odds_by_principle(row, ("deceptive", "toxic", "violent"))
    with pytest.raises(ValueError, match="label x0: asked under 'toxic"):
        log_odds_by_principle(row, RULES[:2])
    with pytest.raises(ValueError, match="without: no principle 'kind' that compares; there are toxic, violent, wrong"):
        without(tmp_path, "kind", mean_log_odds)
    principles = [{"id": "toxic", "comparison": "less toxic ?"}, {"id": "long", "revision": "x"}]
    with pytest.raises(ValueError, match="without: no principle 'long' that compares"):
        labels_without.check_recipe({"constitution": {"principles": principles}, "without": "long"})


def table(tmp_path: Path, runs: list[dict[str, Any]], **changes: Any) -> Any:
    out = folder(tmp_path / "out", {})
    recipe = {"constitution": constitution(*RULES), "truth": "people", "pool": mean_probability, **RECIPE, **changes}
    attribution.run(out, runs=runs, **recipe)
    return json.loads((out / "attribution.json").read_text())


def test_the_truth_is_that_of_the_same_pair_whichever_reply_stands_first(tmp_path: Path) -> None:
    rows = labelled(RULES)
    said = [dataclasses.replace(row, id=f"h{row.id}", p_a=float(row.p_a > 0.5)) for row in rows]
    turned = [dataclasses.replace(row, a=row.b, b=row.a, p_a=1 - row.p_a) for row in reversed(said)]
    labels = {"harmless": folder(tmp_path / "labels", rows)}
    tables = [
        table(
            tmp_path / str(k),
            [{"replicate": 0, "labels": labels, "truths": {"harmless": folder(tmp_path / f"t{k}", truth)}}],
        )
        for k, truth in enumerate((said, turned, said[:-2]))
    ]
    assert tables[0] == tables[1]
    assert tables[0]["truth_is"] == {"harmless": "people"}
    assert [one["whole"]["harmless"]["known"] for one in tables] == [20, 20, 18]
    assert [one["id"] for one in tables[0]["principles"]] == list(RULES)
    assert tables[0]["categories"] is tables[0]["truth"] is None


def test_without_truth_the_page_is_told_so_and_seeds_are_pooled(tmp_path: Path) -> None:
    labels = {name: folder(tmp_path / name, labelled(RULES)) for name in ("harmless", "helpful")}
    runs = [{"replicate": seed, "labels": labels, "truths": {}} for seed in (0, 1)]
    found = table(tmp_path, runs)
    assert found["replicates"] == [0, 1] and found["pairs"] == 80
    assert set(found["truth_is"].values()) == {"the label of the whole constitution"}
    assert list(found["principles"][0]["effects"]["add_one"]) == ["harmless", "helpful"]
    with pytest.raises(ValueError, match="may differ in `replicate` alone"):
        table(tmp_path / "twice", [runs[0], runs[0]])


def margins(labels: Sequence[Label], bonus: float) -> dict[str, list[float]]:
    return {"harmless": [(1.0 if row.p_a > 0.5 else -1.0) + bonus * (-1) ** place for place, row in enumerate(labels)]}


def test_reward_models_are_read_on_the_same_pairs(tmp_path: Path) -> None:
    tests = [
        dataclasses.replace(row, a="stab", b="swindle swindle", p_a=float(k % 2))
        for k, row in enumerate(labelled(RULES))
    ]
    runs = [
        {
            "replicate": seed,
            "labels": folder(tmp_path / f"{seed}{left}", without(tmp_path / f"w{seed}", left, mean_probability)),
            "pair_rewards": folder(tmp_path / f"m{seed}{left}", margins(tests, -3.0 if left == "violent" else 0.0)),
        }
        for seed in (0, 1)
        for left in (None, "violent", *(["toxic"] if seed else []))
    ]
    out = folder(tmp_path / "out", {})
    recipe = {**RECIPE, "harm": harm_in, "covers": covered}
    given = {
        "constitution": constitution(*RULES),
        "truth": "people",
        "tests": {"harmless": folder(tmp_path / "t", tests)},
    }
    reward_attribution.run(out, runs=runs, **given, **recipe)
    found = json.loads((out / "attribution.json").read_text())
    # toxic is missing in one seed; sigmoid(1) with all, sigmoid(1 - 3 or 1 + 3) without: even pairs have b better
    (one,) = found["principles"]
    assert (one["id"], found["replicates"]) == ("violent", [0, 1])
    sigmoid = 1 / (1 + math.exp(-1))
    gone = 1 / (1 + math.exp(-4))
    assert one["effects"]["leave_one_out"]["harmless"]["value"] == pytest.approx(sigmoid - gone)
    assert "add_one" not in one["effects"] and found["redundancy"] is None
    # the stab is worse than nothing in one category, the two swindles in the other
    assert sorted(found["categories"]["names"]) == ["deceptive", "violent"]
    with pytest.raises(ValueError, match="two of replicate 0 without None"):
        reward_attribution.run(out, runs=[runs[0], runs[0]], **given, **recipe)


def test_a_whole_alone_makes_an_empty_table(tmp_path: Path) -> None:
    rows = without(tmp_path, None, mean_probability)
    runs = [
        {
            "replicate": 0,
            "labels": folder(tmp_path / "l", rows),
            "pair_rewards": folder(tmp_path / "m", margins(rows, 0)),
        }
    ]
    out = folder(tmp_path / "out", {})
    reward_attribution.run(
        out,
        runs=runs,
        constitution=constitution(*RULES),
        truth="people",
        tests={"harmless": folder(tmp_path / "t", rows)},
        **RECIPE,
    )
    assert json.loads((out / "attribution.json").read_text())["principles"] == []


def test_what_people_labelled_is_compared_without_their_labels(tmp_path: Path) -> None:
    out = folder(tmp_path / "out", {})
    unlabelled.run(out, labels=folder(tmp_path / "labels", labelled(RULES)))
    rows = read_rows(out, Comparison)
    assert [(row.id, row.prompt, row.a, row.b) for row in rows] == [
        (row.id, row.prompt, row.a, row.b) for row in comparisons(20)
    ]


def test_every_principle_has_its_price(tmp_path: Path) -> None:
    given, memory = Estimate(10.0, length=100.0), {"dtype": "float32", "batch_size": 4}
    recipe = {"comparisons": given, "order": {"_target_": "q.both_orders"}, "pick": {"_target_": "q.every"}, **memory}
    recipe |= {"reasoning_samples": 0, "thought_tokens": 0, "feedback_model": given}
    principles = [
        {"id": "x", "comparison": "c"},
        {"id": "y", "critique": "c", "revision": "r"},
        {"id": "z", "comparison": "c"},
    ]
    assert label_stage.estimate({**recipe, "constitution": {"principles": principles}}).calls == 10 * 2 * 2
    file = tmp_path / "asked.json"
    file.write_text('["one", "two", "three"]')
    assert label_stage.estimate({**recipe, "constitution": {"comparison_principles": str(file)}}).calls == 10 * 2 * 3
    assert math.isnan(label_stage.estimate({**recipe, "constitution": {}}).calls)
