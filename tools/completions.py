"""Scripts for bash, zsh and fish that complete `hvo`: click's own, at the places where the shells
look for them.
"""

from click.shell_completion import get_completion_class

from hvo.cli.main import main

PLACES = {
    "bash": "bash-completion/completions/hvo",
    "zsh": "zsh/site-functions/_hvo",
    "fish": "fish/vendor_completions.d/hvo.fish",
}
"""Below `share`."""


def completions() -> dict[str, str]:
    """The text of every script by its place below `share`."""
    return {place: _script(shell) for shell, place in PLACES.items()}


def _script(shell: str) -> str:
    """Not click's `source()`: it asks the bash that is installed here for its version."""
    kind = get_completion_class(shell)
    assert kind is not None, shell
    made = kind(main, {}, "hvo", "_HVO_COMPLETE")
    return (made.source_template % made.source_vars()).strip() + "\n"
