"""What can be wrong with the words of a principle: repeats, direction, tags, damaged characters, loose ends.

These are signs, found by word lists; a set that flips its principles on purpose is right to have them.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Wording:
    """One text of a constitution: its key in the block, and what it is for (`critique`, `revision`, `comparison`)."""

    key: str
    kind: str
    text: str


@dataclass(frozen=True)
class Finding:
    """Something about the value under `key`: an error, with which nothing runs as it should, or a warning."""

    key: str
    problem: str
    error: bool


def _list(text: str) -> frozenset[str]:
    return frozenset(text.split())


_BAD = _list(
    "harmful unethical immoral illegal dangerous toxic racist sexist offensive biased violent abusive hateful rude "
    "cruel criminal deceptive dishonest misleading manipulative invasive unsafe discriminatory false inaccurate wrong "
    "bad evil malicious threatening insulting inappropriate objectionable risky"
)
_GOOD = _list(
    "harmless helpful honest ethical moral legal safe polite respectful kind friendly thoughtful truthful accurate "
    "fair wise peaceful good cordial correct true appropriate considerate"
)
_UP, _DOWN = _list("more most"), _list("less least fewer fewest")
_NOT = _list("not no never without avoid than rather don't isn't nor unlike")
_FORM = 4
_REACH = 4  # words from a comparative to the word that it compares by
_PICK = re.compile(
    r"\b(choose|pick|prefer|select|which)\b[^.?!]*?\b(worst|worse)\b|"
    r"\b(add|include|insert|increase|maximi[sz]e)\b(?! any)[^.?!]{0,40}?"
    r"\b(harm|harmful|toxic|toxicity|racism|sexism|racist|sexist|insults|slurs)\b",
    re.IGNORECASE,
)
_TURN = re.compile(r"\n\n(Human|Assistant):")
_TAG = re.compile(
    r"\b(Critique|Revision|Thoughts|The answer is):|\([A-E]\)|\[\[\[|\]\]\]|<\|[^|>]*\|>|\[/?INST\]|"
    r"</?(s|pad|eos|bos|unk|think)>|\n\n(CritiqueRequest|RevisionRequest)"
)
_ODD = re.compile("[\ufffd\ufeff\u0080-\u009f\ud800-\udfff]")
_RUN = re.compile(r"[^\x00-\x7f]{2,}")
_OPTIONS = re.compile(r"\boptions\s*:\s*\Z", re.IGNORECASE)


def repeats(wordings: Sequence[Wording], *, near: float) -> Iterator[Finding]:
    """Wordings of one kind that are the same, or share at least `near` of their distinct words (Jaccard).

    Words that more than half of at least `_FORM` wordings have are the form of the set and do not count.
    """
    for kind in dict.fromkeys(one.kind for one in wordings):
        some = [(one, frozenset(_words(one.text))) for one in wordings if one.kind == kind]
        usual = Counter(word for _, words in some for word in words)
        form = {word for word, count in usual.items() if len(some) >= _FORM and 2 * count > len(some)}
        for (earlier, old), (later, new) in itertools.combinations(some, 2):
            share = len((old & new) - form) / max(len((old | new) - form), 1)
            if _words(earlier.text) == _words(later.text):
                yield Finding(later.key, f"says the same as {earlier.key}, so it is drawn twice as often", False)
            elif share >= near:
                yield Finding(later.key, f"shares {share:.0%} of its words with {earlier.key}", False)


def direction(wording: Wording) -> Iterator[Finding]:
    """Comparisons and revisions that ask for the worse reply: "more harmful", "least helpful", "the worse one"."""
    if wording.kind not in ("comparison", "revision"):
        return
    found = _wrong_way(wording.text) or ((m := _PICK.search(wording.text)) and " ".join(m[0].split()))
    if found:
        asks = "prefers the worse reply" if wording.kind == "comparison" else "makes a reply worse"
        yield Finding(wording.key, f"{found!r} {asks}; leave it only if that is meant", False)


def _wrong_way(text: str) -> str | None:
    for clause in re.split(r"[.?!;:,\n]+", text):
        words = _words(clause)
        for place, word in enumerate(words):
            if word not in _UP | _DOWN or set(words[max(place - 3, 0) : place]) & _NOT:
                continue
            wrong, right = (_BAD, _GOOD) if word in _UP else (_GOOD, _BAD)
            for end, other in enumerate(words[place + 1 : place + 1 + _REACH], start=place + 2):
                if other in wrong:
                    return " ".join(words[place:end])
                if other in right or other in _UP | _DOWN | _NOT:
                    break
    return None


def tags(wording: Wording) -> Iterator[Finding]:
    """Marks of the formats inside the words: what the prompt adds around them, or would end a turn."""
    if turn := _TURN.search(wording.text):
        yield Finding(wording.key, f"contains {turn[0]!r}, which begins a turn; leave it out", True)
    elif tag := _TAG.search(wording.text):
        yield Finding(wording.key, f"contains {tag[0]!r}, a mark of the prompt's format", False)
    if wording.kind in ("critique", "revision") and wording.text != wording.text.strip():
        yield Finding(wording.key, "begins or ends with white space; the prompt has its own around it", False)


def encoding(key: str, text: str) -> Iterator[Finding]:
    """Characters that a wrong decoding left: UTF-8 read as Windows-1252 or Latin-1, U+FFFD, control characters."""
    if odd := _ODD.search(text):
        yield Finding(key, f"contains {odd[0]!a}, which no text has on purpose; repair the file's encoding", False)
        return
    for run in _RUN.findall(text):
        for codec in ("cp1252", "latin-1"):
            try:
                meant = run.encode(codec).decode("utf-8")
            except UnicodeError:
                continue
            yield Finding(key, f"{run!r} is {meant!r} read in the wrong encoding; save the file as UTF-8", False)
            return


def options(wordings: Sequence[Wording], texts: Mapping[str, str]) -> Iterator[Finding]:
    """Comparisons that differ from most in whether they end with "Options:", and templates that say it again."""
    compared = [(one, bool(_OPTIONS.search(one.text))) for one in wordings if one.kind == "comparison"]
    ending = sum(ends for _, ends in compared)
    usual = 2 * ending > len(compared)
    for one, ends in compared:
        if ends != usual:
            says = "ends with 'Options:', as most do not" if ends else "does not end with 'Options:', as most do"
            yield Finding(one.key, says, False)
    for key in ("comparison_template", "reasoning.template"):
        if ending and re.search(r"options\s*:", texts.get(key, ""), re.IGNORECASE):
            yield Finding(key, f"says 'Options:', and so do {ending} comparisons; once is enough", False)


def _words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.casefold().replace("’", "'"))
