import CNI
import IPAMModel
import KubeVirt
import Logging
import NodeAgent
import Testing

/// The recorded stories with each event in turn dropped, doubled, late and out of order, and with each program restarted
/// or away at each step: the ledger comes to the same as without, as soon as the agents see the cluster as it is.
struct DisturbedStoryTests {
    enum Disturbance: CaseIterable {
        /// The agents' watches: the event does not come, comes twice, or comes after the five that follow it.
        case dropped, doubled, late
        /// The agents see nothing at all while a whole migration passes.
        case blind
        /// The same, and the pods that the VM has left linger until it has stopped.
        case lingering
        case agentRestarts, serverRestarts, serverAway
    }

    @Test(arguments: ["lifecycle", "migrate", "migrate-failures", "secondary"], Disturbance.allCases)
    func `the end is the same as without the disturbance`(story: String, disturbance: Disturbance) async throws {
        let events = try Recording.events(of: story)
        var reference = try Play(story)
        var expected: [[String]] = []
        for event in events {
            try await reference.play(event)
            try await reference.settle()
            expected.append(reference.ledger)
        }
        // A watch does not tell an agent what is gone: the server frees the deleted VM's addresses.
        #expect(expected.last?.count == reference.interfaces.count)
        for index in events.indices {
            try await disturb(index, of: events, story: story, by: disturbance, expected: expected)
        }
    }

    private func disturb(
        _ index: Int, of events: [Recording.Event], story: String, by disturbance: Disturbance, expected: [[String]]
    ) async throws {
        var play = try Play(story)
        // The event before the VM's deletion begins, where each story's VM has been through everything.
        play.letsPodsLinger = disturbance == .lingering
        let isBlind = disturbance == .blind || disturbance == .lingering
        let checks = [index + (isBlind ? 29 : 5), events.count - 12, events.count - 1]
        for (step, event) in events.enumerated() {
            switch disturbance {
            case .dropped where step == index: try await play.play(event, isSeen: false)
            case .doubled where step == index:
                try await play.play(event)
                play.see(event)
                await play.pass()
            case .late where step == index: try await play.play(event, isSeen: false)
            case .late where step == index + 5:
                try await play.play(event)
                play.see(events[index])
                await play.pass()
            case .blind where (index..<index + 30).contains(step), .lingering where (index..<index + 30).contains(step):
                try await play.play(event, isSeen: false)
            case .agentRestarts where step == index:
                play.restartAgent(on: index % 2 == 0 ? "node-a" : "node-b")
                try await play.play(event)
            case .serverRestarts where step == index:
                try await play.play(event)
                try play.ipam.restart()
            case .serverAway where step == index:
                play.ipam.fail(with: IPAMError(.unavailable, .noAnswer, "away"))
                try await play.play(event)
                play.ipam.fail(with: nil)
            default: try await play.play(event)
            }
            guard checks.contains(step), step >= checks[0] || step == events.count - 1 else { continue }
            play.list()
            let hasStopped = expected[step].allSatisfy { $0.contains(" reserved ") }
            if hasStopped { try await play.endLingering() }
            try await play.settle()
            #expect(play.ledger == expected[step], "\(story), event \(index) \(disturbance), at \(step)")
        }
    }
}

/// Two agents that see the cluster through watches, and a runtime that calls the plugin for the pods as they really are.
private struct Play {
    let ipam: LedgerIPAM
    let interfaces: [String]
    private let cluster = StatedSource()
    private let seen = StatedSource()
    private var objects = ClusterObjects()
    private var view = ClusterObjects()
    private var agents: [String: Reconciliation] = [:]
    private var now = ContinuousClock.now
    private var attached: Set<String> = []
    var letsPodsLinger = false
    private var lingering: [(pod: Pod, node: String, isAdd: Bool)] = []
    /// Calls that failed: kubelet tries again.
    private var calls: [(pod: Pod, node: String, isAdd: Bool)] = []

    init(_ story: String) throws {
        ipam = try LedgerIPAM()
        interfaces = story == "secondary" ? ["eth0", "pod6c270ef2f25"] : ["eth0"]
        objects.virtualMachines = [
            VirtualMachine(metadata: ObjectMeta(namespace: "default", name: "other", uid: "other"))
        ]
        list()
        for node in ["node-a", "node-b"] { restartAgent(on: node) }
    }

    private static var log: Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }

    mutating func restartAgent(on node: String) {
        agents[node] = Reconciliation(node: node, ipam: ipam, source: seen, log: Self.log)
    }

    /// What is compared: who has what, and who carries it.
    var ledger: [String] {
        ipam.bindings.map {
            """
            \($0.owner.key) \($0.owner.uid) \($0.assignments.map(\.address)) \($0.mac) \($0.state) \
            \($0.active?.pod ?? "-") \($0.active?.containerID ?? "-") \($0.target?.pod ?? "-") \($0.migrationUID)
            """
        }.sorted()
    }

    mutating func play(_ event: Recording.Event, isSeen: Bool = true) async throws {
        objects.apply(event)
        cluster.state(objects)
        if isSeen { see(event) }
        if case .pod(let pod) = event.object, let node = pod.nodeName {
            if event.isDeletion || pod.hasEnded {
                let hasLeft = objects.instances.first.map { $0.nodeName != node } ?? false
                if letsPodsLinger, hasLeft {
                    lingering.append((pod, node, false))
                } else {
                    calls.append((pod, node, false))
                }
            } else if attached.insert(pod.metadata.uid).inserted {
                calls.append((pod, node, true))
            }
        }
        try await callPlugin()
        await pass()
    }

    mutating func endLingering() async throws {
        calls += lingering
        lingering = []
        try await callPlugin()
    }

    mutating func see(_ event: Recording.Event) {
        view.apply(event)
        seen.state(Reading(objects: view, isComplete: true, isCurrent: false))
    }

    /// The watches begin anew, with a list.
    mutating func list() {
        view = objects
        seen.state(Reading(objects: view, isComplete: true, isCurrent: false))
        cluster.state(objects)
    }

    mutating func pass() async {
        now += .seconds(6)
        for node in agents.keys.sorted() { await agents[node]?.pass(at: now) }
    }

    mutating func settle() async throws {
        for _ in 0..<4 { await pass() }
    }

    private mutating func callPlugin() async throws {
        let waiting = calls
        calls = []
        for call in waiting {
            do {
                for interface in interfaces { try await callPlugin(call.pod, call.node, call.isAdd, interface) }
            } catch let error as CNIError where error.code == .tryAgainLater {
                calls.append(call)
            }
        }
    }

    private func callPlugin(_ pod: Pod, _ node: String, _ isAdd: Bool, _ interface: String) async throws {
        let handler = AttachmentHandler(node: node, ipam: ipam, source: cluster, log: Self.log)
        let request = AgentRequest(
            environment: [
                "CNI_COMMAND": isAdd ? "ADD" : "DEL", "CNI_CONTAINERID": "sandbox-\(pod.metadata.name)",
                "CNI_NETNS": "/run/netns/x", "CNI_IFNAME": interface,
                "CNI_ARGS": "K8S_POD_NAMESPACE=\(pod.metadata.namespace);K8S_POD_NAME=\(pod.metadata.name)",
            ],
            configuration: [
                "cniVersion": "1.0.0", "name": "vm-net", "type": "bridge", "ipam": ["type": "holdfast-cni"],
            ])
        if isAdd { _ = try await handler.add(request) } else { try await handler.delete(request) }
    }
}
