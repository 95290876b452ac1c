{{- /* What a schema cannot say: values that do not go together. All mistakes are told at once, each with what to do. */ -}}
{{- define "isthmus.checks" -}}
{{- $wrong := list -}}
{{- with .Values -}}
{{- if and (gt (int .cluster.id) 255) (ne (int .cluster.maxConnectedClusters) 511) -}}
{{- $wrong = append $wrong (printf "cluster.id: %d needs cluster.maxConnectedClusters 511, in all clusters of the mesh" (int .cluster.id)) -}}
{{- end -}}
{{- if and (gt (int .apiserver.replicas) 1) (not .apiserver.advertise.addresses) -}}
{{- $wrong = append $wrong "apiserver.advertise.addresses: several replicas tell one thing to other clusters: name the addresses at which apiserver.service is reached from there" -}}
{{- end -}}
{{- if and (gt (int .apiserver.replicas) 1) (not .apiserver.persistence.enabled) -}}
{{- $wrong = append $wrong "apiserver.persistence.enabled: a replica that loses its state does not come back by itself: use true with more than one replica" -}}
{{- end -}}
{{- if and (ne .apiserver.service.type "NodePort") (not .apiserver.advertise.addresses) -}}
{{- $wrong = append $wrong (printf "apiserver.advertise.addresses: with apiserver.service.type %s nobody but you knows the address at which other clusters reach it: name it, or install with NodePort first and change over when the address is known" .apiserver.service.type) -}}
{{- end -}}
{{- $ports := list (int .agent.ports.vxlan) (int .agent.ports.wireguard) (int .agent.ports.probe) -}}
{{- if ne (len (uniq $ports)) 3 -}}
{{- $wrong = append $wrong "agent.ports: vxlan, wireguard and probe must differ from each other" -}}
{{- end -}}
{{- if and .tunnel.enabled (eq .agent.wireguard "kernel") -}}
{{- $wrong = append $wrong "tunnel.enabled: agent.wireguard is kernel, so that nothing would use it: use auto or userspace" -}}
{{- end -}}
{{- if and (eq .agent.wireguard "userspace") (not .tunnel.enabled) -}}
{{- $wrong = append $wrong "agent.wireguard: userspace needs tunnel.enabled true" -}}
{{- end -}}
{{- end -}}
{{- if $wrong -}}
{{- fail (printf "these values do not go together:\n  %s" (join "\n  " $wrong)) -}}
{{- end -}}
{{- end }}
