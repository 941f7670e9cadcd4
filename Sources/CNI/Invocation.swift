/// What the runtime asks for: the CNI environment (CNI 1.1, section 2, "Parameters").
package struct Invocation: Hashable, Sendable {
    package enum Verb: String, Hashable, Sendable, CaseIterable {
        case add = "ADD"
        case del = "DEL"
        case check = "CHECK"
        case gc = "GC"
        case status = "STATUS"
        case version = "VERSION"
    }

    package var verb: Verb
    package var containerID: String
    /// Empty where the runtime names none, as it may for DEL.
    package var netns: String
    /// The interface's name in the pod.
    package var interface: String
    /// CNI_ARGS, taken apart.
    package var arguments: [String: String]
    /// CNI_PATH, taken apart.
    package var path: [String]

    /// Throws code 4 where a variable that the verb needs is missing or malformed. What it does not need is not looked at.
    package init(environment: [String: String]) throws(CNIError) {
        guard let command = environment["CNI_COMMAND"], !command.isEmpty else {
            throw CNIError(
                .invalidEnvironment, "CNI_COMMAND is not set",
                details: "holdfast-cni is a CNI plugin: a container runtime calls it")
        }
        guard let verb = Verb(rawValue: command) else {
            throw CNIError(.invalidEnvironment, "CNI_COMMAND \"\(command)\" is no verb of CNI")
        }
        self.verb = verb
        containerID = environment["CNI_CONTAINERID"] ?? ""
        netns = environment["CNI_NETNS"] ?? ""
        interface = environment["CNI_IFNAME"] ?? ""
        path = (environment["CNI_PATH"] ?? "").split(separator: ":").map(String.init)
        arguments = [:]
        switch verb {
        case .add, .del, .check:
            arguments = try Self.arguments(environment["CNI_ARGS"] ?? "")
            try Self.require(Self.isIdentifier(containerID), "CNI_CONTAINERID", containerID)
            try Self.require(Self.isInterfaceName(interface), "CNI_IFNAME", interface)
            if verb != .del { try Self.require(!netns.isEmpty, "CNI_NETNS", netns) }
        case .gc: try requirePath()
        case .status, .version: break
        }
    }

    /// Throws code 4 where there is no CNI_PATH in which to look for a delegate.
    package func requirePath() throws(CNIError) { try Self.require(!path.isEmpty, "CNI_PATH", "") }

    private static func require(_ isValid: Bool, _ variable: String, _ value: String) throws(CNIError) {
        guard isValid else {
            throw CNIError(
                .invalidEnvironment, value.isEmpty ? "\(variable) is not set" : "\(variable) \"\(value)\" is malformed")
        }
    }

    /// What container IDs and network names are (sections 1 and 2): an alphanumeric character, then any of those and "_.-".
    static func isIdentifier(_ text: String) -> Bool {
        func isAlphanumeric(_ byte: UInt8) -> Bool {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
                UInt8(ascii: "A")...UInt8(ascii: "Z"):
                true
            default: false
            }
        }
        guard let first = text.utf8.first, isAlphanumeric(first) else { return false }
        return text.utf8.allSatisfy { isAlphanumeric($0) || "_.-".utf8.contains($0) }
    }

    /// Linux's rule (net/core/dev.c, dev_valid_name): at most 15 bytes, no slash, colon or space, not "." or "..".
    private static func isInterfaceName(_ text: String) -> Bool {
        (1...15).contains(text.utf8.count) && text != "." && text != ".."
            && text.utf8.allSatisfy { $0 > 0x20 && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: ":") }
    }

    /// "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web".
    private static func arguments(_ text: String) throws(CNIError) -> [String: String] {
        var arguments: [String: String] = [:]
        for pair in text.split(separator: ";") {
            guard let equals = pair.firstIndex(of: "=") else {
                throw CNIError(.invalidEnvironment, "CNI_ARGS has \"\(pair)\" where KEY=VALUE is expected")
            }
            arguments[String(pair[..<equals])] = String(pair[pair.index(after: equals)...])
        }
        return arguments
    }
}
