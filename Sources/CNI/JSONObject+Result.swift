extension JSONObject {
    /// Whether this has the shape of a success result (CNI 1.1, section 5, "ADD Success"): what is there of it is of the
    /// right kind.
    package var isResult: Bool {
        func isList(_ key: String, of isElement: (JSON) -> Bool) -> Bool {
            guard let value = self[key], value != .null else { return true }
            return value.array?.allSatisfy(isElement) ?? false
        }
        let dns = self["dns"] ?? .null
        return self["code"] == nil && isList("interfaces") { $0["name"]?.string != nil }
            && isList("ips") { $0["address"]?.string != nil }
            && isList("routes") { $0["dst"]?.string != nil } && (dns == .null || dns.object != nil)
    }

    /// The addresses that the result has, without those of other interfaces.
    func addresses(of interface: String) -> [InterfaceAddress] {
        let interfaces = self["interfaces"]?.array ?? []
        return (self["ips"]?.array ?? []).compactMap { ip in
            if let index = ip["interface"]?.integer {
                guard interfaces.indices.contains(index), interfaces[index]["name"]?.string == interface else {
                    return nil
                }
            }
            return ip["address"]?.string.flatMap(InterfaceAddress.init)
        }
    }

    /// A plugin's result said in another version: before 1.1.0 interfaces and routes have fewer keys, before 1.0.0 each
    /// address names its family.
    package func result(inVersion version: CNIVersion) -> JSONObject {
        var result = self
        result["cniVersion"] = .string(version.rawValue)
        result.changeElements(of: "ips") { ip in
            let isIPv6 = ip["address"]?.string?.utf8.contains(UInt8(ascii: ":")) == true
            ip["version"] = version < .v1_0_0 ? (isIPv6 ? "6" : "4") : nil
        }
        if version < .v1_1_0 {
            result.changeElements(of: "interfaces") { interface in
                for key in ["mtu", "socketPath", "pciID"] { interface[key] = nil }
            }
            result.changeElements(of: "routes") { route in
                for key in ["mtu", "advmss", "priority", "table", "scope"] { route[key] = nil }
            }
        }
        return result
    }

    private mutating func changeElements(of key: String, _ change: (inout JSONObject) -> Void) {
        guard let elements = self[key]?.array else { return }
        self[key] = .array(
            elements.map { element in
                guard var object = element.object else { return element }
                change(&object)
                return .object(object)
            })
    }
}
