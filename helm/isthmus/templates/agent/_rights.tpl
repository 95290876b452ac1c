{{- /* Root's number, and of root's rights only those that are named. (dict "privileged" bool "add" (list ...)) */ -}}
{{- define "isthmus.agent.rights" -}}
runAsUser: 0
readOnlyRootFilesystem: true
{{- if .privileged }}
privileged: true
{{- else }}
allowPrivilegeEscalation: false
seccompProfile:
  type: {{ if has "BPF" .add }}Unconfined{{ else }}RuntimeDefault{{ end }}
capabilities:
  drop: [ALL]
  add:
    {{- range .add }}
    - {{ . }}
    {{- end }}
{{- end }}
{{- end }}
