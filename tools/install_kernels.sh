#!/bin/sh
# Debian kernels to boot, and the tools to boot them with, for tests/kernels.
#
# usage: tools/install_kernels.sh DIRECTORY
#
# DIRECTORY gets one directory a kernel (6.1, 6.12, 6.12-oldest; riscv64 and arm64-16k of trixie) with its boot/vmlinuz-* and a few modules,
# and foreign-busybox/ARCH. The packages are found by name when this runs, for old versions leave the archive. 6.12 is there twice, since its stable updates changed how the vmemmap is restored.
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

# Kernels of other architectures, of trixie, with lists and a cache of their own: this machine's package manager learns of none.
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

foreign() { # ARCH COMMAND ARGUMENT...
  arch=$1
  command=$2
  shift 2
  "$command" -qq -o Dir::Etc::sourcelist="$state/sources" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$state/lists" \
    -o Dir::Cache="$state/cache" -o Dir::State::status=/dev/null -o APT::Architecture="$arch" -o APT::Architectures="$arch" \
    -o APT::Sandbox::User=root -o Acquire::Languages=none "$@"
}

install_foreign() { # NAME ARCH PATTERN
  [ -e "$directory/$1/package" ] && [ -e "$directory/foreign-busybox/$2" ] && return
  state=$(mktemp -d)
  mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$state/unpacked" "$directory/foreign-busybox"
  echo "deb [arch=$2 signed-by=$keyring] http://deb.debian.org/debian trixie main" > "$state/sources"
  foreign "$2" apt-get update || fail "apt-get update for $2 failed: no package archive can be reached"
  package=$(foreign "$2" apt-cache search --names-only "$3" | cut -d' ' -f1 | sort -V | tail -n 1)
  [ -n "$package" ] || fail "the package archive has no kernel $3 for $2"
  (cd "$state" && foreign "$2" apt-get download "$package" busybox-static) || fail "apt-get download $package for $2 failed"
  dpkg-deb -x "$state"/busybox-static_*.deb "$state/unpacked"
  cp "$state/unpacked/usr/bin/busybox" "$directory/foreign-busybox/$2"
  rm -rf "${directory:?}/$1"
  mkdir -p "$directory/$1"
  dpkg-deb --fsys-tarfile "$state"/linux-image-*.deb | tar -x -C "$directory/$1" --wildcards './boot/vmlinu*' '*/qemu_fw_cfg.ko*'
  rm -r "$state"
  echo "$package" > "$directory/$1/package"
}

[ -e "$keyring" ] || fail "$keyring is absent: kernels of other architectures cannot be checked"
install_foreign riscv64 riscv64 '^linux-image-6\.12\.[0-9].*-riscv64$'
install_foreign arm64-16k arm64 '^linux-image-6\.12\.[0-9].*-arm64-16k$'
if ! command -v qemu-system-riscv64 > /dev/null; then
  is_root || fail "QEMU for riscv64 is missing; as root: apt-get install qemu-system-misc opensbi"
  update_once
  apt-get -qq install --yes --no-install-recommends qemu-system-misc opensbi > /dev/null || fail "apt-get install qemu-system-misc opensbi failed"
fi
