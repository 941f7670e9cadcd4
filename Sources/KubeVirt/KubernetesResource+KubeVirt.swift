package import KubernetesAPI

extension KubernetesResource {
    package static let virtualMachines = kubeVirt("virtualmachines")
    package static let instances = kubeVirt("virtualmachineinstances")
    package static let migrations = kubeVirt("virtualmachineinstancemigrations")

    private static func kubeVirt(_ plural: String) -> KubernetesResource {
        KubernetesResource(group: "kubevirt.io", version: "v1", plural: plural)
    }
}
