"""Measured on the released samples and evaluation files: equal to figures that others measured and wrote down."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from cai_lightning.data.hh import hh_comparisons
from cai_lightning.data.questions import Question, example_texts, multiple_choice, resolve, without_examples
from cai_lightning.data.samples import Sampled, Trace, released_samples, released_traces
from cai_lightning.evaluation.bag_of_words import Pair, fit_bag_of_words, hits, shorter_hits
from cai_lightning.evaluation.multiple_choice import baselines
from cai_lightning.evaluation.surface import (
    Rules,
    describe,
    describe_chains,
    distinct_ratio,
    duplicate_share,
    matching_share,
    mean_words,
    share_under,
    within_correlation,
    within_sd,
    word_count,
)
from cai_lightning.experiment.compose import CONF, compose_config

SETS = ("PALMS", "LAMDA", "INSTRUCTGPT")
POLICIES = ("HRLHF", "HHRLHF", "RLMADISON", "RLMADISON_COT")
FILES = {
    "hhh": "438HHHEvaluations",
    "harmful_vs_ethical": "HarmfulVsEthical",
    "harm_type": "HarmfulnessClassification",
}


@pytest.fixture(scope="module")
def root() -> Path:
    folder = os.environ.get("CAI_SHARED_DATA")
    if not folder:
        pytest.skip("CAI_SHARED_DATA is not set: it names the folder with anthropic_cai/ and hh-rlhf/")
    return Path(folder)


@pytest.fixture(scope="module")
def observed(root: Path) -> dict[str, Any]:
    path = root / "reference" / "observed_stats.json"
    if not path.exists():
        pytest.skip(f"{path}: the figures to compare with are not there")
    figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return figures


@pytest.fixture(scope="module")
def samples(root: Path) -> dict[str, list[Sampled]]:
    return released_samples(folder=root / "anthropic_cai" / "samples")


@pytest.fixture(scope="module")
def traces(root: Path) -> dict[str, list[Trace]]:
    return released_traces(folder=root / "anthropic_cai" / "samples")


def texts(samples: dict[str, list[Sampled]], name: str) -> list[str]:
    """The replies as the figures were measured: of the two forms of the end marker only the longer was cut off."""
    return [
        f"{reply}\nHuman:" if re.search(r"[^\n]\nHuman:$", raw) else reply
        for row in samples[name]
        for raw, reply in zip(row.raw, row.replies, strict=True)
    ]


def test_66_prompts_of_17_scored_replies_each_best_first(samples: dict[str, list[Sampled]]) -> None:
    assert set(samples) == {f"{name}_{policy}" for name in SETS for policy in POLICIES}
    for policy in POLICIES:
        rows = [row for name in SETS for row in samples[f"{name}_{policy}"]]
        assert len(rows) == 66 and {len(row.replies) for row in rows} == {17}
        assert all(list(row.scores) == sorted(row.scores, reverse=True) for row in rows)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", SETS)
def test_lengths_and_stock_phrases(
    samples: dict[str, list[Sampled]], observed: dict[str, Any], name: str, policy: str
) -> None:
    found, wanted = texts(samples, f"{name}_{policy}"), observed["samples"]
    assert round(share_under(found, words=20), 3) == wanted["share_under_20_words"][name][policy]
    assert round(mean_words(found), 1) == wanted["mean_words"][name][policy]
    pattern = wanted["boilerplate_share"]["regex"]
    assert round(matching_share(found, pattern=pattern), 3) == wanted["boilerplate_share"][name][policy]


@pytest.mark.parametrize("policy", POLICIES)
def test_repetition(samples: dict[str, list[Sampled]], observed: dict[str, Any], policy: str) -> None:
    found, wanted = texts(samples, f"PALMS_{policy}"), observed["samples"]
    assert round(duplicate_share(found), 3) == wanted["exact_duplicate_share"]["PALMS"][policy]
    ratio = distinct_ratio(found, n=3, token=r"[\w']+")
    assert ratio is not None and round(ratio, 3) == wanted["distinct_3gram_ratio"]["PALMS"][policy]


@pytest.mark.parametrize("policy", POLICIES)
def test_scores_within_a_prompt(samples: dict[str, list[Sampled]], observed: dict[str, Any], policy: str) -> None:
    rows = [row for name in SETS for row in samples[f"{name}_{policy}"]]
    scores = [row.scores for row in rows]
    assert round(within_sd(scores), 3) == observed["samples"]["within_prompt_pm_sd"][policy]
    # the figure was measured on the strings as sampled, whose end marker counts as a word
    found = within_correlation(scores, [row.raw for row in rows], size=word_count)
    wanted = observed["samples"]["within_prompt_corr_pm_chars_or_words"][policy]
    assert found is not None and round(found, 3) == wanted


def test_the_first_revision_changes_most(root: Path, traces: dict[str, list[Trace]], observed: dict[str, Any]) -> None:
    found = describe_chains([row.texts for rows in traces.values() for row in rows])
    wanted = observed["critique_revision_traces"]
    assert [round(value, 3) for value in found["similarity"]] == wanted["word_sequence_similarity_to_previous_by_step"]
    # the figures count the white space around each text, which is cut here
    files = sorted((root / "anthropic_cai" / "samples").glob("*_SLMADISON.jsonl"))
    rows = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").split("\n")[:-1]]
    texts = [
        [row["initial_response"][0]["sample"], *(step["revision"]["sample"] for step in row["cst"])] for row in rows
    ]
    around = np.mean([[len(text) - len(text.strip()) for text in chain] for chain in texts], axis=0)
    whole = [round(float(value)) for value in around + found["mean_chars"]]
    assert whole == wanted["mean_chars_initial_then_revisions"]
    assert found["unchanged"] == wanted["unchanged_by_step"]
    assert found["n"] == wanted["n_per_step"]


def test_only_the_harmless_rlhf_policy_evades_and_half_its_prompts_carry_it(root: Path) -> None:
    stage = compose_config(["runtime.outputs=nowhere"]).stages.surface
    rules = Rules(**{key: stage[key] for key in ("short", "boilerplate", "refusal", "reason", "gram", "token")})
    samples = released_samples(folder=root / "anthropic_cai" / "samples")
    found = {name: describe([row.replies for row in rows], rules) for name, rows in samples.items()}
    for name, figures in found.items():
        short, canned = figures["short"]["value"], figures["short_canned"]["value"]
        if name.endswith("_HHRLHF"):
            assert 0.21 < short < 0.66
            assert canned > 0.8 * short  # nearly all that is short refuses or repeats itself
            assert figures["refusal"]["value"] > 0.2
        else:
            assert short == canned == figures["repeated"]["value"] == 0
    by_prompt = [np.mean([len(text.split()) < 20 for text in row.replies]) for row in samples["LAMDA_HHRLHF"]]
    assert sum(share in (0.0, 1.0) for share in by_prompt) > len(by_prompt) / 2


def questions(root: Path, name: str) -> list[Question]:
    return multiple_choice(path=root / "anthropic_cai" / "evals" / f"{FILES[name]}.jsonl")


@pytest.mark.parametrize("name", FILES)
def test_gold_letters_of_the_subset(root: Path, observed: dict[str, Any], name: str) -> None:
    if ".shared" not in resolve(root / "anthropic_cai" / "evals", f"{FILES[name]}.jsonl").name:
        pytest.skip("the whole file is here; the figures are of the subset")
    found, wanted = questions(root, name), observed["shared_subset"][name]
    assert len(found) == wanted["rows"]
    letters = Counter(question.letters[question.gold].strip() for question in found)
    assert dict(letters) == wanted["gold_letters"]
    always_first = baselines(found)["always_first"]
    assert always_first is not None and round(always_first, 4) == wanted["always_A_accuracy"]


def test_the_commonest_harm_is_a_sixth_of_the_nine_way_file(root: Path, observed: dict[str, Any]) -> None:
    found = baselines(questions(root, "harm_type"))["majority"]
    # the published share is of the whole file, the subset lacks five rows
    assert found == pytest.approx(observed["baselines"]["harm_classification"]["majority_class_violence"], abs=0.005)
    assert baselines(questions(root, "hhh"))["majority"] is None


def test_the_chain_of_thought_examples_are_19_rows_of_the_hhh_questions(root: Path) -> None:
    path = root / "anthropic_cai" / "prompts" / "RLMadisonPrecogFewShotPrompts.json"
    found = questions(root, "hhh")
    shown = example_texts(path=path, questions=root / "anthropic_cai" / "evals" / f"{FILES['hhh']}.jsonl")
    kept, dropped = without_examples(found, shown)
    # independently: the turns of each row's own words, one by one, in the untouched file
    slow = set()
    entries = [entry["prompt"] for entry in json.loads(path.read_text(encoding="utf-8"))]
    for question in found:
        words = [turn.partition(":")[2].split() for turn in question.conversation.strip().split("\n\n") if turn]
        for entry in entries:
            conversation = entry[entry.index("\n\n", entry.index("following")) : entry.index("{}")].strip()
            turns = [turn.partition(":")[2].split() for turn in conversation.split("\n\n")]
            if turns == words:
                slow.add(question.id)
    assert set(dropped) == slow and len(dropped) == len(slow) == 19
    assert len(kept) == len(found) - 19
    assert without_examples(questions(root, "harmful_vs_ethical"), shown)[1] == []


def pairs(root: Path, split: str) -> list[Pair]:
    path = root / "hh-rlhf" / f"harmless-base.{split}.jsonl.gz"
    rows = hh_comparisons(path=path, kind="red_team", skip=0, limit=None, weight=1.0, min_reply_chars=1).rows
    return [Pair(row.a, row.b, row.p_a, row.weight, row.prompt.cluster) for row in rows]


def test_words_and_lengths_alone_say_this_much_of_human_preferences(root: Path, observed: dict[str, Any]) -> None:
    wanted = observed["baselines"]["hh_harmless_shared_test"]
    train, test = pairs(root, "train"), pairs(root, "test")
    if len(test) != wanted["n"]:
        pytest.skip("another set of pairs is here; the figures are of the subset")
    assert round(float(np.mean(shorter_hits(test))), 3) == wanted["shorter_is_chosen"]
    settings = OmegaConf.load(CONF / "stage" / "baseline" / "default.yaml")
    model = fit_bag_of_words(
        train, token=settings.token, longest=settings.longest, least=settings.least, l2=[100.0], folds=2
    )
    accuracy = float(np.mean(hits(model.log_odds(test), test)))
    # another implementation's figure; one standard error of 312 pairs is .027
    assert accuracy == pytest.approx(wanted["bag_of_words_uni_bi_logistic"], abs=0.03)


def test_the_reasoned_template_rebuilds_the_released_examples_byte_for_byte(root: Path) -> None:
    template = OmegaConf.load(CONF / "stage" / "multiple_choice" / "reasoned.yaml").ask.template
    found = questions(root, "hhh")
    path = root / "anthropic_cai" / "prompts" / "RLMadisonPrecogFewShotPrompts.json"
    rebuilt = 0
    for shown in example_texts(path=path, questions=root / "anthropic_cai" / "evals" / f"{FILES['hhh']}.jsonl"):
        asked = [each for question in found for each in (question, question.swapped())]
        begun = [each for each in asked if shown.startswith(each.asked(template, short=True))]
        rebuilt += bool(begun)
        assert all(shown.endswith(each.letters[each.gold]) for each in begun)
    assert rebuilt == 5  # one of the six has no "(H)" and "(A)" in its first line
