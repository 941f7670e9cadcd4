import Addresses

/// The plugin: one call of the runtime, from its environment and input to what is printed (CNI 1.1, section 2).
package struct Plugin<Host: PluginHost> {
    let host: Host
    let environment: [String: String]

    package init(host: Host, environment: [String: String]) {
        self.host = host
        self.environment = environment
    }

    /// What the plugin prints (nil: nothing), and its exit status. `input` is nil where it could not be read.
    package func run(input: [UInt8]?) -> (output: JSON?, status: Int32) {
        do {
            return (try serve(input), 0)
        } catch {
            // An error object says the configuration's version, also where that is none of ours or all else is wrong.
            return (error.json(version: Self.version(in: input) ?? CNIVersion.newest.rawValue), 1)
        }
    }

    private func serve(_ input: [UInt8]?) throws(CNIError) -> JSON? {
        let invocation = try Invocation(environment: environment)
        if invocation.verb == .version { return Self.versions(for: input) }
        guard let input else { throw CNIError(.ioFailure, "the network configuration on stdin cannot be read") }
        let network = try NetworkConfiguration(parsing: input, for: invocation.verb)
        guard network.version.has(invocation.verb) else {
            throw CNIError(
                .incompatibleVersion, "cniVersion \(network.version.rawValue) has no \(invocation.verb.rawValue)")
        }
        if network.delegate != nil { try invocation.requirePath() }
        switch invocation.verb {
        case .add:
            try network.refuseAnotherIPAM()
            return try add(invocation, network)
        case .del:
            // An ADD that still runs ends first. No DEL fails for want of a namespace, or of the lock.
            if network.isMain, !invocation.netns.isEmpty {
                try? host.claim(invocation.interface, in: invocation.netns, mustBeNew: false)
            }
            try delete(invocation, network)
        case .check: try check(invocation, network)
        case .gc: try collect(invocation, network)
        case .status: try status(invocation, network)
        case .version: break
        }
        return nil
    }

    private static func version(in input: [UInt8]?) -> String? {
        input.flatMap { try? JSON(parsing: $0) }?["cniVersion"]?.string
    }

    /// Section 5, "VERSION Success": the version is the caller's own.
    private static func versions(for input: [UInt8]?) -> JSON {
        [
            "cniVersion": .string(version(in: input) ?? CNIVersion.newest.rawValue),
            "supportedVersions": .array(CNIVersion.allCases.map { .string($0.rawValue) }),
        ]
    }

    private func add(_ invocation: Invocation, _ network: NetworkConfiguration) throws(CNIError) -> JSON {
        if network.delegate != nil {
            // A later plugin of a chain finds the interface that an earlier one made.
            let isFirst = network.json["prevResult"]?.object == nil
            try host.claim(invocation.interface, in: invocation.netns, mustBeNew: isFirst)
        }
        let answer = try ask(.add, network)
        guard let result = answer["result"]?.object, let mac = answer["mac"]?.string.flatMap(MACAddress.init) else {
            throw CNIError(.decodingFailure, "the agent's answer has no result or no MAC: \(answer)")
        }
        if answer["silent"]?.bool == true { try host.silence(invocation.interface, in: invocation.netns) }
        guard let configuration = network.delegateConfiguration(mac: mac) else {
            try refuseGatewayOfItsOwn(network, result)
            return .object(result)
        }
        do {
            var made = try delegateResult(invocation, configuration, mac: mac, given: result)
            // bridge drops what its IPAM plugin says of DNS.
            if made["dns"]?.object?.members.isEmpty != false { made["dns"] = result["dns"] }
            return .object(made.result(inVersion: network.version))
        } catch {
            // Section 4, "Delegated plugin execution procedure". The runtime's own DEL reports what fails here.
            try? delete(invocation.as(.del), network)
            throw error
        }
    }

    /// As IPAM plugin of `bridge`, which takes the first address of a prefix where it is to be the gateway and is told of none
    /// (plugins/main/bridge/bridge.go, `calcGateways`): throws code 7, as that may be a VM's.
    private func refuseGatewayOfItsOwn(_ network: NetworkConfiguration, _ result: JSONObject) throws(CNIError) {
        guard ["isGateway", "isDefaultGateway"].contains(where: { network.json[$0] == true }),
            result["ips"]?.array?.contains(where: { $0["gateway"] == nil }) == true
        else { return }
        throw CNIError(
            .invalidConfiguration,
            "\(network.json["type"]?.string ?? "the main plugin") is to be the gateway, and the pool has none",
            details: "it would take an address that the pool may give to a VM: set the pool's gateway, or leave "
                + "\"isGateway\" and \"isDefaultGateway\" out")
    }

    /// Both are told in any case, the delegate first; what failed first is reported. A delegate may call its IPAM plugin,
    /// which is this one, before it takes the interface away, as `macvlan` does; then the address is released a moment
    /// before.
    private func delete(_ invocation: Invocation, _ network: NetworkConfiguration) throws(CNIError) {
        try inTurn { () throws(CNIError) in
            try runDelegate(invocation, network)
        } then: { () throws(CNIError) in
            _ = try ask(.del, network)
        }
    }

    private func check(_ invocation: Invocation, _ network: NetworkConfiguration) throws(CNIError) {
        _ = try ask(.check, network)
        try runDelegate(invocation, network)
    }

    /// Section 2, "GC": an error does not end it.
    private func collect(_ invocation: Invocation, _ network: NetworkConfiguration) throws(CNIError) {
        // A list that cannot be read is no list for the delegate either.
        _ = try network.validAttachments()
        try inTurn { () throws(CNIError) in
            _ = try ask(.gc, network)
        } then: { () throws(CNIError) in
            try runDelegate(invocation, network)
        }
    }

    private func status(_ invocation: Invocation, _ network: NetworkConfiguration) throws(CNIError) {
        do {
            _ = try ask(.status, network)
        } catch {
            throw CNIError(.notAvailable, error.message, details: error.details)
        }
        try runDelegate(invocation, network)
    }

    /// Both, whatever becomes of the first. Throws the first error.
    private func inTurn(
        _ first: () throws(CNIError) -> Void, then second: () throws(CNIError) -> Void
    ) throws(CNIError) {
        do {
            try first()
        } catch {
            try? second()
            throw error
        }
        try second()
    }

    /// The agent's answer to this call. Throws the agent's error as it is.
    private func ask(_ verb: Invocation.Verb, _ network: NetworkConfiguration) throws(CNIError) -> JSON {
        var environment = environment
        environment["CNI_COMMAND"] = verb.rawValue
        let request = AgentRequest(environment: environment, configuration: network.json)
        let reply = try host.post(AgentRequest.path(of: verb), body: request.json, socket: network.socket)
        guard let json = try? JSON(parsing: reply.body) else {
            throw CNIError(.decodingFailure, "the agent answered HTTP \(reply.status) without JSON")
        }
        if reply.status == 200 { return json }
        throw CNIError(json) ?? CNIError(.internalFailure, "the agent answered HTTP \(reply.status): \(json)")
    }
}

extension Invocation {
    fileprivate func `as`(_ verb: Verb) -> Invocation {
        var copy = self
        copy.verb = verb
        return copy
    }
}
