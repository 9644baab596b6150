"""`docs/metrics.md`, made of the metrics' definitions: `python -m hvo.host.metrics_page >
docs/metrics.md`.
"""

from hvo.host.metrics import FRESH_SECONDS
from hvo.host.metrics_table import METRICS

_HEAD = f"""# Metrics of `hvo export`

Made by `python -m hvo.host.metrics_page` of `src/hvo/host/metrics_table.py`.

`hvo export` serves these metrics at `http://127.0.0.1:9750/metrics` (`--listen` changes the address), or writes them once to a file for
node_exporter's textfile collector (`--textfile /path/hvo.prom`; the file is replaced atomically). It needs no privilege. One reading of the
host serves all scrapes for {FRESH_SECONDS:g} s. `deploy/` has alert rules, a Grafana dashboard, a scrape configuration and systemd units.

* The label `size` is a HugeTLB size such as `2MiB`, `node` the number of a NUMA node, `state` is `free` or `in_use`, `origin` is `boot` or
  `runtime`. On a host with one node the label has that node. `hvo_hugetlb_pages`, `hvo_hugetlb_surplus_pages` and
  `hvo_hugetlb_struct_page_bytes` add up over nodes; bounds of nodes need not add up to the bounds of all.
* If the number of optimised pages is not known exactly, only `_min` and `_max` are exported. The bounds of all nodes together may be tighter
  than those of each node, so both exist: `hvo_hugetlb_...` and `hvo_hugetlb_node_...`.
* If the host cannot be read, `hvo_scrape_success` is 0 and all metrics but `hvo_scrape_*` are absent; the reason is on standard error.

| metric | type | unit | labels | meaning |
|---|---|---|---|---|
"""


def metrics_page() -> str:
    """The page, in Markdown."""
    rows = (
        f"| `{each.name}` | {each.kind} | {each.unit} | {_labels(each.labels)} | {each.help} |\n"
        for each in METRICS.values()
    )
    return _HEAD + "".join(rows)


def _labels(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    print(metrics_page(), end="")
