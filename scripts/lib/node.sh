# shellcheck shell=bash
# Node, and its packages from a committed lock file.

# Ends the script unless there is a Node that the tests can use.
node_there() {
  local major
  if ! command -v node >/dev/null 2>&1 || ! command -v npm >/dev/null 2>&1; then
    die -2 "no node and npm found; the tests need Node 20 or later from https://nodejs.org (Debian 12's is too old)"
  fi
  major=$(node -p 'process.versions.node.split(".")[0]')
  ((major >= 20)) || die -2 "node $(node --version) is too old; the tests need Node 20 or later from https://nodejs.org"
}

# node_packages FOLDER: FOLDER/node_modules as FOLDER/package-lock.json has it.
node_packages() {
  local folder=$1 start=$SECONDS
  node_there
  if ! cmp -s "$folder/package-lock.json" "$folder/node_modules/.agentwrit-lock"; then
    mkdir -p "$REPO/target/log"
    npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund >"$REPO/target/log/npm.log" 2>&1 ||
      { tail -n 20 "$REPO/target/log/npm.log" | sed 's/^/    /' >&2
        die "the Node packages of $folder can't be installed; the whole log is $REPO/target/log/npm.log"; }
    cp "$folder/package-lock.json" "$folder/node_modules/.agentwrit-lock"
    ((SECONDS - start <= 2)) || say "Node packages: $((SECONDS - start)) s"
  fi
}
