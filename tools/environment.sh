# Sourced by the launchers: what every process of a run is given, whoever starts it.
# Before: root, and typed, the words that the user typed behind the launcher's name.
fail() {
    printf 'error: %s\n' "$@" >&2
    exit 2
}

python=${PYTHON:-$root/.venv/bin/python}
command -v "$python" >/dev/null || fail "no $python; run: bash $(printf %q "$root/tools/setup.sh")"
printf -v GOES_ON_WITH '%q ' bash "$0" "${typed[@]}"
export GOES_ON_WITH
# This checkout's packages before what the caller's folder has under the same name.
export PYTHONSAFEPATH=1 PYTHONPATH=$root:${PYTHONPATH:+$PYTHONPATH:}$PWD
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE} # threads that spin while they wait stall a busy machine
export PYTHONUNBUFFERED=1
export REFRESH_TABLES=${REFRESH_TABLES:-1} # 0: a run that ends well leaves the tables beside it alone
