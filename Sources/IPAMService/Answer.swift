package import IPAMAPI
package import IPAMModel
package import Ledger

/// What a committed command is answered with. Boxed: it goes through many hands.
package indirect enum Answer: Sendable {
    /// Nil once freed.
    case binding(DescribedBinding?, created: Bool)
    /// Nil once deleted.
    case pool(DescribedPool?)
    case copies([RenewedCopy])
}

extension Ledger {
    /// What a command is answered with that `node` asked for, if it is to have a copy.
    borrowing func answer(_ outcome: Outcome, keptBy node: String?, at now: Timestamp) -> Answer {
        switch outcome {
        case .allocated(let binding, let created): .binding(described(binding, keptBy: node, at: now), created: created)
        case .released(let binding?): .binding(described(binding), created: false)
        case .released(nil): .binding(nil, created: false)
        case .transferred(let binding): .binding(described(binding, keptBy: node, at: now), created: false)
        case .copiesRenewed(let standings):
            .copies(
                standings.map {
                    RenewedCopy(validFor: $0.validFor, binding: $0.binding.map { described($0) }, ticket: $0.ticket)
                })
        case .pool(let pool): .pool(described(pool, at: now))
        case .poolDeleted: .pool(nil)
        }
    }

    /// With the routes and DNS of its pool.
    package borrowing func described(_ binding: consuming Binding) -> DescribedBinding {
        let pool = pool(named: binding.pool)
        return DescribedBinding(binding: binding, routes: pool?.routes ?? [], dns: pool?.dns)
    }

    /// And with how long `node` may use its copy.
    borrowing func described(
        _ binding: consuming Binding, keptBy node: String?, at now: Timestamp
    ) -> DescribedBinding {
        var described = described(binding)
        if let node { described.copyValidFor = grantedCopy(of: described.binding, to: node, at: now) }
        return described
    }

    package borrowing func described(_ pool: Pool, at now: Timestamp) -> DescribedPool {
        DescribedPool(pool: pool, usage: usage(ofPool: pool.name, at: now))
    }
}
