"""The fields that exist, of the kinds that are rendered: a misspelt one would be dropped or refused by the server.

Source: Kubernetes API reference, v1.34.
"""

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# kind -> fields of `spec`; None: not looked at (custom resources).
SPEC: Final[dict[str, frozenset[str]]] = {
    kind: _words(fields)
    for kind, fields in {
        "Deployment": "replicas selector strategy template minReadySeconds revisionHistoryLimit paused "
        "progressDeadlineSeconds",
        "StatefulSet": "replicas selector serviceName template updateStrategy volumeClaimTemplates "
        "podManagementPolicy revisionHistoryLimit minReadySeconds persistentVolumeClaimRetentionPolicy ordinals",
        "DaemonSet": "selector template updateStrategy minReadySeconds revisionHistoryLimit",
        "Service": "type selector ports clusterIP externalTrafficPolicy internalTrafficPolicy loadBalancerSourceRanges "
        "loadBalancerClass sessionAffinity sessionAffinityConfig publishNotReadyAddresses ipFamilies ipFamilyPolicy "
        "healthCheckNodePort allocateLoadBalancerNodePorts",
        "HorizontalPodAutoscaler": "scaleTargetRef minReplicas maxReplicas metrics behavior",
        "PodDisruptionBudget": "minAvailable maxUnavailable selector unhealthyPodEvictionPolicy",
        "NetworkPolicy": "podSelector policyTypes ingress egress",
        "PersistentVolumeClaim": "accessModes storageClassName resources volumeName volumeMode selector dataSource "
        "dataSourceRef volumeAttributesClassName",
        "PersistentVolume": "capacity accessModes persistentVolumeReclaimPolicy storageClassName mountOptions csi "
        "volumeMode nodeAffinity claimRef volumeAttributesClassName hostPath local",
        "Ingress": "ingressClassName rules tls defaultBackend",
    }.items()
}

POD: Final = _words(
    "activeDeadlineSeconds affinity automountServiceAccountToken containers dnsConfig dnsPolicy enableServiceLinks "
    "ephemeralContainers hostAliases hostIPC hostNetwork hostPID hostUsers hostname imagePullSecrets initContainers "
    "nodeName nodeSelector os overhead preemptionPolicy priority priorityClassName readinessGates resourceClaims "
    "resources restartPolicy runtimeClassName schedulerName schedulingGates securityContext serviceAccountName "
    "setHostnameAsFQDN shareProcessNamespace subdomain terminationGracePeriodSeconds tolerations "
    "topologySpreadConstraints volumes"
)
CONTAINER: Final = _words(
    "args command env envFrom image imagePullPolicy lifecycle livenessProbe name ports readinessProbe resizePolicy "
    "resources restartPolicy securityContext startupProbe stdin stdinOnce terminationMessagePath "
    "terminationMessagePolicy tty volumeDevices volumeMounts workingDir"
)
PROBE: Final = _words(
    "exec grpc httpGet tcpSocket initialDelaySeconds periodSeconds timeoutSeconds successThreshold failureThreshold "
    "terminationGracePeriodSeconds"
)
HANDLERS: Final = frozenset({"exec", "grpc", "httpGet", "tcpSocket"})
PROBES: Final = ("startupProbe", "readinessProbe", "livenessProbe")
TOP: Final = _words(
    "apiVersion kind metadata spec data binaryData immutable stringData type rules subjects roleRef "
    "automountServiceAccountToken secrets imagePullSecrets aggregationRule"
)
CLUSTER_WIDE: Final = frozenset({"Namespace", "PersistentVolume", "ClusterRole", "ClusterRoleBinding", "StorageClass"})
ACCESS_MODES: Final = frozenset({"ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"})
# What Pod Security's `restricted` allows. Source: Kubernetes documentation, "Pod Security Standards".
VOLUMES: Final = frozenset(
    {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
)
