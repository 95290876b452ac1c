{{- /*
Names and bindings of what mesh-apiserver's account may do. Each file beside this one holds the rules of one part of the
server, so that it is seen what they are for. (dict "root" $ "part" "source")
*/ -}}

{{- /* Cluster-wide names say which release they are of. */ -}}
{{- define "isthmus.rbac.wide" -}}
{{ printf "%s-%s-%s" .root.Release.Namespace (include "isthmus.apiserver.name" .root) .part }}
{{- end }}

{{- define "isthmus.rbac.own" -}}
{{ printf "%s-%s" (include "isthmus.apiserver.name" .root) .part }}
{{- end }}

{{- define "isthmus.rbac.labels" -}}
{{ include "isthmus.labels" (dict "root" .root "component" "mesh-apiserver") }}
{{- end }}

{{- define "isthmus.rbac.subjects" -}}
subjects:
  - kind: ServiceAccount
    name: {{ include "isthmus.apiserver.name" .root }}
    namespace: {{ .root.Release.Namespace }}
{{- end }}

{{- define "isthmus.rbac.clusterRoleBinding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ include "isthmus.rbac.wide" . }}
  labels:
    {{- include "isthmus.rbac.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ include "isthmus.rbac.wide" . }}
{{ include "isthmus.rbac.subjects" . }}
{{- end }}

{{- define "isthmus.rbac.roleBinding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ include "isthmus.rbac.own" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "isthmus.rbac.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ include "isthmus.rbac.own" . }}
{{ include "isthmus.rbac.subjects" . }}
{{- end }}
