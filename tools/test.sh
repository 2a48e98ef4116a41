#!/usr/bin/env bash
# Set-up, then lint, format, types and layers, then the tests; pytest's closing line comes last.
# usage: bash tools/test.sh [--fast] [PYTEST ARGUMENTS]        e.g. bash tools/test.sh -k splits -x
#   --fast   leaves out the tests that are marked slow
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash tools/setup.sh
if [[ ${1-} == --fast ]]; then
  set -- -m 'not slow' "${@:2}"
fi
failed=()

check() {
  printf '== %s\n' "$*"
  ".venv/bin/$1" "${@:2}" || failed+=("$*")
}

check ruff check
check ruff format --check
check mypy
check lint-imports --no-logo
if ((${#failed[@]})); then
  printf 'FAILED:' >&2
  printf ' %s;' "${failed[@]}" >&2
  printf ' the tests follow\n' >&2
fi

printf '== pytest\n'
status=0
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # a process a core, and a thread a process
.venv/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder "$@" || status=$?
exit $((status > 0 ? status : ${#failed[@]} > 0))
