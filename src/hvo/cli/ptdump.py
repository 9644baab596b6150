"""`hvo ptdump`: the kernel's own dump of its page tables, from any memory."""

import click

from hvo.cli.options import files
from hvo.cli.output import print_json


@click.command("ptdump")
@click.argument("target", nargs=-1, required=True, shell_complete=files)
@click.option(
    "--region",
    type=click.Choice(["vmemmap"]),
    default="vmemmap",
    show_default=True,
    help="Region of the kernel's address space.",
)
@click.option(
    "--json",
    is_flag=True,
    help="Print one JSON object with the region and the lines of the dump.",
)
def command(target: tuple[str, ...], region: str, json: bool) -> None:
    """Print the page tables as /sys/kernel/debug/kernel_page_tables does, byte for byte (arm64,
    riscv64 and x86-64).

    TARGET is a core (ELF or kdump-compressed, flattened or not, also packed as .xz, .gz or .zst),
    all parts of a split one, a machine that `hvo run --save` wrote, or `live`.
    """

    from hvo.actors.ptdump import vmemmap_region
    from hvo.audit.constants import check_constants
    from hvo.kernel.image import KernelImage
    from hvo.memory.target import open_target
    from hvo.report.progress import progress
    from hvo.report.ptdump_text import dump_text

    with progress() as announce:
        memory = open_target(target[0], announce, *target[1:])
        check_constants(memory.vmcoreinfo)
        image = KernelImage.of(memory)
        announce("reading page tables")
        part = vmemmap_region(image)
        text = dump_text(memory, image.format, image.root, part)
    if json:
        print_json(
            {"region": region, "start": part.start, "end": part.end, "lines": text.splitlines()}
        )
    else:
        click.echo(text, nl=False)
