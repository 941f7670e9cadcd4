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
    package var socket = NetworkConfiguration.defaultSocket
    /// Whether and how its guests are answered by DHCP, as it is written.
    package var dhcp: JSON?
    /// Whether a delegate asks for what its pod was given just before, by the ADD that runs the delegate. `"attached": true`
    /// in `ipam` says so, which is this plugin's own word: no user writes it.
    package var isDelegates = false
    /// The main plugin that this one runs; nil where this one is the IPAM plugin, and at a DEL that names none.
    package var delegate: JSONObject?
    /// The version in which the delegate is spoken to: its own, where it names one.
    package var delegateVersion: CNIVersion

    /// Throws code 6 where `input` is no JSON object, 1 where its version is none that this plugin speaks, 7 where a key
    /// is missing or of the wrong type.
    package init(parsing input: [UInt8], for verb: Invocation.Verb = .add) throws(CNIError) {
        let json: JSON
        do {
            json = try JSON(parsing: input)
        } catch {
            throw CNIError(.decodingFailure, "the network configuration is not JSON: \(error)")
        }
        guard let object = json.object else {
            throw CNIError(.decodingFailure, "the network configuration is JSON, but no object")
        }
        try self.init(object, for: verb)
    }

    package init(_ json: JSONObject, for verb: Invocation.Verb = .add) throws(CNIError) {
        self.json = json
        // Without one it is one of the first versions (section 1 of CNI 0.2.0).
        version = try Self.known(Self.string("cniVersion", in: json) ?? "0.2.0")
        delegateVersion = version
        name = try Self.string("name", in: json) ?? ""
        guard !name.isEmpty else { throw CNIError(.invalidConfiguration, "the network has no \"name\"") }
        guard Invocation.isIdentifier(name) else {
            throw CNIError(
                .invalidConfiguration, "the network's name \(JSON.string(name)) is malformed",
                details: "it starts with a letter or digit and has only those and \"_.-\"")
        }
        guard json["prevResult"].map({ $0 == .null || $0.object != nil }) ?? true else {
            throw CNIError(.invalidConfiguration, "\"prevResult\" is not an object")
        }
        if isMain {
            // Multus 4.2 and 4.3 keep of the cluster's network what libcni knows, and no more, for its DEL.
            if verb != .del || json["delegate"] ?? .null != .null {
                let delegate = try Self.delegate(in: json, of: name)
                self.delegate = delegate
                if let own = try Self.string("cniVersion", in: delegate, at: "delegate.") {
                    delegateVersion = try Self.known(own)
                }
            }
        } else if let ipam = json["ipam"]?.object, ipam["type"]?.string == Self.pluginType {
            isDelegates = ipam["attached"] == true
        } else {
            throw CNIError(
                .invalidConfiguration, "network \"\(name)\" names holdfast-cni neither as \"type\" nor in \"ipam\"")
        }
        for (path, own) in places.reversed() {
            if let pool = try Self.string("pool", in: own, at: path) { self.pool = pool }
            if let socket = try Self.socket(in: own, at: path) { self.socket = socket }
            if let dhcp = own["dhcp"] { self.dhcp = dhcp }
        }
    }

    /// Whether this plugin is the main plugin, which runs the delegate.
    package var isMain: Bool { json["type"]?.string == Self.pluginType }

    /// Where this plugin's own keys are, with what stands before them in a message; the first goes before the second. A
    /// delegate that was wrapped as it was has them in its `ipam`.
    package var places: [(path: String, object: JSONObject)] {
        guard isMain else { return [("ipam.", json["ipam"]?.object ?? [:])] }
        return [("", json), ("delegate.ipam.", delegate?["ipam"]?.object ?? [:])]
    }

    /// Throws code 7 where the main plugin has an `ipam` beside its `delegate`: nobody would read it.
    package func refuseAnotherIPAM() throws(CNIError) {
        guard delegate != nil, let ipam = json["ipam"]?.object, !ipam.members.isEmpty else { return }
        throw CNIError(
            .invalidConfiguration, "network \"\(name)\" has \"ipam\" beside \"type\": \"\(Self.pluginType)\"",
            details: "\(Self.pluginType) gives the addresses itself: take \"ipam\" out, and write \"pool\", or what is "
                + "in it of ranges, beside \"delegate\" or into the delegate's \"ipam\"")
    }

    private static func known(_ version: String) throws(CNIError) -> CNIVersion {
        if let known = CNIVersion(rawValue: version) { return known }
        throw CNIError(
            .incompatibleVersion, "cniVersion \(JSON.string(version)) is not supported",
            details: "this plugin speaks \(CNIVersion.allCases.map { $0.rawValue }.joined(separator: ", "))")
    }

    /// What sockaddr_un holds is 108 bytes with the closing zero (unix(7)).
    private static func socket(in object: JSONObject, at path: String) throws(CNIError) -> String? {
        guard let socket = try string("socket", in: object, at: path) else { return nil }
        guard socket.hasPrefix("/"), socket.utf8.count < 108, !socket.utf8.contains(0) else {
            throw CNIError(
                .invalidConfiguration, "\"\(path)socket\" is no path of a socket: \(JSON.string(socket))",
                details: "it is absolute and has at most 107 bytes")
        }
        return socket
    }

    private static func delegate(in object: JSONObject, of name: String) throws(CNIError) -> JSONObject {
        guard let delegate = object["delegate"]?.object, let type = delegate["type"]?.string, !type.isEmpty else {
            throw CNIError(
                .invalidConfiguration, "network \"\(name)\" has no \"delegate\" with a \"type\"",
                details: "as main plugin holdfast-cni runs another one, for example \"delegate\": {\"type\": "
                    + "\"bridge\"}; to be the address plugin of another one it stands in that one's \"ipam\"")
        }
        guard type != pluginType, !type.utf8.contains(UInt8(ascii: "/")), !type.utf8.contains(0) else {
            throw CNIError(
                .invalidConfiguration, "\"delegate.type\" cannot be \(JSON.string(type))",
                details: "it is the file name of another main plugin, such as \"bridge\"")
        }
        return delegate
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
        delegate["cniVersion"] = .string(delegateVersion.rawValue)
        var ipam: JSONObject = ["type": .string(Self.pluginType), "attached": true]
        if let pool { ipam["pool"] = .string(pool) }
        ipam["socket"] = .string(socket)
        ipam["dhcp"] = dhcp
        delegate["ipam"] = .object(ipam)
        // What the runtime adds for a verb, as the list of attachments for GC.
        for member in json.members where member.key.hasPrefix("cni.dev/") { delegate[member.key] = member.value }
        // Multus names a pod's device so, for SR-IOV (pkg/types/conf.go, `delegateAddDeviceID`).
        for key in ["deviceID", "pciBusID"] where delegate[key] == nil { delegate[key] = json[key] }
        if let previous = json["prevResult"]?.object {
            delegate["prevResult"] = .object(previous.result(inVersion: delegateVersion))
        }
        var told: JSONObject = [:]
        for key in ["args", "runtimeConfig"] where json[key]?.object?.members.isEmpty == false { told[key] = json[key] }
        if let mac {
            let mac = JSON.string(mac.description)
            told = told.merged(with: ["args": ["cni": ["mac": mac]]])
            if delegate["capabilities"]?["mac"]?.bool == true {
                told = told.merged(with: ["runtimeConfig": ["mac": mac]])
            }
        }
        return delegate.merged(with: told)
    }
}

extension JSONObject {
    /// With the other's members, which prevail; objects of the same key are merged.
    fileprivate func merged(with other: JSONObject) -> JSONObject {
        var merged = self
        for member in other.members {
            if let own = merged[member.key]?.object, let theirs = member.value.object {
                merged[member.key] = .object(own.merged(with: theirs))
            } else {
                merged[member.key] = member.value
            }
        }
        return merged
    }
}
