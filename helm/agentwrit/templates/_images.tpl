{{/*
The image of a component (broker, controller or sidecar), by digest or else by tag; .root and .component come from the
caller's dict. There is no default repository: a name that nobody holds yet can become anybody's, and the sidecar runs
in every injected pod.
*/}}
{{- define "agentwrit.image" -}}
{{- include "agentwrit.namedImages" .root -}}
{{- $value := printf "%s.image" .component -}}
{{- $image := (index .root.Values .component).image -}}
{{- $repository := include "agentwrit.repository" (dict "value" (printf "%s.repository" $value) "repository" $image.repository) -}}
{{- with $image.digest -}}
{{- include "agentwrit.checkDigest" (dict "value" (printf "%s.digest" $value) "digest" .) -}}
{{- printf "%s@%s" $repository . -}}
{{- else -}}
{{- $tag := $image.tag | default .root.Chart.AppVersion -}}
{{- include "agentwrit.checkTag" (dict "value" (printf "%s.tag" $value) "tag" $tag) -}}
{{- printf "%s:%s" $repository $tag -}}
{{- end -}}
{{- end }}

{{/* Fails with all repositories that are not set. */}}
{{- define "agentwrit.namedImages" -}}
{{- $missing := list -}}
{{- range $component := list "broker" "controller" "sidecar" -}}
{{- if not (index $.Values $component).image.repository -}}
{{- $missing = append $missing (printf "%s.image.repository" $component) -}}
{{- end -}}
{{- end -}}
{{- if $missing -}}
{{- fail (printf "no image is named: set %s to where you pushed the images of \"make release\", such as ghcr.io/ORGANISATION/agentwrit-broker (docs/install.md)" (join ", " $missing)) -}}
{{- end -}}
{{- end }}

{{/* A repository that names its registry, and nothing more. */}}
{{- define "agentwrit.repository" -}}
{{- $part := "[a-z0-9]+(?:(?:[.]|_|__|-+)[a-z0-9]+)*" -}}
{{- $path := printf "%s(?:/%s)*" $part $part -}}
{{- $label := "[a-z0-9](?:[a-z0-9-]*[a-z0-9])?" -}}
{{- $host := printf "(?:(?:localhost|%s(?:[.]%s)+)(?::[0-9]{1,5})?|%s:[0-9]{1,5}|\\[[0-9a-f:]+\\](?::[0-9]{1,5})?)" $label $label $label -}}
{{- if include "agentwrit.isPlaceholder" .repository -}}
{{- fail (printf "%s is %q, a placeholder: set it to where you pushed the image, such as ghcr.io/ORGANISATION/agentwrit-broker" .value .repository) -}}
{{- else if contains "@" .repository -}}
{{- fail (printf "%s is %q, which holds a digest: set %s to it, and leave the name without it" .value .repository (.value | replace "repository" "digest")) -}}
{{- else if contains ":" (last (splitList "/" .repository)) -}}
{{- fail (printf "%s is %q, which holds a tag or nothing but a host: set %s to the tag, and this to registry and name" .value .repository (.value | replace "repository" "tag")) -}}
{{- else if regexMatch (printf "^%s/%s$" $host $path) .repository -}}
{{- .repository -}}
{{- else if regexMatch (printf "^%s$" $path) .repository -}}
{{- fail (printf "%s is %q, which names no registry, so nodes would look for it on Docker Hub, whoever has that name there: begin it with the registry's host, such as docker.io/%s" .value .repository .repository) -}}
{{- else -}}
{{- fail (printf "%s is %q, which is not the name of an image: it must be host[:port]/name in lower case, such as ghcr.io/organisation/agentwrit-broker" .value .repository) -}}
{{- end -}}
{{- end }}

{{- define "agentwrit.checkDigest" -}}
{{- $hex := trimPrefix "sha256:" .digest -}}
{{- if not (regexMatch "^sha256:[0-9a-f]{64}$" .digest) -}}
{{- fail (printf "%s is %q: it must be sha256: and 64 lower-case hexadecimal digits" .value .digest) -}}
{{- else if not (trimAll (substr 0 1 $hex) $hex) -}}
{{- fail (printf "%s is %q, a placeholder: set it to the digest that the registry shows, or leave it out" .value .digest) -}}
{{- end -}}
{{- end }}

{{- define "agentwrit.checkTag" -}}
{{- if include "agentwrit.isPlaceholder" .tag -}}
{{- fail (printf "%s is %q, a placeholder: set it to the tag that you pushed" .value .tag) -}}
{{- else if not (regexMatch "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$" .tag) -}}
{{- fail (printf "%s is %q, which is not a tag: it must be 1 to 128 of A-Z, a-z, 0-9, _, . and -, and begin with none of the last two" .value .tag) -}}
{{- end -}}
{{- end }}

{{/* "true" for what examples and templates leave to be filled in; also for the names that RFC 2606 keeps for examples. */}}
{{- define "agentwrit.isPlaceholder" -}}
{{- $patterns := list
      "[<>{}$]|[.]{3}|…"
      "(^|[./-])example([.](com|net|org|edu))?(:[0-9]+)?(/|$)"
      "[.](example|invalid)(:[0-9]+)?(/|$)"
      "(^|[^a-z])your([-_.]|registry|repo|org|company|name|account|project|user|domain|image|tag)"
      "(^|[^a-z])((change|replace|fix)[-_]?me|placeholder|tbd|xxx+|organisation|organization)([^a-z]|$)" -}}
{{- range $patterns -}}
{{- if regexMatch . (lower $) -}}true{{- end -}}
{{- end -}}
{{- end }}
