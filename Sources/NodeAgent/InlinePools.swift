import IPAMAPI
import IPAMModel
import Logging
import NetworkPools
import Synchronization

/// Makes the pools that network configurations describe, when they are first used.
final class InlinePools: Sendable {
    private let calls: any PoolCalls
    private let log: Logger
    /// Those that the server has as they are here, by their names: as far as this process knows.
    private let known = Mutex<[String: Known]>([:])

    private struct Known {
        var pool: Pool
        /// The server's, at which it says the same.
        var revision: UInt64
    }

    init(calls: any PoolCalls, log: Logger) {
        self.calls = calls
        self.log = log
    }

    /// Sees to it that the pool is there as the network of the owner's pod describes it. A change of it that the server
    /// refuses stops new owners, but none that has its addresses.
    func ensure(
        _ pool: NetworkPool, for owner: Owner, _ existing: Binding?, by deadline: ContinuousClock.Instant
    ) async throws(IPAMError) {
        guard case .inline(let inline) = pool else { return }
        do throws(IPAMError) {
            _ = try await revision(of: inline, for: owner.namespace, by: deadline)
        } catch {
            guard existing != nil else { throw error }
            log.warning(
                "a network's ranges are not applied",
                metadata: [
                    "network": "\(inline.network)", "pool": "\(inline.pool.name)", "owner": "\(owner.key)",
                    "error": "\(error.message)",
                ])
        }
    }

    /// Allocates, out of a pool that is as the network describes it and no other: another network's configuration may have
    /// changed it, or it was deleted, since it was last seen.
    func allocate(
        _ request: AllocateRequest, in pool: NetworkPool?, on ipam: any IPAMCalls,
        by deadline: ContinuousClock.Instant
    ) async throws(IPAMError) -> DescribedBinding {
        guard case .inline(let inline) = pool, request.pool == inline.pool.name else {
            return try await ipam.allocate(request, timeout: deadline.remaining).binding
        }
        var request = request
        request.poolRevision = try await revision(of: inline, for: request.owner.namespace, by: deadline)
        do throws(IPAMError) {
            return try await ipam.allocate(request, timeout: deadline.remaining).binding
        } catch {
            guard error.reason == .poolNotFound || error.reason == .poolChanged else { throw error }
            known.withLock { $0[inline.pool.name] = nil }
            request.poolRevision = try await revision(of: inline, for: request.owner.namespace, by: deadline)
            return try await ipam.allocate(request, timeout: deadline.remaining).binding
        }
    }

    /// The revision of the server's pool at which it is as it is described, once it is.
    private func revision(
        of inline: InlinePool, for namespace: String, by deadline: ContinuousClock.Instant
    ) async throws(IPAMError) -> UInt64 {
        let pool = inline.pool
        if let known = known.withLock({ $0[pool.name] }), known.pool == pool { return known.revision }
        let revision: UInt64
        do throws(IPAMError) {
            revision = try await calls.createPool(pool, timeout: deadline.remaining).pool.revision
            log.info(
                "a network's ranges are a pool", metadata: ["network": "\(inline.network)", "pool": "\(pool.name)"])
        } catch {
            guard error.reason == .poolExists else {
                throw error.about("the pool \(pool.name), which network \"\(inline.network)\" describes, is refused")
            }
            revision = try await update(inline, for: namespace, by: deadline)
        }
        known.withLock { $0[pool.name] = Known(pool: pool, revision: revision) }
        return revision
    }

    /// What an operator set of the pool, and ranges do not tell, stays: quota, reuse delay.
    private func update(
        _ inline: InlinePool, for namespace: String, by deadline: ContinuousClock.Instant
    ) async throws(IPAMError) -> UInt64 {
        let current = try await calls.pool(named: inline.pool.name, timeout: deadline.remaining).pool
        var wanted = current
        wanted.prefixes = inline.pool.prefixes
        wanted.routes = inline.pool.routes
        wanted.dns = inline.pool.dns
        if wanted == current { return current.revision }
        do throws(IPAMError) {
            let updated = try await calls.updatePool(wanted, for: namespace, timeout: deadline.remaining).pool
            log.notice(
                "a network's ranges have changed",
                metadata: [
                    "network": "\(inline.network)", "pool": "\(wanted.name)", "from": "\(current.ranges)",
                    "to": "\(wanted.ranges)",
                ])
            return updated.revision
        } catch {
            if error.code == .unavailable || error.code == .aborted { throw error }
            throw error.about(
                "network \"\(inline.network)\" describes the pool \(wanted.name) as \(wanted.ranges), "
                    + "but it is \(current.ranges), and cannot be changed")
        }
    }
}

extension Pool {
    /// What a network's configuration says of it, on one line.
    fileprivate var ranges: String {
        var words = prefixes.map { entry in
            var text = "\(entry.prefix)"
            if let gateway = entry.gateway { text += " via \(gateway)" }
            if !entry.excluded.isEmpty {
                text += " without \(entry.excluded.map { "\($0)" }.joined(separator: ","))"
            }
            return text
        }
        if !routes.isEmpty { words.append("routes \(routes.map { "\($0.destination)" }.joined(separator: ","))") }
        if let dns { words.append("DNS \(dns.nameservers.map { "\($0)" }.joined(separator: ","))") }
        return words.joined(separator: "; ")
    }
}

extension IPAMError {
    fileprivate func about(_ what: String) -> IPAMError {
        var error = self
        error.message = "\(what): \(message)"
        return error
    }
}
