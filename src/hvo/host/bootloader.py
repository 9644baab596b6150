"""Adding the boot parameter with the boot loader's own tool, where it is there.

Two are known: grubby (it edits every entry itself), and update-grub, which reads the snippets in
`/etc/default/grub.d` (Debian and Ubuntu).
"""

import subprocess
from dataclasses import dataclass

from hvo.errors import HvoError
from hvo.host.kernel import BOOT_PARAMETER
from hvo.host.tree import Tree, Write

_SNIPPETS = "/etc/default/grub.d"
_SNIPPET = f"{_SNIPPETS}/60-hvo.cfg"
_PLACES = ("/usr/sbin", "/sbin", "/usr/bin")


@dataclass(frozen=True)
class BootLoader:
    """A boot loader's tool: its name, and where it is on the host."""

    name: str
    path: str

    def writes(self, tree: Tree, on: bool) -> list[Write]:
        """What setting the parameter writes or runs."""
        run = Write(self.path, " ".join(self._arguments(on)))
        return [run] if self.name == "grubby" else [Write(_SNIPPET, _line(on)), run]

    def require_running(self, tree: Tree) -> None:
        """Raise `HvoError` where the tool must not be executed."""
        tree.require_running(f"--boot needs to execute {self.path}")

    def set_parameter(self, tree: Tree, on: bool) -> None:
        """Set the parameter for the next boots; raises `HvoError`, and takes its file back, when
        the tool fails.
        """
        self.require_running(tree)
        old = tree.read_or(_SNIPPET, "") if tree.exists(_SNIPPET) else None
        if self.name != "grubby":
            tree.replace(_SNIPPET, f"{_line(on)}\n")
        try:
            subprocess.run(
                [tree.path(self.path), *self._arguments(on)],
                check=True,
                capture_output=True,
                text=True,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            if self.name != "grubby":
                tree.remove(_SNIPPET) if old is None else tree.replace(_SNIPPET, old)
            raise HvoError(
                f"{tree.path(self.path)}: it failed, the boot command line is as it was ({error})"
            ) from error
        tree.written.append(Write(self.path, " ".join(self._arguments(on))))

    def _arguments(self, on: bool) -> list[str]:
        value = "on" if on else "off"
        return (
            ["--update-kernel=ALL", f"--args={BOOT_PARAMETER}={value}"]
            if self.name == "grubby"
            else []
        )


def _line(on: bool) -> str:
    return f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {BOOT_PARAMETER}={"on" if on else "off"}"'


def find_boot_loader(tree: Tree) -> BootLoader:
    """The tool of this host; raises `HvoError` with the parameter to add by hand when there is none
    that is known.
    """
    for name in ("grubby", "update-grub"):
        for place in _PLACES:
            if tree.exists(f"{place}/{name}") and (name == "grubby" or tree.exists(_SNIPPETS)):
                return BootLoader(name, f"{place}/{name}")
    raise HvoError(
        f"--boot: neither grubby nor update-grub is here; add {BOOT_PARAMETER}=on (or off) to the"
        " boot command line by hand"
    )
