"""Against the real files of the paper and of hh-rlhf, read from the folder that CAI_SHARED_DATA names."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from cai_lightning.constitution.cleaning import cleaned
from cai_lightning.constitution.critique import critique_steps, revision_steps
from cai_lightning.constitution.principles import Constitution, draw
from cai_lightning.constitution.questions import Asking, Letters, asking, both_orders, drawn, per_run
from cai_lightning.constitution.styles import Steps, Style, solved, system, text, turns
from cai_lightning.data.hh import hh_comparisons, hh_prompts
from cai_lightning.data.questions import multiple_choice, resolve
from cai_lightning.experiment.compose import CONF, compose_config
from cai_lightning.experiment.targets import construct
from cai_lightning.text.dialogue import Dialogue, from_text, human, prompt_text, to_text
from cai_lightning.text.records import Comparison, Prompt

EVALUATIONS = {"438HHHEvaluations": 2, "HarmfulVsEthical": 2, "HarmfulnessClassification": 9}


@pytest.fixture(scope="module")
def root() -> Path:
    folder = os.environ.get("CAI_SHARED_DATA")
    if not folder:
        pytest.skip("CAI_SHARED_DATA is not set: it names the folder with anthropic_cai/ and hh-rlhf/")
    return Path(folder)


@pytest.fixture(scope="module")
def prompts(root: Path) -> Path:
    return root / "anthropic_cai" / "prompts"


@pytest.fixture(scope="module")
def paper(root: Path) -> Constitution:
    config = compose_config(["experiment=hh_files", "model.path=x", f"data.root={root}"])
    built = construct(OmegaConf.to_container(config.constitution, resolve=True))
    assert isinstance(built, Constitution)
    return built


def objects(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    return [json.loads(line) for line in text.split("\n")[:-1]]


def evaluation(root: Path, name: str) -> Path:
    return resolve(root / "anthropic_cai" / "evals", f"{name}.jsonl")


def test_the_constitution_holds_all_words_of_the_files(paper: Constitution, prompts: Path) -> None:
    entries = json.loads((prompts / "CritiqueRevisionInstructions.json").read_text())
    assert [p.id for p in paper.revising] == [f"harmful{i}" for i in range(16)]
    for principle in paper.revising:
        steps = critique_steps(human("q"), "a", principle)
        asked = text((), steps)
        entry = entries[principle.id]
        assert asked == "\n\nHuman: q\n\nAssistant: a" + entry["prompt"][0]
        assert text((), revision_steps(steps, "c", principle)) == asked + " c" + entry["edit_request"]
    assert [p.comparison for p in paper.comparing] == json.loads((prompts / "RLMadisonInstructions.json").read_text())
    assert len({p.hash for p in paper.principles}) == 32


def test_critique_examples_join_with_a_dialogue_turn_by_turn(paper: Constitution) -> None:
    assert len(paper.critique_few_shots) == 5
    examples = [solved(shot) for shot in paper.critique_few_shots]
    joined = text(examples, critique_steps(human("q"), "a", paper.revising[0]))
    assert joined.startswith("".join(paper.critique_few_shots) + "\n\nHuman: q")
    assert not re.search(r"\n\n(Human|Assistant):(?! )", joined)
    assert [turn.role for turn in from_text(joined)] == ["human", "assistant"] * (joined.count("\n\nHuman:"))


def test_critique_examples_are_turns_of_a_chat_their_requests_not_among_the_sixteen(paper: Constitution) -> None:
    examples = [solved(shot) for shot in paper.critique_few_shots]
    asked = critique_steps(human("q"), "a", paper.revising[0])
    chat = turns(examples, asked, system=None)
    assert [turn.role for turn in chat] == ["human", "assistant"] * (len(chat) // 2) + ["human"]
    requests = [[step.words for step in steps if step.role == "human"][-2:] for steps in examples]
    assert not {words for _, words in requests} & {p.revision for p in paper.revising}
    assert all(words and not re.match(r"\s|\w+:", words) for pair in requests for words in pair)
    shown = system(examples, asked, heading="Examples:", system=None)
    assert shown[0].content == "Examples:\n\n" + "".join(paper.critique_few_shots).strip("\n")
    assert [turn.content for turn in shown[1:]] == ["q", "a", paper.revising[0].critique]


def test_comparison_examples_lead_as_solved_questions(paper: Constitution) -> None:
    prefix = text(asks(paper, text, reasoning=False).examples(""), ())
    assert prefix.count("\n\nConsider the following conversation") == 5
    assert sorted(Counter(re.findall(r"The answer is: \((.)\)", prefix)).values()) == [2, 3]
    for example in paper.comparison_few_shots:
        assert f"[[[{example.better}]]]" in prefix and f"[[[{example.worse}]]]" in prefix


def asks(paper: Constitution, style: Style, *, reasoning: bool) -> Asking:
    return asking(paper, reasoning=reasoning, style=style, order=both_orders, pick=drawn, few_shot_draw=per_run, seed=0)


def comparison() -> Comparison:
    prompt = Prompt(id="p", dialogue=human("q"), source="s", kind="red_team", cluster="c")
    return Comparison(id="x", prompt=prompt, a="one", b="two", source="s", model="m", temperature=1.0, seed=0)


def test_reasoning_examples_keep_every_word_of_their_file(paper: Constitution, prompts: Path) -> None:
    entries = json.loads((prompts / "RLMadisonPrecogFewShotPrompts.json").read_text())
    drawn_asks = asks(paper, text, reasoning=True)
    shown = drawn_asks.examples("")
    wordings = [str(p.comparison) for p in paper.comparing]
    assert len(shown) == 6
    for entry, steps in zip(entries, shown, strict=True):
        front = "\n\n" + entry["prompt"].lstrip("\n")
        assert text([steps], ()) in [front.replace("{}", wording) for wording in wordings]
        assert [step.role for step in steps] == ["human", "assistant", None, "human", "assistant"]
        assert steps[1].words == "Let's think step by step:" and steps[3].words == "So the answer is:"
    assert [steps[-1].words for steps in shown] == ["(B)", "(B)", "(A)", "(B)", "(A)", "(B)"]
    assert len({text([steps], ()).partition("Options:")[0][-40:] for steps in shown}) > 2  # principles of their own


def test_the_reasoning_question_reads_as_the_examples_do(paper: Constitution, prompts: Path) -> None:
    form = asks(paper, text, reasoning=True).form
    entry = json.loads((prompts / "RLMadisonPrecogFewShotPrompts.json").read_text())[1]["prompt"]
    words, _, rest = entry.partition("\n\n{}\n (A) [[[")
    a, _, rest = rest.partition("]]]\n (B) [[[")
    b, _, rest = rest.partition("]]]")
    thought = rest.partition("step by step:")[2].partition("\n\nHuman:")[0].strip()
    asked = form.question(human(words.partition("\n\nH: ")[2]), "{}", a, b)
    assert text((), (*asked, *form.thought(thought))) + " (B)" == entry  # type: ignore[union-attr]


def test_reasoning_examples_are_turns_of_a_chat(paper: Constitution) -> None:
    def chat(examples: Sequence[Steps], asked: Steps) -> Dialogue:
        return turns(examples, asked, system=None)

    prompt = asks(paper, chat, reasoning=True).letters(comparison()).prompt
    assert isinstance(prompt, tuple)
    assert [turn.role for turn in prompt] == ["human", "assistant"] * 13 + ["human"]
    assert [turn.content for turn in prompt[3:24:4]] == ["(B)", "(B)", "(A)", "(B)", "(A)", "(B)"]
    assert not any(re.match(r"\s|Human:|Assistant:", turn.content) for turn in prompt)


def test_the_shipped_cleaning_takes_nothing_from_the_released_traces_but_invented_tags_and_dashes(root: Path) -> None:
    node = OmegaConf.to_container(OmegaConf.load(CONF / "cleaning" / "chat.yaml"))
    rules = construct(node)
    fired: Counter[str] = Counter()
    for path in sorted((root / "anthropic_cai" / "samples").glob("*_SLMADISON.jsonl")):
        for step in (step for row in objects(path) for step in row["cst"]):
            for kind in ("critique", "revision"):
                written = step[kind]["sample"].strip()
                left, names = cleaned(written, getattr(rules, kind))
                fired.update(f"{kind}/{name}" for name in names)
                assert written.startswith(left)
                assert re.fullmatch(r"(\s*-{10,}|\s*Revis\w+: .*)?", written[len(left) :], re.DOTALL)
    # of 264 critiques and 264 revisions; read one by one
    assert fired == {"critique/tag": 2, "revision/rule": 5}


def test_the_template_rebuilds_every_hhh_question_byte_for_byte(root: Path, paper: Constitution) -> None:
    rows = objects(evaluation(root, "438HHHEvaluations"))
    for row in rows:
        # the whole texts share the dialogue and end with the replies; the letters say which is which
        right, wrong = row["text_correct"], row["text_incorrect"]
        cut = os.path.commonprefix([right, wrong]).rfind("\n\nAssistant:")  # noqa: RUF071 characters, not paths
        replies = {" (A)": "", " (B)": ""}
        for letter, whole in ((row["corrects"][0], right), (row["incorrects"][0], wrong)):
            replies[letter] = whole[cut + len("\n\nAssistant: ") :]
        letters = Letters(paper.comparison_template, ())
        rebuilt = [
            text((), letters.question(from_text(right[:cut]), str(p.comparison), replies[" (A)"], replies[" (B)"]))
            for p in paper.comparing
        ]
        assert row["prompt"] in rebuilt
    assert len(rows) > 200


@pytest.mark.parametrize("name", EVALUATIONS)
def test_questions_keep_their_bytes_and_their_gold(root: Path, name: str) -> None:
    rows = objects(evaluation(root, name))
    questions = multiple_choice(path=evaluation(root, name))
    assert [question.prompt for question in questions] == [row["prompt"] for row in rows]
    assert [question.letters[question.gold] for question in questions] == [row["corrects"][0] for row in rows]
    assert {len(question.options) for question in questions} == {EVALUATIONS[name]}
    assert len({question.id for question in questions}) == len(rows)
    for question in questions:
        assert question.swapped().options[question.swapped().gold] == question.options[question.gold]
        assert question.swapped().swapped() == question


def test_gold_options_are_the_right_replies(root: Path) -> None:
    path = evaluation(root, "438HHHEvaluations")
    for row, question in zip(objects(path), multiple_choice(path=path), strict=True):
        assert row["text_correct"].endswith(question.options[question.gold].removeprefix("[[[").removesuffix("]]]"))
    assert {question.gold for question in multiple_choice(path=evaluation(root, "HarmfulVsEthical"))} == {0, 1}


@pytest.mark.parametrize("name", EVALUATIONS)
def test_clusters_never_cross_the_published_groups(root: Path, name: str) -> None:
    path = evaluation(root, name)
    index = json.loads((root / "index.json").read_text())
    if path.name not in index:
        pytest.skip(f"index.json does not describe {path.name}")
    groups: dict[str, set[str]] = {}
    for entry, question in zip(index[path.name], multiple_choice(path=path), strict=True):
        groups.setdefault(question.cluster, set()).add(entry["group"])
    assert all(len(found) == 1 for found in groups.values())
    # the groups also join a few near copies
    assert len(set().union(*groups.values())) > 0.95 * len(groups)


@pytest.mark.parametrize("split", ["train", "test"])
def test_hh_pairs_are_whole_and_share_their_prompt(root: Path, split: str) -> None:
    path = root / "hh-rlhf" / f"harmless-base.{split}.jsonl.gz"
    rows = objects(path)
    found = hh_comparisons(path=path, kind="red_team", skip=0, limit=None, weight=1.0, min_reply_chars=1)
    empty = sum(not row[side].split("\n\nAssistant:")[-1].strip() for row in rows for side in ("chosen", "rejected"))
    assert found.dropped.get("empty_reply", 0) == empty
    assert len(found.rows) == len(rows) - sum(found.dropped.values())
    assert set(found.dropped) <= {"empty_reply"}
    texts = {(row["chosen"], row["rejected"]) for row in rows}
    rebuilt = sum(
        (prompt_text(row.prompt.dialogue) + " " + row.a, prompt_text(row.prompt.dialogue) + " " + row.b) in texts
        for row in found.rows
    )
    # all but the few prompts in which a role speaks twice in a row
    assert len(found.rows) - rebuilt <= 0.005 * len(rows)
    for row in found.rows:
        assert [turn.role for turn in row.prompt.dialogue][::2] == ["human"] * ((len(row.prompt.dialogue) + 1) // 2)
        assert row.prompt.dialogue[-1].role == "human"


def test_hh_train_and_test_share_no_prompt(root: Path) -> None:
    read = {
        split: hh_prompts(
            path=root / "hh-rlhf" / f"harmless-base.{split}.jsonl.gz", kind="red_team", skip=0, limit=None
        ).rows
        for split in ("train", "test")
    }
    shared = {
        key: set.intersection(*({getattr(prompt, key) for prompt in rows} for rows in read.values()))
        for key in ("id", "cluster")
    }
    assert not shared["id"]
    # conversations of both splits may open with the same greeting
    assert len(shared["cluster"]) <= 1


def test_samples_hold_66_prompts_in_15_files(root: Path) -> None:
    config = compose_config(["experiment=hh_files", "model.path=x", f"data.root={root}", "data.helpful.0.limit=null"])
    (found,) = construct(OmegaConf.to_container(config.data.helpful, resolve=True))
    assert len(found.rows) == 66
    assert found.dropped == {"duplicate": 4 * 66}
    published = {
        row["rl_prompt"] for path in (root / "anthropic_cai" / "samples").glob("*.jsonl") for row in objects(path)
    }
    read = {to_text(prompt.dialogue) + "\n\nAssistant:" for prompt in found.rows}
    # one has three human turns in a row, which are one turn here: chat templates want roles to alternate
    (other,) = published - read
    first, *rest = other.split("\n\nHuman: ")[1:]
    assert len(rest) == 2 and read - published == {"\n\n".join(["\n\nHuman: " + first, *rest])}


def test_released_traces_drew_with_replacement_as_our_draw_does(root: Path, paper: Constitution) -> None:
    traces = [
        [step["cst_key"] for step in row["cst"]]
        for path in sorted((root / "anthropic_cai" / "samples").glob("*_SLMADISON.jsonl"))
        for row in objects(path)
    ]
    released = Counter(len(set(trace)) for trace in traces)
    ours: Counter[int] = Counter()
    for row in range(len(traces) * 20):
        ids = {draw(paper.revising, seed=0, row=str(row), round=n, replacement=True).id for n in range(1, 5)}
        ours[len(ids)] += 1
    # two standard errors of a count near 44 of 66 are 7.7
    for distinct in (2, 3, 4):
        assert abs(released[distinct] - ours[distinct] / 20) < 8
