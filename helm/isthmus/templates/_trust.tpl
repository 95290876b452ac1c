{{- /*
How trust comes into the pods, and nothing else: the CA into mesh-apiserver, enrolment into node-agent.

mesh-apiserver keeps the cluster's CA in a Secret and what agents are to trust in a ConfigMap. It makes both, so that Helm
neither knows the key nor deletes it. An agent shows the token that the kubelet projects into its pod, to a server that the
CAs in the ConfigMap vouch for.
*/ -}}

{{- define "isthmus.trust.secret" -}}
{{ .Values.apiserver.ca.secret | default (printf "%s-ca" (include "isthmus.name" .)) }}
{{- end }}
{{- define "isthmus.trust.configmap" -}}{{ include "isthmus.name" . }}-trust{{- end }}

{{- define "isthmus.trust.apiserver.env" -}}
- name: ISTHMUS_KUBERNETES_CA_SECRET
  value: {{ printf "%s/%s" .Release.Namespace (include "isthmus.trust.secret" .) | quote }}
- name: ISTHMUS_KUBERNETES_TRUST_CONFIGMAP
  value: {{ printf "%s/%s" .Release.Namespace (include "isthmus.trust.configmap" .) | quote }}
- name: ISTHMUS_AGENT_SERVICE_ACCOUNT
  value: {{ printf "%s/%s" .Release.Namespace (include "isthmus.agent.name" .) | quote }}
{{- end }}

{{- define "isthmus.trust.agent.env" -}}
- name: ISTHMUS_ENROL_SERVICE_ACCOUNT_TOKEN_FILE
  value: /var/run/secrets/isthmus/token
- name: ISTHMUS_TRUST_BUNDLE_FILE
  value: /var/run/secrets/isthmus/ca.crt
{{- end }}

{{- define "isthmus.trust.agent.mounts" -}}
- name: enrolment
  mountPath: /var/run/secrets/isthmus
  readOnly: true
{{- end }}

{{- /*
Not optional: a kubelet that waits for the ConfigMap looks again within seconds, and one that has mounted the volume without
it only after a minute or more.
*/ -}}
{{- define "isthmus.trust.agent.volumes" -}}
- name: enrolment
  projected:
    defaultMode: 0400
    sources:
      - serviceAccountToken:
          audience: isthmus
          path: token
          expirationSeconds: 3600
      - configMap:
          name: {{ include "isthmus.trust.configmap" . }}
          items:
            - key: ca.crt
              path: ca.crt
{{- end }}
