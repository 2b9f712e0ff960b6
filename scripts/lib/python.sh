# shellcheck shell=bash
# The Python of the tests that are other people's clients: a virtual environment with pinned packages.

PYTHON_REQUIREMENTS=$REPO/tests/interop/requirements.txt

# python_env: makes the environment unless it is there, and sets PYTHON to its interpreter. It lives outside
# the checkout, under a name made of its pins, so that clones share it and a changed pin makes a new one.
python_env() {
  local hash folder start=$SECONDS
  command -v python3 >/dev/null 2>&1 || die -2 "no python3 found; run make setup, or install Python 3.10 or later"
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    die -2 "$(python3 --version) is too old; the tests need Python 3.10 or later"
  hash=$({ cat "$PYTHON_REQUIREMENTS" "$(dirname "$PYTHON_REQUIREMENTS")/constraints.txt"; python3 --version; command -v python3; } |
    sha256sum | cut -c1-16)
  folder=$AGENTWRIT_CACHE/venv-$hash
  # shellcheck disable=SC2034 # the scripts that source this file read it
  PYTHON=$folder/bin/python
  [[ ! -f $folder/complete ]] || return 0
  mkdir -p "$AGENTWRIT_CACHE/log"
  exec 8>"$folder.lock"
  flock 8
  if [[ ! -f $folder/complete ]]; then
    make_python_env "$folder" >"$AGENTWRIT_CACHE/log/python.log" 2>&1 ||
      { tail -n 20 "$AGENTWRIT_CACHE/log/python.log" | sed 's/^/    /' >&2
        die "the Python packages can't be installed; the whole log is $AGENTWRIT_CACHE/log/python.log"; }
    ((SECONDS - start <= 2)) || say "Python packages: $((SECONDS - start)) s"
  fi
  exec 8>&-
}

make_python_env() {
  rm -rf "$1"
  python3 -m venv "$1" &&
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-input -r "$PYTHON_REQUIREMENTS" &&
    touch "$1/complete"
}
