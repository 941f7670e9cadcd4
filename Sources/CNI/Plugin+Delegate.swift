import Addresses

// The main plugin that this one runs (CNI 1.1, section 4).
extension Plugin {
    /// What the delegate made of ADD. Throws where it failed, where it printed no result, and where the interface does not
    /// have `mac` and the addresses that `given` has.
    func delegateResult(
        _ invocation: Invocation, _ configuration: JSONObject, mac: MACAddress, given: JSONObject
    ) throws(CNIError) -> JSONObject {
        let output = try execute(invocation, configuration, mac: mac)
        guard let made = (try? JSON(parsing: output))?.object, made.isResult else {
            throw CNIError(
                .delegateFailure, "\(Self.name(configuration)) printed no result for ADD", details: Self.text(output))
        }
        if let actual = Self.hardwareAddress(of: invocation.interface, in: made), actual != mac {
            throw CNIError(
                .delegateFailure,
                "\(Self.name(configuration)) gave \(invocation.interface) the MAC \(actual), not \(mac)",
                details: "if it has the capability \"mac\", declare it in \"delegate\": \"capabilities\": "
                    + "{\"mac\": true}; ptp, vlan and ipvlan cannot set a MAC: take bridge (with its \"vlan\"), for "
                    + "pods without a VM also macvlan, or holdfast-cni as that plugin's \"ipam\", for addresses only")
        }
        let found = made.addresses(of: invocation.interface)
        let missing = given.addresses(of: invocation.interface).filter { !found.contains($0) }
        guard missing.isEmpty else {
            throw CNIError(
                .delegateFailure,
                "\(Self.name(configuration)) did not give \(invocation.interface) "
                    + missing.map { $0.description }.joined(separator: ", "),
                details: "a delegate asks its \"ipam\" for addresses, which is holdfast-cni, and its result has them: "
                    + "one that does not use \"ipam\", or is told not to, cannot be the delegate")
        }
        return made
    }

    /// A verb that prints nothing; not for a delegate whose version does not have it, and not where there is no delegate.
    func runDelegate(_ invocation: Invocation, _ network: NetworkConfiguration) throws(CNIError) {
        guard network.delegateVersion.has(invocation.verb),
            let configuration = network.delegateConfiguration(mac: nil)
        else { return }
        _ = try execute(invocation, configuration, mac: nil)
    }

    /// Runs the delegate; gives back what it printed. Throws its own error where it printed one.
    private func execute(
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
            .delegateFailure, "\(name) failed with status \(outcome.status)", details: Self.text(outcome.output))
    }

    private static func name(_ configuration: JSONObject) -> String { configuration["type"]?.string ?? "" }

    private static func text(_ output: [UInt8]) -> String { String(decoding: output.prefix(1024), as: UTF8.self) }

    /// CNI_ARGS with `MAC=` set to this one, if any; `IgnoreUnknown` keeps plugins from refusing what they do not know.
    private static func arguments(_ text: String, with mac: MACAddress?) -> String {
        var pairs = text.split(separator: ";").map(String.init)
        if !pairs.contains(where: { $0.hasPrefix("IgnoreUnknown=") }) { pairs.insert("IgnoreUnknown=1", at: 0) }
        if let mac { pairs = pairs.filter { !$0.hasPrefix("MAC=") } + ["MAC=\(mac)"] }
        return pairs.joined(separator: ";")
    }

    /// The MAC of the pod's interface as a result tells it; nil where it does not.
    private static func hardwareAddress(of interface: String, in result: JSONObject) -> MACAddress? {
        result["interfaces"]?.array?.first { $0.isInSandbox(named: interface) }?["mac"]?.string
            .flatMap(MACAddress.init)
    }
}

extension JSON {
    /// Whether this element of a result's interfaces is the pod's one of this name.
    package func isInSandbox(named interface: String) -> Bool {
        self["name"]?.string == interface && self["sandbox"]?.string?.isEmpty == false
    }
}
