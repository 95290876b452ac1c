{{- /* How replicas find each other, and which ports other clusters are told. */ -}}

{{- /* 1=host,2=host,3=host: the same for all replicas. */ -}}
{{- define "isthmus.replica.list" -}}
{{- $hosts := list -}}
{{- range $n := untilStep 1 (int (add1 .Values.apiserver.replicas)) 1 -}}
{{- $pod := printf "%s-%d" (include "isthmus.apiserver.name" $) $n -}}
{{- $hosts = append $hosts (printf "%d=%s.%s.%s.svc.%s" $n $pod (include "isthmus.apiserver.replicas" $) $.Release.Namespace $.Values.cluster.domain) -}}
{{- end -}}
{{- join "," $hosts -}}
{{- end }}

{{- /* The given port, or the one that the Service is reached by from outside. */ -}}
{{- define "isthmus.advertise.port" -}}
{{- if .given -}}{{ .given }}
{{- else if eq .type "NodePort" -}}{{ .node }}
{{- else -}}{{ .port }}
{{- end -}}
{{- end }}
