{{- /* Names, labels and images that all objects share. */ -}}

{{- define "isthmus.name" -}}
{{- if contains "isthmus" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-isthmus" (.Release.Name | trunc 32 | trimSuffix "-") }}{{ end -}}
{{- end }}

{{- define "isthmus.apiserver.name" -}}{{ include "isthmus.name" . }}-mesh-apiserver{{- end }}
{{- define "isthmus.apiserver.replicas" -}}{{ include "isthmus.name" . }}-mesh-replicas{{- end }}
{{- define "isthmus.agent.name" -}}{{ include "isthmus.name" . }}-node-agent{{- end }}
{{- define "isthmus.tunnel.name" -}}{{ include "isthmus.name" . }}-mesh-tunnel{{- end }}
{{- define "isthmus.cleanup.name" -}}{{ include "isthmus.name" . }}-cleanup{{- end }}

{{- /* What an object of a component is found by. (dict "root" $ "component" "...") */ -}}
{{- define "isthmus.selector" -}}
app.kubernetes.io/name: isthmus
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "isthmus.labels" -}}
{{ include "isthmus.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* A digest names the image alone: no tag can move it. (dict "root" $ "image" .Values.x.image) */ -}}
{{- define "isthmus.image" -}}
{{- $repository := printf "%s/%s" .root.Values.image.registry .image.name -}}
{{- if .image.digest -}}
{{ printf "%s@%s" $repository .image.digest }}
{{- else -}}
{{ printf "%s:%s" $repository (.root.Values.image.tag | default .root.Chart.AppVersion) }}
{{- end -}}
{{- end }}

{{- define "isthmus.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "isthmus.log.env" -}}
- name: ISTHMUS_LOG
  value: {{ .Values.log.filter | quote }}
- name: ISTHMUS_LOG_FORMAT
  value: {{ .Values.log.format | quote }}
{{- end }}

{{- /* livez, readyz: (dict "port" ... "path" ...) */ -}}
{{- define "isthmus.probe" -}}
httpGet:
  path: {{ .path }}
  port: {{ .port }}
{{- end }}
