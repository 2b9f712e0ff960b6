{{/* "true" when the store is in PostgreSQL: by its host, or by a Secret with the whole URL. */}}
{{- define "agentwrit.hasDatabase" -}}
{{- $database := .Values.broker.database | default dict -}}
{{- if or $database.host $database.existingSecret -}}true{{- end -}}
{{- end }}

{{/* Brokers that run side by side. Without a value, which an upgrade with --reuse-values may bring, one. */}}
{{- define "agentwrit.replicas" -}}
{{- $replicas := int64 (default 1 .Values.broker.replicas) -}}
{{- if and (gt $replicas 1) (not (include "agentwrit.hasDatabase" .)) -}}
{{- fail (printf "broker.replicas is %d, but SQLite has one writer: set broker.database.host to a PostgreSQL, or broker.database.existingSecret to a Secret with its URL, or replicas to 1" $replicas) -}}
{{- end -}}
{{- $replicas -}}
{{- end }}

{{/* How the broker's workload is called in kubectl. */}}
{{- define "agentwrit.brokerKind" -}}
{{- if include "agentwrit.hasDatabase" . -}}deployment{{- else -}}statefulset{{- end -}}
{{- end }}

{{/* Fails with a sentence where what is said of the database doesn't fit together. */}}
{{- define "agentwrit.checkDatabase" -}}
{{- $database := .Values.broker.database | default dict -}}
{{- $secretCA := ($database.ca).existingSecret -}}
{{- $configMapCA := ($database.ca).existingConfigMap -}}
{{- $certificate := ($database.clientCertificate).existingSecret -}}
{{- if and $secretCA $configMapCA -}}
{{- fail (printf "broker.database.ca names both Secret %q and ConfigMap %q: leave one of existingSecret and existingConfigMap empty" $secretCA $configMapCA) -}}
{{- end -}}
{{- if and (include "agentwrit.hasDatabase" .) (eq (toString .Values.broker.restored) "true") -}}
{{- fail "broker.restored is true, and each broker that starts on the database would begin an epoch: set it to the time at which the copy was put back, such as 2026-11-30T12:00:00Z" -}}
{{- end -}}
{{- if $database.host -}}
{{- include "agentwrit.checkDatabaseHost" $database -}}
{{- else -}}
{{- range $value, $default := dict "port" 5432 "name" "agentwrit" "user" "agentwrit" "sslmode" "verify-full" "poolSize" 8 "poolWaitSeconds" 2 -}}
{{- $set := index $database $value -}}
{{- if not (or (kindIs "invalid" $set) (eq (toString $set) (toString $default))) -}}
{{- fail (printf "broker.database.%s is %s, which counts only where broker.database.host is set: set that, or say it in the URL that the Secret of broker.database.existingSecret holds" $value (toString $set)) -}}
{{- end -}}
{{- end -}}
{{- if and (or $secretCA $configMapCA $certificate) (not $database.existingSecret) -}}
{{- fail "broker.database has a CA or a client certificate, but names no database: set broker.database.host to a PostgreSQL, or broker.database.existingSecret to a Secret with its URL" -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "agentwrit.checkDatabaseHost" -}}
{{- $ca := or (.ca).existingSecret (.ca).existingConfigMap -}}
{{- $certificate := (.clientCertificate).existingSecret -}}
{{- if eq (default "verify-full" .sslmode) "disable" -}}
{{- if or $ca $certificate -}}
{{- fail "broker.database.sslmode is disable, so that neither broker.database.ca nor broker.database.clientCertificate is used: leave both empty, or set sslmode to verify-full" -}}
{{- end -}}
{{- else if not $ca -}}
{{- fail (printf "broker.database.host is %q, but no CA is named to check its certificate by: set broker.database.ca.existingConfigMap or broker.database.ca.existingSecret, or broker.database.sslmode to disable" .host) -}}
{{- end -}}
{{- if not (or .existingSecret $certificate) -}}
{{- fail (printf "broker.database.host is %q, but nothing shows it who the broker is: set broker.database.existingSecret to a Secret with the password, or broker.database.clientCertificate.existingSecret" .host) -}}
{{- end -}}
{{- end }}

{{/* The broker's settings of its database. No secret is among them: those are files. */}}
{{- define "agentwrit.databaseSettings" -}}
{{- $database := .Values.broker.database -}}
{{- if $database.host -}}
{{- $query := list (printf "sslmode=%s" (default "verify-full" $database.sslmode)) -}}
{{- if or ($database.ca).existingSecret ($database.ca).existingConfigMap -}}
{{- $query = append $query "sslrootcert=/etc/agentwrit/database-ca/ca.crt" -}}
{{- end -}}
{{- if ($database.clientCertificate).existingSecret -}}
{{- $folder := "/var/run/secrets/agentwrit.io/database-client" -}}
{{- $query = concat $query (list (printf "sslcert=%s/tls.crt" $folder) (printf "sslkey=%s/tls.key" $folder)) -}}
{{- end -}}
{{- $query = append $query (printf "pool_size=%d" (int64 (default 8 $database.poolSize))) -}}
{{- $query = append $query (printf "pool_wait_seconds=%d" (int64 (default 2 $database.poolWaitSeconds))) -}}
{{- $user := default "agentwrit" $database.user | urlquery -}}
{{- $name := default "agentwrit" $database.name | urlquery -}}
- name: AA_DATABASE_URL
  value: {{ printf "postgres://%s@%s:%d/%s?%s" $user $database.host (int64 (default 5432 $database.port)) $name (join "&" $query) | quote }}
{{- if $database.existingSecret }}
- name: AA_DATABASE_PASSWORD_FILE
  value: /var/run/secrets/agentwrit.io/database/password
{{- end }}
{{- else -}}
- name: AA_DATABASE_URL_FILE
  value: /var/run/secrets/agentwrit.io/database/url
{{- end -}}
{{- end }}

{{- define "agentwrit.databaseMounts" -}}
{{- $database := .Values.broker.database -}}
{{- if $database.existingSecret }}
- name: database
  mountPath: /var/run/secrets/agentwrit.io/database
  readOnly: true
{{- end }}
{{- if or ($database.ca).existingSecret ($database.ca).existingConfigMap }}
- name: database-ca
  mountPath: /etc/agentwrit/database-ca
  readOnly: true
{{- end }}
{{- if ($database.clientCertificate).existingSecret }}
- name: database-client
  mountPath: /var/run/secrets/agentwrit.io/database-client
  readOnly: true
{{- end }}
{{- end }}

{{/* Whole folders: what is mounted by subPath would never change. */}}
{{- define "agentwrit.databaseVolumes" -}}
{{- $database := .Values.broker.database -}}
{{- $ca := list (dict "key" (default "ca.crt" ($database.ca).key) "path" "ca.crt") -}}
{{- with $database.existingSecret }}
- name: database
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    {{- if $database.host }}
    items: [{key: {{ default "password" $database.passwordKey | quote }}, path: password}]
    {{- else }}
    items: [{key: {{ default "url" $database.urlKey | quote }}, path: url}]
    {{- end }}
{{- end }}
{{- with ($database.ca).existingSecret }}
- name: database-ca
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: {{ toJson $ca }}
{{- end }}
{{- with ($database.ca).existingConfigMap }}
- name: database-ca
  configMap:
    name: {{ . }}
    items: {{ toJson $ca }}
{{- end }}
{{- with ($database.clientCertificate).existingSecret }}
- name: database-client
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: [{key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}]
{{- end }}
{{- end }}
