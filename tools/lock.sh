#!/bin/sh
# Prints the versions that an installation of REQUIREMENT... brings, in the form of a requirements file.
#
# usage: tools/lock.sh PYTHON REQUIREMENT...
set -eu

python=${1:?usage: tools/lock.sh PYTHON REQUIREMENT...}
shift
environment=$(mktemp -d)
trap 'rm -rf "$environment"' EXIT
"$python" -m venv "$environment"
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >&2
echo "# Made by \`make lock\`: the versions that were tested together."
"$environment/bin/python" -m pip freeze | sed -e '/^hvo\( \|==\)/d' -e 's/^\(drgn==.*\)/\1; sys_platform == "linux"/'
