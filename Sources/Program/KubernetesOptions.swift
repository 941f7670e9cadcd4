package import ArgumentParser
package import KubernetesAPI

/// Which API server is meant: `--kubeconfig` and `--kube-context`, else the service account of the pod.
package struct KubernetesOptions: ParsableArguments {
    @Option(
        help: "The kubeconfig file of the API server; without one, the service account of the pod that this runs in.")
    package var kubeconfig: String?

    @Option(help: "The context in the kubeconfig file; without one, its current one.")
    package var kubeContext: String?

    package static let variables = ["kubeconfig", "kube-context"]

    package init() {}

    /// Throws `Failure`.
    package var configuration: KubernetesConfiguration {
        get throws {
            do throws(KubernetesError) {
                if let kubeconfig { return try .kubeconfig(kubeconfig, context: kubeContext) }
                return try .inCluster()
            } catch {
                throw Failure("which API server is meant cannot be told: \(error.message)")
            }
        }
    }
}
