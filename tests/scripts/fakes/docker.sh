# shellcheck shell=bash
# docker's client of 20.10 to 28, as far as the scripts use it.
# shellcheck source=tests/scripts/fakes/flags.sh
source "$(dirname "${BASH_SOURCE[0]}")/flags.sh"

fails() { echo "$*" >&2; exit 1; }
is engine || fails "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
case "${WORDS[*]}" in
  version) takes format; echo 28.2.2 ;;
  "start agentwrit-test-control-plane")
    takes
    is cluster || fails "Error response from daemon: No such container: agentwrit-test-control-plane"
    touch "$MACHINE/is/running"
    ! is admin || touch "$MACHINE/is/ready"
    echo agentwrit-test-control-plane ;;
  "import - "*)
    takes change platform
    for change in "${CHANGES[@]}"; do
      [[ $change =~ ^(CMD|ENTRYPOINT|ENV|EXPOSE|LABEL|ONBUILD|USER|VOLUME|WORKDIR)\  ]] || fails "Error response from daemon: ${change%% *} is not a valid change command"
      printf "%s\n" "$change"
    done >"$MACHINE/changes"
    tar --numeric-owner -tvf - >"$MACHINE/layer" || fails "invalid tar header"
    echo sha256:0 ;;
  "save "*)
    takes output platform
    folder=$(mktemp -d)
    echo "[{\"RepoTags\":[\"${WORDS[1]}\"]}]" >"$folder/manifest.json"
    tar -C "$folder" -cf "${VALUE[output]}" manifest.json ;;
  "rmi "*) takes force; echo "Untagged: ${WORDS[1]}" ;;
  *) fails "docker: unknown command: docker ${WORDS[*]}" ;;
esac
