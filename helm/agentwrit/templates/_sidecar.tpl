{{/*
sidecar.resources as the controller takes them, in JSON. Of a request and a limit that don't fit each other the one that
is as the chart has it follows, like the annotations of a pod; bounds are the controller's (webhook/resources.rs).
*/}}
{{- define "agentwrit.sidecarResources" -}}
{{- $resources := deepCopy .Values.sidecar.resources -}}
{{- $rules := dict
  "cpu" (dict "chart" "5m" "most" "2" "least" (dict "requests" "1m" "limits" "10m"))
  "memory" (dict "chart" "16Mi" "most" "1Gi" "least" (dict "requests" "4Mi" "limits" "16Mi")) -}}
{{- range $name, $rule := $rules -}}
{{- $amounts := dict -}}
{{- range $row, $least := $rule.least -}}
{{- $value := index $resources $row $name -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := unset (index $resources $row) $name -}}
{{- else -}}
{{- $amount := include "agentwrit.amount" $value | float64 -}}
{{- if or (lt $amount (include "agentwrit.amount" $least | float64)) (gt $amount (include "agentwrit.amount" $rule.most | float64)) -}}
{{- fail (printf "sidecar.resources.%s.%s is %q; it must be between %s and %s" $row $name (toString $value) $least $rule.most) -}}
{{- end -}}
{{- $_ := set $amounts $row $amount -}}
{{- end -}}
{{- end -}}
{{- if and (hasKey $amounts "limits") (gt (get $amounts "requests" | float64) (get $amounts "limits" | float64)) -}}
{{- $request := index $resources.requests $name -}}
{{- $limit := index $resources.limits $name -}}
{{- if eq (toString $limit) $rule.chart -}}
{{- $_ := set $resources.limits $name $request -}}
{{- else if eq (toString $request) $rule.chart -}}
{{- $_ := set $resources.requests $name $limit -}}
{{- else -}}
{{- fail (printf "sidecar.resources.requests.%s is %q; it must be at most sidecar.resources.limits.%s, %q" $name (toString $request) $name (toString $limit)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $resources -}}
{{- end }}

{{- define "agentwrit.sidecarGuaranteedCPU" -}}
{{- $value := .Values.sidecar.guaranteedCPU -}}
{{- $amount := include "agentwrit.amount" $value | float64 -}}
{{- if or (lt $amount (include "agentwrit.amount" "10m" | float64)) (gt $amount (include "agentwrit.amount" "2" | float64)) -}}
{{- fail (printf "sidecar.guaranteedCPU is %q; it must be between 10m and 2" (toString $value)) -}}
{{- end -}}
{{- $value -}}
{{- end }}
