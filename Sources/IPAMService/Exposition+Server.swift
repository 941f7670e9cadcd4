import IPAMAPI
import IPAMModel
import Ledger
import RPC
import Telemetry

extension IPAMServer {
    /// What Prometheus is told, from the last committed state. `hasTokenKeys` is false while there are none to verify by.
    package func exposition(version: String, hasTokenKeys: Bool = true) -> String {
        var exposition = Exposition()
        exposition.gauge(
            "holdfast_build_info", "The version that runs; always 1.", [([("version", version)], UInt64(1))])
        var isLeading = true
        var leader: String?
        do throws(IPAMError) {
            try writer.checkIsCurrent()
        } catch {
            (isLeading, leader) = (false, error.metadata["leader"])
        }
        exposition.gauge(
            "holdfast_leading", "1 on the server that serves the ledger, 0 on one that follows it.",
            [([], UInt64(isLeading ? 1 : 0))])
        exposition.gauge(
            "holdfast_leader_info", "On a server that follows: where the one is that leads; always 1.",
            leader.map { [([("leader", $0)], UInt64(1))] } ?? [])
        exposition.gauge(
            "holdfast_pools_file_refused", "1 while the ledger's pools are not what the file of --pools says.",
            [([], UInt64(isLeading && pools?.isRefused == true ? 1 : 0))])
        exposition.gauge(
            "holdfast_awaits_restore", "1 while the server gives no addresses until a backup is restored.",
            [([], UInt64(isLeading && writer.isAwaitingRestore ? 1 : 0))])
        exposition.gauge(
            "holdfast_token_keys_missing", "1 while there are no keys to verify tokens with, so that none is accepted.",
            [([], UInt64(hasTokenKeys ? 0 : 1))])
        writer.write(to: &exposition)
        exposition.counter(
            "grpc_server_connections_refused_total",
            "Connections that were closed at once because there were too many.",
            [([], rpc.refusedConnections)])
        exposition.write(rpc.statistics)
        return exposition.text
    }
}

extension Writer {
    fileprivate func write(to exposition: inout Exposition) {
        let (revision, pools, migrating, now) = read { ledger, now in
            (ledger.committedRevision, ledger.pools.map { ledger.described($0, at: now) }, ledger.migrating, now)
        }
        exposition.gauge("holdfast_ledger_revision", "Revision of the last committed change.", [([], revision)])
        exposition.gauge(
            "holdfast_pool_addresses", "Addresses of a pool's prefix by state.",
            pools.flatMap { pool in
                pool.usage.flatMap { usage in
                    [
                        ("bound", usage.bound), ("reserved", usage.reserved), ("quarantined", usage.quarantined),
                        ("free", usage.free),
                    ].map { state, count in
                        ([("pool", pool.pool.name), ("prefix", "\(usage.prefix)"), ("state", state)], count)
                    }
                }
            })
        exposition.gauge(
            "holdfast_migrations_open", "Bindings with an open migration.", [([], UInt64(migrating.count))])
        let oldest = migrating.map(\.updatedAt).min().map { Double(now.nanoseconds - $0.nanoseconds) / 1e9 }
        exposition.gauge(
            "holdfast_migration_oldest_seconds", "Age of the open migration that was prepared first; 0 without one.",
            [([], oldest ?? 0)])
        metrics.write(to: &exposition)
    }
}

extension Exposition {
    /// Under the names that gRPC's own Prometheus middleware made usual.
    fileprivate mutating func write(_ methods: [MethodStatistics]) {
        func labels(_ method: MethodStatistics) -> Labels {
            [
                ("grpc_type", method.isUnary ? "unary" : "stream"), ("grpc_service", method.service),
                ("grpc_method", method.method),
            ]
        }
        counter(
            "grpc_server_handled_total", "Calls that ended, by status.",
            methods.flatMap { method in
                method.ended.map { code, count in (labels(method) + [("grpc_code", code.label)], count) }
            })
        histogram(
            "grpc_server_handling_seconds", "From a unary call's arrival to its answer.",
            methods.filter(\.isUnary).map { (labels($0), $0.seconds) })
    }
}

extension RPCStatus.Code {
    /// "InvalidArgument", as grpc-go has it.
    fileprivate var label: String {
        switch self {
        case .ok: "OK"
        case .cancelled: "Canceled"
        case .internalError: "Internal"
        default: "\(self)".prefix(1).uppercased() + "\(self)".dropFirst()
        }
    }
}
