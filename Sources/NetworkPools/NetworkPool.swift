package import CNI
import IPAMModel

/// The pool that a network's configuration names or describes.
package enum NetworkPool: Hashable, Sendable {
    case named(String)
    /// Described by ranges, as whereabouts and host-local have them: the agent sees to it that the pool is there.
    case inline(InlinePool)

    /// Nil where the configuration does neither.
    package init?(_ network: NetworkConfiguration) throws(CNIError) {
        let inline = try InlinePool(network)
        switch (network.pool, inline) {
        case (nil, nil): return nil
        case (let name?, nil): self = .named(name)
        case (nil, let inline?): self = .inline(inline)
        case (let name?, let inline?):
            throw CNIError(
                .invalidConfiguration,
                "network \"\(network.name)\" names the pool \"\(name)\" and describes another by ranges",
                details: "keep one: without \"pool\" the ranges make the pool \(inline.pool.name)")
        }
    }

    package var name: String {
        switch self {
        case .named(let name): name
        case .inline(let inline): inline.pool.name
        }
    }
}
