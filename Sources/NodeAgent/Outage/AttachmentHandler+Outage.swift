import Addresses
import CNI
import IPAMAPI
import IPAMModel
import Logging

// ADD and DEL while the server is away.
extension AttachmentHandler {
    /// How long a call may take before its server counts as away, where there is something to do without it.
    static let shortTry = Duration.seconds(2)
    private static let pause = Duration.milliseconds(200)

    /// The binding that is asked for: from the server; while it is away from this node's copy, if that may be used.
    func binding(for wanted: Allocation, by deadline: ContinuousClock.Instant) async throws -> DescribedBinding {
        guard let outage else { return try await wanted.run(on: ipam, pools: pools, by: deadline) }
        var giveUp = outage.reach.isAway ? min(deadline, .now + outage.ride) : deadline
        var silence = IPAMError(.unavailable, .noAnswer, "the server does not answer")
        while true {
            let mayUseCopy = usableCopy(for: wanted, in: outage) != nil
            if !outage.reach.isAway || !mayUseCopy {
                do {
                    let limit = mayUseCopy ? min(giveUp, .now + Self.shortTry) : giveUp
                    return try await askInOrder(for: wanted, by: limit, in: outage)
                } catch let error as IPAMError where error.isSilence {
                    silence = error
                    giveUp = min(giveUp, .now + outage.ride)
                } catch let error as IPAMError where error.reason == .copiesOutstanding {
                    // Another node is asked to let go of its copy, which takes seconds.
                    guard .now + .seconds(1) < deadline else { throw error }
                    try await Task.sleep(for: .seconds(1))
                    continue
                }
            }
            if let copy = usableCopy(for: wanted, in: outage) { return try attach(wanted, from: copy, in: outage) }
            guard .now + Self.pause < giveUp else { throw CNIError(silence, whatTheCopySays(of: wanted, in: outage)) }
            try await Task.sleep(for: Self.pause)
        }
    }

    private func askInOrder(
        for wanted: Allocation, by limit: ContinuousClock.Instant, in outage: Outage
    ) async throws -> DescribedBinding {
        try await tellFirst(of: wanted.owner, wanted.attachment, by: limit, in: outage)
        let sent = outage.clock.now()
        let described = try await wanted.run(on: ipam, pools: pools, by: limit)
        outage.copies.keep(described, sent: sent)
        return described
    }

    /// Returns once the server knows what came before this ADD: what this owner's pods were given from copies, and that an
    /// earlier sandbox of the same ID is gone. Told later, either would undo what the ADD does (promise 5).
    func tellFirst(
        of owner: Owner, _ attachment: Attachment, by limit: ContinuousClock.Instant, in outage: Outage
    ) async throws {
        while outage.spool.hasAttachment(of: owner.key) || outage.spool.hasDetachment(of: attachment.containerID) {
            guard .now < limit, !outage.reach.isAway else {
                throw IPAMError(.unavailable, .noAnswer, "the server has not been told of the VM's last pod yet")
            }
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    /// A copy of this very VM that is young enough.
    private func usableCopy(for wanted: Allocation, in outage: Outage) -> Copy? {
        guard wanted.owner.kind == .virtualMachine, !wanted.owner.uid.isEmpty,
            let copy = outage.copies.copy(for: wanted.owner.key), copy.owner.uid == wanted.owner.uid,
            copy.isFresh(at: outage.clock.now()), copy.contradiction(to: wanted.request) == nil
        else { return nil }
        return copy
    }

    private func attach(_ wanted: Allocation, from copy: Copy, in outage: Outage) throws -> DescribedBinding {
        do throws(JournalError) {
            // With the addresses: another answer than this one would come too late.
            try outage.spool.add(
                .attach(
                    AllocateRequest(
                        owner: wanted.owner, attachment: wanted.attachment, addresses: copy.assignments.map(\.address),
                        mac: copy.mac, keepsCopy: true)))
        } catch {
            throw CNIError(error)
        }
        // Writing may have taken its time. And a renewal that has looked into the spool before may have dropped the copy.
        guard copy.isFresh(at: outage.clock.now()),
            outage.copies.copy(for: copy.owner.key)?.revision == copy.revision
        else {
            throw CNIError(
                IPAMError(.unavailable, .noAnswer, "the server does not answer"),
                whatTheCopySays(of: wanted, in: outage))
        }
        metrics.countAttachedFromCopy()
        log.notice(
            "the server is away: attached from this node's copy",
            metadata: ["owner": "\(wanted.owner.key)", "pod": "\(wanted.attachment.pod)"])
        return copy.described(for: wanted.attachment)
    }

    /// Why this node's copy does not help.
    private func whatTheCopySays(of wanted: Allocation, in outage: Outage) -> String {
        guard wanted.owner.kind == .virtualMachine else { return "a pod that is no VM's needs the server" }
        guard let copy = outage.copies.copy(for: wanted.owner.key) else {
            return "this node has no copy of the VM's binding"
        }
        if copy.owner.uid != wanted.owner.uid { return "this node's copy is of another VM of the same name" }
        if let contradiction = copy.contradiction(to: wanted.request) {
            return "this node's copy does not help: \(contradiction)"
        }
        let limit = "\(copy.validFor.nanoseconds / 1_000_000_000) s"
        guard let age = copy.age(at: outage.clock.now()) else {
            return "this node's copy is from before the node was booted"
        }
        return "this node's copy was confirmed \(age / 1_000_000_000) s ago, and is good for less than \(limit)"
    }

    /// Tells the server that a pod's sandbox is gone, or the spool where it is away or has something to tell before.
    func detach(_ id: AttachmentID, network: String) async throws(CNIError) {
        guard let outage else {
            do {
                _ = try await ipam.release(.attachment(id, owner: nil, network: network), timeout: Self.patience)
            } catch {
                throw CNIError(error)
            }
            return
        }
        var cause = "the server has not been told of what came before"
        if !outage.reach.isAway, outage.spool.isEmpty {
            do {
                _ = try await ipam.release(.attachment(id, owner: nil, network: network), timeout: Self.shortTry)
                return
            } catch {
                // A token that has run out, say, because no API server renews it: the replay tells it as soon as it is taken.
                guard error.isSilence || error.isOfCaller else { throw CNIError(error) }
                cause = "the server takes nothing from this agent (\(error.message))"
            }
        }
        if outage.reach.isAway { cause = "the server is away" }
        do throws(JournalError) {
            try outage.spool.add(.detach(id, network: network))
        } catch {
            throw CNIError(error)
        }
        log.notice(
            "\(cause): it will be told of a detachment",
            metadata: ["network": "\(network)", "container": "\(id.containerID)"])
    }
}

extension CNIError {
    /// A silent server, and why there is no way around it.
    fileprivate init(_ silence: IPAMError, _ copy: String) {
        self.init(silence)
        details = "\(copy); " + details
    }

    fileprivate init(_ error: JournalError) {
        self.init(
            .tryAgainLater, "the server is away, and what it must be told cannot be kept: \(error)",
            details: "make room on the agent's disk, or start the server; the runtime tries again by itself")
    }
}
