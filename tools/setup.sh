#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Makes .venv with the locked libraries and vmaplab itself; with "dev" also what tests, lint and documentation need.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=${PATH//"$PWD/.venv/bin:"/}  # an activated .venv is about to be made anew

pip() { .venv/bin/pip --disable-pip-version-check --no-input "$@"; }
if [ "${1:-}" = dev ]; then
    echo "adding what the tests need to .venv"
    pip install -qq --require-hashes -r requirements-dev.lock
    touch .venv/.dev
    exit 0
fi
if ! command -v python3 >/dev/null || ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "vmaplab needs python3 3.11 or newer; on Debian 12: apt-get install python3 python3-venv" >&2
    exit 1
fi
if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "python3 has no venv module; as root: apt-get install python3-venv" >&2
        exit 1
    fi
    echo "installing python3-venv"
    apt-get -o DPkg::Lock::Timeout=900 update -qq
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=900 install -y -qq python3-venv >/dev/null
fi
echo "setting up .venv with the locked libraries"
rm -rf .venv
python3 -m venv .venv
pip install -qq --no-compile --require-hashes -r requirements.lock
pip install -qq --no-deps --no-build-isolation -e .
.venv/bin/python tools/compile.py
touch .venv/.ready
