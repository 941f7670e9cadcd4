package import Addresses

/// A network's configuration as the runtime hands it over (CNI 1.1, section 1), with this plugin's own keys read out.
///
/// The plugin is in it in one of two places: as the `ipam` of another plugin, or as the main plugin with a `delegate`.
package struct NetworkConfiguration: Hashable, Sendable {
    package static let pluginType = "holdfast-cni"
    package static let defaultSocket = "/run/holdfast/agent.sock"

    /// All of it, known keys and others.
    package var json: JSONObject
    package var version: CNIVersion
    package var name: String
    /// The pool named in the configuration.
    package var pool: String?
    /// The agent's socket.
    package var socket: String
    /// The main plugin that this one runs; nil where this one is the IPAM plugin.
    package var delegate: JSONObject?

    /// Throws code 6 where `input` is no JSON object, 1 where its version is none that this plugin speaks, 7 where a key
    /// is missing or of the wrong type.
    package init(parsing input: [UInt8]) throws(CNIError) {
        do {
            guard case .object(let object) = try JSON(parsing: input) else {
                throw JSONError(problem: "not an object", offset: 0)
            }
            try self.init(object)
        } catch let error as JSONError {
            throw CNIError(.decodingFailure, "the network configuration is not JSON: \(error)")
        } catch let error as CNIError {
            throw error
        } catch {
            throw CNIError(.decodingFailure, "\(error)")
        }
    }

    package init(_ json: JSONObject) throws(CNIError) {
        self.json = json
        let version = try Self.string("cniVersion", in: json) ?? "0.2.0"
        guard let known = CNIVersion(rawValue: version) else {
            throw CNIError(
                .incompatibleVersion, "cniVersion \"\(version)\" is not supported",
                details: "this plugin speaks \(CNIVersion.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        self.version = known
        name = try Self.string("name", in: json) ?? ""
        guard !name.isEmpty else { throw CNIError(.invalidConfiguration, "the network has no \"name\"") }
        if let ipam = json["ipam"], ipam["type"]?.string == Self.pluginType, let own = ipam.object {
            pool = try Self.string("pool", in: own, at: "ipam.")
            socket = try Self.string("socket", in: own, at: "ipam.") ?? Self.defaultSocket
        } else if json["type"]?.string == Self.pluginType {
            pool = try Self.string("pool", in: json)
            socket = try Self.string("socket", in: json) ?? Self.defaultSocket
            guard let delegate = json["delegate"]?.object, delegate["type"]?.string?.isEmpty == false else {
                throw CNIError(
                    .invalidConfiguration, "network \"\(name)\" has no \"delegate\" with a \"type\"",
                    details: "as main plugin holdfast-cni runs another one, for example \"delegate\": {\"type\": "
                        + "\"bridge\"}; to be the address plugin of another one it stands in that one's \"ipam\"")
            }
            self.delegate = delegate
        } else {
            throw CNIError(
                .invalidConfiguration, "network \"\(name)\" names holdfast-cni neither as \"type\" nor in \"ipam\"")
        }
    }

    private static func string(_ key: String, in object: JSONObject, at path: String = "") throws(CNIError) -> String? {
        guard let value = object[key], value != .null else { return nil }
        guard let string = value.string else {
            throw CNIError(.invalidConfiguration, "\"\(path)\(key)\" is not a string: \(value)")
        }
        return string.isEmpty ? nil : string
    }
}

extension NetworkConfiguration {
    /// What the delegate is told: its own keys, every one as it is, plus the network's name, version (unless it names its
    /// own) and arguments, the binding's MAC, and this plugin as its IPAM, so that it asks again and gets the same answer.
    /// Nil where this plugin is the IPAM plugin. `mac` nil: for the verbs that set nothing up.
    package func delegateConfiguration(mac: MACAddress?) -> JSONObject? {
        guard var delegate else { return nil }
        delegate["name"] = .string(name)
        if delegate["cniVersion"] == nil { delegate["cniVersion"] = .string(version.rawValue) }
        var ipam: JSONObject = ["type": .string(Self.pluginType)]
        if let pool { ipam["pool"] = .string(pool) }
        ipam["socket"] = .string(socket)
        delegate["ipam"] = .object(ipam)
        delegate["cni.dev/valid-attachments"] = json["cni.dev/valid-attachments"]
        if let previous = json["prevResult"]?.object {
            let own = delegate["cniVersion"]?.string.flatMap(CNIVersion.init) ?? version
            delegate["prevResult"] = .object(previous.result(inVersion: own))
        }
        var args = json["args"]?.object ?? [:]
        var runtime = json["runtimeConfig"]?.object ?? [:]
        if let mac {
            var cni = args["cni"]?.object ?? [:]
            cni["mac"] = .string(mac.description)
            args["cni"] = .object(cni)
            if delegate["capabilities"]?["mac"]?.bool == true { runtime["mac"] = .string(mac.description) }
        }
        if !args.members.isEmpty { delegate["args"] = .object(args) }
        if !runtime.members.isEmpty { delegate["runtimeConfig"] = .object(runtime) }
        return delegate
    }
}
