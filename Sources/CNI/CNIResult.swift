package import Addresses

/// The success result of an IPAM plugin: addresses, routes and DNS, no interfaces (CNI 1.1, section 5).
package struct CNIResult: Hashable, Sendable {
    package struct Address: Hashable, Sendable {
        package var address: IPAddress
        package var prefixLength: Int
        package var gateway: IPAddress?

        package init(address: IPAddress, prefixLength: Int, gateway: IPAddress? = nil) {
            self.address = address
            self.prefixLength = prefixLength
            self.gateway = gateway
        }
    }

    package struct Route: Hashable, Sendable {
        package var destination: IPPrefix
        package var gateway: IPAddress?

        package init(destination: IPPrefix, gateway: IPAddress? = nil) {
            self.destination = destination
            self.gateway = gateway
        }
    }

    package struct DNS: Hashable, Sendable {
        package var nameservers: [IPAddress]
        package var domain: String
        package var search: [String]
        package var options: [String]

        package init(
            nameservers: [IPAddress] = [], domain: String = "", search: [String] = [], options: [String] = []
        ) {
            self.nameservers = nameservers
            self.domain = domain
            self.search = search
            self.options = options
        }
    }

    package var addresses: [Address]
    package var routes: [Route]
    package var dns: DNS?

    package init(addresses: [Address], routes: [Route] = [], dns: DNS? = nil) {
        self.addresses = addresses
        self.routes = routes
        self.dns = dns
    }

    package func json(version: CNIVersion) -> JSON {
        let ips = addresses.map { address in
            var ip = JSONObject()
            if version < .v1_0_0 { ip["version"] = address.address.family == .ipv4 ? "4" : "6" }
            ip["address"] = .string("\(address.address)/\(address.prefixLength)")
            if let gateway = address.gateway { ip["gateway"] = .string(gateway.description) }
            return JSON.object(ip)
        }
        let routes = routes.map { route in
            var json: JSONObject = ["dst": .string(route.destination.description)]
            if let gateway = route.gateway {
                json["gw"] = .string(gateway.description)
            } else if version >= .v1_1_0 {
                // RT_SCOPE_LINK: by a route of the widest scope, the default, the kernel finds no other's next hop.
                json["scope"] = 253
            }
            return JSON.object(json)
        }
        var dns = JSONObject()
        func strings(_ key: String, _ values: [String]) {
            if !values.isEmpty { dns[key] = .array(values.map { .string($0) }) }
        }
        if let own = self.dns {
            strings("nameservers", own.nameservers.map { $0.description })
            if !own.domain.isEmpty { dns["domain"] = .string(own.domain) }
            strings("search", own.search)
            strings("options", own.options)
        }
        return [
            "cniVersion": .string(version.rawValue), "ips": .array(ips), "routes": .array(routes), "dns": .object(dns),
        ]
    }
}
