{{- define "holdfast.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- /* Without the chart's version: a pod is replaced when it changes, not when the chart does. */ -}}
{{- define "holdfast.podLabels" -}}
{{ include "holdfast.selectorLabels" . }}
{{ merge dict (default dict .Values.commonLabels) (dict "app.kubernetes.io/part-of" "holdfast") | toYaml }}
{{- end -}}

{{- /* With the user's, which win: a key that is there twice is no YAML to all who read it. */ -}}
{{- define "holdfast.labels" -}}
{{- merge (include "holdfast.podLabels" . | fromYaml) (dict
    "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_")
    "app.kubernetes.io/version" .Chart.AppVersion
    "app.kubernetes.io/managed-by" .Release.Service) | toYaml -}}
{{- end -}}

{{- define "holdfast.image" -}}
{{- $repository := .Values.image.repository | required "image.repository: no image is published yet. Build one (docs/install.md), and name it here" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.server" -}}{{ include "holdfast.fullname" . }}-server{{- end -}}
{{- define "holdfast.agent" -}}{{ include "holdfast.fullname" . }}-agent{{- end -}}

{{- /* What clients dial. */ -}}
{{- define "holdfast.target" -}}{{ include "holdfast.server" . }}.{{ .Release.Namespace }}.svc:7440{{- end -}}

{{- /* HOST:PORT, with the brackets that an IPv6 address wants. Takes host and port. */ -}}
{{- define "holdfast.hostPort" -}}
{{- printf (ternary "[%s]:%d" "%s:%d" (contains ":" .host)) .host (int .port) -}}
{{- end -}}

{{- define "holdfast.serverSecret" -}}
{{- if eq .Values.tls.mode "secrets" -}}
{{- .Values.tls.secrets.server | required "tls.secrets.server: tls.mode is secrets, so name the server's" -}}
{{- else -}}{{ include "holdfast.server" . }}-tls{{- end -}}
{{- end -}}

{{- define "holdfast.clientSecret" -}}
{{- if eq .Values.tls.mode "secrets" -}}
{{- .Values.tls.secrets.client | required "tls.secrets.client: tls.mode is secrets, so name the clients'" -}}
{{- else -}}{{ include "holdfast.fullname" . }}-client-tls{{- end -}}
{{- end -}}

{{- /* What `holdfast` and the agent need to reach the server. */ -}}
{{- define "holdfast.clientEnvironment" -}}
- name: HOLDFAST_SERVER
  value: {{ include "holdfast.target" . }}
{{- if ne .Values.tls.mode "none" }}
- name: HOLDFAST_TLS_CA
  value: /etc/holdfast/tls/ca.crt
{{- if .Values.tls.clientCertificates }}
- name: HOLDFAST_TLS_CERT
  value: /etc/holdfast/tls/tls.crt
- name: HOLDFAST_TLS_KEY
  value: /etc/holdfast/tls/tls.key
{{- end }}
{{- end }}
{{- if .Values.auth.enabled }}
- name: HOLDFAST_TOKEN_FILE
  value: /etc/holdfast/token/token
{{- end }}
{{- end -}}

{{- /* The volume's items: without client certificates no key is mounted that nobody needs. */ -}}
{{- define "holdfast.clientVolume" -}}
- name: tls
  secret:
    secretName: {{ include "holdfast.clientSecret" . }}
    defaultMode: 0440
    items:
      - {key: ca.crt, path: ca.crt}
      {{- if .Values.tls.clientCertificates }}
      - {key: tls.crt, path: tls.crt}
      - {key: tls.key, path: tls.key}
      {{- end }}
{{- end -}}

{{- /* Who may what. The server's own account is that of `holdfast` in its pod, the test's that of `helm test`. */ -}}
{{- define "holdfast.policy" -}}
{{- if eq .Values.tls.mode "none" }}{{ fail "auth.enabled needs TLS, or tokens could be heard on the way: set tls.mode, or auth.enabled=false" }}{{ end -}}
{{- if and (not .Values.server.kubernetes.enabled) (semverCompare "<1.30.0-0" .Capabilities.KubeVersion.Version) }}{{ fail "auth.enabled needs server.kubernetes.enabled before Kubernetes 1.30: tokens do not name their node there, so the server has to look at their pods. Set it, or auth.enabled=false" }}{{ end -}}
{{- $operator := deepCopy .Values.auth.operator -}}
{{- $own := list (printf "%s/%s" .Release.Namespace (include "holdfast.server" .)) (printf "%s/%s-test" .Release.Namespace (include "holdfast.fullname" .)) -}}
{{- $_ := set $operator "serviceAccounts" (concat $own (default list $operator.serviceAccounts)) -}}
{{- toYaml (dict
    "agent" (dict "serviceAccounts" (list (printf "%s/%s" .Release.Namespace (include "holdfast.agent" .))))
    "operator" $operator
    "reader" .Values.auth.reader) -}}
{{- end -}}

{{- /* A token for this service, for who calls it. */ -}}
{{- define "holdfast.tokenVolume" -}}
- name: token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          audience: {{ .Values.auth.audience }}
          expirationSeconds: {{ .Values.auth.tokenSeconds }}
          path: token
{{- end -}}

{{- define "holdfast.dnsNames" -}}
{{- $server := include "holdfast.server" . -}}
{{- $names := list "localhost" $server (printf "%s.%s" $server .Release.Namespace) (printf "%s.%s.svc" $server .Release.Namespace) (printf "%s.%s.svc.cluster.local" $server .Release.Namespace) (printf "*.%s-headless.%s.svc" $server .Release.Namespace) -}}
{{- range .Values.tls.extraNames }}{{ if not (regexMatch "^[0-9.]+$|:" .) }}{{ $names = append $names . }}{{ end }}{{ end -}}
{{- toJson $names -}}
{{- end -}}

{{- define "holdfast.ipAddresses" -}}
{{- $addresses := list "127.0.0.1" "::1" -}}
{{- range .Values.tls.extraNames }}{{ if regexMatch "^[0-9.]+$|:" . }}{{ $addresses = append $addresses . }}{{ end }}{{ end -}}
{{- toJson $addresses -}}
{{- end -}}
