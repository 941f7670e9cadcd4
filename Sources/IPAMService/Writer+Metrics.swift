import IPAMAPI
package import IPAMModel
import Ledger

extension Writer {
    /// Prometheus' text format 0.0.4, from the last committed state.
    package func metrics(version: String) throws(IPAMError) -> String {
        let (revision, pools) = try read { ledger, now in
            (ledger.committedRevision, ledger.pools.map { ledger.described($0, at: now) })
        }
        let addresses = pools.flatMap { pool in
            pool.usage.flatMap { usage in
                let states = [
                    ("bound", usage.bound), ("reserved", usage.reserved), ("quarantined", usage.quarantined),
                    ("free", usage.free),
                ]
                return states.map { state, count in
                    (labels: [("pool", pool.pool.name), ("prefix", "\(usage.prefix)"), ("state", state)], value: count)
                }
            }
        }
        return gauge("holdfast_build_info", "The version that runs; always 1.", [([("version", version)], 1)])
            + gauge("holdfast_ledger_revision", "Revision of the last committed change.", [([], revision)])
            + gauge("holdfast_pool_addresses", "Addresses of a pool's prefix by state.", addresses)
    }
}

private func gauge(
    _ name: String, _ help: String, _ samples: [(labels: [(name: String, value: String)], value: UInt64)]
) -> String {
    let lines = samples.map { labels, value in
        let text = labels.map { "\($0)=\"\(escaped($1))\"" }.joined(separator: ",")
        return name + (text.isEmpty ? "" : "{\(text)}") + " \(value)\n"
    }
    return "# HELP \(name) \(help)\n# TYPE \(name) gauge\n" + lines.joined()
}

/// A label's value between its quotation marks.
func escaped(_ value: String) -> String {
    value.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
}
