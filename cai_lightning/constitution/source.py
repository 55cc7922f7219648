"""Where the texts of the paper's constitution stand in its files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FILES = {  # the parameter that names the file, and the keys inside an entry
    "critique": ("revision_principles", "prompt"),
    "revision": ("revision_principles", "edit_request"),
    "dialogue": ("comparison_few_shots", "prompt"),
    "better": ("comparison_few_shots", "corrects"),
    "worse": ("comparison_few_shots", "incorrects"),
}
_KEY = re.compile(r"([\w.]+)\[(\d+)\](?:\.(\w+))?")


def paper_place(key: str, node: Mapping[str, Any], block: Mapping[str, Any]) -> tuple[Path, str] | None:
    """File and key there of a key of the block that `paper_constitution` made from the node, or null."""
    if (found := _KEY.match(key)) is None:
        return None
    part, index, name = found.groups()
    if part == "critique_few_shots":
        return Path(node["revision_few_shots"]).expanduser(), f"[{index}]"
    if part == "reasoning.few_shots":
        return Path(node["reasoning_few_shots"]).expanduser(), f"[{index}].prompt"
    if name not in _FILES and name != "comparison":
        return None
    if name == "comparison":
        number = str(block["principles"][int(index)]["id"]).removeprefix("comparison")
        return Path(node["comparison_principles"]).expanduser(), f"[{number}]"
    file, inner = _FILES[name]
    entry = f"[{index}]" if part == "comparison_few_shots" else block["principles"][int(index)]["id"]
    return Path(node[file]).expanduser(), f"{entry}.{inner}"
