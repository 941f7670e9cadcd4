/// Names that KubeVirt's controllers write (staging/src/kubevirt.io/api/core/v1/types.go).
package enum KubeVirtName {
    /// Label of an instance's pods: the instance's UID.
    package static let createdBy = "kubevirt.io/created-by"
    /// Annotation of the API server's mirror of a static pod: the UID by which the kubelet knows that.
    static let staticPod = "kubernetes.io/config.mirror"
    /// Annotation of a pod: what Multus has made in it.
    package static let networkStatus = "k8s.v1.cni.cncf.io/network-status"
    /// Label of a migration's target pod: the migration's UID. It stays after success.
    package static let migrationJobUID = "kubevirt.io/migrationJobUID"
    /// Annotation of a migration's target pod: the migration's name.
    package static let migrationJobName = "kubevirt.io/migrationJobName"
    /// Annotation of a migration's target pod once the target's domain runs.
    package static let migrationTargetReady = "kubevirt.io/migration-target-ready-timestamp"
    /// Label of a migration: its instance's name.
    package static let migrationOfInstance = "kubevirt.io/vmi-name"
    /// Label of an instance: the node that owns it.
    package static let nodeName = "kubevirt.io/nodeName"
    /// Label of an instance from the hand-over to virt-handler until a migration has ended: the node that it moves to.
    package static let migrationTargetNodeName = "kubevirt.io/migrationTargetNodeName"
}
