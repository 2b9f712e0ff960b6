{{/*
What tokens say in the claims iss and aud; .root and .value (issuer or audience) come from the caller's dict. What is set
counts, also when it is empty. What isn't set is the chart's own, but for a release whose broker runs without: with a
claim of another value all its tokens would be refused at the upgrade.
*/}}
{{- define "agentwrit.claim" -}}
{{- $set := index .root.Values.broker .value -}}
{{- if kindIs "string" $set -}}
{{- $set -}}
{{- else if not (include "agentwrit.keepsNone" .) -}}
{{- include (printf "agentwrit.%sOfChart" .value) .root -}}
{{- end -}}
{{- end }}

{{- define "agentwrit.issuerOfChart" -}}
https://agentwrit-broker.{{ .Release.Namespace }}.svc:8443
{{- end }}

{{- define "agentwrit.audienceOfChart" -}}
agentwrit:{{ .Values.broker.trustDomain }}
{{- end }}

{{/*
"true" when the claim is not set and the broker that runs has none. Without a cluster to ask (helm template, and what
renders by it) nothing is found.
*/}}
{{- define "agentwrit.keepsNone" -}}
{{- if not (kindIs "string" (index .root.Values.broker .value)) -}}
{{- include "agentwrit.runsWithout" (dict "root" .root "variable" (printf "AA_%s" (upper .value))) -}}
{{- end -}}
{{- end }}

{{/* "true" when a broker runs, of either kind, and .variable isn't among its environment. */}}
{{- define "agentwrit.runsWithout" -}}
{{- $namespace := .root.Release.Namespace -}}
{{- $running := or (lookup "apps/v1" "StatefulSet" $namespace "agentwrit-broker") (lookup "apps/v1" "Deployment" $namespace "agentwrit-broker") -}}
{{- if $running -}}
{{- $variable := .variable -}}
{{- $has := false -}}
{{- range $container := $running.spec.template.spec.containers -}}
{{- range $env := $container.env -}}
{{- if and (eq $container.name "broker") (eq $env.name $variable) $env.value -}}
{{- $has = true -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if not $has -}}true{{- end -}}
{{- end -}}
{{- end }}
