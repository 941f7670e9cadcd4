import Addresses
package import CNI
package import IPAMAPI
import IPAMModel
import KubeVirt
package import Logging
import NetworkPools

/// The plugin's calls: a pod's interface is made or gone. The same call twice is one. Keeps nothing but what runs now.
package struct AttachmentHandler: Sendable {
    /// For all calls of one ADD or DEL together: shorter than the plugin's 15 s, so that the runtime is told what the
    /// server said.
    static let patience = Duration.seconds(12)

    let node: String
    let ipam: any IPAMCalls & PoolCalls
    let pools: InlinePools
    private let source: any ObjectSource
    private let cluster: ClusterNotes?
    private let guests: GuestService?
    let running = RunningAdds()
    let log: Logger
    /// Nil: nothing is done without the server.
    let outage: Outage?
    let metrics: AgentMetrics
    /// Whether some VM could be attached now if the server could not be reached.
    let servesKnownMachines: @Sendable () -> Bool

    /// `cluster`: where people are told of addresses. `servesKnownMachines` nil: where there are copies that may be used.
    package init(
        node: String, ipam: any IPAMCalls & PoolCalls, source: any ObjectSource, cluster: ClusterNotes? = nil,
        guests: GuestService? = nil, log: Logger, outage: Outage? = nil, metrics: AgentMetrics = AgentMetrics(),
        servesKnownMachines: (@Sendable () -> Bool)? = nil
    ) {
        self.node = node
        self.ipam = ipam
        pools = InlinePools(calls: ipam, log: log)
        self.source = source
        self.cluster = cluster
        self.guests = guests
        self.log = log
        self.outage = outage
        self.metrics = metrics
        self.servesKnownMachines = servesKnownMachines ?? { outage?.servesKnownMachines ?? false }
    }

    /// What refuses an ADD is in the log, with whatever is known of the pod by then. People are told on the VM, once it is
    /// known.
    package func add(_ request: AgentRequest) async throws(CNIError) -> JSON {
        let deadline = ContinuousClock.now + Self.patience
        let invocation = try Invocation(environment: request.environment)
        var owner: Owner?
        do {
            return try await add(invocation, request.configuration, of: &owner, by: deadline)
        } catch {
            logFailure("ADD refused", invocation, error, owner)
            throw Self.told(error, to: invocation.podNamespace)
        }
    }

    /// `owner` is set once it is known, also where this throws.
    private func add(
        _ invocation: Invocation, _ configuration: JSONObject, of owner: inout Owner?,
        by deadline: ContinuousClock.Instant
    ) async throws -> JSON {
        let network = try NetworkConfiguration(configuration)
        let key = RunningAdds.Key(invocation, network)
        if network.isDelegates {
            return try await answerOnceMore(key, by: deadline).json(version: network.version)
        }
        let number = try await begin(key, by: deadline)
        var identity: PodIdentity?
        let outcome: Result<RunningAdds.Answer, any Error>
        do {
            outcome = .success(try await attach(invocation, network, of: &identity, by: deadline))
        } catch {
            outcome = .failure(error)
            if let identity {
                cluster?.refused(
                    identity, network.network(of: invocation), Self.told(error, to: invocation.podNamespace),
                    (error as? IPAMError)?.reason)
            }
        }
        owner = identity?.owner(network: network.network(of: invocation))
        if running.finish(key, number, answer: network.delegate == nil ? nil : try? outcome.get()) {
            return try outcome.get().answer.json(version: network.version)
        }
        // Whatever came of it: a call that took too long may still have been served.
        defer { running.remove(key, number) }
        try await detach(invocation, network)
        throw CNIError(
            .tryAgainLater, "the sandbox \(invocation.containerID) was deleted while its ADD ran",
            details: "nothing of it stays attached; the runtime makes another sandbox by itself")
    }

    private func begin(
        _ key: RunningAdds.Key, by deadline: ContinuousClock.Instant
    ) async throws(CNIError) -> UInt64 {
        while true {
            if let number = running.begin(key) { return number }
            try await pauseForOvertaken(key, by: deadline)
        }
    }

    private func pauseForOvertaken(
        _ key: RunningAdds.Key, by deadline: ContinuousClock.Instant
    ) async throws(CNIError) {
        do {
            guard .now < deadline else { throw CancellationError() }
            try await Task.sleep(for: .milliseconds(20))
        } catch {
            throw CNIError(
                .tryAgainLater, "an ADD of the sandbox \(key.containerID) that was deleted still runs",
                details: "the runtime tries again by itself")
        }
    }

    /// For a delegate: what the ADD that runs it was answered, while its sandbox carries the binding. Changes nothing: it
    /// may come after the sandbox's end, when another of the pod's has the addresses.
    private func answerOnceMore(
        _ key: RunningAdds.Key, by deadline: ContinuousClock.Instant
    ) async throws(CNIError) -> AddAnswer {
        let gone = CNIError(
            .tryAgainLater, "the sandbox \(key.containerID) is not attached any more",
            details: "before the delegate of its ADD asked for its addresses came a DEL or another ADD of the pod, or "
                + "the agent was started anew; the runtime makes another sandbox by itself")
        guard let known = running.answer(key) else { throw gone }
        // Of what was given from a copy the server knows nothing yet.
        if let outage, outage.reach.isAway || outage.spool.hasAttachment(of: known.owner.key) { return known.answer }
        let carriers: [Attachment?]
        do throws(IPAMError) {
            let limit = outage == nil ? deadline : min(deadline, .now + Self.shortTry)
            let binding = try await ipam.existingBinding(of: known.owner, by: limit)
            carriers = [binding?.active, binding?.target]
        } catch {
            guard outage != nil, error.isSilence else { throw CNIError(error) }
            return known.answer
        }
        guard carriers.contains(where: { $0?.containerID == key.containerID }), running.answer(key) != nil else {
            throw gone
        }
        return known.answer
    }

    /// `known` is set once the pod's identity is known, also where this throws.
    private func attach(
        _ invocation: Invocation, _ network: NetworkConfiguration, of known: inout PodIdentity?,
        by deadline: ContinuousClock.Instant
    ) async throws -> RunningAdds.Answer {
        var identity = try await identity(invocation, by: deadline)
        known = identity
        var nic = PodInterface(invocation, network, identity)
        if !nic.isKnown {
            // Whoever plugs a NIC in gives up sooner than a watch may show it (multus-dynamic-networks-controller tries four
            // times within 35 ms).
            identity = try await self.identity(invocation, afresh: true, by: deadline)
            known = identity
            nic = PodInterface(invocation, network, identity)
        }
        let metadata = identity.pod.metadata
        guard let podNode = identity.pod.nodeName else {
            throw CNIError(
                .tryAgainLater, "pod \(metadata.namespace)/\(metadata.name) is not known to be on node \(node)",
                details: "it has no spec.nodeName yet; the runtime tries again by itself")
        }
        guard podNode == node else {
            throw CNIError(
                .conflict, "pod \(metadata.namespace)/\(metadata.name) belongs to node \(podNode)",
                details: "this agent acts for node \(node) only")
        }
        let owner = identity.owner(network: network.network(of: invocation))
        let attachment = Attachment(
            node: node, pod: metadata.name, podUID: metadata.uid, containerID: invocation.containerID,
            createdAt: metadata.createdAt)
        var moved: DescribedBinding?
        if let migration = identity.migration {
            moved = try await attach(
                attachment, asTargetOf: migration, of: owner, identity, nic: nic.name, by: deadline)
        }
        let described =
            if let moved { moved } else {
                try await binding(
                    for: Allocation(
                        owner: owner, attachment: attachment, keepsCopy: keepsCopies(of: owner), nic: nic,
                        annotations: metadata.annotations, network: network, invocation: invocation), by: deadline)
            }
        try guests?.attach(described, to: nic, network, invocation, identity)
        let addresses = described.binding.assignments.map(\.address.description).joined(separator: ",")
        var facts: Logger.Metadata = [
            "owner": "\(owner.key)", "pod": "\(metadata.name)", "container": "\(invocation.containerID)",
            "addresses": "\(addresses)", "mac": "\(described.binding.mac)",
        ]
        if let migration = identity.migration { facts["migration"] = "\(migration.uid)" }
        log.info(identity.migration == nil ? "attached" : "migration target attached", metadata: facts)
        cluster?.attached(identity, invocation.interface, described.binding)
        var result = CNIResult(described, hasDefaultRoute: nic.hasDefaultRoute)
        if let inline = try? InlinePool(network), inline.pool.name == described.binding.pool {
            result.addGateways(of: inline)
        }
        let comesLater =
            identity.migration?.standing == .fromElsewhere
            || described.binding.target?.id.matches(attachment.id) == true
        return RunningAdds.Answer(
            answer: AddAnswer(
                result: result, mac: described.binding.mac, isSilent: nic.isBridged && comesLater),
            owner: described.binding.owner)
    }

    /// Does what no plugin waits for, once it has its answer.
    package func answered() { outage?.copies.save() }

    private func keepsCopies(of owner: Owner) -> Bool { outage != nil && owner.kind == .virtualMachine }

    /// Prepares an open migration. Where none is open only the pod that has become the VM's carrier is let in, with a new
    /// sandbox: its label stays. Nil where the NIC was plugged in with the migration, or into the carrier since: it gets its
    /// addresses as any does.
    private func attach(
        _ target: Attachment, asTargetOf migration: PodIdentity.Migration, of owner: Owner, _ identity: PodIdentity,
        nic: String, by deadline: ContinuousClock.Instant
    ) async throws -> DescribedBinding? {
        if let outage { try await tellFirst(of: owner, target, by: deadline, in: outage) }
        let refusal: any Error
        var source = migration.source ?? owner
        source.network = owner.network
        if case .fromElsewhere = migration.standing,
            let own = try await ipam.existingBinding(of: owner, by: deadline),
            [own.active, own.target].allSatisfy({ $0 == nil || $0?.podUID == target.podUID })
        {
            // Its addresses were reserved here, for its arrival.
            return try await ipam.allocate(
                AllocateRequest(owner: owner, attachment: target), timeout: deadline.remaining
            ).binding
        }
        if let unconfirmed = CNIError(migration, of: owner.name) {
            refusal = unconfirmed
        } else {
            // COMMIT would find it in its way, with the guest here already.
            if migration.source != nil, let own = try await ipam.existingBinding(of: owner, by: deadline),
                own.active?.podUID != target.podUID
            {
                throw IPAMError(
                    .alreadyExists, .ownerHasBinding,
                    "\(owner.key) has addresses already, and those of \(source.key) would come to it: release one of them"
                )
            }
            try await settleOlder(than: migration, of: source, instanceNode: identity.instanceNode, by: deadline)
            do throws(IPAMError) {
                return try await prepare(migration, to: target, of: source, for: owner, by: deadline)
            } catch {
                if error.reason == .bindingNotFound, migration.source == nil {
                    let instance = try await pods(ofInstanceOf: identity.pod, by: deadline)
                    let others = Set(instance.others(than: identity.pod).map(\.metadata.uid))
                    if let former = try await former(owner, carriedBy: others, by: deadline) {
                        return try await prepare(migration, to: target, of: former, for: owner, by: deadline)
                    }
                    if instance.isNew(nic, in: identity.pod) { return nil }
                    if let former = instance.formerName(of: nic, in: identity.pod) {
                        throw CNIError(
                            .conflict,
                            "the NIC \(nic) of \(owner.key.object) is \(former) in the pod that it migrates from",
                            details: "KubeVirt named it so before 1.0, and the guest's address is not known by its new "
                                + "name: reserve it (`holdfast import`, `holdfast reserve`), or restart the VM")
                    }
                }
                guard error.reason == .migrationEnded else { throw error }
                refusal = error
            }
        }
        let existing = try await ipam.existingBinding(of: owner, by: deadline)
        guard existing?.active?.podUID == target.podUID else {
            let isHeld = existing?.active != nil || existing?.target != nil
            if !isHeld {
                if identity.isCarrier { return nil }
                if try await carriesAnother(target, of: owner, by: deadline) { return nil }
            }
            throw refusal
        }
        return try await ipam.allocate(AllocateRequest(owner: owner, attachment: target), timeout: deadline.remaining)
            .binding
    }

    private func prepare(
        _ migration: PodIdentity.Migration, to target: Attachment, of source: Owner, for owner: Owner,
        by deadline: ContinuousClock.Instant
    ) async throws(IPAMError) -> DescribedBinding {
        let sent = outage?.clock.now()
        let described = try await ipam.transfer(
            TransferRequest(
                owner: source, migrationUID: migration.uid,
                phase: .prepare(target: target, targetOwner: migration.source == nil ? nil : owner),
                keepsCopy: migration.source == nil && keepsCopies(of: source)),
            timeout: deadline.remaining)
        if let outage, let sent { outage.copies.keep(described, sent: sent) }
        return described
    }

    /// The VM as another object of the same name, for which the binding was made, where a pod of the present one's instance
    /// carries it: the instance has outlived its VM, or was adopted by one. It gets the binding as it is at its next start.
    private func former(
        _ owner: Owner, carriedBy pods: Set<String>, by deadline: ContinuousClock.Instant
    ) async throws(IPAMError) -> Owner? {
        guard let binding = try await ipam.existingBinding(named: owner, by: deadline), let active = binding.active,
            !active.podUID.isEmpty, pods.contains(active.podUID)
        else { return nil }
        return binding.owner
    }

    private func pods(
        ofInstanceOf pod: Pod, by deadline: ContinuousClock.Instant
    ) async throws(CNIError) -> ClusterObjects {
        do {
            return try await source.pods(ofInstanceOf: pod, by: deadline)
        } catch {
            throw CNIError(error)
        }
    }

    /// Whether the pod carries a NIC of the VM's: then it is where the VM runs.
    private func carriesAnother(
        _ target: Attachment, of owner: Owner, by deadline: ContinuousClock.Instant
    ) async throws(IPAMError) -> Bool {
        let filter = BindingFilter(namespace: owner.namespace, name: owner.name, node: node)
        let page = try await ipam.bindings(
            matching: filter, pageSize: 0, pageToken: nil, timeout: deadline.remaining)
        return page.bindings.contains {
            $0.binding.active?.podUID == target.podUID && $0.binding.owner.kind == owner.kind
                && $0.binding.owner.uid == owner.uid
        }
    }

    /// A VM has one migration at a time: an older one that is still open in the ledger has ended without anybody telling
    /// the server. Where the VM runs tells how; PREPARE would end it in its source's favour.
    private func settleOlder(
        than migration: PodIdentity.Migration, of owner: Owner, instanceNode: String?,
        by deadline: ContinuousClock.Instant
    ) async throws(IPAMError) {
        guard let open = try await ipam.existingBinding(of: owner, by: deadline), open.migrationUID != migration.uid,
            let moved = open.target?.node, moved == instanceNode, moved != open.active?.node
        else { return }
        do throws(IPAMError) {
            _ = try await ipam.transfer(
                TransferRequest(owner: open.owner, migrationUID: open.migrationUID, phase: .commit(targetOwner: nil)),
                timeout: deadline.remaining)
        } catch {
            // Only its own nodes may end it, and they do so soon.
            if error.reason == .otherNode {
                throw IPAMError(.unavailable, error.reason, error.message, metadata: error.metadata)
            }
            // Another agent came first: what it did stands.
            guard error.code == .failedPrecondition || error.code == .notFound else { throw error }
        }
    }

    /// By the container's ID alone: the pod may be gone from the API server since long. Succeeds only once no ADD that it has
    /// overtaken can attach the sandbox any more.
    package func delete(_ request: AgentRequest) async throws(CNIError) {
        // Then there is time left to tell the server.
        let deadline = ContinuousClock.now + Self.patience - Self.shortTry
        try await logging("DEL failed", request) { (invocation, network) throws(CNIError) in
            let key = RunningAdds.Key(invocation, network)
            running.overtake(key)
            while running.isOvertaken(key) { try await pauseForOvertaken(key, by: deadline) }
            try await detach(invocation, network)
        }
    }

    private func detach(_ invocation: Invocation, _ network: NetworkConfiguration) async throws(CNIError) {
        guests?.detach(invocation)
        let attachment = AttachmentID(
            podUID: invocation.arguments["K8S_POD_UID"] ?? "", containerID: invocation.containerID)
        do {
            try await detach(attachment, network: network.network(of: invocation))
            log.info(
                "detached",
                metadata: [
                    "network": "\(network.network(of: invocation))", "container": "\(invocation.containerID)",
                    "pod": "\(invocation.arguments["K8S_POD_NAME"] ?? "")",
                ])
        } catch  where error.code == .notFound {
            // Gone already: DEL must succeed (CNI 1.1, section 4, "DEL").
        }
    }

    func identity(
        _ invocation: Invocation, afresh: Bool = false, by deadline: ContinuousClock.Instant
    ) async throws(CNIError) -> PodIdentity {
        func argument(_ name: String) throws(CNIError) -> String {
            guard let value = invocation.arguments[name], !value.isEmpty else {
                throw CNIError(
                    .invalidEnvironment, "CNI_ARGS has no \(name)",
                    details: "holdfast gives addresses to Kubernetes pods; the runtime names the pod in CNI_ARGS")
            }
            return value
        }
        let namespace = try argument("K8S_POD_NAMESPACE")
        let name = try argument("K8S_POD_NAME")
        let uid = invocation.arguments["K8S_POD_UID"].flatMap { $0.isEmpty ? nil : $0 }
        do {
            return try await source.identity(ofPod: name, in: namespace, uid: uid, afresh: afresh, by: deadline)
        } catch {
            throw CNIError(error)
        }
    }

    /// Does what a request asks for; why it fails is in the log, as `failure`.
    func logging(
        _ failure: Logger.Message, _ request: AgentRequest,
        _ body: (Invocation, NetworkConfiguration) async throws(CNIError) -> Void
    ) async throws(CNIError) {
        let invocation = try Invocation(environment: request.environment)
        do throws(CNIError) {
            try await body(invocation, NetworkConfiguration(request.configuration, for: invocation.verb))
        } catch {
            logFailure(failure, invocation, error)
            throw error
        }
    }

    /// A call that failed; of the server's refusals all that it said, also of owners in other namespaces.
    private func logFailure(
        _ event: Logger.Message, _ invocation: Invocation, _ error: any Error, _ owner: Owner? = nil
    ) {
        let failure = Self.cniError(error)
        var facts: Logger.Metadata = [
            "pod": "\(invocation.arguments["K8S_POD_NAME"] ?? "")", "namespace": "\(invocation.podNamespace)",
            "container": "\(invocation.containerID)", "code": "\(failure.code.rawValue)",
            "error": "\(failure.message)", "details": "\(failure.details)",
        ]
        if let error = error as? IPAMError { facts["reason"] = "\(error.reason.rawValue)" }
        if let owner { facts["owner"] = "\(owner.key)" }
        log.warning(event, metadata: facts)
    }

    /// As people of `namespace` may read it.
    private static func told(_ error: any Error, to namespace: String) -> CNIError {
        cniError((error as? IPAMError)?.told(to: namespace) ?? error)
    }

    private static func cniError(_ error: any Error) -> CNIError {
        switch error {
        case let error as CNIError: error
        case let error as IPAMError: CNIError(error)
        case let error as WishError: CNIError(error)
        default: CNIError(.internalFailure, "\(error)")
        }
    }
}

extension PodInterface {
    fileprivate init(_ invocation: Invocation, _ network: NetworkConfiguration, _ identity: PodIdentity) {
        self.init(
            name: invocation.interface, network: network.name, pod: identity.pod.metadata,
            machineNetworks: identity.networks)
    }
}

extension Invocation {
    /// Empty where the runtime names none.
    fileprivate var podNamespace: String { arguments["K8S_POD_NAMESPACE"] ?? "" }
}

extension NetworkConfiguration {
    /// The owner's network: KubeVirt's interface names are the same over restarts and migrations.
    func network(of invocation: Invocation) -> String { "\(name)/\(invocation.interface)" }
}
