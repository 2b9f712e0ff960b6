{{/* Not empty where cert-manager signs. Values of a release before have no such settings. */}}
{{- define "agentwrit.certManager" -}}
{{- $certificates := default dict .Values.certificates -}}
{{- if eq (default "own" $certificates.mode) "cert-manager" -}}
{{- if not (dig "issuerRef" "name" "" $certificates) -}}
{{- fail "certificates.mode is cert-manager: certificates.issuerRef.name must name an Issuer of the release namespace, or a ClusterIssuer (certificates.issuerRef.kind)" -}}
{{- end -}}
true
{{- end -}}
{{- end }}

{{/* Seconds of a duration in hours or minutes, such as 720h or 90m. */}}
{{- define "agentwrit.seconds" -}}
{{- if hasSuffix "h" . }}{{ mul (trimSuffix "h" . | int64) 3600 }}{{ else }}{{ mul (trimSuffix "m" . | int64) 60 }}{{ end -}}
{{- end }}

{{/* How long before their end certificates are renewed: a third of their life, or as it is set. */}}
{{- define "agentwrit.renewBefore" -}}
{{- $certificates := .Values.certificates -}}
{{- $life := include "agentwrit.seconds" $certificates.life | int64 -}}
{{- $before := $certificates.renewBefore | default (printf "%dm" (div $life 180)) -}}
{{- $seconds := include "agentwrit.seconds" $before | int64 -}}
{{- $overlap := include "agentwrit.seconds" $certificates.caOverlap | int64 -}}
{{- if or (ge $seconds $life) (lt $seconds (mul 3 $overlap)) -}}
{{- fail (printf "certificates.renewBefore is %s: it must be shorter than certificates.life (%s), and at least three times certificates.caOverlap (%s), so that another CA is trusted everywhere before a certificate ends" $before $certificates.life $certificates.caOverlap) -}}
{{- end -}}
{{ $before }}
{{- end }}

{{/* Refuses what can be seen to fail; where the cluster can't be asked (helm template), nothing can. */}}
{{- define "agentwrit.checkIssuer" -}}
{{- $reference := .Values.certificates.issuerRef -}}
{{- if not (lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" "certificates.cert-manager.io") -}}
{{- if lookup "v1" "Namespace" "" "kube-system" -}}
{{- fail "certificates.mode is cert-manager, and this cluster has no Certificates of cert-manager.io: install cert-manager first" -}}
{{- end -}}
{{- else if eq $reference.group "cert-manager.io" -}}
{{- $namespace := ternary .Release.Namespace "" (eq $reference.kind "Issuer") -}}
{{- $issuer := lookup "cert-manager.io/v1" $reference.kind $namespace $reference.name -}}
{{- if dig "spec" "acme" "" (default dict $issuer) -}}
{{- fail (printf "certificates.issuerRef names the %s %s, an ACME issuer: those don't say by what their certificates are trusted (ca.crt is empty); name one that does, such as a CA or Vault issuer" $reference.kind $reference.name) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* What cert-manager is to issue: .name of the Certificate and its Secret, .service whose names it is for. */}}
{{- define "agentwrit.certificate" -}}
{{- $certificates := .root.Values.certificates -}}
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "agentwrit.labels" (dict "root" .root "component" .component) | nindent 4 }}
spec:
  secretName: {{ .name }}
  dnsNames:
    - {{ .service }}.{{ .root.Release.Namespace }}.svc
    - {{ .service }}.{{ .root.Release.Namespace }}.svc.cluster.local
    - {{ .service }}.{{ .root.Release.Namespace }}
    - {{ .service }}
    {{- if eq .component "broker" }}
    # What kubectl port-forward and awrit call it.
    - localhost
  ipAddresses: [127.0.0.1]
    {{- end }}
  duration: {{ $certificates.life }}
  renewBefore: {{ include "agentwrit.renewBefore" .root }}
  privateKey: {algorithm: ECDSA, size: 256, rotationPolicy: Always}
  usages: [digital signature, server auth]
  issuerRef:
    {{- toYaml $certificates.issuerRef | nindent 4 }}
{{- end }}
