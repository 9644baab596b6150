#!/bin/sh
# Debian's programs that tests and benches judge by: a browser, Prometheus, Spin with a C compiler, Java for Spark.
#
# usage: tools/install_tools.sh
#
# Installs what is missing. Ends with 1 and one line that says what could not be installed.
set -eu

export DEBIAN_FRONTEND=noninteractive
fail() { echo "install_tools: $*" >&2; exit 1; }

wanted=""
want() { command -v "$1" > /dev/null || wanted="$wanted $2"; } # PROGRAM PACKAGE
want chromium chromium
want prometheus prometheus
want spin spin
want cc "gcc libc6-dev"
want java default-jre-headless
[ -n "$wanted" ] || exit 0

command -v apt-get > /dev/null || fail "apt-get is absent; missing:$wanted"
[ "$(id -u)" = 0 ] || fail "missing, and only root can install them: apt-get install$wanted"
apt-get -qq update || fail "apt-get update failed: no package archive can be reached; missing:$wanted"
# shellcheck disable=SC2086
apt-get -qq install --yes --no-install-recommends $wanted > /dev/null || fail "apt-get install$wanted failed"
