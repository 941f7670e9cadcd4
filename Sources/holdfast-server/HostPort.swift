import Addresses

/// HOST:PORT, where an IPv6 address stands in brackets.
struct HostPort {
    let host: String
    let port: UInt16

    init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
            return nil
        }
        var host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = host.dropFirst().dropLast()
        } else if host.contains(":") {
            return nil
        }
        guard !host.isEmpty else { return nil }
        self.host = String(host)
        self.port = port
    }

    /// Whether nobody outside this machine can reach it.
    var isLoopback: Bool { host == "localhost" || IPAddress(host)?.isLoopback == true }

    /// Whether it stands for every address of this machine.
    var isWildcard: Bool { host == "0.0.0.0" || host == "::" }
}
