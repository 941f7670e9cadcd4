import Addresses
import CNI
import IPAMModel
import KubeVirt
package import KubernetesAPI
package import Logging
import ServiceLifecycle
import Synchronization

/// What the agent writes into the cluster for people to read: Events, and annotations of pods where they are asked for.
/// Written in the background, in nobody's way; lost where the API server takes none.
package final class ClusterNotes: Service {
    /// Annotations that wait.
    private static let limit = 256
    private static let interval = Duration.milliseconds(200)

    private struct Annotation: Sendable {
        var namespace: String
        var pod: String
        var values: [String: String]
    }

    let events: EventRecorder
    private let client: KubernetesClient
    private let annotatesPods: Bool
    private let log: Logger
    private let annotations = Mutex<[Annotation]>([])

    package init(node: String, client: KubernetesClient, annotatesPods: Bool, log: Logger) {
        self.client = client
        self.annotatesPods = annotatesPods
        self.log = log
        events = EventRecorder(client: client, component: "holdfast-agent", instance: node, log: log)
    }

    package func run() async throws {
        await cancelWhenGracefulShutdown {
            await withDiscardingTaskGroup { tasks in
                tasks.addTask { await self.events.run() }
                if self.annotatesPods { tasks.addTask { await self.annotate() } }
            }
        }
    }

    /// An ADD was answered: with the VM's addresses, old or new, or with those that come with its migration.
    func attached(_ identity: PodIdentity, _ interface: String, _ binding: Binding) {
        if let active = binding.active, active.podUID == identity.pod.metadata.uid {
            let isNew = binding.createdAt == binding.updatedAt
            record(
                isNew ? .allocated : .held, of: identity,
                """
                \(binding.eventText), MAC \(binding.mac), \(isNew ? "given" : "kept") from pool \(binding.pool), for pod \
                \(active.pod) on node \(active.node)
                """)
        }
        annotate(identity.pod.metadata, interface, binding)
    }

    func refused(_ identity: PodIdentity, _ network: String, _ refusal: CNIError) {
        record(.refused, of: identity, "\(network): \(refusal.message) (\(refusal.details))")
    }

    private func record(_ reason: ObjectEvent.Reason, of identity: PodIdentity, _ message: String) {
        let subject = ObjectEvent.Subject(identity.owner(network: ""), standsAlone: identity.standsAlone)
        events.record(ObjectEvent(subject, reason, message))
    }

    func migrated(_ binding: Binding) {
        events.record(
            ObjectEvent(
                ObjectEvent.Subject(binding.owner), .migrated,
                "\(binding.eventText) moved to pod \(binding.target?.pod ?? "") on node \(binding.target?.node ?? "")"))
    }

    /// `holdfast.dev/addresses.eth0` and `holdfast.dev/mac.eth0`, with the interface's name.
    private func annotate(_ pod: ObjectMeta, _ interface: String, _ binding: Binding) {
        guard annotatesPods else { return }
        let addresses = binding.assignments.map { "\($0.address)/\($0.prefixLength)" }.joined(separator: ",")
        let annotation = Annotation(
            namespace: pod.namespace, pod: pod.name,
            values: [
                "holdfast.dev/addresses.\(interface)": addresses, "holdfast.dev/mac.\(interface)": "\(binding.mac)",
            ])
        annotations.withLock { if $0.count < Self.limit { $0.append(annotation) } }
    }

    private func annotate() async {
        struct Patch: Encodable {
            struct Metadata: Encodable { var annotations: [String: String] }
            var metadata: Metadata
        }
        while !Task.isCancelled {
            let waiting = annotations.withLock { annotations in
                defer { annotations = [] }
                return annotations
            }
            for annotation in waiting {
                do throws(KubernetesError) {
                    try await client.patch(
                        .podStatus, namespace: annotation.namespace, name: annotation.pod,
                        merge: Patch(metadata: .init(annotations: annotation.values)))
                } catch {
                    if Task.isCancelled { return }
                    log.warning(
                        "a pod was not annotated",
                        metadata: ["pod": "\(annotation.namespace)/\(annotation.pod)", "error": "\(error.message)"])
                }
            }
            try? await Task.sleep(for: Self.interval)
        }
    }
}
