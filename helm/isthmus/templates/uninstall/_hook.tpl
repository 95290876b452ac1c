{{- /* After the release, in this order; deleted when all of it has succeeded. */ -}}
{{- define "isthmus.uninstall.hook" -}}
helm.sh/hook: post-delete
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}
