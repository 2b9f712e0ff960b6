{{/* The broker's pod: of the StatefulSet with SQLite, of the Deployment with a database. */}}
{{- define "agentwrit.brokerPod" -}}
{{- $database := include "agentwrit.hasDatabase" . -}}
metadata:
  labels:
    {{- include "agentwrit.labels" (dict "root" . "component" "broker") | nindent 4 }}
  {{- $annotations := .Values.podAnnotations }}
  {{- if include "agentwrit.hasCeilings" . }}
  {{- /* Ours last: a changed ceiling must reach the broker. */}}
  {{- $annotations = mergeOverwrite (dict) $annotations (dict "agentwrit.io/scope-ceilings" (include "agentwrit.ceilings" . | sha256sum)) }}
  {{- end }}
  {{- with $annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: agentwrit-broker
  {{- include "agentwrit.imagePullSecrets" . | nindent 2 }}
  securityContext:
    {{- include "agentwrit.podSecurityContext" .Values.broker | nindent 4 }}
  {{- include "agentwrit.scheduling" .Values.broker | nindent 2 }}
  {{- if $database }}
  {{- include "agentwrit.apart" (dict "root" . "component" "broker") | nindent 2 }}
  # preStop, 10 s for requests, 10 s for the store, 2 s for the last probes and threads.
  terminationGracePeriodSeconds: 30
  {{- end }}
  containers:
    - name: broker
      image: {{ include "agentwrit.image" (dict "root" . "component" "broker") | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      {{- $restored := list }}
      {{- if kindIs "string" .Values.broker.restored }}{{ $restored = list (printf "--restored=%s" .Values.broker.restored) }}
      {{- else if .Values.broker.restored }}{{ $restored = list "--restored" }}
      {{- end }}
      {{- with concat $restored (ternary (list "--accept-clock") list .Values.broker.acceptClock) (ternary (list "--adopt-installation") list .Values.broker.adoptInstallation) }}
      args: {{ toJson . }}
      {{- end }}
      securityContext:
        {{- include "agentwrit.containerSecurityContext" . | nindent 8 }}
      env:
        - name: AA_BIND_ADDRESS
          value: "::"
        - name: AA_PORT
          value: "8443"
        - name: AA_OPS_ADDRESS
          value: "[::]:9090"
        - name: AA_TLS_MODE
          value: tls
        - name: AA_TLS_CERT
          value: /var/run/secrets/agentwrit.io/tls/tls.crt
        - name: AA_TLS_KEY
          value: /var/run/secrets/agentwrit.io/tls/tls.key
        - name: AA_SIGNING_KEY_PATH
          value: /var/run/secrets/agentwrit.io/signing/
        - name: AA_SIGNING_KEY_REQUIRED
          value: "true"
        - name: AA_KEY_PUBLISH_SECONDS
          value: {{ include "agentwrit.keys" (dict "root" . "value" "publishSeconds" "default" "600") | quote }}
        # The store is this installation's, and no other's.
        - name: AA_INSTALLATION
          value: {{ printf "%s/%s" .Release.Namespace .Release.Name | quote }}
        {{- if $database }}
        {{- include "agentwrit.databaseSettings" . | nindent 8 }}
        # The key's folder is a Secret. A mark of the pod's own shows a database that loses its last commits meanwhile; what
        # no pod has seen, the annotation of the controller's Lease shows.
        - name: AA_STORE_MARK
          value: /mark/store.mark
        {{- else }}
        - name: AA_DB_PATH
          value: /data/data.db
        # The key's folder is a Secret. What a restore of the whole volume puts back with the store, the annotation
        # of the controller's Lease shows.
        - name: AA_STORE_MARK
          value: /data/store.mark
        {{- end }}
        - name: AA_STORE_REQUIRED
          value: "true"
        {{- with include "agentwrit.audit" (dict "root" . "value" "retentionDays") }}
        - name: AA_AUDIT_RETENTION_DAYS
          value: {{ . | quote }}
        {{- end }}
        {{- with include "agentwrit.audit" (dict "root" . "value" "maxBytes") }}
        - name: AA_AUDIT_MAX_BYTES
          value: {{ . | quote }}
        {{- end }}
        {{- with include "agentwrit.audit" (dict "root" . "value" "full") }}
        - name: AA_AUDIT_FULL
          value: {{ . }}
        {{- end }}
        {{- if .Values.broker.audit.exportClaim }}
        - name: AA_AUDIT_EXPORT_DIR
          value: /audit
        {{- end }}
        {{- if not $database }}
        # The only place where SQLite could spill a large sort.
        - name: SQLITE_TMPDIR
          value: /data
        {{- end }}
        - name: AA_CONFIG_PATH
          value: /etc/broker/config
        - name: AA_TRUST_DOMAIN
          value: {{ .Values.broker.trustDomain | quote }}
        {{- with include "agentwrit.claim" (dict "root" . "value" "issuer") }}
        - name: AA_ISSUER
          value: {{ . | quote }}
        {{- end }}
        {{- with include "agentwrit.claim" (dict "root" . "value" "audience") }}
        - name: AA_AUDIENCE
          value: {{ . | quote }}
        {{- end }}
        - name: AA_MAX_TTL
          value: {{ int64 .Values.broker.maxTTLSeconds | quote }}
        - name: AA_DEFAULT_TTL
          value: {{ int64 .Values.broker.defaultTTLSeconds | quote }}
        - name: AA_APP_TOKEN_TTL
          value: {{ int64 .Values.broker.appTokenTTLSeconds | quote }}
        - name: AA_ADMIN_TOKEN_TTL
          value: {{ int64 .Values.broker.adminTokenTTLSeconds | quote }}
        - name: AA_MAX_SESSION_AGE
          value: {{ int64 .Values.broker.maxSessionAgeSeconds | quote }}
        - name: AA_NBF_SKEW_SECONDS
          value: {{ int64 .Values.broker.nbfSkewSeconds | quote }}
        - name: AA_CHALLENGE_RATE
          value: {{ int64 .Values.broker.challengeRate | quote }}
        - name: AA_REGISTER_RATE
          value: {{ int64 .Values.broker.registerRate | quote }}
        - name: AA_DENIAL_AUDIT_RATE
          value: {{ int64 .Values.broker.denialAuditRate | quote }}
        - name: AA_SESSION_RATE
          value: {{ int64 .Values.broker.sessionRate | quote }}
        - name: AA_MAX_OPEN_DELEGATIONS
          value: {{ int64 .Values.broker.maxOpenDelegations | quote }}
        - name: AA_MAX_SCOPES
          value: {{ int64 .Values.broker.maxScopes | quote }}
        - name: AA_MAX_SCOPE_BYTES
          value: {{ int64 .Values.broker.maxScopeBytes | quote }}
        {{- with .Values.broker.trustedProxies }}
        - name: AA_TRUSTED_PROXIES
          value: {{ join "," . | quote }}
        {{- end }}
        - name: AA_API_METRICS
          value: {{ .Values.broker.apiMetrics | quote }}
        - name: AA_LOG_FORMAT
          value: {{ .Values.broker.logFormat }}
        - name: AA_ATTEST_AUDIENCE
          value: {{ include "agentwrit.audience" . | quote }}
        - name: AA_CONTROLLER_SUBJECT
          value: "system:serviceaccount:{{ .Release.Namespace }}:agentwrit-controller"
        {{- if include "agentwrit.hasCeilings" . }}
        - name: AA_SCOPE_CEILINGS_PATH
          value: /etc/agentwrit/ceilings/ceilings.json
        {{- end }}
        {{- if .Values.admin.existingSecret }}
        - name: AA_ADMIN_SECRET
          valueFrom:
            secretKeyRef:
              name: {{ .Values.admin.existingSecret }}
              key: admin-secret
        {{- else }}
        - name: AA_ADMIN_AUTH
          value: "off"
        {{- end }}
      ports:
        - name: api
          containerPort: 8443
        - name: ops
          containerPort: 9090
      startupProbe:
        httpGet: {path: /livez, port: ops}
        periodSeconds: 1
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /livez, port: ops}
        periodSeconds: 10
        timeoutSeconds: 3
        failureThreshold: 3
      readinessProbe:
        httpGet: {path: /readyz, port: ops}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 2
      {{- if $database }}
      # Until every node has heard that it is going, it serves: others have its place by then.
      lifecycle:
        preStop:
          sleep: {seconds: 5}
      {{- end }}
      resources:
        {{- toYaml .Values.broker.resources | nindent 8 }}
      volumeMounts:
        {{- if $database }}
        - name: mark
          mountPath: /mark
        {{- include "agentwrit.databaseMounts" . | trim | nindent 8 }}
        {{- else }}
        - name: data
          mountPath: /data
        {{- end }}
        # The whole folder: a file mounted by subPath would never change.
        - name: config
          mountPath: /etc/broker
          readOnly: true
        - name: tls
          mountPath: /var/run/secrets/agentwrit.io/tls
          readOnly: true
        - name: signing-key
          mountPath: /var/run/secrets/agentwrit.io/signing
          readOnly: true
        {{- if include "agentwrit.hasCeilings" . }}
        - name: ceilings
          mountPath: /etc/agentwrit/ceilings
          readOnly: true
        {{- end }}
        {{- if .Values.broker.audit.exportClaim }}
        - name: audit
          mountPath: /audit
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: agentwrit-broker
    # Both Secrets are the controller's work; until it has made them this pod waits.
    - name: tls
      secret:
        secretName: agentwrit-broker-tls
        defaultMode: 0440
    - name: signing-key
      secret:
        secretName: agentwrit-signing-key
        defaultMode: 0440
    {{- if include "agentwrit.hasCeilings" . }}
    - name: ceilings
      configMap:
        name: agentwrit-scope-ceilings
    {{- end }}
    {{- with .Values.broker.audit.exportClaim }}
    - name: audit
      persistentVolumeClaim:
        claimName: {{ . }}
    {{- end }}
    {{- if $database }}
    - name: mark
      emptyDir: {sizeLimit: 1Mi}
    {{- include "agentwrit.databaseVolumes" . | trim | nindent 4 }}
    {{- else if not .Values.broker.persistence.enabled }}
    - name: data
      emptyDir: {}
    {{- end }}
{{- end }}
