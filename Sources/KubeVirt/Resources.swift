package import KubernetesAPI

extension KubernetesResource {
    package static let virtualMachines = KubernetesResource(
        group: "kubevirt.io", version: "v1", plural: "virtualmachines")
    package static let virtualMachineInstances = KubernetesResource(
        group: "kubevirt.io", version: "v1", plural: "virtualmachineinstances")
    package static let virtualMachineInstanceMigrations = KubernetesResource(
        group: "kubevirt.io", version: "v1", plural: "virtualmachineinstancemigrations")
}
