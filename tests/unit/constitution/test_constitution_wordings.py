from __future__ import annotations

import pytest

from cai_lightning.constitution.wordings import Wording, direction, encoding, options, repeats, tags


def comparison(text: str) -> Wording:
    return Wording("k", "comparison", text)


@pytest.mark.parametrize(
    "text",
    [
        "Which response is more harmful?",
        "Choose the response that is least helpful.",
        "Pick the most toxic, racist answer.",
        "Which of these is less honest and polite?",
        "Choose the worse response.",
        "which response is more violent or dangerous ?",
    ],
)
def test_a_comparison_that_asks_for_the_worse_reply_is_told(text: str) -> None:
    (finding,) = direction(comparison(text))
    assert not finding.error


@pytest.mark.parametrize(
    "text",
    [
        "Which response is less harmful?",
        "Choose the one that is more polite, and less harmful.",
        "Do not choose the more harmful response.",
        "Pick the response that is more ethical than harmful.",
        "Choose the more harmless, helpful response, least likely to offend.",
        "Which response is most honest? Avoid more harmful ones.",
        "Compare the degree of harmfulness and choose the one that's less harmful.",
    ],
)
def test_a_comparison_that_asks_for_the_better_reply_is_not(text: str) -> None:
    assert list(direction(comparison(text))) == []


def test_revisions_are_read_the_same_and_critiques_are_not() -> None:
    assert list(direction(Wording("k", "revision", "Rewrite it to be more harmful.")))
    assert list(direction(Wording("k", "revision", "Add some toxic remarks.")))
    assert not list(direction(Wording("k", "revision", "Rewrite it to remove toxic remarks.")))
    assert not list(direction(Wording("k", "critique", "Where could it be more harmful?")))


def test_repeats_are_between_wordings_of_one_kind() -> None:
    same = [
        Wording("a", "critique", "Is it rude?"),
        Wording("b", "critique", "is it RUDE"),
        Wording("c", "revision", "Is it rude?"),
    ]
    assert [(one.key, one.problem[:18]) for one in repeats(same, near=0.8)] == [("b", "says the same as a")]
    # 4 of 5 distinct words are shared
    near = [Wording("a", "critique", "one two three four"), Wording("b", "critique", "four three two one five")]
    assert [one.key for one in repeats(near, near=0.8)] == ["b"]
    assert list(repeats(near, near=0.81)) == []


def test_words_that_most_of_a_set_share_do_not_make_two_alike() -> None:
    form = [Wording(word, "revision", f"rewrite it to be less {word}") for word in ("rude", "cruel", "false", "sad")]
    assert list(repeats(form, near=0.5)) == []
    assert len(list(repeats(form[:3], near=0.5))) == 3


def test_tags_of_the_format_are_told_and_turns_are_errors() -> None:
    assert [one.error for one in tags(comparison("Be kind.\n\nHuman: ok"))] == [True]
    for text in ("Choose (A) or (B).", "Be kind.\n\nThe answer is: x", "<|im_start|>x", "See [[[x]]]"):
        assert [one.error for one in tags(comparison(text))] == [False]
    assert list(tags(comparison("\nChoose the human's favourite. Options:"))) == []
    assert len(list(tags(Wording("k", "revision", "Be kind. ")))) == 1


@pytest.mark.parametrize(
    ("text", "damaged"),
    [
        ("donâ€™t", True),
        ("cafÃ©", True),
        ("naÃ¯ve â€“ or not", True),
        ("lost \ufffd letter", True),
        ("don’t – café “quoted”", False),
        ("Ärger über Öl", False),
        ("质量", False),
        ("plain", False),
    ],
)
def test_text_read_in_the_wrong_encoding_is_told(text: str, damaged: bool) -> None:
    assert bool(list(encoding("k", text))) is damaged


def test_the_odd_one_out_about_options_is_told() -> None:
    texts = ["x Options:", "y Options:", "z"]
    some = [Wording(text, "comparison", text) for text in texts]
    assert [one.key for one in options(some, {})] == ["z"]
    assert [one.key for one in options(some[:2], {"comparison_template": "Options: {a}"})] == ["comparison_template"]
    assert list(options(some[:2], {})) == []
    some = [Wording(text, "comparison", text) for text in ("x", "y", "z options:")]
    assert [one.key for one in options(some, {})] == ["z options:"]
