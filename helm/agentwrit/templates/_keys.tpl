{{/*
How signing keys change; .root, .value (rotateEvery or publishSeconds) and .default come from the caller's dict. The
default counts at an upgrade with --reuse-values, which brings the values of a chart that had none.
*/}}
{{- define "agentwrit.keys" -}}
{{- $set := index (.root.Values.keys | default dict) .value -}}
{{- if kindIs "string" $set -}}
{{- $set -}}
{{- else if kindIs "invalid" $set -}}
{{- .default -}}
{{- else -}}
{{- int64 $set -}}
{{- end -}}
{{- end }}
