"""`docs/inventory.md`, made of the columns and rules: `python -m hvo.fleet.inventory_page >
docs/inventory.md`.
"""

from hvo.fleet.columns import COLUMNS, KINDS
from hvo.fleet.rules import SENTENCES

_HEAD = """# What an inventory is

Made by `python -m hvo.fleet.inventory_page` of the columns in `src/hvo/fleet/columns.py` and the rules in `src/hvo/fleet/rules.py`.

`hvo fleet` answers about an inventory: a table with one row for each HugeTLB pool of each host, or one for a host that has none. What is
said of a host (all but the pool) stands in each of its rows, and is counted once. It may be

* Parquet: a file, a directory, or a pattern such as `'fleet/*.parquet'`. Numbers may be stored as integers, as floats with gaps, or as
  text.
* CSV with a header (`.csv`, `.tsv`; fields apart by a comma, a semicolon or a tab), or JSON lines (`.jsonl`, `.ndjson`), in UTF-8.
* DuckDB (`.duckdb`), or any database that Ibis reaches, by its URL (`sqlite://fleet.db`, `postgres://...`), with `--table` where it has
  several. Its rows are copied before they are worked on.

`hvo fleet collect` makes an inventory of what hosts printed (`hvo status --json`, or the metrics of `hvo export`), `hvo fleet generate`
one of a synthetic fleet.

## Columns

The order does not matter, others are passed over, and only those that must be there have to. An empty field is one without a value.

| column | must be there | kind | meaning | without a value |
|---|---|---|---|---|
"""
_RULES = """
What a host says itself goes before what is known of its kernel: `supported` does, and optimised pages do.

## Rows that cannot be right

A row that breaks a rule is left out of all figures, counted, and makes `hvo fleet` exit 1; `--rejects FILE` writes all of them with the
file, the line and the reason. Of a host whose rows contradict each other all rows are rejected. A line that is no row at all (fields are
missing or too many, no JSON object) is rejected as well; an empty line is none.

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
