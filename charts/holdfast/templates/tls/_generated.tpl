{{- /*
Certificates that Helm makes: CA, server's, clients'. Those in the cluster are kept: the CA always, the others as long as the
CA has signed them for the same names. Made once a rendering, so that what pods are told of them is what the Secrets hold.
*/ -}}
{{- define "holdfast.generated" -}}
{{- if not (hasKey .Values "generatedCertificates") -}}
{{- $days := int .Values.tls.generated.validityDays -}}
{{- $fullname := include "holdfast.fullname" . -}}
{{- $ca := dict -}}
{{- with lookup "v1" "Secret" .Release.Namespace (printf "%s-ca" $fullname) -}}
{{- $ca = buildCustomCert (index .data "tls.crt") (index .data "tls.key") -}}
{{- else -}}
{{- $ca = genCAWithKey (printf "%s-ca" $fullname) $days (genPrivateKey "ecdsa") -}}
{{- end -}}
{{- $made := dict "ca" (dict "tls.crt" (b64enc $ca.Cert) "tls.key" (b64enc $ca.Key)) -}}
{{- $wanted := dict
    "server" (dict "secret" (include "holdfast.serverSecret" .) "cn" (include "holdfast.server" .) "ips" (include "holdfast.ipAddresses" . | fromJsonArray) "dns" (include "holdfast.dnsNames" . | fromJsonArray))
    "client" (dict "secret" (include "holdfast.clientSecret" .) "cn" (include "holdfast.agent" .) "ips" list "dns" list) -}}
{{- range $role, $it := $wanted -}}
{{- $names := printf "%s %s" (toJson $it.ips) (toJson $it.dns) | sha256sum -}}
{{- $kept := lookup "v1" "Secret" $.Release.Namespace $it.secret | default dict -}}
{{- $data := dig "data" dict $kept -}}
{{- if or (ne (dig "ca.crt" "" $data) (b64enc $ca.Cert)) (ne (dig "metadata" "annotations" "holdfast.dev/names" "" $kept) $names) -}}
{{- $new := genSignedCertWithKey $it.cn $it.ips $it.dns $days $ca (genPrivateKey "ecdsa") -}}
{{- $data = dict "ca.crt" (b64enc $ca.Cert) "tls.crt" (b64enc $new.Cert) "tls.key" (b64enc $new.Key) -}}
{{- end -}}
{{- $_ := set $made $role (merge (dict "names" $names "secret" $it.secret) $data) -}}
{{- end -}}
{{- $_ := set .Values "generatedCertificates" $made -}}
{{- end -}}
{{- end -}}

{{- /* Pods are replaced when their certificate is. Takes the root and the role. */ -}}
{{- define "holdfast.certificateChecksum" -}}
{{- if eq .root.Values.tls.mode "generated" -}}
{{- include "holdfast.generated" .root -}}
checksum/certificate: {{ get .root.Values.generatedCertificates .role | toJson | sha256sum }}
{{- end -}}
{{- end -}}
