import Addresses
package import RPC

/// Where etcd is, how to get in, and what is this installation's in it.
package struct EtcdConfiguration: Sendable {
    /// HOST:PORT of each member.
    package var endpoints: [String]
    /// Asked for each call, as they may be renewed meanwhile.
    package var credentials: @Sendable () -> ChannelCredentials
    /// Of etcd's own users; nil where its authentication is off. The password is asked for whenever etcd wants it.
    package var user: (name: String, password: @Sendable () -> String)?
    /// What every key of this installation begins with; ends with `/`.
    package var prefix: String
    /// How long a leader that says nothing stays the leader. etcd makes it two seconds at least.
    package var lease: Duration

    package static let defaultPrefix = "/holdfast/default/"
    package static let defaultLeaseSeconds = 5

    package init(
        endpoints: [String], credentials: @escaping @Sendable () -> ChannelCredentials = { .insecure },
        user: (name: String, password: @Sendable () -> String)? = nil, prefix: String = defaultPrefix,
        lease: Duration = .seconds(defaultLeaseSeconds)
    ) {
        self.endpoints = endpoints
        self.credentials = credentials
        self.user = user
        self.prefix = prefix.hasSuffix("/") ? prefix : prefix + "/"
        self.lease = lease
    }

    /// The members of `URL,URL,…`; nil unless all are `http://HOST:PORT` or all `https://HOST:PORT`.
    package static func endpoints(of urls: some StringProtocol) -> (endpoints: [String], isTLS: Bool)? {
        let parts = urls.split(separator: ",", omittingEmptySubsequences: false)
        for (scheme, isTLS) in [("http://", false), ("https://", true)] {
            let endpoints = parts.compactMap { part -> String? in
                guard part.hasPrefix(scheme) else { return nil }
                var address = part.dropFirst(scheme.count)
                if address.hasSuffix("/") { address = address.dropLast() }
                return address.contains("/") ? nil : HostPort(String(address)).map { "\($0)" }
            }
            if endpoints.count == parts.count { return (endpoints, isTLS) }
        }
        return nil
    }
}
