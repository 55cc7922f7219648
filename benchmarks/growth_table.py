"""How costs grow, and what it costs to start: rows of the package against itself, (a) to (h) and the start."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.rows import Figure, Result, Row, only, quotient

SFT, SFT_32 = "size=s3m precision=bf16", "size=s3m precision=fp32"
ASKED = "size=s3m precision=fp32 slots=16"
FEW, MANY = 2000, 20000  # rows of data

PREPARED = {"few": f"growth prepare size=s3m count={FEW}", "many": f"growth prepare size=s3m count={MANY}"}
STEPPED = {"few": f"growth steps {SFT} count={FEW}", "many": f"growth steps {SFT} count={MANY}"}
PACKED = {str(rows): f"growth documents {SFT_32} together={rows}" for rows in (2, 8, 32)}
ACCUMULATED = {str(times): f"growth documents {SFT_32} together=8 accumulate={times}" for times in (1, 4)}
SAMPLED = {"few": f"ours sample {ASKED} rows=64", "many": f"ours sample {ASKED} rows=256"}
CRITICISED = {str(rows): f"ours critique {ASKED} rows={rows}" for rows in (8, 32, 128)}
JUDGED = {"apart": f"ours label {ASKED} rows=64 principles=1", "together": f"ours label {ASKED} rows=8 principles=16"}
REFERENCE = {"ours": "growth reference size=s3m count=128 epochs=2"}
JOBS = {"one": "growth jobs size=s3m rows=32 count=1", "four": "growth jobs size=s3m rows=32 count=4"}
HELP = {"ours": "growth command words=--help"}
COMPOSE = {"ours": "growth command words=compose"}


def rows() -> list[Row]:
    """The rows; one whose runs are those of an earlier row reads them."""
    found: list[Row] = []
    for name, title, must, stretch, unit, sides, figure in TABLE:
        of = next((row.name for row in found if row.sides == sides), None)
        row = Row(
            name=name,
            title=title,
            sides=sides,
            figure=figure,
            must=must,
            stretch=stretch,
            unit=unit,
            at_most=True,
            of=of,
            compared=False,
        )
        found.append(row)
    return found


def row_kilobytes(results: Mapping[str, Result]) -> float:
    """The memory that one more row of data takes."""
    return float(1024 * (results["many"]["growth_mb"] - results["few"]["growth_mb"]) / (MANY - FEW))


def spread(results: Mapping[str, Result]) -> float:
    """The slowest of the sides a token over the quickest."""
    times = [result["token_ms"] for result in results.values()]
    return float(max(times) / min(times))


def bend(results: Mapping[str, Result]) -> float:
    """The memory of a row more between 8 and 32 rows a batch over that between 2 and 8: 1 where it grows by the row."""
    two, eight, many = (results[name]["rss_mb"] for name in ("2", "8", "32"))
    return float((many - eight) / 24 / max((eight - two) / 6, 1e-9))


def beyond_hyperbola(results: Mapping[str, Result]) -> float:
    """The time of a request among 32 over what those among 8 and 128 say, were it a part of the prefix and a rest."""
    few, some, many = (results[name]["seconds"] / int(name) for name in ("8", "32", "128"))
    prefix = (few - many) / (1 / 8 - 1 / 128)
    return float(some / (many + prefix * (1 / 32 - 1 / 128)))


def later_job(results: Mapping[str, Result]) -> float:
    """The time of a later job of a multirun over that of a job alone."""
    one, four = results["one"]["seconds"], results["four"]["seconds"]
    return float((four - one) / 3 / one)


# fmt: off
TABLE: list[tuple[str, str, float, float, str, dict[str, str], Figure]] = [
    # name, title, must be at most, stretch, unit, sides, figure
    ("prepare_time", "a: preparing 20k rows vs 2k", 11, 10, "x", PREPARED, quotient("seconds", "many", "few")),
    ("prepare_memory", "a: memory of a prepared row", 2.5, 1.6, "KB", PREPARED, row_kilobytes),
    ("step_rows", "b: a step's token, 20k rows vs 2k", 1.05, 1.0, "x", STEPPED, quotient("token_ms", "many", "few")),
    ("pack_time", "c: a token, 2 to 32 rows a batch", 1.15, 1.05, "x", PACKED, spread),
    ("pack_memory", "c: memory of a row, past 8 vs before", 1.3, 1.1, "x", PACKED, bend),
    ("accumulate_memory", "c: memory, 4 batches a step vs 1", 1.05, 1.02, "x", ACCUMULATED,
     quotient("rss_mb", "4", "1")),
    ("requests_time", "d: a new token, 256 requests vs 64", 1.05, 1.0, "x", SAMPLED,
     quotient("seconds", "many", "few", per="new_tokens")),
    ("requests_memory", "d: memory, 256 requests vs 64", 1.15, 1.05, "x", SAMPLED, quotient("rss_mb", "many", "few")),
    ("critique_time", "e: a critique among 128 vs among 8", 1.0, 0.8, "x", CRITICISED,
     quotient("seconds", "128", "8", per="rows")),
    ("critique_shape", "e: a critique among 32 vs a prefix and a rest", 1.15, 1.05, "x", CRITICISED, beyond_hyperbola),
    ("critique_prefixes", "e: prefixes read for 128 critiques", 1, 1, "reads", CRITICISED, only("prefixes", "128")),
    ("principles_time", "f: a question of 16 on a pair vs alone", 0.6, 0.5, "x", JUDGED,
     quotient("seconds", "together", "apart", per="rows")),
    ("reference_reads", "g: reference passes a pair, two epochs", 1.01, 1.01, "reads", REFERENCE,
     only("reference_reads")),
    ("later_job", "h: a later job of a multirun vs a job alone", 0.6, 0.4, "x", JOBS, later_job),
    ("start_help", "cai --help", 1, 1, "s", HELP, only("seconds")),
    ("start_compose", "composing the config", 1, 1, "s", COMPOSE, only("seconds")),
]
# fmt: on
