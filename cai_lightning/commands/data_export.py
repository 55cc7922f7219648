"""Rows written for other libraries: one file a split, a data card, and the constitution beside them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from cai_lightning import __version__
from cai_lightning.commands import origins
from cai_lightning.commands.folders import whole
from cai_lightning.commands.layouts import LAYOUTS, constitution_json
from cai_lightning.commands.source_rows import SourceRows, source_rows
from cai_lightning.commands.workspace import Result, Workspace
from cai_lightning.constitution.principles import Constitution

_SPLITS = {"train": "train", "tune": "validation", "validation": "validation", "final": "test", "test": "test"}
_ROWS = ("prompts", "responses", "revisions", "comparisons", "labels")


def export(name: str, folder: Path, workspace: Workspace, *, format: str, parquet: bool) -> str:
    """Writes a source into a new folder; what was written, in words. Raises ValueError where its rows do not fit."""
    found = source_rows(workspace, name)
    known = origins.constitutions(found.result, workspace)
    books = [one for one in known.values() if isinstance(one, Constitution)]
    principles = {principle.hash: principle for one in books for principle in one.principles}
    table = list(LAYOUTS[format](found.rows, principles))
    if not table:
        raise ValueError(f"{name}: has no row to export")
    file = f"{split_of(found)}.{'parquet' if parquet else 'jsonl'}"
    with whole(folder) as out:
        _write(table, out / file)
        revising = next((one for one in books if one.revising), None)
        if revising is not None:
            text = json.dumps(constitution_json(revising), indent=2, ensure_ascii=False)
            (out / "constitution.json").write_text(text + "\n", encoding="utf-8")
        origins.write_recipes(found.result, out)
        (out / "README.md").write_text(_card(found, table, file, format, known), encoding="utf-8")
    return f"{len(table)} rows in {file}"


def split_of(found: SourceRows) -> str:
    """The split that all prompts of the rows were read from, or that a file's name tells; else train."""
    if not found.result.manifest:
        words = found.result.path.name.replace("-", ".").replace("_", ".").split(".")
        return next((_SPLITS[word] for word in words if word in _SPLITS), "train")
    splits = {_SPLITS.get(split, "train") for split in _splits(found.result)}
    return splits.pop() if len(splits) == 1 else "train"


def _splits(result: Result) -> Iterator[str]:
    """The splits that the readers behind rows name."""
    recipe = result.manifest.get("recipe", {})
    for reader in recipe.get("readers", []):
        if "split" in reader:
            yield str(reader["split"])
    for name in _ROWS:
        edge = recipe.get(name)
        keys = [one.get("stage") for one in ([edge] if isinstance(edge, dict) else edge or []) if isinstance(one, dict)]
        for above in result.upstream.values():
            if above.name.partition("/")[2] in keys:
                yield from _splits(above)


def _write(table: Sequence[dict[str, Any]], path: Path) -> None:
    if path.suffix == ".jsonl":
        lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in table)
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)
        return
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(table)), path)


def _card(found: SourceRows, table: Sequence[dict[str, Any]], file: str, format: str, known: Any) -> str:
    """README.md of exported rows."""
    result = found.result
    front = {
        "tags": ["constitutional-ai", "cai-lightning", *([format] if format == "trl" else [])],
        "license": "other",
        "license_name": "as-the-sources",
        "configs": [{"config_name": "default", "data_files": [{"split": file.partition(".")[0], "path": file}]}],
    }
    kinds = Counter((row.get("source", ""), row.get("kind", "")) for row in table)
    left = ", ".join(f"{reason}: {n}" for reason, n in sorted(found.dropped.items())) or "nothing"
    kind = "parquet" if file.endswith(".parquet") else "json"
    columns = [[f"`{name}`", _type(value)] for name, value in table[0].items()]
    name = result.name if result.manifest else result.path.name
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# {name}\n\n",
        f"{len(table)} rows from {len(found.rows)} ({found.format}), written by cai_lightning {__version__} in the "
        f"format `{format}`. Left out when they were read: {left}.\n\n",
        f'```python\nfrom datasets import load_dataset\n\nload_dataset("{kind}", data_files="{file}", split="train")\n'
        "```\n\n",
        "## Rows\n\n" + origins.table(("source", "kind", "rows"), [[*key, n] for key, n in sorted(kinds.items())]),
        "\n## Columns\n\n" + origins.table(("column", "type"), columns) + "\n",
        origins.recipe_section(result),
        origins.constitution_section(known),
        origins.lineage_section(result),
        origins.versions_section(result),
        "## Licence\n\nAs the sources', and subject to the terms of the models that wrote the replies.\n",
    ]
    return "".join(parts)


def _type(value: Any) -> str:
    if isinstance(value, list):
        return f"list of {{{', '.join(value[0])}}}" if value else "list"
    if isinstance(value, dict):
        return f"{{{', '.join(value)}}}"
    return {"str": "text", "float": "number", "int": "whole number"}.get(type(value).__name__, type(value).__name__)
