#!/usr/bin/env bash
# Makes .venv with everything the project needs. Broken off, it goes on where it was; finished and
# unchanged, it returns at once.
set -euo pipefail

usage='usage: bash tools/setup.sh            make .venv, or bring it up to date
       bash tools/setup.sh --check    say what is installed, what is wrong and what repairs it
environment: PYTHON                  the Python to make it of (3.11 or 3.12), or to check where there is none
             MAX_JOBS                compilers at a time while mmcv is built
             XDG_CACHE_HOME          where the built mmcv is kept (default: ~/.cache)
             FORCE_CUDA=1, TORCH_CUDA_ARCH_LIST="8.0;9.0"   CUDA operators on a machine without GPU'

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
log=$venv/setup.log
progress='^ *== .*|^ *\[[0-9]+/[0-9]+\]|^ *(Collecting|Downloading|Building) [^ ]+|Installing collected packages'
unset PYTHONHOME PYTHONPATH PYTHONSAFEPATH PIP_USER PIP_TARGET PIP_PREFIX
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

fail() {
  printf 'error: %s\n' "$1" >&2
  shift
  (($#)) && printf '       %s\n' "$@" >&2
  exit 1
}

# Sets python and version to the base interpreter of the first candidate that is 3.11 or 3.12.
find_python() {
  local candidate told tried=''
  for candidate in "$@"; do
    told=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2], sys._base_executable)' \
      2>/dev/null) || told='not found'
    case $told in
      *" $venv/"*) ;; # what is left of a .venv
      '3.11 '* | '3.12 '*) python=${told#* } && version=${told%% *} && return ;;
      *) tried+="$candidate ${told%% /*}, " ;;
    esac
  done
  fail "found ${tried%, }; expected Python 3.11 or 3.12" \
    'install one: apt-get install -y python3 python3-venv' \
    'or name one: PYTHON=/path/to/python3.11 bash tools/setup.sh'
}

# Whether .venv has a Python with pip, of the wanted version, and has not been moved here.
venv_works() {
  grep -qsF "$venv" "$venv/bin/activate" &&
    "$venv/bin/python" -c "import pip, sys; sys.exit('%d.%d' % sys.version_info[:2] != '$version')" \
      2>/dev/null
}

return_if_current() {
  if venv_works && (cd "$root" && "$venv/bin/python" -m tools.setup.setup_state current); then
    exec echo '.venv is up to date'
  fi
}

# step TEXT COMMAND...: runs it into the log; tells when it begins and, every 20 s, how far it is.
step() {
  local text=$1 beat status=0
  shift
  printf '[%4d s] %s\n' "$SECONDS" "$text"
  printf '\n== %s\n' "$text" >>"$log"
  heartbeat 9>&- &
  beat=$!
  "$@" >>"$log" 2>&1 || status=$?
  kill "$beat" 2>/dev/null || true
  wait "$beat" 2>/dev/null || true
  if ((status)); then
    tail -n 15 "$log" >&2
    fail "$text: exit status $status; all of it is in $log" 'repair it and run this again: it goes on from here'
  fi
}

heartbeat() {
  while sleep 20 >/dev/null 2>&1; do
    kill -0 $$ 2>/dev/null || return 0 # the set-up was killed
    printf '[%4d s]     %s\n' "$SECONDS" "$(newest_progress)"
  done
}

newest_progress() {
  tail -c 400000 "$log" 2>/dev/null | grep -aoE "$progress" | tail -n 1 || printf 'still at it'
}

case ${1-} in
  '') ;;
  --check)
    python=$venv/bin/python
    [[ -x $python ]] || python=${PYTHON-}
    [[ -n $python ]] || fail "nothing is installed: there is no $venv; run: bash tools/setup.sh"
    found=$(command -v "$python") || fail "found no $python, which PYTHON names"
    python=$(realpath -s "$found")
    cd "$root"
    exec "$python" -m tools.setup.doctor
    ;;
  *)
    printf '%s\n' "$usage"
    [[ $1 == -h || $1 == --help ]] && exit 0
    exit 2
    ;;
esac

if [[ -n ${PYTHON-} ]]; then
  find_python "$PYTHON"
elif [[ -x $venv/bin/python ]]; then
  find_python "$venv/bin/python" python3 python3.12 python3.11
else
  find_python python3 python3.12 python3.11
fi
return_if_current

(cd "$root" && "$python" -m tools.setup.doctor --preflight) >&2 || fail 'this machine lacks what is named above'

exec 9>>"$root/.venv.lock"
until flock -w 20 9; do
  printf '[%4d s] another set-up is at work here: %s\n' "$SECONDS" "$(newest_progress)"
done
return_if_current # the other one has done it

if ! venv_works; then
  [[ -e $venv ]] && printf '[%4d s] removing a .venv that does not work here\n' "$SECONDS"
  rm -rf "$venv"
  mkdir "$venv"
  step "making .venv with Python $version" "$python" -m venv "$venv"
fi
python=$venv/bin/python
rm -rf "$venv/tmp" "$venv/setup.stamp" # until it is whole again
mkdir "$venv/tmp"
export TMPDIR=$venv/tmp # a kill leaves nothing in the system's

step 'looking for half installed packages' "$python" -m tools.setup.setup_state repair
step 'pip' "$python" -m tools.setup.pip_locked tools/setup/locks/pip.txt --only-binary :all:
step 'all packages but mmcv (2 GB to download)' "$python" -m tools.setup.pip_locked tools/setup/locks/install.txt \
  --only-binary :all:
"$python" -m tools.setup.mmcv_wheel plan || fail 'mmcv cannot be built as asked for'
step 'mmcv' "$python" -m tools.setup.mmcv_wheel install
step 'the project' "$python" -m pip install --no-index --no-deps --no-build-isolation -e .
rm -rf "$venv/tmp"
"$python" -m tools.setup.doctor || fail "the set-up does not work yet; the log is $log"
"$python" -m tools.setup.setup_state finish
printf '[%4d s] .venv is ready\n' "$SECONDS"
