#!/bin/sh
# Kernels for arm64 with vmemmap optimisation, which no distribution has: Debian's source of 6.1 with the one line in Kconfig that
# selects it, built here with 4K and 64K pages (5 minutes on two cores), and a busybox for their guests.
#
# usage: tools/build_arm64_kernels.sh DIRECTORY
#
# DIRECTORY gets arm64-4k/Image, arm64-64k/Image and arm64-busybox/. The options are arm64.config's, of the reference material beside
# the project (or in $HVO_SHARED). Ends with 1 and one line that says what is missing.
set -eu

directory=$(realpath -m "${1:?usage: tools/build_arm64_kernels.sh DIRECTORY}")
shared=${HVO_SHARED:-$(dirname "$0")/../../shared}
options=$(realpath -m "$shared/tools/arm64.config")
source=$directory/arm64-source
archive=/usr/src/linux-source-6.1.tar.xz
packages="linux-source-6.1 gcc-aarch64-linux-gnu libc6-dev gcc make flex bison bc libssl-dev libelf-dev rsync xz-utils qemu-system-arm"
export DEBIAN_FRONTEND=noninteractive

fail() { echo "build_arm64_kernels: $*" >&2; exit 1; }
have_tools() { [ -e "$archive" ] && command -v aarch64-linux-gnu-gcc flex bison bc qemu-system-aarch64 > /dev/null; }

install_tools() {
  [ "$(id -u)" = 0 ] || fail "tools are missing; as root: apt-get install $packages"
  apt-get -qq update || fail "apt-get update failed: no package archive can be reached"
  # shellcheck disable=SC2086
  apt-get -qq install --yes --no-install-recommends $packages > /dev/null || fail "apt-get install $packages failed"
}

# In lists and a cache of its own: this machine's package manager learns of no other architecture.
install_busybox() {
  [ -e "$directory/arm64-busybox/bin/busybox" ] && return
  work=$(mktemp -d)
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
  set -- -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root \
    -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache"
  apt-get "$@" update && (cd "$work" && apt-get "$@" download busybox-static) || fail "busybox-static for arm64 cannot be downloaded"
  dpkg-deb -x "$work"/busybox-static_*.deb "$directory/arm64-busybox"
  rm -r "$work"
}

unpack_source() {
  [ -e "$source/.ready" ] && return
  rm -rf "$source"
  mkdir -p "$source"
  tar -xf "$archive" -C "$source" --strip-components=1
  sed -i '/^config ARM64$/a\	select ARCH_WANT_HUGETLB_PAGE_OPTIMIZE_VMEMMAP' "$source/arch/arm64/Kconfig"
  touch "$source/.ready"
}

build() { # PAGES, e.g. 64k
  target=$directory/arm64-$1
  mkdir -p "$target/build"
  sed "s/^CONFIG_ARM64_4K_PAGES=y/CONFIG_ARM64_$(echo "$1" | tr k K)_PAGES=y/" "$options" > "$target/options"
  set -- -s -C "$source" O="$target/build" ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu-
  make "$@" KCONFIG_ALLCONFIG="$target/options" allnoconfig
  grep -q '^CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP=y' "$target/build/.config" || fail "the options do not lead to vmemmap optimisation"
  make "$@" -j"$(nproc)" Image
  cp "$target/build/arch/arm64/boot/Image" "$target/Image"
}

[ -e "$options" ] || fail "arm64.config is absent: expected $options"
have_tools || install_tools
mkdir -p "$directory"
install_busybox
unpack_source
build 4k
build 64k
