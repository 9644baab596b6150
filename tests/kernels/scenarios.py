"""What the guests do, and which pages of each size it leaves optimised."""

from typing import NamedTuple

_2M, _32M, _512M, _1G = 2 << 20, 32 << 20, 512 << 20, 1 << 30


class Scenario(NamedTuple):
    """Words for a guest (see init.sh), and by HugeTLB size in bytes how many pages are `optimized`
    at the end, and ever `became` so.

    `became` leaves out those that were optimised before the first snapshot. `append` goes to the
    end of the kernel's command line.
    """

    words: str
    optimized: dict[int, int]
    became: dict[int, int]
    memory_mib: int = 768
    append: str = ""
    page_size: int = 4096


_MIXED = """
hvo 0; pool 40; snap off-40
hvo 1; pool 120; snap on-120
pool 70; snap shrunk-70
$bb mount -t hugetlbfs none /huge; $bb fallocate -l 20971520 /huge/f
hvo 0; pool 90
"""
SCENARIOS = {
    "on": Scenario("hvo 1; pool 100", {_2M: 100}, {_2M: 100}),
    "off": Scenario("hvo 0; pool 64", {_2M: 0}, {}),
    # The free list is a stack: of 40 pages and 80 on top of them, the 50 that leave are optimised
    # ones.
    "mixed": Scenario(_MIXED, {_2M: 30}, {_2M: 80}),
    "gigantic": Scenario(
        "pool_of 2048kB 30",
        {_2M: 30, _1G: 1},
        {_2M: 30},
        2304,
        "hugepagesz=1G hugepages=1 hugetlb_free_vmemmap=on",
    ),
    "sizes": Scenario(
        "hvo 1; pool_of 2048kB 20; pool_of 32768kB 4", {_2M: 20, _32M: 4}, {_2M: 20, _32M: 4}
    ),
    "few": Scenario(
        "hvo 1; pool 4; snap four; pool 3", {_512M: 3}, {_512M: 4}, 4096, page_size=65536
    ),
}
"""Names to scenarios; the last two need arm64, with 4K and with 64K pages."""

HOST_USED = 10
"""Pages that a file keeps in use all day."""
HOST = f"""
pool 40
ask status-off status --json
$bb mount -t hugetlbfs none /huge; $bb fallocate -l {HOST_USED * _2M} /huge/f
ask enable enable --json
ask enable-again enable --json
ask grow resize 2MiB=100 --json
ask status-mixed status --json
ask audit-mixed status --audit live --json
ask part convert --batch 8 --keep-free 20 --json
ask status-part status --json
ask dry-run convert --batch 32 --keep-free 0 --dry-run --json
ask convert convert --batch 32 --keep-free 0 --json
ask status-converted status --json
ask audit-converted status --audit live --json
ask memory-converted audit live --json
ask bench bench-host --pages 16 --rounds 1 --json
ask shrink resize 2MiB=90 --json
ask force-shrink resize 2MiB=50 --force --json
ask disable disable --json
ask status-end status --json
"""
"""A day of a host with 2 MiB pages: 40 from before the switch was on, 10 of them in use, 60 more
with it on, converted in part and then all, measured, and shrunk, at last by force: that tells which
kernel loses the pages that are given back. All with the command itself.
"""
HOST_NODES = f"""
pool 40
$bb mount -t hugetlbfs none /huge; $bb fallocate -l {HOST_USED * _2M} /huge/f
ask enable enable --json
ask grow resize 2MiB=50 --node 1 --json
ask status-mixed status --json
ask convert-node convert --node 1 --batch 8 --keep-free 0 --json
ask convert convert --batch 8 --keep-free 0 --json
ask status-converted status --json
usual=$($bb cat /proc/sys/vm/min_free_kbytes)
$bb sync; echo 3 > /proc/sys/vm/drop_caches
echo 2000000 > /proc/sys/vm/min_free_kbytes
pool 30
echo $usual > /proc/sys/vm/min_free_kbytes
snap short
ask status-stuck status --json
ask free resize 2MiB=30 --json
ask status-free status --json
"""
"""Two nodes with 20 pages each from before the switch was on, some of them in use, and 30 more on
node 1, converted, first that node. Then the pool shrinks while no frame can be had, because all
free memory is below the watermark, and all that should go is stuck.
"""
HOST_WITHOUT = """
pool 4
ask status status --json
ask enable enable
ask convert convert --json
$bb mount -t tmpfs tmpfs /image/boot
ask status-without-options status --json
"""
"""A host whose kernel cannot optimise; at the end without the kernel's build options."""
