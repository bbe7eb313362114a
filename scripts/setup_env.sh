#!/usr/bin/env bash
# Creates .venv if there is none and installs the project into it, editable, at one level:
#   core   what `nirvana-mri` runs on, and fastmri       (make demo)
#   test   core and what the tests need                  (make test)
#   dev    test and what `make check` needs
# An empty file .venv/.<level> says that the level is there; the Makefile reads it.
#
# PYTHON=python3.12       another interpreter (3.11 or newer)
# TORCH_INDEX=<address>   an extra package index that holds the CPU wheels of torch
set -euo pipefail
cd "$(dirname "$0")/.."

level=${1:-}
python=${PYTHON:-python3}
fastmri=fastmri==0.3.0 # its masks and scores are what ours are compared with, bit by bit
venv_python=.venv/bin/python

stop() {
    echo "setup: $*" >&2
    exit 1
}

is_recent() { # $1: an interpreter
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))'
}

# A torch built for CUDA or ROCm stays; this project never replaces it by the CPU build.
has_gpu_torch() { # $1: an interpreter
    "$1" -c 'import sys, torch; sys.exit(not (torch.version.cuda or torch.version.hip))' 2>/dev/null
}

create_venv() {
    command -v "$python" >/dev/null || stop "no '$python' here; install Python 3.11 or newer, or name one: make PYTHON=..."
    is_recent "$python" || stop "$python is $("$python" --version), 3.11 or newer is needed; name another: make PYTHON=..."
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        stop "$python has no venv module; install it: apt install python3-venv (for another Python: python3.X-venv)"
    "$python" -m venv .venv
    if has_gpu_torch "$python"; then
        # Its folder is searched after .venv's own, wherever it lies: system, user, conda or another environment.
        local packages
        packages=$("$venv_python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
        "$python" -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parents[1])' >"$packages/gpu_torch.pth"
    fi
}

install() { # $@: what pip shall install
    local log options=()
    log=$(mktemp)
    if has_gpu_torch "$venv_python"; then
        echo "setup: keeping the GPU build of torch; the tested CPU versions do not apply"
    else
        options+=(--constraint constraints-cpu.txt)
    fi
    if [ -n "${TORCH_INDEX:-}" ]; then options+=(--extra-index-url "$TORCH_INDEX"); fi
    if ! "$venv_python" -m pip install "${options[@]}" "$@" 2>&1 | tee "$log"; then
        if grep -Eq '^ERROR.*(nvidia|cuda)-' "$log"; then
            rm "$log"
            stop "pip chose the CUDA build of torch, which constraints-cpu.txt refuses; set TORCH_INDEX to PyTorch's CPU" \
                "wheel index (see the install selector on pytorch.org) and run make again"
        fi
        rm "$log"
        stop "pip could not install $*; its message is above"
    fi
    rm "$log"
}

case $level in
core) extra=fastmri levels=(core) ;;
test) extra=test levels=(core test) ;;
dev) extra=dev levels=(core test dev) ;;
*) stop "level is '$level', expected core, test or dev" ;;
esac

[ -d .venv ] || create_venv
"$venv_python" -m pip --version >/dev/null 2>&1 || stop ".venv has no working pip; remove the folder and run make again"
is_recent "$venv_python" || stop ".venv is $("$venv_python" --version), 3.11 or newer is needed; remove the folder"
install --editable ".[$extra]"
install --no-deps "$fastmri"
touch "${levels[@]/#/.venv/.}"
