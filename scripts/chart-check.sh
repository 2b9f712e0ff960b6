#!/usr/bin/env bash
# Checks the chart: lint, strict schemas of the pinned Kubernetes, refused values, and, where an API server is
# up, a server-side dry run in a restricted namespace. docs: ../tests/chart/README.md
#   chart-check.sh          everything; the API server is KUBECONFIG's, else one of scripts/cluster.sh that is up
#   chart-check.sh offline  without an API server
set -euo pipefail
SCRIPT_NAME=chart
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

CHART=$REPO/helm/agentwrit
CASES=$REPO/tests/chart
IMAGES=$CASES/images.yaml   # without which nothing is rendered
SCHEMAS=$AGENTWRIT_CACHE/schemas
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
export PATH=$TOOLS_BIN:$PATH

main() {
  local tool file
  for tool in helm kubeconform kubectl jq; do
    command -v "$tool" >/dev/null || die "$tool is missing; run make setup"
  done
  KUBERNETES=$(awk '$1 == "k8s.io/kubernetes" {print $2} $2 == "k8s.io/kubernetes" {print $3}' "$REPO/tests/tools/node/go.mod" | head -n1)
  kubernetes_schemas
  crd_schemas "$CHART"/templates/crds/*.yaml
  kept_crds
  helm lint --strict --quiet --values "$IMAGES" "$CHART" >"$WORK/lint" 2>&1 || { cat "$WORK/lint" >&2; die "helm lint found faults"; }
  say "helm lint: clean"
  check_values_page
  check_settings
  for file in "$CASES"/values/*.yaml; do check_rendered "$file"; done
  for file in "$CASES"/refused/*.yaml; do check_refused "$file"; done
  say "values: $(find "$CASES/refused" -name '*.yaml' | wc -l) bad ones refused"
  conform "$REPO"/examples/*/*.yaml
  check_example_images
  check_example_claims
  say "examples: strict schemas hold"
  [[ ${1:-} == offline ]] || check_on_server
}

# Once per Kubernetes version, in the cache: one schema file a kind.
kubernetes_schemas() {
  local module document name
  KINDS=$SCHEMAS/$KUBERNETES-$(sha256sum <"$CASES/schema.jq" | cut -c1-12)
  [[ ! -f $KINDS/complete ]] || return 0
  module=$(cd "$REPO/tests/tools/node" && go list -m -f '{{.Dir}}' k8s.io/kubernetes)
  [[ -d $module ]] || die "the module k8s.io/kubernetes $KUBERNETES is not here; run make setup"
  mkdir -p "$KINDS"
  # Documents of one API version each; those without a version hold only discovery.
  for document in "$module"/api/openapi-spec/v3/api{,s__*}__v[0-9]*_openapi.json; do
    jq -f "$CASES/schema.jq" "$document" >"$WORK/document.json"
    while read -r name; do
      jq -c --arg name "$name" '.kinds[$name] + {components: .components}' "$WORK/document.json" >"$KINDS/$name.json"
    done < <(jq -r '.kinds | keys[] | select(endswith("list-v1") or test("deleteoptions|watchevent|status-v1$") | not)' "$WORK/document.json")
  done
  touch "$KINDS/complete"
  say "schemas of Kubernetes $KUBERNETES: $(find "$KINDS" -name '*.json' | wc -l) kinds"
}

# Ours, from the chart's own CRDs, and cert-manager's: always fresh.
crd_schemas() {
  local file
  mkdir -p "$WORK/crds"
  cert_manager_crds
  for file in "$@" "${CERT_MANAGER[@]}"; do
    [[ -f $file ]] || die "the chart has no CRDs in templates/crds"
    # --local: kubectl only turns YAML into JSON.
    kubectl annotate --local --overwrite -f "$file" checked=yes -o json >"$WORK/crd.json"
    jq -c '
      def strict: walk(if type == "object" and (.properties | type) == "object" and .type == "object" then .additionalProperties = false else . end);
      .spec.versions[0].schema.openAPIV3Schema | strict
      | .properties += {apiVersion: {type: "string"}, kind: {type: "string"}, metadata: {type: "object"}}
    ' "$WORK/crd.json" >"$WORK/crds/$(jq -r '[.spec.names.kind, (.spec.group | split(".")[0]), .spec.versions[0].name] | join("-") | ascii_downcase' "$WORK/crd.json").json"
  done
}

kept_crds() {
  local file
  for file in "$CHART"/templates/crds/*.yaml; do
    [[ $(kubectl annotate --local --overwrite -f "$file" checked=yes -o json | jq -r '.metadata.annotations["helm.sh/resource-policy"]') == keep ]] ||
      die "$(basename "$file") would go with helm uninstall: it needs the annotation helm.sh/resource-policy: keep"
  done
}

# Of the Go module that tests/tools/fixtures names.
cert_manager_crds() {
  local module name
  (cd "$REPO/tests/tools/fixtures" && go mod download github.com/cert-manager/cert-manager)
  module=$(cd "$REPO/tests/tools/fixtures" && go list -m -f '{{.Dir}}' github.com/cert-manager/cert-manager)
  CERT_MANAGER=()
  for name in certificates issuers clusterissuers; do
    CERT_MANAGER+=("$module/deploy/crds/cert-manager.io_$name.yaml")
    [[ -f ${CERT_MANAGER[-1]} ]] || die "the module of cert-manager has no $name"
  done
}

# render VALUES-FILE FLAG...
render() {
  local values=$1
  shift
  helm template agentwrit "$CHART" --namespace agentwrit-system --kube-version "$KUBERNETES" --values "$IMAGES" --values "$values" "$@"
}

# The variables of rendered containers, a line NAME="value" each.
environment() { sed -n '/^ *- name: [A-Z_]*$/{N;s/^ *- name: \([A-Z_]*\)\n *value: /\1=/p}' "$1"; }

conform() {
  kubeconform -strict -summary=false \
    -schema-location "$KINDS/{{.ResourceKind}}{{.KindSuffix}}.json" \
    -schema-location "$WORK/crds/{{.ResourceKind}}{{.KindSuffix}}.json" "$@" >"$WORK/conform" 2>&1 ||
    { cat "$WORK/conform" >&2; die "kubeconform found faults"; }
}

check_rendered() {
  local name
  name=$(basename "$1" .yaml)
  render "$1" >"$WORK/$name.yaml"
  conform "$WORK/$name.yaml"
  if grep -q "caBundle:" "$WORK/$name.yaml"; then die "the chart sets caBundle, which is the controller's"; fi
  check_config_file "$1"
  check_expected "$1" "$WORK/$name.yaml"
  say "values $name: $(grep -c '^kind:' "$WORK/$name.yaml") objects, strict schemas hold"
}

# check_expected VALUES-FILE RENDERED: the lines "# expect: TEXT" and "# without: TEXT" of a file hold for what it renders.
check_expected() {
  local text
  { cat "$2"; environment "$2"; } >"$WORK/searched"
  while read -r text; do
    grep -qF -- "$text" "$WORK/searched" || die "$(basename "$1"): what is rendered doesn't hold $text"
  done < <(sed -n 's/^# expect: //p' "$1")
  while read -r text; do
    if grep -qF -- "$text" "$WORK/searched"; then die "$(basename "$1"): what is rendered holds $text"; fi
  done < <(sed -n 's/^# without: //p' "$1")
}

# Each value stands in docs/values.md; those of Kubernetes' own making (resources, affinity) as a whole.
check_values_page() {
  local value missing=()
  helm show values "$CHART" >"$WORK/values.yaml"
  while read -r value; do
    grep -qF "\`$value\`" "$REPO/docs/values.md" || missing+=("$value")
  done < <(helm template values "$CASES/dump" --values "$WORK/values.yaml" --kube-version "$KUBERNETES" | sed -n 's/^# value //p')
  ((${#missing[@]} == 0)) || die "docs/values.md doesn't have: ${missing[*]}"
}

# What the chart gives to the broker is a setting of its; every setting it has stands in docs/values.md.
check_settings() {
  local setting known
  known=$(grep -oE '^ +[A-Z_]+ = "AA_[A-Z_]+",' "$REPO/broker/src/config/settings.rs" | grep -oE 'AA_[A-Z_]+')
  while read -r setting; do
    grep -qxF "$setting" <<<"$known" || die "the chart sets $setting, which the broker doesn't know"
  done < <(grep -rohE '\bAA_[A-Z_]+' "$CHART/templates" | sort -u)
  while read -r setting; do
    grep -qF "\`$setting\`" "$REPO/docs/values.md" || die "docs/values.md doesn't say how $setting is set, or why it can't be"
  done <<<"$known"
  say "settings: $(wc -l <<<"$known") of the broker, each a value or explained"
}

# Everybody who may read ConfigMaps reads it: nothing but these two lines.
check_config_file() {
  render "$1" --show-only templates/broker/config.yaml |
    kubectl annotate --local -f - checked=yes -o json >"$WORK/config.json"
  [[ $(jq -c '.data | keys' "$WORK/config.json") == '["config"]' ]] || die "the broker's ConfigMap has other keys than config"
  jq -r .data.config "$WORK/config.json" >"$WORK/config"
  if grep -vxE 'MODE=production|LOG_LEVEL=(quiet|standard|verbose|trace)|' "$WORK/config" >&2; then
    die "the broker's ConfigMap has other lines than MODE and LOG_LEVEL"
  fi
}

# A name without a registry is one of Docker Hub, whoever holds it there.
check_example_images() {
  local image
  while read -r image; do
    [[ $image =~ ^(localhost|[^/]*[.:][^/]*)/ ]] || die "examples: the image $image names no registry"
  done < <(sed -n 's/^ *image: *//p' "$REPO"/examples/*/*.yaml)
}

# The example service expects what the chart sets by itself.
check_example_claims() {
  diff <(environment "$WORK/defaults.yaml" | sed -n -E 's/^AA_(ISSUER|AUDIENCE)="(.*)"$/DEMO_\1=\2/p') \
    <(environment "$REPO/examples/shop/30-orders-service.yaml" | grep -E '^DEMO_(ISSUER|AUDIENCE)=') >&2 ||
    die "examples/shop/30-orders-service.yaml expects another issuer or audience than the chart sets"
}

# What the line "# templates: TEXT" of a file says is what the templates say by themselves.
check_refused() {
  local wanted
  wanted=$(sed -n '1s/^# expect: //p' "$1")
  [[ -n $wanted ]] || die "$(basename "$1") doesn't say what it expects"
  refused_with "$wanted" "$1"
  wanted=$(sed -n 's/^# templates: //p' "$1")
  [[ -z $wanted ]] || refused_with "$wanted" "$1" --skip-schema-validation
}

# refused_with TEXT VALUES-FILE FLAG...
refused_with() {
  local wanted=$1 name
  name=$(basename "$2")
  shift
  if render "$@" >/dev/null 2>"$WORK/refusal"; then die "the values of $name were accepted"; fi
  grep -qF -- "$wanted" "$WORK/refusal" || { cat "$WORK/refusal" >&2; die "$name: the refusal doesn't say \"$wanted\""; }
}

check_on_server() {
  local namespace=agentwrit-chart-check
  if [[ -z ${KUBECONFIG:-} ]]; then
    local scope
    for scope in "" --api-only; do
      # shellcheck disable=SC2086 # empty means no argument
      "$REPO/scripts/cluster.sh" status $scope >/dev/null 2>&1 || continue
      # shellcheck disable=SC2086
      eval "$("$REPO/scripts/cluster.sh" env $scope)"
      break
    done
  fi
  if [[ -z ${KUBECONFIG:-} ]]; then
    say "server dry run: skipped, no API server is up"
    return 0
  fi
  kubectl apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Namespace
metadata:
  name: $namespace
  labels: {pod-security.kubernetes.io/enforce: restricted, pod-security.kubernetes.io/warn: restricted}
YAML
  trap 'kubectl delete namespace '"$namespace"' --wait=false >/dev/null 2>&1; rm -rf "$WORK"' EXIT
  # As helm would send them, but elsewhere, so that an installation in this cluster is left alone.
  local values
  for values in "$IMAGES" "$CASES/values/database.yaml"; do
    render "$values" --namespace "$namespace" >"$WORK/server.yaml"
    kubectl apply --server-side --force-conflicts --dry-run=server --validate=strict -f "$WORK/server.yaml" >"$WORK/server" 2>&1 ||
      { cat "$WORK/server" >&2; die "the API server refused the chart with $(basename "$values")"; }
    if grep -i '^Warning' "$WORK/server" >&2; then die "the API server warned about the chart with $(basename "$values")"; fi
    say "server dry run with $(basename "$values"): $(wc -l <"$WORK/server") objects accepted, no warning"
  done
  check_cert_manager "$namespace"
  check_claims_at_upgrade "$namespace"
  check_audit_at_upgrade "$namespace"
  check_claims_with_database "$namespace"
}

# With cert-manager's own CRDs, and nothing else of it: its objects are accepted, and what can't do is refused.
check_cert_manager() {
  local namespace=$1 values=$CASES/values/cert-manager.yaml shared=no wanted
  ! kubectl get crd certificates.cert-manager.io >/dev/null 2>&1 || shared=yes
  if [[ $shared == no ]]; then
    wanted="this cluster has no Certificates of cert-manager.io: install cert-manager first"
    refused_with "$wanted" "$values" --namespace "$namespace" --dry-run=server
    kubectl apply --server-side -f "${CERT_MANAGER[0]}" -f "${CERT_MANAGER[1]}" -f "${CERT_MANAGER[2]}" >/dev/null
    trap 'kubectl delete namespace '"$namespace"' --wait=false >/dev/null 2>&1; kubectl delete crd {certificates,issuers,clusterissuers}.cert-manager.io --timeout=30s >/dev/null 2>&1; rm -rf "$WORK"' EXIT
    kubectl wait --for=condition=Established crd {certificates,issuers,clusterissuers}.cert-manager.io --timeout=30s >/dev/null
  fi
  render "$values" --namespace "$namespace" --dry-run=server >"$WORK/server.yaml"
  kubectl apply --server-side --force-conflicts --dry-run=server --validate=strict -f "$WORK/server.yaml" >"$WORK/server" 2>&1 ||
    { cat "$WORK/server" >&2; die "the API server refused the chart with cert-manager.yaml"; }
  if grep -i '^Warning' "$WORK/server" >&2; then die "the API server warned about the chart with cert-manager.yaml"; fi
  [[ $(grep -c '^certificate.cert-manager.io/' "$WORK/server") == 2 ]] || die "the chart has no two Certificates"
  kubectl apply --server-side -f - >/dev/null <<YAML
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: lets-encrypt, namespace: $namespace}
spec: {acme: {server: "https://acme.test/directory", privateKeySecretRef: {name: acme}, solvers: []}}
YAML
  refused_with "names the Issuer lets-encrypt, an ACME issuer" "$values" --namespace "$namespace" --dry-run=server \
    --set certificates.issuerRef.kind=Issuer,certificates.issuerRef.name=lets-encrypt
  say "cert-manager: $(wc -l <"$WORK/server") objects accepted with its CRDs, no warning; an ACME issuer is refused"
}

# A release without an issuer or audience keeps none at an upgrade, unless it is told which.
check_claims_at_upgrade() {
  local namespace=$1 issuer audience
  issuer="AA_ISSUER=\"https://agentwrit-broker.$namespace.svc:8443\"" audience='AA_AUDIENCE="agentwrit:agentwrit.local"'
  claims_are "$namespace" "$issuer" "$audience"
  running "$namespace" --set broker.issuer= --set broker.audience=
  claims_are "$namespace"
  claims_are "$namespace" 'AA_ISSUER="https://a.test"' --set broker.issuer=https://a.test
  notes "$namespace"
  grep -qF "Tokens have no issuer and no audience" "$WORK/notes" || die "the notes of an upgrade don't say that there is no issuer and no audience"
  grep -qF "${issuer#*=\"}" <(sed 's/--set broker.issuer=\([^ ]*\).*/\1"/' "$WORK/notes") || die "the notes of an upgrade don't say how to move"
  running "$namespace" --set broker.audience=
  claims_are "$namespace" "$issuer"
  running "$namespace"
  claims_are "$namespace" "$issuer" "$audience"
  notes "$namespace"
  if grep -qF "Tokens have no" "$WORK/notes"; then die "the notes say that a release with issuer and audience has none"; fi
  say "issuer and audience: kept at upgrades as they were"
}

# A release that keeps its whole audit trail goes on so, unless it is told otherwise.
check_audit_at_upgrade() {
  local namespace=$1 days='AA_AUDIT_RETENTION_DAYS="90"' bytes='AA_AUDIT_MAX_BYTES="644245094"' full='AA_AUDIT_FULL=drop' set
  # As with earlier charts.
  running "$namespace"
  kubectl --namespace "$namespace" set env statefulset/agentwrit-broker AA_AUDIT_RETENTION_DAYS- AA_AUDIT_MAX_BYTES- AA_AUDIT_FULL- >/dev/null
  settings_are "$namespace" AUDIT
  settings_are "$namespace" AUDIT 'AA_AUDIT_RETENTION_DAYS="30"' 'AA_AUDIT_FULL=refuse' --set broker.audit.retentionDays=30 --set broker.audit.full=refuse
  notes "$namespace"
  set="--set broker.audit.retentionDays=90 --set broker.audit.maxBytes=644245094 --set broker.audit.full=drop"
  grep -qF -- "$set" "$WORK/notes" || die "the notes of an upgrade don't say how to bound the audit trail"
  running "$namespace" --set broker.audit.retentionDays=0
  settings_are "$namespace" AUDIT "$days" "$bytes" "$full"
  notes "$namespace"
  if grep -qF "audit trail is kept as before" "$WORK/notes"; then die "the notes say that a release with a bounded audit trail has none"; fi
  say "audit trail: kept at upgrades as it was"
}

# What is kept is kept at the move to a database, and then at the upgrades of the Deployment.
check_claims_with_database() {
  local namespace=$1 database=(--set broker.database.existingSecret=database-uri)
  running "$namespace" --set broker.issuer= --set broker.audience=
  WORKLOAD=deployment
  claims_are "$namespace" "${database[@]}"
  running "$namespace" "${database[@]}" --set broker.issuer= --set broker.audience=
  claims_are "$namespace" "${database[@]}"
  claims_are "$namespace" 'AA_ISSUER="https://a.test"' "${database[@]}" --set broker.issuer=https://a.test
  say "issuer and audience: kept with a database, and at the move to one"
}

WORKLOAD=statefulset   # what the broker is in what is rendered

# running NAMESPACE FLAG...: a broker with such values is what an upgrade finds; without a pod.
running() {
  local namespace=$1
  shift
  kubectl --namespace "$namespace" delete statefulset,deployment agentwrit-broker --ignore-not-found >/dev/null
  render "$IMAGES" --namespace "$namespace" --show-only "templates/broker/$WORKLOAD.yaml" --set broker.persistence.enabled=false "$@" |
    sed 's/^  replicas: 1$/  replicas: 0/' | kubectl apply --server-side -f - >/dev/null
}

# claims_are NAMESPACE VARIABLE... [FLAG...]: what an upgrade would give the broker as issuer and audience.
claims_are() { settings_are "$1" "ISSUER|AUDIENCE" "${@:2}"; }

# settings_are NAMESPACE NAMES VARIABLE... [FLAG...]: likewise as settings whose names begin so.
settings_are() {
  local namespace=$1 names=$2 wanted=()
  shift 2
  while [[ ${1:-} == AA_* ]]; do
    wanted+=("$1")
    shift
  done
  render "$IMAGES" --namespace "$namespace" --show-only "templates/broker/$WORKLOAD.yaml" --dry-run=server "$@" >"$WORK/upgrade.yaml"
  diff <(printf '%s\n' "${wanted[@]}" | grep .) <(environment "$WORK/upgrade.yaml" | grep -E "^AA_($names)[A-Z_]*=") >&2 ||
    die "what an upgrade gives the broker is not as expected ($names)"
}

# What helm says at the end.
notes() {
  helm install agentwrit "$CHART" --namespace "$1" --dry-run=server --take-ownership --values "$IMAGES" | sed '1,/^NOTES:/d' >"$WORK/notes"
}

main "$@"
