# shellcheck shell=bash
# Node, and its packages from a committed lock file.

# node_packages FOLDER: FOLDER/node_modules as FOLDER/package-lock.json has it.
node_packages() {
  local folder=$1 start=$SECONDS
  if ! command -v npm >/dev/null 2>&1 || (($(node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0) < 20)); then
    die -2 "no Node 20 or later with npm found; scripts/setup.sh node brings it"
  fi
  if ! cmp -s "$folder/package-lock.json" "$folder/node_modules/.agentwrit-lock"; then
    mkdir -p "$REPO/target/log"
    npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund >"$REPO/target/log/npm.log" 2>&1 ||
      { tail -n 20 "$REPO/target/log/npm.log" | sed 's/^/    /' >&2
        die "the Node packages of $folder can't be installed; the whole log is $REPO/target/log/npm.log"; }
    cp "$folder/package-lock.json" "$folder/node_modules/.agentwrit-lock"
    ((SECONDS - start <= 2)) || say "Node packages: $((SECONDS - start)) s"
  fi
}
