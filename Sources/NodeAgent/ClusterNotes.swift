import Addresses
import CNI
import IPAMModel
import KubeVirt
package import KubernetesAPI
package import Logging
import ServiceLifecycle
import Synchronization

/// What the agent writes into the cluster for people to read: Events, and annotations of pods where they are asked for.
/// Written in the background, in nobody's way; lost where the API server takes none for minutes.
package final class ClusterNotes: Service {
    /// Annotations that wait: of more the oldest are lost.
    private static let limit = 256
    /// How often one is tried: for three minutes about.
    private static let attempts = 24
    private static let longestPause = Duration.seconds(10)
    private static let interval = Duration.milliseconds(200)

    private struct Annotation: Sendable {
        var namespace: String
        var pod: String
        var values: [String: String]
        var failures = 0
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

    /// `reason` is the server's, where it was the server that refused. The kubelet tries again and again, and the refusal may
    /// say since when or for how long: one with the same reason is the same event.
    func refused(_ identity: PodIdentity, _ network: String, _ refusal: CNIError, _ reason: IPAMError.Reason?) {
        record(
            .refused, of: identity, "\(network): \(refusal.message) (\(refusal.details))",
            topic: "\(network) \(reason?.rawValue ?? String(refusal.code.rawValue))")
    }

    private func record(
        _ reason: ObjectEvent.Reason, of identity: PodIdentity, _ message: String, topic: String? = nil
    ) {
        let subject = ObjectEvent.Subject(identity.owner(network: ""), standsAlone: identity.standsAlone)
        events.record(ObjectEvent(subject, reason, message, topic: topic))
    }

    /// `standsAlone`: the owner is an instance that no VM owns.
    func migrated(_ binding: Binding, standsAlone: Bool) {
        events.record(
            ObjectEvent(
                ObjectEvent.Subject(binding.owner, standsAlone: standsAlone), .migrated,
                "\(binding.eventText) moved to pod \(binding.target?.pod ?? "") on node \(binding.target?.node ?? "")"))
    }

    /// `holdfast.dev/assigned-addresses.eth0` and `holdfast.dev/assigned-mac.eth0`, with the interface's name. No names that
    /// ask for something: the pod's next sandbox asks for what its user wants, not for what the pod had before.
    private func annotate(_ pod: ObjectMeta, _ interface: String, _ binding: Binding) {
        guard annotatesPods else { return }
        let addresses = binding.assignments.map { "\($0.address)/\($0.prefixLength)" }.joined(separator: ",")
        let annotation = Annotation(
            namespace: pod.namespace, pod: pod.name,
            values: [
                "holdfast.dev/assigned-addresses.\(interface)": addresses,
                "holdfast.dev/assigned-mac.\(interface)": "\(binding.mac)",
            ])
        annotations.withLock { annotations in
            if annotations.count == Self.limit { annotations.removeFirst() }
            annotations.append(annotation)
        }
    }

    private func annotate() async {
        struct Patch: Encodable {
            struct Metadata: Encodable { var annotations: [String: String] }
            var metadata: Metadata
        }
        var pause = RetryPause(most: Self.longestPause)
        var isFailing = false
        while !Task.isCancelled {
            guard var annotation = annotations.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) else {
                try? await Task.sleep(for: Self.interval)
                continue
            }
            do throws(KubernetesError) {
                try await client.patch(
                    .podStatus, namespace: annotation.namespace, name: annotation.pod,
                    merge: Patch(metadata: .init(annotations: annotation.values)))
                (isFailing, pause) = (false, RetryPause(most: Self.longestPause))
            } catch {
                if Task.isCancelled { return }
                annotation.failures += 1
                // Also what is forbidden: an agent may be newer than its ClusterRole.
                let mayPass = error.isTransient || error.code == .forbidden
                let isLost = !mayPass || annotation.failures == Self.attempts
                log.log(
                    level: isLost || !isFailing ? .warning : .debug,
                    isLost ? "a pod was not annotated" : "a pod was not annotated, trying on",
                    metadata: ["pod": "\(annotation.namespace)/\(annotation.pod)", "error": "\(error.message)"])
                if !mayPass { continue }
                isFailing = true
                // Before those that came later: one of them may be of a newer pod of the name.
                if !isLost { annotations.withLock { if $0.count < Self.limit { $0.insert(annotation, at: 0) } } }
                try? await Task.sleep(for: max(pause.next(), error.retryAfter ?? .zero))
            }
        }
    }
}
