#!/usr/bin/env bash
# Checks the rendered chart and the example manifests against schemas made here, without a network: from the
# OpenAPI files of the pinned Kubernetes module and from our CRDs. Unknown fields are errors.
set -euo pipefail
SCRIPT_NAME=kubeconform
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
PATH=$TOOLS_BIN:$PATH
cd "$REPO"

WORK=$REPO/target/kubeconform
SCHEMAS=$WORK/schemas

openapi_folder() {
  local module
  module=$(env -C tests/tools/kubernetes GOTOOLCHAIN=local go list -m -f '{{.Dir}}' k8s.io/kubernetes)
  printf '%s/api/openapi-spec/v3' "$module"
}

# Objects with a list of properties take no others, unless the schema says so.
STRICT='walk(if type == "object" and (.properties | type) == "object" and (has("additionalProperties") | not)
    and (.["x-kubernetes-preserve-unknown-fields"] | not)
  then .additionalProperties = false else . end)'

# The schema of one kind with all definitions of its API group inside. kubeconform asks for
# kind-group-version in small letters, where group is its first word, and the core group has none.
kubernetes_schema() {
  local folder=$1 version=$2 kind=$3 file target
  target=$SCHEMAS/$(schema_name "$version" "$kind")
  [[ ! -f $target ]] || return 0
  if [[ $version == */* ]]; then file=apis__${version/\//__}_openapi.json; else file=api__${version}_openapi.json; fi
  [[ -f $folder/$file ]] || return 0   # a kind of ours
  jq --arg kind "$kind" --arg group "$(group_of "$version")" --arg version "${version##*/}" "
    (.components.schemas | to_entries[] | select(.value[\"x-kubernetes-group-version-kind\"] // []
      | any(.kind == \$kind and .group == \$group and .version == \$version)) | .key) as \$name
    | {\"\$ref\": \"#/definitions/\(\$name)\", definitions: .components.schemas}
    | walk(if type == \"object\" and (.[\"\$ref\"] | type) == \"string\"
        then .[\"\$ref\"] |= sub(\"#/components/schemas/\"; \"#/definitions/\") else . end)
    | $STRICT" "$folder/$file" >"$target"
  [[ -s $target ]] || rm -f "$target"
}

group_of() { if [[ $1 == */* ]]; then printf '%s' "${1%%/*}"; fi; }

schema_name() {
  local group
  group=$(group_of "$1")
  printf '%s%s-%s.json' "${2,,}" "${group:+-${group%%.*}}" "${1##*/}"
}

# kubectl turns YAML into JSON without asking a server when it works on local files.
crd_schemas() {
  local file version kind group
  for file in crds/*.yaml; do
    kubectl annotate --local -f "$file" -o json agentwrit.io/x=y >"$WORK/crd.json"
    group=$(jq -r .spec.group "$WORK/crd.json")
    kind=$(jq -r .spec.names.kind "$WORK/crd.json")
    for version in $(jq -r '.spec.versions[].name' "$WORK/crd.json"); do
      jq --arg version "$version" ".spec.versions[] | select(.name == \$version) | .schema.openAPIV3Schema
        | .properties.apiVersion = {type: \"string\"} | .properties.kind = {type: \"string\"}
        | .properties.metadata = {type: \"object\"} | $STRICT" "$WORK/crd.json" \
        >"$SCHEMAS/$(schema_name "$group/$version" "$kind")"
    done
  done
}

# Every "apiVersion kind" of the YAML on stdin, from lines that begin an object.
kinds() {
  awk '/^---/ {v = ""; k = ""} /^apiVersion:/ {v = $2} /^kind:/ {k = $2} v != "" && k != "" {print v, k; v = ""; k = ""}' |
    tr -d '"'"'" | sort -u
}

main() {
  local folder version kind examples=()
  folder=$(openapi_folder)
  rm -rf "$WORK"
  mkdir -p "$SCHEMAS" "$WORK/manifests"
  helm template agentwrit helm/agentwrit --namespace agentwrit-system >"$WORK/manifests/chart.yaml"
  helm template agentwrit helm/agentwrit --namespace agentwrit-system --values tests/cluster/values.yaml >"$WORK/manifests/chart-test-node.yaml"
  mapfile -t examples < <(git ls-files --cached --others --exclude-standard 'examples/*.yaml')
  while read -r version kind; do
    kubernetes_schema "$folder" "$version" "$kind"
  done < <(cat "$WORK"/manifests/*.yaml "${examples[@]}" </dev/null | kinds)
  crd_schemas
  kubeconform -strict -summary -schema-location "$SCHEMAS/{{.ResourceKind}}{{.KindSuffix}}.json" \
    "$WORK"/manifests/*.yaml "${examples[@]}"
}

main
