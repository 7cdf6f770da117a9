#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Installs what building the kernel's own code needs: Debian's linux-source-6.12 and -6.1, cross compilers, clang, kbuild's tools;
# git and bubblewrap, with which patches are applied and built, QEMU to boot, and a browser to look at pages.
set -euo pipefail

declare -A needed=(
    [aarch64-linux-gnu-gcc]=gcc-aarch64-linux-gnu [riscv64-linux-gnu-gcc]=gcc-riscv64-linux-gnu
    [qemu-system-aarch64]=qemu-system-arm [qemu-system-x86_64]=qemu-system-x86 [setpriv]=util-linux
    [clang]=clang [ld.lld]=lld [llvm-strip]=llvm
    [git]=git [bwrap]=bubblewrap [chromium]=chromium
    [gcc]=gcc [ld]=binutils [make]=make [flex]=flex [bison]=bison [bc]=bc [xz]=xz-utils
)
case "$(uname -m)" in
    x86_64) ;;
    *) needed[x86_64-linux-gnu-gcc]=gcc-x86-64-linux-gnu ;;
esac
if [ "${1:-}" = all ]; then # what the long campaigns boot, too
    needed+=([qemu-system-riscv64]=qemu-system-misc)
fi
packages=()
for tool in "${!needed[@]}"; do
    command -v "$tool" >/dev/null || packages+=("${needed[$tool]}")
done
[ -e /usr/include/stdio.h ] || packages+=(libc6-dev)
[ -e /usr/include/gelf.h ] || packages+=(libelf-dev)
[ -e /usr/src/linux-source-6.12.tar.xz ] || packages+=(linux-source-6.12)
[ -e /usr/src/linux-source-6.1.tar.xz ] || packages+=(linux-source-6.1)
if [ "${#packages[@]}" -eq 0 ]; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "the kernel's own code cannot be built here, its tests are left out; as root: apt-get install ${packages[*]}" >&2
    exit 0
fi
echo "installing ${packages[*]}"
export DEBIAN_FRONTEND=noninteractive
apt() { apt-get -o DPkg::Lock::Timeout=900 "$@"; } # .venv may be set up beside this
apt update -qq || true
if ! apt install -y -qq --no-install-recommends "${packages[@]}" >/dev/null; then
    for package in "${packages[@]}"; do # what one of them lacks, the tests of the others do not need
        apt install -y -qq --no-install-recommends "$package" >/dev/null || echo "cannot install $package: its tests are left out" >&2
    done
fi
