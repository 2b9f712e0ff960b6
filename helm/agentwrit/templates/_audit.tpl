{{/*
How long the audit trail is kept; .root and .value (retentionDays, maxBytes or full) come from the caller's dict. What is
set counts. What isn't set is the chart's own, but for a release whose broker runs without: that one goes on keeping
everything, since an upgrade must not be what deletes audit events. Empty: the broker's own default, which is to keep.
*/}}
{{- define "agentwrit.audit" -}}
{{- $set := index .root.Values.broker.audit .value -}}
{{- if kindIs "string" $set -}}
{{- $set -}}
{{- else if not (kindIs "invalid" $set) -}}
{{- int64 $set -}}
{{- else if not (include "agentwrit.keepsTrail" .) -}}
{{- include (printf "agentwrit.%sOfChart" .value) .root -}}
{{- end -}}
{{- end }}

{{/* "true" when the value is not set and the broker that runs has none. Without a cluster to ask nothing is found. */}}
{{- define "agentwrit.keepsTrail" -}}
{{- if kindIs "invalid" (index .root.Values.broker.audit .value) -}}
{{- $variable := get (dict "retentionDays" "AA_AUDIT_RETENTION_DAYS" "maxBytes" "AA_AUDIT_MAX_BYTES" "full" "AA_AUDIT_FULL") .value -}}
{{- include "agentwrit.runsWithout" (dict "root" .root "variable" $variable) -}}
{{- end -}}
{{- end }}

{{- define "agentwrit.retentionDaysOfChart" -}}
90
{{- end }}

{{- define "agentwrit.fullOfChart" -}}
drop
{{- end }}

{{/* 60 % of the volume, whose size is a quantity such as 1.5Gi. A database has no volume of ours: no bound. */}}
{{- define "agentwrit.maxBytesOfChart" -}}
{{- if not (include "agentwrit.hasDatabase" .) -}}
{{- $size := .Values.broker.persistence.size -}}
{{- $bytes := mulf (include "agentwrit.amount" $size | float64) 0.6 | floor | int64 -}}
{{- if lt $bytes 16777216 -}}
{{- fail (printf "broker.persistence.size %q is too small for an audit trail of 60 %% of it, which takes at least 16 MiB; set broker.audit.maxBytes to 0 or a larger size" $size) -}}
{{- end -}}
{{- $bytes -}}
{{- end -}}
{{- end }}
