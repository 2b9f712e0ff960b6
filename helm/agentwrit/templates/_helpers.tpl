{{/* Labels of every object; .component comes from the caller's dict. */}}
{{- define "agentwrit.labels" -}}
app.kubernetes.io/name: agentwrit
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* What selects the pods of a component; never changes. */}}
{{- define "agentwrit.selector" -}}
app.kubernetes.io/name: agentwrit
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* The audience of the ServiceAccount tokens by which pods and the controller show who they are. */}}
{{- define "agentwrit.audience" -}}
agentwrit://{{ .Release.Namespace }}/{{ .Release.Name }}
{{- end }}

{{/* What Pod Security "restricted" asks of a pod; the fixed ids are left out where the platform chooses. */}}
{{- define "agentwrit.podSecurityContext" -}}
runAsNonRoot: true
{{- with .uid }}
runAsUser: {{ int64 . }}
runAsGroup: {{ int64 . }}
fsGroup: {{ int64 . }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "agentwrit.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where pods of a component may run. */}}
{{- define "agentwrit.scheduling" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* Apart where nodes and zones allow it, and not at the price of a replica that can't start. */}}
{{- define "agentwrit.apart" -}}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "agentwrit.selector" $ | nindent 8 }}
    # Those of the revision before are on their way out.
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}

{{- define "agentwrit.imagePullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Annotations that mean something on a pod, the webhook's POD_ANNOTATIONS (a test of the policies compares them). */}}
{{- define "agentwrit.ownAnnotations" -}}
- agentwrit.io/launch-token
- agentwrit.io/scopes
- agentwrit.io/ttl-seconds
- agentwrit.io/containers
- agentwrit.io/endpoint
- agentwrit.io/start-gate
- agentwrit.io/token-file-gid
- agentwrit.io/allow-shared-pids
- agentwrit.io/allow-shared-pid
- agentwrit.io/sidecar-cpu-request
- agentwrit.io/sidecar-cpu-limit
- agentwrit.io/sidecar-memory-request
- agentwrit.io/sidecar-memory-limit
{{- end }}

{{/* The number that a quantity such as 1.5Gi or 100m is. */}}
{{- define "agentwrit.amount" -}}
{{- $units := dict "m" 0.001 "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $text := toString . -}}
{{- $unit := regexFind "[A-Za-z]*$" $text -}}
{{- mulf (float64 (trimSuffix $unit $text)) (float64 (get $units $unit)) -}}
{{- end }}
