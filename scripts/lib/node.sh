# shellcheck shell=bash
# Packages of Node, from a committed lock file.

# node_packages FOLDER: FOLDER/node_modules as FOLDER/package-lock.json has it.
node_packages() {
  local folder=$1 major start=$SECONDS
  if ! command -v node >/dev/null 2>&1 || ! command -v npm >/dev/null 2>&1; then
    die -2 "no node and npm found; the tests need Node 20 or later from https://nodejs.org (Debian 12's is too old)"
  fi
  major=$(node -p 'process.versions.node.split(".")[0]')
  ((major >= 20)) || die -2 "node $(node --version) is too old; the tests need Node 20 or later"
  if ! cmp -s "$folder/package-lock.json" "$folder/node_modules/.agentwrit-lock"; then
    mkdir -p "$REPO/target/log"
    npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund >"$REPO/target/log/npm.log" 2>&1 ||
      { tail -n 20 "$REPO/target/log/npm.log" | sed 's/^/    /' >&2
        die "the Node packages of $folder can't be installed; the whole log is $REPO/target/log/npm.log"; }
    cp "$folder/package-lock.json" "$folder/node_modules/.agentwrit-lock"
    ((SECONDS - start <= 2)) || say "Node packages: $((SECONDS - start)) s"
  fi
}
