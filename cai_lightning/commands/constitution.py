"""`cai constitution lint|diff|show NAME`: what is wrong with a principle set, and how two of them differ."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cai_lightning.commands.workspace import Option, Workspace
from cai_lightning.constitution.compare import Difference, content_hash, differences, word_diff
from cai_lightning.constitution.lint import block_of, remarks, structure, texts, unknown_words
from cai_lightning.constitution.principles import Constitution
from cai_lightning.constitution.source import paper_place
from cai_lightning.constitution.wordings import Finding

GROUP = "constitution"
YAML_TARGET = "cai_lightning.constitution.principles.constitution"
PAPER_TARGET = "cai_lightning.constitution.paper.paper_constitution"
_SPEAKER = re.compile(r"^\s*(?:H|A|Human|Assistant):", re.MULTILINE)
_COLOUR = {"=": "{}", "-": "\x1b[31m{}\x1b[0m", "+": "\x1b[32m{}\x1b[0m"}
_PLAIN = {"=": "{}", "-": "[-{}-]", "+": "{{+{}+}}"}


def main(arguments: list[str], workspace: Workspace) -> int:
    """Exit code 1 where `lint` finds errors (with --strict: anything), else 0."""
    parser = argparse.ArgumentParser(prog="cai constitution", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    check = verbs.add_parser("lint", help="everything that is wrong or odd, with its line")
    check.add_argument("names", nargs="+", metavar="NAME|FILE", help="an option of conf/constitution, or a YAML file")
    check.add_argument("--against", action="append", default=[], type=Path, metavar="FILE", help="unseen questions")
    check.add_argument("--near", type=float, default=0.8, help="share of words that makes two wordings alike")
    check.add_argument("--containment", type=float, default=0.8, help="share of 5-grams that makes a question seen")
    check.add_argument("--micro-world", action="store_true", help="words that the micro-world lacks are errors")
    check.add_argument("--strict", action="store_true", help="warnings are errors")
    compare = verbs.add_parser("diff", help="every text in which two differ, word by word")
    compare.add_argument("before", metavar="A")
    compare.add_argument("after", metavar="B")
    look = verbs.add_parser("show", help="the principle sets, or the texts and hashes of one")
    look.add_argument("name", nargs="?")
    given = parser.parse_args(arguments)
    if given.verb == "lint":
        return _lint(workspace, given)
    if given.verb == "diff":
        return _diff(workspace, given.before, given.after)
    return _show(workspace, given.name) if given.name else _list(workspace)


def _lint(workspace: Workspace, given: argparse.Namespace) -> int:
    counts = Counter[bool]()
    for name in given.names:
        for place, finding in _findings(workspace, workspace.option(GROUP, name), given):
            error = finding.error or given.strict
            counts[error] += 1
            print(f"{place}: {'error' if error else 'warning'}: {finding.key}: {finding.problem}")
    print(f"{counts[True]} errors, {counts[False]} warnings in {', '.join(given.names)}")
    return 1 if counts[True] else 0


def _findings(workspace: Workspace, option: Option, given: argparse.Namespace) -> Iterator[tuple[str, Finding]]:
    node = option.value
    plain = node.get("_target_", YAML_TARGET) == YAML_TARGET
    block = {key: value for key, value in node.items() if key != "_target_"} if plain else block_of(option.build())
    found = [*(structure(block) if plain else ()), *remarks(block, near=given.near)]
    if given.micro_world:
        from cai_lightning.microworld.vocabulary import words

        found += unknown_words(block, frozenset(words()))
    for file in given.against:
        found += _shown(block, file, given.containment)
    for finding in sorted(found, key=lambda one: not one.error):
        inside = paper_place(finding.key, node, block) if node.get("_target_") == PAPER_TARGET else None
        yield workspace.position(*inside) if inside else option.place(finding.key), finding


def _shown(block: Mapping[str, Any], file: Path, containment: float) -> Iterator[Finding]:
    """The few-shots that hold a question of an evaluation file, by first turn or n-grams."""
    from cai_lightning.data.overlap import leaks
    from cai_lightning.data.questions import multiple_choice

    shots = {key: text for key, text in texts(block) if "few_shots" in key}
    # chain-of-thought examples name the speakers by one letter
    train = {key: [text, _SPEAKER.sub("", text)] for key, text in shots.items()}
    found: dict[str, list[int]] = {}
    for leak in leaks(train, {str(file): multiple_choice(path=file)}, words=5, containment=containment):
        found.setdefault(leak.train, []).append(leak.evaluation_row + 1)
    for key, rows in found.items():
        lines = ", ".join(map(str, dict.fromkeys(rows)))
        yield Finding(key, f"holds what {file} asks about in line {lines}; figures on that file leak", False)


def _diff(workspace: Workspace, before: str, after: str) -> int:
    one, other = _built(workspace, before), _built(workspace, after)
    print(f"- {before}  {content_hash(one)}\n+ {after}  {content_hash(other)}")
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    found = differences(one, other)
    for difference in found:
        print(_difference(difference, colour))
    print(f"{len(found)} texts differ" if found else "the same texts")
    return 0


def _difference(one: Difference, colour: bool) -> str:
    kind = "added" if one.before is None else "removed" if one.after is None else "changed"
    style = _COLOUR if colour else _PLAIN
    runs = "".join(style[sign].format(text) for sign, text in word_diff(one.before or "", one.after or ""))
    return f"{one.key} ({kind}): {runs}".replace("\n", "\\n")


def _built(workspace: Workspace, name: str) -> Constitution:
    built = workspace.option(GROUP, name).build()
    if not isinstance(built, Constitution):
        raise ValueError(f"{name}: makes a {type(built).__name__}, no constitution; its _target_ must be one that does")
    return built


def _list(workspace: Workspace) -> int:
    for name, path in workspace.options(GROUP).items():
        try:
            built = _built(workspace, name)
        except Exception as error:  # one option that lacks its files must not hide the others
            print(f"{name:20} {'-':16}  {' '.join(str(error).split())}")
            continue
        print(f"{name:20} {content_hash(built)}  {_sizes(built)}  {path}")
    return 0


def _sizes(built: Constitution) -> str:
    return f"{len(built.revising)} revising, {len(built.comparing)} comparing"


def _show(workspace: Workspace, name: str) -> int:
    built = _built(workspace, name)
    few = f"{len(built.critique_few_shots)} critique and {len(built.comparison_few_shots)} comparison few-shots"
    print(
        f"{built.name}  {content_hash(built)}  {len(built.revising)} revising, {len(built.comparing)} comparing; {few}"
    )
    print(f"comparison_template: {built.comparison_template!r}")
    for principle in built.principles:
        print(f"{principle.hash}  {principle.id}")
        for kind in ("critique", "revision", "comparison"):
            if (text := getattr(principle, kind)) is not None:
                print(f"  {kind + ':':12}{text.strip()}")
    return 0
