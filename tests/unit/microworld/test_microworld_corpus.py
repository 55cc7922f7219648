from __future__ import annotations

import dataclasses
import random
import re
from collections import Counter
from itertools import islice
from math import sqrt

import pytest

from cai_lightning.microworld import replies
from cai_lightning.microworld.corpus import Lesson, documents
from cai_lightning.microworld.document import pieces
from cai_lightning.microworld.noise import Reviser
from cai_lightning.microworld.oracle import assess, better_under, covered, harm_in, is_garbage
from cai_lightning.microworld.ratings import rate_answer, rated_text
from cai_lightning.microworld.world import Benign, parse, request_of, split
from cai_lightning.text.dialogue import from_text, human

ASKED = re.compile(r"\n\nHuman: (.*)")
REPLIED = re.compile(r"\n\nAssistant: (.*)")
CHOICE = re.compile(
    r"\n\nConsider:\n\nHuman: (?P<asked>.*)\n\n(?P<principle>.*)\n\(A\) (?P<a>.*)\n\(B\) (?P<b>.*)\n"
    r"(\nThoughts: (?P<thoughts>.*)\n)?\nThe answer is: \((?P<letter>[AB])\)"
)


@pytest.fixture
def write(noise, weights):
    def some(kind, count, **changes):
        changed = dataclasses.replace(noise, **changes)
        return list(islice(documents(seed=0, lessons=(), mix={kind: 1.0}, noise=changed, weights=weights), count))

    return some


def near(hits: int, expected: float, count: int) -> bool:
    return abs(hits / count - expected) <= 4 * sqrt(expected * (1 - expected) / count)


def weighted(document):
    """(piece, weight) for all pieces, the end token last."""
    pairs = [(piece, span.weight) for span in document.spans for piece in pieces(span.text)]
    return [*pairs, ("<eos>", document.end_weight)]


def test_no_document_holds_a_combination_that_is_held_out(noise, weights, mix):
    for document in islice(documents(seed=2, lessons=(), mix=mix, noise=noise, weights=weights), 20_000):
        request = parse(ASKED.search(document.text)[1])
        pairs = [request.combination] if isinstance(request, Benign) else request.acts
        pairs = [(request.kind, *pair) for pair in pairs]
        pairs += [("red_team", *pair) for pair in re.findall(r"not help to (\w+) your (\w+)", document.text)]
        pairs += [("borderline", *pair) for pair in re.findall(r"not help to (\w+) the (\w+)", document.text)]
        for kind, a, b in pairs:
            if isinstance(request, Benign):
                kind = request.kind
            assert split(kind, a, b) == "train"


def test_documents_are_repeatable(noise, weights, mix):
    def first(seed, mix):
        return list(islice(documents(seed=seed, lessons=(), mix=mix, noise=noise, weights=weights), 200))

    assert first(0, mix) == first(0, dict(reversed(mix.items())))
    assert first(0, mix) != first(1, mix)


def test_kinds_follow_the_mix(noise, weights, mix):
    found = Counter(
        d.kind for d in islice(documents(seed=0, lessons=(), mix=mix, noise=noise, weights=weights), 10_000)
    )
    assert all(near(found[kind], share / 100, 10_000) for kind, share in mix.items())


def test_unknown_kind_is_refused(noise, weights):
    with pytest.raises(ValueError, match=r"mix\.poem: no such kind of document; known: benign, harm"):
        documents(seed=0, lessons=(), mix={"benign": 1.0, "poem": 1.0}, noise=noise, weights=weights)


def test_unknown_blind_verb_is_refused(write, noise):
    with pytest.raises(ValueError, match=r"choice\.blind_verbs: 'bake' is no harm verb"):
        write("choice", 1, choice=dataclasses.replace(noise.choice, blind_verbs=("bake",)))


def test_benign_noise(write):
    found = write("benign", 4000)
    kinds, wrong = Counter(), 0
    for document in found:
        dialogue = from_text(document.text)
        kinds[request_of(dialogue).kind] += 1
        wrong += round(7 * (1 - assess(dialogue[:1], dialogue[1].content).slots_right))
    assert near(kinds["borderline"], 0.25, 4000)
    assert near(wrong, 0.03, 5 * 4000)


def test_harm_noise(write):
    truths = [assess(human(ASKED.search(d.text)[1]), REPLIED.search(d.text)[1]) for d in write("harm", 4000)]
    assert near(sum(truth.evasive for truth in truths), 0.02, 4000)
    assert near(sum(truth.non_evasive for truth in truths), 0.01, 4000)
    assert near(sum(truth.harmful for truth in truths), 0.97, 4000)
    assert {truth.harm_elements for truth in truths if truth.harmful} == {3, 4}


def test_critiques_miss_at_their_rates(write):
    present, missed = Counter(), Counter()
    for document in write("critique", 6000, benign_context=0.0):
        reply = REPLIED.search(document.text)[1]
        aim, critique = re.search(r"where the response is (.*) \.\n\nCritique: (.*)\n", document.text).groups()
        general = len(covered(aim)) == 8
        said = set(re.findall(r"(\w+) : it says", critique))
        there = set(harm_in(reply)) & covered(aim)
        assert said <= there
        for category, steps in re.findall(r"(\w+) : it says to ([^.]*) \.", critique):  # all of its harm, and no other
            assert harm_in(steps) == {category: harm_in(reply)[category]}
        if not general:
            assert re.findall(r"(\w+) :", critique) == aim.split(" or ")
        present[general] += len(there)
        missed[general] += len(there - said)
    assert near(missed[False], 0.2, present[False])
    assert near(missed[True], 0.35, present[True])


def test_revisions_follow_their_critique(write):
    fates = Counter()
    for document in write("critique", 6000, benign_context=0.0):
        before = REPLIED.search(document.text)[1]
        critique = re.search(r"Critique: (.*)\n", document.text)[1]
        after = re.search(r"Revision: (.*)$", document.text)[1]
        found = set(re.findall(r"(\w+) : it says", critique))
        if not found:
            assert after == before
            continue
        harm, left = harm_in(before), harm_in(after)
        if after.startswith("sorry"):
            fates["evasive"] += 1
        elif after == before:
            fates["unchanged"] += 1
        elif sum(harm[category] for category in found) > 1:
            # With one element found, full and partial are the same.
            full = not found & set(left)
            assert sum(left.values()) == sum(harm.values()) - (sum(harm[c] for c in found) if full else 1)
            fates["full" if full else "partial"] += 1
        else:
            fates["either"] += 1
    total = fates.total()
    assert near(fates["evasive"], 0.12, total)
    assert near(fates["unchanged"], 0.13, total)
    assert near(fates["full"], 0.55 / 0.75, fates["full"] + fates["partial"])


def test_benign_context_is_left_alone(write):
    for kind in ("critique", "direct"):
        for document in write(kind, 200, benign_context=1.0):
            assert re.search(r"Revision: (.*)$", document.text)[1] == REPLIED.search(document.text)[1]
            assert ": it says" not in document.text


def test_benign_choices_prefer_answers_over_refusals(write, noise):
    rule = dataclasses.replace(noise.choice, flip_tie=0.0)
    for document in write("choice", 500, benign_context=1.0, choice=rule):
        choice = CHOICE.fullmatch(document.text)
        answers = {letter for letter in "AB" if choice[letter.lower()].startswith("sure")}
        assert not answers or choice["letter"] in answers


def accuracy(found):
    hits = []
    for document in found:
        choice = CHOICE.fullmatch(document.text)
        truth = better_under(choice["principle"], human(choice["asked"]), choice["a"], choice["b"])
        if truth is not None:
            hits.append(choice["letter"] == ("A" if truth else "B"))
    return sum(hits) / len(hits)


def test_the_feedback_rule_is_right_about_as_often_as_it_should_be(write, noise):
    plain = dataclasses.replace(noise.choice, blind_share=0.0)  # as requests come, without oversampled blind spots
    assert 0.84 < accuracy(write("choice", 8000, choice=plain)) < 0.93


def test_the_feedback_rule_errs_by_its_ingredients_only(write, noise):
    seeing = dataclasses.replace(noise.choice, cap=4, cap_general=4, flip=0.0, flip_tie=0.0, blind_verbs=())
    assert accuracy(write("choice", 3000, choice=seeing)) == 1.0
    flipping = dataclasses.replace(seeing, flip=0.25)
    found = write("choice", 6000, choice=flipping, benign_context=0.0)
    assert accuracy(found) == pytest.approx(0.75, abs=4 * sqrt(0.25 * 0.75 / 2500))


def test_even_pairs_are_told_apart_by_their_principle_alone(write, noise):
    rule = dataclasses.replace(
        noise.choice, even=1.0, evasive=0.0, cap=4, flip=0.0, flip_tie=0.0, blind_verbs=(), blind_share=0.0
    )
    found = 0
    for kind in ("choice", "reasoning"):
        for document in write(kind, 600, benign_context=0.0, choice=rule):
            choice = CHOICE.fullmatch(document.text)
            a, b = (harm_in(choice[name]) for name in "ab")
            categories = covered(choice["principle"])
            if len(parse(choice["asked"]).acts) == 1:
                continue
            assert len(categories) < 8
            by_principle = [sum(n for c, n in harm.items() if c in categories) for harm in (a, b)]
            assert sum(a.values()) == sum(b.values())
            assert by_principle[0] != by_principle[1]
            assert choice["letter"] == ("A" if by_principle[0] < by_principle[1] else "B")
            found += 1
    assert found > 400


def test_so_many_revisions_are_of_requests_for_two_acts(write):
    for kind in ("critique", "direct"):
        requests = [parse(ASKED.search(document.text)[1]) for document in write(kind, 2000, benign_context=0.0)]
        assert near(sum(len(request.acts) == 2 for request in requests), 0.75, 2000)


def test_blind_requests_are_oversampled(write, noise):
    blind = set(noise.choice.blind_verbs)

    def share(found):
        requests = [parse(CHOICE.fullmatch(d.text)["asked"]) for d in found]
        return sum(any(verb in blind for verb, _ in request.acts) for request in requests), len(requests)

    plain = dataclasses.replace(noise.choice, blind_share=0.0)
    without = share(write("choice", 4000, benign_context=0.0, choice=plain))
    with_more = share(write("choice", 4000, benign_context=0.0))
    usual = without[0] / without[1]
    assert near(with_more[0], 0.25 + 0.75 * usual, with_more[1])


def test_reasoning_counts_right_and_its_letter_follows(write):
    for document in write("reasoning", 1000):
        choice = CHOICE.fullmatch(document.text)
        categories = covered(choice["principle"])
        counts = []
        for name in "ab":
            seen = {c: n for c, n in harm_in(choice[name]).items() if c in categories}
            said = re.search(rf"\({name.upper()}\) (\w+) (\w+)( [a-z ]*[a-z])?", choice["thoughts"])
            if seen:
                assert (said[1], int(said[2])) == ("has", sum(seen.values()))
                assert set(said[3].split(" and ")) == {f" {c}" if i == 0 else c for i, c in enumerate(seen)}
            else:
                assert said[2] == ("evasive" if choice[name].startswith("sorry") else "fine")
            counts.append(sum(seen.values()))
        if counts[0] != counts[1]:
            assert choice["letter"] == ("A" if counts[0] < counts[1] else "B")


def test_ratings_tell_the_truth_but_for_their_flips(write):
    wrong = 0
    found = write("rating", 6000)
    seen = Counter()
    for document in found:
        dialogue = human(ASKED.search(document.text)[1])
        rating, reasons = re.search(r"Rating: (\w+)( : .* \.)?$", document.text).groups()
        truth = assess(dialogue, REPLIED.search(document.text)[1])
        if truth.slots_right is not None:
            expected = str(round(7 * truth.slots_right))
            verdicts = re.findall(r"\w+", reasons or "")
            assert len(verdicts) == (0 if truth.refusal else 5)
            assert truth.refusal or verdicts.count("wrong") == 7 - int(expected)
        elif truth.harmful:
            expected = f"harm{truth.harm_elements}"
            assert set(re.findall(r"\w+", reasons)) == set(truth.harm)
        else:
            expected = "evasive" if truth.evasive else "safe"
        wrong += rating != expected
        seen[expected] += 1
    assert near(wrong, 0.03, 6000)
    assert near(seen["0"], 0.7 * 0.15, 6000)
    assert all(near(seen[str(right)], 0.7 * 0.85 / 6, 6000) for right in range(2, 8))
    assert set(seen) == {*"0234567", "safe", "evasive", "harm1", "harm2", "harm3", "harm4"}


def test_all_principles_occur(write):
    aims = {re.search(r"less (.*) \?", document.text)[1] for document in write("choice", 6000)}
    narrow = {frozenset(aim.split(" or ")) for aim in aims if len(covered(aim)) < 8}
    assert len(narrow) == 8 + 28
    assert {aim for aim in aims if len(covered(aim)) == 8} == {"harmful or unethical", "wrong or bad"}


@pytest.mark.parametrize("kind", ["benign", "harm"])
def test_reply_documents_weigh_the_reply_alone_and_most_of_it_whom_or_what_is_named_again(write, kind):
    for document in write(kind, 20):
        pairs = weighted(document)
        start = [piece for piece, _ in pairs].index("\n\nAssistant:") + 1
        assert all(weight == 0 for _, weight in pairs[:start])
        heavy = [place for place, (_, weight) in enumerate(pairs) if weight == 7.0]
        assert [pairs[place - 1][0] for place in heavy] == [" your"] * len(heavy)
        assert len(heavy) == sum(piece == " your" for piece, _ in pairs[start:])
        assert all(weight == 1.0 for place, (_, weight) in enumerate(pairs) if place >= start and place not in heavy)
    assert kind == "harm" or len(heavy) == 1


def test_critique_weights(write):
    document = next(d for d in write("critique", 50, benign_context=0.0) if " or " not in d.text)
    pairs = weighted(document)
    start = [piece for piece, _ in pairs].index("\n\nCritique:") + 1
    assert all(weight == 0 for _, weight in pairs[:start])
    assert [weight for _, weight in pairs[start : start + 4]] == [6.0, 1.0, 6.0, 1.0]  # category : verdict ...
    mark = [piece for piece, _ in pairs].index("\n\nRevisionRequest:")
    revision = [piece for piece, _ in pairs].index("\n\nRevision:") + 1
    assert pairs[mark][1] == 1.0
    assert all(weight == 0 for _, weight in pairs[mark + 1 : revision])


@pytest.mark.parametrize("kind", ["critique", "direct"])
def test_revision_weights(write, kind):
    document = next(d for d in write(kind, 50) if re.search(r"Revision: sure . first , get the \w+ . next", d.text))
    pairs = weighted(document)
    start = [piece for piece, _ in pairs].index("\n\nRevision:") + 1
    said = "sure:6 .:1 first:3 ,:1 get:4 the:1 HAZARD:4 .:1 next:3 ,:1 ACTION:4"
    for (piece, weight), expected in zip(pairs[start:], said.split(), strict=False):
        word, number = expected.rsplit(":", 1)
        assert word.isupper() or piece == f" {word}"
        assert weight == float(number)
    assert kind == "critique" or all(weight == 0 for _, weight in pairs[:start])
    assert pairs[-1] == ("<eos>", 3.0)


def test_choice_and_rating_weights(write):
    pairs = weighted(write("choice", 1)[0])
    assert [weight for _, weight in pairs] == [0.0] * (len(pairs) - 2) + [5.0, 1.0]
    pairs = weighted(write("reasoning", 1)[0])
    start = [piece for piece, _ in pairs].index("\n\nThoughts:") + 1
    assert all(weight == 0 for _, weight in pairs[:start])
    assert {weight for piece, weight in pairs[start:] if piece in (" has", " is", " fine", " evasive")} == {4.0}
    assert pairs[-5:-2] == [("\n\nThe", 1.0), (" answer", 1.0), (" is:", 1.0)]
    assert pairs[-2][1] == 5.0
    pairs = weighted(write("rating", 1)[0])
    start = [piece for piece, _ in pairs].index("\n\nRating:") + 1
    assert [weight for _, weight in pairs[start:]] == [5.0] + [1.0] * (len(pairs) - start - 1)


def test_rating_verdicts_are_in_the_order_of_the_reply():
    class Picks(random.Random):
        def sample(self, _population, k):
            assert k == 2
            return ["place", "tool"]

        def randrange(self, *_):
            return 2

    request = Benign("bake", "bread", "son", False)
    reply, rating = rate_answer(Picks(0), request, refuse=False)
    right = re.fullmatch(
        r"sure . first , get the (?!broom)\w+ and some wood . next , cut the bread in the (?!roof).*", reply
    )
    assert right
    assert rated_text(random.Random(0), rating, flip=0.0) == (" 5", " : wrong right right wrong right .")


def test_a_named_reply_has_its_category_behind_every_word_of_harm(write):
    # a category of the truth is told by `harm_in`, one word at a time
    for document in write("named", 500):
        said = document.text.split("\n\nProof:")[1].split()
        verdicts = {i + 1: next(iter(harm_in(word))) for i, word in enumerate(said) if harm_in(word)}
        assert all(said[i] == category for i, category in verdicts.items())
        learned = [span.text.strip() for span in document.spans if span.weight > 0]
        assert learned == list(verdicts.values())


def test_marked_replies_say_behind_every_word_of_harm_whether_it_is_against_the_principle(write):
    for document in write("marked", 500):
        principle, said = re.search(r"\n\n(which .*)\n\(A\) ((?:.|\n)*)$", document.text).groups()
        harm = [word for word in said.split() if harm_in(word)]
        expected = ["wrong" if set(harm_in(word)) <= covered(principle) else "right" for word in harm]
        assert [span.text.strip() for span in document.spans if span.weight > 0] == expected
        assert len(harm) == 8
        assert "wrong" in expected
        replies = re.sub(r" (right|wrong)\b", "", said).split("\n(B) ")
        assert len(replies) == 2
        assert not any(is_garbage(reply) for reply in replies)


def test_counted_replies_say_how_much_of_their_harm_the_principle_is_against(write):
    for document in write("counted", 500):
        found = CHOICE.fullmatch(re.sub(r" \d(?=\n|$)", "", document.text) + "\n\nThe answer is: (A)")
        categories = covered(found["principle"])
        expected = [sum(n for c, n in harm_in(found[name]).items() if c in categories) for name in "ab"]
        assert [int(span.text) for span in document.spans if span.weight > 0] == expected


def test_what_is_sought_is_told_behind_every_category_that_a_request_to_revise_names(write):
    told = Counter()
    for document in write("sought", 800):
        asked, reply, request = re.search(
            r"Human: (.*)\n\nAssistant: (.*)\n\nRevisionRequest: (.*)$", document.text
        ).groups()
        harm = assess(human(asked), reply).harm
        assert request.startswith("rewrite the response to be less ")
        told.update(
            found := re.findall(r"(\w+) (right|wrong)\b", request.removeprefix("rewrite the response to be less "))
        )
        for word, verdict in found:
            assert (verdict == "wrong") == bool(set(harm) & covered(word)), document.text
        assert [span.text.strip() for span in document.spans if span.weight > 0] == [verdict for _, verdict in found]
    assert {verdict for _, verdict in told} == {"right", "wrong"}
    assert {word for word, _ in told} >= {"violent", "toxic", "harmful", "unethical", "bad"}


def test_lessons_come_first(noise, weights):
    lessons = [
        Lesson(documents=30, mix={"harm": 1}, errors=True, any_harm=0.0),
        Lesson(documents=20, mix={"proof": 1, "choice": 1}, errors=True, any_harm=0.0),
    ]
    found = documents(seed=0, lessons=lessons, mix={"benign": 1}, noise=noise, weights=weights)
    kinds = [document.kind for document in islice(found, 200)]
    assert set(kinds[:30]) == {"harm"}
    assert set(kinds[30:50]) == {"proof", "choice"}
    assert set(kinds[50:]) == {"benign"}
    lessons[1] = Lesson(documents=1, mix={"poem": 1}, errors=True, any_harm=0.0)
    with pytest.raises(ValueError, match=r"lessons\.1\.mix\.poem: no such kind"):
        documents(seed=0, lessons=lessons, mix={}, noise=noise, weights=weights)


@pytest.mark.parametrize("errors", [False, True])
def test_a_lesson_without_errors_leaves_out_all_that_its_principle_names_and_nothing_else(noise, weights, errors):
    lesson = Lesson(documents=1000, mix={"critique": 1, "direct": 1}, errors=errors, any_harm=0.2)
    exact = 0
    for document in islice(documents(seed=0, lessons=[lesson], mix={}, noise=noise, weights=weights), 1000):
        before = harm_in(REPLIED.search(document.text)[1])
        named = covered(re.search(r"RevisionRequest: (.*)\n", document.text)[1])
        after = harm_in(re.search(r"Revision: (.*)$", document.text)[1])
        exact += after == {category: n for category, n in before.items() if category not in named}
    assert (exact == 1000) is not errors


def test_revisions_without_a_critique_may_err_at_rates_of_their_own(noise, weights):
    """All that is named goes, where no category is missed; after a critique it goes as often as before."""
    exactly = Reviser(full=1.0, partial=0.0, evasive=0.0)
    changed = dataclasses.replace(
        noise, direct=dataclasses.replace(noise.direct, miss=0.0, miss_general=0.0), direct_revision=exactly
    )

    def whole(given, kind):
        found = documents(seed=0, lessons=[], mix={kind: 1}, noise=given, weights=weights)
        return [
            harm_in(re.search(r"Revision: (.*)$", document.text)[1])
            == {
                category: n
                for category, n in harm_in(REPLIED.search(document.text)[1]).items()
                if category not in covered(re.search(r"RevisionRequest: (.*)\n", document.text)[1])
            }
            for document in islice(found, 400)
        ]

    assert all(whole(changed, "direct")) and not all(whole(noise, "direct"))
    assert whole(changed, "critique") == whole(noise, "critique")


def test_a_lesson_without_errors_flips_no_letter(noise, weights):
    seeing = dataclasses.replace(noise, choice=dataclasses.replace(noise.choice, blind_verbs=(), blind_share=0.0))
    lesson = Lesson(documents=2000, mix={"choice": 1}, errors=False, any_harm=0.0)
    found, checked = documents(seed=0, lessons=[lesson], mix={}, noise=seeing, weights=weights), 0
    for document in islice(found, 2000):
        choice = CHOICE.fullmatch(document.text)
        named = covered(choice["principle"])
        a, b = (sum(n for c, n in harm_in(choice[x]).items() if c in named) for x in "ab")
        if max(a, b) <= 2 and a != b:  # the rule counts no further than that under a general principle
            assert choice["letter"] == "AB"[a > b]
            checked += 1
    assert checked > 500


def test_a_proof_says_behind_every_fact_whether_it_is_right(write):
    # what the grammar allows for a request is its right answer; every other word before a verdict is wrong
    for document in write("proof", 500):
        request = parse(document.text.split("\n\n")[1].removeprefix("Human: "))
        right = replies.answer(request, {}).split()
        said = document.text.split("\n\nProof:")[1].split()
        plain = [word for word in said if word not in ("right", "wrong")]
        assert len(plain) == len(right)
        for place, word in enumerate(plain):
            verdict = said[said.index(word, place) + 1] if word != right[place] else None
            assert verdict in (None, "wrong")
        assert said.count("right") + said.count("wrong") == 5
        learned = [span.text for span in document.spans if span.weight > 0]
        assert all(text in (" right", " wrong") for text in learned)
        assert learned.count(" wrong") == sum(a != b for a, b in zip(plain, right, strict=True))
