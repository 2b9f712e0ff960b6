{{/* What the agents of each namespace may have at most. */}}

{{- define "agentwrit.hasCeilings" -}}
{{- if or .Values.scopeCeilings (eq .Values.tenancy "strict") }}yes{{ end }}
{{- end }}

{{/* The broker's file. Sorted by namespace, so that equal values have one checksum. */}}
{{- define "agentwrit.ceilings" -}}
{{- dict "tenancy" .Values.tenancy "scopeCeilings" (.Values.scopeCeilings | default dict) | toJson }}
{{- end }}

{{/* Longer than a ConfigMap can be, or than the broker reads. */}}
{{- define "agentwrit.checkCeilings" -}}
{{- if gt (len (include "agentwrit.ceilings" .)) 1000000 }}
{{- fail "scopeCeilings must be at most 1000000 bytes of JSON: use wider scopes, such as read:orders:*" }}
{{- end }}
{{- end }}
