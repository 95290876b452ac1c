{{- /*
How trust comes into the pods, and nothing else: the CA into mesh-apiserver, enrolment into node-agent.

Today people bring both, as Secrets: the CA where there are several replicas, a token for each node. When agents enrol by
their ServiceAccount and replicas keep their CA in a Secret by themselves, this is the one file to change.
*/ -}}

{{- define "isthmus.trust.apiserver.env" -}}
{{- if .Values.apiserver.ca.existingSecret }}
- name: ISTHMUS_CA_SEED_DIR
  value: /var/run/secrets/isthmus/ca
{{- end }}
{{- end }}

{{- define "isthmus.trust.apiserver.mounts" -}}
{{- if .Values.apiserver.ca.existingSecret }}
- name: ca
  mountPath: /var/run/secrets/isthmus/ca
  readOnly: true
{{- end }}
{{- end }}

{{- define "isthmus.trust.apiserver.volumes" -}}
{{- with .Values.apiserver.ca.existingSecret }}
- name: ca
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items:
      - key: ca.crt
        path: ca.crt
      - key: ca.key
        path: ca.key
{{- end }}
{{- end }}

{{- define "isthmus.trust.agent.env" -}}
- name: ISTHMUS_ENROL_TOKEN_FILE
  value: /var/run/secrets/isthmus/enrol/$(ISTHMUS_NODE_NAME)
{{- end }}

{{- define "isthmus.trust.agent.mounts" -}}
- name: enrol
  mountPath: /var/run/secrets/isthmus/enrol
  readOnly: true
{{- end }}

{{- /* Optional: an enrolled node needs it no more, and a new one waits until its token is there. */ -}}
{{- define "isthmus.trust.agent.volumes" -}}
- name: enrol
  secret:
    secretName: {{ .Values.agent.enrolment.tokenSecret }}
    optional: true
    defaultMode: 0400
{{- end }}
