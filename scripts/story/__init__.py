"""The demo: Holdfast's real programs and the real bridge plugin, with KubeVirt's and the kubelet's parts played."""
