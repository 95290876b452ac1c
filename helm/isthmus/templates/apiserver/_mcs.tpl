{{- /* What mesh-apiserver needs to make the objects of the MCS API: the flag, and the rights beside those of the source. */ -}}

{{- define "isthmus.mcs.apiserver.env" -}}
{{- if .Values.mcs.enabled }}
- name: ISTHMUS_MCS_API
  value: "true"
{{- end }}
{{- end }}

{{- define "isthmus.mcs.rules" -}}
- apiGroups: [multicluster.x-k8s.io]
  resources: [serviceimports]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [multicluster.x-k8s.io]
  resources: [serviceimports/status, serviceexports/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [services]
  verbs: [create, patch, delete]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [create, patch, delete]
{{- end }}
