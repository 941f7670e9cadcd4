import Addresses

/// The plugin: one call of the runtime, from its environment and input to what is printed (CNI 1.1, section 2).
package struct Plugin<Host: PluginHost> {
    private let host: Host
    private let environment: [String: String]

    package init(host: Host, environment: [String: String]) {
        self.host = host
        self.environment = environment
    }

    /// What the plugin prints (nil: nothing), and its exit status.
    package func run(input: [UInt8]) -> (output: JSON?, status: Int32) {
        do {
            return (try serve(input), 0)
        } catch {
            // An error object says the configuration's version, also where that is none of ours or all else is wrong.
            let version = (try? JSON(parsing: input))?["cniVersion"]?.string
            return (error.json(version: version ?? CNIVersion.newest.rawValue), 1)
        }
    }

    private func serve(_ input: [UInt8]) throws(CNIError) -> JSON? {
        let invocation = try Invocation(environment: environment)
        switch invocation.verb {
        case .version: return Self.versions
        case .add: return try add(invocation, NetworkConfiguration(parsing: input))
        case .del:
            try delete(invocation, NetworkConfiguration(parsing: input))
            return nil
        case .check, .status, .gc:
            try look(invocation, NetworkConfiguration(parsing: input))
            return nil
        }
    }

    private static var versions: JSON {
        [
            "cniVersion": .string(CNIVersion.newest.rawValue),
            "supportedVersions": .array(CNIVersion.allCases.map { .string($0.rawValue) }),
        ]
    }

    private func add(_ invocation: Invocation, _ network: NetworkConfiguration) throws(CNIError) -> JSON {
        let answer = try ask("/cni/add", network)
        guard let result = answer["result"]?.object, let mac = answer["mac"]?.string.flatMap(MACAddress.init) else {
            throw CNIError(.decodingFailure, "the agent's answer has no result or no MAC: \(answer)")
        }
        guard let configuration = network.delegateConfiguration(mac: mac) else { return .object(result) }
        let output = try delegate(invocation, configuration, mac: mac)
        guard let json = try? JSON(parsing: output), var made = json.object else {
            throw CNIError(.delegateFailure, "\(Self.name(configuration)) printed no result for ADD")
        }
        // bridge drops what its IPAM plugin says of DNS.
        if made["dns"]?.object?.members.isEmpty != false { made["dns"] = result["dns"] }
        guard let actual = Self.hardwareAddress(of: invocation.interface, in: made), actual != mac else {
            return .object(made.result(inVersion: network.version))
        }
        _ = try? delegate(invocation.as(.del), configuration, mac: mac)
        throw CNIError(
            .delegateFailure, "\(Self.name(configuration)) gave \(invocation.interface) the MAC \(actual), not \(mac)",
            details: "the VM's MAC cannot be held with this delegate; if it has the capability \"mac\", declare it: "
                + "\"capabilities\": {\"mac\": true}")
    }

    /// The delegate first: where it fails the agent is not told. A delegate may call its IPAM plugin, which is this one,
    /// before it takes the interface away, as `bridge` does; then the address is released a moment before.
    private func delete(_ invocation: Invocation, _ network: NetworkConfiguration) throws(CNIError) {
        if let configuration = network.delegateConfiguration(mac: nil) {
            _ = try delegate(invocation, configuration, mac: nil)
        }
        _ = try ask("/cni/del", network)
    }

    /// The verbs that change nothing; GC is one of them, as it frees nothing of ours. First the agent, then the delegate,
    /// if its version has the verb (CNI 1.1, section 4).
    private func look(_ invocation: Invocation, _ network: NetworkConfiguration) throws(CNIError) {
        switch invocation.verb {
        case .check: _ = try ask("/cni/check", network)
        case .status:
            do {
                _ = try ask("/cni/status", network)
            } catch {
                throw CNIError(.notAvailable, error.message, details: error.details)
            }
        default: break
        }
        guard let configuration = network.delegateConfiguration(mac: nil),
            let version = configuration["cniVersion"]?.string.flatMap(CNIVersion.init),
            version >= (invocation.verb == .check ? .v0_4_0 : .v1_1_0)
        else { return }
        _ = try delegate(invocation, configuration, mac: nil)
    }

    /// The agent's answer to this call. Throws the agent's error as it is.
    private func ask(_ path: String, _ network: NetworkConfiguration) throws(CNIError) -> JSON {
        let request = AgentRequest(environment: environment, configuration: network.json)
        let reply = try host.post(path, body: request.json, socket: network.socket)
        guard let json = try? JSON(parsing: reply.body) else {
            throw CNIError(.decodingFailure, "the agent answered HTTP \(reply.status) without JSON")
        }
        if reply.status == 200 { return json }
        throw CNIError(json) ?? CNIError(.internalFailure, "the agent answered HTTP \(reply.status): \(json)")
    }

    /// Runs the delegate; gives back what it printed. Throws its own error where it printed one.
    private func delegate(
        _ invocation: Invocation, _ configuration: JSONObject, mac: MACAddress?
    ) throws(CNIError) -> [UInt8] {
        let name = Self.name(configuration)
        guard let executable = host.find(plugin: name, in: invocation.path) else {
            throw CNIError(
                .delegateFailure, "delegate \"\(name)\" is not in CNI_PATH",
                details: "looked in \(invocation.path.joined(separator: ", "))")
        }
        var environment = environment
        environment["CNI_COMMAND"] = invocation.verb.rawValue
        environment["CNI_ARGS"] = Self.arguments(environment["CNI_ARGS"] ?? "", with: mac)
        let outcome = try host.run(executable, environment: environment, input: .object(configuration))
        guard outcome.status != 0 else { return outcome.output }
        if let json = try? JSON(parsing: outcome.output), let error = CNIError(json) { throw error }
        throw CNIError(
            .delegateFailure, "\(name) failed with status \(outcome.status)",
            details: String(decoding: outcome.output.prefix(1024), as: UTF8.self))
    }

    private static func name(_ configuration: JSONObject) -> String { configuration["type"]?.string ?? "" }

    /// CNI_ARGS with `MAC=` set to this one, if any; `IgnoreUnknown` keeps plugins from refusing what they do not know.
    private static func arguments(_ text: String, with mac: MACAddress?) -> String {
        var pairs = text.split(separator: ";").map(String.init)
        if !pairs.contains(where: { $0.hasPrefix("IgnoreUnknown=") }) { pairs.insert("IgnoreUnknown=1", at: 0) }
        if let mac { pairs = pairs.filter { !$0.hasPrefix("MAC=") } + ["MAC=\(mac)"] }
        return pairs.joined(separator: ";")
    }

    /// The MAC of the pod's interface as a result tells it; nil where it does not.
    private static func hardwareAddress(of interface: String, in result: JSONObject) -> MACAddress? {
        result["interfaces"]?.array?
            .first { $0["name"]?.string == interface && $0["sandbox"]?.string?.isEmpty == false }?["mac"]?.string
            .flatMap(MACAddress.init)
    }
}

extension Invocation {
    fileprivate func `as`(_ verb: Verb) -> Invocation {
        var copy = self
        copy.verb = verb
        return copy
    }
}
