import ArgumentParser
import EtcdStore

/// Where a ledger is durable, as people write it: `sqlite:PATH`, or `etcd:URL,URL,…`.
package enum StoreName: ExpressibleByArgument {
    case sqlite(path: String)
    case etcd(urls: String)

    package init?(argument text: String) {
        let parts = text.split(separator: ":", maxSplits: 1)
        guard parts.count == 2 else { return nil }
        switch parts[0] {
        case "sqlite": self = .sqlite(path: String(parts[1]))
        case "etcd":
            guard EtcdConfiguration.endpoints(of: parts[1]) != nil else { return nil }
            self = .etcd(urls: String(parts[1]))
        default: return nil
        }
    }

    package var defaultValueDescription: String {
        switch self {
        case .sqlite(let path): "sqlite:\(path)"
        case .etcd(let urls): "etcd:\(urls)"
        }
    }
}
