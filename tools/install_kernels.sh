#!/bin/sh
# Debian kernels to boot, and the tools to boot them with, for tests/kernels.
#
# usage: tools/install_kernels.sh DIRECTORY
#
# DIRECTORY gets one directory a kernel (6.1, 6.12, 6.12-oldest) with its boot/vmlinuz-* and a few modules. The packages are found by
# name when this runs, for old versions leave the archive. 6.12 is there twice, since its stable updates changed how the vmemmap is restored.
# Ends with 1 and one line that says what is missing; only root can install packages, anybody can download kernels.
set -eu

directory=${1:?usage: tools/install_kernels.sh DIRECTORY}
PATH=$PATH:/usr/sbin:/sbin
export DEBIAN_FRONTEND=noninteractive
packages="qemu-system-x86 busybox-static makedumpfile e2fsprogs"

fail() { echo "install_kernels: $*" >&2; exit 1; }
is_root() { [ "$(id -u)" = 0 ]; }
have_tools() { command -v qemu-system-x86_64 busybox makedumpfile mke2fs > /dev/null && ! ldd "$(command -v busybox)" > /dev/null 2>&1; }

update_once() {
  if is_root && [ -z "${updated:-}" ]; then
    apt-get -qq update || fail "apt-get update failed: no package archive can be reached"
    updated=yes
  fi
}

install_tools() {
  is_root || fail "tools are missing; as root: apt-get install $packages"
  update_once
  # shellcheck disable=SC2086
  apt-get -qq install --yes --no-install-recommends $packages > /dev/null || fail "apt-get install $packages failed"
}

# The packages of a series, oldest first; signed ones, which are those that machines boot.
packages_of() { apt-cache search --names-only "^linux-image-$1\.[0-9].*-cloud-amd64\$" | cut -d' ' -f1 | sort -V; }

unpack() {
  dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" --wildcards './boot/vmlinuz-*' '*/virtio*.ko*' '*/qemu_fw_cfg.ko*'
}

install_kernel() { # NAME PACKAGE
  [ -n "$2" ] || fail "the package archive has no cloud-amd64 kernel for $1"
  [ "$(cat "$directory/$1/package" 2> /dev/null)" = "$2" ] && return
  work=$(mktemp -d)
  (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "$2") || fail "apt-get download $2 failed"
  rm -rf "${directory:?}/$1"
  mkdir -p "$directory/$1"
  unpack "$work"/*.deb "$directory/$1"
  rm -r "$work"
  echo "$2" > "$directory/$1/package"
}

command -v apt-get > /dev/null || fail "apt-get is absent: the kernels are Debian's"
[ "$(dpkg --print-architecture)" = amd64 ] || fail "the kernels are for amd64, this machine is $(dpkg --print-architecture)"
have_tools || install_tools
if [ ! -e "$directory/6.1/package" ] || [ ! -e "$directory/6.12-oldest/package" ]; then update_once; fi
install_kernel 6.1 "$(packages_of 6.1 | tail -n 1)"
install_kernel 6.12 "$(packages_of 6.12 | tail -n 1)"
install_kernel 6.12-oldest "$(packages_of 6.12 | head -n 1)"
