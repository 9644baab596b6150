"""`docs/inventory.md`, made of the columns and rules: `python -m hvo.fleet.inventory_page >
docs/inventory.md`.
"""

from hvo.fleet.columns import COLUMNS, KINDS
from hvo.fleet.rules import SENTENCES

_HEAD = """# Inventories

Made by `python -m hvo.fleet.inventory_page` of `src/hvo/fleet/columns.py` and `src/hvo/fleet/rules.py`.

`hvo fleet` reads an inventory: a table with one row per HugeTLB pool of each host, or one row for a host without a pool. Facts about a host
(all columns but those of the pool) are repeated in each of its rows and counted once. An inventory is one of

* Parquet: a file, a directory, or a pattern such as `'fleet/*.parquet'`. Numbers may be integers, floats with missing values, or text.
* CSV with a header (`.csv`, `.tsv`; separated by commas, semicolons or tabs), or JSON lines (`.jsonl`, `.ndjson`), in UTF-8.
* DuckDB (`.duckdb`), or the URL of a database that Ibis supports (`sqlite://fleet.db`, `postgres://...`), with `--table` if it has several
  tables. Its rows are copied before the query.

`hvo fleet collect` makes an inventory of the output of hosts (`hvo status --json`, or the metrics of `hvo export`), `hvo fleet generate` one
of a synthetic fleet.

## Columns

The order of columns does not matter, and unknown columns are ignored. An empty field is a missing value.

| column | required | kind | meaning | if missing |
|---|---|---|---|---|
"""
_RULES = """
Facts that a host reports (`supported`, optimised pages) take precedence over facts about its kernel.

## Invalid rows

A row that breaks a rule is left out of all figures and counted, and `hvo fleet` exits 1. `--rejects FILE` writes all such rows with file,
line and reason. If rows of one host contradict each other, all of its rows are rejected. A malformed line (missing or surplus fields, not a
JSON object) is rejected too; an empty line is ignored.

"""


def inventory_page() -> str:
    """The page, in Markdown."""
    rows = (
        f"| `{each.name}` | {'yes' if each.required else ''} | {KINDS[each.kind]} | {each.meaning}"
        f" | {each.absent} |\n"
        for each in COLUMNS
    )
    sentences = (
        f"* {sentence}\n" for number, sentence in SENTENCES.items() if number > len(COLUMNS)
    )
    return _HEAD + "".join(rows) + _RULES + "".join(dict.fromkeys(sentences))


if __name__ == "__main__":
    print(inventory_page(), end="")
