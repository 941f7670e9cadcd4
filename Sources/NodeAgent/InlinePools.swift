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
    private let known = Mutex<[String: Pool]>([:])

    init(calls: any PoolCalls, log: Logger) {
        self.calls = calls
        self.log = log
    }

    /// Sees to it that the pool is there as the network describes it. A change of it that the server refuses stops new
    /// owners, but none that has its addresses.
    func ensure(
        _ pool: NetworkPool, for existing: Binding?, by deadline: ContinuousClock.Instant
    ) async throws(IPAMError) {
        guard case .inline(let inline) = pool, known.withLock({ $0[inline.pool.name] }) != inline.pool else { return }
        do throws(IPAMError) {
            try await ensure(inline, by: deadline)
        } catch {
            guard let existing else { throw error }
            log.warning(
                "a network's ranges are not applied",
                metadata: [
                    "network": "\(inline.network)", "pool": "\(inline.pool.name)", "owner": "\(existing.owner.key)",
                    "error": "\(error.message)",
                ])
        }
    }

    /// Allocates; where the pool has been deleted since it was last seen, it is made again first.
    func allocate(
        _ request: AllocateRequest, in pool: NetworkPool?, on ipam: any IPAMCalls,
        by deadline: ContinuousClock.Instant
    ) async throws(IPAMError) -> DescribedBinding {
        do throws(IPAMError) {
            return try await ipam.allocate(request, timeout: deadline.remaining).binding
        } catch {
            guard error.reason == .poolNotFound, case .inline(let inline) = pool, request.pool == inline.pool.name
            else {
                throw error
            }
            try await ensure(inline, by: deadline)
            return try await ipam.allocate(request, timeout: deadline.remaining).binding
        }
    }

    private func ensure(_ inline: InlinePool, by deadline: ContinuousClock.Instant) async throws(IPAMError) {
        let pool = inline.pool
        do throws(IPAMError) {
            _ = try await calls.createPool(pool, timeout: deadline.remaining)
            log.info(
                "a network's ranges are a pool", metadata: ["network": "\(inline.network)", "pool": "\(pool.name)"])
        } catch {
            guard error.reason == .poolExists else {
                throw error.about("the pool \(pool.name), which network \"\(inline.network)\" describes, is refused")
            }
            try await update(inline, by: deadline)
        }
        known.withLock { $0[pool.name] = pool }
    }

    /// What an operator set of the pool, and ranges do not tell, stays: namespaces, quota, reuse delay.
    private func update(_ inline: InlinePool, by deadline: ContinuousClock.Instant) async throws(IPAMError) {
        let current = try await calls.pool(named: inline.pool.name, timeout: deadline.remaining).pool
        var wanted = current
        wanted.prefixes = inline.pool.prefixes
        wanted.routes = inline.pool.routes
        wanted.dns = inline.pool.dns
        if wanted == current { return }
        do throws(IPAMError) {
            _ = try await calls.updatePool(wanted, timeout: deadline.remaining)
            log.notice(
                "a network's ranges have changed",
                metadata: [
                    "network": "\(inline.network)", "pool": "\(wanted.name)", "from": "\(current.ranges)",
                    "to": "\(wanted.ranges)",
                ])
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
