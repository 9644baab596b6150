#!/bin/sh
# Debian's own kernels for arm64, and a Python for their guests: unlike those of tools/build_arm64_kernels.sh they cannot optimise.
#
# usage: tools/install_arm64_kernel.sh DIRECTORY
#
# DIRECTORY gets arm64-debian/6.1 and arm64-debian/6.12, each with boot/vmlinuz-*, boot/config-* and a few modules, and
# arm64-debian/userland with Python, busybox and the libraries they need. The kernels are the newest of their series when this runs; what is
# there already is left as it is. Ends with 1 and one line that says what is missing; only root can install QEMU, anybody can download.
set -eu

directory=${1:?usage: tools/install_arm64_kernel.sh DIRECTORY}/arm64-debian
export DEBIAN_FRONTEND=noninteractive
userland="busybox-static python3.11-minimal libpython3.11-minimal libpython3.11-stdlib
  libc6 libexpat1 zlib1g libbz2-1.0 liblzma5 libffi8 libssl3"

fail() { echo "install_arm64_kernel: $*" >&2; exit 1; }

install_tools() {
  [ "$(id -u)" = 0 ] || fail "QEMU for arm64 is missing; as root: apt-get install qemu-system-arm"
  apt-get -qq update || fail "apt-get update failed: no package archive can be reached"
  apt-get -qq install --yes --no-install-recommends qemu-system-arm > /dev/null || fail "apt-get install qemu-system-arm failed"
}

# With lists and a cache of its own: this machine's package manager learns of no other architecture.
apt() { # COMMAND ARGUMENT...
  command=$1
  shift
  "$command" -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root \
    -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" "$@"
}

update_once() {
  [ -e "$work/lists/lock" ] && return
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
  apt apt-get update || fail "apt-get update for arm64 failed: no package archive can be reached"
}

newest() { apt apt-cache search --names-only "^linux-image-$1\.[0-9].*-cloud-arm64\$" | cut -d' ' -f1 | sort -V | tail -n 1; }

download() { # NAME PACKAGE...: the packages are in $work/NAME then
  name=$1
  shift
  mkdir "$work/$name"
  (cd "$work/$name" && apt apt-get download "$@") || fail "for arm64 cannot be downloaded: $*"
}

install_userland() {
  [ -e "$directory/userland" ] && return
  update_once
  # shellcheck disable=SC2086
  download userland $userland
  for package in "$work"/userland/*.deb; do dpkg-deb -x "$package" "$work/unpacked-userland"; done
  mv "$work/unpacked-userland" "$directory/userland"
}

install_kernel() { # SERIES
  [ -e "$directory/$1" ] && return
  update_once
  package=$(newest "$1")
  [ -n "$package" ] || fail "the package archive has no cloud-arm64 kernel of $1"
  download "$1" "$package"
  mkdir "$work/unpacked-$1"
  dpkg-deb --fsys-tarfile "$work/$1"/*.deb | tar -x -C "$work/unpacked-$1" --wildcards './boot/vmlinuz-*' './boot/config-*' '*/virtio*.ko*'
  mv "$work/unpacked-$1" "$directory/$1"
}

command -v apt-get dpkg-deb > /dev/null || fail "apt-get or dpkg-deb is absent: kernels and Python are Debian's"
command -v qemu-system-aarch64 > /dev/null || install_tools
mkdir -p "$directory"
work=$(mktemp -d "$directory/.XXXXXX") # beside what it becomes, so that half of a download is never taken for all
trap 'rm -rf "$work"' EXIT
install_userland
install_kernel 6.1
install_kernel 6.12
