package import Addresses

/// What the plugin posts to the agent: the runtime's call as it came. Both sides read it with the same code.
package struct AgentRequest: Hashable, Sendable {
    package var environment: [String: String]
    package var configuration: JSONObject

    package init(environment: [String: String], configuration: JSONObject) {
        self.environment = environment
        self.configuration = configuration
    }

    /// Where a verb is posted: "/cni/add".
    package static func path(of verb: Invocation.Verb) -> String { "/cni/\(verb.rawValue.lowercased())" }

    /// What a runtime that traces puts its trace into
    /// (https://opentelemetry.io/docs/specs/otel/context/env-carriers/).
    package static let traceVariable = "TRACEPARENT"

    /// Of the environment only what CNI defines, and the trace: the rest is the runtime's own business.
    package var json: JSON {
        var variables = JSONObject()
        for (name, value) in environment.sorted(by: { $0.key < $1.key })
        where name.hasPrefix("CNI_") || name == Self.traceVariable {
            variables[name] = .string(value)
        }
        return ["environment": .object(variables), "configuration": .object(configuration)]
    }

    /// Throws code 6.
    package init(parsing body: [UInt8]) throws(CNIError) {
        guard let json = try? JSON(parsing: body), let variables = json["environment"]?.object,
            let configuration = json["configuration"]?.object
        else {
            throw CNIError(.decodingFailure, "the plugin's request is malformed")
        }
        self.configuration = configuration
        environment = [:]
        for member in variables.members { environment[member.key] = member.value.string }
    }
}

/// What the agent answers to ADD.
package struct AddAnswer: Hashable, Sendable {
    package var result: CNIResult
    /// The MAC that the interface must have.
    package var mac: MACAddress
    /// A guest that runs elsewhere has these addresses until it comes: what has them here meanwhile is to say nothing.
    package var isSilent: Bool

    package init(result: CNIResult, mac: MACAddress, isSilent: Bool = false) {
        self.result = result
        self.mac = mac
        self.isSilent = isSilent
    }

    package func json(version: CNIVersion) -> JSON {
        ["mac": .string(mac.description), "silent": .bool(isSilent), "result": result.json(version: version)]
    }
}
