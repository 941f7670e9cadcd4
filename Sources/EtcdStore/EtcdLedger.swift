import Dispatch
import Foundation
import IPAMModel
import Ledger
package import LedgerStore
package import Logging
import RPC
import Synchronization
import Syscalls
import Telemetry

/// A ledger in etcd that several servers share. They are elected by a key on a lease, `EtcdKeys.leader`: whoever makes it
/// leads until it is gone; the others follow by watch and are warm.
package final class EtcdLedger: SharedLedger {
    private struct State {
        var isStarted = false
        var isClosed = false
        var tenure: EtcdTenure?
        /// That this server cannot be elected.
        var complaint = Complaint()
    }

    package let roles: AsyncStream<Role>
    private let role: AsyncStream<Role>.Continuation
    private let client: EtcdClient
    private let keys: EtcdKeys
    private let lease: Duration
    private let logger: Logger
    private let seen = NewestRevision()
    private let state = Mutex(State())
    private let wake = Bell()
    private let ended = DispatchSemaphore(value: 0)

    /// Connects once it is started. Throws where the credentials cannot be used.
    package init(_ configuration: EtcdConfiguration, logger: Logger) throws(StoreError) {
        client = try EtcdClient(configuration)
        keys = EtcdKeys(prefix: configuration.prefix)
        lease = configuration.lease
        self.logger = logger
        (roles, role) = AsyncStream.makeStream(of: Role.self, bufferingPolicy: .bufferingNewest(1))
    }

    package func start(advertising address: String) {
        let isFirst = state.withLock { state in
            defer { state.isStarted = true }
            return !state.isStarted && !state.isClosed
        }
        guard isFirst else { return }
        let thread = Thread { [self] in
            var nextCampaign = ContinuousClock.now
            while !isClosed { takeTurn(address, &nextCampaign) }
            role.finish()
            ended.signal()
        }
        thread.name = "etcd-election"
        thread.start()
    }

    package func close() {
        let (waits, tenure) = state.withLock { state in
            defer { state.isClosed = true }
            return (state.isStarted && !state.isClosed, state.tenure)
        }
        guard waits else { return }
        tenure?.close()
        wake.ring()
        ended.wait()
        Task { [client] in await client.close() }
    }

    package var newestRevision: UInt64 { seen.value }

    private var isClosed: Bool { state.withLock(\.isClosed) }

    /// Follows until nobody leads and this server is elected, and leads until its lease is lost. After a campaign that failed the
    /// next one waits a moment, also in the next turn.
    private func takeTurn(_ address: String, _ nextCampaign: inout ContinuousClock.Instant) {
        let follower = LedgerFollower(client, keys, seen: seen, logger: logger) { [wake] in wake.ring() }
        follower.start()
        defer { follower.stop() }
        var told: LedgerFollower.Leader?
        /// Whether the watch has said nothing for a while.
        var isQuiet = false
        var silence: Silence?
        /// Why this server was not elected though nobody leads.
        var obstacle: StoreError?
        role.yield(.following(leader: nil))
        while !isClosed {
            let leader = follower.leader
            if case .somebody = leader { obstacle = nil }
            // Then etcd is asked: a follower that tries again and again wakes this, and has heard nothing.
            let isUnsure = isQuiet || follower.failure != nil
            let isLeaderless = leader == .nobody || isUnsure && !hasLeader(&silence)
            if !isUnsure { silence = nil }
            if let failure = silence?.failure(after: lease * 2) ?? (follower.isWhole ? obstacle : follower.failure) {
                role.yield(.failing("\(failure)"))
                told = nil
            } else if leader != told, leader != .unknown {
                told = leader
                role.yield(.following(leader: leader.address))
                logger.info("following", metadata: ["leader": "\(leader.address ?? "nobody yet")"])
            }
            if follower.isWhole, nextCampaign <= .now, isLeaderless {
                do throws(StoreError) {
                    if let tenure = try campaign(address, follower) { return serve(tenure) }
                    obstacle = nil
                } catch {
                    obstacle = error
                    nextCampaign = .now + lease / 4
                    complain(error)
                }
            }
            // Elected, and could not take over: whoever leads now is followed anew.
            if follower.isStopped { return }
            isQuiet = !wake.wait(obstacle == nil ? lease / 2 : lease / 4)
        }
    }

    /// That etcd's majority does not answer.
    private struct Silence {
        var since: ContinuousClock.Instant
        var status: RPCStatus

        /// Who knows no more than what was long ago cannot say who leads.
        func failure(after patience: Duration) -> StoreError? {
            .now - since > patience ? StoreError(etcd: status) : nil
        }
    }

    /// What etcd's majority says; true where it says nothing.
    private func hasLeader(_ silence: inout Silence?) -> Bool {
        do throws(RPCStatus) {
            let found = try client.range(from: keys.leader, timeout: lease / 4)
            silence = nil
            return !found.entries.isEmpty
        } catch {
            silence = Silence(since: silence?.since ?? .now, status: error)
            return true
        }
    }

    private func complain(_ error: StoreError) {
        guard let failed = state.withLock({ $0.complaint.count() }) else { return }
        logger.warning("no election", metadata: ["error": "\(error)", "failed": "\(failed)"])
    }

    /// Nil where another was elected.
    private func campaign(
        _ address: String, _ follower: LedgerFollower
    ) throws(StoreError) -> (EtcdTenure, LedgerInHand)? {
        do {
            let won = try EtcdElection(client: client, keys: keys, lease: lease).run(for: address)
            do {
                return try takeOver(won, follower)
            } catch {
                won.lease.giveUp()
                won.lease.waitUntilLost()
                throw error
            }
        } catch {
            let error = StoreError(etcd: error)
            if error.code == .notLeader { return nil }
            throw error
        }
    }

    private func takeOver(
        _ won: EtcdElection.Victory, _ follower: LedgerFollower
    ) throws -> (EtcdTenure, LedgerInHand) {
        var warm: LedgerFollower.Warm
        let isWarm: Bool
        if let taken = follower.take(at: won.lastCommit, won.mark, timeout: lease / 2) {
            (warm, isWarm) = (taken, true)
        } else {
            follower.stop()
            let image = try EtcdReader(client: client, keys: keys).read(after: seen.value)
            (warm, isWarm) = (try LedgerFollower.Warm(image), false)
        }
        let tenure = EtcdTenure(client, keys, term: won.term, lease: won.lease, known: warm.known, logger: logger)
        try tenure.finishJournal(warm.openJournal)
        warm.ledger.begin(term: UInt64(won.term))
        logger.notice(
            "leading",
            metadata: ["term": "\(won.term)", "warm": "\(isWarm)", "revision": "\(warm.ledger.committedRevision)"])
        return (tenure, LedgerInHand(warm.ledger))
    }

    private func serve(_ elected: (tenure: EtcdTenure, ledger: LedgerInHand)) {
        let isClosed = state.withLock { state in
            state.tenure = elected.tenure
            state.complaint = Complaint()
            return state.isClosed
        }
        if isClosed { elected.tenure.close() }
        role.yield(.leading(elected.ledger, elected.tenure))
        elected.tenure.lease.waitUntilLost()
        seen.see(elected.tenure.revision)
        state.withLock { $0.tenure = nil }
        logger.notice("leading no longer", metadata: ["term": "\(elected.tenure.term)"])
    }
}

extension LedgerFollower.Leader {
    /// Nil where nobody leads or nothing is known.
    fileprivate var address: String? {
        guard case .somebody(let address) = self else { return nil }
        return address
    }
}
